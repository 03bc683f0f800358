"""Lanes that begin between those that lead them, along the penalties."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.lanes.problem import _starts, path_of
from jaxlr.model.solution import Status
from jaxlr.sklearn.splits import fit_splits
from jaxlr.studies import sweep
from tests.helpers import problem


def test_a_path_is_a_polynomial_of_the_logarithm_through_its_leaders(x64):
    l2 = jnp.asarray(np.random.default_rng(0).permutation(np.geomspace(1e-6, 1e2, 50)))
    of_start, _ = _starts(l2, 16)
    path = path_of(of_start, l2, 3)
    log, nodes = np.log(np.repeat(l2, 3)), np.log(np.asarray(l2[of_start]))
    for power in range(8):
        np.testing.assert_allclose(path.weights @ nodes**power, log**power, rtol=1e-8, atol=1e-8)
    family = np.asarray(path.family).reshape(50, 3)
    leads, beyond = np.isin(np.arange(50), of_start), np.asarray(l2) > l2[of_start].max()
    np.testing.assert_array_equal(family[~leads & ~beyond], np.tile(np.arange(3), (33, 1)))
    assert (family[leads] == -1).all()
    for f in range(3):
        np.testing.assert_array_equal(path.leaders[f] // 3, of_start)
        assert (np.asarray(path.leaders[f]) % 3 == f).all()


SAMPLED = pytest.param(40_000, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("m", [400, SAMPLED])  # led by pilots; from a sample
def test_lanes_between_others_begin_near_their_optimum(x64, m, monkeypatch):
    _, batch = problem(5, m)
    penalties = jaxlr.Penalty(jnp.geomspace(1e-7, 1e-1, 70))
    folds = np.arange(m) % 2

    def run():
        jax.clear_caches()
        crossed = jaxlr.cross_validate(batch, penalties, folds=folds).solutions
        return crossed, jaxlr.sweep(batch, penalties)

    found = run()
    monkeypatch.setattr(sweep, "find_path", lambda *_: None)
    alone = run()
    jax.clear_caches()
    for a, b in zip(found, alone, strict=True):
        assert (np.asarray(a.status) <= Status.PRECISION_REACHED).all()
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-12)
        assert a.num_passes.mean() < b.num_passes.mean()


@pytest.mark.slow
def test_splits_of_scikit_learn_are_families_of_a_path(x64, monkeypatch):
    """Their penalties differ by a factor for each split; repeated rows count."""
    _, batch = problem(4, 90)
    batch = dataclasses.replace(batch, weights=jnp.ones(90))
    counts = np.random.default_rng(0).integers(0, 3, (4, 90)).astype("uint8")
    l2 = jnp.geomspace(1e-6, 1e-1, 40)[None, ::-1] * 90 / jnp.asarray(counts.sum(axis=1))[:, None]

    def run():
        jax.clear_caches()
        return fit_splits(batch, jnp.asarray(counts), l2, jnp.array(1e-20), 500)

    found = run()
    for f in range(4):
        part = dataclasses.replace(batch, weights=jnp.asarray(counts[f], "float64"))
        for i in (0, 17, 39):
            alone = jaxlr.fit(part, jaxlr.Penalty(l2[f, i]))
            np.testing.assert_allclose(found.loss[f, i], alone.loss, rtol=1e-12)
            np.testing.assert_allclose(found.params.w[f, i], alone.params.w, rtol=1e-6)
    monkeypatch.setattr(
        importlib.import_module("jaxlr.sklearn.splits"), "find_path", lambda *_: None
    )
    assert found.num_passes.mean() < 0.9 * run().num_passes.mean()
    jax.clear_caches()


WILD = {
    "clustered": np.append(np.geomspace(1e-3, 1.0003e-3, 94), np.geomspace(1e-2, 1e3, 6)),
    "far from the others": np.append([0, 1e-12], np.geomspace(1e-4, 1.0, 98)),
    "infinite": np.append(np.geomspace(1e-6, 10.0, 99), np.inf),
}


@pytest.mark.quick("200-infinite")
@pytest.mark.parametrize("name", WILD)
@pytest.mark.parametrize("m", [200, 40_000])
def test_no_lane_begins_at_a_wild_polynomial(x64_off, name, m):
    _, batch = problem(3, m, dtype="float32")
    l2 = jnp.asarray(WILD[name], "float32")
    found = jaxlr.sweep(batch, jaxlr.Penalty(l2))
    alone = jax.jit(jax.vmap(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2))))(l2)
    good = np.isfinite(WILD[name])
    assert (np.asarray(found.status)[good] <= Status.PRECISION_REACHED).all()
    np.testing.assert_allclose(found.loss[good], alone.loss[good], rtol=1e-6)
    assert found.num_passes.sum() <= alone.num_passes.sum()


@pytest.mark.slow
def test_penalties_in_float64_of_features_in_float32(x64):
    _, batch = problem(3, 100, dtype="float32")
    penalties = jaxlr.Penalty(jnp.geomspace(1e-5, 1.0, 40))
    swept = jaxlr.sweep(batch, penalties)
    crossed = jaxlr.cross_validate(batch, penalties, folds=np.arange(100) % 3)
    assert swept.params.w.dtype == crossed.solutions.params.w.dtype == "float32"
    assert (np.asarray(crossed.solutions.status) <= Status.PRECISION_REACHED).all()
    _, slopes = jax.jvp(
        lambda l2: jaxlr.sweep(batch, jaxlr.Penalty(l2)).loss, (penalties.l2,), (penalties.l2,)
    )
    squares = (np.asarray(swept.params.w, float) ** 2).sum(axis=1)
    np.testing.assert_allclose(slopes, penalties.l2 * squares / 2, rtol=1e-5)


@pytest.mark.slow
def test_penalties_that_are_equal_or_zero_have_no_place_on_a_path(x64):
    _, batch = problem(3, 60)
    l2 = np.geomspace(1e-4, 1.0, 40)
    l2[:5], l2[10:16], l2[30] = 0, 1e-2, np.inf
    found = jaxlr.sweep(batch, jaxlr.Penalty(jnp.asarray(l2)))
    alone = jax.jit(jax.vmap(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2))))(jnp.asarray(l2))
    good = np.isfinite(l2)
    np.testing.assert_allclose(found.loss[good], alone.loss[good], rtol=1e-12)
    assert (np.asarray(found.status)[good] <= Status.PRECISION_REACHED).all()
    assert found.status[30] > Status.PRECISION_REACHED


def test_a_leader_that_has_converged_says_so(x64):
    """It would go on for the sake of the others, but not where passes have run out."""
    _, batch = problem(5, 200)
    penalty = jaxlr.Penalty(jnp.geomspace(1e-6, 1.0, 40))
    some = False
    for most in range(3, 12):
        lanes = jaxlr.sweep(batch, penalty, max_passes=most)
        status, near = np.asarray(lanes.status), np.asarray(lanes.estimate) <= 1e-20
        np.testing.assert_array_equal(status == Status.CONVERGED, near)
        some = some or 0 < near.sum() < len(near)
    assert some


@pytest.mark.slow
def test_in_rounding_a_leader_that_has_converged_says_so():
    """Another curvature at its end asks for no step that could be refused."""
    rng = np.random.default_rng(15)
    X = rng.normal(size=(5, 200)).astype(np.float32)
    batch = jaxlr.Batch(jnp.asarray(X), jnp.asarray((X[0] + rng.normal(size=200) > 0).astype(int)))
    penalty, tol = jaxlr.Penalty(jnp.geomspace(1e-6, 1.0, 40, dtype="float32")), jnp.float32(1e-14)
    for most in (8, 9, 10):
        lanes = jaxlr.sweep(batch, penalty, tol=tol, max_passes=most)
        assert (np.asarray(lanes.estimate) > tol)[np.asarray(lanes.status) != 0].all()
