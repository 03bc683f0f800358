"""A part of the examples that is like all of them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch


def thinned(batch: Batch, size: int) -> Batch:
    """Return one example at random from each of `size` equal stretches; all where size is m.

    Sorted examples and examples with a period are sampled fairly; the draw is always the same.

    >>> batch = Batch(jnp.arange(40.0)[None], jnp.ones(40))
    >>> (thinned(batch, 4).X[0] // 10).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    m = batch.m_examples
    if size == m:
        return batch
    places = (np.arange(size) + np.random.default_rng(0).random(size)) * (m / size)
    places = np.minimum(places.astype(np.int32), m - 1)

    def take(a: Array) -> Array:  # an index a number: rows that share theirs are gathered slower
        a = jnp.asarray(a)
        return jnp.take_along_axis(
            a, jnp.broadcast_to(places, (*a.shape[:-1], size)), axis=-1, mode="clip"
        )

    return batch.select(take)
