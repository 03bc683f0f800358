"""What a dtype cannot hold: features that rounding hides, and features out of its scale.

Arrays have a feature a row here, `(n, m)`, as in a batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

# Rounding is refused above this share of a feature's standard deviation. As noise in the feature
# it moves an optimum by that share over √m, far less than a resample does, and shrinks its
# coefficient by the square, 1e-6. float32 gets there when the mean is 40,000 standard deviations.
_SHARE = 2**-10
# Half precision rounds well-scaled data by more: bfloat16 rounds N(0, 1) by 2^-9.5. This many
# units of relative rounding are a mean of 20 standard deviations.
_UNITS = 8
# A variance below this many of the smallest normal numbers vanishes: a curvature is a quarter of
# it at most. In float32 a fit is right at a standard deviation of 1e-18, and blind at 1e-19.
_SMALLEST = 16
_FEATURES, _EXAMPLES = 16, 2**12  # looked at together: what the cache holds
_VALUES = 2**20  # of whole features that are widened together


class Extent(NamedTuple):
    """The smallest and the largest value of each feature, `(n,)` float64; NaN if one is NaN."""

    low: np.ndarray
    high: np.ndarray

    @property
    def largest(self) -> np.ndarray:
        """The largest size of a value of each feature."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


class Hidden(NamedTuple):
    """A feature that rounding hides.

    Args:
        feature: its place.
        rounding: by how much the dtype rounds its values, as a root mean square.
        spread: the standard deviation of its values.
        count: how many features are hidden.
    """

    feature: int
    rounding: float
    spread: float
    count: int


def extent(array: np.ndarray) -> Extent:
    """Return the extent of each feature.

    >>> extent(np.array([[3.0, 1.0, 2.0], [0.0, np.nan, 1.0]])).high
    array([ 3., nan])
    """
    if array.dtype.itemsize > 2:
        return Extent(*(a.astype(np.float64) for a in (array.min(axis=1), array.max(axis=1))))
    low, high = np.empty((2, len(array)))  # half precision is slow in NumPy
    step = max(1, _VALUES // array.shape[1])
    for i in range(0, len(array), step):
        some = array[i : i + step].astype(np.float32)
        low[i : i + step], high[i : i + step] = some.min(axis=1), some.max(axis=1)
    return Extent(low, high)


def is_narrower(dtype: Any, wide: np.dtype) -> bool:
    """Whether numbers of the wide dtype may be rounded in this one.

    >>> is_narrower("float32", np.dtype("float64")), is_narrower("float64", np.dtype("int64"))
    (True, True)
    >>> is_narrower("float32", np.dtype("int16")), is_narrower("float32", np.dtype("bfloat16"))
    (False, False)
    """
    digits = jnp.finfo(dtype).nmant
    if wide.kind == "b":
        return False
    if wide.kind in "iu":
        return np.iinfo(wide).bits - (wide.kind == "i") > digits + 1
    return np.finfo(wide).nmant > digits if wide.kind == "f" else jnp.finfo(wide).nmant > digits


def hidden(array: np.ndarray, cast: np.ndarray, seen: Extent) -> Hidden | None:
    """Return the first feature that rounding hides, if there is one.

    Args:
        array: the features, in a wide dtype.
        cast: the same in a narrow one, finite.
        seen: the extent of cast.
    """
    info = jnp.finfo(cast.dtype)
    unit = float(info.eps) / 2
    share = max(_SHARE, _UNITS * unit)
    with np.errstate(all="ignore"):
        size, spread = _at_least(cast, seen)
        rounding = unit * (size + float(info.tiny))
        suspects = ~(rounding <= share * (spread - 2 * rounding))
    if (suspects & (seen.low == seen.high)).any():  # often a constant, which is quick to see
        suspects &= array.min(axis=1) != array.max(axis=1)
    suspects = np.flatnonzero(suspects)
    found = []
    for i in range(0, len(suspects), _FEATURES):
        some = suspects[i : i + _FEATURES]
        error, spread, varies = _moments(array, cast, some, seen)
        bad = varies & ~(error < share * spread)  # squares of both may vanish
        found += zip(some[bad], error[bad], spread[bad], strict=True)
    if not found:
        return None
    feature, error, spread = found[0]
    return Hidden(int(feature), float(error), float(spread), len(found))


def _at_least(cast: np.ndarray, seen: Extent) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of each feature's values, at most, and their spread, at least.

    So few features are suspects that it costs little to look at these twice.
    """
    m = cast.shape[1]
    if cast.dtype.itemsize > 2:
        # Two values a range apart are range²/2 of the sum of squares about the mean.
        return seen.largest, (seen.high - seen.low) / np.sqrt(2 * m)
    square, mean = np.empty((2, len(cast)))  # the range tells too little in half precision
    step = max(1, _VALUES // m)
    for i in range(0, len(cast), step):
        some = cast[i : i + step].astype(np.float32)
        square[i : i + step] = np.einsum("ij,ij->i", some, some) / m
        mean[i : i + step] = some.mean(axis=1)
    slack = 2**-6  # for sums in float32
    return np.sqrt(square * (1 + slack)), np.sqrt(np.maximum(square * (1 - slack) - mean**2, 0))


def _moments(array: np.ndarray, cast: np.ndarray, some: np.ndarray, seen: Extent) -> tuple:
    """Return for some features the rounding less its mean, the spread, and whether they vary."""
    m = array.shape[1]
    integers = array.dtype.kind in "iu" and (seen.high - seen.low)[some].max() < 2**62
    exact = np.int64 if integers else np.promote_types(np.float64, array.dtype)
    first, narrow = array[some, :1].astype(exact), cast[some, :1].astype(np.float64)
    sums, squares, varies = np.zeros((2, len(some))), np.zeros((2, len(some))), False
    for i in range(0, m, _EXAMPLES):
        # About the first value, so that nothing cancels: it is √m standard deviations from the
        # mean at most.
        wide = array[some, i : i + _EXAMPLES].astype(exact) - first
        error = cast[some, i : i + _EXAMPLES].astype(np.float64) - narrow - wide
        varies = varies | wide.any(axis=1)
        for k, part in enumerate((error, wide.astype(np.float64))):
            sums[k] += part.sum(axis=1)
            squares[k] += np.einsum("ij,ij->i", part, part)
    error, spread = np.sqrt(np.maximum(squares - sums**2 / m, 0) / m)
    return error, spread, varies


def out_of_scale(cast: np.ndarray, seen: Extent) -> tuple[int, bool] | None:
    """Return the first feature whose squares overflow or vanish, and whether they overflow.

    >>> X = np.array([[1.0, 2.0], [0.0, 1e-30], [1e30, 0.0]], np.float32)
    >>> [out_of_scale(A, extent(A)) for A in (X, X[::2], X[:1])]
    [(1, False), (1, True), None]
    """
    wide = np.float32 if cast.dtype.itemsize < 4 else cast.dtype  # that of the arithmetic
    info, m = jnp.finfo(wide), cast.shape[1]
    large = seen.largest > np.sqrt(float(info.max) / (4 * m))
    least = np.sqrt(_SMALLEST * float(info.tiny))
    span = seen.high - seen.low
    small = (span > 0) & (span < least * np.sqrt(2 * m))
    for j in np.flatnonzero(large | small):
        if large[j] or span[j] * np.std(cast[j].astype(np.float64) / span[j]) < least:
            return int(j), bool(large[j])
    return None
