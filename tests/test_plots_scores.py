"""Pictures of scores: ROC, precision–recall, reliability, against scikit-learn's numbers."""

from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from jaxlr import metrics, multinomial_counts, plots
from jaxlr.plots import rates
from jaxlr.plots.calibration import reliability
from jaxlr.plots.style import COLORS, GREY
from tests.pictures import SIZES, assert_clear, color_of, new_axes, points

pytestmark = pytest.mark.usefixtures("quick_programs")

ROC = plots.roc_curve, sklearn.roc_auc_score
RECALL = plots.precision_recall_curve, sklearn.average_precision_score


def examples(K=2, m=60, seed=0):
    """Return logits with ties, labels and weights, some of them zero."""
    rng = np.random.default_rng(seed)
    y = np.arange(m) % K
    rng.shuffle(y)
    Z = rng.normal(size=m) + y if K == 2 else rng.normal(size=(K, m)) + 2 * np.eye(K)[:, y]
    return Z.round(1).astype(np.float32), y, rng.integers(0, 4, m).astype(np.float32)


def scores(Z):
    return softmax(Z.astype(np.float64), axis=0)


def coloured(ax):
    return [line for line in ax.lines if color_of(line) in COLORS]


def distinct(line):
    """Return the points without those that repeat the one before: of examples of weight 0."""
    xy = points(line)
    return xy[np.append(True, (np.diff(xy, axis=0) != 0).any(axis=1))]


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_roc_of_two_classes_is_scikit_learns():
    Z, y, c = examples()
    (line,) = coloured(plots.roc_curve(Z, y, c))
    x, t, _ = sklearn.roc_curve(y, Z, sample_weight=c, drop_intermediate=False)
    np.testing.assert_allclose(distinct(line), np.column_stack([x, t]), atol=1e-12)
    area = sklearn.roc_auc_score(y, Z, sample_weight=c)
    assert texts(plots.roc_curve(Z, y, c)) == [f"AUC {area:.3f}"]


def test_precision_recall_of_two_classes_is_scikit_learns():
    Z, y, c = examples()
    ax = plots.precision_recall_curve(Z, y, c)
    (line,) = coloured(ax)
    precision, recall, _ = sklearn.precision_recall_curve(y, Z, sample_weight=c)
    some = recall > 0
    expected = np.column_stack([recall, precision])[some][::-1]
    start = [[0.0, expected[0, 1]]]
    np.testing.assert_allclose(distinct(line), np.vstack([start, expected]), atol=1e-12)
    assert line.get_drawstyle() == "steps-pre"
    area = sklearn.average_precision_score(y, Z, sample_weight=c)
    assert texts(ax) == [f"AP {area:.3f}"]
    chance = next(line for line in ax.lines if color_of(line) == GREY)
    np.testing.assert_allclose(points(chance)[:, 1], (c * y).sum() / c.sum())


def test_a_soft_label_is_both_in_part():
    Z, _, _ = examples()
    soft = np.random.default_rng(1).uniform(size=len(Z))
    (line,) = coloured(plots.roc_curve(Z, soft))
    both = np.tile(Z, 2), np.repeat([1, 0], len(Z)), np.concatenate([soft, 1 - soft])
    x, t, _ = sklearn.roc_curve(both[1], both[0], sample_weight=both[2], drop_intermediate=False)
    np.testing.assert_allclose(points(line), np.column_stack([x, t]), atol=1e-6)


@pytest.mark.parametrize(("draw", "area"), [ROC, RECALL])
def test_few_classes_are_each_drawn_against_the_rest(draw, area):
    Z, y, c = examples(3)
    ax = draw(Z, y, c, class_names=["a", "b", "_c$"])
    each = [area(y == k, scores(Z)[k], sample_weight=c) for k in range(3)]
    names = ["a", "b", r"_c\$"]
    assert texts(ax) == [f"{a:.3f} {name}" for name, a in zip(names, each, strict=True)]
    assert len({color_of(line) for line in coloured(ax)}) == 3
    assert ax.get_legend().get_title().get_text() == ("AUC" if draw is ROC[0] else "AP")


