"""`audit_gradient`: gather the evidence, judge it, and say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxlr.audit import checks, differences
from jaxlr.audit.analytic import analytic_evidence, smooth_rows
from jaxlr.audit.door import checked_call
from jaxlr.audit.evidence import EPS, Audit, set_up
from jaxlr.audit.gather import compare, gather, judged_along
from jaxlr.audit.hints import explain
from jaxlr.audit.judge import judge_scalars
from jaxlr.audit.lines import derivative_along
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
        ValueError: when no leaf, or nothing that fun returns, is floating point, grad has
            another structure than its argument, or an option is not one of those above.
        Exception: what fun or grad raise at args.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([0.3, 0.7])
    >>> audit_gradient(lambda x: (x**3).sum(), lambda x: 3 * x**2, x).verdict.words
    'agrees'
    >>> audit_gradient(lambda x: (x**3).sum(), lambda x: x**2, x).hints[0]
    'x: it is 0.333333 times the right one: a factor of 3 is missing'

    """
    argnums = checked_call(fun, grad, args, argnums, order, key)
    seed = 0 if key is None else np.asarray(jax.random.key_data(key)).ravel().tolist()
    rng = np.random.default_rng(seed)
    a = set_up(fun, grad, args, argnums, has_aux, rng, max_entries)
    if not np.isfinite(a.y).all():
        hint = "fun is not finite at this point; a point inside its domain would settle it"
        return Report(a.problem.name, Verdict.CANNOT_TELL, (), (hint,), tuple(a.notes))
    a = gather(a)
    others, doubts = analytic_evidence(a, fun, grad, args, argnums, has_aux, reference)
    primary = [_doubted(row, doubts) for row in compare(a, "differences")]
    rest = _consistency(a, grad, order, rng)
    smooth = smooth_rows(a)
    rough = {a.problem.leaves[i].path for i in a.rows.leaf[~smooth]}
    verdict, rows = _weigh(primary, others, rest, rough)
    return explain(a, verdict, rows)


def _consistency(a: Audit, grad, order: int, rng: np.random.Generator) -> list[Evidence]:
    """Rounding, jit, vmap, both modes, second order: whatever of it exists."""
    p, found = a.problem, list[Evidence]()
    if grad is None:
        found += checks.values(p, checks.native_unit(p, a.f.lifted.trace), a.natural)
    if a.pulled is None:
        a.notes.append("No reverse mode: the forward mode is judged.")
        return found
    unit, pulled = checks.native_unit(p, a.pulled.lifted.trace), a.pulled
    if pulled.lifted.x64 and not a.shapes:
        found += checks.arithmetic(p, a.native_g, a.g[0], unit, a.kappa, a.scales, a.natural)
    if not pulled.lifted.traceable:
        a.notes.append("JAX cannot trace the gradient: not under jit, not under vmap.")
    elif not a.shapes:
        blur = (a.kappa, a.scales, a.visible)
        rows, note = checks.compiled_equals_eager(p, a.us, a.native_g, unit, *blur)
        found += rows
        a.notes.extend([note] * bool(note))
        rows, note = checks.batched_equals_loop(p, pulled, a.us, a.inputs(pulled), rng, *blur)
        found += rows
        a.notes.extend([note] * bool(note))
    if not np.isfinite(a.g).all():
        return found
    if a.f.lifted.traceable:
        found += _forward(a, is_handed_in=grad is not None)
    if grad is None and order > 1:
        V, steps = a.globals, differences.ladder(*a.ladder)
        size = float(judged_along(a, V)[1].max(initial=0.0))
        rows, notes = checks.second_order(p, pulled, a.us[0], a.inputs(pulled), V, steps, size)
        found += rows
        a.notes.extend(notes)
    return found


def _forward(a: Audit, is_handed_in: bool) -> list[Evidence]:
    """Return the row of forward mode, which accuses no gradient that was handed in."""
    try:
        push = a.push()
        forward = derivative_along(push, a.problem.leaves, a.inputs_of(push), a.globals, a.U)
    except Exception as error:
        a.notes.append(f"No forward mode: {checks.first_line(error)}")
        return []
    judged, size, rounding = judged_along(a, a.globals)
    blur = rounding + EPS / 2 * a.visible
    row = judge_scalars("forward = reverse", abs(forward - judged), size, blur)
    if not is_handed_in:
        return [row]
    if row.verdict == Verdict.DISAGREES:
        a.notes.append(
            "The gradient that JAX derives of fun differs from the one that was handed in."
        )
    return []


def _doubted(row: Evidence, doubts: dict[str, str]) -> Evidence:
    """Return a row of differences: one that saw nothing settles nothing that is contradicted."""
    if not (row.verdict == Verdict.AGREES and row.vague and row.leaf in doubts):
        return row
    note = (
        "the differences see no gradient so small beside fun; "
        f"{doubts[row.leaf]} contradicts it, and fun without its large part would settle it"
    )
    return row._replace(verdict=Verdict.CANNOT_TELL, note=note)


def _weigh(
    primary: list[Evidence], others: list[Evidence], rest: list[Evidence], rough: set[str]
) -> tuple[Verdict, tuple[Evidence, ...]]:
    """Return the verdict, and the rows that show it, the worst first.

    JAX's own derivative of fun may settle what noise left open, but accuses nobody: where a
    custom rule or a `stop_gradient` is wrong, it is. Where fun is rough nothing settles it.
    """
    settled = {row.leaf for row in others if row.verdict == Verdict.AGREES} - rough
    others = [
        row
        for row in others
        if row.verdict == Verdict.AGREES
        or (row.verdict == Verdict.DISAGREES and row.check != "autodiff of fun")
    ]
    open_ = [
        row for row in primary if row.verdict == Verdict.CANNOT_TELL and row.leaf not in settled
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
