"""The objective and its derivatives: sums over the examples, by hand, in tiles of examples.

    Z = wᵀX + b      A = σ(Z) or softmax(Z)      dZ = A − Y            (examples are columns)
    loss     Σ cᵢℓᵢ / Σ cᵢ + ½·l2·Σⱼ fⱼ‖wⱼ‖²      c: example weights, f: penalty factors
    dw       X (c ⊙ dZ)ᵀ / Σ cᵢ + l2·f ⊙ w
    db       Σ cᵢ dZᵢ / Σ cᵢ
    H·v      X (c ⊙ s·(vᵀX + v_b))ᵀ / Σ cᵢ + l2·f ⊙ v     s: the curvature, a(1−a) or diag(a)−aaᵀ

Loss and gradient come out of one pass over X. Many lanes take a tile of examples at a time: the
logits exist for one tile only, so that memory does not grow with examples × lanes. Sums over the
tiles are compensated, so that rounding does not grow with the number of examples. A lane alone
multiplies by X as it is, in float32 if its sums are short (see `tiles.by_lanes`).

Derivatives of these functions are given by rules, not left to autodiff. With respect to the
parameters, `jax.grad` of the loss is the one-pass gradient, and the derivative of the gradient
is the one-pass Hessian–vector product. With respect to the examples (X, y, weights, offset),
where a derivative has an entry for each example anyhow, the same formulas are differentiated
untiled, through the hand-derived rules of `losses`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlr.base.meshes import with_auto_axes
from jaxlr.base.pytrees import Array, logit_shape
from jaxlr.base.rules import dense, is_fixed, jvp_of_perturbed
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import feature_sums, gram
from jaxlr.model.linear import logits
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.passes import (
    by_lanes,
    cast,
    intercept_sums,
    map_tiles,
    sum_over_tiles,
    sum_whole,
    total_weight,
    weighted,
    working,
)
from jaxlr.model.penalty import Penalty, gradient_of, per_weight, value_of
from jaxlr.model.shapes import check_shapes

NO_PENALTY = Penalty()

# --- Weighted means over the examples, and their derivatives by hand ----------------------------


def _loss_sums(params: Params, tile: Batch, dtype) -> tuple[Array, Array]:
    """Return `Σ cᵢℓᵢ` and `Σ cᵢ`."""
    tile = cast(tile, dtype)
    Z = logits(params, tile.X, tile.offset)
    value, _ = pointwise_loss(tile.n_classes).value_and_residual(Z, tile.y)
    return weighted(tile.weights, value).sum(), total_weight(tile, dtype)


def _gradient_sums(params: Params, tile: Batch, dtype, lanes: int) -> tuple[Array, Params, Array]:
    """Return `Σ cᵢℓᵢ`, its gradient, and `Σ cᵢ`: the lecture's lines, before the division."""
    tile = cast(tile, dtype)
    Z = logits(params, tile.X, tile.offset)
    value, dZ = pointwise_loss(tile.n_classes).value_and_residual(Z, tile.y)
    value, dZ = weighted(tile.weights, value), weighted(tile.weights, dZ)
    grad = Params(feature_sums(tile.X, dZ, lanes), intercept_sums(tile, dZ))
    return value.sum(), grad, total_weight(tile, dtype)


def _curvature_sums(params: Params, v: Params, tile: Batch, dtype) -> tuple[Params, Array]:
    """Return the Hessian of `Σ cᵢℓᵢ` times v, and `Σ cᵢ`."""
    tile = cast(tile, dtype)
    Z, U = logits(params, tile.X, tile.offset), logits(v, tile.X)
    sU = weighted(tile.weights, pointwise_loss(tile.n_classes).curvature_product(Z, U))
    return Params(feature_sums(tile.X, sU), intercept_sums(tile, sU)), total_weight(tile, dtype)


def _hessian_sums(params: Params, tile: Batch, dtype) -> tuple[Array, Array]:
    """Return the Hessian of `Σ cᵢℓᵢ`, `(K, n+1, K, n+1)`, and `Σ cᵢ`; two classes are K = 1."""
    tile = cast(tile, dtype)
    Z = logits(params, tile.X, tile.offset)
    S = weighted(tile.weights, pointwise_loss(tile.n_classes).curvature(Z))  # (K, K, t)
    return gram(tile.X, S, float(tile.intercept)), total_weight(tile, dtype)


def _mean_value_and_grad(params, batch, sums=sum_over_tiles, lanes=1):
    params_, dtype = working(params, batch)
    value, grad, total = sums(lambda tile: _gradient_sums(params_, tile, dtype, lanes), batch)
    return value / total, jax.tree.map(lambda g, p: (g / total).astype(p.dtype), grad, params)


def _mean_loss(params, batch, sums=sum_over_tiles, lanes=1):
    params_, dtype = working(params, batch)
    value, total = sums(lambda tile: _loss_sums(params_, tile, dtype), batch)
    return value / total


