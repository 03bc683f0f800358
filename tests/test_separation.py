"""Data without a finite optimum, against a linear program that says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.exceptions import ConvergenceWarning

import jaxlr
from jaxlr.model.solution import Status
from jaxlr.sklearn import BootstrapLogisticRegression, LogisticRegression, LogisticRegressionCV
from jaxlr.solver.separation import may_be_unpenalised, separating_features

pytestmark = pytest.mark.usefixtures("quick_programs")
NONE = Status.NO_FINITE_OPTIMUM
TIED = np.array([[1.0], [2.0], [3.0], [3.0], [4.0], [5.0]]), np.array([0, 0, 0, 1, 1, 1])


def separable(X, y, free=None):
    """Whether a direction of free features separates the classes: by a linear program.

    It maximises the sum of all gains, none of which may be negative, in a box.
    """
    m, n = X.shape
    A = np.column_stack([X / np.abs(X).max(axis=0), np.ones(m)])
    A[:, :n] *= 1 if free is None else free
    K = y.max() + 1
    rows = []
    for i, k in np.ndindex(m, K):
        if k != y[i]:
            row = np.zeros((K, n + 1))
            row[y[i]], row[k] = A[i], -A[i]
            rows.append(row.ravel())
    gains = np.array(rows)
    box = [(-1, 1)] * gains.shape[1]
    best = linprog(-gains.sum(axis=0), A_ub=-gains, b_ub=np.zeros(len(gains)), bounds=box)
    return -best.fun > 1e-7


def drawn(seed):
    """Return rows, labels, and which features are free, of many kinds: some of them separable."""
    rng = np.random.default_rng(seed)
    m, n, K, kind = 40, 3, int(rng.choice([2, 3])), seed % 5
    X = rng.normal(size=(m, n)) * 10 ** rng.uniform(-2, 2, n) + rng.choice([0, 30]) * rng.normal(
        size=n
    )
    y, free = rng.integers(0, K, m), np.ones(n)
    if kind == 1:  # a dummy that only one class has
        X[:, 0] = (rng.uniform(size=m) < 0.3) * (y == 0)
        free[rng.integers(0, n)] = rng.integers(0, 2)
    elif kind == 2:  # integers that tie where classes meet
        X[:, 0] = rng.integers(0, 5, m)
        y = np.where(X[:, 0] == 2, y, (X[:, 0] > 2) * 1)
        free[1:] = 0
    elif kind >= 3:  # complete, and complete but for one example
        y = ((X - X.mean(axis=0)) @ rng.normal(size=(n, K))).argmax(axis=1)
        y[0] = (y[0] + kind - 3) % K
    return X, np.unique(y, return_inverse=True)[1], free


@pytest.mark.slow
@pytest.mark.parametrize("x64_too", [False, True])
def test_statuses_are_those_of_the_linear_program(x64_too):
    with jax.enable_x64(x64_too):
        seen = []
        for seed in range(30):
            X, y, free = drawn(seed)
            due = separable(X, y, free)
            penalty = jaxlr.Penalty(1e-2, jnp.asarray(1 - free))
            dtype = "float64" if x64_too else "float32"
            batch = jaxlr.Batch.from_rows(X, y, n_classes=max(2, y.max() + 1), dtype=dtype)
            assert (int(jaxlr.fit(batch, penalty).status) == NONE) == due, seed
            seen.append(due)
        assert 10 <= sum(seen) <= 20  # of both kinds


@pytest.mark.quick("float32")
def test_quasi_separation_of_one_feature(dtype):
    X, y = TIED
    batch = jaxlr.Batch.from_rows(X, y, dtype=dtype)
    solution = jaxlr.fit(batch, jaxlr.Penalty(0.0))
    assert int(solution.status) == NONE
    assert separating_features(solution.params, batch, jaxlr.Penalty(0.0)).tolist() == [True]
    with pytest.raises(jaxlr.FitError, match="no finite optimum"):
        solution.raise_if_failed()
    assert int(jaxlr.fit(batch, jaxlr.Penalty(1e-6)).status) != NONE
    jitted = jax.jit(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2)).status)
    assert [int(jitted(l2)) == NONE for l2 in (0.0, 1e-3)] == [True, False]
    with pytest.warns(RuntimeWarning, match="no finite optimum"):
        slope = jax.grad(lambda c: jaxlr.fit(jaxlr.Batch(batch.X, batch.y, c)).loss)(jnp.ones(6))
    assert np.isnan(slope).all()


def test_data_that_only_come_near_have_an_optimum(dtype):
    X, y = TIED
    gap = {"float32": 1e-3, "float64": 1e-6}[dtype]
    X = X + np.array([[0], [0], [gap], [0], [0], [0]])  # class 0 above class 1, by so much
    solution = jaxlr.fit(jaxlr.Batch.from_rows(X, y, dtype=dtype), jaxlr.Penalty(0.0))
    assert Status(int(solution.status)).ok
    # One example on the other side, far out: the optimum is finite, and all are saturated but few.
    X = np.append(np.linspace(-50, 50, 100), [-3.0])[:, None]
    y = (X[:, 0] > 0).astype(int)
    y[-1] = 1
    assert Status(int(jaxlr.fit(jaxlr.Batch.from_rows(X, y, dtype=dtype)).status)).ok


@pytest.mark.quick("64.0-3")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("mean", [0.0, 64.0, 300.0, 1000.0])
def test_rounding_of_features_far_from_zero_is_no_separation(mean, classes, x64):
    """Two examples overlap by 1/4096, all others are apart: the differences of features count."""
    gap = 1 / 4096
    x = np.array([-1, -0.8, -0.6, -0.5, -0.3, gap, 0, 0.3, 0.4, 0.5, 0.7, 0.9, 1.1])
    y = np.repeat([0, 1], [6, 7])
    if classes == 3:
        x, y = np.append(x, [1.1, 0.9, 1.3, 1.5, 1.7]), np.append(y, [2] * 5)
    raw = (x[:, None] + mean).astype(np.float32)
    centred = jaxlr.fit(jaxlr.Batch.from_rows(raw - np.float64(mean), y)).raise_if_failed()
    with jax.enable_x64(False):
        solution = jaxlr.fit(jaxlr.Batch.from_rows(raw, y))
    assert Status(int(solution.status)).ok
    np.testing.assert_allclose(solution.loss, centred.loss, rtol=1e-3)


@pytest.mark.quick("float64")
def test_weights_offsets_and_soft_labels(dtype):
    X, y = TIED
    # Without the example that ties, the separation is complete; with an example that is between
    # none, unless it has no weight.
    more, labels = np.append(X, [[4.5]], axis=0), np.append(y, 0)
    for weight, none in ((0.0, True), (1e-3, False)):
        weights = np.append(np.ones(6), weight)
        batch = jaxlr.Batch.from_rows(more, labels, weights=weights, dtype=dtype)
        assert (int(jaxlr.fit(batch).status) == NONE) == none
    shifted = jaxlr.Batch.from_rows(X, y, offset=np.linspace(-3, 3, 6), dtype=dtype)
    assert int(jaxlr.fit(shifted).status) == NONE
    soft = np.array([0.0, 0.0, 0.3, 0.6, 1.0, 1.0])
    for x, none in (
        (3.0, True),
        (3.5, False),
    ):  # of two different soft labels one line goes through
        X = np.array([[1.0], [2.0], [3.0], [x], [4.0], [5.0]])
        batch = jaxlr.Batch.from_rows(X, soft, dtype=dtype)
        assert (int(jaxlr.fit(batch).status) == NONE) == none


@pytest.mark.quick("float32")
def test_without_an_intercept(dtype):
    X = np.array([[-1.0], [-2.0], [1.0], [2.0], [0.0], [0.0]])
    y = np.array([0, 0, 1, 1, 0, 1])
    batch = jaxlr.Batch.from_rows(X, y, intercept=False, dtype=dtype)
    assert int(jaxlr.fit(batch).status) == NONE
    # With one the threshold could be put at 2.5; without, examples at 2 and at 3 differ in sign.
    batch = jaxlr.Batch.from_rows(X[:4] + 4.0, y[:4], intercept=False, dtype=dtype)
    assert Status(int(jaxlr.fit(batch).status)).ok


def test_a_dummy_without_an_intercept(dtype):
    # The projection leaves dust in features that have no part: a row of zeros in the dummy sees it.
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(36, 4)), rng.integers(0, 2, 36)
        X[:, 1], y[:3] = np.arange(36) < 3, 1
        batch = jaxlr.Batch.from_rows(X, y, intercept=False, dtype=dtype)
        assert int(jaxlr.fit(batch).status) == NONE, seed


def test_what_the_labels_ask_for_separates_where_the_parameters_point_elsewhere(x64):
    # A dummy of one example that the other features have put far on the right side already.
    for seed in (0, 1, 36, 53):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(4, 36))
        X[1] = np.arange(36) < 1
        Z = 3 * rng.normal(size=(3, 4)) @ X
        y = (Z + rng.gumbel(size=Z.shape)).argmax(axis=0)
        batch = jaxlr.Batch.from_columns(X, y, n_classes=3)
        assert int(jaxlr.fit(batch).status) == NONE, seed


@pytest.mark.slow
def test_more_features_than_examples(x64):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 30)), np.array([0, 1] * 5)
    X[1] = X[0]  # two equal examples of different classes, and the others independent
    assert int(jaxlr.fit(jaxlr.Batch.from_rows(X, y)).status) == NONE
    assert Status(int(jaxlr.fit(jaxlr.Batch.from_rows(X, y), jaxlr.Penalty(1e-3)).status)).ok


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_lanes_without_an_optimum_say_so_and_the_others_are_as_alone(n_classes):
    rng = np.random.default_rng(1)
    y = np.arange(60) % n_classes
    X = rng.normal(size=(60, 2))
    X[:, 0] = (y == 0) & (rng.uniform(size=60) < 0.4)
    batch, key = jaxlr.Batch.from_rows(X, y), jax.random.key(0)
    lanes = jaxlr.sweep(batch, jaxlr.Penalty(jnp.array([0.0, 1e-2, 0.0, 1.0])))
    assert (np.asarray(lanes.status) == NONE).tolist() == [True, False, True, False]
    alone = jaxlr.fit(batch, jaxlr.Penalty(1e-2))
    np.testing.assert_allclose(lanes.loss[1], alone.loss, rtol=1e-6)
    folds = jaxlr.cross_validate(batch, jaxlr.Penalty(jnp.zeros(2)), folds=3, key=key)
    assert (folds.solutions.status == NONE).all()
    refits = jaxlr.bootstrap(batch, jaxlr.Penalty(1.0, jnp.array([0.0, 1.0])), 5, key)
    assert (refits.status == NONE).all()
    other = jaxlr.bootstrap(batch, jaxlr.Penalty(1.0, jnp.array([1.0, 0.0])), 5, key)
    assert not (other.status == NONE).any()


@pytest.mark.slow
def test_estimators_warn_where_there_is_no_penalty():
    X, y = TIED
    with pytest.warns(ConvergenceWarning, match="no finite optimum"):
        LogisticRegression(C=np.inf).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="no finite optimum"):
        LogisticRegressionCV(Cs=[np.inf], cv=2).fit(np.tile(X, (2, 1)), np.tile(y, 2))
    with pytest.warns(ConvergenceWarning, match="no finite optimum"):
        BootstrapLogisticRegression(C=np.inf, n_resamples=3, random_state=0).fit(X, y)


def test_which_penalties_may_be_none():
    assert may_be_unpenalised(jaxlr.Penalty())
    assert not may_be_unpenalised(jaxlr.Penalty(jnp.array([0.1, 1.0]), jnp.ones(3)))
    assert may_be_unpenalised(jaxlr.Penalty(jnp.array([0.1, 0.0])))
    assert may_be_unpenalised(jaxlr.Penalty(1e-50))  # zero in float32
    seen = []
    jax.jit(lambda l2: seen.append(may_be_unpenalised(jaxlr.Penalty(l2))))(0.1)
    assert seen == [True]
