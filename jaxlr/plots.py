"""Pictures of sweeps, drawn with matplotlib on axes that are given and returned.

No global state of matplotlib is used: without `ax` a new `Figure` with an Agg canvas is made,
which is `ax.figure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxlr.extras import require
from jaxlr.sweep import CrossValidation
from jaxlr.types import Array, Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision; without yellow, faint on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _GREY = "#222222", "#BBBBBB"
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
        MissingExtra: matplotlib is not installed.

    >>> from jaxlr import Penalty, Scores
    >>> losses = np.array([[0.5, 0.6], [0.4, 0.5], [0.7, 0.8]])
    >>> penalties, scores = Penalty(np.array([0.01, 0.1, 1.0])), Scores(losses, 1 - losses)
    >>> result = CrossValidation(penalties, None, scores, np.array(1), np.array(1))
    >>> print(validation_curve(result).get_ylabel())
    held-out log loss
    (nats, mean ± 1 SE)
    """
    if metric not in _METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {', '.join(_METRICS)}.")
    ax = _new_figure().add_subplot() if ax is None else ax
    l2 = np.asarray(result.penalties.l2)
    order = np.argsort(l2)
    mean, error = mean_and_error(getattr(result.scores, metric))
    low, high = mean - error, mean + error
    ax.fill_between(l2[order], low[order], high[order], color=_COLORS[0], alpha=0.2, lw=0)
    ax.plot(l2[order], mean[order], color=_COLORS[0], lw=1.5)
    # The two may be one penalty: the ring is drawn around the dot.
    for place, name, style in (
        (result.best, "best", {"marker": "o", "ms": 5, "mfc": _COLORS[1], "mec": _COLORS[1]}),
        (result.best_one_se, "1 SE", {"marker": "o", "ms": 10, "mfc": "none", "mec": _INK}),
    ):
        at = l2[int(place)]
        ax.plot(at, mean[int(place)], ls="none", label=f"{name}: l2 = {at:.2g}", **style)
    ax.set_xscale("log")
    finite = np.isfinite(mean)
    if metric == "log_loss" and finite.any():
        _log_scale(ax, low[finite].min(), high[finite].max())
    name, unit = _METRICS[metric]
    ax.set(xlabel=_PENALTY, ylabel=f"{name}\n({unit}, mean ± 1 SE)")
    # Above the axes, where no line can run through it.
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8, handlelength=1)
    ax.spines["top"].set_visible(False)
    ax.spines["right"].set_visible(False)
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
        MissingExtra: matplotlib is not installed.

    >>> from jaxlr import Params
    >>> lanes = Params(np.array([[2.0, -1.0], [0.5, -0.2]]), np.zeros(2))
    >>> ax = coefficient_path([0.1, 1.0], Solution(lanes, *[None] * 6), ["age", "dose"])
    >>> [text.get_text() for text in ax.texts]
    ['age', 'dose']
    """
    w = np.asarray(solution.params.w)
    softmax = w.ndim == 3
    size = np.linalg.norm(w, axis=2) if softmax else w
    l2 = np.asarray(l2)
    n = size.shape[1]
    if l2.shape != size.shape[:1]:
        raise ValueError(f"l2 has shape {l2.shape}, and the solution has {len(size)} lanes.")
    if names is not None and len(names) != n:
        raise ValueError(f"names has {len(names)} names, and the solution {n} features.")
    names = [f"feature {j}" for j in range(n)] if names is None else names
    ax = _new_figure().add_subplot() if ax is None else ax

    order = np.argsort(l2)
    l2, size = l2[order], size[order]
    # What a lane that failed holds is not a size to rank by.
    rank = np.nan_to_num(np.abs(size), nan=0.0, posinf=0.0).max(axis=0)
    few = max(1, min(len(_COLORS), int(_height(ax) / 16)))
    labelled = np.argsort(-rank, kind="stable")[:few]
    rest = np.setdiff1d(np.arange(n), labelled)
    for j in rest:
        ax.plot(l2, size[:, j], color=_GREY, lw=0.6, zorder=1)
    for color, j in zip(_COLORS, labelled, strict=False):
        ax.plot(l2, size[:, j], color=color, lw=1.5, zorder=2, label=names[j])
    if not softmax:
        ax.axhline(0.0, color=_INK, lw=0.6, zorder=0)
    ax.set_xscale("log")
    ax.margins(x=0)
    ylabel = "norm over classes" if softmax else "coefficient"
    ax.set(xlabel=_PENALTY, ylabel=f"{ylabel}\n(log-odds per {unit})")
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.spines["top"].set_visible(False)
    _name_lines(ax)
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
    figure = _new_figure(width=9.6)
    left, right = figure.subplots(1, 2)
    validation_curve(result, left)
    coefficient_path(result.penalties.l2, solution, names, right, unit)
    chosen = float(np.asarray(result.penalties.l2)[int(result.best)])
    right.axvline(chosen, color=_COLORS[1], lw=0.8, ls="--", zorder=0)
    if title is not None:
        figure.suptitle(title, fontsize="medium")
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


def _new_figure(width: float = 4.8, height: float = 3.6) -> Figure:
    figure = require("matplotlib.figure", "plots").Figure((width, height), layout="constrained")
    require("matplotlib.backends.backend_agg", "plots").FigureCanvasAgg(figure)
    return figure


def _height(ax: Axes) -> float:
    """Return the height of the axes in points; somewhat too large before they are laid out."""
    return ax.bbox.height / ax.figure.dpi * 72


def _log_scale(ax: Axes, low: float, high: float) -> None:
    """Make the y axis logarithmic if the numbers differ much, with plain numbers at its ticks."""
    if not high > 4 * low > 0:
        return
    ticker = require("matplotlib.ticker", "plots")
    decade = _height(ax) / np.log10(high / low)  # in points
    ticks = ((1, 1.5, 2, 3, 5, 7), 0.12), ((1, 2, 5), 0.3), ((1, 3), 0.45), ((1,), 0)
    subs = next(subs for subs, narrowest in ticks if narrowest * decade > 16 or not narrowest)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
    ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(ticker.NullLocator())


def _name_lines(ax: Axes) -> None:
    """Write the names of the labelled lines left of the axes, at the lines' left ends."""
    lines = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    ends = np.array([np.nan_to_num(np.asarray(line.get_ydata(), float)[0]) for line in lines])
    low, high = ax.get_ylim()
    places = _apart((ends - low) / (high - low), gap=11 / _height(ax))
    for line, end, place in zip(lines, ends, places, strict=True):
        ax.annotate(
            str(line.get_label()),
            xy=(0, end),
            xycoords=ax.get_yaxis_transform(),
            xytext=(-0.06, place),
            textcoords="axes fraction",
            ha="right",
            va="center",
            fontsize=8,
            color=_INK,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": line.get_color(),
                "relpos": (1, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def _apart(places: np.ndarray, gap: float) -> np.ndarray:
    """Return the places moved as little as it takes to lie `gap` apart, between 0 and 1.

    >>> _apart(np.array([0.5, 0.5, 0.9]), 0.1).round(2).tolist()
    [0.45, 0.55, 0.9]
    """
    order = np.argsort(places, kind="stable")
    step = gap * np.arange(len(places))
    # Less the steps, places a gap apart are places in ascending order: the nearest such numbers
    # are found by averaging neighbours that are out of order (isotonic regression).
    blocks: list[list[float]] = []
    for value in places[order] - step:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    ascending = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    moved = np.empty(len(places))
    moved[order] = np.clip(ascending, 0, 1 - step[-1]) + step
    return moved
