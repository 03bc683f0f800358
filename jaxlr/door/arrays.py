"""The door: rows or columns in, checked arrays out.

Everything is looked at on the host, with NumPy, before JAX sees it. What is wrong is said in one
sentence that names the shape, or the place and the value, and what to do. Nothing is guessed:
whether examples are rows or columns is said by the name of the function, never by a shape.

Inside this room examples lie along the last axis, whatever the caller's way (see `given.Side`).
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.base.frames import column_names
from jaxlr.base.pytrees import Array, LazyWeights, common_dtype, logit_shape
from jaxlr.door.given import FLOATS, NUMBER_THE_CLASSES, Side, is_floating


class Examples(NamedTuple):
    """What a batch is made of: see `Batch`."""

    X: Array
    y: Array
    weights: Any
    offset: Array | None
    n_classes: int


def checked(
    side: Side, X: Any, y: Any, weights: Any, offset: Any, n_classes: int | None, dtype: Any
) -> Examples:
    """Return checked examples: arrays of JAX whose last axis is that of the examples.

    Args:
        side: whether examples are rows or columns of what is given.
        X, y, weights, offset, n_classes, dtype: as for `Batch.from_rows`.

    >>> checked(Side(rows=True), [[1.0], [2.0]], [0, 1], None, None, None, None).X.tolist()
    [[1.0, 2.0]]
    """
    n_classes = None if n_classes is None else _number_of_classes(n_classes)
    side = side._replace(features=column_names(X) if side.rows else ())
    given = X = side.numbers("X", X)
    y = side.numbers("y", y)
    _check_shape_of_X(side, X)
    _check_shape_of_y(side, y, X)
    dtype = _floating(X.dtype, dtype)
    X = side.finite("X", X, dtype)
    y = side.finite("y", y, y.dtype)
    y, n_classes = (_classes if y.ndim == 1 else _probabilities)(side, y, n_classes, dtype)
    m = X.shape[1]
    # In half precision counts of examples would be rounded: 257 is no bfloat16.
    wide = common_dtype(dtype, jnp.float32)
    # A table has a method `select` as well, but it holds the weights, not a rule for them.
    lazy = isinstance(weights, LazyWeights) and not hasattr(weights, "__array__")
    if weights is not None and not lazy:
        weights = _checked_weights(side, weights, m, wide)
    _check_two_classes(y, weights if isinstance(weights, np.ndarray) else None)
    if offset is not None:
        offset = side.numbers("offset", offset)
        side.check_shape("offset", offset, (*logit_shape(n_classes), m))
        offset = side.finite("offset", offset, wide)
    # Memory of the caller's is copied: its owner may go on writing to it.
    X = jnp.array(X) if np.may_share_memory(X, given) else jax.device_put(X)
    y, weights, offset = (
        jnp.array(a) if isinstance(a, np.ndarray) else a for a in (y, weights, offset)
    )
    return Examples(X, y, weights, offset, n_classes)


def _floating(given: np.dtype, dtype: Any) -> np.dtype:
    """Return the dtype of the batch: as asked for, or as given, or JAX's default."""
    if dtype is None:
        return jax.dtypes.canonicalize_dtype(given if is_floating(given) else float)
    if not is_floating(dtype):
        said = getattr(dtype, "__name__", dtype)
        raise TypeError(f"dtype is {said}: one of {', '.join(FLOATS)} is due.")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            "dtype is float64, but x64 is off: turn it on with "
            "jax.config.update('jax_enable_x64', True), or ask for float32."
        )
    return np.dtype(dtype)


# --- Shapes -------------------------------------------------------------------------------------


def _check_shape_of_X(side: Side, X: np.ndarray) -> None:
    shape, due = side.seen(X.shape), side.axes("n_features", "m_examples")
    if X.size == 0:
        raise ValueError(f"X has shape {shape}, so it is empty: give {due}, at least one of each.")
    if X.ndim != 2:
        one = f"a single feature is {'X[:, None]' if side.rows else 'X[None, :]'}"
        fix = one if X.ndim == 1 else "reshape it to two axes"
        raise ValueError(f"X has shape {shape} where {due} is due: {fix}.")


def _check_shape_of_y(side: Side, y: np.ndarray, X: np.ndarray) -> None:
    m, shape = X.shape[1], side.seen(y.shape)
    if y.ndim not in (1, 2):
        raise ValueError(
            f"y has shape {shape} where ({m},) or {side.axes('K', m)} is due: a label for each "
            f"example."
        )
    if y.ndim == 2 and 1 in y.shape and y.size == m:
        raise ValueError(f"y has shape {shape}: labels are a vector here; give np.ravel(y).")
    if y.shape[-1] == m:
        return
    this, other = ("rows", "columns") if side.rows else ("columns", "rows")
    fix = f"Give one label for each of the {this}."
    if y.shape[0] == X.shape[0]:
        fix = f"If the examples are the {other} of X, use Batch.from_{other}."
    elif y.ndim == 2 and y.shape[0] == m:
        fix = f"The probabilities of an example are one of the {this} of y: give y.T."
    raise ValueError(
        f"y has shape {shape}, but X of shape {side.seen(X.shape)} has {m} "
        f"example{'s' * (m > 1)}, its {this}. {fix}"
    )


