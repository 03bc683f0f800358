"""What arrays and weights are to jaxlr, the shape of a logit, and dtypes that hold several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp

Array: TypeAlias = Any
"""An array, a tracer, or what JAX takes for one."""

Take: TypeAlias = Callable[[Array], Array]
"""Picks some of the examples, which lie along the last axis of the array it is given."""


@runtime_checkable
class LazyWeights(Protocol):
    """Example weights that are computed a tile at a time, from something smaller than floats.

    Any pytree with this method can stand where an array of weights can. Its arrays that have
    an entry for each example are read through `take` only.
    """

    def select(self, take: Take) -> Array:
        """Return the weights of the examples that `take` picks."""
        ...


def logit_shape(n_classes: int) -> tuple[int, ...]:
    """Return the shape of one example's logits: `()` for two classes, `(K,)` for more."""
    return () if n_classes == 2 else (n_classes,)


def common_dtype(*given: Any) -> Any:
    """Return the dtype that holds all of them, also if JAX is set to promote none by itself.

    Of features that are no array it is their `dtype` that counts.

    >>> with jax.numpy_dtype_promotion("strict"):
    ...     print(common_dtype(jnp.bfloat16, jnp.float32))
    float32
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*(a.dtype if hasattr(a, "products") else a for a in given))