def _mean_hvp(params, v, batch):
    params_, dtype = working(params, batch)
    v_, _ = working(jax.tree.map(lambda a: jnp.asarray(a, dtype), v), batch)
    Hv, total = sum_over_tiles(lambda tile: _curvature_sums(params_, v_, tile, dtype), batch)
    return jax.tree.map(lambda g, p: (g / total).astype(p.dtype), Hv, params)


def _inner(a: Params, b: Params) -> Array:
    return (a.w * b.w).sum() + (a.b * b.b).sum()


@jax.custom_jvp
def _data_value_and_grad(params: Params, batch: Batch) -> tuple[Array, Params]:
    return by_lanes(_mean_value_and_grad)(params, batch)


def _data_value_and_grad_jvp(primals, tangents):
    params, batch = primals
    if not is_fixed(tangents[1]):
        fun = functools.partial(_mean_value_and_grad, sums=sum_whole)
        return jvp_of_perturbed(fun, primals, tangents)
    v = dense(tangents[0])
    value, grad = _data_value_and_grad(params, batch)
    return (value, grad), (_inner(grad, v).astype(value.dtype), _mean_hvp(params, v, batch))


_data_value_and_grad.defjvp(_data_value_and_grad_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _data_loss(params: Params, batch: Batch) -> Array:
    return by_lanes(_mean_loss)(params, batch)


def _data_loss_jvp(primals, tangents):
    params, batch = primals
    if not is_fixed(tangents[1]):
        fun = functools.partial(_mean_loss, sums=sum_whole)
        return jvp_of_perturbed(fun, primals, tangents)
    value, grad = _data_value_and_grad(params, batch)
    return value, _inner(grad, dense(tangents[0])).astype(value.dtype)


_data_loss.defjvp(_data_loss_jvp, symbolic_zeros=True)


# --- The objective ------------------------------------------------------------------------------


def _floating(params: Params) -> Params:
    """Return params as arrays; integers, to which no gradient could be cast, as floats."""
    arrays = [jnp.asarray(a) for a in params]
    return Params(*(a if jnp.issubdtype(a.dtype, jnp.floating) else a * 1.0 for a in arrays))


def _rounded(tree: Params, like: Params) -> Params:
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, like)


@jax.jit
@with_auto_axes
def loss(params: Params, batch: Batch, penalty: Penalty = NO_PENALTY) -> Array:
    """Return the objective `Σ cᵢℓᵢ / Σ cᵢ + ½·l2·Σⱼ fⱼ‖wⱼ‖²`.

    `jax.grad` of it is `gradient`, by hand and in one pass; see the module for the formulas.

    Args:
        params: the parameters of one lane.
        batch: the examples, `X` `(n, m)`.
        penalty: `Penalty(l2, factors)`.

    Returns:
        `()`, in the dtype of the arithmetic: at least float32.

    Raises:
        ValueError: when shapes do not fit each other.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> params = Params(jnp.zeros(1), jnp.array(0.0))
    >>> f"{loss(params, batch):.6f}"
    '0.693147'
    >>> jax.grad(loss)(params, batch).w.tolist() == gradient(params, batch).w.tolist()
    True
    """
    check_shapes(params, batch, penalty)
    wide, _ = working(_floating(params), batch)
    return _data_loss(wide, batch) + value_of(penalty, wide.w)


@jax.jit
@with_auto_axes
def value_and_grad(
    params: Params, batch: Batch, penalty: Penalty = NO_PENALTY
) -> tuple[Array, Params]:
    """Return the objective and its gradient, from one pass over X.

    `dw = X (c ⊙ dZ)ᵀ / Σ cᵢ + l2·f ⊙ w` and `db = Σ cᵢ dZᵢ / Σ cᵢ` with `dZ = A − Y`.

    Args:
        params, batch, penalty: as for `loss`.

    Returns:
        The loss `()`, and `Params(dw, db)` of the shapes and dtypes of params.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> value, grad = value_and_grad(Params(jnp.zeros(1), jnp.array(0.0)), batch)
    >>> f"{grad.w[0]:.4f} {grad.b:.4f}"
    '-0.6667 -0.1667'
    """
    check_shapes(params, batch, penalty)
    params = _floating(params)
    wide, _ = working(params, batch)
    value, grad = _data_value_and_grad(wide, batch)
    pull = gradient_of(penalty, wide.w)
    return value + (pull * wide.w).sum() / 2, _rounded(Params(grad.w + pull, grad.b), params)


@jax.jit
def gradient(params: Params, batch: Batch, penalty: Penalty = NO_PENALTY) -> Params:
    """Return the gradient of the objective, `Params(dw, db)`: see `value_and_grad`.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> gradient(init := Params(jnp.ones(1), jnp.array(0.0)), batch, Penalty(l2=2.0)).w.shape
    (1,)
    """
    return value_and_grad(params, batch, penalty)[1]


