"""What must also hold of a right gradient: both modes, jit, vmap and the second order agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.audit import differences
from jaxlr.audit.flat import Problem, native, to_numpy
from jaxlr.audit.judge import SAFETY, judge_scalars
from jaxlr.audit.lifted import lift
from jaxlr.audit.lines import QUICK, Inputs, Mapped, derivative_along
from jaxlr.audit.report import Evidence, Verdict
from jaxlr.audit.wide import dtype_of, subjaxprs, widen

EPS = float(np.finfo(np.float64).eps)


def native_unit(problem: Problem, trace: Any) -> float:
    """Return the coarsest rounding unit among the dtypes of a gradient's own arithmetic."""
    dtypes = [leaf.dtype for leaf in problem.leaves]
    if trace is not None:
        eqns = [eqn for sub in subjaxprs(trace.jaxpr) for eqn in sub.eqns]
        dtypes += [dtype_of(v.aval) for e in eqns for v in e.outvars if hasattr(v.aval, "dtype")]
    return max(float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.inexact))


def arithmetic(
    problem: Problem, g: np.ndarray, wide: np.ndarray, unit: float, kappa, scales, natural: float
):
    """Return the row that compares the gradient in its own dtype with the one in float64.

    What an error of one unit in every input would do to it, is no fault of the gradient.
    """
    worst = None
    for leaf in problem.leaves:
        s = scales[leaf.place]
        size = np.linalg.norm(wide[leaf.place] * s)
        # Below `unit·natural` a slope does not move fun by one unit of its own rounding.
        blur = unit * (4 * np.linalg.norm(kappa[leaf.place] * s) + 4 * size + natural)
        with np.errstate(invalid="ignore"):
            away = np.linalg.norm((g[leaf.place] - wide[leaf.place]) * s)
        # NaN on both sides is another row's matter.
        if not np.isfinite(wide[leaf.place]).all():
            continue
        name = dtype_of(problem.xs[0]) if len(problem.leaves) == 1 else leaf.dtype
        note = (
            f"right in float64, but {leaf.path} loses its digits in {np.dtype(name).name}: "
            "look for a cancellation, an overflow or a branch on the dtype"
        )
        row = judge_scalars("rounding", away, size, blur, note)
        row = row._replace(leaf=leaf.path, shape=leaf.shape)
        key = (row.verdict == Verdict.DISAGREES, row.relative)
        if worst is None or key > worst[0]:
            worst = (key, row)
    return [] if worst is None else [worst[1]]


def values(problem: Problem, unit: float, natural: float) -> list[Evidence]:
    """Return the check that fun has the same value where it is differentiated.

    A rule returns a value of its own under `jax.vjp`, `jax.jvp` and all that is made of them.
    """
    xs = problem.xs

    def value(xs: list[Any]) -> list[Any]:
        return list(map(jnp.asarray, problem.value(xs, problem.side)))

    zeros = [jnp.zeros_like(x) for x in xs]
    ways = (lambda: jax.vjp(value, xs)[0], lambda: jax.jvp(value, (xs,), (zeros,))[0])
    y, rows = to_numpy(value(xs)), []
    blur = 4 * unit * (natural + abs(y))
    for way in ways:
        try:
            away = abs(to_numpy(way()) - y)
        except Exception:  # a mode that does not exist: said elsewhere
            continue
        row = judge_scalars("value under grad", away, abs(y), blur)
        if row.verdict != Verdict.AGREES:
            # What fun itself does not repeat beside the point is no fault of the rule.
            signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(3, len(problem.x)))
            near = [native(x, problem.leaves) for x in problem.x * (1 + 4 * unit * signs)]
            own = np.max([abs(to_numpy(value(xs)) - y) for xs in near], axis=0)
            row = judge_scalars("value under grad", away, abs(y), blur + own)
        rows.append(row)
    return sorted(rows, key=lambda row: (row.verdict != Verdict.DISAGREES, -row.relative))[:1]


def compiled_equals_eager(
    problem: Problem,
    us: Sequence[list[Any]],
    eager: np.ndarray,
    unit: float,
    kappa: np.ndarray,
    scales: np.ndarray,
    visible: float,
) -> tuple[list[Evidence], str]:
    """Return the check that jit does not change the gradient, or a note why there is none.

    What moves fun by less than its own rounding, as sums that cancel leave it, counts as zero.
    """
    try:
        compiled = to_numpy(jax.jit(problem.pull)(problem.xs, problem.side, us[0]), dual=True)
    except Exception as error:
        return [], f"Not under jit: {first_line(error)}"
    if compiled.shape != eager.shape or not np.isfinite(eager).all():
        return [], ""
    size = np.linalg.norm(eager * scales)
    blur = unit * (4 * np.linalg.norm(kappa * scales) + 4 * size + visible / 2)
    away = np.linalg.norm((compiled - eager) * scales)
    return [judge_scalars("jit = eager", away, size, blur)], ""


