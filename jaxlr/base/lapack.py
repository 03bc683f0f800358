"""LAPACK's functions of many matrices, called so that no thread waits for the work of another."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base.pytrees import Array

_VERSION = tuple(int(part) for part in re.findall(r"\d+", version("jaxlib"))[:3])
# On CPUs jaxlib 0.10.0 to 0.11.0 splits a call for many matrices over its threads, and the thread
# that calls waits for them (`ParallelBatchMap`, which 0.11.1 no longer uses). If all of them wait,
# as with one device or one Python thread for each core, none is left to work: programs never end.
_WAITS = (0, 10) <= _VERSION < (0, 11, 1)
_ALONE = 200_000  # operations, as jaxlib counts them, that a thread does without the others


def in_turn(fun: Callable[..., Any], operations: int) -> Callable[..., Any]:
    """Return fun so that under vmap, on CPUs, its calls are small enough for one thread each.

    On other devices, and with a jaxlib whose threads do not wait, one call is for all matrices.
    Derivatives are those of fun.

    Args:
        fun: takes matrices, `(…, r, c)`, with the same axes before the last two; as many results.
        operations: of `r·c·min(r, c)` of the largest one, how many times that fun takes at most.

    >>> squares = jnp.ones((3, 2, 2)) + jnp.eye(2)[None]
    >>> jax.vmap(in_turn(jnp.linalg.cholesky, 1))(squares).shape
    (3, 2, 2)
    """

    def some_at_a_time(*flat: Array) -> Any:
        largest = max(r * c * min(r, c) for *_, r, c in (jnp.shape(a) for a in flat))
        size, count = max(1, _ALONE // (operations * largest)), jnp.shape(flat[0])[0]
        if not isinstance(count, int):  # known only when an exported program is called
            return lax.map(lambda matrices: fun(*matrices), flat)
        if count <= size:
            return fun(*flat)
        return lax.map(lambda matrices: fun(*matrices), flat, batch_size=size)

    @jax.custom_batching.custom_vmap
    def many(*matrices: Array) -> Any:
        axes = jnp.shape(matrices[0])[:-2]
        if not axes:
            return fun(*matrices)
        flat = (a.reshape(-1, *a.shape[-2:]) for a in matrices)
        out = lax.platform_dependent(*flat, cpu=some_at_a_time, default=fun)
        return jax.tree.map(lambda a: a.reshape(*axes, *a.shape[1:]), out)

    @many.def_vmap
    def _(size: int, batched: list[bool], *matrices: Array) -> tuple[Any, Any]:
        matrices = tuple(
            a if mine else jnp.broadcast_to(a, (size, *jnp.shape(a)))
            for a, mine in zip(matrices, batched, strict=True)
        )
        out = many(*matrices)
        return out, jax.tree.map(lambda _: True, out)

    @jax.custom_jvp
    def of(*matrices: Array) -> Any:
        return many(*matrices)

    @of.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        return jax.jvp(fun, primals, tangents)

    return lambda *matrices: of(*matrices) if _WAITS else fun(*matrices)


def _cholesky(A: Array) -> Array:
    return lax.linalg.cholesky(A, symmetrize_input=False)


def _solve_lower(F: Array, B: Array) -> Array:
    return lax.linalg.triangular_solve(F, B, left_side=True, lower=True)


def _solve_right(F: Array, B: Array) -> Array:
    return lax.linalg.triangular_solve(F, B, left_side=False, lower=True, transpose_a=True)


def _svd(A: Array) -> tuple[Array, Array, Array]:
    return tuple(jnp.linalg.svd(A, full_matrices=False))


# Times r·c·min(r, c), rounded up: jaxlib counts 1/3, 1, 1, 5 and 10, and of the two parts of a QR
# factorisation 4/3 each.
cholesky = in_turn(_cholesky, 1)  # F of `A = FFᵀ`
solve_lower = in_turn(_solve_lower, 1)  # F⁻¹B
solve_right = in_turn(_solve_right, 1)  # BF⁻ᵀ
eigh = in_turn(lambda A: tuple(jnp.linalg.eigh(A)), 10)  # eigenvalues, in ascending order, vectors
qr = in_turn(lambda A: tuple(jnp.linalg.qr(A)), 2)  # Q, R
svd = in_turn(_svd, 10)  # U, s, Vᵀ of the least shapes
