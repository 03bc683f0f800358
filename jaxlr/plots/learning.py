"""Learning curves of gradient descent, one for each learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxlr.base.extras import require
from jaxlr.base.pytrees import Array
from jaxlr.model.shapes import check_numbers
from jaxlr.plots.style import axes_or_new, dress, log_scale, name_ends, name_size, size_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LIGHTEST = 0.85  # of the colour map: its end is faint on white


def learning_curves(
    losses: Array, learning_rates: Array, ax: Axes | None = None, *, optimum: float | None = None
) -> Axes:
    """Draw the objective against the step, a line for each learning rate.

    The colour goes from dark, the smallest rate, to light. Some rates are named at the right:
    the smallest, the largest, the best. An ↑ marks one that in the second half of its steps is
    above where it started, or not finite; its line ends where it leaves the axes.

    Args:
        losses: `(R, num_steps)`, of the descents under `jax.vmap`.
        learning_rates: `(R,)`.
        ax: where to draw; a new figure's axes when None.
        optimum: of the objective, such as `jaxlr.fit(…).loss`; with it the distance to it is
            drawn.

    Returns:
        The axes.

    Raises:
        ValueError: losses and learning_rates do not fit each other, or the losses before the first
            step are not finite and above the optimum.
        MissingExtra: matplotlib is not installed.

    >>> ax = learning_curves([[1.0, 0.9, 0.8], [1.0, 0.5, 0.2], [1.0, 9.0, 81.0]], [0.1, 1.0, 10.0])
    >>> [text.get_text() for text in ax.texts]
    ['0.1', '1 best', '10 ↑']
    """
    check_numbers("losses", losses, "descent.losses")
    losses, rates = np.asarray(losses, np.float64), np.asarray(learning_rates, np.float64)
    if losses.ndim != 2 or rates.shape != losses.shape[:1] or not losses.size:
        raise ValueError(
            f"losses has shape {losses.shape} where (R, num_steps) is due, and learning_rates "
            f"{rates.shape} where (R,) is due."
        )
    losses = losses - (0.0 if optimum is None else optimum)
    if not (np.isfinite(losses[:, 0]).all() and (optimum is None or (losses[:, 0] > 0).all())):
        above = "" if optimum is None else f" and above the optimum {optimum:g}"
        raise ValueError(f"The losses before the first step must be finite{above}.")
    ax = axes_or_new(ax)
    order = np.argsort(rates, kind="stable")
    losses, rates = losses[order], rates[order]
    if optimum is not None:
        losses[losses <= 0] = np.nan  # rounding
    start, low, half = losses[:, 0].max(), np.nanmin(losses), losses.shape[1] // 2
    log_scale(ax, low, start)
    log, span = ax.get_yscale() == "log", (start - low) or abs(start) or 1.0
    bottom, high = (low / 1.2, 2 * start) if log else (low - 0.05 * span, start + 0.3 * span)
    with np.errstate(invalid="ignore"):
        rises = ~(np.nan_to_num(losses[:, half:], nan=np.inf).max(axis=1) <= start)
    steps, lines = np.arange(1, losses.shape[1] + 1), []
    colors = require("matplotlib", "plots").colormaps["viridis"]
    for i, loss in enumerate(losses):
        if rises[i]:
            gone = np.logical_or.accumulate(~(loss <= high))
            loss = np.where(np.isfinite(loss), loss, 2 * high)
            loss[1:][gone[:-1]] = np.nan
        color = colors(_LIGHTEST * i / max(1, len(rates) - 1))
        lines += ax.plot(steps, loss, color=color, lw=1.2)
    ax.set(xscale="log", xlim=(1, max(2, len(steps))), ylim=(bottom, high))
    dress(ax, "step", "objective" if optimum is None else "objective − optimum")

    last, size = np.where(rises, np.inf, losses[:, -1]), name_size(ax)
    few = max(1, min(6, int(size_of(ax)[1] / (2 * size)) - 1))
    named = np.unique([last.argmin(), *np.linspace(0, len(rates) - 1, few).round().astype(int)])
    marks = [" ↑" if rises[i] else " best" if i == last.argmin() else "" for i in named]
    names = [f"{rates[i]:.3g}{mark}" for i, mark in zip(named, marks, strict=True)]
    name_ends(ax, [lines[i] for i in named], names, left=False)
    ax.set_title("learning rate", loc="right", fontsize=size)
    return ax
