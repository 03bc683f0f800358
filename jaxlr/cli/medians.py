"""Medians, which are known only when a whole column is there."""

import math

import numpy as np

from jaxlr.door.design import Design
from jaxlr.model.batch import Batch

_ENDS = np.finfo(float).min, np.finfo(float).max


def weighted_median(values: np.ndarray, weights: np.ndarray | None) -> float:
    """Return the median; of two middle values their mean, and weight 2 is a value twice.

    >>> weighted_median(np.array([3.0, 1.0, 9.0]), np.array([1, 1, 0]))
    2.0
    """
    if weights is None:
        return float(np.median(values.astype(float)))
    order = np.argsort(values)
    below = np.cumsum(weights[order], dtype=float)
    middle = [np.searchsorted(below, below[-1] / 2, side) for side in ("left", "right")]
    return float(values[order][middle].astype(float).mean())


def with_medians(design: Design, batch: Batch, mean: np.ndarray, scale: np.ndarray) -> Design:
    """Return the design with the medians that it lacks, and put them in X."""
    columns, j, X = [], 0, batch.X
    for column in design.columns:
        if column.levels is None and column.fill is not None and np.isnan(column.fill):
            gaps = np.isnan(X[j])
            weights = None if batch.weights is None else batch.weights[~gaps]
            median = weighted_median(X[j][~gaps], weights)
            X[j][gaps] = median
            column = column._replace(fill=_in_units(median, mean[j], scale[j], X.dtype))
        columns.append(column)
        j += len(column.features)
    return design._replace(columns=tuple(columns))


def _in_units(value: float, mean: float, scale: float, dtype: np.dtype) -> float:
    """Return a standardised value in the column's units, without digits that are rounding only.

    >>> _in_units(np.float32(0.1), 49.0, 10.0, np.dtype(np.float32))  # not 50.0000000149
    50.0
    >>> _in_units(np.float32(0.1), 1.7e9, 10.0, np.dtype(np.float32))
    1700000001.0
    """
    half = float(value) / 2 * float(scale) + float(mean) / 2  # of ±1.8e308 the whole overflows
    if not 1e-300 < abs(half) < 1e300:
        return float(np.clip(2 * half, *_ENDS))
    error = max(abs(half - mean / 2) * np.finfo(dtype).eps, abs(half) * np.finfo(float).eps)
    digits = math.floor(math.log10(abs(half))) - math.ceil(math.log10(error)) + 1
    return float(f"{2 * half:.{min(max(digits, 1), 17)}g}")
