"""Logistic regression as pure, jitted JAX functions with hand-derived gradients."""

from jaxlr.objective import (
    gradient,
    hessian,
    hvp,
    logits,
    loss,
    predict,
    predict_proba,
    value_and_grad,
)
from jaxlr.types import Batch, FitError, Params, Penalty, Solution, Status, init_params

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "FitError",
    "Params",
    "Penalty",
    "Solution",
    "Status",
    "gradient",
    "hessian",
    "hvp",
    "init_params",
    "logits",
    "loss",
    "predict",
    "predict_proba",
    "value_and_grad",
]
