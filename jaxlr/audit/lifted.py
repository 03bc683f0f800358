"""A function of lists of arrays, in the widest arithmetic that it allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxlr.audit.wide import Unsupported, dtype_of, evaluate, is_float, rounding_unit, widen

Array = Any


class Lifted(NamedTuple):
    """A function of lists of arrays, ready to be evaluated in the widest arithmetic it allows.

    Args:
        run: `(consts, *lists) → list`; the lists hold float64 where x64 is set.
        consts: the arrays that the function closes over.
        eps: the rounding unit of its results.
        x64: whether it runs in float64, under `jax.enable_x64(True)`.
        traceable: whether it can be traced, so that it may stand inside jit.
        trace: its jaxpr, or None.

    """

    run: Callable[..., list[Array]]
    consts: list[Array]
    eps: float
    x64: bool
    traceable: bool
    trace: core.ClosedJaxpr | None

    def complex_run(self, consts: list[Array], *lists: Any) -> list[Array]:
        """Return the outputs in complex128, for complex inputs."""
        if self.trace is None:
            raise Unsupported("a function that cannot be traced")
        return evaluate(self.trace.jaxpr, consts, jax.tree.leaves(lists), jnp.complex128)


def lift(fn: Callable[..., list[Array]], *examples: list[Array]) -> Lifted:
    """Return fn in the widest arithmetic that it allows.

    In order: its trace in float64; fn itself called with float64; fn as it is.

    Args:
        fn: a function of lists of arrays that returns a list of arrays.
        examples: lists of arrays in the dtypes that fn is made for.

    Raises:
        Exception: what fn raises when it is called with the examples.

    >>> with jax.enable_x64(False):
    ...     half = lift(lambda xs: [xs[0] / 2], [jnp.float16(1.0)])
    >>> half.x64, f"{half.eps:.0e}"
    (True, '2e-16')

    """
    try:
        trace = jax.make_jaxpr(fn)(*examples)
    except Exception:  # it wants concrete values: called, then, one point after the other
        trace = None
    if trace is not None and _evaluates(trace, examples):
        return Lifted(
            _run_trace(trace), list(trace.consts), rounding_unit(trace.jaxpr), True, True, trace
        )
    if _is_made_for_float64(fn, examples):
        eps = float(jnp.finfo(jnp.float64).eps)
        return Lifted(lambda consts, *a: fn(*a), [], eps, True, trace is not None, None)
    outs = fn(*examples)
    eps = max([float(jnp.finfo(dtype_of(a)).eps) for a in outs if is_float(a)], default=0.0)
    return Lifted(lambda consts, *a: fn(*a), [], eps, False, trace is not None, None)


def _evaluates(trace: core.ClosedJaxpr, examples: Sequence[list[Array]]) -> bool:
    try:
        with jax.enable_x64(True):
            jax.eval_shape(_run_trace(trace), list(trace.consts), *examples)
    except Exception:
        return False
    return True


def _is_made_for_float64(fn: Callable[..., list[Array]], examples: Sequence[list[Array]]) -> bool:
    try:
        with jax.enable_x64(True):
            outs = fn(*[[widen(a, jnp.float64) for a in example] for example in examples])
            # With x64 on: a Python float is one of float64.
            return all(dtype_of(a) in (jnp.float64, jnp.complex128) for a in outs)
    except Exception:
        return False


def _run_trace(trace: core.ClosedJaxpr) -> Callable[..., list[Array]]:
    def run(consts, *lists):
        return evaluate(trace.jaxpr, consts, jax.tree.leaves(lists), jnp.float64)

    return run
