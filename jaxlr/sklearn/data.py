"""From scikit-learn's arguments to a batch, and from a solution to its attributes.

scikit-learn's objective is `C·Σ cᵢℓᵢ + ½‖w‖²`, jaxlr's `Σ cᵢℓᵢ/Σ cᵢ + ½·l2·‖w‖²`: the one is
`C·Σ cᵢ` times the other for `l2 = 1/(C·Σ cᵢ)`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from jaxlr.base import frames
from jaxlr.door import narrowing
from jaxlr.door.given import Side
from jaxlr.model.batch import Batch, Params
from jaxlr.model.padding import room_for
from jaxlr.model.solution import Solution, Status

_CENTRED = 2**18  # values at a time


class Data(NamedTuple):
    """What was given to fit, checked.

    Args:
        X: `(m, n)`, float32 or float64.
        y: labels, `(m,)`.
        classes: the labels, sorted, `(K,)`.
        codes: the place of each label among them, `(m,)`.
        weights: of the examples, those of their classes included, `(m,)`.
        origin: what is subtracted from X in a fit, `(n,)` float64: the means of the rows with
            positive weight; 0 without an intercept.
    """

    X: np.ndarray
    y: np.ndarray
    classes: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    origin: np.ndarray


def check(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Data:
    """Return the data of a fit, checked; sets the estimator's number and names of features.

    Raises:
        ValueError: what scikit-learn refuses; labels all of one class; weights that are negative;
            features whose squares overflow or vanish, or that are integers beyond float64.
        TypeError: sparse X.
    """
    _check_labels(y)
    given, (X, y) = X, validated(estimator, X, y)
    _check_values(given, X)
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    weights = np.ones(len(y), X.dtype)
    if sample_weight is not None:
        weights = check_array(
            sample_weight,
            dtype=X.dtype,
            ensure_2d=False,
            ensure_non_negative=True,
            input_name="sample_weight",
        )
        weights = column_or_1d(weights)
        check_consistent_length(X, weights)
    if not weights.any():
        raise ValueError("sample_weight is zero for every example: there is nothing to fit to.")
    if estimator.class_weight is not None:
        with np.errstate(all="ignore"):  # a class without weight is balanced by an infinite one
            each = compute_class_weight(
                estimator.class_weight, classes=classes, y=y, sample_weight=weights
            )
            if not (each >= 0).all():
                k = np.flatnonzero(~(each >= 0))[0]
                raise ValueError(
                    f"class_weight of {classes[k]} is {each[k]}: a number from 0 on is due."
                )
            weights = np.where(weights > 0, weights * each[codes], 0).astype(X.dtype)
    present = classes[np.unique(codes[weights > 0])]
    if len(present) < 2:
        where = " where weights are positive" if len(classes) > 1 else ""
        raise ValueError(
            f"y holds {len(present)} class{where}, {', '.join(map(str, present)) or 'none'}: two "
            f"are needed, to be told apart."
        )
    origin = _means(X, weights > 0) if estimator.fit_intercept else np.zeros(X.shape[1])
    return Data(X, y, classes, codes, weights, origin)


def _check_labels(y: Any) -> None:
    """Refuse labels some of which are missing, as None and pandas' NA; NumPy's NaN is a number.

    >>> _check_labels([None, "no", "yes"])
    Traceback (most recent call last):
    ...
    ValueError: y is missing in 1 of its 3 entries, the first is y[0]: drop such examples.
    """
    if frames.is_column(y):
        missing = np.asarray(y.isna() if hasattr(type(y), "isna") else y.is_null(), bool)
    else:
        values = np.asarray(y, object if isinstance(y, (list, tuple)) else None)
        if values.dtype != object or y is None:
            return
        missing = np.array([_is_missing(value) for value in values.ravel()], bool)
    if missing.any():
        raise ValueError(
            f"y is missing in {missing.sum()} of its {missing.size} entries, the first is "
            f"y[{missing.argmax()}]: drop such examples."
        )


def _is_missing(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def validated(estimator: Any, X: Any, *labels: Any, **options: Any) -> Any:
    """Return what scikit-learn's `validate_data` does, but text and gaps named by their column."""
    try:
        return validate_data(estimator, X, *labels, dtype=[np.float64, np.float32], **options)
    except (TypeError, ValueError) as error:
        if not frames.is_table(X) and "could not convert" not in str(error):
            raise
        try:
            Side(rows=True, features=frames.column_names(X)).numbers("X", X)
        except (TypeError, ValueError) as clear:
            text = "has dtype" in str(clear) and "such as days" not in str(clear)
            how = " sklearn.preprocessing.OneHotEncoder encodes it." if text else ""
            raise type(error)(f"{clear}{how}") from None
        raise


def _check_values(given: Any, X: np.ndarray) -> None:
    """Refuse features that a fit to X does not see, as the door of `jaxlr` does."""
    side, seen = Side(rows=True, features=frames.column_names(given)), narrowing.extent(X.T)
    if X.dtype == np.float64 and seen.largest.max() >= 2**53:  # were integers told apart?
        with contextlib.suppress(TypeError):  # objects, whose dtype says nothing
            side.check_rounding("X", side.numbers("X", given), X.T, seen)
    side.check_scale(X.T, seen)


