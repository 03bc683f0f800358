"""The linear model: the two products with X, and predictions.

This is the only room that multiplies by X.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base.arguments import takes_arrays
from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Params
from jaxlr.model.losses import BINARY, SOFTMAX
from jaxlr.model.shapes import check_linear

# Full float32 products on every device: TPUs and GPUs would else round the inputs of a float32
# product to fewer bits, and a certificate would mean nothing.
_PRECISION = lax.Precision.HIGHEST


def logits(params: Params, X: Array, offset: Array | None = None) -> Array:
    """Return the logits `Z = wᵀX + b`.

    Args:
        params: `w` `(n,)` and `b` `()`; or `(n, K)` and `(K,)`.
        X: `(n, m)`: an example is a column.
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
    Z = jnp.tensordot(params.w, X, axes=(0, 0), precision=_PRECISION)
    Z = Z + jnp.asarray(params.b)[..., None]
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


def feature_sums(X: Array, r: Array, lanes: int = 1) -> Array:
    """Return `X rᵀ`, sums over the examples for each feature.

    Args:
        X: `(n, m)`; axes may stand between.
        r: `(m,)`, or `(K, m)`: numbers for each example, such as the residual.
        lanes: how many r share X under vmap, where that is known.

    Returns:
        `(n,)`, or `(n, K)`.

    >>> feature_sums(jnp.array([[1.0, 2.0, 3.0]]), jnp.ones(3)).tolist()
    [6.0]
    """
    # Under vmap an r of two axes has three: as the second factor they would be copied.
    of_classes = X.ndim == r.ndim == 2
    turned = X.ndim == r.ndim + 1 == 2 and _is_slow(lanes) and not _is_slow(len(X))
    if of_classes or turned:
        return jnp.tensordot(r, X, axes=(-1, -1), precision=_PRECISION).T
    return jnp.tensordot(X, r, axes=(-1, -1), precision=_PRECISION)


def _is_slow(columns: int) -> bool:
    """Whether a second factor of so many columns makes a product slow: by half, on CPUs."""
    return 48 < columns < 64
