"""The pytrees of jaxlr: parameters, examples, penalty, solution and its status."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr import frames

Array: TypeAlias = Any
"""An array, a tracer, or what JAX takes for one."""

Take: TypeAlias = Callable[[Array], Array]
"""Picks some of the examples, which lie along the last axis of the array it is given."""


class Params(NamedTuple):
    """The parameters of one lane: `Z = wᵀX + b`.

    Args:
        w: weights of the features: `(n,)`, or `(n, K)` for the softmax over K classes.
        b: intercept: `()`, or `(K,)`.
    """

    w: Array
    b: Array


def init_params(n_features: int, n_classes: int = 2, dtype: Any = None) -> Params:
    """Return parameters that are all zero.

    Args:
        n_features: n, the number of rows of X.
        n_classes: 2 for the sigmoid; K > 2 for the softmax over K classes.
        dtype: of the parameters; JAX's default float when None.

    Returns:
        `Params` of shapes `(n,)` and `()`, or `(n, K)` and `(K,)`.

    >>> init_params(3, n_classes=4).w.shape
    (3, 4)
    """
    classes = logit_shape(n_classes)
    return Params(jnp.zeros((n_features, *classes), dtype), jnp.zeros(classes, dtype))


def logit_shape(n_classes: int) -> tuple[int, ...]:
    """Return the shape of one example's logits: `()` for two classes, `(K,)` for more."""
    return () if n_classes == 2 else (n_classes,)


class Penalty(NamedTuple):
    """The penalty `½·l2·Σⱼ factorsⱼ·‖wⱼ‖²`; the intercept is never penalised.

    Args:
        l2: strength, `()`. With scikit-learn's C: `l2 = 1/(C·Σ weights)`.
        factors: None, or `(n,)`: a factor for each feature; 0 leaves a feature unpenalised.
    """

    l2: Array = 0.0
    factors: Array | None = None


def ridge(penalty: Penalty, n_features: int, dtype: Any) -> Array:
    """Return the penalty of each feature, `l2·f`, `(n,)`, in a dtype.

    >>> ridge(Penalty(0.5, jnp.array([1, 0])), 2, jnp.float32).tolist()
    [0.5, 0.0]
    """
    l2 = jnp.asarray(penalty.l2, dtype)
    if penalty.factors is None:
        return jnp.broadcast_to(l2, n_features)
    return l2 * jnp.asarray(penalty.factors, dtype)


