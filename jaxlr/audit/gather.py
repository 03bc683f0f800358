"""Gathering the evidence: differences, their noise, the Taylor tests, and what was judged."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.audit import differences
from jaxlr.audit.evidence import EPS, GLOBALS, Audit
from jaxlr.audit.judge import RESOLUTION, SAFETY, Comparison, Directions, judge_leaves
from jaxlr.audit.lines import Inputs, derivative_along
from jaxlr.audit.report import Evidence
from jaxlr.audit.taylor import remainder_test

SUSPICIOUS = 2e-7
"""A deviation along a random direction, relative to its natural size, that is searched for the
entry that makes it: constants held in float32 do not explain it."""

MOST_SEARCHES = 8
"""Leaves that are searched."""


def gather(a: Audit) -> Audit:
    """Return the audit with differences, Taylor tests and noise in it."""
    eps = a.f.lifted.eps
    if not a.f.lifted.x64:
        a = dataclasses.replace(a, ladder=(1 / 8, 4.0))
    steps = differences.ladder(*a.ladder)
    fine = 2.0 ** -np.arange(2, 14) if not a.f.lifted.x64 else 4.0 ** -np.arange(1, 13)
    spacings = 8 * eps * 64.0 ** np.arange(6)
    spacings = spacings[(spacings < 1e-2) | (spacings == spacings[0])]
    # On one side: a jump of fun at the point is no noise.
    grids = spacings[:, None] * np.arange(1, 14)
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
    size = abs(a.U) @ abs(a.y)
    sigma = np.fmax(differences.noise_of_lines(close).max(axis=1), eps / 2 * size)
    with np.errstate(invalid="ignore"):
        change = abs(values[..., 1] - values[..., 0])
    change = np.max(np.where(np.isfinite(change), change, 0.0), initial=0.0)
    # How large fun is, or the numbers that it is made of, or its changes.
    natural = float(max(sigma.max() / eps, change))
    s = _slopes(a, values, steps, sigma)
    largest = np.max(np.where(np.isfinite(s.error), abs(s.value), 0.0), initial=0.0)
    visible = float(max(size.max(), change, largest))
    a = dataclasses.replace(
        a, sigma=sigma, natural=natural, visible=visible, floor=eps ** (1 / 3) * visible
    )
    kappa, jitter = _rounding_of_judged(a, np.random.default_rng(1))
    a = dataclasses.replace(a, kappa=kappa, jitter=jitter, slopes=_finer(a, a.rows.D, s, values))
    judged, size, rounding = judged_along(a, a.rows.D)
    along = judged_along(a, a.globals)[0]
    remainders = tuple(
        remainder_test(far[0, i], fine, along[0, i], sigma[0], f"direction {i + 1}")
        for i in range(GLOBALS)
    )
    return _searched(
        dataclasses.replace(a, judged=judged, size=size, rounding=rounding, remainders=remainders)
    )


def _rounding_of_judged(a: Audit, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return how errors of all inputs move the gradient: in units of theirs, and by the least."""
    none = np.zeros_like(a.problem.x)
    if a.pulled is None:
        return none, none
    pulled, inputs = a.pulled, a.inputs(a.pulled)

    def moved(v: Any, delta: float) -> Any:
        if not hasattr(v, "dtype") or not jnp.issubdtype(v.dtype, jnp.inexact):
            return v
        wide = jnp.promote_types(v.dtype, jnp.float64)
        signs = rng.choice([-1.0, 1.0], size=np.shape(v))
        return np.asarray(v).astype(wide) * (1 + delta * signs)

    def largest(delta: float) -> np.ndarray:
        most = none
        for _ in range(3):
            there = Inputs(*(jax.tree.map(lambda v: moved(v, delta), part) for part in inputs))
            with np.errstate(invalid="ignore"):
                most = np.fmax(most, abs(pulled.at(there, a.us[0]) - a.g[0]))
        return np.where(np.isfinite(most), most, 0.0)

    delta = max(1e-7, 8 * pulled.lifted.eps)
    return largest(delta) / delta, largest(4 * pulled.lifted.eps)