@jax.jit
@with_auto_axes
def hvp(params: Params, v: Params, batch: Batch, penalty: Penalty = NO_PENALTY) -> Params:
    """Return the Hessian of the objective times v, from one pass over X.

    `X (c ⊙ s·(v_wᵀX + v_b))ᵀ / Σ cᵢ + l2·f ⊙ v_w`, where s is the curvature of the loss.

    Args:
        params, batch, penalty: as for `loss`.
        v: the direction, of the shapes of params.

    Returns:
        `Params` of the shapes and dtypes of params.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> zero, one = Params(jnp.zeros(1), jnp.array(0.0)), Params(jnp.ones(1), jnp.array(0.0))
    >>> f"{hvp(zero, one, batch).w[0]:.4f}"
    '1.1667'
    """
    check_shapes(params, batch, penalty)
    params, v = _floating(params), _floating(v)
    check_direction(v, params)
    (wide, _), (v, _) = working(params, batch), working(v, batch)
    Hv = _mean_hvp(wide, v, batch)
    return _rounded(Params(Hv.w + gradient_of(penalty, v.w), Hv.b), params)


def check_direction(v: Params, params: Params) -> None:
    """Raise ValueError when v has other shapes than params.

    >>> check_direction(Params(jnp.ones(2), jnp.array(0.0)), Params(jnp.ones(3), jnp.array(0.0)))
    Traceback (most recent call last):
    ...
    ValueError: v.w has shape (2,), params.w has (3,).
    """
    for name, a, b in zip(Params._fields, v, params, strict=True):
        if jnp.shape(a) != jnp.shape(b):
            raise ValueError(
                f"v.{name} has shape {jnp.shape(a)}, params.{name} has {jnp.shape(b)}."
            )


def make_hvp(
    params: Params, batch: Batch, penalty: Penalty = NO_PENALTY
) -> Callable[[Params], Params]:
    """Return `v → H·v` at some parameters, as `hvp` does, for many products.

    The curvature of each example is kept, a number for each class: a product multiplies by X
    twice, not three times. It has no derivatives by params or the objective.

    Args:
        params, batch, penalty: as for `hvp`.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> product = make_hvp(Params(jnp.zeros(1), jnp.array(0.0)), batch)
    >>> f"{product(Params(jnp.ones(1), jnp.array(0.0))).w[0]:.4f}"
    '1.1667'
    """
    wide, dtype = working(params, batch)
    loss = pointwise_loss(batch.n_classes)

    def compact(tile):
        tile = cast(tile, dtype)
        return loss.compact(logits(wide, tile.X, tile.offset))

    # In the place of the labels, of which H knows nothing.
    curved = dataclasses.replace(batch, y=map_tiles(compact, batch), offset=None)

    def mean(v, curved, sums, lanes):
        def of_tile(tile):
            tile = cast(tile, dtype)
            sU = weighted(tile.weights, loss.compact_product(tile.y, logits(v, tile.X)))
            Hv = Params(feature_sums(tile.X, sU, lanes), intercept_sums(tile, sU))
            return Hv, total_weight(tile, dtype)

        Hv, total = sums(of_tile, curved)
        return jax.tree.map(lambda a: a / total, Hv)

    def product(v: Params) -> Params:
        v, _ = working(v, batch)
        Hv = by_lanes(mean)(v, curved)
        return Hv._replace(w=Hv.w + gradient_of(penalty, v.w))

    return product


@jax.jit
@with_auto_axes
def hessian(params: Params, batch: Batch, penalty: Penalty = NO_PENALTY) -> Params:
    """Return the Hessian of the objective, in blocks as `jax.hessian` arranges them.

    `H_ww = X diag(c ⊙ s) Xᵀ / Σ cᵢ + l2·diag(f)`, `H_wb = X (c ⊙ s)ᵀ / Σ cᵢ`,
    `H_bb = Σ cᵢsᵢ / Σ cᵢ`; for the softmax one such block for each pair of classes.

    Args:
        params, batch, penalty: as for `loss`.

    Returns:
        `Params(w=Params(w=H_ww, b=H_wb), b=Params(w=H_bw, b=H_bb))` of shapes `(n, n)`,
        `(n,)`, `(n,)`, `()`; or `(n, K, n, K)`, `(n, K, K)`, `(K, n, K)`, `(K, K)`.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> H = hessian(Params(jnp.zeros(1), jnp.array(0.0)), batch)
    >>> f"{H.w.w[0, 0]:.4f} {H.w.b[0]:.4f} {H.b.b:.4f}"
    '1.1667 0.5000 0.2500'
    """
    check_shapes(params, batch, penalty)
    n, classes = batch.n_features, logit_shape(batch.n_classes)
    wide, dtype = working(_floating(params), batch)
    values = (n + 1) * math.prod(classes) + batch.n_classes**2
    H, total = sum_over_tiles(lambda tile: _hessian_sums(wide, tile, dtype), batch, values=values)
    H = jnp.transpose(H / total, (1, 0, 3, 2))  # (n+1, K, n+1, K)
    ww = H[:-1, :, :-1].reshape(n, *classes, n, *classes)
    ww = ww + jnp.diag(per_weight(penalty, wide.w).reshape(-1)).reshape(ww.shape)
    wb, bw = H[:-1, :, -1], H[-1, :, :-1]
    bb = H[-1, :, -1].reshape(*classes, *classes)
    wb, bw = wb.reshape(n, *classes, *classes), bw.reshape(*classes, n, *classes)
    return Params(Params(ww, wb), Params(bw, bb))
