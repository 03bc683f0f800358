"""Sweeps and cross-validation against single fits and scikit-learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

import jaxlr
from jaxlr.lanes.problem import _starts
from jaxlr.model.solution import Status
from jaxlr.studies.sweep import select
from tests.helpers import assert_close, problem

L2 = jnp.array([1.0, 0.1, 0.01])


@pytest.mark.quick("3")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_lanes_are_fits(x64, n_classes):
    _, batch = problem(3, 40, n_classes, weights=True)
    lanes = jaxlr.sweep(batch, jaxlr.Penalty(jnp.asarray(L2, float)))
    for i, l2 in enumerate(np.asarray(L2, float)):
        alone = jaxlr.fit(batch, jaxlr.Penalty(l2))
        np.testing.assert_allclose(lanes.params.w[i], alone.params.w, atol=1e-9)
        np.testing.assert_allclose(lanes.loss[i], alone.loss, rtol=1e-12)
    assert (lanes.suboptimality < 1e-12).all()


@pytest.mark.parametrize("zero", [False, True])
def test_penalties_that_are_near_each_other_share_a_start(zero):
    l2 = np.random.default_rng(0).permutation(np.geomspace(1e-9, 1e3, 100))
    if zero:
        l2[[4, 5]] = 0, np.nextafter(0, 1)
    of_start, which = (np.asarray(a) for a in _starts(jnp.asarray(l2, "float32"), 16))
    assert (len(of_start), len(which)) == (16, 100)
    for start, makes_it in enumerate(of_start):
        members = np.flatnonzero(which == start)
        assert makes_it in members
        assert len(members) in (6, 7)
        below, above = (l2 < l2[members].min()).sum(), (l2 > l2[members].max()).sum()
        assert below + above + len(members) == 100  # neighbours, and none between them
        # The one in the middle, but the weakest of the weakest ones.
        due = (0,) if start == 0 and not zero else (2, 3)
        assert (l2[members] < l2[makes_it]).sum() in due


@pytest.mark.parametrize("count", [3, 100_000])
def test_where_none_is_shared_each_penalty_makes_its_start(count):
    of_start, which = _starts(jnp.linspace(3.0, 1.0, count), count)
    np.testing.assert_array_equal(np.asarray(of_start)[np.asarray(which)], np.arange(count))


@pytest.mark.slow
@pytest.mark.parametrize(
    "l2",
    [
        np.append(np.geomspace(1e-4, 1e-2, 31), 1e4),
        np.append(1e-4, np.geomspace(1e2, 1e4, 31)),
        np.append(np.geomspace(1e-4, 1e-3, 17), np.geomspace(1e2, 1e4, 15)),
        np.append(np.geomspace(1e-6, 1.0, 31), 1e30),
    ],
    ids=["one is strong", "one is weak", "clusters", "beyond all measure"],
)
def test_penalties_far_from_that_of_their_start_are_solved_as_well(x64, l2):
    """Their P is another's: what it says of the distance from the optimum must not end them."""
    _, batch = problem(5, 200)
    tol, fold = 1e-6, np.arange(200) % 3
    swept = jaxlr.sweep(batch, jaxlr.Penalty(jnp.asarray(l2)), tol=tol)
    lanes = jaxlr.cross_validate(batch, jaxlr.Penalty(jnp.asarray(l2)), folds=fold, tol=tol)
    crossed = jax.tree.map(lambda a: a[:, 0], lanes.solutions)
    outside = batch.select(lambda a: a[..., fold != 0])
    for found, data in ((swept, batch), (crossed, outside)):
        one = jax.jit(jax.vmap(lambda l2, data=data: jaxlr.fit(data, jaxlr.Penalty(l2))))
        excess = found.loss - one(jnp.asarray(l2)).loss
        assert (np.asarray(found.status) == Status.CONVERGED).all()
        assert excess.max() < 3 * tol


