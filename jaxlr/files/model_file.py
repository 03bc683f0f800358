"""A fitted model as one file, which NumPy and a JSON parser can read without jaxlr.

The file is an `.npz` with the arrays `w`, `b`, `mean` and `scale`, and `metadata`, a JSON text.
The logits of an example x are `wᵀ((x − mean)/scale) + b`. How x is made of the columns of a table
is in the metadata, as `design`: a column of numbers is a feature, and one of text is a feature for
each of its `levels` but the first, 1 where the value is that level and else 0. Where standard
errors are known they are the arrays `w_error`, `b_error` and `raw_b_error`. The file holds no date,
so that the same fit gives the same bytes, and no pickle.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from jaxlr.base.atomic import write_atomically
from jaxlr.base.pytrees import Array
from jaxlr.door.design import Design, as_json, from_json
from jaxlr.inference.intervals import StandardErrors
from jaxlr.model.batch import Params
from jaxlr.version import __version__

_FORMAT = "jaxlr model"
_VERSION = 2  # 1 had no design, data and standard errors
_ERRORS = ("w_error", "b_error", "raw_b_error")


class Model(NamedTuple):
    """What a model file holds.

    Args:
        params: of the standardised features, NumPy arrays: w `(n,)`, b `()`; or `(n, K)`, `(K,)`.
        mean: subtracted from the features, `(n,)`.
        scale: the features are divided by it after that, `(n,)`.
        metadata: `format`, `format_version`, `jaxlr_version`, `n_classes`, `feature_names` and
            `class_names` (lists, or None), `objective`, `training` and `data` (as given when
            saved), and `design` as JSON has it.
        design: how the features are made of a table's columns, or None.
        errors: the standard errors of the parameters, or None.
    """

    params: Params
    mean: np.ndarray
    scale: np.ndarray
    metadata: dict[str, Any]
    design: Design | None = None
    errors: StandardErrors | None = None


def make_model(
    params: Params,
    *,
    mean: Array | None = None,
    scale: Array | None = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    objective: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    design: Design | None = None,
    errors: StandardErrors | None = None,
) -> Model:
    """Return a model, checked.

    Args:
        params: one lane, for features that are standardised by mean and scale.
        mean: `(n,)`; zeros when None.
        scale: `(n,)`, positive; ones when None.
        feature_names: n of them, or None.
        class_names: K of them, or None.
        objective: how good the fit is: numbers and words that JSON can hold.
        training: how it was made: likewise.
        data: what it was fitted to: likewise.
        design: how the features are made of a table's columns; the names are then its own.
        errors: of the parameters.

    Raises:
        ValueError: the parts do not fit each other.

    >>> make_model(Params(np.ones(3), np.zeros(()))).metadata["n_classes"]
    2
    """
    w, b = map(_floats, params)
    mean = np.zeros(w.shape[:1], w.dtype) if mean is None else _floats(mean)
    scale = np.ones(w.shape[:1], w.dtype) if scale is None else _floats(scale)
    if design is not None:
        feature_names, class_names = design.features, design.classes
    metadata = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "jaxlr_version": __version__,
        "n_classes": 2 if w.ndim == 1 else w.shape[-1],
        "feature_names": None if feature_names is None else [str(name) for name in feature_names],
        "class_names": None if class_names is None else [str(name) for name in class_names],
        "objective": dict(objective or {}),
        "training": dict(training or {}),
        "data": dict(data or {}),
        "design": None if design is None else as_json(design),
    }
    return _check(Model(Params(w, b), mean, scale, metadata, design, errors))


def save_model(path: str | os.PathLike, params: Params, **content: Any) -> None:
    """Write a model to an `.npz` file: all of it, or nothing.

    Args:
        path: of the file; one that is there already is replaced.
        params, content: as for `make_model`.

    Raises:
        ValueError: the parts do not fit each other, or JSON cannot hold one.
        WriteError: the file cannot be written.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.npz")
    ...     save_model(path, Params(np.ones(3), np.zeros(())), objective={"l2": 0.1})
    ...     model = load_model(path)
    >>> model.params.w.tolist(), model.metadata["n_classes"], model.metadata["objective"]
    ([1.0, 1.0, 1.0], 2, {'l2': 0.1})
    """
    write_model(path, make_model(params, **content))


def write_model(path: str | os.PathLike, model: Model) -> None:
    """Write a model from `make_model` to a file, as `save_model` does."""
    (w, b), mean, scale, metadata, _, errors = model
    try:
        text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"JSON cannot hold the metadata: {error}.") from error
    with write_atomically(path) as file:
        told = {} if errors is None else dict(zip(_ERRORS, errors, strict=True))
        np.savez(file, w=w, b=b, mean=mean, scale=scale, metadata=np.array(text), **told)


def load_model(path: str | os.PathLike) -> Model:
    """Read what `save_model` wrote, in this release of jaxlr or in an earlier one.

    Args:
        path: of the file.

    Returns:
        A `Model`, its arrays as they were saved.

    Raises:
        ValueError: the file is damaged, or is no model of jaxlr.
        OSError: it cannot be read, or is not there.
    """
    with open(path, "rb") as file:
        try:
            model = _read(file)
        except Exception as error:  # a damaged archive fails in a dozen ways
            reason = error if isinstance(error, _Damage) else "its content cannot be read"
            raise ValueError(
                f"{os.fspath(path)} is not a model of jaxlr, or is damaged: {reason}."
            ) from error
    try:
        return _check(model)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} cannot be used: {error}") from error


def _floats(array: Array) -> np.ndarray:
    """Return a NumPy array; in float32 what NumPy has no floating dtype for, such as bfloat16."""
    array = np.asarray(array)
    return array if array.dtype.kind == "f" else array.astype(np.float32)


class _Damage(ValueError):
    """Raised where it is known what a file lacks."""


def _read(file: IO[bytes]) -> Model:
    if not zipfile.is_zipfile(file):
        raise _Damage("it is no .npz archive, or not all of one")
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        for name in ("w", "b", "mean", "scale", "metadata"):
            if name not in archive.files:
                raise _Damage(f"it lacks the array {name!r}")
        w, b, mean, scale, text = (archive[k] for k in ("w", "b", "mean", "scale", "metadata"))
        errors = [archive[name] for name in _ERRORS if name in archive.files]
    try:
        metadata = json.loads(str(text[()]))
    except ValueError:
        raise _Damage("its metadata are no JSON") from None
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise _Damage(f"its format is not {_FORMAT!r}")
    if metadata["format_version"] == 1:
        metadata |= {"data": {}, "design": None}
    if metadata["format_version"] > _VERSION:  # which may hold anything
        return Model(Params(w, b), mean, scale, metadata)
    design = None if metadata["design"] is None else from_json(metadata["design"])
    known = StandardErrors(*errors) if len(errors) == len(_ERRORS) else None
    return Model(Params(w, b), mean, scale, metadata, design, known)


def _check(model: Model) -> Model:
    """Return the model, or say which of its parts does not fit the others."""
    (w, b), mean, scale, metadata, design, errors = model
    if metadata["format_version"] > _VERSION:
        raise ValueError(
            f"its format version is {metadata['format_version']}, and this jaxlr reads those up "
            f"to {_VERSION}."
        )
    if w.ndim not in (1, 2) or 0 in w.shape or (w.ndim == 2 and w.shape[1] < 3):
        raise ValueError(f"w has shape {w.shape} where (n,), or (n, K) with K > 2, is due.")
    for name, array, due in (("b", b, w.shape[1:]), ("mean", mean, w.shape[:1])):
        if array.shape != due:
            raise ValueError(f"{name} has shape {array.shape} where {due} is due.")
    if scale.shape != w.shape[:1] or not (scale > 0).all():
        raise ValueError(f"scale must be positive and of shape {w.shape[:1]}.")
    if any(a.dtype.kind != "f" for a in (w, b, mean, scale)):
        raise ValueError("w, b, mean and scale must be floating-point numbers.")
    if not all(np.isfinite(a).all() for a in (w, b, mean, scale)):
        raise ValueError("w, b, mean and scale must be finite.")
    K = 2 if w.ndim == 1 else w.shape[1]
    if metadata.get("n_classes") != K:
        raise ValueError(f"n_classes is {metadata.get('n_classes')}, but w is that of {K} classes.")
    for name, due in (("feature_names", w.shape[0]), ("class_names", K)):
        names = metadata.get(name)
        if names is not None and len(names) != due:
            raise ValueError(f"{name} has {len(names)} names where {due} are due.")
    if design is not None and (
        design.features != metadata["feature_names"]
        or list(design.classes) != metadata["class_names"]
    ):
        raise ValueError("its design is of other features or classes.")
    if errors is not None and [e.shape for e in errors] != [w.shape, b.shape, b.shape]:
        raise ValueError("its standard errors have other shapes than its parameters.")
    return model
