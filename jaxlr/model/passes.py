"""Sums over the examples, a tile of examples at a time, with compensated addition."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.base.rules import with_lanes
from jaxlr.model.batch import Batch, Params
from jaxlr.model.losses import label_probabilities

# A tile of X of 4 MiB stays in the cache between its two products. Timed for 1 and for 64
# lanes: tiles of half or of twice this size are slower for both.
_TILE_BYTES = 4 * 2**20
_TILE_EXAMPLES = (1024, 16384)
# Where X is not cut into tiles: the logits of the lanes may be this share of it, and in float32,
# whose rounding grows with the length of a sum, so many examples.
_SHARE, _WHOLE = 1 / 8, 65_536


def tile_size(values: int, itemsize: int) -> int:
    """Return how many examples a tile has: the nearest power of two.

    Args:
        values: how many values an example brings: its features and its logits.
        itemsize: bytes of a value.

    >>> tile_size(130, 4)
    8192
    """
    fewest, most = _TILE_EXAMPLES
    examples = 2 ** round(math.log2(_TILE_BYTES / (values * itemsize)))
    return min(max(examples, fewest), most)


def compensated_add(total: tuple[Any, Any], addend: Any) -> tuple[Any, Any]:
    """Add to a pair of trees, the sum and what rounding has lost of it (Knuth's TwoSum).

    Without a comparison, so that a sum of tangents stays linear and can be transposed.

    >>> total = (jnp.float32(2.0**24), jnp.float32(0.0))
    >>> for _ in range(2):
    ...     total = compensated_add(total, jnp.float32(1.0))
    >>> float(total[0] + total[1]) - 2.0**24
    2.0
    """
    total_sum, total_error = total
    new_sum = jax.tree.map(jnp.add, total_sum, addend)

    def error(e, s, x, t):
        added = t - s
        return e + ((s - (t - added)) + (x - added))

    return new_sum, jax.tree.map(error, total_error, total_sum, addend, new_sum)


def sum_over_tiles(fun: Callable[[Batch], Any], batch: Batch, values: int | None = None) -> Any:
    """Return the sum of `fun(tile)` over tiles of the examples.

    All tiles are of one size, for which the function is compiled once: the last one may begin
    with examples of the one before it, then with weight 0.

    Args:
        fun: maps a batch, whose weights are an array or None, to a tree of sums over it, that
            are zero for weight 0.
        batch: the examples.
        values: how many values an example brings, when more than its features and logits.

    >>> batch = Batch(jnp.ones((2, 40_001)), jnp.ones(40_001))
    >>> float(sum_over_tiles(lambda tile: total_weight(tile, jnp.float32), batch))
    40001.0
    """
    count, size = _tiling(batch, values)
    if count == 1:
        return fun(batch.select(lambda a: a))

    # Where this is differentiated a tile is taken again, not kept: to keep them is a copy of X.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(total, i):
        return compensated_add(total, fun(_tile(batch, i, count, size))), None

    shapes = jax.eval_shape(lambda: fun(_tile(batch, 0, count, size)))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    total, _ = lax.scan(step, (zeros, zeros), jnp.arange(count))
    return jax.tree.map(jnp.add, *total)


def sum_whole(fun: Callable[[Batch], Any], batch: Batch, values: int | None = None) -> Any:
    """In the place of `sum_over_tiles`, with its arguments: the whole batch as one tile.

    >>> batch = Batch(jnp.ones((2, 40_001)), jnp.ones(40_001))
    >>> float(sum_whole(lambda tile: total_weight(tile, jnp.float32), batch))
    40001.0
    """
    return fun(batch.select(lambda a: a))


def by_lanes(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return `(params, batch) → fun(params, batch, sums, lanes)`, sums as suits that many lanes.

    For one lane, or a few under vmap, a tile cut out of X costs as much as its products: their
    sums are over X as it is, `sum_whole`, where they are exact enough. For more it is
    `sum_over_tiles`, since their logits, of all examples, would need memory and leave the cache.
    It has no derivatives.

    Args:
        fun: takes a tree, a batch, one of the two functions, and how many lanes there are.

    >>> mean = by_lanes(lambda c, batch, sums, lanes: c * sums(lambda tile: tile.X.mean(), batch))
    >>> jax.vmap(mean, (0, None))(jnp.arange(3.0), Batch(jnp.ones((9, 5)), jnp.ones(5))).tolist()
    [0.0, 1.0, 2.0]
    """

    def chosen(lanes: int, params: Any, batch: Batch) -> Any:
        logits = lanes * (1 if batch.n_classes == 2 else batch.n_classes)
        few = logits <= batch.n_features * _SHARE
        exact = batch.X.dtype == jnp.float64 or batch.m_examples <= _WHOLE
        return fun(params, batch, sum_whole if few and exact else sum_over_tiles, lanes)

    return with_lanes(chosen)


def map_tiles(fun: Callable[[Batch], Any], batch: Batch, values: int | None = None) -> Any:
    """Return `fun(tile)`, whose leaves have the tile's examples on the last axis, for all of them.

    Args:
        fun, batch, values: as for `sum_over_tiles`; what it gives for an example depends on no
            other one.

    >>> batch = Batch(jnp.ones((2, 40_001)), jnp.ones(40_001))
    >>> map_tiles(lambda tile: tile.X.sum(axis=0), batch).shape
    (40001,)
    """
    count, size = _tiling(batch, values)
    if count == 1:
        return fun(batch.select(lambda a: a))

    def step(i, out):
        start = _start(batch, i, size)
        return jax.tree.map(
            lambda whole, part: lax.dynamic_update_slice_in_dim(whole, part, start, axis=-1),
            out,
            fun(_tile(batch, i, count, size)),
        )

    shapes = jax.eval_shape(lambda: fun(_tile(batch, 0, count, size)))
    out = jax.tree.map(lambda a: jnp.zeros((*a.shape[:-1], batch.m_examples), a.dtype), shapes)
    return lax.fori_loop(0, count, step, out)


def _tiling(batch: Batch, values: int | None) -> tuple[int, int]:
    """Return how many tiles the examples are taken in, and of what size."""
    m, itemsize = batch.m_examples, common_dtype(batch.X, jnp.float32).itemsize
    count = -(-m // tile_size(values or batch.n_features + batch.n_classes, itemsize))
    return count, -(-m // count)


def _start(batch: Batch, i: Any, size: int) -> Array:
    return jnp.minimum(i * size, batch.m_examples - size)


def _tile(batch: Batch, i: Any, count: int, size: int) -> Batch:
    """Return tile i."""
    m, start = batch.m_examples, _start(batch, i, size)
    tile = batch.select(lambda a: lax.dynamic_slice_in_dim(a, start, size, axis=-1))
    if count * size == m:
        return tile
    own = start + jnp.arange(size) >= i * size
    weights = jnp.ones(size, jnp.float32) if tile.weights is None else tile.weights
    return dataclasses.replace(tile, weights=jnp.where(own, weights, 0))


# --- What a function of a tile begins with ------------------------------------------------------


def working(params: Params, batch: Batch) -> tuple[Params, Any]:
    """Return params in the dtype of the arithmetic, and that dtype: at least float32.

    Where the batch has no intercept, b is 0.
    """
    dtype = common_dtype(params.w, params.b, batch.X, jnp.float32)
    w, b = (jnp.asarray(a, dtype) for a in params)
    return Params(w, b if batch.intercept else jnp.zeros_like(b)), dtype


def cast(tile: Batch, dtype) -> Batch:
    """The tile with its labels as probabilities and everything in the working dtype."""
    y = label_probabilities(tile.y, tile.n_classes, dtype)
    weights, offset = jax.tree.map(lambda a: a.astype(dtype), (tile.weights, tile.offset))
    X = tile.X.astype(dtype)
    return dataclasses.replace(tile, X=X, y=y, weights=weights, offset=offset)


def weighted(weights: Array | None, a: Array) -> Array:
    """Return `cᵢaᵢ`; a has the examples on its last axis."""
    return a if weights is None else weights.reshape(*[1] * (a.ndim - 1), -1) * a


def total_weight(tile: Batch, dtype) -> Array:
    """Return `Σ cᵢ` of a tile."""
    return jnp.asarray(tile.m_examples if tile.weights is None else jnp.sum(tile.weights), dtype)


def intercept_sums(tile: Batch, r: Array) -> Array:
    """Return `Σ rᵢ`, the intercept's part of a gradient: zero where there is no intercept."""
    total = r.sum(axis=-1)
    return total if tile.intercept else jnp.zeros_like(total)
