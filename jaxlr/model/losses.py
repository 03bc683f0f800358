"""Pointwise in the logits: loss, residual and curvature, by hand. Nothing here knows X.

With `z` the logits of an example and `y` its label:

    binary     a = σ(z)         ℓ = −y·log a − (1−y)·log(1−a)    dz = a − y    s = a(1−a)
    softmax    a = softmax(z)   ℓ = −Σₖ yₖ·log aₖ                dz = a − y    s = diag(a) − aaᵀ

Each is evaluated with one exponential an element, `exp(−|z|)` or `exp(z − max z)`, and without
a subtraction of nearly equal numbers: probabilities near one are handled as one minus a small
number, and the small number is the one that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxlr.base.pytrees import Array


class PointwiseLoss(NamedTuple):
    """A loss of logits and labels, and its derivatives by hand; examples on the last axis.

    Args:
        value_and_residual: `(z, y) → (ℓ, dz)`.
        curvature_product: `(z, u) → s·u`, the second derivative times u.
        curvature: `z → s` as a matrix for each example: `(K, K, m)`, with K = 1 for the binary.
        probability: `z → a`.
        compact: `z → p`, of the shape of z: what s·u needs of z.
        compact_product: `(p, u) → s·u`, without derivatives of its own.
    """

    value_and_residual: Callable[[Array, Array], tuple[Array, Array]]
    curvature_product: Callable[[Array, Array], Array]
    curvature: Callable[[Array], Array]
    probability: Callable[[Array], Array]
    compact: Callable[[Array], Array]
    compact_product: Callable[[Array, Array], Array]


# --- Two classes: z and y are (m,) --------------------------------------------------------------


def _split(z: Array) -> tuple[Array, Array, Array]:
    """Return e = exp(−|z|), the less likely class's probability e/(1+e), and whether z > 0."""
    e = jnp.exp(-jnp.abs(z))
    return e, e / (1 + e), z > 0


def _times(mass: Array, distance: Array) -> Array:
    """mass·distance, where no mass costs nothing at any distance, even an infinite one."""
    return jnp.where(mass == 0, 0, mass * distance)


@jax.custom_jvp
def binary_value_and_residual(z: Array, y: Array) -> tuple[Array, Array]:
    """Return `ℓ = log(1+eᶻ) − y·z` and `dz = σ(z) − y`.

    With q the label's mass on the class that z speaks against, and e = exp(−|z|):
    `ℓ = log1p(e) + q·|z|` and `dz = ±(q − e/(1+e))`; the sign is that of z.

    Args:
        z: logits, any shape.
        y: 0/1 or the probability of class 1, same shape and dtype.

    >>> loss, residual = binary_value_and_residual(jnp.float32(20.0), jnp.float32(1.0))
    >>> f"{loss:.3e} {residual:.3e}"
    '2.061e-09 -2.061e-09'
    """
    e, unlikely, positive = _split(z)
    against = jnp.where(positive, 1 - y, y)
    loss = jnp.log1p(e) + _times(against, jnp.abs(z))
    residual = against - unlikely
    return loss, jnp.where(positive, residual, -residual)


def _binary_jvp(primals, tangents):
    z, y = primals
    dz, dy = tangents
    loss, residual = binary_value_and_residual(z, y)
    d_loss, d_residual = jnp.zeros_like(loss), jnp.zeros_like(residual)
    if not isinstance(dz, SymbolicZero):
        d_loss, d_residual = d_loss + residual * dz, binary_curvature_product(z, dz)
    if not isinstance(dy, SymbolicZero):
        d_loss, d_residual = d_loss - z * dy, d_residual - dy
    return (loss, residual), (d_loss, d_residual)


binary_value_and_residual.defjvp(_binary_jvp, symbolic_zeros=True)


@jax.custom_jvp
def binary_probability(z: Array) -> Array:
    """Return `σ(z)`.

    >>> float(binary_probability(0.0))
    0.5
    """
    e, unlikely, positive = _split(z)
    return jnp.where(positive, 1 / (1 + e), unlikely)


@jax.custom_jvp
def binary_curvature(z: Array) -> Array:
    """Return `a(1−a)` with `a = σ(z)`, the second derivative of the loss.

    >>> float(binary_curvature(0.0))
    0.25
    """
    e, unlikely, _ = _split(z)
    return unlikely / (1 + e)


