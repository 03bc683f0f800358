"""The state of an audit: the functions in wide arithmetic, the directions, the derivatives."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.audit import differences
from jaxlr.audit.flat import Arrays, Leaf, Problem, describe, native, places, to_numpy
from jaxlr.audit.judge import (
    RESOLUTION,
    SAFETY,
    Comparison,
    Directions,
    judge_leaves,
)
from jaxlr.audit.lines import Inputs, Mapped, derivative_along, mapped
from jaxlr.audit.report import Evidence, Remainder
from jaxlr.audit.taylor import remainder_test
from jaxlr.audit.wide import Lifted, lift

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
        shapes: leaves whose judged gradient has the wrong shape, with what it is.
        scales: `(n,)`: the length of each entry's direction: powers of two, so that steps are
            exact in any dtype.
        globals: random directions through all leaves, `(GLOBALS, n)`.
        rows: the directions within leaves that are compared.
        notes: what the report says at its end.
        push: returns forward mode, or raises what JAX raises when there is none.
        ladder: the first step and the ratio of the steps.
        sigma: `(M,)`: noise of f.
        natural: Σ |uᵢ yᵢ|.
        floor: the derivative along a direction that counts as zero.
        kappa: `(n,)`: how far errors of one unit in all inputs move the gradient, in units.
        judged, size, rounding: `(M, R)`: the judged derivatives along the rows, their natural
            sizes, and their own rounding errors.
        slopes: the differences, `(M, R)`.
        remainders: the Taylor tests.

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
    scales: np.ndarray
    globals: np.ndarray
    rows: Directions
    notes: list[str]
    push: Callable[[], Lifted]
    ladder: tuple[float, float] = (1 / 16, 8.0)
    sigma: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    natural: float = 0.0
    floor: float = 0.0
    kappa: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    judged: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((1, 1)))
    size: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((1, 1)))
    rounding: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((1, 1)))
    slopes: Any = None
    remainders: tuple[Remainder, ...] = ()

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


def _checked_shapes(problem: Problem, us: Arrays) -> tuple[Problem, np.ndarray, dict]:
    """Return the gradient in its own dtypes; leaves of a wrong shape count as NaN."""
    judged = problem.pull
    given = judged(problem.xs, problem.side, us)
    wrong = {
        i: np.asarray(g)
        for i, (g, leaf) in enumerate(zip(given, problem.leaves, strict=True))
        if np.shape(g) != leaf.shape
    }

    def pull(xs: Arrays, side: Arrays, us: Arrays) -> Arrays:
        gs = judged(xs, side, us)
        return [jnp.full_like(x, jnp.nan) if i in wrong else gs[i] for i, x in enumerate(xs)]

    if wrong:
        problem = problem._replace(pull=pull)
        given = [
            np.full(np.shape(x), np.nan) if i in wrong else given[i]
            for i, x in enumerate(problem.xs)
        ]
    return problem, to_numpy(given, dual=True), wrong


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
    push = functools.cache(lambda: lift(problem.push, problem.xs, problem.side, problem.xs))
    n = len(problem.x)
    pulled, native_g, g, shapes = None, np.full(n, np.nan), np.zeros((len(U), n)), {}
    inputs = Inputs(problem.x, problem.side, [])
    try:
        problem, native_g, shapes = _checked_shapes(problem, us[0])
        lifted_pull = lift(problem.pull, problem.xs, problem.side, us[0])
        pulled = mapped(lifted_pull, problem.leaves, dual=True)
        g = np.array([pulled.at(inputs._replace(consts=lifted_pull.consts), u) for u in us])
    except Exception as error:
        try:
            if grad is not None:
                raise
            push()
        except Exception:
            raise error from None
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
        scales,
        everywhere,
        rows,
        notes,
        push,
    )


# --- Gathering ----------------------------------------------------------------------------------


def _kappa(a: Audit, rng: np.random.Generator) -> np.ndarray:
    """Return how far relative errors of size one in all inputs would move the gradient."""
    if a.pulled is None:
        return np.zeros(len(a.problem.x))
    delta = max(1e-7, 8 * a.pulled.lifted.eps)
    inputs = a.inputs(a.pulled)

    def moved(v: Any) -> Any:
        if not hasattr(v, "dtype") or not jnp.issubdtype(v.dtype, jnp.inexact):
            return v
        wide = jnp.promote_types(v.dtype, jnp.float64)
        signs = rng.choice([-1.0, 1.0], size=np.shape(v))
        return np.asarray(v).astype(wide) * (1 + delta * signs)

    largest = np.zeros_like(a.problem.x)
    for _ in range(3):
        there = Inputs(*(jax.tree.map(moved, part) for part in inputs))
        with np.errstate(invalid="ignore"):
            away = abs(a.pulled.at(there, a.us[0]) - a.g[0]) / delta
        largest = np.fmax(largest, away)
    return np.where(np.isfinite(largest), largest, 0.0)


def derived_slopes(fun, args, argnums, has_aux, a: Audit, D: np.ndarray) -> np.ndarray:
    """Return what JAX derives for another function, along directions: `(M, R)`."""
    problem = describe(fun, None, args, argnums, has_aux)
    lifted = lift(problem.pull, problem.xs, problem.side, a.us[0])
    other = mapped(lifted, problem.leaves, dual=True)
    inputs = Inputs(problem.x, problem.side, lifted.consts)
    return np.array([other.at(inputs, u) for u in a.us]) @ D.T


def gather(a: Audit) -> Audit:
    """Return the audit with differences, Taylor tests and noise in it."""
    eps, leaves = a.f.lifted.eps, a.problem.leaves
    if not a.f.lifted.x64:
        a = dataclasses.replace(a, ladder=(1 / 8, 4.0))
    start, ratio = a.ladder
    steps = differences.ladder(start, ratio)
    fine = 2.0 ** -np.arange(2, 14) if not a.f.lifted.x64 else 4.0 ** -np.arange(1, 13)
    spacings = 8 * eps * 64.0 ** np.arange(6)
    spacings = spacings[(spacings < 1e-2) | (spacings == spacings[0])]
    grids = spacings[:, None] * np.arange(-6, 7)
    T = np.concatenate(
        [
            np.tile(grids, (GLOBALS, 1)),
            np.tile([0.0, *fine], (GLOBALS, 1)),
            np.tile(differences.abscissae(steps), (len(a.rows.D), 1)),
        ]
    )
    D = np.concatenate([np.repeat(a.globals, len(grids), axis=0), a.globals, a.rows.D])
    values = np.moveaxis(a.f.along(a.inputs(a.f), D, T, a.U), 2, 0)  # (M, R, S)
    close, far, values = np.split(values, [GLOBALS * len(grids), -len(a.rows.D)], axis=1)
    close = close.reshape(len(a.U), GLOBALS, len(grids), -1)
    sigma = differences.noise_of_lines(close).max(axis=1)
    sigma = np.fmax(sigma, eps / 2 * (abs(a.U) @ abs(a.y)))
    with np.errstate(invalid="ignore"):
        change = abs(values[..., 1] - values[..., 0])
    change = np.max(np.where(np.isfinite(change), change, 0.0), initial=0.0)
    # How large f is, or the numbers that it is made of, or its changes.
    natural = float(max(sigma.max() / eps, change))
    sigma_rows = np.tile(sigma[:, None], (1, len(a.rows.D)))
    s = differences.slopes(values, steps, sigma_rows, eps, RESOLUTION)
    largest = np.max(np.where(np.isfinite(s.error), abs(s.value), 0.0), initial=0.0)
    floor = eps ** (1 / 3) * max(natural, largest)
    a = dataclasses.replace(a, sigma=sigma, natural=natural, floor=floor, slopes=s)
    a = _finer(a, values)
    if a.pulled is None:
        judged = derivative_along(a.push(), leaves, a.inputs_of(a.push()), a.rows.D, a.U)
        along = derivative_along(a.push(), leaves, a.inputs_of(a.push()), a.globals, a.U)
        size, kappa, own = abs(judged), np.zeros_like(a.problem.x), EPS
    else:
        kappa, own = _kappa(a, np.random.default_rng(1)), a.pulled.lifted.eps
        with np.errstate(invalid="ignore"):
            judged, along = _times(a.g, a.rows.D), _times(a.g, a.globals)
            size = np.sqrt(_times(a.g**2, a.rows.D**2))
    # Rounding of what is judged: of its inputs, and of its own sums.
    rounding = (
        (100 if own < 1e-10 else 4)
        * own
        * (abs(kappa) @ abs(a.rows.D).T + np.nan_to_num(size, posinf=0.0))
    )
    remainders = tuple(
        remainder_test(far[0, i], fine, along[0, i], sigma[0], f"direction {i + 1}")
        for i in range(GLOBALS)
    )
    return dataclasses.replace(
        a,
        kappa=kappa,
        judged=judged,
        size=np.nan_to_num(size, posinf=0.0),
        rounding=np.broadcast_to(rounding, judged.shape),
        remainders=remainders,
    )


def _times(g: np.ndarray, D: np.ndarray) -> np.ndarray:
    """`g @ D.T`, where a NaN of g spoils only the directions that move it."""
    finite = np.where(np.isfinite(g), g, 0.0)
    spoilt = (~np.isfinite(g)).astype(float) @ (D != 0).T.astype(float)
    return np.where(spoilt > 0, np.nan, finite @ D.T)


def _finer(a: Audit, values: np.ndarray) -> Audit:
    """Add finer and coarser steps where the first ladder saw too little.

    All steps stand in one table: a coarse one may not contradict a finer one.
    """
    s, (start, ratio) = a.slopes, a.ladder
    scale = np.maximum(abs(s.value) + abs(s.jump), a.floor)
    vague = ~(SAFETY * s.error <= RESOLUTION * scale) & (s.jump == 0)
    which = np.flatnonzero(vague.any(axis=0))
    if not len(which):
        return a
    K = differences.STEPS
    right, left = [values[:, which, 1 : K + 1]], [values[:, which, K + 1 :]]
    powers = (K, -K) if a.f.lifted.x64 else (K,)
    for power in powers:  # coarser steps first, finer ones last
        steps = differences.ladder(start * ratio**power, ratio)
        T = np.tile(differences.abscissae(steps), (len(which), 1))
        more = np.moveaxis(a.f.along(a.inputs(a.f), a.rows.D[which], T, a.U), 2, 0)
        at = 0 if power > 0 else len(right)
        right.insert(at, more[..., 1 : K + 1])
        left.insert(at, more[..., K + 1 :])
    together = np.concatenate([values[:, which, :1], *right, *left], axis=-1)
    steps = start * ratio ** (K - np.arange(K * len(right), dtype=float))
    sigma = np.tile(a.sigma[:, None], (1, len(which)))
    again = differences.slopes(together, steps, sigma, a.f.lifted.eps, RESOLUTION)
    for old, new in zip(s, again, strict=True):
        old[:, which] = new
    return a


def compare(a: Audit, check: str) -> list[Evidence]:
    """Return the rows of the table that set the judged gradient against the differences."""
    c = comparison(a)
    rows = judge_leaves(check, a.problem.leaves, a.rows, a.scales, c, a.floor)
    return rows


def comparison(a: Audit) -> Comparison:
    """Return the judged gradient against the differences, along the rows."""
    s = a.slopes
    kinked = s.jump != 0
    error = np.where(kinked, 1e-3 * abs(s.jump) + 0 * s.error, s.error)
    return Comparison(a.judged, s.value, error + a.rounding, a.size, s.jump / 2)
