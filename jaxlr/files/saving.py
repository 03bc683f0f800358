"""A fit as a file: the model file of the command line, from Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxlr.base.pytrees import Array
from jaxlr.model.penalty import Penalty
from jaxlr.model.shapes import check_type
from jaxlr.model.solution import Solution, Status

if TYPE_CHECKING:
    from jaxlr.files.model_file import Model


def save(
    path: str | os.PathLike,
    solution: Solution,
    penalty: Penalty | None = None,
    *,
    mean: Array | None = None,
    scale: Array | None = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a fit to a model file, `.npz`: all of it, or nothing.

    The logits of an example x are `wᵀ((x − mean)/scale) + b`. `jaxlr inspect` tells what is in the
    file; `jaxlr.load` and NumPy read it.

    Args:
        path: of the file; one that is there already is replaced.
        solution: of one lane, an optimum.
        penalty: its penalty, to be told.
        mean, scale: what the features were centred and divided by before the fit, `(n,)`, so that
            whoever predicts does the same; None if they were not.
        feature_names: n of them, or None.
        class_names: K of them, or None.

    Raises:
        FitError: the fit failed.
        ValueError: the solution has several lanes, or the parts do not fit each other.
        TypeError: an argument is of another type.
        WriteError: the file cannot be written.

    >>> import tempfile, jaxlr, jax.numpy as jnp
    >>> batch = jaxlr.Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> solution = jaxlr.fit(batch, jaxlr.Penalty(0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.npz")
    ...     save(path, solution, jaxlr.Penalty(0.1), feature_names=["age"])
    ...     model = load(path)
    >>> model.metadata["feature_names"], bool(model.params.w == solution.params.w)
    (['age'], True)
    """
    from jaxlr.files.model_file import save_model  # not before it is used: the start stays short

    check_type("solution", solution, Solution)
    if penalty is not None:
        check_type("penalty", penalty, Penalty)
    if shape := np.shape(solution.status):
        raise ValueError(
            f"solution has lanes of shape {shape}, and a file holds one: give "
            f"jax.tree.map(lambda a: a[{', '.join('0' * len(shape))}], solution), say."
        )
    solution = jax.device_get(solution.raise_if_failed())
    given = {
        "mean": mean,
        "scale": scale,
        "feature_names": feature_names,
        "class_names": class_names,
    }
    l2 = None if penalty is None else float(penalty.l2)
    save_model(path, solution.params, objective=objective(solution, l2), **given)


def load(path: str | os.PathLike) -> Model:
    """Read a model file, whether Python or the command line wrote it.

    Args:
        path: of the file.

    Returns:
        `Model(params, mean, scale, metadata, design, errors)`, NumPy arrays; the metadata hold the
        names of features and classes, and under `objective` how good the fit is.

    Raises:
        ValueError: the file is damaged, or is no model of jaxlr.
        OSError: it cannot be read, or is not there.
    """
    from jaxlr.files.model_file import load_model

    return load_model(path)


def objective(fit: Solution, l2: float | None) -> dict[str, Any]:
    """Return the numbers of a fit, as JSON has them."""
    numbers = {"l2": l2, **fit._asdict(), "status": Status(int(fit.status)).name.lower()}
    del numbers["params"]
    return {name: plain(number) for name, number in numbers.items()}


def plain(value: Any) -> Any:
    """Return numbers as JSON has them: None stands for what is not finite.

    >>> plain(np.array([1.0, np.inf])), plain("word")
    ([1.0, None], 'word')
    """
    if isinstance(value, str | int | list | dict | None):
        return value
    array = np.asarray(value).astype(object)
    array[~np.isfinite(value)] = None
    return array.tolist()
