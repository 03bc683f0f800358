"""The model without features: where a fit starts that knows nothing better."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.model.batch import Batch, Params, init_params
from jaxlr.model.features import without_features
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.passes import cast, sum_over_tiles, total_weight, weighted
from jaxlr.solver import minimize

_MODERATE = 4  # a logit of this size has a curvature of 7 % of the largest
_PASSES = 20  # over the offset, at one temperature; 4 to 8 were needed for offsets of up to 1e3
_TOL = 1e-4  # of the loss: what features change is far more


@jax.jit
def null_model(batch: Batch) -> Params:
    """Return zero weights and the intercept that fits the class frequencies, `log ȳ`.

    That is the optimum under an infinite penalty when there is no offset. A class without
    examples counts as half of one. All zero where the batch has no intercept.

    >>> batch = Batch(jnp.ones((1, 4)), jnp.array([0, 0, 0, 1]))
    >>> f"{null_model(batch).b:.4f}"
    '-1.0986'
    """
    dtype = common_dtype(batch.X, jnp.float32)
    zero = init_params(batch.n_features, batch.n_classes, dtype)
    if not batch.intercept:
        return zero

    def totals(tile):
        tile = cast(tile, dtype)
        return weighted(tile.weights, tile.y).sum(axis=-1), total_weight(tile, dtype)

    y, total = sum_over_tiles(totals, batch)
    least = 0.5 / batch.m_examples
    y = jnp.clip(y / total, least, 1 - least)
    b = jnp.log(y) - (jnp.log1p(-y) if y.ndim == 0 else jnp.log(y).mean())
    return zero._replace(b=b)


@jax.jit
def start_model(batch: Batch) -> Params:
    """Return zero weights and the intercept that fits the labels beside the offset, nearly.

    Minimises `Σ cᵢℓ(b + offsetᵢ, yᵢ) / Σ cᵢ`; without an offset that is the null model. Where the
    offset is large all examples may be saturated, and there is no curvature to follow: so the loss
    `T·ℓ(z/T)` is minimised first, of a temperature T at which logits are moderate, and then that of
    T/4, and so on to the loss itself.

    >>> batch = Batch(jnp.ones((1, 4)), jnp.array([0, 0, 0, 1]), offset=jnp.full(4, 100.0))
    >>> f"{start_model(batch).b:.1f}"
    '-101.1'
    """
    null = null_model(batch)
    if batch.offset is None or not batch.intercept:
        return null
    dtype, loss, shape = null.b.dtype, pointwise_loss(batch.n_classes), null.b.shape
    a = loss.probability(null.b[..., None])[..., 0]
    curvature = (a * (1 - a)).reshape(-1)  # the diagonal of the Hessian, at moderate logits

    def found(T: Array, b: Array) -> Array:
        """Return b/T at the least loss of temperature T, from b/T."""

        def value_and_grad(x: Array) -> tuple[Array, Array]:
            def sums(tile: Batch) -> tuple[Array, ...]:
                tile = cast(tile, dtype)
                z = tile.offset / T + x.reshape(shape)[..., None]
                value, dz = loss.value_and_residual(z, tile.y)
                value, dz = weighted(tile.weights, value), weighted(tile.weights, dz)
                return value.sum(), dz.sum(axis=-1), total_weight(tile, dtype)

            value, grad, total = sum_over_tiles(sums, of_labels)
            return value / total, grad.reshape(-1) / total

        def precondition(g: Array) -> Array:
            return g / curvature

        first = minimize.start(b.reshape(-1))
        end = minimize.minimize(value_and_grad, precondition, first, tol=_TOL, max_passes=_PASSES)
        return end.x.reshape(shape)

    of_labels = dataclasses.replace(batch, X=without_features(batch.X))
    T = jnp.maximum(1, jnp.abs(batch.offset).max().astype(dtype) / _MODERATE)
    T = jnp.where(jnp.isfinite(T), T, 1)  # else the loop would have no end

    def cooler(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        T, b, _ = state
        b = T * found(T, b / T)
        return jnp.maximum(1, T / 4), b, T == 1

    _, b, _ = lax.while_loop(lambda state: ~state[2], cooler, (T, T * null.b, jnp.array(False)))
    return null._replace(b=b if b.ndim == 0 else b - b.mean())  # a common shift changes nothing
