"""Evidence without differences: the complex step, a reference's derivative, and JAX's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxlr.audit.checks import first_line
from jaxlr.audit.door import checked_reference
from jaxlr.audit.evidence import EPS, Audit
from jaxlr.audit.flat import describe
from jaxlr.audit.judge import SAFETY, Comparison, judge_leaves
from jaxlr.audit.lifted import lift
from jaxlr.audit.lines import Inputs, complex_step, mapped
from jaxlr.audit.report import Evidence, Verdict


def smooth_rows(a: Audit) -> np.ndarray:
    """Return `(R,)`: along which directions fun has a derivative."""
    return ~((a.slopes.jump != 0) | a.slopes.discontinuous).any(axis=0)


def analytic_evidence(
    a: Audit,
    fun: Callable,
    grad: Callable | None,
    args: tuple,
    argnums: int | Sequence[int],
    has_aux: bool,
    reference: Callable | None,
) -> tuple[list[Evidence], dict[str, str]]:
    """Return rows for complex step, reference, and the autodiff of fun when grad was handed in.

    Also the leaves that another implementation's derivative contradicts beyond its own rounding,
    and its name: where differences see nothing, such a leaf is not known to be right.
    """
    smooth = smooth_rows(a)
    if not smooth.any():
        return [], {}
    rows = a.rows.select(smooth)
    judged, size, rounding = (m[:, smooth] for m in (a.judged, a.size, a.rounding))
    found: list[Evidence] = []
    doubts: dict[str, str] = {}

    def judge(check: str, truth: np.ndarray, noise: np.ndarray) -> None:
        largest = np.max(abs(truth), initial=0.0, where=np.isfinite(truth))
        least = 1e3 * EPS * float(largest)
        nowhere = np.zeros_like(truth)

        def table(error: np.ndarray) -> list[Evidence]:
            # Derivatives that agree better than their noise promised have less noise.
            with np.errstate(invalid="ignore"):
                error = np.fmin(error, abs(judged - truth) / SAFETY)
            zero = least + SAFETY * rounding
            c = Comparison(judged, truth, error, size, nowhere, nowhere != 0, zero)
            most = float(np.linalg.norm(zero))
            return judge_leaves(check, a.problem.leaves, rows, a.scales, c, a.floor, most)

        found.extend(table(noise + rounding))
        if check != "complex step":
            sharp = table(rounding)
            doubts.update((row.leaf, check) for row in sharp if row.verdict == Verdict.DISAGREES)

    try:
        truth = complex_step(a.f.lifted, a.problem.leaves, a.inputs(a.f), rows.D, a.U)
        noise = 1e3 * EPS * (a.natural + np.max(abs(truth), initial=0.0)) + 0 * truth
        seen, error = a.slopes.value[:, smooth], a.slopes.error[:, smooth]
        with np.errstate(invalid="ignore"):
            against = abs(truth - seen) > 8 * error + 1e-6 * (abs(truth) + a.floor) + noise
        if not np.isfinite(truth).all() or (against & np.isfinite(error)).any():
            a.notes.append("No complex step: fun is not analytic in its arguments.")
        else:
            judge("complex step", truth, noise)
    except Exception as error:
        if a.f.lifted.traceable:
            a.notes.append(f"No complex step: {first_line(error)}")
    own = fun if grad and a.f.lifted.traceable else None
    for name, other in (("reference", reference), ("autodiff of fun", own)):
        if other is None:
            continue
        try:
            truth = _derived_slopes(other, args, argnums, has_aux, a, rows.D)
        except Exception as error:
            if name == "reference":
                raise
            a.notes.append(f"No autodiff of fun: {first_line(error)}")
            continue
        # What moves fun by less than its own rounding may be lost in one and not in the other.
        judge(name, truth, rounding + EPS / 2 * a.visible)
    return found, doubts


def _derived_slopes(
    fun: Callable, args: tuple, argnums: Any, has_aux: bool, a: Audit, D: np.ndarray
) -> np.ndarray:
    """Return what JAX derives for another function, along directions: `(M, R)`."""
    problem = describe(fun, None, args, argnums, has_aux)
    checked_reference(problem.value(problem.xs, problem.side), a.us[0], a.problem.name)
    lifted = lift(problem.pull, problem.xs, problem.side, a.us[0])
    other = mapped(lifted, problem.leaves, dual=True)
    inputs = Inputs(problem.x, problem.side, lifted.consts)
    return np.array([other.at(inputs, u) for u in a.us]) @ D.T
