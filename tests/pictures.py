"""What the tests of pictures share."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

SIZES = [(4.8, 3.6), (3.0, 2.0), (2.0, 1.5)]  # in inches


def new_axes(width=4.8, height=3.6):
    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def color_of(line):
    return to_hex(line.get_color()).upper()


def points(line):
    return np.asarray(line.get_xydata(), float)


def assert_clear(ax):
    """Draw, and see that no text runs into another or out of the picture."""
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    texts = [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax.title, ax._left_title, ax._right_title]
    texts += [*legend.get_texts(), legend.get_title()] if legend else []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_majorticklabels(), axis.get_majorticklocs(), strict=True)
        texts += [label for label, place in ticks if low <= place <= high]
    # Text's own extent: that of an annotation has its arrow in it.
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in texts if t.get_text()]
    width, height = ax.figure.canvas.get_width_height()
    for i, (name, box) in enumerate(boxes):
        assert box.x0 >= -1, name
        assert box.x1 <= width + 1, name
        assert box.y0 >= -1, name
        assert box.y1 <= height + 1, name
        for other, second in boxes[:i]:
            assert not box.padded(-0.5).overlaps(second), (name, other)


def awkward_names(n):
    return [f"a name of $ {'that goes on ' * (j % 5)}{j}" for j in range(n)]
