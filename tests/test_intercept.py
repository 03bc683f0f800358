"""Batches without an intercept: derivatives against autodiff of the plain loss, fits by mirror."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxlr
from jaxlr.model.solution import Status
from tests.helpers import assert_close, plain_loss, problem

L2 = jaxlr.Penalty(0.1)


def without(batch):
    return dataclasses.replace(batch, intercept=False)


@pytest.mark.quick("2")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_derivatives_are_those_of_the_plain_loss_at_b_zero(x64, quick_programs, n_classes):
    params, batch = problem(3, 20, n_classes, weights=True)
    v, _ = problem(3, 20, n_classes, seed=1)

    def plain(params):
        return plain_loss(params._replace(b=jnp.zeros_like(params.b)), batch, L2)

    batch_ = without(batch)
    assert_close(jaxlr.loss(params, batch_, L2), plain(params), "float64")
    assert_close(jaxlr.gradient(params, batch_, L2), jax.grad(plain)(params), "float64")
    assert_close(jax.grad(jaxlr.loss)(params, batch_, L2), jax.grad(plain)(params), "float64")
    expected = jax.jvp(jax.grad(plain), (params,), (v,))[1]
    assert_close(jaxlr.hvp(params, v, batch_, L2), expected, "float64")
    expected = jax.hessian(plain)(params)
    assert_close(jaxlr.hessian(params, batch_, L2), expected, "float64")


@pytest.mark.quick("True")
@pytest.mark.parametrize("x64_on", [False, True])
def test_a_fit_is_that_to_the_examples_and_their_mirror_images(x64_on):
    """(−x, 1−y) has the loss of (x, y) without an intercept; with both, the best one is zero."""
    with jax.enable_x64(x64_on):
        _, batch = problem(3, 60, weights=True, offset=True)
        X, y, c, o = (jnp.asarray(a) for a in (batch.X + 1, batch.y, batch.weights, batch.offset))
        pairs = ((X, -X), (y, 1 - y), (c, c), (o, -o))
        both = [jnp.concatenate(pair, axis=-1) for pair in pairs]
        mirrored = jaxlr.Batch(both[0], both[1], both[2], both[3])
        solution = jaxlr.fit(without(jaxlr.Batch(X, y, c, o)), L2).raise_if_failed()
        expected = jaxlr.fit(mirrored, L2).raise_if_failed()
        assert solution.params.b == 0
        assert solution.suboptimality < (1e-12 if x64_on else 1e-6)
        atol = 1e-7 if x64_on else 1e-4
        np.testing.assert_allclose(solution.params.w, expected.params.w, atol=atol)


@pytest.mark.quick("4-40")
@pytest.mark.parametrize(("n", "m"), [(4, 40), (30, 12), (1, 40_000)])
def test_softmax_fits_are_stationary_and_certified(x64, n, m):
    _, batch = problem(n, m, 3)
    batch = without(dataclasses.replace(batch, X=batch.X + 1))
    solution = jaxlr.fit(batch, L2).raise_if_failed()
    gradient = jax.grad(plain_loss)(solution.params, batch, L2)
    assert np.abs(gradient.w).max() < 1e-8
    assert not ravel_pytree(solution.params.b)[0].any()
    assert 0 <= solution.suboptimality < 1e-12


def test_a_class_without_examples_has_an_optimum_unless_nothing_is_penalised():
    _, batch = problem(2, 20)
    single = without(jaxlr.Batch(batch.X, jnp.zeros(20)))
    assert Status(int(jaxlr.fit(single, L2).status)).ok
    one_side = without(jaxlr.Batch(jnp.abs(batch.X), jnp.zeros(20)))
    assert jaxlr.fit(one_side).status == Status.NO_FINITE_OPTIMUM
