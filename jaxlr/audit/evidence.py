"""The state of an audit: the functions in wide arithmetic, the directions, the derivatives."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.audit.flat import Arrays, Leaf, Problem, describe, native, places, to_numpy
from jaxlr.audit.judge import Directions
from jaxlr.audit.lifted import Lifted, lift
from jaxlr.audit.lines import Inputs, Mapped, mapped
from jaxlr.audit.report import Remainder
from jaxlr.audit.wide import dtype_of, is_complex, is_float

EPS = float(np.finfo(np.float64).eps)
GLOBALS = 3
"""Random directions through all leaves, for the Taylor test and the consistency checks."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """What is known in the course of an audit.

    Args:
        problem: the function and its point as lists of arrays.
        f: the function along lines.
        pulled: the judged gradient; None when only forward mode exists.
        y: fun's value, `(m,)`.
        U: cotangents, `(M, m)`, and as lists of arrays, us.
        native_g: the judged gradient in its own dtypes for the first cotangent, `(n,)`.
        g: the judged gradients in wide arithmetic, `(M, n)`.
        shapes: leaves whose judged gradient has the wrong shape, or an imaginary part too
            many, with what it is.
        dtypes: leaves whose judged gradient is of integers, or lacks the imaginary part.
        scales: `(n,)`: the length of each entry's direction: powers of two, so that steps are
            exact in any dtype.
        globals: random directions through all leaves, `(GLOBALS, n)`.
        rows: the directions within leaves that are compared.
        notes: what the report says at its end.
        push: returns forward mode, or raises what JAX raises when there is none.
        ladder: the first step and the ratio of the steps.
        sigma: `(M,)`: noise of f.
        natural: how large fun is, or the numbers that it is made of, as its noise shows them.
        visible: how large fun is, its changes, or its derivatives along the directions.
        floor: the derivative along a direction that differences just see beside that.
        kappa: `(n,)`: how far errors of one unit in all inputs move the gradient, in units.
        jitter: `(n,)`: how far the least change of the inputs moves the gradient.
        judged, size, rounding: `(M, R)`: the judged derivatives along the rows, their natural
            sizes, and their own rounding errors.
        slopes: the differences, `(M, R)`.
        remainders: the Taylor tests.
        located: leaves of which not all entries are compared, and the worst entry found.

    """

    problem: Problem
    f: Mapped
    pulled: Mapped | None
    y: np.ndarray
    U: np.ndarray
    us: list[Arrays]
    native_g: np.ndarray
    g: np.ndarray
    shapes: dict[int, np.ndarray]
    dtypes: dict[int, str]
    scales: np.ndarray
    globals: np.ndarray
    rows: Directions
    notes: list[str]
    push: Callable[[], Lifted]
    ladder: tuple[float, float] = (1 / 16, 8.0)
    sigma: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    natural: float = 0.0
    visible: float = 0.0
    floor: float = 0.0
    kappa: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    jitter: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    judged: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((1, 1)))
    size: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((1, 1)))
    rounding: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((1, 1)))
    slopes: Any = None
    remainders: tuple[Remainder, ...] = ()
    located: dict[int, int] = dataclasses.field(default_factory=dict)

    def inputs(self, of: Mapped) -> Inputs:
        """Return what a function reads, at the point."""
        return self.inputs_of(of.lifted)

    def inputs_of(self, lifted: Lifted) -> Inputs:
        """Return what a lifted function reads, at the point."""
        return Inputs(self.problem.x, self.problem.side, lifted.consts)


# --- Setting up ---------------------------------------------------------------------------------


def _cotangents(y: Arrays, judged_by_jax: bool, rng: np.random.Generator) -> np.ndarray:
    """Return cotangents `(M, m)`: 1 for a scalar, and random ones that float16 can hold."""
    outs = places([""] * len(y), y)
    m = outs[-1].stop if outs else 0
    random = rng.choice([-1.5, -1.0, -0.75, 0.5, 1.25, 2.0], size=(2, m))
    if m == 1:
        return np.array([[1.0], [-1.5]])[: 2 if judged_by_jax else 1]
    return random


def _scales(x: np.ndarray, leaves: tuple[Leaf, ...], smallest: float) -> np.ndarray:
    """Return a length for each entry: its own size, or its leaf's where it is negligible."""
    scales = np.ones_like(x)
    for leaf in leaves:
        size = abs(x[leaf.place])
        typical = np.sqrt(np.mean(size**2)) if len(size) else 0.0
        negligible = size <= smallest * typical
        size = np.where(negligible, typical, size) if typical else np.ones_like(size)
        scales[leaf.place] = np.where(np.isfinite(size), 2.0 ** np.floor(np.log2(size)), 1.0)
    return scales


