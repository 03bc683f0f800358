"""The model without features: where a fit starts that knows nothing better."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxlr.tiles import cast, common_dtype, sum_over_tiles, total_weight, weighted
from jaxlr.types import Batch, Params, init_params


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
