"""More features than examples: the same fit in as many features as there are examples.

With `X = QR`, Q of shape (n, m) with orthonormal columns, the weights that a penalty wants
smallest lie in the span of the examples, `w = Qv` with `‖w‖ = ‖v‖`, and `wᵀX = vᵀR`: the fit to R
is the fit to X. Without penalty it is the one of least norm. Gradients have the same norm.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jaxlr.types import Array, Batch, Params, Penalty


def narrow(
    batch: Batch, penalty: Penalty
) -> tuple[Batch, Callable[[Params], Params], Callable[[Params], Params]]:
    """Return the batch with no more features than examples, and the way there and back.

    Nothing is changed where there are fewer features than examples, or factors of the penalty,
    which the rotation Q would mix.

    Args:
        batch: the examples.
        penalty: only whether it has factors matters.

    Returns:
        The batch; `into`, which maps params to those of the new batch; and `back`, which also
        takes lanes of params.

    >>> batch = Batch(jnp.eye(5)[:, :2], jnp.array([0, 1]))
    >>> small, into, back = narrow(batch, Penalty())
    >>> small.X.shape, back(Params(jnp.ones(2), jnp.array(0.0))).w.shape
    ((2, 2), (5,))
    """
    if batch.n_features <= batch.m_examples or penalty.factors is not None:
        return batch, lambda params: params, lambda params: params
    dtype = jnp.result_type(batch.X, jnp.float32)
    Q, R = jnp.linalg.qr(batch.X.astype(dtype))
    axis = -1 if batch.n_classes == 2 else -2

    def rotate(w: Array, Q: Array) -> Array:
        w = jnp.tensordot(jnp.asarray(w, dtype), Q, (axis, 0), precision=lax.Precision.HIGHEST)
        return jnp.moveaxis(w, -1, axis)

    small = Batch(R, batch.y, batch.weights, batch.offset, batch.n_classes)
    return small, lambda p: Params(rotate(p.w, Q), p.b), lambda p: Params(rotate(p.w, Q.T), p.b)
