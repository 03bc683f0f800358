"""More features than examples: the same fit in as many features as there are examples.

With `X = QR`, Q of shape (n, m) with orthonormal columns, the weights that a penalty wants
smallest lie in the span of the examples, `w = Qv` with `‖w‖ = ‖v‖`, and `wᵀX = vᵀR`: the fit to R
is the fit to X. Without penalty it is the one of least norm. Gradients have the same norm.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import lax

from jaxlr.types import Array, Batch, Params, Penalty


def narrow(batch: Batch, penalty: Penalty) -> tuple[Batch, Array | None]:
    """Return the batch with no more features than examples, and Q.

    Nothing is changed, and Q is None, where there are fewer features than examples, or factors
    of the penalty, which Q would mix.

    Args:
        batch: the examples.
        penalty: only whether it has factors matters.

    >>> batch, Q = narrow(Batch(jnp.eye(5)[:, :2], jnp.array([0, 1])), Penalty())
    >>> batch.X.shape, Q.shape
    ((2, 2), (5, 2))
    """
    if batch.n_features <= batch.m_examples or penalty.factors is not None:
        return batch, None
    Q, R = jnp.linalg.qr(batch.X.astype(jnp.result_type(batch.X, jnp.float32)))
    return dataclasses.replace(batch, X=R), Q


def into(Q: Array | None, params: Params) -> Params:
    """Return the parameters, `v = Qᵀw`, of the narrow batch; unchanged where Q is None.

    >>> into(jnp.eye(3)[:, :2], Params(jnp.array([1.0, 2.0, 3.0]), jnp.array(0.5))).w.tolist()
    [1.0, 2.0]
    """
    return params if Q is None else params._replace(w=_product(Q.T, params.w))


def back(Q: Array | None, params: Params) -> Params:
    """Return the parameters, `w = Qv`, of the batch as it was; unchanged where Q is None.

    >>> back(jnp.eye(3)[:, :2], Params(jnp.array([1.0, 2.0]), jnp.array(0.5))).w.tolist()
    [1.0, 2.0, 0.0]
    """
    return params if Q is None else params._replace(w=_product(Q, params.w))


def _product(A: Array, w: Array) -> Array:
    return jnp.tensordot(A, jnp.asarray(w, A.dtype), 1, precision=lax.Precision.HIGHEST)
