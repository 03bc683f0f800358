"""ROC and precision–recall curves as numbers: one sort of the scores serves all resamples.

Positives and negatives have masses: p = c·y and q = c·(1 − y) for weights c and labels y, which may
be soft. A row is a curve: of class 1 for two classes, of each class against the rest for more,
ranked by its softmax probability.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxlr.base.arguments import check_key
from jaxlr.base.pytrees import Array, LazyWeights
from jaxlr.model.losses import softmax_log_probability
from jaxlr.model.metrics import prepare
from jaxlr.studies.resampling import multinomial_counts

GRID = np.linspace(0.0, 1.0, 201)  # where curves are averaged, and have a band


class Ranking(NamedTuple):
    """Examples in the order of their scores, the highest first: C rows of m examples.

    Args:
        order: `(C, m)`, the places of the examples.
        last: `(C, m)`, whether an example is the last of those with equal scores.
        p, q: `(C, m)`, the masses of positives and negatives, in that order.
    """

    order: np.ndarray
    last: np.ndarray
    p: np.ndarray
    q: np.ndarray


class Curve(NamedTuple):
    """The points of one curve; `x` ascends from 0 to 1.

    Args:
        x: false positive rate, or recall.
        y: true positive rate, or precision.
        area: under the curve: by trapezoids, or by steps (average precision).
    """

    x: np.ndarray
    y: np.ndarray
    area: float


def rank(Z: Array, y: Array, weights: Array | LazyWeights | None = None) -> Ranking:
    """Sort the examples by their scores.

    Args:
        Z, y, weights: as for `jaxlr.metrics.roc_auc`.

    Raises:
        ValueError: shapes do not fit each other, a logit is NaN, or there are not two classes
            that have examples.

    >>> rank(np.array([0.5, 2.0, -1.0]), np.array([0, 1, 1])).order.tolist()
    [[1, 0, 2]]
    """
    logits, labels, c, _ = prepare(Z, y, weights)
    scores = logits[None] if logits.ndim == 1 else softmax_log_probability(logits)
    z, y = np.asarray(scores), np.asarray(labels, np.float64)
    if np.isnan(z).any():
        example = int(np.isnan(z).any(axis=0).argmax())
        raise ValueError(f"Z is NaN at example {example}: it cannot be ranked.")
    c = np.ones(z.shape[1]) if c is None else np.asarray(c, np.float64)
    p, q = np.atleast_2d(c * y), np.atleast_2d(c * (1 - y))
    order = np.argsort(-z, axis=1, kind="stable")
    z, p, q = (np.take_along_axis(a, order, axis=1) for a in (z, p, q))
    if not ((p.sum(axis=1) > 0) & (q.sum(axis=1) > 0)).any():
        raise ValueError("All examples are of one class: there is nothing to rank.")
    last = np.pad(z[:, 1:] != z[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    return Ranking(order, last, p, q)


def roc(p: np.ndarray, q: np.ndarray, last: np.ndarray) -> Curve:
    """Return the true against the false positive rate.

    Args:
        p, q, last: a row of a `Ranking`.

    Returns:
        A `Curve`; of NaN where there are no positives or no negatives.

    >>> curve = roc(np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.ones(3, bool))
    >>> curve.x.tolist(), curve.y.tolist(), curve.area
    ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0], 0.5)
    """
    true, false = p.cumsum(), q.cumsum()
    if not (true[-1] > 0 and false[-1] > 0):
        return _NOTHING
    x, y = (np.append(0.0, a[last] / a[-1]) for a in (false, true))
    return Curve(x, y, float(np.trapezoid(y, x)))


def precision_recall(p: np.ndarray, q: np.ndarray, last: np.ndarray) -> Curve:
    """Return precision against recall: `y[i]` holds from `x[i-1]`, exclusive, to `x[i]`.

    Args:
        p, q, last: a row of a `Ranking`.

    Returns:
        A `Curve`; of NaN where there are no positives.

    >>> p, q = np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    >>> curve = precision_recall(p, q, np.ones(3, bool))
    >>> curve.x.tolist(), curve.y.round(2).tolist(), round(curve.area, 2)
    ([0.0, 0.5, 0.5, 1.0], [1.0, 1.0, 0.5, 0.67], 0.83)
    """
    true, either = p.cumsum(), (p + q).cumsum()
    if not true[-1] > 0:
        return _NOTHING
    last = last & (true > 0)  # before that, nothing is recalled
    precision = true[last] / either[last]
    x, y = np.append(0.0, true[last] / true[-1]), np.append(precision[0], precision)
    return Curve(x, y, float((np.diff(x) * y[1:]).sum()))


_NOTHING = Curve(np.array([0.0, 1.0]), np.full(2, np.nan), np.nan)


def on_grid(curve: Curve, steps: bool) -> np.ndarray:
    """Return y at `GRID`: on the line between two points, or the step of the next point.

    >>> on_grid(Curve(np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.5, 1.0]), 0.75), False)[[0, 100]]
    array([0.5 , 0.75])
    """
    if not steps:
        return np.interp(GRID, curve.x, curve.y)
    # At 0 the first step holds; and none is missed by the rounding of a recall.
    places = np.searchsorted(curve.x[1:], np.maximum(GRID, GRID[1]) - 1e-12)
    return curve.y[1:][np.minimum(places, len(curve.x) - 2)]


def resampled(ranking: Ranking, num_resamples: int, key: Array) -> Iterator[Ranking]:
    """Yield resamples of the examples, drawn with replacement; what is ranked stays ranked.

    Args:
        ranking: of the examples.
        num_resamples: R.
        key: a `jax.random.key`; resample r is drawn by the r-th of `jax.random.split(key, R)`.
    """
    check_key(key)
    m, keys = ranking.p.shape[1], jax.random.split(key, num_resamples)
    for r in range(num_resamples):
        counts = np.asarray(_draw(keys, r, m))[ranking.order]
        yield ranking._replace(p=ranking.p * counts, q=ranking.q * counts)


@partial(jax.jit, static_argnums=2)
def _draw(keys: Array, r: int, m: int) -> Array:
    return multinomial_counts(keys[r], m)
