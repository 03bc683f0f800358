"""Mean and standard deviation of numbers that come a chunk at a time, whatever their size.

Numbers are scaled by a power of two, which rounds nothing, before they are subtracted or squared:
so neither ±1.8e308 overflows nor 1e-200 vanishes. About the first number a constant column is
zero, and its mean exact.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_LEAST = -1074  # the exponent of the smallest float64
_MOST = float(np.finfo(float).max)


class Moments(NamedTuple):
    """Of the numbers so far; those of weight zero have no part in them.

    Args:
        weight: the sum of their weights.
        first: the first of them; 0 while there is none.
        exponent: all are below 2 to this power.
        mean: of the numbers, less the first, over 2 to the exponent.
        variance: of the numbers over 2 to the exponent.
    """

    weight: float = 0.0
    first: float = 0.0
    exponent: int = _LEAST
    mean: float = 0.0
    variance: float = 0.0


def add_numbers(so_far: Moments, values: np.ndarray, weights: np.ndarray) -> Moments:
    """Return the moments with some more numbers.

    Args:
        so_far: the moments of those before.
        values: finite, `(rows,)` float64.
        weights: not negative, of a finite sum, `(rows,)`.

    >>> found = add_numbers(Moments(), np.array([1e200, 3e200]), np.ones(2))
    >>> f"{mean_of(found):.6g} {deviation_of(found):.6g}"
    '2e+200 1e+200'
    """
    values, weights = values[weights > 0], weights[weights > 0]
    if not len(values):
        return so_far
    first = so_far.first if so_far.weight else float(values[0])
    largest = max(float(np.abs(values).max()), abs(first))
    own = math.frexp(largest)[1] if largest else _LEAST
    exponent = max(own, so_far.exponent)
    values = np.ldexp(values, -exponent) - math.ldexp(first, -exponent)
    weight = float(weights.sum())
    shares = weights / weight
    mean = float(shares @ values)
    variance = float(shares @ (values - mean) ** 2)
    # Two groups made one (Chan, Golub and LeVeque, Updating Formulae, 1979, equation 2.1).
    shift = so_far.exponent - exponent
    before, spread = math.ldexp(so_far.mean, shift), math.ldexp(so_far.variance, 2 * shift)
    whole = so_far.weight + weight
    share = weight / whole
    step = mean - before
    variance = spread * (1 - share) + variance * share + step**2 * share * (1 - share)
    return Moments(whole, first, exponent, before + step * share, variance)


def mean_of(moments: Moments) -> float:
    """Return the mean."""
    first = math.ldexp(moments.first, -moments.exponent)
    return _grown(first + moments.mean, moments.exponent)


def deviation_of(moments: Moments) -> float:
    """Return the standard deviation, divided by the number and not by one less; 0 if constant."""
    if moments.variance == 0:
        return 0.0
    return max(_grown(math.sqrt(moments.variance), moments.exponent), math.ldexp(1.0, _LEAST))


def _grown(value: float, exponent: int) -> float:
    """Return a value times 2 to a power; the largest number if rounding takes it beyond."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(_MOST, value)


def standardised(X: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return `(X − mean)/scale`, in float64; infinite only if float64 cannot hold the quotient.

    Args:
        X: features, `(n, rows)` float64.
        mean, scale: of the features, `(n,)`.

    >>> standardised(np.array([[-1.5e308, 1.5e308]]), np.array([1e308]), np.array([1e308]))
    array([[-2.5,  0.5]])
    """
    mean, scale = mean[:, None], scale[:, None]
    with np.errstate(over="ignore"):
        Z = (X - mean) / scale
        lost = ~np.isfinite(Z)
        if lost.any():  # a difference of what is near ±1.8e308?
            Z[lost] = (2 * ((X / 2 - mean / 2) / scale))[lost]
    return Z