def binary_curvature_product(z: Array, u: Array) -> Array:
    """Return `a(1−a)·u` with `a = σ(z)`: the second derivative of the loss times u.

    >>> float(binary_curvature_product(0.0, 2.0))
    0.5
    """
    return binary_curvature(z) * u


# σ' = a(1−a) and (a(1−a))' = a(1−a)(1−2a): by hand, since |z| in the code has a kink at 0.
binary_probability.defjvps(lambda dz, a, z: binary_curvature(z) * dz)
binary_curvature.defjvps(lambda dz, s, z: s * (1 - 2 * binary_probability(z)) * dz)


# --- K classes: z and y are (K, m) --------------------------------------------------------------


class _Softmax(NamedTuple):
    highest: Array  # max z, (1, m)
    distance: Array  # max z − z, (K, m)
    top: Array  # whether a class is the most likely one (the first of equals), (K, m)
    rest: Array  # Σ exp(−distance) over the other classes, (m,)
    a: Array  # probabilities, (K, m)
    not_a: Array  # 1 − a without cancellation, (K, m)


def _softmax(z: Array) -> _Softmax:
    highest = z.max(axis=0, keepdims=True)
    # Equal infinities are at no distance, as equal numbers are.
    distance = jnp.where(z == highest, 0, highest - z)
    e = jnp.exp(-distance)
    top = jnp.arange(z.shape[0])[:, None] == z.argmax(axis=0)[None]
    rest = jnp.where(top, 0, e).sum(axis=0)
    total = 1 + rest[None]
    a = e / total
    not_a = jnp.where(top, rest[None] / total, 1 - a)
    return _Softmax(highest, distance, top, rest, a, not_a)


@jax.custom_jvp
def softmax_value_and_residual(z: Array, y: Array) -> tuple[Array, Array]:
    """Return `ℓ = log Σₖ exp(zₖ) − Σₖ yₖ·zₖ` and `dz = softmax(z) − y`.

    With `d = max z − z`: `ℓ = log1p(Σ exp(−d) over all but the top class) + Σₖ yₖ·dₖ` (and
    `(1 − Σy)·max z`, which is zero for probabilities), `dz = (1−y)·a − y·(1−a)`, where `1 − a`
    of the top class is the sum of the others.

    Args:
        z: logits, `(K, m)`.
        y: probabilities, `(K, m)`, same dtype; each column sums to one.

    >>> loss, residual = softmax_value_and_residual(
    ...     jnp.array([[20.0], [0.0], [0.0]]), jnp.array([[1.0], [0.0], [0.0]])
    ... )
    >>> f"{loss[0]:.3e} {residual[0, 0]:.3e}"
    '4.122e-09 -4.122e-09'
    """
    p = _softmax(z)
    loss = jnp.log1p(p.rest) + _times(y, p.distance).sum(axis=0)
    # Probabilities sum to one but for rounding, of which nothing infinite is to be made.
    loss = loss + (1 - y.sum(axis=0)) * jnp.where(jnp.isfinite(p.highest[0]), p.highest[0], 0)
    return loss, (1 - y) * p.a - y * p.not_a


def _softmax_jvp(primals, tangents):
    z, y = primals
    dz, dy = tangents
    loss, residual = softmax_value_and_residual(z, y)
    d_loss, d_residual = jnp.zeros_like(loss), jnp.zeros_like(residual)
    if not isinstance(dz, SymbolicZero):
        d_loss = d_loss + (residual * dz).sum(axis=0)
        d_residual = softmax_curvature_product(z, dz)
    if not isinstance(dy, SymbolicZero):
        d_loss, d_residual = d_loss - (z * dy).sum(axis=0), d_residual - dy
    return (loss, residual), (d_loss, d_residual)


softmax_value_and_residual.defjvp(_softmax_jvp, symbolic_zeros=True)


