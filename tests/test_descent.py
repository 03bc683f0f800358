"""The lecture's loop: against NumPy, optax in a Python loop, finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxlr
from tests.helpers import assert_close, plain_loss, problem


def lecture(X, y, alpha, num_steps):
    """Gradient descent as in the lecture, in NumPy."""
    w, b = np.zeros(len(X)), 0.0
    for _ in range(num_steps):
        A = 1 / (1 + np.exp(-(w @ X + b)))
        dZ = A - y
        w, b = w - alpha * X @ dZ / len(y), b - alpha * dZ.mean()
    return w, b


def test_sgd_is_the_lecture(dtype):
    _, batch = problem(4, 21, dtype=dtype)
    params, losses = jaxlr.gradient_descent(
        jaxlr.init_params(4, dtype=dtype), batch, optax.sgd(0.3), 25
    )
    w, b = lecture(np.asarray(batch.X, float), np.asarray(batch.y, float), 0.3, 25)
    assert_close(params, (w, b), dtype)
    assert params.w.dtype == losses.dtype == dtype


@pytest.mark.quick("float32-optimizer0-3", "float64-optimizer1-2")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1, momentum=0.9)])
def test_any_optimizer_and_the_history(dtype, n_classes, optimizer):
    params, batch = problem(3, 17, n_classes, weights=True, offset=True, dtype=dtype)
    penalty = jaxlr.Penalty(0.1, jnp.array([1.0, 0.0, 2.0], dtype))
    end = jaxlr.gradient_descent(params, batch, optimizer, 8, penalty)
    state, losses = optimizer.init(params), []
    for _ in range(8):
        value, grad = jax.value_and_grad(plain_loss)(params, batch, penalty)
        updates, state = optimizer.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(value)
    assert_close(end, (params, jnp.stack(losses)), dtype, factor=10)


def test_line_search_optimizers_get_the_value():
    _, batch = problem(3, 40, soft=True)
    start = jaxlr.init_params(3)
    # No longer than to the optimum: there optax's L-BFGS may divide 0 by 0.
    losses = jaxlr.gradient_descent(start, batch, optax.lbfgs(), 8).losses
    assert losses[-1] < losses[0]
    best = jaxlr.fit(batch).loss
    np.testing.assert_allclose(losses[-1], best, rtol=1e-4)


def test_vmap_over_rates_penalties_and_starts_is_a_loop(dtype):
    params, batch = problem(3, 17, dtype=dtype)
    starts = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    rates, l2 = jnp.array([0.1, 0.4], dtype), jnp.array([0.0, 1.0], dtype)

    def run(start, rate, l2):
        return jaxlr.gradient_descent(start, batch, optax.sgd(rate), 6, jaxlr.Penalty(l2)).params

    lanes = jax.vmap(run)(starts, rates, l2)
    for i in range(2):
        alone = run(jax.tree.map(lambda a, i=i: a[i], starts), rates[i], l2[i])
        assert_close(jax.tree.map(lambda a, i=i: a[i], lanes), alone, dtype)


def test_lanes_are_a_free_dimension_of_the_products_with_X():
    _, batch = problem(5, 37, dtype="float32")
    start = jaxlr.init_params(5, dtype="float32")

    def run(rate):
        return jaxlr.gradient_descent(start, batch, optax.sgd(rate), 3).params

    text = str(jax.jit(jax.vmap(run)).lower(jnp.ones(7, "float32")).compile().as_text())
    shapes = [line.split(" dot(")[0].split()[-1] for line in text.splitlines() if " dot(" in line]
    # Logits of 7 lanes, and their sums over the examples: two matrix products, no third.
    assert sorted(shape.split("{")[0] for shape in shapes) in (
        ["f32[5,7]", "f32[7,37]"], ["f32[37,7]", "f32[5,7]"],
        ["f32[7,37]", "f32[7,5]"], ["f32[37,7]", "f32[7,5]"],
    )  # fmt: skip


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_derivatives_through_the_loop(x64, mode):
    _, batch = problem(3, 17)
    held = problem(3, 9, seed=1)[1]

    def validation(hyper):
        rate, l2 = hyper
        start = jaxlr.init_params(3)
        end = jaxlr.gradient_descent(start, batch, optax.sgd(rate), 7, jaxlr.Penalty(l2))
        return jaxlr.loss(end.params, held)

    hyper, h = jnp.array([0.3, 0.2]), 1e-5
    steps = h * jnp.eye(2)
    expected = [(validation(hyper + e) - validation(hyper - e)) / (2 * h) for e in steps]
    np.testing.assert_allclose(jax.jit(mode(validation))(hyper), expected, rtol=1e-7)


def test_no_steps_and_wrong_steps():
    params, batch = problem()
    end = jaxlr.gradient_descent(params, batch, optax.sgd(0.1), 0)
    assert_close(end.params, params, "float32")
    assert end.losses.shape == (0,)
    with pytest.raises(TypeError, match=r"num_steps must be a Python integer, not 2\.5"):
        jaxlr.gradient_descent(params, batch, optax.sgd(0.1), 2.5)  # pyright: ignore
    with pytest.raises(ValueError, match="num_steps is -1"):
        jaxlr.gradient_descent(params, batch, optax.sgd(0.1), -1)
    with pytest.raises(TypeError, match="under jit, mark it static"):
        jax.jit(lambda k: jaxlr.gradient_descent(params, batch, optax.sgd(0.1), k))(3)


def test_an_epoch_of_minibatches_meets_each_example_once():
    params, batch = problem(3, 12, weights=True)
    still = optax.sgd(0.0)
    ends = [
        jaxlr.minibatch_descent(params, batch, still, 24, 1, jax.random.key(seed)).losses
        for seed in (0, 1)
    ]
    each = [plain_loss(params, batch.select(lambda a, i=i: a[..., i : i + 1])) for i in range(12)]
    for losses in ends:
        np.testing.assert_allclose(np.sort(losses[:12]), np.sort(each), rtol=1e-5)
        np.testing.assert_allclose(np.sort(losses[12:]), np.sort(each), rtol=1e-5)
        assert not np.allclose(losses[:12], losses[12:])
    assert not np.allclose(*ends)


def test_one_minibatch_of_all_examples_is_gradient_descent(dtype):
    params, batch = problem(3, 12, 3, weights=True, offset=True, dtype=dtype)
    key = jax.random.key(0)
    end = jaxlr.minibatch_descent(params, batch, optax.sgd(0.2), 5, 12, key)
    assert_close(end, jaxlr.gradient_descent(params, batch, optax.sgd(0.2), 5), dtype)


@pytest.mark.parametrize("size", [0, 13])
def test_batch_size_out_of_range(size):
    params, batch = problem(3, 12)
    with pytest.raises(ValueError, match=f"batch_size is {size}; the batch has 12 examples"):
        jaxlr.minibatch_descent(params, batch, optax.sgd(0.1), 2, size, jax.random.key(0))


def test_batch_size_is_an_integer():
    params, batch = problem(3, 12)
    with pytest.raises(TypeError, match=r"batch_size must be a Python integer, not 7\.5"):
        jaxlr.minibatch_descent(params, batch, optax.sgd(0.1), 3, 7.5, jax.random.key(0))  # pyright: ignore


def test_seeds_are_lanes():
    params, batch = problem(3, 12)

    def run(key):
        return jaxlr.minibatch_descent(params, batch, optax.adam(0.1), 9, 5, key)

    keys = jax.random.split(jax.random.key(0), 3)
    lanes = jax.jit(jax.vmap(run))(keys)
    for i in range(3):
        assert_close(jax.tree.map(lambda a, i=i: a[i], lanes), run(keys[i]), "float32")


def test_a_diverging_rate_shows_and_stays_in_its_lane():
    _, batch = problem(3, 20)

    def run(rate):
        return jaxlr.gradient_descent(jaxlr.init_params(3), batch, optax.sgd(rate), 5).params.w

    lanes = jax.vmap(run)(jnp.array([0.1, jnp.inf, 0.2]))
    assert not np.isfinite(lanes[1]).any()
    assert_close(lanes[jnp.array([0, 2])], jnp.stack([run(0.1), run(0.2)]), "float32")
