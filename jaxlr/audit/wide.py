"""A JAX function in another arithmetic: its jaxpr, evaluated in float64 or complex128.

A function is traced once, in the dtypes it is called with, and every operation of the trace is
then evaluated with its floating-point numbers widened. So float16, bfloat16 and float32 code,
explicit casts included, can be compared with differences that have 16 digits: it is the same
function, without its rounding. Evaluated in complex128 it gives the complex step.

Comparisons, `abs`, `max` and their like look at real parts there, which is what makes a
real-analytic piece of a function complex-analytic (Martins, Sturdza & Alonso 2003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

Array = Any

CALLS = frozenset(
    [
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "remat2",
        "checkpoint",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "custom_vmap_call",
    ]
)
# What cannot be widened: code outside of XLA's operations, and the reading of a number's bits.
BLACK_BOXES = frozenset(
    [
        "pure_callback",
        "io_callback",
        "ffi_call",
        "pallas_call",
        "shard_map",
        "custom_partitioning",
        "bitcast_convert_type",
    ]
)
# Real functions whose complex namesakes conjugate: the complex step would be wrong, silently.
CONJUGATING = frozenset(
    ["cholesky", "eigh", "eig", "svd", "qr", "householder_product", "schur", "conj", "real", "imag"]
)

_SCATTERS = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter-sub": lax.scatter_sub,
    "scatter-mul": lax.scatter_mul,
    "scatter-min": lax.scatter_min,
    "scatter-max": lax.scatter_max,
}


class Unsupported(Exception):
    """The function has an operation that this arithmetic lacks."""


def is_float(a: Any) -> bool:
    """Whether an array (or a Python number) is real or complex floating point."""
    return jnp.issubdtype(dtype_of(a), jnp.inexact)


def dtype_of(a: Any) -> Any:
    """The dtype of an array, or the one JAX would give to a Python number."""
    return a.dtype if hasattr(a, "dtype") else jnp.asarray(a).dtype


def is_complex(a: Any) -> bool:
    """Whether an array is complex."""
    return jnp.issubdtype(dtype_of(a), jnp.complexfloating)


def widen(a: Array, dtype: Any) -> Array:
    """Return a in the wide dtype when it is floating point, else as it is."""
    if not is_float(a) or dtype_of(a) == dtype:
        return a
    return lax.convert_element_type(a, jnp.complex128 if is_complex(a) else dtype)


def subjaxprs(jaxpr: core.Jaxpr) -> Iterator[core.Jaxpr]:
    """Yield a jaxpr and all that it contains."""
    yield jaxpr
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
                if isinstance(inner, core.Jaxpr):
                    yield from subjaxprs(inner)


def _is_black_box(eqn: Any) -> bool:
    return eqn.primitive.name in BLACK_BOXES and any(is_float(v.aval) for v in eqn.invars)


def _alive(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """A jaxpr without the operations that its outputs do not depend on."""
    needed, eqns = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            needed.update(v for v in eqn.invars if not isinstance(v, core.Literal))
            eqns.append(eqn)
    return jaxpr.replace(eqns=eqns[::-1])


def rounding_unit(jaxpr: core.Jaxpr) -> float:
    """Return the machine epsilon of a widened trace: float64's, or its coarsest black box's."""
    boxes = [eqn for sub in subjaxprs(_alive(jaxpr)) for eqn in sub.eqns if _is_black_box(eqn)]
    dtypes = [dtype_of(v.aval) for eqn in boxes for v in (*eqn.invars, *eqn.outvars)]
    units = [float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.inexact)]
    return max([float(np.finfo(np.float64).eps), *units])


def has_primitive(jaxpr: core.Jaxpr, name: str) -> bool:
    """Whether a primitive occurs anywhere in a jaxpr."""
    return any(eqn.primitive.name == name for sub in subjaxprs(jaxpr) for eqn in sub.eqns)


# --- Evaluation ---------------------------------------------------------------------------------


def evaluate(jaxpr: core.Jaxpr, consts: Sequence[Array], args: Sequence[Array], dtype: Any):
    """Return the outputs of a jaxpr, its real floats in float64 or in dtype.

    Args:
        jaxpr: the trace, in whatever dtypes.
        consts, args: its inputs.
        dtype: float64; or complex128 for the complex step, when some args are complex. x64 is on.

    Raises:
        Unsupported: for an operation that has no meaning in dtype.

    >>> import jax
    >>> with jax.enable_x64(False):
    ...     trace = jax.make_jaxpr(lambda x: x.astype(jnp.bfloat16) * 3)(jnp.float32(0.0))
    >>> with jax.enable_x64(True):
    ...     y = evaluate(trace.jaxpr, trace.consts, [jnp.float64(1.001)], jnp.float64)
    >>> f"{float(y[0]):.6f}"
    '3.003000'

    """
    env: dict[Any, Array] = {}

    def read(v: Any) -> Array:
        return widen(v.val, jnp.float64) if isinstance(v, core.Literal) else env[v]

    def write(variables: Sequence[Any], values: Sequence[Array]) -> None:
        env.update((v, widen(a, jnp.float64)) for v, a in zip(variables, values, strict=True))

    write(jaxpr.constvars, consts)
    write(jaxpr.invars, args)
    for eqn in jaxpr.eqns:
        ins = [read(v) for v in eqn.invars]
        # In the complex step, what does not depend on the complex input stays real.
        here = dtype if any(map(is_complex, ins)) else jnp.float64
        write(eqn.outvars, _apply(eqn, [widen(a, here) for a in ins], here))
    return [widen(read(v), dtype) for v in jaxpr.outvars]


def _closed(jaxpr: Any, dtype: Any) -> Callable[..., list[Array]]:
    """A jaxpr, open or closed, as a function of its arguments."""
    if isinstance(jaxpr, core.ClosedJaxpr):
        return lambda *args: evaluate(jaxpr.jaxpr, jaxpr.consts, args, dtype)
    return lambda *args: evaluate(jaxpr, (), args, dtype)


def _apply(eqn: Any, ins: list[Array], dtype: Any) -> Sequence[Array]:
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS:
        keys = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")
        return _closed(next(params[k] for k in keys if k in params), dtype)(*ins)
    if name in _CONTROL:
        return _CONTROL[name](eqn, ins, dtype)
    if name in ("debug_callback", "debug_print"):
        return []
    if name in BLACK_BOXES:
        return _native(eqn, ins, dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        if name in CONJUGATING or any(is_complex(v.aval) for v in (*eqn.invars, *eqn.outvars)):
            raise Unsupported(name)
        if name in _BY_REAL_PART:
            return [_BY_REAL_PART[name](params, *ins)]
        if name in _OF_REAL_PART or not any(is_float(v.aval) for v in eqn.outvars):
            ins = [a.real if is_float(a) else a for a in ins]
    if name == "reduce_precision":
        return ins[:1]
    if name in _SCATTERS:
        keys = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        return [_SCATTERS[name](*ins, **{k: params[k] for k in keys})]
    outs = eqn.primitive.bind(*ins, **_widened(params, dtype))
    return outs if eqn.primitive.multiple_results else [outs]


def _widened(params: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Parameters of an operation, with the floating dtypes among them widened."""
    params = dict(params)
    for key in ("new_dtype", "dtype", "preferred_element_type", "out_dtype"):
        if params.get(key) is not None and jnp.issubdtype(params[key], jnp.floating):
            params[key] = np.dtype(dtype)
    if "precision" in params:  # a preset such as BF16_BF16_F32 refuses float64
        params["precision"] = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
    return params


