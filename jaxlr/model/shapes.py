"""Types and shapes of what a function is given: checked while it is traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxlr.base.arguments import check_no_table
from jaxlr.base.pytrees import Array, LazyWeights, logit_shape
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import is_array
from jaxlr.model.penalty import Penalty


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


def check_numbers(name: str, value: Any, such_as: str) -> None:
    """Raise TypeError when a value is one of the trees of arrays here, such as a `Batch`.

    >>> check_numbers("Z", Params(jnp.zeros(3), jnp.zeros(())), "logits(params, batch.X)")
    Traceback (most recent call last):
    ...
    TypeError: Z is a Params where an array is due, such as logits(params, batch.X).
    """
    if isinstance(value, Batch) or hasattr(value, "_fields"):
        given = type(value).__name__
        raise TypeError(f"{name} is a {given} where an array is due, such as {such_as}.")


def check_linear(params: Params, X: Array) -> None:
    """Raise when parameters and features do not fit each other.

    >>> check_linear(Params(jnp.zeros(3), jnp.zeros(())), jnp.ones((5, 3)))
    Traceback (most recent call last):
    ...
    ValueError: X has shape (5, 3) where (3, m_examples) is due: an example is a column. Give X.T.
    """
    check_type("params", params, Params)
    if is_array(X):
        check_array("X", X)
    n, shape = jnp.shape(params.w)[0], tuple(X.shape)
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
    >>> check_shapes(Params(jnp.zeros(3), jnp.zeros(())), batch)
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
    if len(batch.X.shape) != 2:
        raise ValueError(f"X has shape {batch.X.shape} where (n_features, m_examples) is due.")
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
        if value is not None and is_array(value):
            check_array(name, value)


def _shape_of_weights(batch: Batch) -> tuple[int, ...]:
    if isinstance(batch.weights, LazyWeights):
        return jax.eval_shape(lambda: batch.weights.select(lambda a: a)).shape
    return jnp.shape(batch.weights)
