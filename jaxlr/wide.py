"""More features than examples: the same fit in as many features as there are examples.

With `X = QR`, Q of shape (n, m) with orthonormal columns, the weights that a penalty wants
smallest lie in the span of the examples, `w = Qv` with `‖w‖ = ‖v‖`, and `wᵀX = vᵀR`: the fit to R
is the fit to X. Without penalty it is the one of least norm. Gradients have the same norm.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
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
    Q, R = _qr(batch.X.astype(jnp.result_type(batch.X, jnp.float32)))
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


@jax.custom_jvp
def _qr(X: Array) -> tuple[Array, Array]:
    """Return Q and R of `X = QR`, X of shape (n, m) with n ≥ m.

    Where its examples are far from collinear, by Cholesky factors of `XᵀX = RᵀR`, twice: almost
    all of it is products. The first time `Q = XR⁻¹` is orthonormal but for the rounding of XᵀX,
    which the squared condition number multiplies; if that is small it is gone the second time.
    Else by reflections: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, Roundoff error analysis of
    the CholeskyQR2 algorithm, ETNA 44, 2015.
    """
    first, R = _cholesky_qr(X)
    again = _product(first.T, first)
    error = jnp.linalg.norm(again - jnp.eye(len(R), dtype=R.dtype))

    def twice():
        L = jnp.linalg.cholesky(again, symmetrize_input=False)
        # L is nearly the identity: a product with its inverse is as good as a solve.
        inverse = linalg.solve_triangular(L, jnp.eye(len(L), dtype=L.dtype), lower=True)
        return _product(first, inverse.T), _product(L.T, R)

    return lax.cond(error < 0.1, twice, lambda: tuple(jnp.linalg.qr(X)))  # false for NaN


def _cholesky_qr(X: Array) -> tuple[Array, Array]:
    L = jnp.linalg.cholesky(_product(X.T, X), symmetrize_input=False)
    Q = lax.linalg.triangular_solve(L, X, left_side=False, lower=True, transpose_a=True)
    return Q, L.T


@_qr.defjvp
def _qr_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """`dR = (M − Ω)R` and `dQ = dX·R⁻¹ − Q(M − Ω)`, with `M = QᵀdX·R⁻¹`.

    Ω, antisymmetric, has the lower triangle of M: it keeps R triangular and Q orthonormal.
    """
    (X,), (dX,) = primals, tangents
    Q, R = _qr(X)
    dXR = lax.linalg.triangular_solve(R, dX, left_side=False, lower=False)
    M = _product(Q.T, dXR)
    lower = jnp.tril(M, -1)
    upper = M - lower + lower.T
    return (Q, R), (dXR - _product(Q, upper), _product(upper, R))