def _native(eqn: Any, ins: list[Array], dtype: Any) -> Sequence[Array]:
    """A black box is run in the dtypes it was traced with."""
    if jnp.issubdtype(dtype, jnp.complexfloating) and _is_black_box(eqn):
        raise Unsupported(eqn.primitive.name)
    ins = [
        lax.convert_element_type(a, v.aval.dtype) if is_float(a) else a
        for a, v in zip(ins, eqn.invars, strict=True)
    ]
    outs = eqn.primitive.bind(*ins, **eqn.params)
    return outs if eqn.primitive.multiple_results else [outs]


# --- Control flow -------------------------------------------------------------------------------


def _scan(eqn: Any, ins: list[Array], dtype: Any) -> list[Array]:
    params, closed = eqn.params, eqn.params["jaxpr"]
    body = _closed(closed, dtype)

    def whole(outside: Any, inside: Any) -> int:  # how many are the same to all iterations
        return sum(a.ndim == b.ndim for a, b in zip(outside, inside, strict=True))

    c = whole([v.aval for v in eqn.outvars], closed.out_avals)
    n = whole([v.aval for v in eqn.invars], closed.in_avals) - c
    consts, init, xs = ins[:n], ins[n : n + c], ins[n + c :]

    def step(carry, x):
        outs = body(*consts, *carry, *x)
        return outs[:c], outs[c:]

    options = {k: params[k] for k in ("length", "reverse", "unroll")}
    carry, ys = lax.scan(step, init, xs, **options)
    return [*carry, *ys]


