"""Offsets and starts at which all examples are saturated: a fit finds its way from there."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxlr
from jaxlr.model.solution import Status
from jaxlr.sklearn import LogisticRegression
from jaxlr.solver.null import start_model
from tests.helpers import plain_derivatives, plain_loss

pytestmark = pytest.mark.usefixtures("quick_programs")
M = 60
PENALTY = jaxlr.Penalty(1e-2)


def examples(n_classes=2, seed=0):
    """Return rows, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    X, classes = rng.normal(size=(M, 3)), max(n_classes, 2)
    Z = X @ rng.normal(size=(3, classes)) + rng.gumbel(size=(M, classes))
    return X, Z.argmax(axis=1)


def offsets(kind, n_classes=2):
    """Return an offset for each example, `(m,)` or `(m, K)`."""
    rng = np.random.default_rng(1)
    name, size = kind.split()
    classes = () if n_classes == 2 else (n_classes,)
    constant = np.broadcast_to(rng.uniform(0.5, 1, classes) if classes else 1.0, (M, *classes))
    drawn = {"constant": constant, "signs": rng.choice([-1, 1], (M, *classes)),
             "normal": rng.normal(size=(M, *classes))}  # fmt: skip
    return float(size) * drawn[name]


def excess(solution, batch, penalty):
    """Return `½·gᵀH⁻¹g` of the plain loss in float64, relative to the loss if that is large."""
    zero = jax.tree.map(jnp.zeros_like, solution.params)
    (value, g), _, H = plain_derivatives(solution.params, zero, batch, penalty)
    g = ravel_pytree(g)[0]
    H = jnp.stack([ravel_pytree(row)[0] for row in _rows(H, solution.params)])
    return 0.5 * float(g @ np.linalg.lstsq(H, g, rcond=1e-12)[0]) / max(1.0, float(value))


def _rows(H, params):
    """Yield the rows of a Hessian in blocks."""
    for block, a in zip(H, params, strict=True):
        flat = jax.tree.map(lambda b, a=a: np.reshape(b, (a.size, *b.shape[a.ndim :])), block)
        for i in range(a.size):
            yield jax.tree.map(lambda b, i=i: jnp.asarray(b[i]), flat)


KINDS = ["constant 6", "constant 12", "constant -1000", "signs 10", "signs 1000", "normal 100"]


@pytest.mark.quick("float32-True-4", "float64-False-2")
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_fit_finds_its_way_whatever_the_offset(dtype, n_classes, intercept):
    X, y = examples(n_classes)
    for kind in KINDS:
        offset = offsets(kind, n_classes)
        batch = jaxlr.Batch.from_rows(X, y, offset=offset, intercept=intercept, dtype=dtype)
        solution = jaxlr.fit(batch, PENALTY)
        assert Status(int(solution.status)).ok, kind
        limit = {"float32": 1e-6, "float64": 1e-13}[dtype]
        if intercept:  # else the plain loss has one still
            assert excess(solution, batch, PENALTY) < limit, kind
        assert solution.num_passes < 100, kind


@pytest.mark.quick("float64-2")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_constant_offset_shifts_the_intercept_alone(dtype, n_classes):
    X, y = examples(n_classes)
    plain = jaxlr.fit(jaxlr.Batch.from_rows(X, y, dtype=dtype), PENALTY)
    for size in (6.0, 12.0, -50.0, 1000.0):
        shift = size * np.arange(1, 2 if n_classes == 2 else 4)
        offset = np.tile(shift, (M, 1)).squeeze()
        batch = jaxlr.Batch.from_rows(X, y, offset=offset, dtype=dtype)
        shifted = jaxlr.fit(batch, PENALTY)
        rounding = 1e-3 if dtype == "float32" else 1e-8
        np.testing.assert_allclose(shifted.params.w, plain.params.w, atol=rounding)
        np.testing.assert_allclose(shifted.loss, plain.loss, rtol=rounding / 10)
        moved = np.atleast_1d(shifted.params.b - plain.params.b) + shift
        np.testing.assert_allclose(moved - moved.mean() * (n_classes > 2), 0, atol=rounding)
        assert shifted.num_passes <= plain.num_passes + 10


