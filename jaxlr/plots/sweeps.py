"""Pictures of a sweep of penalties: scores on held-out examples, and coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxlr.base.pytrees import Array
from jaxlr.model.shapes import check_type
from jaxlr.model.solution import Solution
from jaxlr.plots.style import (
    COLORS,
    GREY,
    INK,
    axes_or_new,
    characters,
    dress,
    legend,
    log_scale,
    name_ends,
    name_size,
    new_figure,
    shown,
    size_of,
    text_size,
)
from jaxlr.studies.sweep import CrossValidation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS = {"log_loss": ("held-out log loss", "nats"), "accuracy": ("held-out accuracy", "share")}
_PENALTY = "penalty l2"


def validation_curve(
    result: CrossValidation, ax: Axes | None = None, metric: str = "log_loss"
) -> Axes:
    """Draw a score on held-out examples along the penalty, with its standard-error band.

    The best penalty and the strongest one within a standard error are marked.

    Args:
        result: from `jaxlr.cross_validate`.
        ax: where to draw; a new figure's axes when None.
        metric: `"log_loss"` or `"accuracy"`.

    Returns:
        The axes.

    Raises:
        ValueError: there is no such metric.
        TypeError: result is of another type.
        MissingExtra: matplotlib is not installed.

    >>> from jaxlr import Penalty, Scores
    >>> losses = np.array([[0.5, 0.6], [0.4, 0.5], [0.7, 0.8]])
    >>> penalties, scores = Penalty(np.array([0.01, 0.1, 1.0])), Scores(losses, 1 - losses)
    >>> result = CrossValidation(penalties, None, scores, np.array(1), np.array(1))
    >>> print(validation_curve(result).get_ylabel())
    held-out log loss
    (nats, mean ± 1 SE)
    """
    check_type("result", result, CrossValidation)
    if metric not in _METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {', '.join(_METRICS)}.")
    ax = axes_or_new(ax)
    l2 = np.asarray(result.penalties.l2)
    order = np.argsort(l2)
    mean, error = mean_and_error(getattr(result.scores, metric))
    low, high = mean - error, mean + error
    ax.fill_between(l2[order], low[order], high[order], color=COLORS[0], alpha=0.2, lw=0)
    ax.plot(l2[order], mean[order], color=COLORS[0], lw=1.5)
    # The two may be one penalty: the ring is drawn around the dot.
    size = text_size(ax)
    for place, name, style in (
        (result.best, "best", {"ms": size / 2, "mfc": COLORS[1], "mec": COLORS[1]}),
        (result.best_one_se, "1 SE", {"ms": size, "mfc": "none", "mec": INK}),
    ):
        if place >= 0:  # else no penalty has a finite score
            at, label = l2[int(place)], f"{name}: l2 = {l2[int(place)]:.2g}"
            ax.plot(at, mean[int(place)], ls="none", marker="o", label=label, **style)
    ax.set_xscale("log")
    finite = np.isfinite(mean)
    if metric == "log_loss" and finite.any():
        log_scale(ax, low[finite].min(), high[finite].max())
    name, unit = _METRICS[metric]
    dress(ax, _PENALTY, f"{name}\n({unit}, mean ± 1 SE)")
    if result.best >= 0:
        legend(ax)
    return ax


def coefficient_path(
    l2: Array,
    solution: Solution,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
    unit: str = "unit",
) -> Axes:
    """Draw the coefficients along the penalty, and name the few largest.

    For the softmax a feature's line is the norm of its coefficients over the classes. The names
    stand on the left, where coefficients are largest, and the scale on the right.

    Args:
        l2: `(P,)`, the penalties.
        solution: P lanes, from `jaxlr.sweep`.
        names: of the features; their numbers when None.
        ax: where to draw; a new figure's axes when None.
        unit: what the features are measured in, for the label: `"standard deviation"`.

    Returns:
        The axes.

    Raises:
        ValueError: l2 and solution, or names and features, differ in number.
        TypeError: solution is of another type.
        MissingExtra: matplotlib is not installed.

    >>> from jaxlr import Params
    >>> lanes = Params(np.array([[2.0, -1.0], [0.5, -0.2]]), np.zeros(2))
    >>> ax = coefficient_path([0.1, 1.0], Solution(lanes, *[None] * 6), ["age", "dose"])
    >>> [text.get_text() for text in ax.texts]
    ['age', 'dose']
    """
    check_type("solution", solution, Solution)
    w = np.asarray(solution.params.w)
    softmax = w.ndim == 3
    size = np.linalg.norm(w, axis=2) if softmax else w
    l2 = np.asarray(l2)
    n = size.shape[1]
    if l2.shape != size.shape[:1]:
        raise ValueError(f"l2 has shape {l2.shape}, and the solution has {len(size)} lanes.")
    if names is not None and len(names) != n:
        raise ValueError(f"names has {len(names)} names, and the solution {n} features.")
    names = [f"feature {j}" for j in range(n)] if names is None else list(names)
    ax = axes_or_new(ax)

    order = np.argsort(l2)
    l2, size = l2[order], size[order]
    # What a lane that failed holds is not a size to rank by.
    rank = np.nan_to_num(np.abs(size), nan=0.0, posinf=0.0).max(axis=0)
    few = max(1, min(len(COLORS), int(size_of(ax)[1] / (2 * name_size(ax)))))
    named = np.argsort(-rank, kind="stable")[:few]
    for j in np.setdiff1d(np.arange(n), named):
        # Thousands of lines as a drawing would be slow to show.
        ax.plot(l2, size[:, j], color=GREY, lw=0.6, zorder=1, rasterized=n > 500)
    lines = [
        ax.plot(l2, size[:, j], color=color, lw=1.5, zorder=2, label=names[j])[0]
        for color, j in zip(COLORS, named, strict=False)
    ]
    if not softmax:
        ax.axhline(0.0, color=INK, lw=0.6, zorder=0)
    ax.set_xscale("log")
    ax.margins(x=0)
    ylabel = "norm over classes" if softmax else "coefficient"
    dress(ax, _PENALTY, f"{ylabel}\n(log-odds per {unit})", right=True)
    name_ends(ax, lines, [shown(names[j], characters(ax, 0.4)) for j in named], left=True)
    return ax


def sweep_figure(
    result: CrossValidation,
    solution: Solution,
    names: Sequence[str] | None = None,
    title: str | None = None,
    unit: str = "unit",
) -> Figure:
    """Return a figure of the validation curve and the coefficient path side by side.

    A dashed line marks the best penalty among the coefficients.

    Args:
        result: from `jaxlr.cross_validate`.
        solution: of `jaxlr.sweep` over the same penalties.
        names, unit: of the features, as for `coefficient_path`.
        title: above both.

    Returns:
        A matplotlib figure with an Agg canvas: save it with its `savefig`.

    Raises:
        ValueError, MissingExtra: as `coefficient_path` does.
    """
    figure = new_figure(width=9.6)
    left, right = figure.subplots(1, 2)
    validation_curve(result, left)
    coefficient_path(result.penalties.l2, solution, names, right, unit)
    chosen = float(np.asarray(result.penalties.l2)[int(result.best)])
    right.axvline(chosen, color=COLORS[1], lw=0.8, ls="--", zorder=0)
    if title is not None:
        figure.suptitle(shown(title, 100), fontsize="medium")
    return figure


def mean_and_error(scores: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over the folds and its standard error.

    Args:
        scores: `(P, F)`, a score for each penalty and fold.

    Returns:
        Two arrays `(P,)`.

    >>> [a.tolist() for a in mean_and_error(np.array([[1.0, 3.0]]))]
    [[2.0], [1.0]]
    """
    scores = np.asarray(scores, np.float64)
    with np.errstate(invalid="ignore"):  # infinity has no spread: NaN
        error = scores.std(axis=1, ddof=1) / scores.shape[1] ** 0.5
    return scores.mean(axis=1), error
