"""Metrics: equal to scikit-learn's, right by hand where it has none, and honest about NaN."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlr.model.metrics import accuracy, brier_score, calibration_error, log_loss, roc_auc
from tests.helpers import assert_close, quick

ALL = {
    "log_loss": log_loss,
    "accuracy": accuracy,
    "roc_auc": roc_auc,
    "brier_score": brier_score,
    "calibration_error": calibration_error,
}


def all_measures(Z, y, weights=None):
    return {name: f(Z, y, weights) for name, f in ALL.items()}


# One program for all of them, and few shapes: compiling is what costs here.
measure = quick(all_measures)
bins = {n: quick(functools.partial(calibration_error, num_bins=n)) for n in (1, 2, 3, 4)}

classes = pytest.mark.parametrize("n_classes", [2, 4])


def draw(n_classes, dtype, m=60, seed=0):
    """Return logits, labels and weights as NumPy arrays; logits of one decimal, so with ties."""
    rng = np.random.default_rng(seed)
    shape = (m,) if n_classes == 2 else (n_classes, m)
    Z = np.round(2 * rng.normal(size=shape), 1).astype(dtype)
    return Z, rng.integers(0, n_classes, m), rng.uniform(0.1, 3.0, m).astype(dtype)


def probabilities(Z):
    """Return sigmoid or softmax in float64, as scikit-learn has it: examples are rows."""
    Z = Z.astype(np.float64)
    if Z.ndim == 1:
        return 1 / (1 + np.exp(-Z))
    e = np.exp(Z)
    return (e / e.sum(axis=0)).T


def expected_measures(Z, y, weights=None):
    """Return all metrics of hard labels, from scikit-learn and from the definition."""
    p = probabilities(Z)
    options: dict[str, Any] = {"sample_weight": weights}
    if p.ndim == 1:
        predicted, ovr = (p > 0.5).astype(int), {}
        brier = sklearn.metrics.brier_score_loss(y, p, **options)
    else:
        predicted, ovr = p.argmax(axis=1), {"multi_class": "ovr", "average": "macro"}
        # Scikit-learn has it for two classes only before version 1.7.
        brier = np.average(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1), weights=weights)
    return {
        "log_loss": sklearn.metrics.log_loss(y, p, **options),
        "accuracy": sklearn.metrics.accuracy_score(y, predicted, **options),
        "roc_auc": sklearn.metrics.roc_auc_score(y, p, **options, **ovr),
        "brier_score": brier,
        "calibration_error": calibration_by_loops(Z, y, weights, 15),
    }


def assert_all_close(actual, expected, dtype, factor=1.0):
    for name, value in actual.items():  # one by one: a failure says which
        assert_close({name: value}, {name: expected[name]}, dtype, factor)


def calibration_by_loops(Z, y, weights, num_bins):
    """Return the expected calibration error by its definition, bin by bin."""
    p = probabilities(Z)
    if p.ndim == 2:
        p, y = p.max(axis=1), p.argmax(axis=1) == y
    weights = np.ones(len(p)) if weights is None else weights.astype(np.float64)
    error = 0.0
    for b in range(num_bins):
        inside = (p > b / num_bins) & (p <= (b + 1) / num_bins)
        if inside.any():
            confidence = np.average(p[inside], weights=weights[inside])
            frequency = np.average(y[inside], weights=weights[inside])
            error += weights[inside].sum() / weights.sum() * abs(confidence - frequency)
    return error


# --- Right --------------------------------------------------------------------------------------


@classes
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_to_scikit_learn_and_the_definition(n_classes, weighted, dtype):
    Z, y, weights = draw(n_classes, dtype)
    weights = weights if weighted else None
    actual = measure(Z, y, weights)
    assert all(a.dtype == dtype and a.shape == () for a in actual.values())
    assert_all_close(actual, expected_measures(Z, y, weights), dtype)


def test_brier_score_of_scikit_learn_for_more_classes():
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        pytest.skip("brier_score_loss is binary only before scikit-learn 1.7")
    Z, y, weights = draw(4, "float32")
    expected = sklearn.metrics.brier_score_loss(y, probabilities(Z), sample_weight=weights)
    assert_close(measure(Z, y, weights)["brier_score"], expected, "float32")


def test_by_hand(dtype):
    # Probabilities 1/5, 4/5, 1/2, 4/5; labels 0, 0, 1, 1.
    Z, y = np.log(np.array([0.25, 4.0, 1.0, 4.0])).astype(dtype), np.array([0, 0, 1, 1])
    expected = {
        "log_loss": -math.log(0.8 * 0.2 * 0.5 * 0.8) / 4,
        "accuracy": 0.5,  # a logit of 0 is predicted as class 0
        "roc_auc": (1 + 0 + 1 + 0.5) / 4,
        "brier_score": (0.04 + 0.64 + 0.25 + 0.04) / 4,
        "calibration_error": (0.2 + 0.5 + abs(1.6 - 1.0)) / 4,
    }
    assert_all_close(measure(Z, y), expected, dtype)
    # Two bins: (0, ½] holds 1/5 and 1/2, (½, 1] holds 4/5 and 4/5.
    assert_close(bins[2](Z, y), (abs(0.7 - 1.0) + abs(1.6 - 1.0)) / 4, dtype)
    assert_close(bins[1](Z, y), abs(2.3 - 2.0) / 4, dtype)


def test_calibration_bins_are_closed_on_the_right_and_hold_both_ends():
    Z = np.array([-np.inf, 0.0, 0.0, np.inf], np.float32)  # probabilities 0, ½, ½, 1
    y = np.array([1, 0, 0, 1])
    # In halves: {0, ½, ½} and {1}. Were ½ in the upper half, the error would be (1 + 1) / 4.
    assert bins[2](Z, y) == abs(1.0 - 1.0) / 4
    assert bins[4](Z, y) == (1 + 1 + 0) / 4


def test_calibration_of_two_classes_does_not_fold_at_one_half():
    # Labels are 0 where p is 1/5, and half of them 1 where it is 4/5: off to opposite sides.
    Z = np.log(np.array([0.25, 0.25, 4.0, 4.0])).astype(np.float32)
    assert_close(bins[3](Z, np.array([0, 0, 0, 1])), (2 * 0.2 + 2 * 0.3) / 4, "float32")


auc = quick(roc_auc)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(-2, 2), st.integers(0, 1), st.integers(0, 3)),
        min_size=12,
        max_size=12,
    )
)
def test_auc_is_exact_with_ties_and_weights(examples):
    Z, y, weights = np.array(examples).T
    actual = float(auc(Z.astype(np.float32), y, weights))
    pairs = [
        (p * q, (z > x) + (z == x) / 2)
        for z, a, p in examples
        for x, b, q in examples
        if a == 1 and b == 0
    ]
    total = sum(mass for mass, _ in pairs)
    if total == 0:
        assert math.isnan(actual)
    else:
        assert actual == pytest.approx(sum(mass * won for mass, won in pairs) / total, rel=1e-6)
        expected = sklearn.metrics.roc_auc_score(y, Z, sample_weight=weights)
        assert actual == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_auc_ties_zeros_of_both_signs_and_infinities():
    Z, y = np.array([0.0, -0.0, np.inf, np.inf], np.float32), np.array([1, 0, 1, 0])
    assert float(measure(Z, y)["roc_auc"]) == (0.5 + 0 + 1 + 0.5) / 4


def test_auc_of_a_perfect_ranking_is_one():
    Z = np.linspace(-1, 1, 10_001, dtype=np.float32)
    assert float(auc(Z, Z > 0.3)) == 1.0
    assert float(auc(-Z, Z > 0.3)) == 0.0


def test_auc_of_more_classes_ranks_probabilities_that_round_to_one():
    # In float32 the probability of class 0 is 1 for both logits, 20 and 25.
    Z = jnp.array([[25.0, 25.0, 20.0, 20.0], [0, 0, 0, 1.0], [0, 0, 1.0, 0]])
    y = jnp.array([0, 0, 1, 2])
    # Classes 1 and 2: their one example is above the two of class 0, and below the last.
    assert float(auc(Z, y)) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3, rel=1e-6)


def test_extreme_logits(dtype):
    inf = np.inf
    Z, y = np.array([1e3, -1e3, 1e3, inf, inf], dtype)[:, None], np.array([0, 1, 1, 1, 0])[:, None]
    each = quick(jax.vmap(all_measures))
    actual = each(Z, y)
    assert actual["log_loss"].tolist() == [1e3, 1e3, 0, 0, inf]
    assert actual["brier_score"].tolist() == [1, 1, 0, 0, 1]
    actual = each(np.stack([0 * Z.clip(-1, 1), Z, -1e4 + 0 * Z.clip(-1, 1)], axis=1), y)
    assert actual["log_loss"].tolist() == [1e3, 1e3, 0, 0, inf]
    assert actual["brier_score"].tolist() == [2, 2, 0, 0, 2]


def test_small_losses_keep_their_digits():
    Z, y = np.full(4, 20, np.float32), np.ones(4, int)
    actual = measure(Z, y)
    assert float(actual["log_loss"]) == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)
    assert float(actual["brier_score"]) == pytest.approx((1 / (1 + math.exp(20))) ** 2, rel=1e-5)


def test_soft_labels_are_hard_labels_with_weights(dtype):
    Z, _, weights = draw(2, dtype)
    y = np.random.default_rng(1).uniform(size=len(Z)).astype(dtype)
    hard = np.repeat([1, 0], len(Z))
    split = np.concatenate([weights * y, weights * (1 - y)])
    expected = expected_measures(np.concatenate([Z, Z]), hard, split)
    # All are linear in the label but this one.
    expected["brier_score"] = np.average((probabilities(Z) - y) ** 2, weights=weights)
    assert_all_close(measure(Z, y, weights), expected, dtype)


def test_soft_labels_of_more_classes(dtype):
    Z, _, weights = draw(4, dtype)
    y = np.random.default_rng(1).dirichlet(np.ones(4), Z.shape[1]).T.astype(dtype)
    p = probabilities(Z).T
    means = {
        "log_loss": -(y * np.log(p)).sum(axis=0),
        "accuracy": y[p.argmax(axis=0), np.arange(p.shape[1])],
        "brier_score": ((p - y) ** 2).sum(axis=0),
    }
    auc = [
        sklearn.metrics.roc_auc_score(
            np.repeat([1, 0], 60),
            np.concatenate([p[k], p[k]]),
            sample_weight=np.concatenate([weights * y[k], weights * (1 - y[k])]),
        )
        for k in range(4)
    ]
    expected = {name: np.average(each, weights=weights) for name, each in means.items()}
    actual = measure(Z, y, weights)
    actual.pop("calibration_error")
    assert_all_close(actual, {**expected, "roc_auc": np.mean(auc)}, dtype)


def test_probabilities_and_indices_of_classes_agree(dtype):
    Z, y, weights = draw(4, dtype)
    one_hot = np.eye(4, dtype=dtype)[y].T
    assert_all_close(measure(Z, one_hot, weights), measure(Z, y, weights), dtype)


# --- Weights ------------------------------------------------------------------------------------


@classes
def test_weight_two_is_a_repeated_example_and_zero_a_removed_one(n_classes, dtype):
    Z, y, _ = draw(n_classes, dtype)
    counts = np.random.default_rng(2).multinomial(60, np.full(60, 1 / 60))
    assert {0, 1, 2} <= set(counts)
    expected = measure(np.repeat(Z, counts, axis=-1), np.repeat(y, counts))
    assert_all_close(measure(Z, y, counts.astype(dtype)), expected, dtype)


@classes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weight_zero_removes_an_example_whatever_its_logits_are(n_classes, bad):
    Z, y, weights = draw(n_classes, "float32")
    expected = expected_measures(Z[..., 1:], y[1:], weights[1:])
    Z[..., 0], weights[0] = bad, 0
    assert_all_close(measure(Z, y, weights), expected, "float32")


@classes
def test_order_and_scale_of_the_weights_do_not_matter(n_classes, dtype):
    Z, y, weights = draw(n_classes, dtype)
    order = np.random.default_rng(3).permutation(len(y))
    actual = measure(Z[..., order], y[order], 7 * weights[order])
    assert_all_close(actual, measure(Z, y, weights), dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Counts:
    counts: jax.Array

    def select(self, take):
        return take(self.counts).astype(jnp.float32)


def test_lazy_weights():
    Z, y, _ = draw(2, "float32")
    counts = np.random.default_rng(2).integers(0, 4, len(y)).astype(np.uint8)
    assert_all_close(
        measure(Z, y, Counts(jnp.asarray(counts))), expected_measures(Z, y, counts), "float32"
    )


# --- NaN, and what has no answer ----------------------------------------------------------------


@classes
@pytest.mark.parametrize("weighted", [False, True])
def test_a_logit_that_is_nan_makes_every_metric_nan(n_classes, weighted):
    Z, y, weights = draw(n_classes, "float32")
    for k in [...] if n_classes == 2 else [..., *range(n_classes)]:
        with_nan = Z.copy()
        with_nan[..., 5][k] = np.nan
        actual = measure(with_nan, y, weights if weighted else None)
        assert {name for name, value in actual.items() if np.isnan(value)} == set(actual)


@classes
def test_no_weight_at_all_makes_every_metric_nan(n_classes):
    Z, y, weights = draw(n_classes, "float32")
    actual = measure(Z, y, 0 * weights)
    assert {name for name, value in actual.items() if np.isnan(value)} == set(actual)


@classes
def test_auc_of_a_single_class_is_nan(n_classes):
    Z, y, weights = draw(n_classes, "float32")
    assert np.isnan(measure(Z, 0 * y, weights)["roc_auc"])
    assert np.isnan(measure(Z, 0 * y + 1, weights)["roc_auc"])
    assert np.isnan(measure(Z, y, weights * (y == 0))["roc_auc"])


@pytest.mark.parametrize(
    ("Z", "y", "weights", "message"),
    [
        ((5,), (4,), None, r"y has shape \(4,\) where \(5,\) is due"),
        ((5,), (5, 1), None, r"y has shape \(5, 1\) where \(5,\) is due"),
        ((3, 5), (5, 3), None, r"y has shape \(5, 3\) where \(5,\) or \(3, 5\) is due"),
        ((2, 5), (5,), None, r"Z has shape \(2, 5\) where \(m,\), or \(K, m\) for K > 2"),
        ((1, 5), (5,), None, r"Z has shape \(1, 5\)"),
        ((), (), None, r"Z has shape \(\)"),
        ((0,), (0,), None, r"Z has shape \(0,\)"),
        ((5,), (5,), (5, 1), r"weights has shape \(5, 1\) where \(5,\) is due"),
    ],
)
@pytest.mark.parametrize("metric", ALL.values(), ids=ALL)
def test_shapes_that_do_not_fit(metric, Z, y, weights, message):
    weights = None if weights is None else np.ones(weights)
    with pytest.raises(ValueError, match=message):
        metric(np.zeros(Z), np.zeros(y), weights)


# --- Transforms and dtypes ----------------------------------------------------------------------


def test_jit_is_eager():
    Z, y, weights = draw(4, "float32")
    assert_all_close(measure(Z, y, weights), all_measures(Z, y, weights), "float32")


@classes
def test_vmap_is_a_loop_and_a_bad_lane_stays_alone(n_classes, dtype):
    Z, y, weights = draw(n_classes, dtype)
    lanes_Z = np.stack([Z, np.full_like(Z, np.nan), -2 * Z, 0 * Z])
    lanes_c = np.stack([weights, weights, weights[::-1], 1 + 0 * weights])
    lanes = quick(jax.vmap(all_measures, in_axes=(0, None, 0)))(lanes_Z, y, lanes_c)
    for i in range(4):
        lane = {name: values[i] for name, values in lanes.items()}
        assert_all_close(lane, measure(lanes_Z[i], y, lanes_c[i]), dtype)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(half):
    Z, y, weights = draw(4, "float32")
    Z, weights = jnp.asarray(Z, half), jnp.asarray(weights, half)
    actual = measure(Z, y, weights)
    assert {a.dtype for a in actual.values()} == {np.dtype("float32")}
    widened = np.asarray(Z, np.float32), y, np.asarray(weights, np.float32)
    assert_all_close(actual, expected_measures(*widened), "float32")


def test_the_number_of_bins_is_a_choice():
    Z, y, weights = draw(2, "float32")
    assert_close(bins[3](Z, y, weights), calibration_by_loops(Z, y, weights, 3), "float32")


@classes
def test_derivative_of_the_log_loss_by_logits(n_classes, dtype):
    Z, y, weights = draw(n_classes, dtype)
    residual = probabilities(Z).T - (y if n_classes == 2 else np.eye(n_classes)[y].T)
    expected = weights * residual / weights.sum(dtype=np.float64)
    assert_close(quick(jax.grad(log_loss))(Z, y, weights), expected, dtype)


def test_derivative_of_the_log_loss_by_weights_that_are_zero(dtype):
    Z, y, weights = draw(2, dtype)
    weights[:3] = 0
    p = probabilities(Z)
    each = -np.log(np.where(y == 1, p, 1 - p))
    expected = (each - np.average(each, weights=weights)) / weights.sum(dtype=np.float64)
    actual = quick(jax.grad(log_loss, argnums=2))(Z, y, weights)
    assert_close(actual, expected, dtype)


def test_sums_over_many_examples_do_not_drift():
    m = 400_000
    Z, y = jnp.full(m, math.log(0.7 / 0.3), jnp.float32), jnp.arange(m) % 2
    for metric, value in ((calibration_error, 0.2), (brier_score, 0.29), (roc_auc, 0.5)):
        np.testing.assert_allclose(jax.jit(metric)(Z, y), value, rtol=5e-6)
