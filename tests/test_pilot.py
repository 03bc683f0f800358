"""Pilots: a fair sample, its optimum, and what a fit does with a sample that misleads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.lanes import chunks
from jaxlr.solver import pilot
from jaxlr.solver.pilot import sample
from tests.helpers import plain_loss, problem


@pytest.fixture
def small_samples(monkeypatch):
    """Samples of 40 examples where there are at least 160."""
    jax.clear_caches()
    monkeypatch.setattr(pilot, "_FEWEST", 40)
    monkeypatch.setattr(pilot, "_EXAMPLES_A_FEATURE", 1)
    yield
    jax.clear_caches()


def test_a_sample_has_one_example_of_each_stretch(small_samples):
    batch = jaxlr.Batch(jnp.arange(400.0)[None], jnp.zeros(400), weights=jnp.arange(400.0))
    sample = pilot.sample(batch)
    np.testing.assert_array_equal(np.asarray(sample.X[0]) // 10, np.arange(40))
    np.testing.assert_array_equal(sample.weights, sample.X[0])
    assert len(set((np.asarray(sample.X[0]) % 10).tolist())) > 5  # no period


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_pilot_is_the_optimum_of_its_sample(x64, small_samples, n_classes):
    _, batch = problem(3, 400, n_classes, weights=True)
    penalty = jaxlr.Penalty(jnp.array(0.1))
    sample = pilot.sample(batch)
    found = pilot.make_pilot(batch, penalty)
    excess = jaxlr.loss(found.params, sample, penalty) - jaxlr.fit(sample, penalty).loss
    assert 0 <= excess < 1e-4
    start = jaxlr.loss(jaxlr.init_params(3, n_classes), sample, penalty)
    assert excess < (start - jaxlr.fit(sample, penalty).loss) / 20


def _misleading(kind):
    """Data whose sample says nothing, or the wrong thing, of the whole."""
    _, batch = problem(3, 400)
    X, y, weights = (np.asarray(a) for a in (batch.X, batch.y, np.ones(400)))
    taken = np.asarray(pilot.sample(jaxlr.Batch(jnp.arange(400.0)[None], batch.y)).X[0], int)
    y, weights = y.copy(), weights.copy()
    if kind == "without weight":
        weights[taken] = 0
    elif kind == "one class":
        y[taken] = 1
    elif kind == "separable":
        y[taken] = X[0, taken] > 0
    elif kind == "opposite":
        y[taken] = 1 - y[taken]
    return jaxlr.Batch(jnp.asarray(X), jnp.asarray(y), jnp.asarray(weights))


@pytest.mark.quick("0.0-opposite")
@pytest.mark.parametrize("kind", ["without weight", "one class", "separable", "opposite"])
@pytest.mark.parametrize("l2", [0.0, pytest.param(1e-4, marks=pytest.mark.slow)])
def test_a_sample_that_misleads_costs_passes_only(x64, small_samples, kind, l2):
    batch, penalty = _misleading(kind), jaxlr.Penalty(jnp.array(l2))
    solution = jaxlr.fit(batch, penalty).raise_if_failed()
    null = jaxlr.init_params(3)
    reference = jaxlr.fit(
        batch, penalty, init=null, curvature=jaxlr.make_curvature(null, batch)
    ).raise_if_failed()
    np.testing.assert_allclose(solution.loss, reference.loss, rtol=1e-12)
    np.testing.assert_allclose(solution.params.w, reference.params.w, atol=1e-8)


def test_not_a_number_is_a_status(small_samples):
    _, batch = problem(3, 400)
    bad = jaxlr.Batch(batch.X.at[0, 7].set(jnp.nan), batch.y)
    assert jaxlr.fit(bad, jaxlr.Penalty(0.1)).status == jaxlr.Status.NOT_FINITE


@pytest.mark.slow
def test_sweeps_of_samples_are_fits(x64, small_samples):
    _, batch = problem(3, 400, weights=True)
    l2 = jnp.array([1.0, 0.1, 0.01])
    swept = jaxlr.sweep(batch, jaxlr.Penalty(l2))
    for i in range(3):
        alone = jaxlr.fit(batch, jaxlr.Penalty(l2[i]))
        np.testing.assert_allclose(swept.params.w[i], alone.params.w, atol=1e-9)


@pytest.mark.parametrize(("count", "size"), [(7, 3), (6, 3), (2, 3), (3, 1)])
def test_lanes_in_chunks_are_a_loop(count, size):
    tree = {"a": jnp.arange(count), "b": jnp.arange(2.0 * count).reshape(count, 2)}
    out = chunks.run_lanes(lambda lane: (lane["a"] + 1, lane["b"].sum()), tree, size)
    np.testing.assert_array_equal(out[0], np.arange(count) + 1)
    np.testing.assert_array_equal(out[1], np.arange(2.0 * count).reshape(count, 2).sum(axis=1))


def test_memory_decides_the_size_of_a_chunk():
    _, batch = problem(3, 400)
    sizes = [chunks.chunk_size(batch, 100, memory) for memory in (1, 10**6, 10**9)]
    assert sizes[0] == 1
    assert sizes[0] < sizes[1] < sizes[2] == 64  # from there on a pass costs each the same
    assert chunks.chunk_size(batch, 1000) == 100


@pytest.mark.slow
def test_chunks_do_not_change_a_sweep(x64):
    _, batch = problem(3, 60)
    penalties = jaxlr.Penalty(jnp.geomspace(1e-3, 1, 7))
    whole, parts = (jaxlr.sweep(batch, penalties, memory=m) for m in (2**30, 40_000))
    assert chunks.chunk_size(batch, 7, 40_000) < 7
    np.testing.assert_allclose(whole.params.w, parts.params.w, atol=1e-9)
    np.testing.assert_array_equal(whole.status, parts.status)


@pytest.mark.slow
def test_a_feature_that_the_sample_does_not_see_is_fitted_all_the_same(x64):
    _, batch = problem(2, 40_000)
    seen = np.asarray(sample(jaxlr.Batch(jnp.arange(40_000.0)[None], batch.y)).X[0], int)
    rare = np.setdiff1d(np.arange(40_000), seen)[:12]
    X = batch.X.at[1].set(0).at[1, rare].set(1.0)
    batch = jaxlr.Batch(X, batch.y.at[rare].set(1.0).at[rare[:3]].set(0.0))
    assert not sample(batch).X[1].any()
    solution = jaxlr.fit(batch).raise_if_failed()
    slope = jax.grad(plain_loss)(solution.params, batch)
    assert float(jnp.abs(slope.w).max()) < 1e-10
    assert 0.9 < float(solution.params.w[1]) < 1.3  # log 3 where the rest tells nothing
