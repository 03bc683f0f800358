"""Pictures, drawn with matplotlib on axes that are given and returned.

No global state of matplotlib is used: without `ax` a new `Figure` with an Agg canvas is made,
which is `ax.figure`. Every picture is legible from 2 × 1.5 inches on: small axes have smaller
text, and fewer things named.
"""

from jaxlr.plots.calibration import reliability_diagram
from jaxlr.plots.forest import coefficients
from jaxlr.plots.learning import learning_curves
from jaxlr.plots.ranking import precision_recall_curve, roc_curve
from jaxlr.plots.sweeps import coefficient_path, mean_and_error, sweep_figure, validation_curve

__all__ = [
    "coefficient_path",
    "coefficients",
    "learning_curves",
    "mean_and_error",
    "precision_recall_curve",
    "reliability_diagram",
    "roc_curve",
    "sweep_figure",
    "validation_curve",
]