@pytest.mark.parametrize("penalty", [0.0, 1e-5])
def test_offsets_with_next_to_no_penalty(x64, penalty):
    X, y = examples()
    for kind in KINDS:
        batch = jaxlr.Batch.from_rows(X, y, offset=offsets(kind))
        solution = jaxlr.fit(batch, jaxlr.Penalty(penalty))
        assert Status(int(solution.status)).ok, kind
        assert excess(solution, batch, jaxlr.Penalty(penalty)) < 1e-13, kind


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_lanes_find_their_way_whatever_the_offset(n_classes):
    X, y = examples(n_classes)
    batch = jaxlr.Batch.from_rows(X, y, offset=offsets("signs 50", n_classes))
    penalties, key = jaxlr.Penalty(jnp.array([1e-3, 1e-2, 1e-1])), jax.random.key(0)
    alone = [jaxlr.fit(batch, jaxlr.Penalty(l2)).loss for l2 in penalties.l2]
    sweep = jaxlr.sweep(batch, penalties).raise_if_failed()
    np.testing.assert_allclose(sweep.loss, alone, rtol=1e-5)
    folds = jaxlr.cross_validate(batch, penalties, folds=3, key=key).solutions.raise_if_failed()
    drawn = jaxlr.bootstrap(batch, PENALTY, 4, key).raise_if_failed()
    mixed = jaxlr.permute(batch, PENALTY, 4, key).raise_if_failed()
    for lanes in (folds, drawn, mixed):
        assert (np.asarray(lanes.num_passes) < 60).all()