@pytest.mark.slow
@pytest.mark.parametrize("folds", [False, True])
def test_among_many_penalties_a_bad_one_changes_no_other(x64, folds):
    """The largest fair one shares its start with three that are no penalties."""
    _, batch = problem(4, 60)
    l2 = np.geomspace(1e-6, 10.0, 70)
    l2[[3, 20, 40, 69]] = np.nan, -1.0, 0.0, np.nan
    good = np.setdiff1d(np.arange(70), [3, 20, 69])
    penalty = jaxlr.Penalty(jnp.asarray(l2))
    if folds:
        fold = jnp.arange(60) % 4
        lanes = jaxlr.cross_validate(batch, penalty, folds=fold).solutions
        lanes = jax.tree.map(lambda a: a[:, 1], lanes)
        batch = batch.select(lambda a: a[..., fold != 1])
    else:
        lanes = jaxlr.sweep(batch, penalty)
    assert (np.asarray(lanes.status)[good] == Status.CONVERGED).all()
    assert (np.asarray(lanes.status)[[3, 69]] == Status.NOT_FINITE).all()
    one = jax.jit(jax.vmap(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2))))
    alone = one(jnp.asarray(l2[good]))
    np.testing.assert_allclose(np.asarray(lanes.loss)[good], alone.loss, rtol=1e-11)
    if not folds:  # half of them follow, and begin nearly where they end
        assert (np.asarray(lanes.num_passes)[good] < np.asarray(alone.num_passes)).sum() >= 25


@pytest.mark.slow
def test_a_pilot_that_is_none_does_not_make_another_lane_rough(x64):
    _, batch = problem(4, 60)
    l2, fold = jnp.array([1e-4, np.nan, 0.1, 1.0]), jnp.arange(60) % 4
    lanes = jaxlr.cross_validate(batch, jaxlr.Penalty(l2), folds=fold).solutions
    assert (np.asarray(lanes.status[1]) == Status.NOT_FINITE).all()
    for i in (0, 2, 3):
        for k in range(4):
            rest = batch.select(lambda a, k=k: a[..., fold != k])
            alone = jaxlr.fit(rest, jaxlr.Penalty(l2[i]))
            np.testing.assert_allclose(lanes.loss[i, k], alone.loss, rtol=1e-12)


@pytest.mark.slow
def test_each_of_many_penalties_has_the_derivative_of_its_fit(x64):
    _, batch = problem(4, 60)
    l2 = jnp.asarray(np.random.default_rng(0).permutation(np.geomspace(1e-5, 10.0, 40)))

    def weights(l2):
        return jaxlr.sweep(batch, jaxlr.Penalty(l2)).params.w[:, 1]

    alone = jax.vmap(jax.grad(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2)).params.w[1]))(l2)
    np.testing.assert_allclose(jax.grad(lambda l2: weights(l2).sum())(l2), alone, rtol=1e-7)


@pytest.mark.slow
def test_lanes_with_factors_of_their_own_share_nothing(x64):
    _, batch = problem(4, 60)
    factors = 10.0 ** np.random.default_rng(0).uniform(-6, 6, (70, 4))
    lanes = jaxlr.sweep(batch, jaxlr.Penalty(jnp.full(70, 0.01), jnp.asarray(factors)))
    one = jax.jit(jax.vmap(lambda f: jaxlr.fit(batch, jaxlr.Penalty(0.01, f))))
    alone = one(jnp.asarray(factors))
    np.testing.assert_allclose(lanes.loss, alone.loss, rtol=1e-11)
    np.testing.assert_array_equal(lanes.num_passes, alone.num_passes)


@pytest.mark.slow
def test_factors_for_all_lanes_or_for_each():
    _, batch = problem(3, 40)
    factors = jnp.array([0.0, 1.0, 2.0])
    shared = jaxlr.sweep(batch, jaxlr.Penalty(L2, factors))
    each = jaxlr.sweep(batch, jaxlr.Penalty(L2, jnp.stack([factors] * 3)))
    alone = jaxlr.fit(batch, jaxlr.Penalty(L2[1], factors))
    assert_close(shared.params, each.params, "float32")
    assert_close(shared.params.w[1], alone.params.w, "float32", 100)


@pytest.mark.quick("3")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_cross_validation_is_scikit_learns(x64, n_classes):
    _, batch = problem(4, 60, n_classes, seed=2, weights=True)
    X, y, c = np.asarray(batch.X).T, np.asarray(batch.y, int), np.asarray(batch.weights)
    fold_of = jnp.asarray(np.arange(60) % 3)
    l2 = np.array([0.5, 0.02])
    result = jaxlr.cross_validate(batch, jaxlr.Penalty(jnp.asarray(l2)), folds=fold_of)
    for p in range(2):
        for f in range(3):
            fit, held = np.arange(60) % 3 != f, np.arange(60) % 3 == f
            C = 1 / (l2[p] * c[fit].sum())
            model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=1000)
            model.fit(X[fit], y[fit], sample_weight=c[fit])
            a = model.predict_proba(X[held])
            expected = log_loss(y[held], a, sample_weight=c[held], labels=range(n_classes))
            np.testing.assert_allclose(result.scores.log_loss[p, f], expected, rtol=1e-8)
            right = accuracy_score(y[held], a.argmax(axis=1), sample_weight=c[held])
            np.testing.assert_allclose(result.scores.accuracy[p, f], right, rtol=1e-12)
            w = np.asarray(result.solutions.params.w[p, f])
            coef = model.coef_[0] if n_classes == 2 else model.coef_.T
            np.testing.assert_allclose(w, coef, atol=1e-6)