def judged_along(a: Audit, D: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the judged derivatives along directions, their natural sizes and own rounding."""
    if a.pulled is None:
        judged = derivative_along(a.push(), a.problem.leaves, a.inputs_of(a.push()), D, a.U)
        size, own = abs(judged), EPS
    else:
        own = a.pulled.lifted.eps
        with np.errstate(invalid="ignore"):
            judged = _times(a.g, D)
            size = np.sqrt(_times(a.g**2, D**2))
    size = np.nan_to_num(size, posinf=0.0)
    # Rounding of what is judged: of its inputs, and of its own sums; where these cancel, what
    # the least change of the inputs does to it.
    units = 100 if own < 1e-10 else 4
    rounding = units * own * (a.kappa @ abs(D).T + size) + 2 * a.jitter @ abs(D).T
    return judged, size, np.broadcast_to(rounding, judged.shape)


def _times(g: np.ndarray, D: np.ndarray) -> np.ndarray:
    """`g @ D.T`, where a NaN of g spoils only the directions that move it."""
    finite = np.where(np.isfinite(g), g, 0.0)
    spoilt = (~np.isfinite(g)).astype(float) @ (D != 0).T.astype(float)
    return np.where(spoilt > 0, np.nan, finite @ D.T)


def _slopes(a: Audit, values: np.ndarray, steps: np.ndarray, sigma: np.ndarray) -> Any:
    sigma = np.tile(sigma[:, None], (1, values.shape[1]))
    return differences.slopes(values, steps, sigma, a.f.lifted.eps, RESOLUTION)


def slopes_along(a: Audit, D: np.ndarray, **changes: Any) -> differences.Slopes:
    """Return differences of fun along directions, `(M, R)`, on the first ladder only.

    Args:
        a: the audit.
        D: `(R, n)`.
        **changes: inputs of fun that are others than the point's.

    """
    steps = differences.ladder(*a.ladder)
    T = np.tile(differences.abscissae(steps), (len(D), 1))
    values = a.f.along(a.inputs(a.f)._replace(**changes), D, T, a.U)[:, : T.shape[1]]
    return _slopes(a, np.moveaxis(values, 2, 0), steps, a.sigma)


def _finer(
    a: Audit, D: np.ndarray, s: differences.Slopes, values: np.ndarray
) -> differences.Slopes:
    """Return the differences with finer steps, and h = 1/2, where the first ladder saw too little.

    All steps stand in one table: a coarse one may not contradict a finer one. None is coarser:
    where noise hides what finer steps say, a function that is bounded looks flat from afar.
    """
    start, ratio = a.ladder
    scale = np.maximum(abs(s.value) + abs(s.jump), a.floor)
    vague = ~(SAFETY * s.error <= RESOLUTION * scale) & (s.jump == 0)
    which = np.flatnonzero(vague.any(axis=0))
    if not len(which):
        return s
    K = differences.STEPS
    right, left = [values[:, which, 1 : K + 1]], [values[:, which, K + 1 :]]

    def more(first: float) -> np.ndarray:
        T = np.tile(differences.abscissae(differences.ladder(first, ratio)), (len(which), 1))
        return np.moveaxis(a.f.along(a.inputs(a.f), D[which], T, a.U), 2, 0)

    coarse = more(start * ratio)
    right.insert(0, coarse[..., 1:2])
    left.insert(0, coarse[..., K + 1 : K + 2])
    if a.f.lifted.x64:
        fine = more(start * ratio**-K)
        right.append(fine[..., 1 : K + 1])
        left.append(fine[..., K + 1 :])
    together = np.concatenate([values[:, which, :1], *right, *left], axis=-1)
    count = sum(part.shape[-1] for part in right)
    steps = start * ratio ** (1 - np.arange(count, dtype=float))
    again = _slopes(a, together, steps, a.sigma)
    s = differences.Slopes(*(part.copy() for part in s))
    for old, new in zip(s, again, strict=True):
        old[:, which] = new
    return s


# --- The entries of which not all are compared --------------------------------------------------


def _searched(a: Audit) -> Audit:
    """Return the audit with the entries among its rows that make random directions deviate.

    One wrong entry of many is small beside a random direction, but not beside itself.
    """
    c = comparison(a)
    with np.errstate(invalid="ignore"):
        excess = c.deviation / np.maximum(np.maximum(SAFETY * c.error, SUSPICIOUS * c.size), 1e-300)
    usable = np.isfinite(c.error) & np.isfinite(c.judged) & (a.rows.entry < 0)
    excess = np.where(usable & (excess > 1), excess, 0.0)
    rows = sorted(np.flatnonzero(excess.any(axis=0)), key=lambda r: -excess[:, r].max())
    for i in list(dict.fromkeys(a.rows.leaf[r] for r in rows))[:MOST_SEARCHES]:
        m = int(np.argmax(np.where(a.rows.leaf == i, excess, 0.0).max(axis=1)))
        a.located[int(i)] = most_deviant(a, int(i), m)
    new = [(i, e) for i, e in a.located.items() if e not in a.rows.entry]
    if not new:
        return a
    D = np.zeros((len(new), len(a.problem.x)))
    for d, (_, e) in zip(D, new, strict=True):
        d[e] = a.scales[e]
    steps = differences.ladder(*a.ladder)
    T = np.tile(differences.abscissae(steps), (len(D), 1))
    values = np.moveaxis(a.f.along(a.inputs(a.f), D, T, a.U), 2, 0)
    s = _finer(a, D, _slopes(a, values, steps, a.sigma), values)

    def joined(old: Any, added: Any) -> list[np.ndarray]:
        pairs = zip(old, added, strict=True)
        return [np.concatenate(pair, axis=-1) for pair in pairs]

    judged, size, rounding = joined((a.judged, a.size, a.rounding), judged_along(a, D))
    leaves, entries = map(np.array, zip(*new, strict=True))
    return dataclasses.replace(
        a,
        rows=Directions(np.concatenate([a.rows.D, D]), *joined(a.rows[1:], (leaves, entries))),
        slopes=differences.Slopes(*joined(a.slopes, s)),
        judged=judged,
        size=size,
        rounding=rounding,
    )


def most_deviant(a: Audit, i: int, m: int) -> int:
    """Return the entry of a leaf that deviates most for a cotangent: by halving, in 56ths."""
    leaf, rng = a.problem.leaves[i], np.random.default_rng(0)
    low, high = leaf.start, leaf.stop
    while high - low > 1:
        edges = np.unique(np.linspace(low, high, 56).astype(int))
        D = np.zeros((len(edges) - 1, len(a.problem.x)))
        for d, start, stop in zip(D, edges[:-1], edges[1:], strict=True):
            d[start:stop] = rng.choice([-1.0, 1.0], size=stop - start) * a.scales[start:stop]
        s = slopes_along(a, D)
        with np.errstate(invalid="ignore"):
            away = abs(s.value - judged_along(a, D)[0])[m]
        away = np.where(np.isfinite(s.error[m]) & np.isfinite(away), away, -1.0)
        k = int(np.argmax(away))
        low, high = int(edges[k]), int(edges[k + 1])
    return low


# --- The table ----------------------------------------------------------------------------------


def compare(a: Audit, check: str) -> list[Evidence]:
    """Return the rows of the table that set the judged gradient against the differences."""
    least = RESOLUTION * a.floor
    return judge_leaves(check, a.problem.leaves, a.rows, a.scales, comparison(a), a.floor, least)


def comparison(a: Audit) -> Comparison:
    """Return the judged gradient against the differences, along the rows."""
    s = a.slopes
    at_kinks = np.where(np.isfinite(s.error), 1e-3 * abs(s.jump), np.inf)
    error = np.where(s.jump != 0, at_kinks, s.error)
    zero = a.f.lifted.eps / 2 * a.visible + SAFETY * a.rounding
    return Comparison(
        a.judged, s.value, error + a.rounding, a.size, s.jump / 2, s.discontinuous, zero
    )
