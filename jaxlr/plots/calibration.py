"""The reliability diagram: are probabilities frequencies?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxlr.base.pytrees import Array, LazyWeights
from jaxlr.model.metrics import prepare
from jaxlr.plots.style import COLORS, GREY, axes_or_new, characters, dress, legend, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Bins(NamedTuple):
    """The bins that have examples, B of them: arrays `(B,)`.

    Args:
        number: which bins.
        share: of the weight of all examples.
        probability: the mean that was predicted.
        frequency: how much of the weight the outcome has.
        low, high: ends of the 95% interval of the frequency.
    """

    number: np.ndarray
    share: np.ndarray
    probability: np.ndarray
    frequency: np.ndarray
    low: np.ndarray
    high: np.ndarray


def reliability_diagram(
    Z: Array,
    y: Array,
    weights: Array | LazyWeights | None = None,
    ax: Axes | None = None,
    *,
    num_bins: int = 15,
    class_names: Sequence[str] = ("class 0", "class 1"),
) -> Axes:
    """Draw how often what was predicted is so, against the probability that was predicted.

    In bins of equal width, as `jaxlr.metrics.calibration_error` has them: of the probability of
    class 1; for K > 2 classes, of the most likely class. Grey bars are the shares of the examples
    in the bins; the error bars are Wilson's 95% intervals (JASA 22, 1927) for as many examples
    as the weights are worth, `(Σc)²/Σc²`.

    Args:
        Z: logits, `(m,)`; or `(K, m)` for K > 2 classes.
        y: labels as in `Batch`: `(m,)`, or probabilities `(K, m)`.
        weights: of the examples: None, `(m,)`, or `LazyWeights`.
        ax: where to draw; a new figure's axes when None.
        num_bins: how many bins.
        class_names: of the classes; of two, the second is read.

    Returns:
        The axes.

    Raises:
        ValueError: shapes do not fit each other, or a logit is NaN.
        MissingExtra: matplotlib is not installed.

    >>> ax = reliability_diagram(np.zeros(4), np.array([0, 1, 1, 1]))
    >>> ax.get_legend().get_texts()[0].get_text()
    'calibration error 0.250'
    """
    ax, bins = axes_or_new(ax), reliability(Z, y, weights, num_bins)
    start, width = bins.number / num_bins, 1 / num_bins
    ax.bar(start, bins.share, width, align="edge", color=GREY, alpha=0.5, label="share of examples")
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--", zorder=0)
    error = np.abs(bins.share * (bins.probability - bins.frequency)).sum()
    ax.vlines(bins.probability, bins.low, bins.high, color=COLORS[0], lw=0.8)
    label = f"calibration error {error:.3f}"
    style = {"color": COLORS[0], "lw": 1.5, "marker": "o", "ms": 3}
    ax.plot(bins.probability, bins.frequency, label=label, **style)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    what = shown(class_names[1], characters(ax, 0.6)) if np.ndim(Z) == 1 else "the predicted class"
    dress(ax, f"probability of {what}", "observed frequency")
    legend(ax)
    return ax


def reliability(
    Z: Array, y: Array, weights: Array | LazyWeights | None = None, num_bins: int = 15
) -> Bins:
    """Return what the reliability diagram shows; arguments and errors are its.

    >>> reliability(np.zeros(4), np.array([0, 1, 1, 1])).frequency.tolist()
    [0.75]
    """
    logits, labels, c, pointwise = prepare(Z, y, weights)
    if np.isnan(logits).any():
        example = int(np.isnan(np.atleast_2d(logits)).any(axis=0).argmax())
        raise ValueError(f"Z is NaN at example {example}: it has no probability.")
    p, y = np.asarray(pointwise.probability(logits)), np.asarray(labels)
    if p.ndim == 2:
        likeliest = np.asarray(logits).argmax(axis=0), np.arange(p.shape[1])
        p, y = p[likeliest], y[likeliest]
    of = np.clip(np.ceil(p * num_bins) - 1, 0, num_bins - 1).astype(int)
    c = np.ones(len(p)) if c is None else np.asarray(c, np.float64)
    total, squares, predicted, so = (np.bincount(of, a, num_bins) for a in (c, c**2, c * p, c * y))
    (number,) = total.nonzero()
    total, squares, predicted, so = (a[number] for a in (total, squares, predicted, so))
    low, high = _wilson(so / total, total**2 / squares)
    return Bins(number, total / total.sum(), predicted / total, so / total, low, high)


def _wilson(frequency: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95% interval of a frequency among so many.

    >>> [end.round(4).tolist() for end in _wilson(np.array([0.0, 0.5]), np.array([10.0, 10.0]))]
    [[0.0, 0.2366], [0.2775, 0.7634]]
    """
    z2 = 1.959964**2
    centre = (frequency + z2 / (2 * count)) / (1 + z2 / count)
    half = np.sqrt(z2 * frequency * (1 - frequency) / count + (z2 / (2 * count)) ** 2)
    half = half / (1 + z2 / count)
    return centre - half, centre + half