def test_drawn_folds_are_the_stratified_ones():
    _, batch = problem(3, 40)
    key, penalties = jax.random.key(3), jaxlr.Penalty(L2)
    drawn = jaxlr.cross_validate(batch, penalties, folds=4, key=key)
    given = jaxlr.cross_validate(batch, penalties, folds=jaxlr.stratified_folds(batch, 4, key))
    assert drawn.scores.log_loss.shape == (3, 4)
    assert_close(drawn.scores, given.scores, "float32")


def test_selection():
    # Means 1.0, 1.05, 1.2 and NaN; the standard error of the best is 0.1.
    log_loss = jnp.array([[0.9, 1.1], [1.0, 1.1], [1.2, 1.2], [jnp.nan, 0.0]])
    best, one_se = select(jnp.array([0.1, 1.0, 10.0, 100.0]), log_loss)
    assert (int(best), int(one_se)) == (0, 1)
    best, one_se = select(jnp.array([1.0, 0.1, 10.0, 100.0]), log_loss)
    assert (int(best), int(one_se)) == (0, 0)


def test_selection_by_weights():
    # Weights of one size cancel; a fold without weight has no say, and one of weight 3 has three.
    log_loss = jnp.array([[1.0, 1.0, 4.0], [2.0, 2.0, 0.0], [2.1, 2.0, 0.0]])
    l2 = jnp.array([0.1, 1.0, 10.0])
    assert [int(i) for i in select(l2, log_loss, jnp.array([0.2, 0.2, 0.0]))] == [0, 0]
    # Means 2.8, 0.8 and 0.82; the variance 0.96 of the best one is shared by 25/11 folds.
    assert [int(i) for i in select(l2, log_loss, jnp.array([1.0, 1.0, 3.0]))] == [1, 2]
    mean, error = 0.8, np.sqrt(0.96 / (25 / 11 - 1))
    between = jnp.array([[2.0, 2.0, 0.0], [mean + 0.99 * error] * 3, [mean + 1.01 * error] * 3])
    assert [int(i) for i in select(l2, between, jnp.array([1.0, 1.0, 3.0]))] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
def test_leave_one_out_is_nearly_a_fold_for_each_example(x64, quick_programs, n_classes):
    _, batch = problem(3, 40, n_classes, weights=True, offset=True)
    penalties = jaxlr.Penalty(jnp.array([1.0, 0.3]))
    loo = jaxlr.cross_validate(batch, penalties, folds="loo")
    exact = jaxlr.cross_validate(batch, penalties, folds=jnp.arange(40))
    assert loo.scores.log_loss.shape == exact.scores.log_loss.shape == (2, 40)
    for i, l2 in enumerate([1.0, 0.3]):
        fit = jaxlr.fit(batch, jaxlr.Penalty(jnp.array(l2)))
        np.testing.assert_allclose(loo.solutions.params.w[i], fit.params.w, atol=1e-9)
        inside = jaxlr.loss(fit.params, batch)
        moved = jnp.average(exact.scores.log_loss[i], weights=batch.weights) - inside
        left = jnp.average(loo.scores.log_loss[i], weights=batch.weights) - inside
        assert moved > 0
        np.testing.assert_allclose(left, moved, rtol=0.1)
    np.testing.assert_allclose(loo.scores.log_loss, exact.scores.log_loss, rtol=0.1, atol=0.01)
    assert (loo.scores.accuracy != exact.scores.accuracy).sum() <= 1  # of 80, at the boundary
    assert loo.untrusted is not None
    assert exact.untrusted is None
    assert loo.untrusted.tolist() == [0, 0]
    means = jnp.average(loo.scores.log_loss, axis=1, weights=batch.weights)
    assert int(loo.best) == int(means.argmin())


def test_nothing_is_chosen_where_no_penalty_has_a_score():
    log_loss = jnp.array([[jnp.nan, 1.0], [1.0, jnp.nan]])
    assert [int(i) for i in select(jnp.array([0.1, 1.0]), log_loss)] == [-1, -1]


