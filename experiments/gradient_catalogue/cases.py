"""What a case of the catalogue is: a function with its derivative rule, at a point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


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