@pytest.mark.parametrize(("draw", "area"), [ROC, RECALL])
def test_many_classes_are_a_mean_and_faint_lines(draw, area):
    Z, y, c = examples(30, m=300)
    c[y == 7] = 0  # a class without examples
    ax = draw(Z, y, c)
    kept = [k for k in range(30) if k != 7]
    each = {k: area(y == k, scores(Z)[k], sample_weight=c) for k in kept}
    lowest = min(kept, key=lambda k: each[k])
    name = "AUC" if draw is ROC[0] else "AP"
    assert texts(ax) == [
        f"mean of 29 classes: {name} {np.mean(list(each.values())):.3f}",
        f"lowest, class {lowest}: {name} {each[lowest]:.3f}",
    ]
    faint = [line for line in ax.lines if color_of(line) == GREY and len(points(line)) > 2]
    assert len(faint) == 29
    mean, _ = (points(line) for line in coloured(ax))
    if draw is ROC[0]:
        assert mean[0].tolist() == [0, 0]
        curves = [sklearn.roc_curve(y == k, scores(Z)[k], sample_weight=c)[:2] for k in kept]
        expected = np.mean([np.interp([0.1, 0.25, 0.8], *curve) for curve in curves], axis=0)
        np.testing.assert_allclose(np.interp([0.1, 0.25, 0.8], *mean.T), expected, atol=1e-9)
    assert mean[-1, 0] == 1


@pytest.mark.parametrize(("draw", "area"), [ROC, RECALL])
def test_bands_are_quantiles_of_resampled_curves(draw, area):
    Z, y, c = examples()
    key, R = jax.random.key(3), 8
    ax = draw(Z, y, c, key=key, num_resamples=R)
    (band,) = ax.collections
    vertices = np.asarray(band.get_paths()[0].vertices)
    curves, areas = [], []
    for one in jax.random.split(key, R):
        count = np.asarray(multinomial_counts(one, len(y))) * c
        areas.append(area(y, Z, sample_weight=count))
        if draw is ROC[0]:
            x, t, _ = sklearn.roc_curve(y, Z, sample_weight=count, drop_intermediate=False)
            curves.append(np.interp(rates.GRID, x, t))
        else:
            precision, recall, _ = sklearn.precision_recall_curve(y, Z, sample_weight=count)
            reached = [precision[recall >= g - 1e-9][-1] for g in rates.GRID[1:]]
            curves.append([reached[0], *reached])
    for i in (20, 100, 150):
        at = rates.GRID[i]
        # Of a band of steps, those that end here and those that begin here are both vertices.
        places = np.isclose(vertices[:, 0], at) & (vertices[:, 0] > 0)
        low, high = np.quantile(np.array(curves)[:, i], [0.025, 0.975])
        sides = vertices[places, 1]
        assert np.isclose(sides, low, atol=1e-6).any()
        assert np.isclose(sides, high, atol=1e-6).any()
    low, high = np.quantile(areas, [0.025, 0.975])
    assert texts(ax)[0].endswith(f"(95%: {low:.3f} to {high:.3f})")
    other = draw(Z, y, c, key=jax.random.key(4), num_resamples=R).collections[0]
    assert not np.array_equal(other.get_paths()[0].vertices, vertices)


def test_a_resample_without_a_class_has_no_part_in_the_band():
    Z, y = np.arange(8.0), np.array([0] * 7 + [1])
    ax = plots.roc_curve(Z, y, key=jax.random.key(0), num_resamples=20)
    assert np.isfinite(ax.collections[0].get_paths()[0].vertices).all()
    assert "nan" not in texts(ax)[0]