def batched_equals_loop(
    problem: Problem,
    pulled: Mapped,
    us: Sequence[list[Any]],
    inputs: Inputs,
    rng,
    kappa: np.ndarray,
    scales: np.ndarray,
    visible: float,
) -> tuple[list[Evidence], str]:
    """Return the check that vmap of the gradient is the loop over it."""
    wiggles = 1 + 0.01 * rng.uniform(-1, 1, size=(2, len(inputs.x)))
    points = np.concatenate([inputs.x[None], inputs.x * wiggles])
    chosen = [us[i % len(us)] for i in range(len(points))]
    stacked_u = [jnp.stack(parts) for parts in zip(*chosen, strict=True)]
    stack = [
        jnp.stack(parts) for parts in zip(*(native(x, problem.leaves) for x in points), strict=True)
    ]
    stored = [to_numpy([part[i] for part in stack]) for i in range(len(points))]

    def batched(xs, side, us):
        return jax.vmap(lambda x, u: problem.pull(x, side, u))(xs, us)

    try:
        lifted = lift(batched, stack, problem.side, stacked_u)
        if not lifted.traceable:
            return [], "Not under vmap: it cannot be traced."
        with jax.enable_x64(lifted.x64 or jax.config.read("jax_enable_x64")):
            given = (stack, problem.side, stacked_u)
            if lifted.x64:
                given = jax.tree.map(lambda a: widen(a, jnp.float64), given)
            outs = jax.jit(lifted.run, compiler_options=QUICK)(lifted.consts, *given)
    except Exception as error:
        return [], f"Not under vmap: {first_line(error)}"
    got = [to_numpy([out[i] for out in outs], dual=True) for i in range(len(points))]
    due = [pulled.at(inputs._replace(x=x), u) for x, u in zip(stored, chosen, strict=True)]
    unit = max(lifted.eps, pulled.lifted.eps)
    blur = 100 * np.linalg.norm(kappa * scales) + visible / 2
    rows = [
        judge_scalars("vmap = loop", d, s, unit * (blur + 100 * s))
        for a, b in zip(got, due, strict=True)
        if np.isfinite(b).all()
        for d, s in [(np.linalg.norm((a - b) * scales), np.linalg.norm(b * scales))]
    ]
    return sorted(rows, key=lambda row: (row.verdict != Verdict.DISAGREES, -row.relative))[:1], ""


def second_order(
    problem: Problem, pulled: Mapped, u: list[Any], inputs: Inputs, D: np.ndarray, steps, sizes
) -> tuple[list[Evidence], list[str]]:
    """Return the checks of what JAX makes of the gradient's own derivative.

    `Hv`, forward over reverse, against differences of gradients along v, and the symmetry
    `⟨w, Hv⟩ = ⟨v, Hw⟩`; H is the derivative of the gradient of `⟨u, f⟩`.
    """

    def tangents(xs, side, vs):
        return jax.jvp(lambda xs: problem.pull(xs, side, u), (xs,), (vs,))[1]

    try:
        lifted = lift(tangents, problem.xs, problem.side, problem.xs)
        # Tangents of gradients are dual: with the cotangents D they are ⟨w, Hv⟩.
        there = inputs._replace(consts=lifted.consts)
        H = derivative_along(lifted, problem.leaves, there, D, D, dual=True)
    except Exception as error:
        return [], [f"No second order: {first_line(error)}"]
    T = np.tile(differences.abscissae(steps), (len(D), 1))
    values = np.moveaxis(pulled.along(inputs, D, T, D, u), 2, 0)  # (w, v, S)
    eps = 4 * pulled.lifted.eps
    sigma = np.full(values.shape[:-1], eps * sizes)
    s = differences.slopes(values, steps, sigma, eps, SAFETY * 1e-3)
    scale = np.sqrt(np.mean(np.where(np.isfinite(s.value), s.value, 0) ** 2)) + 0 * s.value
    error = np.where(s.jump != 0, np.inf, s.error) + 100 * EPS * (abs(H) + sizes)
    rows = [judge_scalars("second order", abs(H - s.value), scale, error)]
    with np.errstate(invalid="ignore"):
        asymmetry = abs(H - H.T)
    rows.append(judge_scalars("symmetry", asymmetry, scale, np.maximum(error, error.T)))
    rows[0] = rows[0]._replace(
        note="the derivative of the gradient is not its differences"
        if rows[0].verdict == Verdict.DISAGREES
        else ""
    )
    return rows, []


def first_line(error: Exception) -> str:
    """Return an exception's message, short."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text if len(text) < 160 else text[:157] + "…"