# --- Labels and weights -------------------------------------------------------------------------


def _number_of_classes(n_classes: Any) -> int:
    try:
        n_classes = operator.index(n_classes)
    except TypeError:
        raise TypeError(f"n_classes is {n_classes!r}: an integer is due.") from None
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}: at least 2 are due, also for labels 0 and 1.")
    return n_classes


def _classes(side: Side, y: np.ndarray, n_classes: int | None, dtype: Any):
    """Return the labels of a vector, checked, and the number of classes."""
    negative, outside, fraction = y < 0, (y < 0) | (y > 1), np.floor(y) != y
    if n_classes in (None, 2) and not outside.any():
        return y.astype(dtype), 2
    if negative.any():
        signs = np.isin(y, (-1, 1)).all()
        fix = "for labels −1 and 1 give (y + 1) / 2" if signs else NUMBER_THE_CLASSES
        raise ValueError(f"{side.first('y', y, negative)}, and labels are not negative: {fix}.")
    if n_classes == 2:
        raise ValueError(
            f"{side.first('y', y, outside)}, but n_classes is 2: labels are 0, 1, or the "
            f"probability of class 1."
        )
    if fraction.any() and n_classes is None:
        said = dict.fromkeys(side.first("y", y, mask) for mask in (fraction, outside))
        raise ValueError(
            f"{' and '.join(said)}: labels are integers from 0, or all of them probabilities of "
            f"class 1."
        )
    if fraction.any():
        raise ValueError(
            f"{side.first('y', y, fraction)}, and n_classes is {n_classes}: labels are integers "
            f"from 0, or probabilities of shape {side.axes('K', y.size)}."
        )
    if n_classes is None:
        _check_two_classes(y, None)
        classes = np.unique(y)
        n_classes = len(classes)
        missing = np.flatnonzero(classes != np.arange(n_classes))
        if len(missing):
            raise ValueError(
                f"y has labels up to {classes[-1]!s}, but none is {missing[0]}: "
                f"{NUMBER_THE_CLASSES}; or give n_classes, if a class may have no example."
            )
    if (y >= n_classes).any():
        said = side.first("y", y, y >= n_classes)
        raise ValueError(f"{said}, but n_classes is {n_classes}: classes are 0…{n_classes - 1}.")
    return y.astype(np.int32), n_classes


def _probabilities(side: Side, y: np.ndarray, n_classes: int | None, dtype: Any):
    """Return the labels that are probabilities of K > 2 classes, checked, and K."""
    K, shape = y.shape[0], side.seen(y.shape)
    if K == 2:
        raise ValueError(
            f"y has shape {shape}: for two classes give the probability of class 1 as a vector, "
            f"{'y[:, 1]' if side.rows else 'y[1]'}."
        )
    if n_classes not in (None, K):
        raise ValueError(f"y has shape {shape}, for {K} classes, but n_classes is {n_classes}.")
    if (bad := (y < 0) | (y > 1)).any():
        raise ValueError(f"{side.first('y', y, bad)} where a probability, 0 to 1, is due.")
    # What rounding in the coarser of the two dtypes may make of one.
    eps = max(float(jnp.finfo(d).eps) for d in (y.dtype, dtype) if is_floating(d))
    sums = y.sum(axis=0, dtype=np.float64)
    if (off := np.abs(sums - 1) > eps**0.5).any():
        i = int(off.argmax())
        raise ValueError(
            f"{f'y[{i}]' if side.rows else f'y[:, {i}]'} sums to {sums[i]:.8g}: the probabilities "
            f"of an example sum to one, within {eps**0.5:.1g}; divide them by their sum."
        )
    return y.astype(dtype), K


def _checked_weights(side: Side, weights: Any, m: int, dtype: Any) -> np.ndarray:
    weights = side.numbers("weights", weights)
    side.check_shape("weights", weights, (m,))
    weights = side.finite("weights", weights, dtype)
    if (weights < 0).any():
        said = side.first("weights", weights, weights < 0)
        raise ValueError(f"{said}: weights are not negative; 0 leaves an example out.")
    total, info = weights.sum(dtype=np.float64), jnp.finfo(dtype)
    # What XLA takes for 0, as numbers below the normal ones, is nothing beside this sum.
    if not float(info.tiny) / float(info.eps) < total <= float(info.max):
        much = "much" if total > 1 else "little"
        what = f"sum to {total:.3g}, too {much}" if total else "are all zero"
        raise ValueError(
            f"weights {what} in {np.dtype(dtype)}: a mean divides by their sum; rescale them, "
            f"or give a positive weight to what is to be learned from."
        )
    return weights


def _check_two_classes(y: np.ndarray, weights: np.ndarray | None) -> None:
    """Refuse labels that, where the weight is positive, are all of one class."""
    y = y if weights is None else y[..., weights > 0]
    if y.ndim == 2:
        present = np.flatnonzero(y.any(axis=1))
    else:
        present = y[:1] if (y == y[0]).all() and y[0] == np.floor(y[0]) else ()
    if len(present) == 1:
        where = "" if weights is None else " where weights are positive"
        raise ValueError(
            f"y holds class {int(present[0])} only{where}: there is nothing to tell apart; add "
            f"examples of another class."
        )
