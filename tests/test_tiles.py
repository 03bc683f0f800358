"""Sums over examples: in tiles or over X as it is, and what depends on how many lanes there are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.model import passes
from jaxlr.model.objective import make_hvp
from tests.helpers import assert_close, plain_derivatives, problem, quick, tiles_of


@pytest.fixture(autouse=True, scope="module")
def tiles_of_eight():
    """Cut small problems into many tiles, the last of them ragged."""
    with tiles_of(8):
        yield


def lanes_seen(fun, *args):
    """Return what `fun(mean)` gives, and the sums it was given at each level of vmap."""
    seen = []

    @passes.by_lanes
    def mean(params, batch, sums, _):
        seen.append(sums)
        total = sums(lambda tile: passes.weighted(tile.weights, params @ tile.X).sum(), batch)
        return total / batch.m_examples

    return fun(mean)(*args), seen


@pytest.mark.slow
def test_a_few_lanes_see_x_as_it_is_and_many_see_tiles():
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(40, 21)), rng.normal(size=(2, 3, 40))
    batch = jaxlr.Batch(jnp.asarray(X, "float32"), jnp.ones(21))
    w = jnp.asarray(w, "float32")
    expected = np.einsum("abn,nm->ab", w, X) / 21

    def check(fun, w, expected, last):
        found, seen = lanes_seen(fun, w, batch)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert seen[-1] is last

    check(lambda f: f, w[0, 0], expected[0, 0], passes.sum_whole)
    check(lambda f: jax.vmap(f, (0, None)), w[0], expected[0], passes.sum_whole)
    # Six lanes of 40 features, whichever way they are mapped: each vmap alone would be few.
    check(lambda f: jax.vmap(jax.vmap(f, (0, None)), (0, None)), w, expected, passes.sum_over_tiles)
    many = dataclasses.replace(batch, y=jnp.zeros(21, jnp.int32), n_classes=6)
    found, seen = lanes_seen(lambda f: f, w[0, 0], many)
    assert seen == [passes.sum_over_tiles]
    np.testing.assert_allclose(found, expected[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "sums"), [(65_536, "sum_whole"), (65_537, "sum_over_tiles")])
def test_long_sums_in_float32_are_compensated(m, sums, monkeypatch):
    monkeypatch.setattr(passes, "_TILE_EXAMPLES", (4096, 4096))
    batch = jaxlr.Batch(jnp.ones((9, m), "float32"), jnp.ones(m, "float32"))
    _, seen = lanes_seen(lambda f: f, jnp.ones(9, "float32"), batch)
    assert seen == [getattr(passes, sums)]


def test_long_sums_in_float64_are_over_x_as_it_is(x64):
    batch = jaxlr.Batch(jnp.ones((9, 70_000)), jnp.ones(70_000))
    _, seen = lanes_seen(lambda f: f, jnp.ones(9), batch)
    assert seen == [passes.sum_whole]


def test_rounding_of_one_lane_does_not_grow_with_the_examples(monkeypatch):
    """Of 16 features, whose products alone would be over X as it is."""
    monkeypatch.setattr(passes, "_TILE_EXAMPLES", (4096, 4096))
    rng = np.random.default_rng(0)
    X, y = rng.integers(-3, 4, (16, 2**20)).astype("float32"), rng.integers(0, 2, 2**20)
    w = np.full(16, 0.1, "float32")
    params = jaxlr.Params(jnp.asarray(w), jnp.float32(0.2))
    grad = jax.jit(jaxlr.gradient)(params, jaxlr.Batch(jnp.asarray(X), jnp.asarray(y, "float32")))
    z = w.astype(float) @ X + np.float32(0.2)
    np.testing.assert_allclose(grad.w, X @ (1 / (1 + np.exp(-z)) - y) / y.size, rtol=1e-5)


def test_every_argument_can_be_mapped():
    """Also X itself, alone and beside the parameters."""
    rng = np.random.default_rng(1)
    X, w = (jnp.asarray(rng.normal(size=s), "float32") for s in ((3, 9, 21), (3, 9)))
    batches = jaxlr.Batch(X, jnp.ones((3, 21)))
    for axes, expected in (
        ((0, 0), np.einsum("an,anm->a", w, X)),
        ((None, 0), np.einsum("n,anm->a", w[0], X)),
    ):
        found, _ = lanes_seen(
            lambda f, axes=axes: jax.vmap(f, axes), w if axes[0] == 0 else w[0], batches
        )
        np.testing.assert_allclose(found, expected / 21, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_loss_and_gradient_of_both(n_classes, whole, monkeypatch, x64):
    monkeypatch.setattr(passes, "_SHARE", 100.0 if whole else 0.0)
    jax.clear_caches()
    params, batch = problem(4, 20, n_classes, weights=True, offset=True, soft=True)
    penalty = jaxlr.Penalty(0.3)
    found = quick(jaxlr.value_and_grad)(params, batch, penalty)
    v = jax.tree.map(jnp.cos, params)
    (expected, hvp, _) = plain_derivatives(params, v, batch, penalty)
    assert_close(found, expected, "float64")
    assert_close(quick(jaxlr.loss)(params, batch, penalty), expected[0], "float64")
    kept = quick(lambda p, v: make_hvp(p, batch, penalty)(v))
    assert_close(kept(params, v), hvp, "float64")
    lanes = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), v)
    twice = quick(jax.vmap(lambda v: make_hvp(params, batch, penalty)(v)))(lanes)
    assert_close(jax.tree.map(lambda a: a[1] / 2, twice), hvp, "float64")
    jax.clear_caches()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_kept_curvature_is_that_of_saturated_probabilities(n_classes, x64):
    params, batch = problem(3, 20, n_classes)
    params = jax.tree.map(lambda a: 1e3 * a, params)
    v = jax.tree.map(jnp.cos, params)
    expected = quick(jaxlr.hvp)(params, v, batch)  # see test_objective for these
    found = quick(lambda p, v: make_hvp(p, batch)(v))(params, v)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_the_kept_curvature_of_large_logits():
    """`σ(z)(1 − σ(z))` at z = 30, where σ(z) is 1 in float32, is e⁻³⁰."""
    batch = jaxlr.Batch(jnp.full((1, 4), 30.0), jnp.ones(4))
    product = make_hvp(jaxlr.Params(jnp.ones(1), jnp.array(0.0)), batch)
    found = product(jaxlr.Params(jnp.ones(1), jnp.array(0.0)))
    np.testing.assert_allclose(found.w, [900 * np.exp(-30.0)], rtol=1e-5)


def test_maps_over_tiles_whose_last_is_ragged():
    X = jnp.arange(42.0).reshape(2, 21)
    batch = jaxlr.Batch(X, jnp.ones(21), weights=jnp.arange(21.0))
    found = passes.map_tiles(lambda tile: (tile.X, tile.X.sum(axis=0)), batch)
    np.testing.assert_array_equal(found[0], X)
    np.testing.assert_array_equal(found[1], X.sum(axis=0))
    slope = jax.grad(
        lambda X: (passes.map_tiles(lambda t: t.X**2, dataclasses.replace(batch, X=X))).sum()
    )(X)
    np.testing.assert_allclose(slope, 2 * X)


@pytest.mark.parametrize(("n", "lanes"), [(5, 7), (5, 50), (50, 50), (70, 60)])
def test_gradients_of_lanes_whichever_factor_is_the_second(n, lanes, dtype):
    rng = np.random.default_rng(n)
    X, w, y = rng.normal(size=(n, 21)), rng.normal(size=(lanes, n)) / n, rng.random(21) < 0.5
    batch = jaxlr.Batch(jnp.asarray(X, dtype), jnp.asarray(y))
    params = jaxlr.Params(jnp.asarray(w, dtype), jnp.zeros(lanes, dtype))
    residual = 1 / (1 + np.exp(-w @ X)) - y
    found = jax.vmap(jaxlr.gradient, (0, None))(params, batch)
    assert_close(found.w, residual @ X.T / 21, dtype)
    assert_close(found.b, residual.mean(axis=1), dtype)
