"""A model of what the command line has fitted: how good it is, and how sure."""

from typing import Any

import jax
import numpy as np

import jaxlr
from jaxlr.cli.memory import give_back
from jaxlr.files.data_set import Data
from jaxlr.files.model_file import Model, make_model
from jaxlr.files.saving import objective, plain
from jaxlr.inference.intervals import standard_errors
from jaxlr.model.padding import in_room
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import Solution

_RANKED = 2**19  # examples of which the ROC AUC is taken


def trained(data: Data, fit: Solution, l2: float, training: dict[str, Any]) -> Model:
    """Return the model of a fit to all the examples of a data set.

    Args:
        data: what it was fitted to.
        fit: one lane.
        l2: its penalty.
        training: how it was made, words and numbers.
    """
    give_back()
    penalty = Penalty(np.asarray(l2, data.batch.X.dtype))
    return make_model(
        fit.params,
        mean=data.mean,
        scale=data.scale,
        feature_names=data.feature_names,
        class_names=data.class_names,
        objective=objective(fit, l2),
        training=training,
        data={**data.source, **quality(data, fit)},
        design=data.design,
        errors=standard_errors(fit.params, in_room(data.batch), penalty, data.mean, data.scale),
    )


def quality(data: Data, fit: Solution) -> dict[str, Any]:
    """Return how well a fit predicts what it was fitted to, beside the class frequencies."""
    batch = data.batch
    weights = None if batch.weights is None else np.asarray(batch.weights)
    shares = np.bincount(np.asarray(batch.y, int), weights, batch.n_classes)
    shares = shares / shares.sum()
    roomy = in_room(batch)
    scores = jax.jit(jaxlr.score)(fit.params, roomy)
    found = {
        "m_examples": batch.m_examples,
        "class_shares": shares.tolist(),
        "log_loss": scores.log_loss,
        "accuracy": scores.accuracy,
        "null_log_loss": -(shares * np.log(shares, where=shares > 0, out=0 * shares)).sum(),
        "null_accuracy": shares.max(),
    }
    if batch.n_classes == 2:
        # A sort needs memory: of many examples, evenly spaced ones give three digits.
        some = slice(None, None, -(-batch.m_examples // _RANKED))
        Z = jax.jit(jaxlr.logits)(fit.params, roomy.X)[some]
        weights = None if roomy.weights is None else roomy.weights[some]
        found["roc_auc"] = jax.jit(jaxlr.metrics.roc_auc)(Z, roomy.y[some], weights)
        found["roc_auc_examples"] = len(range(batch.m_examples)[some])
    return {name: plain(value) for name, value in found.items()}