def _directions(
    leaves: tuple[Leaf, ...], scales: np.ndarray, g: np.ndarray, limit: int, rng
) -> Directions:
    """Return every entry; or, above the limit, the largest entries, some others, and mixtures."""
    n = len(scales)
    owner = np.concatenate([np.full(leaf.stop - leaf.start, i) for i, leaf in enumerate(leaves)])
    if n <= limit:
        return Directions(np.diag(scales), owner, np.arange(n))
    size = np.nan_to_num(abs(g).max(axis=0, initial=0.0), nan=np.inf) * scales
    share = max(1, 24 // len(leaves))
    D, of, entry = [], [], []
    for i, leaf in enumerate(leaves):
        length = leaf.stop - leaf.start
        largest = leaf.start + np.argsort(-size[leaf.place], kind="stable")[:share]
        others = leaf.start + rng.choice(length, size=min(length, share), replace=False)
        for e in dict.fromkeys([*largest.tolist(), *others.tolist()]):
            D.append(np.where(np.arange(n) == e, scales, 0.0))
            of.append(i)
            entry.append(e)
        for _ in range(max(2, share // 4)):
            d = np.zeros(n)
            d[leaf.place] = rng.choice([-1.0, 1.0], size=length) * scales[leaf.place]
            D.append(d)
            of.append(i)
            entry.append(-1)
    return Directions(np.array(D), np.array(of), np.array(entry))


def _traced_problem(*description: Any) -> tuple[Problem, Lifted]:
    """Return the problem and fun; a Python float that decides a branch cannot be traced."""
    problem = describe(*description)
    lifted = lift(problem.value, problem.xs, problem.side)
    if not lifted.traceable and problem.side:
        other = describe(*description, python_numbers=False)
        again = lift(other.value, other.xs, other.side)
        if again.traceable:
            return other, again
    return problem, lifted


def _checked_leaves(problem: Problem, us: Arrays) -> tuple[Problem, np.ndarray, dict, dict]:
    """Return the gradient in its own dtypes; leaves of a wrong shape count as NaN."""
    judged = problem.pull
    given = judged(problem.xs, problem.side, us)
    # A complex gradient of a real leaf has a part too many; a real one of a complex leaf is
    # judged by its values.
    wrong = {
        i: np.asarray(g)
        for i, (g, leaf) in enumerate(zip(given, problem.leaves, strict=True))
        if np.shape(g) != leaf.shape or (is_complex(g) and not _is_complex(leaf))
    }
    dtypes = {
        i: np.dtype(dtype_of(g)).name
        for i, (g, leaf) in enumerate(zip(given, problem.leaves, strict=True))
        if i not in wrong and not (is_float(g) and is_complex(g) == _is_complex(leaf))
    }

    def pull(xs: Arrays, side: Arrays, us: Arrays) -> Arrays:
        gs = judged(xs, side, us)
        return [
            jnp.full_like(x, jnp.nan) if i in wrong else g + 0j if is_complex(x) else g
            for i, (x, g) in enumerate(zip(xs, gs, strict=True))
        ]

    if wrong or dtypes:
        problem = problem._replace(pull=pull)
        given = [
            np.full(np.shape(x), np.nan, dtype_of(x)) if i in wrong else given[i]
            for i, x in enumerate(problem.xs)
        ]
        given = [g + 0j if is_complex(x) else g for x, g in zip(problem.xs, given, strict=True)]
    return problem, to_numpy(given, dual=True), wrong, dtypes


def _is_complex(leaf: Leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.complexfloating)


def _underivable(error: Exception, name: str) -> Exception:
    """Return a sentence in place of what JAX says of a function that computes with NumPy."""
    kinds = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)
    if not isinstance(error, kinds):
        return error
    return ValueError(
        f"JAX cannot differentiate {name}: it computes with NumPy or Python numbers. Hand its "
        "gradient in as grad."
    )


def set_up(fun, grad, args, argnums, has_aux, rng, max_entries) -> Audit:
    """Return the audit with the functions and directions in it, and no evidence."""
    problem, lifted = _traced_problem(fun, grad, args, argnums, has_aux)
    y = problem.value(problem.xs, problem.side)
    U = _cotangents(y, grad is None, rng)
    outs = places([""] * len(y), y)
    us = [native(u, outs, dual=True) for u in U]
    notes = [f"Not judged, being no floats: {', '.join(problem.skipped)}."] * bool(problem.skipped)
    f = mapped(lifted, problem.leaves, dual=False)
    if not lifted.x64:
        notes.append("Differences in fun's own dtype: it cannot be evaluated in float64.")
    if not lifted.traceable:
        notes.append(
            "JAX cannot trace fun: no complex step, no forward mode, no derivative by JAX."
        )
    push = functools.cache(lambda: lift(problem.push, problem.xs, problem.side, problem.xs))
    n = len(problem.x)
    pulled, native_g, g = None, np.full(n, np.nan), np.zeros((len(U), n))
    shapes, dtypes = {}, {}
    inputs = Inputs(problem.x, problem.side, [])
    try:
        problem, native_g, shapes, dtypes = _checked_leaves(problem, us[0])
        lifted_pull = lift(problem.pull, problem.xs, problem.side, us[0])
        pulled = mapped(lifted_pull, problem.leaves, dual=True)
        g = np.array([pulled.at(inputs._replace(consts=lifted_pull.consts), u) for u in us])
    except Exception as error:
        try:
            if grad is not None:
                raise
            push()
        except Exception:
            raise (error if grad is not None else _underivable(error, problem.name)) from None
    # In float32 a step from 1e-3 of a leaf's size drowns in the rounding of its other entries.
    scales = _scales(problem.x, problem.leaves, 1e-13 if lifted.x64 else 0.1)
    rows = _directions(problem.leaves, scales, g, max_entries, rng)
    everywhere = rng.choice([-1.0, 1.0], size=(GLOBALS, n)) * scales
    return Audit(
        problem,
        f,
        pulled,
        to_numpy(y, dual=False),
        U,
        us,
        native_g,
        g,
        shapes,
        dtypes,
        scales,
        everywhere,
        rows,
        notes,
        push,
    )