def test_a_line_of_many_examples_has_few_points():
    Z, y, _ = examples(m=20_000)
    Z = Z + np.linspace(0, 1e-3, len(Z), dtype=np.float32)
    (line,) = coloured(plots.roc_curve(Z, y))
    assert len(points(line)) == 2000
    x, t = points(line).T
    np.testing.assert_allclose(np.trapezoid(t, x), sklearn.roc_auc_score(y, Z), atol=1e-3)
    assert points(line)[[0, -1]].tolist() == [[0, 0], [1, 1]]


# --- Reliability --------------------------------------------------------------------------------


def test_reliability_is_scikit_learns_and_the_calibration_error_is_jaxlrs():
    Z, y, c = examples(m=300)
    p = 1 / (1 + np.exp(-Z.astype(np.float64)))
    bins = reliability(Z, y, num_bins=10)
    frequency, probability = calibration_curve(y, p, n_bins=10)
    np.testing.assert_allclose(bins.frequency, frequency, rtol=1e-6)
    np.testing.assert_allclose(bins.probability, probability, rtol=1e-6)
    for weights in (None, c):
        ax = plots.reliability_diagram(Z, y, weights, num_bins=10)
        error = metrics.calibration_error(Z, y, weights, num_bins=10)
        assert texts(ax) == [f"calibration error {error:.3f}", "share of examples"]
    assert ax.get_xlabel() == "probability of class 1"


def test_reliability_of_many_classes_is_of_the_predicted_one():
    Z, y, c = examples(5, m=200)
    ax = plots.reliability_diagram(Z, y, c)
    assert texts(ax)[0] == f"calibration error {metrics.calibration_error(Z, y, c):.3f}"
    right = scores(Z).argmax(axis=0) == y
    frequency, probability = calibration_curve(right, scores(Z).max(axis=0), n_bins=15)
    bins = reliability(Z, y)
    np.testing.assert_allclose(bins.frequency, frequency, rtol=1e-6)
    np.testing.assert_allclose(bins.probability, probability, rtol=1e-6)
    np.testing.assert_allclose(bins.share.sum(), 1)


def test_intervals_are_wilsons_and_weight_2_in_a_pair_is_one_example():
    Z, y, _ = examples(m=50)
    bins, half = reliability(Z, y, num_bins=4), reliability(Z, y, np.full(50, 0.5), num_bins=4)
    np.testing.assert_allclose(half.low, bins.low)
    of = np.clip(np.ceil(4 / (1 + np.exp(-Z))) - 1, 0, 3)
    for b, low, high in zip(bins.number, bins.low, bins.high, strict=True):
        test = binomtest(int(y[of == b].sum()), int((of == b).sum()))
        expected = test.proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-6)


# --- What all share -----------------------------------------------------------------------------


def test_arguments_that_do_not_fit():
    Z, y, _ = examples()
    hole = Z.copy()
    hole[5] = np.nan
    for draw in (plots.roc_curve, plots.precision_recall_curve, plots.reliability_diagram):
        with pytest.raises(ValueError, match="Z is NaN at example 5"):
            draw(hole, y)
        with pytest.raises(ValueError, match=r"y has shape \(59,\) where \(60,\) is due"):
            draw(Z, y[1:])
    with pytest.raises(ValueError, match="All examples are of one class"):
        plots.roc_curve(Z, np.ones(60))
    with pytest.raises(ValueError, match="class_names has 3 names, and there are 2 classes"):
        plots.roc_curve(Z, y, class_names="abc")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("K", [2, 3, 6, 30])
def test_no_text_overlaps_another_or_is_cut(size, K):
    Z, y, _ = examples(K)
    names = [f"a class of $ with a long name {k}" for k in range(K)]
    for draw in (plots.roc_curve, plots.precision_recall_curve, plots.reliability_diagram):
        banded = draw is not plots.reliability_diagram
        more: dict[str, Any] = {"key": jax.random.key(0), "num_resamples": 2} if banded else {}
        ax = new_axes(*size)
        assert draw(Z, y, ax=ax, class_names=names, **more) is ax
        assert_clear(ax)
