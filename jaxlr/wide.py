"""More features than examples: the same fit in as many features as there are examples.

With `X = QR`, Q of shape (n, m) with orthonormal columns, the weights that a penalty wants
smallest lie in the span of the examples, `w = Qv` with `‖w‖ = ‖v‖`, and `wᵀX = vᵀR`: the fit to R
is the fit to X. Without penalty, where the examples are independent, it is the one of least norm.

R is X but for rounding, of which only X can tell whether it matters: where a search in R ends is
judged on X.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
from jax import lax

from jaxlr.types import Array, Batch, Params, Penalty

_NICE = 8  # times eps, squared, is about the most that rounding moves Q from orthonormal


class Basis(NamedTuple):
    """Of the span of the examples: Q, of orthonormal columns, as a product.

    Args:
        left: `(n, m)`.
        right: `(m, m)`: the identity; orthogonal; or R⁻¹, where left is X.
    """

    left: Array
    right: Array


def is_wide(batch: Batch, penalty: Penalty) -> bool:
    """Whether there are more features than examples, and no factors, which Q would mix.

    >>> is_wide(Batch(jnp.ones((3, 2)), jnp.ones(2)), Penalty())
    True
    """
    return batch.n_features > batch.m_examples and penalty.factors is None


def narrow(batch: Batch, penalty: Penalty, dtype=jnp.float32) -> tuple[Batch, Basis | None]:
    """Return the batch with no more features than examples, and Q; unchanged and None if not wide.

    Args:
        batch: the examples.
        penalty: only whether it has factors matters.
        dtype: of the arithmetic, if it is wider than that of X.

    >>> batch, Q = narrow(Batch(jnp.eye(5)[:, :2], jnp.array([0, 1])), Penalty())
    >>> batch.X.shape, (Q.left @ Q.right).shape
    ((2, 2), (5, 2))
    """
    if not is_wide(batch, penalty):
        return batch, None
    Q, R = _basis(batch.X.astype(jnp.result_type(batch.X, jnp.float32, dtype)))
    return dataclasses.replace(batch, X=R), Q


def into(Q: Basis | None, params: Params) -> Params:
    """Return the parameters, `v = Qᵀw`, of the narrow batch; unchanged where Q is None.

    >>> Q = Basis(jnp.eye(3)[:, :2], jnp.eye(2))
    >>> into(Q, Params(jnp.array([1.0, 2.0, 3.0]), jnp.array(0.5))).w.tolist()
    [1.0, 2.0]
    """
    if Q is None:
        return params
    return params._replace(w=_product(Q.right.T, _product(Q.left.T, params.w)))


def back(Q: Basis | None, params: Params) -> Params:
    """Return the parameters, `w = Qv`, of the batch as it was; unchanged where Q is None.

    >>> Q = Basis(jnp.eye(3)[:, :2], jnp.eye(2))
    >>> back(Q, Params(jnp.array([1.0, 2.0]), jnp.array(0.5))).w.tolist()
    [1.0, 2.0, 0.0]
    """
    return params if Q is None else params._replace(w=_product(Q.left, _product(Q.right, params.w)))


def _product(A: Array, w: Array) -> Array:
    return jnp.tensordot(A, w, 1, precision=lax.Precision.HIGHEST)


@jax.custom_jvp
def _basis(X: Array) -> tuple[Basis, Array]:
    """Return Q and R of `X = QR`, X of shape (n, m) with n ≥ m.

    R is the Cholesky factor of `XᵀX = RᵀR`, and `Q = XR⁻¹` is not formed, where the examples are
    far from collinear: where the terms of its sums are not much larger than these, of norm one.
    """
    square = _product(X.T, X)
    L = jnp.linalg.cholesky(square, symmetrize_input=False)
    eye = jnp.eye(len(L), dtype=L.dtype)
    inverse = linalg.solve_triangular(L, eye, lower=True)
    terms = jnp.abs(inverse) @ jnp.sqrt(jnp.diagonal(square))

    nice = terms.max() < _NICE  # false for NaN
    return lax.cond(nice, lambda: (Basis(X, inverse.T), L.T), lambda: _qr(X, L))


def _qr(X: Array, L: Array) -> tuple[Basis, Array]:
    """Return Q and R, by Cholesky factors twice: almost all of it is products.

    The first time, `XᵀX = LLᵀ`, `Q = XL⁻ᵀ` is orthonormal but for the rounding of XᵀX, which the
    squared condition number multiplies; if that is small it is gone the second time. Else by
    reflections: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, Roundoff error analysis of the
    CholeskyQR2 algorithm, ETNA 44, 2015.
    """
    first = lax.linalg.triangular_solve(L, X, left_side=False, lower=True, transpose_a=True)
    again = _product(first.T, first)
    error = jnp.linalg.norm(again - jnp.eye(len(L), dtype=L.dtype))

    def twice() -> tuple[Basis, Array]:
        second = jnp.linalg.cholesky(again, symmetrize_input=False)
        # It is nearly the identity: a product with its inverse is as good as a solve.
        eye = jnp.eye(len(L), dtype=L.dtype)
        inverse = linalg.solve_triangular(second, eye, lower=True)
        return Basis(_product(first, inverse.T), eye), _product(second.T, L.T)

    return lax.cond(error < 0.1, twice, lambda: _reflections(X))  # false for NaN


def _reflections(X: Array) -> tuple[Basis, Array]:
    """Return Q and R by reflections, mixed so that no feature is mere rounding.

    Of collinear examples some rows of R are what rounding leaves, and a search would take such a
    feature for one of very small scale. Where all features are mixed, rounding is as small beside
    each of them as it is in X; and examples that are equal have columns that are equal.
    """
    Q, mix = jnp.linalg.qr(X)[0], _mixing(X.shape[1], X.dtype)
    return Basis(Q, mix), _product(_product(Q, mix).T, X)


def _mixing(m: int, dtype) -> Array:
    """Return an orthogonal matrix none of whose entries is zero: the cosines of the DCT-IV."""
    i = 2 * jnp.arange(m, dtype=jnp.uint32) + 1
    turn = i[:, None] * i[None] % (8 * m)  # exact: the angle itself would be rounded
    return (2 / m) ** 0.5 * jnp.cos(jnp.pi / (4 * m) * turn.astype(dtype))


def _rounding(R: Array) -> Array:
    """Return what an entry of R may be for rounding alone, by columns."""
    largest = jnp.abs(R).max(axis=0)  # its square may overflow
    norm = largest * jnp.linalg.norm(R / jnp.where(largest > 0, largest, 1)[None], axis=0)
    return 4 * len(R) ** 0.5 * jnp.finfo(R.dtype).eps * norm


@_basis.defjvp
def _basis_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """`dR = QᵀdX` and `dQ = (dX − Q·dR)R⁻¹`.

    Any Q and R with `X = QR` will do, so Q turns only out of its span, and R need not stay
    triangular. Where an example is collinear with others Q does not follow it out of the span.
    """
    (X,), (dX,) = primals, tangents
    Q, R = _basis(X)
    dR = _product(Q.right.T, _product(Q.left.T, dX))
    square = _product(Q.right, R)  # the identity, or upper triangular
    diagonal = jnp.diagonal(square)
    none = jnp.abs(diagonal) <= _rounding(square)
    divisor = jnp.where(none, jnp.finfo(R.dtype).max ** 0.5, diagonal)
    square = square + jnp.diag(divisor - diagonal)
    beyond = dX - _product(Q.left, _product(Q.right, dR))
    left = jnp.linalg.solve(square.T, beyond.T).T  # R may move from a triangle
    return (Q, R), (Basis(left, jnp.zeros_like(Q.right)), dR)
