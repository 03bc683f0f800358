"""More features than examples: the same fit in as many features as there are examples.

With `X = QR`, Q of shape (n, m) with orthonormal columns, the weights that a penalty wants
smallest lie in the span of the examples, `w = Qv` with `‖w‖ = ‖v‖`, and `wᵀX = vᵀR`: the fit to R
is the fit to X. Without penalty, where the examples are independent, it is the one of least norm.
Where they are not, Q has columns, and R rows, of zeros: no feature is mere rounding.

R is X but for rounding, of which only X can tell whether it matters: where a search in R ends is
judged on X.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base import lapack
from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import dense
from jaxlr.model.penalty import Penalty

_NICE = 8  # times eps, squared, is about the most that rounding moves Q from orthonormal


class Basis(NamedTuple):
    """Of the span of the examples: Q, of columns orthonormal or zero, as a product.

    Args:
        left: `(n, m)`.
        right: `(m, m)`: the identity; orthogonal or zero; or R⁻¹, where left is X.
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
    Q, R = _basis(dense(batch.X).astype(common_dtype(batch.X, jnp.float32, dtype)))
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
    L = lapack.cholesky(square)
    eye = jnp.eye(len(L), dtype=L.dtype)
    inverse = lapack.solve_lower(L, eye)
    terms = jnp.abs(inverse) @ jnp.sqrt(jnp.diagonal(square))

    nice = terms.max() < _NICE  # false for NaN
    return lax.cond(nice, lambda: (Basis(X, inverse.T), L.T), lambda: _qr(X, L))


def _qr(X: Array, L: Array) -> tuple[Basis, Array]:
    """Return Q and R, by Cholesky factors twice: almost all of it is products.

    The first time, `XᵀX = LLᵀ`, `Q = XL⁻ᵀ` is orthonormal but for the rounding of XᵀX, which the
    squared condition number multiplies; if that is small it is gone the second time: Yamamoto,
    Nakatsukasa, Yanagisawa and Fukaya, Roundoff error analysis of the CholeskyQR2 algorithm, ETNA
    44, 2015. Else by singular vectors.
    """
    first = lapack.solve_right(L, X)
    again = _product(first.T, first)
    error = jnp.linalg.norm(again - jnp.eye(len(L), dtype=L.dtype))

    def twice() -> tuple[Basis, Array]:
        second = lapack.cholesky(again)
        # It is nearly the identity: a product with its inverse is as good as a solve.
        eye = jnp.eye(len(L), dtype=L.dtype)
        inverse = lapack.solve_lower(second, eye)
        return Basis(_product(first, inverse.T), eye), _product(second.T, L.T)

    return lax.cond(error < 0.1, twice, lambda: _singular(X))  # false for NaN


