"""A lifted function, compiled once, along many lines: `⟨u, f(x + t·d)⟩` for each t, d and u."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlr.audit.flat import Arrays, Leaf, ravel, split
from jaxlr.audit.lifted import Lifted
from jaxlr.audit.wide import Unsupported, is_float, widen

POINTS = 13
"""Values on a line: the point itself and a ladder of six steps on both sides."""

QUICK = {"xla_backend_optimization_level": 0}
"""Compiler options: most of these programs take longer to compile than to run."""

_CHUNK_ROWS, _CHUNK_NUMBERS = 64, 2**22


class Inputs(NamedTuple):
    """Everything that a lifted function reads, so that each part can be perturbed.

    Args:
        x: the judged leaves as a vector, `(n,)`.
        side: the other floating-point leaves.
        consts: the arrays that the function closes over.

    """

    x: np.ndarray
    side: Arrays
    consts: Arrays


class Mapped(NamedTuple):
    """A lifted function of `(xs, side, *extra)`, compiled at its first use.

    Args:
        lifted: the function.
        at: `(inputs, *extra) → (m,)`: its value as a vector on the host.
        along: `(inputs, D, T, U, *extra) → (R, S, M)`: `⟨U[k], f(x + T[r, s]·D[r])⟩`.

    """

    lifted: Lifted
    at: Callable[..., np.ndarray]
    along: Callable[..., np.ndarray]


def in_chunks(run: Callable, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return run over equally long arrays, in chunks of one size so that it compiles once."""
    count, n = rows[0].shape
    size = min(n + 8, _CHUNK_ROWS, max(4, _CHUNK_NUMBERS // max(n, 1)))
    parts = []
    for start in range(0, count, size):
        chunk = [a[start : start + size] for a in rows]
        missing = size - len(chunk[0])
        padded = [np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for a in chunk]
        parts.append(np.asarray(run(*padded))[: size - missing])
    return np.concatenate(parts)


def mapped(lifted: Lifted, leaves: Sequence[Leaf], dual: bool) -> Mapped:
    """Return a lifted function as one of real vectors.

    Args:
        lifted: a function of `(xs, side, *extra)`.
        leaves: the places of xs in the vector.
        dual: whether its outputs are a gradient.

    """

    def value(x, side, consts, extra):
        parts = split(x, leaves)
        if lifted.x64:
            side, extra = jax.tree.map(lambda a: widen(a, jnp.float64), (side, extra))
        else:
            parts = [a.astype(leaf.dtype) for a, leaf in zip(parts, leaves, strict=True)]
        return ravel(lifted.run(consts, parts, side, *extra), dual)

    def on_lines(x, side, consts, D, T, U, extra):
        def one(pair):
            row, t = pair
            return U @ value(x + t * D[row], side, consts, extra).astype(U.dtype)

        R, S = T.shape
        pairs = (jnp.repeat(jnp.arange(R), S), T.ravel())
        return lax.map(one, pairs).reshape(R, S, -1)

    compiled, compiled_lines = value, on_lines
    if lifted.traceable:
        compiled = jax.jit(value, compiler_options=QUICK)
        compiled_lines = jax.jit(on_lines, compiler_options=QUICK)

    def at(inputs: Inputs, *extra):
        with jax.enable_x64(lifted.x64 or jax.config.read("jax_enable_x64")):
            return np.asarray(
                compiled(jnp.asarray(inputs.x), inputs.side, inputs.consts, extra), np.float64
            )

    def along(inputs: Inputs, D, T, U, *extra):
        if not lifted.traceable:
            points = ((inputs.x + t * d) for d, ts in zip(D, T, strict=True) for t in ts)
            values = [U @ at(inputs._replace(x=x), *extra) for x in points]
            return np.array(values).reshape(*T.shape, -1)
        with jax.enable_x64(lifted.x64 or jax.config.read("jax_enable_x64")):
            x, u = jnp.asarray(inputs.x), jnp.asarray(U)

            def run(D, T):
                D, T = jnp.asarray(D), jnp.asarray(T)
                return compiled_lines(x, inputs.side, inputs.consts, D, T, u, extra)

            return in_chunks(run, (D, T)).astype(np.float64)

    return Mapped(lifted, at, along)


def derivative_along(
    lifted: Lifted,
    leaves: Sequence[Leaf],
    inputs: Inputs,
    D: np.ndarray,
    U: np.ndarray,
    dual: bool = False,
) -> np.ndarray:
    """Return `⟨U[k], J·D[r]⟩`, `(M, R)`, from a lifted forward mode `(xs, side, vs) → tangents`."""

    def one(x, side, consts, d):
        tangents = lifted.run(consts, split(x, leaves), side, split(d, leaves))
        return ravel(tangents, dual)

    return _rows(lifted, one, inputs, D, U)


def complex_step(
    lifted: Lifted, leaves: Sequence[Leaf], inputs: Inputs, D: np.ndarray, U: np.ndarray
) -> np.ndarray:
    """Return `⟨U[k], f'·D[r]⟩ = Im ⟨U[k], f(x + ih·D[r])⟩ / h`, `(M, R)`, with h = 1e-20.

    There is no difference in it, so no digits are lost (Squire & Trapp 1998).

    Raises:
        Exception: when an operation of f has no complex counterpart.

    """
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves):
        raise Unsupported("a complex argument")
    h = 1e-20

    def one(x, side, consts, d):
        outs = lifted.complex_run(consts, split(x + 1j * h * d, leaves), side)
        return jnp.concatenate([a.imag.ravel() / h for a in outs if is_float(a)])

    return _rows(lifted, one, inputs, D, U)


def _rows(
    lifted: Lifted, one: Callable, inputs: Inputs, D: np.ndarray, U: np.ndarray
) -> np.ndarray:
    if not (lifted.x64 and lifted.traceable):
        raise Unsupported("a function that is not traced in float64")

    def mapped_rows(x, side, consts, D, U):
        return lax.map(lambda d: U @ one(x, side, consts, d), D)

    run = jax.jit(mapped_rows, compiler_options=QUICK)
    with jax.enable_x64(True):
        x, u = jnp.asarray(inputs.x), jnp.asarray(U)
        return in_chunks(
            lambda rows: run(x, inputs.side, inputs.consts, jnp.asarray(rows), u), (D,)
        ).T
