"""`audit_gradient`: gather the evidence, judge it, and say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxlr.audit import checks, differences
from jaxlr.audit.evidence import EPS, Audit, compare, derived_slopes, gather, set_up
from jaxlr.audit.hints import explain
from jaxlr.audit.judge import Comparison, judge_leaves, judge_scalars
from jaxlr.audit.lines import complex_step, derivative_along
from jaxlr.audit.report import Evidence, Report, Verdict


def audit_gradient(
    fun: Callable,
    grad: Callable | None = None,
    *args: Any,
    argnums: int | Sequence[int] | None = None,
    reference: Callable | None = None,
    has_aux: bool = False,
    order: int = 2,
    key: Any = None,
    max_entries: int = 2000,
) -> Report:
    """Return whether a gradient of fun is right at args, and the evidence.

    The gradient is compared with central differences in float64, extrapolated and with an
    error estimate for each entry; with the complex step; with the derivative of a reference.
    The Taylor remainder `|f(x + h·v) − f(x) − h·g·v|` falls as h² if and only if g is right.
    Forward and reverse mode, jit, vmap and the second order are checked beside it. A function
    of any dtype is evaluated in float64 where its operations allow; x64 is not left on.

    Args:
        fun: a JAX function; of pytrees; scalar, or of one or many arrays.
        grad: the gradient to be judged. For a scalar fun, `grad(*args)` has the structure that
            `jax.grad(fun)(*args)` has; for another, `grad(*args, u)` is that of `Σ uᵢ·funᵢ`,
            with u like fun's output. None: what JAX derives, custom rules included.
        *args: the point, and other arguments of fun.
        argnums: the arguments of the gradient, as for `jax.grad`. None: the first one; or,
            without grad, all of them. Leaves that are not floating point are skipped.
        reference: another implementation of fun, whose derivative is taken as evidence.
        has_aux: whether fun returns a pair of which the second is not differentiated.
        order: 2 to check also, without grad, the derivative of what JAX derives; else 1.
        key: a `jax.random.key` for the random directions; a fixed one when None.
        max_entries: with more entries than this, random directions and the largest entries
            are compared instead of every one.

    Returns:
        A `Report`; its `verdict` is AGREES, DISAGREES or CANNOT_TELL.

    Raises:
        ValueError: when no leaf is floating point or grad has another structure than its
            argument.
        Exception: what fun or grad raise at args.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([0.3, 0.7])
    >>> audit_gradient(lambda x: (x**3).sum(), lambda x: 3 * x**2, x).verdict.words
    'agrees'
    >>> audit_gradient(lambda x: (x**3).sum(), lambda x: x**2, x).hints[0]
    'x: it is 0.333333 times the right one: a factor of 3 is missing'

    """
    if argnums is None:
        argnums = 0 if grad is not None else tuple(range(len(args)))
    seed = 0 if key is None else np.asarray(jax.random.key_data(key)).ravel().tolist()
    rng = np.random.default_rng(seed)
    argnums = argnums if isinstance(argnums, int) else tuple(argnums)
    a = set_up(fun, grad, args, argnums, has_aux, rng, max_entries)
    if not np.isfinite(a.y).all():
        hint = "fun is not finite at this point; a point inside its domain would settle it"
        return Report(a.problem.name, Verdict.CANNOT_TELL, (), (hint,), tuple(a.notes))
    a = gather(a)
    primary = compare(a, "differences")
    others = _other_evidence(a, fun, grad, args, argnums, has_aux, reference)
    rest = _consistency(a, grad, order, rng)
    verdict, rows = _weigh(primary, others, rest)
    return explain(a, verdict, rows)


def _other_evidence(
    a: Audit, fun, grad, args, argnums, has_aux: bool, reference: Callable | None
) -> list[Evidence]:
    """Complex step, reference, and for a handed-in gradient the autodiff of fun, leaf by leaf."""
    smooth = ~(a.slopes.jump != 0).any(axis=0)
    rows = a.rows.select(smooth)
    judged, size, rounding = (m[:, smooth] for m in (a.judged, a.size, a.rounding))
    found: list[Evidence] = []

    def judge(check: str, truth: np.ndarray, error: np.ndarray) -> list[Evidence]:
        c = Comparison(judged, truth, error + rounding, size, np.zeros_like(truth))
        return judge_leaves(check, a.problem.leaves, rows, a.scales, c, a.floor)

    if not smooth.any():
        return []
    try:
        truth = complex_step(a.f.lifted, a.problem.leaves, a.inputs(a.f), rows.D, a.U)
        noise = 1e3 * EPS * (a.natural + abs(truth).max(initial=0.0)) + 0 * truth
        seen, error = a.slopes.value[:, smooth], a.slopes.error[:, smooth]
        with np.errstate(invalid="ignore"):
            against = abs(truth - seen) > 8 * error + 1e-6 * (abs(truth) + a.floor) + noise
        if not np.isfinite(truth).all() or (against & np.isfinite(error)).any():
            a.notes.append("No complex step: fun is not analytic in its arguments.")
        else:
            found += judge("complex step", truth, noise)
    except Exception as error:
        a.notes.append(f"No complex step: {checks.first_line(error)}")
    for name, other in (("reference", reference), ("autodiff of fun", fun if grad else None)):
        if other is None:
            continue
        try:
            truth = derived_slopes(other, args, argnums, has_aux, a, rows.D)
        except Exception as error:
            if name == "reference":
                raise
            a.notes.append(f"No autodiff of fun: {checks.first_line(error)}")
            continue
        found += judge(name, truth, rounding)
    return found


def _consistency(a: Audit, grad, order: int, rng: np.random.Generator) -> list[Evidence]:
    """Rounding, jit, vmap, both modes, second order: whatever of it exists."""
    p, found = a.problem, list[Evidence]()
    if a.pulled is None:
        a.notes.append("No reverse mode: the forward mode is judged.")
        return found
    unit = checks.native_unit(p, a.pulled.lifted.trace)
    kappa = a.kappa
    if a.pulled.lifted.x64 and not a.shapes:
        found += checks.arithmetic(p, a.native_g, a.g[0], unit, kappa, a.scales, a.natural)
    if not a.shapes:
        rows, note = checks.compiled_equals_eager(p, a.us, a.native_g, unit, kappa)
        found += rows
        a.notes.extend([note] * bool(note))
        rows, note = checks.batched_equals_loop(p, a.pulled, a.us, a.inputs(a.pulled), rng, kappa)
        found += rows
        a.notes.extend([note] * bool(note))
    V, g = a.globals, a.g
    if not np.isfinite(g).all():
        return found
    size = np.sqrt((g**2) @ (V**2).T)
    try:
        forward = derivative_along(a.push(), p.leaves, a.inputs_of(a.push()), V, a.U)
    except Exception as error:
        a.notes.append(f"No forward mode: {checks.first_line(error)}")
    else:
        blur = 100 * EPS * (abs(kappa) @ abs(V).T + size)
        row = judge_scalars("forward = reverse", abs(forward - g @ V.T), size, blur)
        if grad is None:
            found.append(row)
        elif row.verdict == Verdict.DISAGREES:
            a.notes.append(
                "The gradient that JAX derives of fun differs from the one that was handed in."
            )
    if grad is None and order > 1:
        steps = differences.ladder(*a.ladder)
        rows, notes = checks.second_order(
            p, a.pulled, a.us[0], a.inputs(a.pulled), V, steps, float(size.max(initial=0.0))
        )
        found += rows
        a.notes.extend(notes)
    return found


def _weigh(
    primary: list[Evidence], others: list[Evidence], rest: list[Evidence]
) -> tuple[Verdict, tuple[Evidence, ...]]:
    """Return the verdict, and the rows that show it, the worst first.

    JAX's own derivative of fun may settle what noise left open, but accuses nobody: where a
    custom rule or a `stop_gradient` is wrong, it is.
    """
    helpful = [row for row in others if row.verdict == Verdict.AGREES]
    others = [
        row for row in others if row.check != "autodiff of fun" or row.verdict == Verdict.AGREES
    ]
    settled = {row.leaf for row in helpful}
    open_ = [
        row
        for row in primary
        if row.verdict == Verdict.CANNOT_TELL and ("kink" in row.note or row.leaf not in settled)
    ]
    rows = [*primary, *others, *rest]
    if any(row.verdict == Verdict.DISAGREES for row in rows):
        verdict = Verdict.DISAGREES
    elif open_:
        verdict = Verdict.CANNOT_TELL
    else:
        verdict = Verdict.AGREES
    # Of each further kind of evidence, what failed; of what did not, the worst.
    shown = list(primary)
    for check in dict.fromkeys(row.check for row in (*others, *rest)):
        same = [row for row in (*others, *rest) if row.check == check]
        failed = [row for row in same if row.verdict == Verdict.DISAGREES]
        shown += failed or [max(same, key=lambda row: row.relative)]
    worst = {Verdict.DISAGREES: 0, Verdict.CANNOT_TELL: 1, Verdict.AGREES: 2}
    order = sorted(
        enumerate(shown), key=lambda pair: (worst[pair[1].verdict], not pair[1].leaf, pair[0])
    )
    return verdict, tuple(row for _, row in order)
