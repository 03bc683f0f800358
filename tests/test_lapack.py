"""LAPACK's functions of many matrices: their values, and that no thread waits for another."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlr.base import lapack
from tests.helpers import assert_close, quick

ALONE = 200_000  # operations from which on jaxlib 0.10 shares a call out over its threads


@pytest.fixture(autouse=True, params=[True, False], ids=["waits", "does not wait"])
def waits(request, monkeypatch):
    """A jaxlib whose threads wait for each other, and one whose do not."""
    monkeypatch.setattr(lapack, "_WAITS", request.param)
    return request.param


def matrices(count, rows, dtype, seed=0):
    """Return positive definite matrices, `(count, rows, rows)`."""
    A = np.random.default_rng(seed).normal(size=(count, rows, rows))
    return jnp.asarray(A @ A.transpose(0, 2, 1) + rows * np.eye(rows), dtype)


def each(fun, *stacks):
    """Return the results of NumPy's function of each matrix."""
    return [np.stack(a) for a in zip(*map(fun, *stacks), strict=True)]


CASES = {
    "cholesky": (lapack.cholesky, lambda A: (np.linalg.cholesky(A),)),
    "lower": (
        lambda A: lapack.solve_lower(A, jnp.eye(len(A), dtype=A.dtype)),
        lambda A: (np.linalg.inv(np.tril(A)),),
    ),
    "right": (lambda A: lapack.solve_right(A, A), lambda A: (A @ np.linalg.inv(np.tril(A)).T,)),
    "eigh": (lambda A: lapack.eigh(A)[0], lambda A: (np.linalg.eigvalsh(A),)),
    "qr": (lambda A: jnp.abs(lapack.qr(A)[1]), lambda A: (np.abs(np.linalg.qr(A)[1]),)),
    "svd": (lambda A: lapack.svd(A)[1], lambda A: (np.linalg.svd(A)[1],)),
}


@pytest.mark.parametrize("name", CASES)
def test_of_many_matrices(name, dtype):
    fun, plain = CASES[name]
    A = matrices(12, 24, dtype)
    expected = each(plain, np.asarray(A, np.float64))
    assert_close(quick(jax.vmap(fun))(A), expected, dtype, 10)
    twice = quick(jax.vmap(jax.vmap(fun)))(A.reshape(3, 4, 24, 24))
    assert_close(twice.reshape(expected[0].shape), expected, dtype, 10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("count", "rows"), [(100, 3), (100, 24), (5, 80)])
def test_a_call_is_work_for_one_thread(name, count, rows, waits):
    """In the units of jaxlib, in which one step of a singular value decomposition counts 10."""
    fun, _ = CASES[name]
    text = jax.jit(jax.vmap(fun)).lower(matrices(count, rows, "float32")).as_text()
    calls = re.findall(
        r"custom_call @lapack_s(\w+?)_ffi.*?\(tensor<(?:(\d+)x)??(\d+)x(\d+)xf", text
    )
    assert calls
    work = {"syevd": 5, "gesdd": 10, "geqrf": 4 / 3, "orgqr": 4 / 3, "potrf": 1 / 3, "trsm": 1}
    most = max(
        int(many or 1) * work[call] * int(r) * int(c) * min(int(r), int(c)) * (int(many or 1) > 1)
        for call, many, r, c in calls
    )
    assert most <= ALONE or not waits


@pytest.mark.parametrize("name", ["cholesky", "lower", "eigh"])
def test_the_derivatives_are_those_of_one_matrix(name, x64):
    fun, _ = CASES[name]
    A, dA = matrices(3, 4, "float64"), matrices(3, 4, "float64", seed=1)
    step = 1e-6
    by_differences = (jax.vmap(fun)(A + step * dA) - jax.vmap(fun)(A - step * dA)) / (2 * step)
    moved = quick(lambda A, dA: jax.jvp(jax.vmap(fun), (A,), (dA,))[1])(A, dA)
    np.testing.assert_allclose(moved, by_differences, rtol=1e-6, atol=1e-7)
    up = quick(jax.grad(lambda A: jax.vmap(fun)(A).sum()))(A)
    np.testing.assert_allclose((up * dA).sum(), by_differences.sum(), rtol=1e-6)
