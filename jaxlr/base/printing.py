"""What `print` and notebooks show of a result: a few lines of shapes, words and numbers."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from jaxlr.base.arguments import is_real, known

_Class = TypeVar("_Class", bound=type)
Shown = tuple[str, dict[str, str]]  # a title, and a line for each field


def shown(describe: Callable[[Any], Shown]) -> Callable[[_Class], _Class]:
    """Return a decorator of a class, whose objects are shown as `describe` says.

    As lines of text for `repr`, and as a table for notebooks. The class stays what it is for JAX.

    >>> class Pair: ...
    >>> shown(lambda _: ("Pair", {"a": "1"}))(Pair)()
    Pair
      a  1
    """

    def changed(cls: _Class) -> _Class:
        cls.__repr__ = lambda self: as_text(*describe(self))  # pyright: ignore
        cls._repr_html_ = lambda self: as_html(*describe(self))  # pyright: ignore
        return cls

    return changed


def as_text(title: str, rows: dict[str, str]) -> str:
    """Return a title, and the rows below it in two columns.

    >>> print(as_text("A title", {"w": "f32[3]", "loss": "0.5"}))
    A title
      w     f32[3]
      loss  0.5
    """
    width = max(map(len, rows), default=0)
    lines = (f"  {name:{width}}  {value}" for name, value in rows.items())
    return "\n".join([title, *lines])


def as_html(title: str, rows: dict[str, str]) -> str:
    """Return a table of HTML, as `as_text`.

    >>> as_html("a < b", {"w": "1"})
    '<table><caption>a &lt; b</caption><tr><th>w</th><td>1</td></tr></table>'
    """
    lines = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{lines}</table>"


def shape_of(value: Any) -> str:
    """Return the dtype and the shape of an array in short; of anything else its own words.

    >>> import jax.numpy as jnp
    >>> shape_of(jnp.ones((30, 569), "float32")), shape_of(jnp.bfloat16(1)), shape_of(None)
    ('f32[30,569]', 'bf16[]', 'None')
    """
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        return repr(value)
    name = str(dtype)
    for long, short in (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i")):
        name = name.replace(long, short)
    return f"{name}[{','.join(map(str, shape))}]"


def numbers(value: Any) -> str:
    """Return one number as it is, of several the range; only the shape if they are traced.

    >>> import jax.numpy as jnp
    >>> numbers(0.25), numbers(jnp.array([1.0, 3.0, jnp.nan], "float32")), numbers(None)
    ('0.25', 'f32[3] from 1 to 3, 1 of them NaN', 'None')
    """
    array = array_of(value)
    if array is None or not array.size:
        return shape_of(value)
    if not array.ndim:
        return f"{array.item():.6g}"
    lost = np.isnan(array)
    some = array[~lost]
    between = f" from {some.min():.6g} to {some.max():.6g}" if some.size else ""
    return f"{shape_of(value)}{between}" + f", {lost.sum()} of them NaN" * bool(lost.any())


def array_of(value: Any) -> np.ndarray | None:
    """Return real numbers as an array in float64; None if they are traced, or something else.

    >>> import jax.numpy as jnp
    >>> array_of(jnp.array([1, 2])).tolist(), array_of("a"), array_of(None)
    ([1.0, 2.0], None, None)
    """
    if not isinstance(value, int | float) and not hasattr(value, "dtype"):
        return None
    array = known(value) if not hasattr(value, "sharding") or _is_there(value) else None
    real = array is not None and (is_real(array) or array.dtype.kind == "b")
    return array.astype(np.float64) if array is not None and real else None


def _is_there(value: Any) -> bool:
    """Whether this is an array with values, which one that was donated, or a mere shape, is not."""
    deleted = getattr(value, "is_deleted", None)
    return deleted is not None and not deleted()
