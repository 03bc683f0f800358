"""How large a program is compiled for data of a size: nearly equal sizes share a program."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch

_EXAMPLES = 512  # of a program, at least, where data are few
_LITTLE = 2**18  # entries of X whose fit takes less time than to compile another program


def room_for(m: int, n: int) -> tuple[int, int]:
    """Return for how many examples and features a program is compiled: at least m and n.

    To compile takes a second or two, and a fit to little data a millisecond. So that the folds
    of a search and the subsets of a selection of features share programs, little data get a
    generous room, and the examples of more data up to an eighth more.

    >>> room_for(150, 4), room_for(1_000_001, 30)
    ((512, 8), (1048576, 30))
    """
    examples, features = max(_EXAMPLES, 1 << (m - 1).bit_length()), -(-n // 8) * 8
    if examples * features <= _LITTLE:
        return examples, features
    step = 1 << max(m.bit_length() - 4, 0)
    return -(-m // step) * step, n


def in_room(batch: Batch) -> Batch:
    """Return little data with examples of weight 0 that fill up their room; others as they are.

    More data would need a copy of X. Of fewer examples than features the solver depends on the
    number of examples, and so they stay as they are, too.

    Args:
        batch: arrays, its weights too if it has any.

    >>> batch = in_room(Batch(np.ones((2, 150)), np.ones(150)))
    >>> batch.X.shape, batch.y.shape, float(batch.weights.sum())
    ((2, 512), (512,), 150.0)
    """
    (n, m), dtype = batch.X.shape, batch.X.dtype
    room, _ = room_for(m, n)
    if room == m or room * n > _LITTLE or n >= m:
        return batch
    weights = np.ones(m, dtype) if batch.weights is None else batch.weights

    def filled(array: Any) -> Array:
        gaps = [(0, 0)] * (np.ndim(array) - 1)
        return jnp.asarray(np.pad(np.asarray(array), [*gaps, (0, room - m)]))

    X, y, weights = map(filled, (batch.X, batch.y, weights))
    return dataclasses.replace(batch, X=X, y=y, weights=weights)
