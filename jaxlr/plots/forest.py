"""Coefficients with intervals, the largest ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxlr.base.pytrees import Array
from jaxlr.model.shapes import check_numbers
from jaxlr.plots.style import (
    COLORS,
    GREY,
    INK,
    axes_or_new,
    characters,
    dress,
    name_size,
    shown,
    size_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def coefficients(
    w: Array,
    low: Array | None = None,
    high: Array | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
    *,
    class_names: Sequence[str] | None = None,
    unit: str = "unit",
) -> Axes:
    """Draw coefficients with their intervals, a row each, those that are largest at the top.

    As many rows are drawn as the axes have room for, and below them stands how many are left
    out. An interval that holds 0 is grey. Of the softmax each feature has K coefficients.

    Args:
        w: `(n,)`, or `(n, K)`.
        low, high: ends of the intervals, of the shape of w, such as
            `jnp.percentile(lanes.params.w, jnp.array([2.5, 97.5]), axis=0)` of
            `jaxlr.bootstrap`; None for none.
        names: of the features; their numbers when None.
        ax: where to draw; a new figure's axes when None.
        class_names: of the K classes; their numbers when None.
        unit: what the features are measured in, for the label.

    Returns:
        The axes.

    Raises:
        ValueError: the arrays or the names differ in number, or a coefficient is not finite.
        MissingExtra: matplotlib is not installed.

    >>> ax = coefficients([0.5, -2.0], [0.1, -3.0], [0.9, -1.0], ["age", "dose"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['dose', 'age']
    """
    check_numbers("w", w, "solution.params.w")
    w = np.asarray(w, np.float64)
    left, right = (w if end is None else np.asarray(end, np.float64) for end in (low, high))
    shapes = dict.fromkeys([w.shape, left.shape, right.shape])
    if w.ndim not in (1, 2) or not w.size or len(shapes) > 1:
        found = " and ".join(map(str, shapes))
        raise ValueError(f"w, low and high have shapes {found} where (n,), or (n, K), is due.")
    for numbers in (w, left, right):
        if not np.isfinite(numbers).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(numbers))[0])
            raise ValueError(f"The coefficient at {place}, or its interval, is not finite.")
    ax = axes_or_new(ax)
    label = _labels(w.shape, names, class_names, characters(ax, 0.5))
    w, left, right = w.ravel(), left.ravel(), right.ravel()
    size = name_size(ax)
    count = max(1, min(len(w), int(size_of(ax)[1] / (1.5 * size))))
    largest = np.argsort(-np.abs(w), kind="stable")
    rows, hidden = largest[:count], largest[count:]
    place = np.arange(count)
    certain = (left[rows] > 0) | (right[rows] < 0)
    for some, color in ((certain, COLORS[0]), (~certain, "#888888")):
        ax.hlines(place[some], left[rows[some]], right[rows[some]], color=color, lw=1.5)
        ax.plot(w[rows[some]], place[some], ls="none", marker="o", ms=size / 2, color=color)
    ax.hlines(place, 0, w[rows], color=GREY, lw=0.6, zorder=0)
    ax.axvline(0.0, color=INK, lw=0.6, zorder=0)
    ax.set_ylim(count - 0.4, -0.6)
    dress(ax, f"coefficient\n(log-odds per {unit})", "")
    ax.xaxis.label.set(ha="right", x=1)  # it may be wider than the axes, as is the note
    ax.set_yticks(place, [label(int(row)) for row in rows], fontsize=size)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if len(hidden):
        note = f"{count} of {len(w)}; the others within ±{np.abs(w[hidden[0]]):.2g}"
        ax.set_title(note, loc="right", fontsize=size)
    return ax


def _labels(
    shape: tuple[int, ...],
    names: Sequence[str] | None,
    class_names: Sequence[str] | None,
    limit: float,
) -> Callable[[int], str]:
    """Return what names a coefficient by its place, class by class within a feature."""
    n, K = (*shape, 1)[:2]
    names = [f"feature {j}" for j in range(n)] if names is None else list(names)
    kinds = [f"class {k}" for k in range(K)] if class_names is None else list(class_names)
    if len(names) != n:
        raise ValueError(f"names has {len(names)} names, and there are {n} features.")
    if len(shape) == 1:
        return lambda row: shown(names[row], limit)
    if len(kinds) != K:
        raise ValueError(f"class_names has {len(kinds)} names, and there are {K} classes.")

    def label(row: int) -> str:
        # Each of the two keeps its end, which may be what tells it from others.
        kind = shown(kinds[row % K], limit / 2)
        return f"{shown(names[row // K], limit - len(kind))}: {kind}"

    return label
