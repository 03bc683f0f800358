"""What callers give besides data, checked where they give it: keys, options, names of arguments.

Whatever is traced by jit or vmap has no value yet: only its type and shape are looked at.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlr.base import frames
from jaxlr.base.pytrees import Array

_Function = TypeVar("_Function", bound=Callable)

# What other packages call it: how it is said here, and by which argument.
_SAID_HERE = {
    "l2": ("Penalty(l2={0})", ""),
    "factors": ("Penalty(l2, {0})", ""),
    "C": ("Penalty(l2=1/(C·Σ weights))", ""),
    "max_iter": ("max_passes={0}", "max_passes"),
    "random_state": ("key=jax.random.key({0})", "key"),
    "seed": ("key=jax.random.key({0})", "key"),
}


def transfers(fun: _Function) -> _Function:
    """Return the function, which is called to move what it is given, and small numbers of its own.

    So that it works under `jax.transfer_guard("disallow")`, which is for transfers that nobody
    has asked for. Functions that are jitted themselves, such as `loss`, are given arrays there:
    `Penalty(jax.device_put(0.1))`.

    >>> @transfers
    ... def zero():
    ...     return jnp.zeros(())
    >>> with jax.transfer_guard("disallow"):
    ...     print(zero())
    0.0
    """

    @functools.wraps(fun)
    def allowed(*args, **kwargs):
        with jax.transfer_guard("allow"):
            return fun(*args, **kwargs)

    return cast(_Function, allowed)


def says_what_is_due(fun: _Function) -> _Function:
    """Return the function; a keyword that it does not have but other packages do is answered.

    It `transfers` as well.

    >>> @says_what_is_due
    ... def fit(batch, penalty=None): ...
    >>> fit(None, l2=0.1)
    Traceback (most recent call last):
    ...
    TypeError: fit has no argument l2: give Penalty(l2=0.1).
    """
    own = inspect.signature(fun).parameters
    due = {a: words for a, (words, by) in _SAID_HERE.items() if a not in own and by in {"", *own}}

    @functools.wraps(fun)
    def checked(*args, **kwargs):
        for name in due.keys() & kwargs.keys():
            value = kwargs[name]
            said = due[name].format(value if isinstance(value, int | float) else name)
            raise TypeError(f"{fun.__name__} has no argument {name}: give {said}.")
        with jax.transfer_guard("allow"):
            return fun(*args, **kwargs)

    return cast(_Function, checked)


def takes_arrays(fun: _Function) -> _Function:
    """Return a jitted function that says what is due where it is given a table or a column.

    JAX would only say that it cannot interpret it. Inside jit nothing changes.

    >>> import pandas as pd
    >>> twice = takes_arrays(jax.jit(lambda x: 2 * x))
    >>> twice(jnp.array(3)).item(), jax.jit(twice)(3).item()
    (6, 6)
    >>> twice(pd.Series([1, 2]))
    Traceback (most recent call last):
    ...
    TypeError: x is a Series where an array is due: give jnp.asarray(np.asarray(x)).
    """
    names = tuple(inspect.signature(fun).parameters)

    @functools.wraps(fun)
    def checked(*args, **kwargs):
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            check_no_table(name, value)
        return fun(*args, **kwargs)

    return cast(_Function, checked)


def check_key(key: Array) -> None:
    """Raise TypeError when this is no random key: `jax.random.key`, or one of the old style.

    >>> check_key(0)
    Traceback (most recent call last):
    ...
    TypeError: key is 0 where a random key is due: give jax.random.key(0).
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype is not None:
        new = jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
        if new or (dtype == jnp.uint32 and shape in ((2,), (4,))):
            return
    said = repr(key) if dtype is None else f"of dtype {dtype} and shape {shape}"
    seed = key if isinstance(key, int) else "seed"
    raise TypeError(f"key is {said} where a random key is due: give jax.random.key({seed}).")


def check_options(tol: Array | None, max_passes: Array | int) -> None:
    """Raise when a value that is known is no tolerance, or no number of passes.

    >>> check_options(-1.0, 500)
    Traceback (most recent call last):
    ...
    ValueError: tol is -1.0 where a number that is not negative is due: leave it out for the
    default.
    """
    if tol is not None:
        _check_number("tol", tol, "leave it out for the default")
    _check_number("max_passes", max_passes, "leave it out for 500")


def _check_number(name: str, given: Any, fix: str) -> None:
    value = known(given)
    if value is None:
        return
    if not is_real(value):
        raise TypeError(f"{name} is {given!r} where a number is due: {fix}.")
    if value.ndim:
        raise ValueError(f"{name} has shape {value.shape} where one number, shape (), is due.")
    if not value >= 0:
        raise ValueError(f"{name} is {value} where a number that is not negative is due: {fix}.")


def is_real(value: np.ndarray) -> bool:
    """Whether an array of the host holds real numbers, of JAX's own dtypes too."""
    return value.dtype.kind in "iuf" or jnp.issubdtype(value.dtype, jnp.floating)


def known(given: Any) -> np.ndarray | None:
    """Return a value as an array of the host, or None if it is traced or on other hosts too."""
    if isinstance(given, Tracer) or not getattr(given, "is_fully_addressable", True):
        return None
    return np.asarray(jax.device_get(given))


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
