"""Helpers for derivative rules that look at which of their inputs are perturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


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