FOLDS = np.arange(40) % 4
REFUSED = {
    "folds from one": (FOLDS + 1, "folds are numbered 1 to 4 and 4 of them have examples: 0 to 3"),
    "a gap": (np.where(FOLDS == 2, 3, FOLDS), "folds are numbered 0 to 3 and 3 of them"),
    "negative": (FOLDS - 1, "folds are numbered -1 to 2"),
    "one fold": (0 * FOLDS, "folds holds one fold of all 40 examples: give at least two"),
    "fractions": (FOLDS / 2, "folds has dtype float64 where integers are due"),
    "a mask": (FOLDS > 1, "folds has dtype bool where integers are due"),
    "another m": (FOLDS[1:], "folds has shape (39,) where (40,) is due"),
    "nobody scored": (np.ones((2, 40), int), "Split 0 has no example to score on"),
    "nobody fitted": (np.array([FOLDS, 2 * (FOLDS > 1)]), "Split 1 has no example to fit to"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_folds_are_checked(name):
    folds, words = REFUSED[name]
    _, batch = problem(3, 40)
    with jax.enable_x64(False), pytest.raises(ValueError) as caught:  # noqa: PT011
        jaxlr.cross_validate(batch, jaxlr.Penalty(L2), folds=folds)
    assert words in str(caught.value)


def test_a_fold_without_weight_is_refused():
    _, batch = problem(3, 40)
    light = dataclasses.replace(batch, weights=jnp.asarray(FOLDS != 2, jnp.float32))
    splits = np.stack([1 + (FOLDS == 0), 1 + (FOLDS == 2)])
    for folds, words in ((FOLDS, "Fold 2 has only examples of weight 0"), (splits, "Split 1 has")):
        with pytest.raises(ValueError, match=words):
            jaxlr.cross_validate(light, jaxlr.Penalty(L2), folds=folds)


def test_folds_of_numpy_are_closed_over_in_jit():
    _, batch = problem(3, 40)

    def trace(folds):
        def best(l2):
            return jaxlr.cross_validate(batch, jaxlr.Penalty(l2), folds=folds).scores.log_loss

        return jax.eval_shape(best, L2).shape

    assert trace(FOLDS) == trace(FOLDS.tolist()) == trace(jnp.asarray(FOLDS)) == (len(L2), 4)


def test_penalties_are_one_a_lane():
    _, batch = problem(3, 40)
    listed = jaxlr.sweep(batch, jaxlr.Penalty([0.1, 0.01]))  # pyright: ignore[reportArgumentType]
    assert listed.params.w.shape == (2, 3)
    for l2 in (0.1, jnp.zeros(0), jnp.ones((2, 2))):
        with pytest.raises(ValueError, match=r"penalties\.l2 has shape .* where \(P,\) is due"):
            jaxlr.sweep(batch, jaxlr.Penalty(l2))
    with pytest.raises(TypeError, match=r"folds is 2\.5: an integer or an array is due"):
        jaxlr.cross_validate(batch, jaxlr.Penalty(L2), folds=2.5, key=jax.random.key(0))
    with pytest.raises(ValueError, match="folds is 'LOO': a number, an array, or 'loo' is due"):
        jaxlr.cross_validate(batch, jaxlr.Penalty(L2), folds="LOO")


def test_complaints():
    _, batch = problem(3, 20)
    with pytest.raises(ValueError, match=r"penalties\.l2 has shape \(\) where \(P,\) is due"):
        jaxlr.sweep(batch, jaxlr.Penalty(0.1))
    with pytest.raises(ValueError, match=r"penalties\.factors has 2 lanes, penalties\.l2 3"):
        jaxlr.sweep(batch, jaxlr.Penalty(L2, jnp.ones((2, 3))))
    with pytest.raises(ValueError, match=r"give key=jax\.random\.key"):
        jaxlr.cross_validate(batch, jaxlr.Penalty(L2))
    with pytest.raises(ValueError, match=r"folds has shape \(3,\) where \(20,\) is due"):
        jaxlr.cross_validate(batch, jaxlr.Penalty(L2), folds=jnp.arange(3))


def test_traced_folds_are_refused_in_words():
    _, batch = problem(3, 40)
    with pytest.raises(ValueError, match="folds is traced"):
        jax.jit(lambda f: jaxlr.cross_validate(batch, jaxlr.Penalty(L2), folds=f))(
            jnp.arange(40) % 3
        )


@pytest.mark.slow
def test_cross_validation_of_splits_is_fits_to_their_examples(x64):
    _, batch = problem(3, 40, weights=True)
    rng = np.random.default_rng(1)
    pairs = [(rng.permutation(40)[:25], rng.permutation(40)[:9]) for _ in range(3)]
    penalties = jaxlr.Penalty(jnp.array([0.1, 0.01]))
    found = jaxlr.cross_validate(batch, penalties, folds=jaxlr.splits(pairs, 40))
    assert found.scores.log_loss.shape == (2, 3)
    for s, (fit_on, score_on) in enumerate(pairs):
        inside, outside = (batch.select(lambda a, i=i: a[..., i]) for i in (fit_on, score_on))
        for p in range(2):
            alone = jaxlr.fit(inside, jaxlr.Penalty(penalties.l2[p]))
            np.testing.assert_allclose(found.solutions.params.w[p, s], alone.params.w, atol=1e-9)
            expected = jaxlr.loss(alone.params, outside)
            np.testing.assert_allclose(found.scores.log_loss[p, s], expected, rtol=1e-9)


@pytest.mark.slow
def test_leaving_out_one_example_at_a_time(x64):
    _, batch = problem(2, 15)
    found = jaxlr.cross_validate(batch, jaxlr.Penalty(jnp.array([0.1])), folds=jnp.arange(15))
    for i in (0, 7):
        kept = np.delete(np.arange(15), i)
        alone = jaxlr.fit(batch.select(lambda a, kept=kept: a[..., kept]), jaxlr.Penalty(0.1))
        one = batch.select(lambda a, i=i: a[..., i : i + 1])
        expected = jaxlr.loss(alone.params, one)
        np.testing.assert_allclose(found.scores.log_loss[0, i], expected, rtol=1e-9)


@pytest.mark.quick("separable")
@pytest.mark.parametrize("bad", ["nan", "separable", "far"])
def test_a_bad_lane_changes_no_other(x64, bad):
    # A hundred lanes with labels and penalties of their own, three of them bad.
    rng = np.random.default_rng(0)
    _, batch = problem(4, 60)
    y = np.array([rng.permutation(np.asarray(batch.y)) for _ in range(100)], float)
    l2, start = np.full(100, 0.1), np.zeros((100, 4))
    places = [0, 41, 99]
    if bad == "nan":
        y[places, 3] = np.nan
    elif bad == "separable":
        y[places] = np.asarray(batch.X[0]) > 0
        l2[places] = 0.0
    else:
        start[places] = 1e200

    def fit(y, l2, w):
        init = jaxlr.Params(w, jnp.array(0.0))
        return jaxlr.fit(jaxlr.Batch(batch.X, y), jaxlr.Penalty(l2), init=init)

    run = jax.jit(jax.vmap(fit))
    lanes = run(jnp.asarray(y), jnp.asarray(l2), jnp.asarray(start))
    good = np.setdiff1d(np.arange(100), places)
    alone = run(jnp.asarray(y[good]), jnp.asarray(l2[good]), jnp.asarray(start[good]))
    assert (np.asarray(alone.status) == 0).all()
    for a, b in zip(jax.tree.leaves(lanes), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(np.asarray(a)[good], b, rtol=1e-9, atol=1e-13)
    statuses = set(np.asarray(lanes.status)[places].tolist())
    expected = {"nan": Status.NOT_FINITE, "separable": Status.NO_FINITE_OPTIMUM}
    assert bad == "far" or statuses == {expected[bad]}


def test_a_class_that_is_missing_is_missing_however_sums_are_rounded(x64_off):
    """The quotient of two equal sums, added up in different orders, may not be one."""
    rng = np.random.default_rng(0)
    X, weights = (jnp.asarray(a, "float32") for a in (rng.normal(size=(3, 150)), rng.random(150)))
    l2, folds = jnp.geomspace(1e-4, 10, 4, dtype="float32"), np.arange(150) % 5

    def status(y):
        batch, penalties = jaxlr.Batch(X, y, weights), jaxlr.Penalty(l2)
        return jaxlr.cross_validate(batch, penalties, folds=folds).solutions.status

    labels = jnp.stack([jnp.ones(150), jnp.zeros(150), jnp.arange(150) % 2]).astype("float32")
    ones, zeros, both = np.asarray(jax.jit(jax.vmap(status))(labels))
    np.testing.assert_array_equal(ones, Status.NO_FINITE_OPTIMUM)
    np.testing.assert_array_equal(zeros, Status.NO_FINITE_OPTIMUM)
    np.testing.assert_array_equal(both, Status.CONVERGED)
