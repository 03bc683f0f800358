"""Logistic regression as pure, jitted JAX functions with hand-derived gradients."""

from jaxlr import data, metrics
from jaxlr.files.saving import load, save
from jaxlr.model.batch import Batch, Params, init_params
from jaxlr.model.linear import logits, predict, predict_proba
from jaxlr.model.objective import gradient, hessian, hvp, loss, value_and_grad
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import FitError, Solution, Status
from jaxlr.solver.certificate import Certificate, certify
from jaxlr.solver.curvature import Curvature, make_curvature
from jaxlr.solver.descent import Descent, gradient_descent, minibatch_descent
from jaxlr.solver.fit import fit, polish
from jaxlr.solver.implicit import InverseHvp, inverse_hvp
from jaxlr.solver.influence import LeaveOneOut, influence, leave_one_out, leave_one_out_params
from jaxlr.studies.refits import bootstrap, permute
from jaxlr.studies.resampling import (
    FoldWeights,
    SplitWeights,
    group_folds,
    multinomial_counts,
    poisson_counts,
    repeated_folds,
    splits,
    stratified_folds,
)
from jaxlr.studies.scores import Scores, score
from jaxlr.studies.sweep import CrossValidation, cross_validate, sweep
from jaxlr.studies.tune import Tuned, TuneStatus, tune
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
    "load",
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
    "save",
    "score",
    "splits",
    "stratified_folds",
    "sweep",
    "tune",
    "value_and_grad",
]