def _while(eqn: Any, ins: list[Array], dtype: Any) -> list[Array]:
    params = eqn.params
    condition, body = (_closed(params[k], dtype) for k in ("cond_jaxpr", "body_jaxpr"))
    n, b = params["cond_nconsts"], params["body_nconsts"]

    def going(carry):
        return condition(*ins[:n], *carry)[0]

    def step(carry):
        on, new = going(carry), body(*ins[n : n + b], *carry)
        if not on.ndim:
            return new
        # A batched predicate, as vmap makes it: each example goes on until its own end.
        return [
            jnp.where(on.reshape(on.shape + (1,) * (z.ndim - on.ndim)), z, old)
            for z, old in zip(new, carry, strict=True)
        ]

    return lax.while_loop(lambda carry: going(carry).any(), step, ins[n + b :])


def _cond(eqn: Any, ins: list[Array], dtype: Any) -> list[Array]:
    branches = [_closed(branch, dtype) for branch in eqn.params["branches"]]
    return lax.switch(ins[0], branches, *ins[1:])


def _linear_solve(eqn: Any, ins: list[Array], dtype: Any) -> list[Array]:
    params = eqn.params
    lengths = params["const_lengths"]
    start = lengths.matvec + lengths.vecmat
    consts = ins[start : start + lengths.solve]
    b = ins[sum(lengths) :]
    return _closed(params["jaxprs"].solve, dtype)(*consts, *b)


_CONTROL = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_linear_solve": _linear_solve,
}


# --- The complex step's reading of what is defined by order -------------------------------------


def _first_of(reduce: Callable, z: Array, axes: Sequence[int]) -> Array:
    """The element whose real part is the extreme one; equals share, as in JAX's derivative."""
    extreme = z.real == reduce(z.real, axis=tuple(axes), keepdims=True)
    return (extreme * z).sum(tuple(axes)) / extreme.sum(tuple(axes))


def _clamp(low: Array, z: Array, high: Array) -> Array:
    def shaped(a: Array) -> Array:
        return jnp.broadcast_to(a, z.shape)

    low, high = shaped(low), shaped(high)
    return jnp.where(z.real < low.real, low, jnp.where(z.real > high.real, high, z))


_BY_REAL_PART: dict[str, Callable] = {
    "abs": lambda p, z: jnp.where(z.real < 0, -z, z),
    "max": lambda p, a, b: jnp.where(a.real >= b.real, a, b),
    "min": lambda p, a, b: jnp.where(a.real <= b.real, a, b),
    "clamp": lambda p, low, z, high: _clamp(low, z, high),
    "reduce_max": lambda p, z: _first_of(jnp.max, z, p["axes"]),
    "reduce_min": lambda p, z: _first_of(jnp.min, z, p["axes"]),
}
_OF_REAL_PART = frozenset(
    ["sign", "floor", "ceil", "round", "stop_gradient", "is_finite", "nextafter"]
)