@runtime_checkable
class LazyWeights(Protocol):
    """Example weights that are computed a tile at a time, from something smaller than floats.

    Any pytree with this method can stand where an array of weights can. Its arrays that have
    an entry for each example are read through `take` only.
    """

    def select(self, take: Take) -> Array:
        """Return the weights of the examples that `take` picks."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """The examples: an example is a column of X.

    Nothing is checked here, so that batches can be built inside jit. `Batch.from_rows` and
    `Batch.from_columns` check their input and say what is wrong with it.

    Args:
        X: features, `(n, m)`: n features of m examples.
        y: labels. `n_classes=2`: `(m,)`, 0/1 or the probability of class 1. More classes:
            `(m,)` integers 0…K−1, or `(K, m)` probabilities whose columns sum to one.
        weights: None, `(m,)`, or `LazyWeights`. Weight 2 is a repeated example.
        offset: None, or a term added to the logits: `(m,)`, or `(K, m)`.
        n_classes: static; 2 is the sigmoid, K > 2 the softmax.
        intercept: static; False leaves the intercept out: b has no effect, and its derivatives
            are zero.

    >>> batch = Batch(jnp.ones((3, 5)), jnp.array([0, 1, 1, 0, 1]))
    >>> batch.n_features, batch.m_examples, batch.n_classes
    (3, 5, 2)
    """

    X: Array
    y: Array
    weights: Any = None
    offset: Array | None = None
    n_classes: int = dataclasses.field(default=2, metadata={"static": True})
    intercept: bool = dataclasses.field(default=True, metadata={"static": True})

    @property
    def n_features(self) -> int:
        """The number of features, n."""
        return self.X.shape[0]

    @property
    def m_examples(self) -> int:
        """The number of examples, m."""
        return self.X.shape[1]

    def select(self, take: Take) -> Batch:
        """Return the batch of the examples that `take` picks, its weights as an array."""
        weights = self.weights
        if weights is not None:
            weights = weights.select(take) if isinstance(weights, LazyWeights) else take(weights)
        offset = None if self.offset is None else take(self.offset)
        picked = {"X": take(self.X), "y": take(self.y), "weights": weights, "offset": offset}
        return dataclasses.replace(self, **picked)

    @classmethod
    def from_rows(cls, X: Any, y: Any, **options: Any) -> Batch:
        """Return a checked batch from rows, `(m, n)`: see `jaxlr.data.from_rows`."""
        from jaxlr import data  # the door stands above this room: imported when it is used

        return data.from_rows(X, y, **options)

    @classmethod
    def from_columns(cls, X: Any, y: Any, **options: Any) -> Batch:
        """Return a checked batch from columns, `(n, m)`: see `jaxlr.data.from_columns`."""
        from jaxlr import data

        return data.from_columns(X, y, **options)


def check_type(name: str, value: Any, due: type) -> None:
    """Raise TypeError when a value is not of the type that is due.

    >>> check_type("penalty", 0.1, Penalty)
    Traceback (most recent call last):
    ...
    TypeError: penalty is a float where a Penalty is due: give Penalty(0.1).
    """
    if not isinstance(value, due):
        given = "jax.Array" if isinstance(value, jax.Array) else type(value).__name__
        hint = _hint(name, value, due.__name__)
        raise TypeError(f"{name} is a {given} where a {due.__name__} is due{hint}.")


def _hint(name: str, value: Any, due: str) -> str:
    """Return what to give instead, or nothing."""
    number = isinstance(value, int | float)
    if due in ("Params", "Penalty") and hasattr(value, due.lower()):
        return f": give its `{due.lower()}`"
    if due == "Penalty":
        several = isinstance(value, list | tuple) or hasattr(value, "shape")
        return f": give Penalty({value if number else f'jnp.asarray({name})' if several else 'l2'})"
    if due == "Batch" and hasattr(value, "shape"):
        return ": give Batch.from_rows(X, y), or Batch.from_columns(X, y)"
    if due == "GradientTransformation":
        return f": give one of optax, such as optax.sgd({value if number else 0.1})"
    return {"CrossValidation": ": `cross_validate` returns it"}.get(due, "")


def check_array(name: str, value: Any) -> None:
    """Raise TypeError when a value is no array, nor traced.

    >>> check_array("X", [[1.0], [2.0]])
    Traceback (most recent call last):
    ...
    TypeError: X is a list where an array is due: use Batch.from_rows or Batch.from_columns, or
    give jnp.asarray(X).
    """
    check_no_table(name, value)
    if isinstance(value, Batch):
        fix = "give batch.X, and batch.offset if there is one"
    else:
        fix = f"use Batch.from_rows or Batch.from_columns, or give jnp.asarray({name})"
    try:
        jax.typeof(value)
    except TypeError:
        given = type(value).__name__
        raise TypeError(f"{name} is a {given} where an array is due: {fix}.") from None


def check_no_table(name: str, value: Any) -> None:
    """Raise TypeError when a value is a table or a column, as of pandas: JAX takes none.

    >>> import pandas as pd
    >>> check_no_table("X", pd.DataFrame({"age": [31, 40]}))
    Traceback (most recent call last):
    ...
    TypeError: X is a DataFrame where an array is due, whose columns are the examples: give
    jnp.asarray(np.asarray(X, float).T).
    """
    given = type(value).__name__
    if frames.is_table(value):
        raise TypeError(
            f"{name} is a {given} where an array is due, whose columns are the examples: give "
            f"jnp.asarray(np.asarray({name}, float).T)."
        )
    if frames.is_column(value):
        raise TypeError(
            f"{name} is a {given} where an array is due: give jnp.asarray(np.asarray({name}))."
        )


def check_numbers(name: str, value: Any, such_as: str) -> None:
    """Raise TypeError when a value is one of the trees of arrays here, such as a `Batch`.

    >>> check_numbers("Z", init_params(3), "logits(params, batch.X)")
    Traceback (most recent call last):
    ...
    TypeError: Z is a Params where an array is due, such as logits(params, batch.X).
    """
    if isinstance(value, Batch) or hasattr(value, "_fields"):
        given = type(value).__name__
        raise TypeError(f"{name} is a {given} where an array is due, such as {such_as}.")


def check_linear(params: Params, X: Array) -> None:
    """Raise when parameters and features do not fit each other.

    >>> check_linear(init_params(3), jnp.ones((5, 3)))
    Traceback (most recent call last):
    ...
    ValueError: X has shape (5, 3) where (3, m_examples) is due: an example is a column. Give X.T.
    """
    check_type("params", params, Params)
    check_array("X", X)
    n, shape = jnp.shape(params.w)[0], jnp.shape(X)
    if shape[:1] != (n,):
        fix = " Give X.T." if shape[1:] == (n,) else ""
        raise ValueError(
            f"X has shape {shape} where ({n}, m_examples) is due: an example is a column.{fix}"
        )


def check_shapes(params: Params | None, batch: Batch, penalty: Penalty | None = None) -> None:
    """Raise when the shapes of one lane do not fit each other, or a type is not the one due.

    Shapes are known while a function is traced, so this works inside jit and vmap.

    Args:
        params, batch, penalty: what there is of them.

    Raises:
        ValueError: a shape.
        TypeError: a type.

    >>> batch = Batch(jnp.ones((5, 3)), jnp.zeros(5))
    >>> check_shapes(init_params(3), batch)
    Traceback (most recent call last):
    ...
    ValueError: y has shape (5,) where (3,) is due: X of shape (5, 3) has 3 examples, its columns.
    For X with examples as rows use Batch.from_rows.
    """
    check_type("batch", batch, Batch)
    if params is not None:
        check_type("params", params, Params)
    if penalty is not None:
        check_type("penalty", penalty, Penalty)
    _check_arrays(params, batch)
    if jnp.ndim(batch.X) != 2:
        raise ValueError(f"X has shape {jnp.shape(batch.X)} where (n_features, m_examples) is due.")
    n, m = batch.X.shape
    classes = logit_shape(batch.n_classes)
    labels = [(m,), (*classes, m)]
    if jnp.shape(batch.y) not in labels:
        rows = jnp.shape(batch.y)[-1:] == (n,)
        raise ValueError(
            f"y has shape {jnp.shape(batch.y)} where {' or '.join(map(str, dict.fromkeys(labels)))}"
            f" is due: X of shape {(n, m)} has {m} examples, its columns."
            + " For X with examples as rows use Batch.from_rows."
            * rows
        )
    due = {}
    if params is not None:
        due["w"] = jnp.shape(params.w), (n, *classes)
        due["b"] = jnp.shape(params.b), classes
    if batch.weights is not None:
        due["weights"] = (_shape_of_weights(batch), (m,))
    if batch.offset is not None:
        due["offset"] = (jnp.shape(batch.offset), (*classes, m))
    if penalty is not None:
        due["penalty.l2"] = (jnp.shape(penalty.l2), ())
        if penalty.factors is not None:
            due["penalty.factors"] = (jnp.shape(penalty.factors), (n,))
    for name, (shape, expected) in due.items():
        if shape != expected:
            raise ValueError(
                f"{name} has shape {shape} where {expected} is due: X has shape {(n, m)} and "
                f"n_classes is {batch.n_classes}."
            )


def _check_arrays(params: Params | None, batch: Batch) -> None:
    lazy = isinstance(batch.weights, LazyWeights)
    given = {"X": batch.X, "y": batch.y, "offset": batch.offset}
    given |= {} if lazy else {"weights": batch.weights}
    given |= {} if params is None else {"w": params.w, "b": params.b}
    for name, value in given.items():
        if value is not None:
            check_array(name, value)


def _shape_of_weights(batch: Batch) -> tuple[int, ...]:
    if isinstance(batch.weights, LazyWeights):
        return jax.eval_shape(lambda: batch.weights.select(lambda a: a)).shape
    return jnp.shape(batch.weights)


class Status(enum.IntEnum):
    """How a fit ended. In a `Solution` it is an integer array, so that lanes stack."""

    CONVERGED = 0
    PRECISION_REACHED = 1
    OUT_OF_PASSES = 2
    NO_FINITE_OPTIMUM = 3
    NOT_FINITE = 4

    @property
    def ok(self) -> bool:
        """Whether the parameters are an optimum, to the tolerance or to the dtype's precision."""
        return self <= Status.PRECISION_REACHED

    @property
    def message(self) -> str:
        """What the status means, in a sentence."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "the tolerance was met",
    Status.PRECISION_REACHED: "the precision of the dtype was reached before the tolerance",
    Status.OUT_OF_PASSES: "max_passes was reached before the tolerance",
    Status.NO_FINITE_OPTIMUM: "there is no finite optimum: the classes can be separated without "
    "penalty, a class has no examples, or a penalty or weight is negative",
    Status.NOT_FINITE: "the loss or its gradient is NaN or infinite at the start",
}


def status_words(status: np.ndarray) -> list[str]:
    """Return how lanes ended, in words; with counts where they differ.

    >>> status_words(np.array([0, 0])), status_words(np.array([0, 2, 0]))
    (['converged'], ['2 converged', '1 out of passes'])
    """
    codes, counts = np.unique(status, return_counts=True)
    words = [Status(int(code)).name.lower().replace("_", " ") for code in codes]
    if len(words) == 1:
        return words
    return [f"{count} {word}" for count, word in zip(counts, words, strict=True)]


class FitError(RuntimeError):
    """Raised on the host by `Solution.raise_if_failed`."""


class Solution(NamedTuple):
    """What a fit returns: a pytree whose leaves are arrays, so that lanes stack.

    Args:
        params: the parameters found.
        loss: the objective there, `()`.
        gradient_norm: Euclidean norm of the objective's gradient there, `()`.
        suboptimality: upper bound on `loss − optimum`, `()`; infinite where none is known.
        num_passes: passes over X that were spent, `()` int32.
        status: a `Status` code, `()` int32.
        estimate: of `loss − optimum`, `()`: `½·gᵀHg` with g the gradient and H the search's
            inverse Hessian. Not a bound, but there without a penalty as well.
    """

    params: Params
    loss: Array
    gradient_norm: Array
    suboptimality: Array
    num_passes: Array
    status: Array
    estimate: Array

    def raise_if_failed(self) -> Solution:
        """Return the solution, or raise `FitError` naming the lanes that are not an optimum.

        Reads the status on the host: not for use inside jit.
        """
        status = np.asarray(self.status)
        failed = np.argwhere(status > Status.PRECISION_REACHED)
        if not len(failed):
            return self
        first = Status(int(status[tuple(failed[0])]))
        if status.ndim == 0:
            raise FitError(f"The fit failed: {first.message} (status {int(first)}).")
        lane = ", ".join(map(str, failed[0]))
        raise FitError(
            f"{len(failed)} of {status.size} lanes failed; the first is lane {lane}: "
            f"{first.message} (status {int(first)})."
        )
