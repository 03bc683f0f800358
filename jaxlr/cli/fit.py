"""`jaxlr fit`: fit one penalty to a file."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxlr
from jaxlr.cli import inspection
from jaxlr.cli.refusal import Refusal
from jaxlr.cli.trained import trained
from jaxlr.cli.work import announced
from jaxlr.files.data_set import Data
from jaxlr.files.model_file import Model, write_model
from jaxlr.model.padding import in_room
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import Solution, Status
from jaxlr.solver.separation import separating_features
from jaxlr.tables import listed
from jaxlr.tables.table import one_line


class Fit(NamedTuple):
    """What the command found; its arrays are NumPy's."""

    data: Data
    l2: float
    solution: Solution
    model: Model
    seconds: float  # compiling included
    separating: list[str]  # the features that separate the classes, if there is no optimum for that


def run(data: Data, l2: float | None) -> Fit:
    """Fit all examples; a penalty of None is scikit-learn's default, C = 1: l2 = 1/Σ weights."""
    batch, start = data.batch, time.perf_counter()
    if l2 is None:
        weights = batch.m_examples if batch.weights is None else float(batch.weights.sum())
        l2 = 1 / weights
    limits = np.finfo(batch.X.dtype)
    if not (l2 == 0 or limits.tiny <= l2 <= limits.max):
        raise Refusal(f"--l2 {l2:g}: a penalty is 0, or positive and finite in {limits.dtype}.")
    l2 = float(np.asarray(l2, batch.X.dtype))
    training = {
        "command": "fit",
        "dataset": data.name,
        "standardised": data.standardised,
        "dtype": str(batch.X.dtype),
    }
    penalty = Penalty(np.asarray(l2, batch.X.dtype))
    with announced(data, 1, "one penalty"):
        solution = jax.device_get(jaxlr.fit(in_room(batch), penalty))
    model = trained(data, solution, l2, training)
    separating = []
    if solution.status == Status.NO_FINITE_OPTIMUM:
        which = np.asarray(separating_features(solution.params, batch, penalty))
        separating = [data.feature_names[j] for j in np.flatnonzero(which)]
    return Fit(data, l2, solution, model, time.perf_counter() - start, separating)


def failure(found: Fit) -> str | None:
    """Return a sentence about a fit that is no optimum, or None."""
    status = Status(int(found.solution.status))
    if status.ok:
        return None
    if found.separating:
        return (
            f"the fit failed: without a penalty there is no finite optimum, since the classes are "
            f"separated by {listed([one_line(name) for name in found.separating])}: no row is on "
            f"the wrong side, and the coefficients would grow for ever. A penalty makes an "
            f"optimum: --l2 0.001; or leave such columns out with --exclude. No model is written."
        )
    fix = " A penalty makes one: --l2 0.001." if status == Status.NO_FINITE_OPTIMUM else ""
    return f"the fit failed: {status.message}.{fix} No model is written."


def show(found: Fit, level: float) -> None:
    """Print the model, and what was done to the columns."""
    inspection.show(found.model, level, [*found.data.notes, f"{found.seconds:.1f} s."])


def content(found: Fit, level: float) -> dict[str, Any]:
    """Return what `--json` prints."""
    told = inspection.content(found.model, level)
    return {**told, "notes": list(found.data.notes), "seconds": found.seconds}


def write(found: Fit, output: Path | None) -> None:
    """Write the model, where it was asked for and there is one."""
    if output is not None and failure(found) is None:
        write_model(output, found.model)
