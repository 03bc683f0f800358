"""Helpers for rules: which inputs of a derivative are perturbed, how many lanes a vmap maps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

_MANY = 10**6


def is_fixed(tangent: Any) -> bool:
    """Whether every leaf of a tangent is known to be zero."""
    return all(isinstance(leaf, SymbolicZero) for leaf in jax.tree.leaves(tangent))


def dense(tangent: Any) -> Any:
    """Return the tangent with zeros in the place of symbols for them."""

    def fill(leaf: Any) -> Any:
        return jnp.zeros(leaf.shape, leaf.dtype) if is_fixed(leaf) else leaf

    return jax.tree.map(fill, tangent)


def jvp_of_perturbed(fun: Callable, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    """Return `jax.jvp(fun, primals, tangents)`, without work for the inputs that are fixed."""
    leaves, tree = jax.tree.flatten(primals)
    dots = jax.tree.leaves(tangents)
    moving = [i for i, dot in enumerate(dots) if not isinstance(dot, SymbolicZero)]

    def of_moving(*values):
        new = dict(zip(moving, values, strict=True))
        return fun(*jax.tree.unflatten(tree, [new.get(i, a) for i, a in enumerate(leaves)]))

    return jax.jvp(of_moving, [leaves[i] for i in moving], [dots[i] for i in moving])


def with_lanes(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return `args → fun(lanes, *args)`, lanes the number that all vmaps together map it over.

    It has no derivatives.

    >>> twice = with_lanes(lambda lanes, a: lanes * a)
    >>> int(twice(jnp.array(3))), jax.vmap(twice)(jnp.array([3, 4])).tolist()
    (3, [6, 8])
    """

    def of(lanes: int, fun: Callable[..., Any]) -> Callable[..., Any]:
        @jax.custom_batching.custom_vmap
        def mapped(*args):
            return fun(lanes, *args)

        @mapped.def_vmap
        def more(size, batched, *args):  # a vmap around all those inside it
            axes = jax.tree.map(lambda mine: 0 if mine else None, tuple(batched))

            def inside(lanes, *args):
                return jax.vmap(functools.partial(fun, lanes), axes)(*args)

            # A number that is known only when an exported program is called counts as many.
            out = of(lanes * (size if isinstance(size, int) else _MANY), inside)(*args)
            return out, jax.tree.map(lambda _: True, out)

        return mapped

    return of(1, fun)