def _singular(X: Array) -> tuple[Basis, Array]:
    """Return Q and R by singular vectors; those that are mere rounding are zero in both.

    A mean far from zero would hide what differs. So the examples that are near one of them, c, are
    taken about it; then that one is zero, and one vector is free for what c adds to the span.
    """
    size = _sizes(X)
    middle = jnp.argsort(size)[(len(size) - 1) // 2]
    c, unit = X[:, middle], jnp.where(size > 0, size, 1)
    near = _sizes(X - c[:, None]) < size
    Y = X - jnp.where(near[None], c[:, None], 0)
    U, s, _ = lapack.svd(Y / unit[None])
    known = s > _rounding(X) * s[0]
    U, k = jnp.where(known[None], U, 0), known.sum(dtype=jnp.uint32)
    rest = c / unit[middle]
    for _ in range(2):  # the second time for what rounding leaves
        rest = rest - _product(U, _product(U.T, rest))
    norm = jnp.linalg.norm(rest)
    more = norm > _rounding(X)
    U = U.at[:, k].set(jnp.where(more, rest / norm, 0))
    mix = _mixing(k + more.astype(k.dtype), len(s), X.dtype)
    Q = _product(U, mix)
    R = _product(Q.T, Y) + jnp.where(near[None], _product(Q.T, c)[:, None], 0)
    # Rounding may depend on the place of a column: the difference of equal examples would be a
    # feature of its own to a fit without penalty.
    return Basis(U, mix), R[:, _first_equal(X)]


def _mixing(k: Array, m: int, dtype) -> Array:
    """Return an orthogonal matrix of k rows without a zero, the cosines of the DCT-IV, in `(m, m)`.

    >>> _mixing(jnp.array(1), 2, jnp.float32).round(4).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    i = jnp.arange(m, dtype=jnp.uint32)
    k = k.astype(jnp.uint32)
    odd, within, k = 2 * i + 1, i < k, jnp.maximum(k, 1)
    turn = odd[:, None] * odd[None] % (8 * k)  # exact: the angle itself would be rounded
    size = k.astype(dtype)
    cosines = jnp.sqrt(2 / size) * jnp.cos(jnp.pi / (4 * size) * turn.astype(dtype))
    return jnp.where(within[:, None] & within[None], cosines, 0)


def _first_equal(X: Array) -> Array:
    """Return for each column the first that is equal to it, but for a chance of about 1 in 2³²."""
    words = lax.bitcast_convert_type(jnp.where(X == 0, 0, X), jnp.uint32)  # 0 and −0 are equal
    words = words.reshape(*X.shape, -1)
    place = jnp.arange(len(X) * words.shape[2], dtype=jnp.uint32).reshape(len(X), 1, -1)
    hashed = _scrambled(words ^ _scrambled(place)).sum(axis=(0, 2), dtype=jnp.uint32)  # no rounding
    first = jnp.argmax(hashed[:, None] == hashed[None], axis=1)
    return jnp.where((X[:, first] == X).all(axis=0), first, jnp.arange(X.shape[1]))


def _scrambled(a: Array) -> Array:
    """Return the finaliser of MurmurHash3 of 32-bit words: each bit moves every other."""
    a = (a ^ a >> 16) * jnp.uint32(0x85EBCA6B)
    a = (a ^ a >> 13) * jnp.uint32(0xC2B2AE35)
    return a ^ a >> 16


def _rounding(X: Array) -> float:
    """Return what rounding makes of a singular value that is zero, beside the largest."""
    return 2 * X.shape[1] ** 0.5 * float(jnp.finfo(X.dtype).eps)


def _sizes(X: Array) -> Array:
    """Return the norms of the columns, whose squares may overflow."""
    largest = jnp.abs(X).max(axis=0)
    return largest * jnp.linalg.norm(X / jnp.where(largest > 0, largest, 1)[None], axis=0)


@_basis.defjvp
def _basis_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """`dR = QᵀdX` and `dQ = (dX − Q·dR)R⁻¹`.

    Any Q and R with `X = QR` will do, so Q turns only out of its span, and R need not stay
    triangular. Where an example is collinear with others Q does not follow it out of the span.
    """
    (X,), (dX,) = primals, tangents
    Q, R = _basis(X)
    dR = _product(Q.right.T, _product(Q.left.T, dX))
    beyond = dX - _product(Q.left, _product(Q.right, dR))
    square = _product(Q.right, R)
    regular = (jnp.tril(square, -1) == 0).all() & (jnp.diagonal(square) != 0).all()
    one = jnp.eye(len(R), dtype=R.dtype)

    def solved() -> Array:
        A = jnp.where(regular, square, one)  # under vmap both are computed, and none may fail
        return jnp.linalg.solve(A.T, beyond.T).T  # A may move from a triangle

    def projected() -> Array:
        size = _sizes(square)
        unit = jnp.where(size > 0, size, 1)[None]
        inverse = jnp.linalg.pinv(square / unit, rtol=2 * _rounding(R))
        return _product(beyond / unit, inverse)

    left = lax.cond(regular, solved, projected)
    return (Q, R), (Basis(left, jnp.zeros_like(Q.right)), dR)