@jax.custom_jvp
def softmax_probability(z: Array) -> Array:
    """Return `softmax(z)` over the first axis.

    >>> softmax_probability(jnp.zeros((4, 1))).T.tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return _softmax(z).a


@jax.custom_jvp
def softmax_log_probability(z: Array) -> Array:
    """Return `log softmax(z)` over the first axis: not −0 where a probability rounds to one.

    >>> f"{softmax_log_probability(jnp.array([[20.0], [0.0]]))[0, 0]:.3e}"
    '-2.061e-09'
    """
    p = _softmax(z)
    return -(jnp.log1p(p.rest)[None] + p.distance)


@jax.custom_jvp
def softmax_curvature_product(z: Array, u: Array) -> Array:
    """Return `(diag(a) − aaᵀ)·u = a ⊙ (u − aᵀu)` with `a = softmax(z)`.

    u is shifted so that it is zero at the top class, which changes nothing in exact
    arithmetic and avoids the cancellation where that class has nearly all probability.

    >>> softmax_curvature_product(jnp.zeros((4, 1)), jnp.array([[4.0], [0], [0], [0]])).T.tolist()
    [[0.75, -0.25, -0.25, -0.25]]
    """
    p = _softmax(z)
    return _centred(p.a, p.top, u)


def _centred(a: Array, top: Array, u: Array) -> Array:
    u = u - _inner(top.astype(u.dtype), u)
    return a * (u - _inner(a, u))


def _inner(a: Array, b: Array) -> Array:
    """Return `Σₖ aₖbₖ`, `(1, m)`.

    As a product: where many lanes share a, a compiler would make a sum anew for each class.
    """
    return jnp.einsum("km,km->m", a, b, precision=lax.Precision.HIGHEST)[None]


def _compact_product(a: Array, u: Array) -> Array:
    return _centred(a, jnp.arange(a.shape[0])[:, None] == a.argmax(axis=0)[None], u)


@jax.custom_jvp
def softmax_curvature(z: Array) -> Array:
    """Return `diag(a) − aaᵀ` with `a = softmax(z)`, for each example: `(K, K, m)`.

    >>> softmax_curvature(jnp.zeros((2, 1)))[:, :, 0].tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    p = _softmax(z)
    own = jnp.eye(z.shape[0], dtype=bool)[:, :, None]
    return jnp.where(own, (p.a * p.not_a)[:, None], -p.a[:, None] * p.a[None])


def _d_curvature_product(dz: Array, su: Array, z: Array, u: Array) -> Array:
    """With da = s·dz: `da ⊙ (u − aᵀu) − a·(daᵀu)`."""
    a, da = softmax_probability(z), softmax_curvature_product(z, dz)
    return da * (u - _inner(a, u)) - a * _inner(da, u)


def _d_curvature(dz: Array, s: Array, z: Array) -> Array:
    a, da = softmax_probability(z), softmax_curvature_product(z, dz)
    own = jnp.eye(z.shape[0], dtype=bool)[:, :, None]
    return jnp.where(own, da[:, None], 0) - da[:, None] * a[None] - a[:, None] * da[None]


# By hand, since the maximum in the code has a kink where two classes are level.
softmax_probability.defjvps(lambda dz, a, z: softmax_curvature_product(z, dz))
softmax_log_probability.defjvps(
    lambda dz, _, z: dz - (softmax_probability(z) * dz).sum(axis=0, keepdims=True)
)
softmax_curvature_product.defjvps(
    _d_curvature_product, lambda du, su, z, u: softmax_curvature_product(z, du)
)
softmax_curvature.defjvps(_d_curvature)


# --- Which of the two ---------------------------------------------------------------------------

BINARY = PointwiseLoss(
    binary_value_and_residual,
    binary_curvature_product,
    lambda z: binary_curvature(z)[None, None],
    binary_probability,
    binary_curvature,
    jnp.multiply,
)
SOFTMAX = PointwiseLoss(
    softmax_value_and_residual,
    softmax_curvature_product,
    softmax_curvature,
    softmax_probability,
    softmax_probability,
    _compact_product,
)


def pointwise_loss(n_classes: int) -> PointwiseLoss:
    """Return the loss for a number of classes: the sigmoid's for 2, the softmax's for more."""
    return BINARY if n_classes == 2 else SOFTMAX


def label_probabilities(y: Array, n_classes: int, dtype) -> Array:
    """Return labels as probabilities: `(m,)` for two classes, `(K, m)` for more.

    Args:
        y: `(m,)` labels as in `Batch`, or `(K, m)` probabilities.
        n_classes: 2 or more.
        dtype: of the answer.

    >>> label_probabilities(jnp.array([2, 0]), 3, float).tolist()
    [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    """
    if n_classes == 2 or y.ndim == 2:
        return y.astype(dtype)
    y = y if y.dtype.itemsize >= 4 else y.astype(jnp.float32)  # which holds all of these numbers
    return (jnp.arange(n_classes, dtype=y.dtype)[:, None] == y[None]).astype(dtype)
