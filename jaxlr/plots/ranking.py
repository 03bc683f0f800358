"""ROC and precision–recall curves, with bands from resampled examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxlr.base.pytrees import Array, LazyWeights
from jaxlr.plots.rates import GRID, Curve, Ranking, on_grid, precision_recall, rank, resampled, roc
from jaxlr.plots.style import COLORS, GREY, axes_or_new, characters, dress, legend, shown, size_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TAILS = 0.025, 0.975
_POINTS = 2000  # in a line: more cannot be seen


class _Kind(NamedTuple):
    """What tells the two curves apart."""

    curve: Callable[[np.ndarray, np.ndarray, np.ndarray], Curve]
    steps: bool
    area: str
    labels: tuple[str, str]


_ROC = _Kind(roc, False, "AUC", ("false positive rate", "true positive rate"))
_PRECISION_RECALL = _Kind(precision_recall, True, "AP", ("recall", "precision"))


def roc_curve(
    Z: Array,
    y: Array,
    weights: Array | LazyWeights | None = None,
    ax: Axes | None = None,
    *,
    key: Array | None = None,
    num_resamples: int = 200,
    class_names: Sequence[str] | None = None,
) -> Axes:
    """Draw the true against the false positive rate, with the area under the curve.

    Of K > 2 classes each is drawn against the rest: by colour if they are few and there is room;
    else in grey, with the mean over the classes and the class with the least area in colour.

    Args:
        Z: logits, `(m,)`; or `(K, m)` for K > 2 classes.
        y: labels as in `Batch`: `(m,)`, or probabilities `(K, m)`.
        weights: of the examples: None, `(m,)`, or `LazyWeights`.
        ax: where to draw; a new figure's axes when None.
        key: a `jax.random.key` for bands that hold the middle 95% of the curves of resampled
            examples, at each place of the x axis; without a key there are none.
        num_resamples: how many.
        class_names: of the K classes; their numbers when None.

    Returns:
        The axes.

    Raises:
        ValueError: shapes do not fit each other, a logit is NaN, or all examples are of one class.
        MissingExtra: matplotlib is not installed.

    >>> ax = roc_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    >>> ax.get_legend().get_texts()[0].get_text()
    'AUC 0.750'
    """
    ax, ranking = axes_or_new(ax), rank(Z, y, weights)
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--", zorder=0)
    _draw(_ROC, ranking, ax, key, num_resamples, class_names)
    return ax


def precision_recall_curve(
    Z: Array,
    y: Array,
    weights: Array | LazyWeights | None = None,
    ax: Axes | None = None,
    *,
    key: Array | None = None,
    num_resamples: int = 200,
    class_names: Sequence[str] | None = None,
) -> Axes:
    """Draw precision against recall, with the average precision, the area under the steps.

    For two classes a dashed line marks the share of positives, the precision of chance.

    Args:
        Z, y, weights, ax, key, num_resamples, class_names: as for `roc_curve`.

    Returns:
        The axes; raises as `roc_curve` does.

    >>> ax = precision_recall_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    >>> ax.get_legend().get_texts()[0].get_text()
    'AP 0.833'
    """
    ax, ranking = axes_or_new(ax), rank(Z, y, weights)
    if len(ranking.p) == 1:
        chance = ranking.p.sum() / (ranking.p + ranking.q).sum()
        ax.axhline(chance, color=GREY, lw=0.8, ls="--", zorder=0)
    _draw(_PRECISION_RECALL, ranking, ax, key, num_resamples, class_names)
    return ax


def _draw(
    kind: _Kind,
    ranking: Ranking,
    ax: Axes,
    key: Array | None,
    num_resamples: int,
    class_names: Sequence[str] | None,
) -> None:
    each = _curves(kind, ranking)
    areas = np.array([curve.area for curve in each])
    K, present = max(len(each), 2), np.flatnonzero(np.isfinite(areas)).tolist()
    if class_names is not None and len(class_names) != K:
        raise ValueError(f"class_names has {len(class_names)} names, and there are {K} classes.")
    names = [f"class {k}" for k in range(K)] if class_names is None else list(class_names)
    width, height = size_of(ax)
    few = 2 < K <= len(COLORS) and width > 200 and height > 120
    # What is drawn in colour: curves, or the mean of several.
    if few:
        groups = [[k] for k in present]
        labels = [f"{areas[k]:.3f} {shown(names[k], characters(ax, 0.25))}" for k in present]
    elif K == 2:
        groups, labels = [[0]], [f"{kind.area} {areas[0]:.3f}"]
    else:
        lowest = min(present, key=lambda k: areas[k])
        groups = [present, [lowest]]
        name = shown(names[lowest], characters(ax, 0.4))
        labels = [f"mean of {len(present)} classes: {kind.area} {areas[present].mean():.3f}"]
        labels += [f"lowest, {name}: {kind.area} {areas[lowest]:.3f}"]
        for k in present:
            _line(kind, each[k], ax, color=GREY, lw=0.6, zorder=1)
    bands = _bands(kind, ranking, groups, key, num_resamples)
    for color, group, label, band in zip(COLORS, groups, labels, bands, strict=False):
        if band is not None:
            low, high = band
            step = "pre" if kind.steps else None
            ax.fill_between(GRID, low[:-1], high[:-1], color=color, alpha=0.2, lw=0, step=step)
            if K == 2 and width > 150:
                label += f" (95%: {low[-1]:.3f} to {high[-1]:.3f})"
        curve = each[group[0]] if len(group) == 1 else _mean(kind, [each[k] for k in group])
        _line(kind, curve, ax, color=color, lw=1.5, zorder=2, label=label)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    dress(ax, *kind.labels)
    legend(ax, beside=few, title=kind.area if few else None)


def _curves(kind: _Kind, ranking: Ranking) -> list[Curve]:
    return [kind.curve(*row) for row in zip(ranking.p, ranking.q, ranking.last, strict=True)]


def _mean(kind: _Kind, curves: Sequence[Curve]) -> Curve:
    x, y = GRID, np.mean([on_grid(curve, kind.steps) for curve in curves], axis=0)
    if not kind.steps:  # a ROC curve starts in the corner
        x, y = np.append(0.0, x), np.append(0.0, y)
    return Curve(x, y, float(np.mean([curve.area for curve in curves])))


def _bands(
    kind: _Kind,
    ranking: Ranking,
    groups: list[list[int]],
    key: Array | None,
    num_resamples: int,
) -> list[np.ndarray | None]:
    """Return for each group the low and high ends on `GRID`, and of the area: `(2, G + 1)`."""
    if key is None:
        return [None] * len(groups)
    means = [[] for _ in groups]
    for resample in resampled(ranking, num_resamples, key):
        curves = _curves(kind, resample)
        each = np.array([np.append(on_grid(curve, kind.steps), curve.area) for curve in curves])
        for group, found in zip(groups, means, strict=True):
            rows = each[group]
            rows = rows[np.isfinite(rows[:, -1])]  # a class may have no examples in a resample
            found += [rows.mean(axis=0)] if len(rows) else []
    return [np.quantile(found, _TAILS, axis=0) if found else None for found in means]


def _line(kind: _Kind, curve: Curve, ax: Axes, **style: Any) -> None:
    x, y = curve.x, curve.y
    if len(x) > _POINTS:
        along = x + (0 if kind.steps else y)  # never descends
        kept = np.searchsorted(along, np.linspace(0, along[-1], _POINTS))
        x, y = x[kept], y[kept]
    ax.plot(x, y, drawstyle="steps-pre" if kind.steps else "default", **style)