def test_the_start_knows_the_offset(dtype):
    # Two groups, far from each other: the intercept that fits the labels is known in closed form.
    offset = np.repeat([-1000.0, 1000.0], 50)
    y = np.tile([1, 0, 0, 0, 0], 20)  # 20 % of ones: a share of 0.4 at 1000 + b, and none below
    batch = jaxlr.Batch.from_rows(np.ones((100, 1)), y, offset=offset, dtype=dtype)
    # Half the square of the error, times the curvature 0.12, is within 1e-4 of the loss: 0.04.
    np.testing.assert_allclose(start_model(batch).b, np.log(0.4 / 0.6) - 1000, atol=2e-2)
    nothing = jaxlr.Batch.from_rows(np.ones((100, 1)), y, offset=0 * offset, dtype=dtype)
    np.testing.assert_allclose(start_model(nothing).b, np.log(0.2 / 0.8), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("intercept", [True, False])
def test_where_no_example_has_a_curvature_a_fit_goes_on(dtype, intercept):
    # Half of the examples at −gap/2 and half at gap/2, whatever the intercept: exp(−100) and less.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 2)), np.arange(64) % 2
    for gap in (200.0, 1000.0):
        offset = np.where(np.arange(64) < 32, gap, 0 if intercept else -gap)
        batch = jaxlr.Batch.from_rows(X, y, offset=offset, intercept=intercept, dtype=dtype)
        solution = jaxlr.fit(batch, jaxlr.Penalty(0.0))
        assert Status(int(solution.status)).ok, gap
        value, slope = jax.value_and_grad(plain_loss)(solution.params, batch)
        assert np.abs(slope.w).max() < {"float32": 1e-4, "float64": 1e-10}[dtype], gap
        null = jaxlr.Params(jnp.zeros(2, dtype), start_model(batch).b)
        assert value < plain_loss(null, batch) - 1, gap  # where the search began and once ended
        lanes = jaxlr.sweep(batch, jaxlr.Penalty(jnp.zeros(2, dtype))).raise_if_failed()
        np.testing.assert_allclose(lanes.loss, solution.loss, rtol=1e-5)


def test_the_start_of_a_softmax_has_no_common_shift(x64):
    X, y = examples(4)
    batch = jaxlr.Batch.from_rows(X, y, offset=offsets("normal 100", 4))
    np.testing.assert_allclose(start_model(batch).b.mean(), 0, atol=1e-10)


def test_an_offset_that_is_not_finite_ends_a_lane_with_a_status():
    X, y = examples()
    batch = jaxlr.Batch(jnp.asarray(X.T), jnp.asarray(y), offset=jnp.full(M, jnp.inf))
    assert int(jaxlr.fit(batch, PENALTY).status) == Status.NOT_FINITE
    one = jnp.zeros((2, M)).at[0, 3].set(jnp.nan)
    lanes = jax.vmap(lambda o: jaxlr.fit(jaxlr.Batch(batch.X, batch.y, offset=o), PENALTY))(one)
    assert lanes.status.tolist() == [Status.NOT_FINITE, Status.CONVERGED]


@pytest.mark.quick("float64-2")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_fit_finds_its_way_from_any_finite_start(dtype, n_classes):
    X, y = examples(n_classes)
    batch = jaxlr.Batch.from_rows(X, y, dtype=dtype)
    due = jaxlr.fit(batch, PENALTY)
    rng, classes = np.random.default_rng(2), () if n_classes == 2 else (n_classes,)
    for size in (50, 1e3, 1e6, 1e10, 1e30):
        b = jnp.asarray(size * rng.choice([-1.0, 1.0], classes), dtype)
        w = jnp.asarray(size * rng.normal(size=(3, *classes)), dtype)
        for init in (jaxlr.Params(0 * w, b), jaxlr.Params(w, 0 * b), jaxlr.Params(w, b)):
            found = jaxlr.fit(batch, PENALTY, init=init)
            assert Status(int(found.status)).ok, size
            np.testing.assert_allclose(found.loss, due.loss, rtol=1e-6)
    lanes = jaxlr.sweep(batch, jaxlr.Penalty(jnp.array([1e-2, 1e-1])), init=init).raise_if_failed()
    np.testing.assert_allclose(lanes.loss[0], due.loss, rtol=1e-6)


def test_a_start_that_is_not_finite_is_told():
    X, y = examples()
    batch, zero = jaxlr.Batch.from_rows(X, y), jnp.zeros(3)
    for b in (jnp.nan, jnp.inf):
        found = jaxlr.fit(batch, PENALTY, init=jaxlr.Params(zero, jnp.array(b)))
        assert int(found.status) == Status.NOT_FINITE


def test_warm_starts_of_the_estimators_from_far_away():
    X, y = examples()
    due = LogisticRegression().fit(X, y)
    model = LogisticRegression(warm_start=True).fit(X, y)
    model.coef_, model.intercept_ = np.full((1, 3), 1e6), np.array([-50.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
    np.testing.assert_allclose(model.coef_, due.coef_, rtol=1e-6)


def test_rounding_of_large_features_ends_a_search(x64):
    # Logits of features near 1.7e9 are rounded at 1e-7: no search comes nearer than that.
    y = (np.sin(np.arange(60.0)) + np.arange(60) / 30 > 1).astype(int)
    X = np.arange(60.0)[:, None]
    centred = jaxlr.fit(jaxlr.Batch.from_rows(X - X.mean(), y), PENALTY)
    raw = jaxlr.fit(jaxlr.Batch.from_rows(1.7e9 + X, y), PENALTY)
    assert Status(int(raw.status)).ok  # which of the two is rounding, and differs with JAX
    assert raw.num_passes < 60
    np.testing.assert_allclose(raw.loss, centred.loss, rtol=1e-7)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("mean", [100.0, 1000.0])
def test_classes_of_features_far_from_zero_have_the_optimum_of_the_centred_ones(mean, lanes):
    """Rounding leaves of the sum over classes what P, where only the penalty curves, enlarges."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(50, 1))
        y = (x * [-1.0, 0.0, 1.0] + rng.gumbel(size=(50, 3))).argmax(1)
        raw = (x + mean).astype(np.float32)
        with jax.enable_x64(True):
            centred = jaxlr.Batch.from_rows(raw.astype(float) - mean, y)
            optimum = jaxlr.fit(centred, jaxlr.Penalty(1e-6)).raise_if_failed().loss
        with jax.enable_x64(False):
            batch = jaxlr.Batch.from_rows(raw, y)
            l2 = jnp.full(lanes, 1e-6)
            solution = (
                jaxlr.sweep(batch, jaxlr.Penalty(l2))
                if lanes > 1
                else jaxlr.fit(batch, jaxlr.Penalty(l2[0]))
            )
        assert (solution.estimate >= 0).all()
        np.testing.assert_allclose(solution.loss, optimum, rtol=0, atol=3e-5)
