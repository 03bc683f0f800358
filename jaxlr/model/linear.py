"""The linear model: logits and predictions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxlr.base.arguments import takes_arrays
from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Params
from jaxlr.model.features import products
from jaxlr.model.losses import BINARY, SOFTMAX
from jaxlr.model.shapes import check_linear


def logits(params: Params, X: Array, offset: Array | None = None) -> Array:
    """Return the logits `Z = wᵀX + b`.

    Args:
        params: `w` `(n,)` and `b` `()`; or `(n, K)` and `(K,)`.
        X: `(n, m)`: an example is a column; an array, or `Features` of another kind.
        offset: None, or added to the logits.

    Returns:
        `(m,)`, or `(K, m)`.

    Raises:
        ValueError: params and X do not fit each other.
        TypeError: they are of another type.

    >>> logits(Params(jnp.array([1.0, 2.0]), jnp.array(0.5)), jnp.eye(2)).tolist()
    [1.5, 2.5]
    """
    check_linear(params, X)
    # b is one number a class; its new last axis of length one is stretched along the examples.
    Z = products(params.w, X) + jnp.asarray(params.b)[..., None]
    return Z if offset is None else Z + offset


@takes_arrays
@jax.jit
def predict_proba(params: Params, X: Array, offset: Array | None = None) -> Array:
    """Return `σ(Z)`, the probability of class 1, `(m,)`; or `softmax(Z)`, `(K, m)`.

    >>> predict_proba(Params(jnp.zeros(2), jnp.array(0.0)), jnp.eye(2)).tolist()
    [0.5, 0.5]
    """
    Z = logits(params, X, offset)
    return (BINARY if Z.ndim == 1 else SOFTMAX).probability(Z)


@takes_arrays
@jax.jit
def predict(params: Params, X: Array, offset: Array | None = None) -> Array:
    """Return the most likely class of each example: `(m,)` integers.

    >>> predict(Params(jnp.array([1.0, -1.0]), jnp.array(0.0)), jnp.eye(2)).tolist()
    [1, 0]
    """
    Z = logits(params, X, offset)
    return (Z > 0).astype(jnp.int32) if Z.ndim == 1 else Z.argmax(axis=0).astype(jnp.int32)
