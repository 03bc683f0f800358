"""Logistic regression as pure, jitted JAX functions with hand-derived gradients."""

from jaxlr import data, metrics
from jaxlr.certificate import Certificate, certify
from jaxlr.curvature import Curvature, make_curvature
from jaxlr.descent import Descent, gradient_descent, minibatch_descent
from jaxlr.fit import fit, polish
from jaxlr.implicit import InverseHvp, inverse_hvp
from jaxlr.influence import LeaveOneOut, influence, leave_one_out, leave_one_out_params
from jaxlr.linear import logits, predict, predict_proba
from jaxlr.objective import gradient, hessian, hvp, loss, value_and_grad
from jaxlr.refits import bootstrap, permute
from jaxlr.resampling import (
    FoldWeights,
    SplitWeights,
    group_folds,
    multinomial_counts,
    poisson_counts,
    repeated_folds,
    splits,
    stratified_folds,
)
from jaxlr.scores import Scores, score
from jaxlr.sweep import CrossValidation, cross_validate, sweep
from jaxlr.tune import Tuned, TuneStatus, tune
from jaxlr.types import Batch, FitError, Params, Penalty, Solution, Status, init_params
from jaxlr.version import __version__ as __version__

__all__ = [
    "Batch",
    "Certificate",
    "CrossValidation",
    "Curvature",
    "Descent",
    "FitError",
    "FoldWeights",
    "InverseHvp",
    "LeaveOneOut",
    "Params",
    "Penalty",
    "Scores",
    "Solution",
    "SplitWeights",
    "Status",
    "TuneStatus",
    "Tuned",
    "bootstrap",
    "certify",
    "cross_validate",
    "data",
    "fit",
    "gradient",
    "gradient_descent",
    "group_folds",
    "hessian",
    "hvp",
    "influence",
    "init_params",
    "inverse_hvp",
    "leave_one_out",
    "leave_one_out_params",
    "logits",
    "loss",
    "make_curvature",
    "metrics",
    "minibatch_descent",
    "multinomial_counts",
    "permute",
    "poisson_counts",
    "polish",
    "predict",
    "predict_proba",
    "repeated_folds",
    "score",
    "splits",
    "stratified_folds",
    "sweep",
    "tune",
    "value_and_grad",
]
