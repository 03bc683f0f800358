"""What the pictures share: colours, sizes of text, and names that keep clear of each other."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxlr.base.extras import require
from jaxlr.base.pytrees import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision; without yellow, faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY = "#222222", "#BBBBBB"
_CHARACTER = 0.55  # the mean width of a character, in sizes of the text


def new_figure(width: float = 4.8, height: float = 3.6) -> Figure:
    """Return a figure, in inches, that no window shows and pyplot does not know."""
    figure = require("matplotlib.figure", "plots").Figure((width, height), layout="constrained")
    require("matplotlib.backends.backend_agg", "plots").FigureCanvasAgg(figure)
    return figure


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the axes, or those of a new figure when None."""
    return new_figure().add_subplot() if ax is None else ax


def size_of(ax: Axes) -> tuple[float, float]:
    """Return width and height in points; somewhat too large before the axes are laid out."""
    box, points = ax.bbox, 72 / ax.figure.dpi
    return box.width * points, box.height * points


def text_size(ax: Axes) -> float:
    """Return the size of the labels, in points: 10, or less on small axes; names have 0.8 of it."""
    width, height = size_of(ax)
    return min(10.0, max(6.5, min(width / 18, height / 14)))


def name_size(ax: Axes) -> float:
    """Return the size of names and of what a legend says, in points."""
    return max(6.0, 0.8 * text_size(ax))


def dress(ax: Axes, xlabel: str, ylabel: str, right: bool = False) -> None:
    """Label the axes, in a size that fits them; the scale may stand on the right."""
    size = text_size(ax)
    width, height = size_of(ax)
    ax.set_xlabel(_wrapped(xlabel, 1.1 * width / size), fontsize=size)
    ax.set_ylabel(_wrapped(ylabel, 1.1 * height / size), fontsize=size)
    ax.tick_params(which="both", labelsize=size)
    if size < 10:
        ax.tick_params(which="both", pad=2, length=2)
    ax.spines["top"].set_visible(False)
    if right:
        ax.yaxis.tick_right()
        ax.yaxis.set_label_position("right")
    else:
        ax.spines["right"].set_visible(False)


def _wrapped(text: str, room: float) -> str:
    r"""Break lines that are longer than so many sizes of the text.

    >>> _wrapped("coefficient\n(log-odds per standard deviation)", 14.0)
    'coefficient\n(log-odds per standard\ndeviation)'
    """
    most = max(1, int(room / _CHARACTER))
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, most))


def legend(ax: Axes, beside: bool = False, **settings: Any) -> None:
    """Put the legend above the axes or beside them, where no line can run through it."""
    size = name_size(ax)
    ax.legend(
        loc="upper left" if beside else "lower left",
        bbox_to_anchor=(1, 1) if beside else (0, 1),
        frameon=False,
        fontsize=size,
        title_fontsize=size,
        alignment="left",
        handlelength=1,
        borderpad=0.2,
        borderaxespad=0.2,
        labelspacing=0.3,
        **settings,
    )


def shown(name: str, characters: float) -> str:
    r"""Return a name that matplotlib shows as it is, its middle left out if it is too long.

    >>> shown("price in $", 20), shown("a\nvery long name indeed", 12)
    ('price in \\$', 'a very…ndeed')
    """
    name = " ".join(str(name).split())
    characters = max(3, int(characters))
    if len(name) > characters:
        tail = (characters - 1) // 2
        name = f"{name[: characters - 1 - tail]}…{name[-tail:]}"
    return name.replace("$", r"\$")


def characters(ax: Axes, share: float) -> float:
    """Return how many characters of a name fit in a share of the width."""
    return share * size_of(ax)[0] / (_CHARACTER * name_size(ax))


def log_scale(ax: Axes, low: float, high: float) -> None:
    """Make the y axis logarithmic if the numbers differ much, with plain numbers at its ticks."""
    if not high > 4 * low > 0:
        return
    ticker = require("matplotlib.ticker", "plots")
    decade = size_of(ax)[1] / np.log10(high / low)  # in points
    ticks = ((1, 1.5, 2, 3, 5, 7), 0.12), ((1, 2, 5), 0.3), ((1, 3), 0.45), ((1,), 0)
    subs = next(subs for subs, narrowest in ticks if narrowest * decade > 16 or not narrowest)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
    ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(ticker.NullLocator())


def name_ends(ax: Axes, lines: Sequence[Any], names: Sequence[str], left: bool) -> None:
    """Write names beside the axes, at the left or right ends of the lines; after all is drawn."""
    low, high = ax.get_ylim()
    ends = np.clip([_end(np.asarray(line.get_ydata(), float), left) for line in lines], low, high)
    to_axes = ax.transScale + ax.transLimits
    heights = to_axes.transform([(ax.get_xlim()[0], end) for end in ends])[:, 1]
    size = name_size(ax)
    places = apart(heights, 1.35 * size / size_of(ax)[1])
    for line, name, end, place in zip(lines, names, ends, places, strict=True):
        ax.annotate(
            name,
            xy=(0 if left else 1, end),
            xycoords=ax.get_yaxis_transform(),
            xytext=(-0.06 if left else 1.06, place),
            textcoords="axes fraction",
            ha="right" if left else "left",
            va="center",
            fontsize=size,
            color=INK,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": line.get_color(),
                "relpos": (1 if left else 0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def _end(values: np.ndarray, left: bool) -> float:
    """Return the first or last finite number: lanes that failed have none there."""
    finite = values[np.isfinite(values)]
    return 0.0 if not len(finite) else float(finite[0 if left else -1])


def apart(places: Array, gap: float) -> np.ndarray:
    """Return the places moved as little as it takes to lie `gap` apart, between 0 and 1.

    >>> apart(np.array([0.5, 0.5, 0.9]), 0.1).round(2).tolist()
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
