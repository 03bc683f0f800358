"""The door: what cannot be audited is refused here, in a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.audit.wide import is_float


def function_name(fun: Any) -> str:
    """Return a short name of a function, as a report shows it."""
    name = getattr(fun, "__name__", None) or getattr(fun, "__wrapped__", fun).__class__.__name__
    return "the lambda" if name == "<lambda>" else name


def kind(a: Any) -> str:
    """Return what a value is, short.

    >>> kind((1, 2)), kind(np.zeros(3, np.float32)), kind(None), kind({})
    ('a tuple of 2', 'float32[3]', 'None', 'a dict')
    """
    if hasattr(a, "dtype") and hasattr(a, "shape"):
        return f"{a.dtype}[{','.join(map(str, a.shape))}]"
    if isinstance(a, (tuple, list)) and type(a) in (tuple, list):
        return f"a {type(a).__name__} of {len(a)}"
    name = type(a).__name__
    return "None" if a is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def checked_call(
    fun: Any, grad: Any, args: tuple, argnums: Any, order: Any, key: Any
) -> int | tuple[int, ...]:
    """Return argnums, counted from the first argument.

    Raises:
        ValueError: when fun or grad are no functions, argnums, order or key are not what they
            should be, or there are no arguments.

    """
    if not callable(fun):
        raise ValueError(f"fun is {kind(fun)}: a function is due.")
    if grad is not None and not callable(grad):
        raise ValueError(
            f"grad is {kind(grad)}: a function is due, or None to judge what JAX derives, as in "
            "audit_gradient(fun, None, x)."
        )
    if not args:
        raise ValueError(
            f"There are no arguments at which to judge {function_name(fun)}: write "
            "audit_gradient(fun, grad, x)."
        )
    if order not in (1, 2):
        raise ValueError(f"order is {order!r}: 1 or 2 is due.")
    if key is not None and not (
        isinstance(key, jax.Array)
        and (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.dtype == jnp.uint32)
    ):
        raise ValueError(f"key is {kind(key)}: a jax.random.key is due.")
    if argnums is None:
        argnums = 0 if grad is not None else tuple(range(len(args)))
    single = isinstance(argnums, int)
    indices = (argnums,) if single else tuple(argnums)
    for i in indices:
        if not isinstance(i, int) or not -len(args) <= i < len(args):
            raise ValueError(
                f"argnums is {argnums!r}: there {'is' if len(args) == 1 else 'are'} {len(args)} "
                f"argument{'s' * (len(args) > 1)}, counted from 0."
            )
    if not indices:
        raise ValueError("argnums is empty: there is nothing to judge.")
    counted = tuple(i % len(args) for i in indices)
    return counted[0] if single else counted


def checked_output(out: Any, name: str, has_aux: bool) -> Any:
    """Return what is differentiated of fun's output.

    Raises:
        ValueError: when there is no floating-point number in it.

    """
    if has_aux:
        if not (isinstance(out, (tuple, list)) and len(out) == 2):
            raise ValueError(f"has_aux=True, but {name} returns no pair: it returns {kind(out)}.")
        out = out[0]
    if not any(is_float(a) and np.size(a) for a in jax.tree.leaves(out)):
        raise ValueError(
            f"{name} returns no floating-point number: nothing to differentiate (it returns "
            f"{kind(out)})."
        )
    return out


def called(grad: Callable, given: tuple, u: Any, name: str, example: Any) -> Any:
    """Return `grad(*given, u)`, the gradient of a function that is not scalar.

    Raises:
        ValueError: when grad has no place for u.

    """
    try:
        inspect.signature(grad).bind(*given, u)
    except TypeError:
        raise ValueError(
            f"{name} returns {kind(example)}, which is no scalar: its gradient is called with one "
            "more argument, as grad(*args, u), and is that of the sum of u times the output. If "
            "only the first of a pair is to be differentiated, say has_aux=True."
        ) from None
    except ValueError:  # it has no signature
        pass
    return grad(*given, u)


def gradient_leaves(g: Any, due: Any, name: str) -> list[Any]:
    """Return the leaves of a handed-in gradient, in the order of what it is the gradient of.

    Raises:
        ValueError: when it has another structure, or a leaf that is no array of numbers.

    """
    where = f"The gradient of {name}"
    try:
        leaves = jax.tree.structure(due).flatten_up_to(g)
    except ValueError as error:
        detail = f" {_short(error)}." if type(g) is type(due) else ""
        raise ValueError(
            f"{where} is {kind(g)} where {kind(due)} is due, the structure of the judged argument."
            f"{detail}"
        ) from None
    for a, like in zip(leaves, jax.tree.leaves(due), strict=True):
        if not is_float(like) if hasattr(like, "dtype") else not isinstance(like, (float, complex)):
            continue  # it is not judged
        if _is_number(a):
            continue
        hint = ""
        if isinstance(a, tuple) and len(a) == 2 and np.shape(a[0]) == () != np.shape(like):
            hint = " Is it a value and a gradient? The gradient alone is due."
        elif isinstance(a, (tuple, list)) and len(a) == 1:
            hint = f" Is it the array, in a {type(a).__name__}?"
        elif a is None:
            hint = " Has it no return?"
        raise ValueError(f"{where} is {kind(a)} where {kind(like)} is due.{hint}")
    return leaves


def _is_number(a: Any) -> bool:
    if isinstance(a, (bool, int, float, complex)):
        return True
    dtype = getattr(a, "dtype", None)
    return dtype is not None and (
        jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)
    )


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()[0].rstrip(".")
    return text if len(text) < 200 else text[:197] + "…"


def checked_reference(found: Sequence[Any], due: Sequence[Any], name: str) -> None:
    """Raise a ValueError when a reference's outputs are not shaped like fun's."""
    shapes = [[tuple(np.shape(a)) for a in side] for side in (found, due)]
    if shapes[0] != shapes[1]:
        texts = [" and ".join(str(shape) for shape in side) for side in shapes]
        raise ValueError(
            f"reference returns an output of shape {texts[0]} where {name} returns {texts[1]}."
        )