def _means(X: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return the means of the rows that are used, exact for columns that are constant.

    >>> _means(np.full((3, 1), 0.1), np.array([True, True, False])).tolist()
    [0.1]
    """
    first = X[used.argmax()].astype(np.float64)
    sums = [used[rows] @ (X[rows] - first) for rows in _parts(X)]
    return first + np.sum(sums, axis=0) / used.sum()


def _parts(X: np.ndarray) -> list[slice]:
    """Return the rows in parts whose copies in float64 are little memory."""
    m, n = X.shape
    step = max(1, _CENTRED // n)
    return [slice(i, min(i + step, m)) for i in range(0, m, step)]


def batch_of(data: Data, *, intercept: bool) -> Batch:
    """Return the batch in its room, which examples of weight 0 and features of 0 fill up.

    X is about `data.origin`, in float64 before it is float32: a large mean hides nothing.
    """
    m, n = data.X.shape
    examples, features = room_for(m, n)
    X = np.zeros((features, examples), data.X.dtype)
    y, weights = np.zeros(examples, int), np.zeros(examples)
    for rows in _parts(data.X):
        X[:n, rows] = (data.X[rows] - data.origin).T
    y[:m], weights[:m] = data.codes, data.weights
    batch = Batch.from_columns(
        X, y, weights=weights, n_classes=len(data.classes), dtype=data.X.dtype
    )
    return dataclasses.replace(batch, intercept=intercept)


def params_of(coef: np.ndarray, intercept: np.ndarray, data: Data, features: int) -> Params:
    """Return the parameters of a lane from `coef_` and `intercept_`, for a room of features.

    >>> X, y = np.ones((5, 4)), np.zeros(5, int)
    >>> data = Data(X, y, np.arange(2), y, np.ones(5), np.full(4, 0.5))
    >>> params = params_of(np.ones((1, 4)), np.zeros(1), data, 8)
    >>> params.w.shape, float(params.b)
    ((8,), 2.0)
    """
    w = np.pad(coef.T, ((0, features - coef.shape[1]), (0, 0)))
    b = (intercept + coef @ data.origin).astype(intercept.dtype)
    return Params(w[:, 0], b[0]) if len(coef) == 1 else Params(w, b)


def rows_of(params: Params, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return `coef_` and `intercept_`, `(…, 1 or K, n)` and `(…, 1 or K)`, from lanes or a lane.

    The intercept is that of X as given, about 0. A shift common to all classes of the softmax
    changes no probability: their mean is made 0.
    """
    w, b = np.asarray(params.w), np.asarray(params.b)
    if len(data.classes) == 2:
        w, b = w[..., None], b[..., None]
    w = np.swapaxes(w, -1, -2)[..., : data.X.shape[1]]
    intercepts = b - w @ data.origin
    if len(data.classes) == 2:
        return w.copy(), intercepts.astype(b.dtype)
    intercepts = intercepts - intercepts.mean(axis=-1, keepdims=True)
    return w - w.mean(axis=-2, keepdims=True), intercepts.astype(b.dtype)


def precision(data: Data) -> contextlib.AbstractContextManager:
    """Return a context in which X keeps its dtype: float64 is float64, whatever JAX's default."""
    return jax.enable_x64(True) if data.X.dtype == np.float64 else contextlib.nullcontext()


def tolerance(tol: float | None, data: Data) -> np.ndarray:
    """Return the suboptimality that a fit aims at: `tol²`, since tol is in units of a gradient.

    By default further than `jaxlr.fit` aims: coefficients of fits to repeated rows and to weighted
    ones are compared to seven digits, under penalties as weak as 1e-6.
    """
    dtype = data.X.dtype
    return np.asarray(np.finfo(dtype).eps ** 1.5 if tol is None else tol**2, dtype)


def strength(C: Any, total: Any) -> Any:
    """Return `l2 = 1/(C·Σ cᵢ)`; C is infinite for no penalty.

    >>> strength(0.5, 100.0), strength(np.inf, 100.0)
    (0.02, 0.0)
    """
    return 1 / (C * total)


def check_options(**options: Any) -> None:
    """Refuse values of estimators' options that mean nothing.

    >>> check_options(C=-1.0)
    Traceback (most recent call last):
    ...
    ValueError: C is -1.0: a number above 0 is due, or infinity for no penalty.
    """
    due = {
        "C": (lambda C: _real(C) and C > 0, "a number above 0 is due, or infinity for no penalty"),
        "tol": (
            lambda tol: tol is None or (_real(tol) and 0 <= tol < np.inf),
            "None, or a number from 0 on, is due",
        ),
        "max_iter": (
            lambda n: isinstance(n, (int, np.integer)) and n >= 0,
            "an integer from 0 on is due",
        ),
        "fit_intercept": (_truth, "True or False is due"),
        "warm_start": (_truth, "True or False is due"),
        "refit": (_truth, "True or False is due"),
    }
    for name, value in options.items():
        fits, rule = due[name]
        if not fits(value):
            raise ValueError(f"{name} is {value!r}: {rule}.")


def _real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _truth(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def passes(max_iter: int) -> int:
    """Return for how many passes over X so many steps are: the first is at the start.

    >>> passes(0), passes(500)
    (1, 501)
    """
    return min(int(max_iter), np.iinfo(np.int32).max - 1) + 1


def iterations(solution: Solution) -> np.ndarray:
    """Return the steps of a fit, or of lanes: passes but the first and the last, which proves."""
    return np.asarray(solution.num_passes) - 2


def warn_of_failures(solution: Solution) -> None:
    """Warn with scikit-learn's ConvergenceWarning where a fit, or one of many, is no optimum."""
    status = np.asarray(solution.status)
    failed = status[status > Status.PRECISION_REACHED]
    if not failed.size:
        return
    fits = f"{failed.size} of {status.size} fits" if status.size > 1 else "The fit"
    why = "; ".join(Status(code).message for code in np.unique(failed))
    why = why.replace("max_passes", "max_iter")  # as the estimators name it
    advice = ". Raise max_iter" if Status.OUT_OF_PASSES in failed else ""
    warnings.warn(f"{fits} did not converge: {why}{advice}.", ConvergenceWarning, stacklevel=3)
