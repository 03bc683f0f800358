"""What a case of the catalogue is: a function with its derivative rule, at a point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Case(NamedTuple):
    """A function to be judged.

    Args:
        name: what is wrong with its gradient, or awkward about it.
        fun: a scalar or array-valued function of arrays, its derivative rule included.
        args: the point.
        modes: the modes of differentiation that exist, for tools that must be told.
        open: why an honest answer is "cannot tell"; "" where it is not.

    """

    name: str
    fun: Callable[..., Any]
    args: tuple[Any, ...]
    modes: tuple[str, ...] = ("fwd", "rev")
    open: str = ""


def by_hand(fun: Callable, grad: Callable) -> Callable:
    """Return a scalar function whose reverse mode is `grad(*args)`, a tuple as long as args."""
    ruled = jax.custom_vjp(fun)

    def backward(args, u):
        return tuple(u * g for g in grad(*args))

    ruled.defvjp(lambda *args: (fun(*args), args), backward)
    return ruled


def forward_by_hand(fun: Callable, slope: Callable) -> Callable:
    """Return an elementwise function whose tangents are `slope(x)·v`."""
    ruled = jax.custom_jvp(fun)
    ruled.defjvp(lambda primals, tangents: (fun(*primals), slope(*primals) * tangents[0]))
    return ruled


def ruled(fun: Callable, backward: Callable, *, residual=lambda x, out: x) -> Callable:
    """Return an array-valued function with a rule `(residual, u) → gradient`."""
    rule = jax.custom_vjp(fun)

    def forward(x):
        out = fun(x)
        return out, residual(x, out)

    rule.defvjp(forward, lambda r, u: (backward(r, u),))
    return rule


def newton(slip: float) -> Callable:
    """Return the sum of the roots of z³ + z = a, by a loop under vmap that runs in float32.

    Args:
        slip: a factor on the implicit derivative 1/(3z² + 1).

    """

    def root(a):
        a = a.astype(jnp.float32)

        def step(s):
            z, _ = s
            return z - (z**3 + z - a) / (3 * z**2 + 1), z

        return lax.while_loop(lambda s: abs(s[0] - s[1]) > 1e-6, step, (a, a + 1))[0]

    roots = jax.custom_jvp(jax.vmap(root))
    roots.defjvp(
        lambda p, t: (roots(*p), slip * t[0].astype(jnp.float32) / (3 * roots(*p) ** 2 + 1))
    )
    return lambda a: roots(a).sum()
