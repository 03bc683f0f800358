"""The queue: every lane ends as it does alone, and no pass is spent on one that is done."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.lanes import engine
from jaxlr.model.solution import Status
from jaxlr.solver import solve
from jaxlr.solver.curvature import factorise, make_curvature
from jaxlr.solver.null import null_model
from tests.helpers import problem, quick


def ends(batch, l2, size, order=None, max_passes=200, objective=None, path=None):
    """Return the ends of lanes that differ in their penalties; all start at the null model."""
    null, count = null_model(batch), len(l2)
    H = make_curvature(null, batch)
    L = jax.vmap(lambda l2: factorise(H, jaxlr.Penalty(l2)).L)(l2)
    params = jax.tree.map(lambda a: jnp.stack([a] * count), null)
    starts = engine.Starts(params, L, jnp.zeros(count, bool))
    task = solve.Task(H.centre, jnp.asarray(1e-12, L.dtype), jnp.int32(max_passes))
    lanes = jnp.arange(count)
    rank = lanes if order is None else jnp.argsort(jnp.asarray(order))
    rank = rank.astype("int32")
    objective = objective or (lambda i: (batch, jaxlr.Penalty(l2[i])))
    near = jnp.zeros(count, bool)
    return engine.solve_lanes(objective, lanes, starts, lanes, near, rank, task, size, path=path)


def nearly_separable():
    """Return examples where weak penalties take many passes."""
    _, batch = problem(4, 80)
    return dataclasses.replace(batch, y=(batch.X[0] > 0).astype(float).at[:4].set(1))


@pytest.mark.quick("3-32768")
@pytest.mark.parametrize(("size", "small"), [(1, 2**15), (3, 2**15), (3, 0), (9, 2**15)])
def test_lanes_end_as_they_do_alone(x64, size, small, monkeypatch):
    """Whether the factors of their starts are copied at once or one by one."""
    monkeypatch.setattr(engine, "_SMALL", small)
    _, batch = problem(4, 80)
    l2 = jnp.geomspace(1e-6, 1.0, 7)
    found = quick(lambda: ends(batch, l2, size))()
    null = null_model(batch)
    alone = jax.jit(
        lambda l2: solve.solve(
            batch, jaxlr.Penalty(l2), null, make_curvature(null, batch), tol=1e-12, max_passes=200
        )[0]
    )
    for i in range(7):
        one = alone(l2[i])
        np.testing.assert_allclose(found.params.w[i], one.params.w, rtol=1e-6)
        np.testing.assert_allclose(found.value[i], one.value, rtol=1e-12)
        assert (int(found.num_passes[i]), int(found.status[i])) == (
            int(one.num_passes),
            Status.CONVERGED,
        )


@pytest.mark.slow
def test_the_order_changes_nothing(x64):
    _, batch = problem(4, 80)
    l2 = jnp.geomspace(1e-6, 1.0, 7)
    a, b = (quick(lambda o=o: ends(batch, l2, 2, o))() for o in (range(7), [3, 0, 6, 1, 5, 2, 4]))
    np.testing.assert_allclose(a.params.w, b.params.w, rtol=1e-9)
    np.testing.assert_array_equal(a.num_passes, b.num_passes)


def test_a_lane_that_fails_makes_room_and_harms_nobody(x64):
    _, batch = problem(4, 80)
    l2 = jnp.array([1.0, np.nan, 0.1, 0.01, np.inf, 1e-3])
    found = quick(lambda: ends(batch, l2, 2))()
    good = np.array([0, 2, 3, 5])
    healthy = quick(lambda: ends(batch, l2[good], 2))()
    assert not np.isin(np.asarray(found.status)[[1, 4]], (0, 1)).any()
    np.testing.assert_allclose(found.params.w[good], healthy.params.w, rtol=1e-9)
    np.testing.assert_array_equal(found.status[good], Status.CONVERGED)


@pytest.mark.parametrize("max_passes", [0, 4])
def test_passes_run_out_for_each_lane(x64, max_passes):
    _, batch = problem(4, 80)
    l2 = jnp.array([1e-9, 10.0, 1e-8, 1e-7, 10.0])
    found = quick(lambda: ends(batch, l2, 2, max_passes=max_passes))()
    out, done = np.array([0, 2, 3]), np.array([1, 4])
    np.testing.assert_array_equal(found.num_passes[out], max_passes)
    np.testing.assert_array_equal(found.status[out], Status.OUT_OF_PASSES)
    whole = quick(lambda: ends(batch, l2, 2))()
    if max_passes:
        np.testing.assert_allclose(found.params.w[done], whole.params.w[done], rtol=1e-9)
        assert (np.asarray(found.value)[out] > np.asarray(whole.value)[out]).all()


@pytest.mark.slow
def test_no_pass_is_spent_on_a_lane_that_is_done(x64):
    _, batch = problem(4, 80)
    l2, made = jnp.array([1e-9, 10.0, 10.0, 10.0] * 6), []

    def objective(i):
        jax.debug.callback(lambda i: made.append(int(i)), i)
        return batch, jaxlr.Penalty(l2[i])

    size = 4
    found = ends(batch, l2, size, objective=objective)
    jax.effects_barrier()
    passes = np.asarray(found.num_passes)
    in_chunks = passes.reshape(-1, size).max(axis=1).sum()
    at_once = passes.sum() / size + passes.max()  # all places taken, then the last lane alone
    assert len(made) / size <= at_once < in_chunks


@pytest.mark.quick("True")
@pytest.mark.parametrize("made", [True, False])
def test_lanes_begin_at_the_optimum_of_their_pilot(x64, made):
    """Of two starts; the pilot of one of them has no finite objective, and changes nothing.

    Where starts have no P, those who begin there make it of the curvature that all share.
    """
    batch = nearly_separable()
    l2 = jnp.array([1e-3, 0.1])
    rng = np.random.default_rng(0)
    counts = jnp.asarray(rng.poisson(1.0, (8, 80)), "float64").at[0].set(1).at[1].set(jnp.nan)
    which = jnp.array([0, 1] * 4)

    def objective(lane):
        i, counts = lane
        return dataclasses.replace(batch, weights=counts), jaxlr.Penalty(l2[i])

    def run(pilots, made):
        null = null_model(batch)
        H = make_curvature(null, batch)
        L = jax.vmap(lambda l2: factorise(H, jaxlr.Penalty(l2)).L)(l2)
        params = jax.tree.map(lambda a: jnp.stack([a] * 2), null)
        task = solve.Task(H.centre, jnp.asarray(1e-14, L.dtype), jnp.int32(100))
        starts = engine.Starts(params, L if made else jnp.nan * L, jnp.full(2, not made))
        lanes, order = (which, counts), jnp.array([1, 0, 7, 5, 6, 2, 4, 3])
        rank = jnp.argsort(order).astype("int32")
        first, near = engine.rough(task), jnp.zeros(8, bool)
        return engine.solve_lanes(
            objective, lanes, starts, which, near, rank, task, 3, pilots, first,
            None if made else H,
        )  # fmt: skip

    plain, led = quick(lambda: run(0, True))(), quick(lambda: run(2, made))()
    rest = np.arange(2, 8)
    assert (np.asarray(led.status)[rest] == Status.CONVERGED).all()
    np.testing.assert_allclose(led.params.w[rest], plain.params.w[rest], atol=1e-6)
    np.testing.assert_allclose(led.value[rest], plain.value[rest], rtol=1e-12)
    assert int(led.status[1]) == Status.NOT_FINITE
    first, second = rest[which[rest] == 0], rest[which[rest] == 1]
    assert led.num_passes[first].sum() < plain.num_passes[first].sum()
    np.testing.assert_array_equal(led.num_passes[second], plain.num_passes[second])


@pytest.mark.slow
def test_a_pilot_makes_one_curvature_where_it_has_ended(x64, monkeypatch):
    batch, made = nearly_separable(), []
    there = engine._with_curvature_there

    def counted(state, *rest):
        after = there(state, *rest)
        jax.debug.callback(lambda n: made.append(int(n)), (after.stale & ~state.stale).sum())
        return after

    monkeypatch.setattr(engine, "_with_curvature_there", counted)
    jax.clear_caches()
    penalties = jaxlr.Penalty(jnp.geomspace(1e-3, 1e-1, 8))
    jaxlr.cross_validate(batch, penalties, folds=np.arange(80) % 4)
    jax.effects_barrier()
    jax.clear_caches()
    assert 0 < sum(made) <= 8


@pytest.mark.slow
def test_lanes_of_other_starts_run_beside_a_slow_pilot(x64):
    batch, l2, made = nearly_separable(), jnp.array([10.0, 1e-9]), []
    which = jnp.array([0, 1] + [0] * 10)

    def objective(lane):
        jax.debug.callback(lambda lane: made.append(int(lane)), lane)
        return batch, jaxlr.Penalty(l2[which[lane]])

    null, lanes = null_model(batch), jnp.arange(12)
    H = make_curvature(null, batch)
    L = jax.vmap(lambda l2: factorise(H, jaxlr.Penalty(l2)).L)(l2)
    params = jax.tree.map(lambda a: jnp.stack([a] * 2), null)
    starts = engine.Starts(params, L, jnp.zeros(2, bool))
    task = solve.Task(H.centre, jnp.asarray(1e-12, L.dtype), jnp.int32(200))
    far = jnp.zeros(12, bool)
    found = engine.solve_lanes(objective, lanes, starts, which, far, lanes, task, 4, pilots=2)
    jax.effects_barrier()
    assert (np.asarray(found.status) == Status.CONVERGED).all()
    assert found.num_passes[1] > found.num_passes[0] + 1
    first_follower = made.index(2)  # the last lane is what an empty place evaluates
    assert 1 in made[first_follower:]


def test_lanes_begin_between_their_leaders(x64):
    """At the weighted sum of where they end, and at their start where one of them has failed."""
    _, batch = problem(4, 80)
    l2 = jnp.array([0.1, 0.05, np.nan, 0.05, 0.05])
    leaders, family = jnp.array([[0, 1], [0, 2]]), jnp.array([-1, -1, -1, 0, 1])
    weights = jnp.array([[0, 0]] * 3 + [[0.0, 1.0]] + [[1.0, 1.0]])
    found = quick(lambda: ends(batch, l2, 2, path=engine.Path(leaders, family, weights)))()
    alone = quick(lambda: ends(batch, l2, 2))()
    good = np.array([0, 1, 3, 4])
    np.testing.assert_allclose(found.params.w[good], alone.params.w[good], rtol=1e-6)
    # At the optimum of lane 1, which is that of lane 3 as well, one pass sees that.
    assert int(found.num_passes[3]) == 1 < int(alone.num_passes[3])
    assert int(found.num_passes[4]) == int(alone.num_passes[4])


@pytest.mark.slow
@pytest.mark.parametrize("small", [0, 2**15])
def test_a_lane_has_the_factor_of_the_leader_of_its_start(x64, small, monkeypatch):
    """Where that has ended: at a P of zero every lane would be at its optimum."""
    monkeypatch.setattr(engine, "_SMALL", small)
    batch = nearly_separable()
    l2 = jnp.array([1e-9, 1e-2, 1.0, 1.01e-2, 1e-2])
    # Both begin a little beside the end of lane 1; of the start of lane 4 lane 0 is the leader,
    # which has not begun.
    leaders, family = jnp.array([[0, 1, 2]]), jnp.array([-1, -1, -1, 0, 0])
    weights = jnp.array([[0.0] * 3] * 3 + [[0.0, 1.01, 0.0]] * 2)
    null = null_model(batch)
    H = make_curvature(null, batch)
    which = jnp.array([0, 1, 2, 1, 0])
    L = jax.vmap(lambda l2: factorise(H, jaxlr.Penalty(l2)).L)(l2[:3])
    starts = engine.Starts(jax.tree.map(lambda a: jnp.stack([a] * 3), null), L, jnp.zeros(3, bool))
    task = solve.Task(H.centre, jnp.asarray(1e-16, L.dtype), jnp.int32(200))
    path = engine.Path(leaders, family, weights)

    def objective(i):
        return batch, jaxlr.Penalty(l2[i])

    def run():
        rank, far = jnp.array([4, 0, 1, 2, 3], "int32"), jnp.zeros(5, bool)
        return engine.solve_lanes(
            objective, jnp.arange(5), starts, which, far, rank, task, 1, path=path
        )

    found = quick(run)()
    assert (np.asarray(found.status) == Status.CONVERGED).all()
    for i in (3, 4):
        alone = jaxlr.fit(batch, jaxlr.Penalty(l2[i]), tol=1e-16)
        np.testing.assert_allclose(found.value[i], alone.loss, rtol=1e-14)
        np.testing.assert_allclose(found.params.w[i], alone.params.w, rtol=1e-5)
    assert (int(found.num_passes[3]) <= 5) == (small > 0)
