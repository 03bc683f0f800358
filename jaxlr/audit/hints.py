"""From rows to words: what to look at first, and what would settle an open question."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxlr.audit.evidence import Audit
from jaxlr.audit.flat import native, places, position
from jaxlr.audit.gather import comparison, most_deviant, slopes_along
from jaxlr.audit.judge import NEGLIGIBLE, SAFETY
from jaxlr.audit.patterns import Case, name_pattern, name_shape
from jaxlr.audit.report import Evidence, Remainder, Report, Verdict
from jaxlr.audit.taylor import remainder_test
from jaxlr.audit.wide import has_primitive

MOST_HINTS = 4

_CHECK_HINTS = {
    "forward = reverse": "forward and reverse mode differ: one of the two rules is wrong",
    "value under grad": "the value that comes with the gradient, as from jax.value_and_grad, is "
    "not fun's: look at what the rule's forward pass returns",
    "jit = eager": "jit changes it: look for a value that is read, or a state changed, in Python",
    "vmap = loop": "it is right at one point and wrong under vmap: look for a batching rule, or "
    "for a rule that mixes the examples of a batch",
    "second order": "the gradient's own derivative is wrong: look for a stop_gradient, or for a "
    "residual that is a constant to JAX, in the rule",
    "symmetry": "the second derivative is not symmetric",
}


def explain(a: Audit, verdict: Verdict, rows: tuple[Evidence, ...]) -> Report:
    """Return the report, with hints."""
    hints: list[str] = []
    remainders = a.remainders
    if verdict == Verdict.DISAGREES:
        hints, direction = _what_is_wrong(a, rows)
        if direction is not None:
            along, contradicted = _taylor_along(a, direction)
            remainders = (*along, *remainders)
            if contradicted and all(row.check == "differences" for row in rows if row.verdict == 1):
                verdict = Verdict.CANNOT_TELL
                hints = ["the differences and the Taylor remainder contradict each other"]
    elif verdict == Verdict.CANNOT_TELL:
        open_ = [
            row
            for row in rows
            if row.verdict == Verdict.CANNOT_TELL and row.check == "differences" and row.note
        ]
        hints = list(dict.fromkeys(f"{row.leaf}: {row.note}" for row in open_))
        rows = tuple(row._replace(note="") if row in open_ else row for row in rows)
    else:
        a.notes.extend(_small_slips(rows))
    if (a.slopes.one_sided).any():
        a.notes.append("fun is finite on one side only of some entries: one-sided differences.")
    if len(a.problem.x) > len(a.rows.D):
        a.notes.append(
            f"{len(a.rows.D)} of the {len(a.problem.x)} directions were compared: the largest "
            "entries, and random ones."
        )
    return Report(
        a.problem.name, verdict, rows, tuple(hints[:MOST_HINTS]), tuple(a.notes), remainders
    )


def _what_is_wrong(a: Audit, rows: tuple[Evidence, ...]) -> tuple[list[str], np.ndarray | None]:
    """Return hints, and the direction of the deviation of the worst leaf."""
    failed = [row for row in rows if row.verdict == Verdict.DISAGREES]
    paths = {leaf.path: i for i, leaf in enumerate(a.problem.leaves)}
    said: dict[str, list[str]] = {}
    direction = None
    for path in dict.fromkeys(row.leaf for row in failed if row.leaf and row.check != "rounding"):
        i = paths[path]
        away = _deviation(a, i)
        if i in a.shapes:
            said.setdefault(_of_shape(a, i), []).append(path)
            continue
        direction = away if direction is None else direction
        case = _case(a, i)
        texts = [name_pattern(case), _located(a, i), *_blind_to(a, i, away)]
        if i in a.dtypes:
            texts.insert(0, f"it is {a.dtypes[i]} where {a.problem.leaves[i].dtype} is due")
        if not any(texts):
            texts.append(_largest(case))
        for text in filter(None, texts):
            said.setdefault(text, []).append(path)
    hints = [f"{', '.join(leaves)}: {text}" for text, leaves in said.items()]
    first_order = any(row.check == "differences" for row in failed)
    trace = a.f.lifted.trace
    if first_order and trace is not None and has_primitive(trace.jaxpr, "stop_gradient"):
        hints.append("fun contains a stop_gradient: what it hides from JAX, differences see")
    hints += [row.note for row in failed if row.check == "rounding"]
    second = ("second order", "symmetry") if first_order else ()  # follows from the first
    hints += [_CHECK_HINTS.get(row.check, "") for row in failed if row.check not in second]
    return list(dict.fromkeys(filter(None, hints))), direction


def _of_shape(a: Audit, i: int) -> str:
    leaf, keep = a.problem.leaves[i], (a.rows.leaf == i) & (a.rows.entry >= 0)
    truth = np.full(leaf.stop - leaf.start, np.nan)
    truth[a.rows.entry[keep] - leaf.start] = a.slopes.value[0, keep]
    return name_shape(leaf, a.shapes[i], truth / a.scales[leaf.place])


def _small_slips(rows: tuple[Evidence, ...]) -> list[str]:
    """Say where the gradient is off by more than the evidence, and less than an error."""
    return [
        f"{row.leaf} is off by {row.relative:.0e} at {row.where}, more than rounding explains: too "
        "little to be called wrong."
        for row in rows
        if row.check == "differences"
        and row.deviation > SAFETY * row.noise
        and row.relative > 10 * NEGLIGIBLE
    ]


def _largest(case: Case) -> str:
    """Say what the entry is that deviates most, and what it should be."""
    if not len(case.index):
        return ""
    k = int(np.argmax(abs(case.judged - case.truth)))
    at = position(case.leaf, int(case.index[k]))
    return f"it is {case.judged[k]:.4g} at {at}, where the differences give {case.truth[k]:.4g}"


def _worst_cotangent(a: Audit) -> int:
    c = comparison(a)
    with np.errstate(invalid="ignore"):
        away = np.where(np.isfinite(c.error), c.deviation, 0.0)
    return int(np.argmax(away.max(axis=1)))


def _case(a: Audit, i: int) -> Case:
    """Return the entries of a leaf that were compared, for the patterns."""
    leaf, m = a.problem.leaves[i], _worst_cotangent(a)
    c = comparison(a)
    keep = (a.rows.leaf == i) & (a.rows.entry >= 0) & np.isfinite(c.error[m])
    entry = a.rows.entry[keep]
    # A scalar's gradient is shown for the cotangent 1.
    unit = a.scales[entry] * (a.U[m, 0] if a.U.shape[1] == 1 else 1.0)
    dimensions = {
        length: f"axis {axis} of {path}"
        for path, shape in reversed(a.problem.arrays)
        for axis, length in reversed(list(enumerate(shape)))
    }
    singles = [
        (np.asarray(v).item(), path)
        for v, path in zip(a.problem.side, a.problem.side_paths, strict=True)
        if np.size(v) == 1 and not np.iscomplexobj(v)
    ]
    return Case(
        leaf,
        entry - leaf.start,
        c.judged[m, keep] / unit,
        c.truth[m, keep] / unit,
        c.error[m, keep] / abs(unit),
        a.problem.x[entry],
        tuple(dimensions.items()),
        tuple(singles),
    )


def _deviation(a: Audit, i: int) -> np.ndarray:
    """Return the direction in which a leaf's gradient is off, scaled like the directions."""
    c, m = comparison(a), _worst_cotangent(a)
    keep = (a.rows.leaf == i) & (a.rows.entry >= 0) & np.isfinite(c.error[m])
    d = np.zeros_like(a.problem.x)
    away = np.nan_to_num((c.judged - c.truth)[m, keep], nan=1.0, posinf=1.0, neginf=-1.0)
    if not away.any():
        away = np.ones_like(away)
    d[a.rows.entry[keep]] = away / abs(away).max(initial=1e-300)
    return d * a.scales


def _located(a: Audit, i: int) -> str:
    """Say where a leaf is wrong whose entries were not all compared."""
    leaf, m = a.problem.leaves[i], _worst_cotangent(a)
    if len(a.problem.x) <= len(a.rows.D) or not np.isfinite(a.g[m][leaf.place]).all():
        return ""
    if i not in a.located:
        a.located[i] = most_deviant(a, i, m)
    return f"the largest deviation found is at {position(leaf, a.located[i] - leaf.start)}"


def _slope(a: Audit, d: np.ndarray, m: int, **changes) -> tuple[float, float]:
    """Return the derivative of `⟨u, fun⟩` along d, with other inputs than the point's."""
    s = slopes_along(a, d[None], **changes)
    return float(s.value[m, 0]), float(s.error[m, 0])


def _shuffled(v: np.ndarray) -> np.ndarray:
    """Other values of the same kind: moved by one place, or moved in size when that is nothing."""
    v = np.asarray(v, np.float64)
    moved = np.roll(v, 1)
    return moved if not np.array_equal(moved, v) else v * 1.5 + 0.1


def _blind_to(a: Audit, i: int, d: np.ndarray) -> list[str]:
    """Name the arguments that the right gradient depends on and the judged one does not."""
    if a.pulled is None or not a.f.lifted.traceable or not a.pulled.lifted.x64:
        return []
    p, m = a.problem, _worst_cotangent(a)
    candidates: list[tuple[str, dict[str, Any]]] = [
        (path, {"side": [_shuffled(v) if j == k else v for j, v in enumerate(p.side)]})
        for k, path in enumerate(p.side_paths)
        if not np.iscomplexobj(p.side[k])
    ]
    for j, leaf in enumerate(p.leaves):
        if j != i:
            x = p.x.copy()
            x[leaf.place] = _shuffled(x[leaf.place])
            candidates.append((leaf.path, {"x": x}))
    here, error = _slope(a, d, m)
    place, inputs, g = p.leaves[i].place, a.inputs(a.pulled), a.g[m]
    blind = []
    for path, changes in candidates[:16]:
        there = a.pulled.at(inputs._replace(**changes), a.us[m])[place]
        if not np.allclose(there, g[place], rtol=1e-9, atol=0, equal_nan=True):
            continue
        moved, also = _slope(a, d, m, **changes)
        if abs(moved - here) > 8 * (error + also) + 0.01 * max(abs(moved), abs(here)):
            blind.append(path)
    # The same of the cotangents of the outputs: one at a time is left out.
    outs = places([""] * len(a.us[m]), a.us[m])
    for k, out in enumerate(outs[:16] if a.U.shape != (1, 1) else ()):
        u, part = a.U[m].copy(), np.zeros_like(a.U)
        part[m, out.place], u[out.place] = u[out.place], 0.0
        there = a.pulled.at(inputs, native(u, outs, dual=True))[place]
        if not np.allclose(there, g[place], rtol=1e-9, atol=0, equal_nan=True):
            continue
        moved, also = _slope(dataclasses.replace(a, U=part), d, m)
        if abs(moved) > 8 * also + 0.01 * abs(here):
            blind.append("u" if len(outs) == 1 else f"u of output {k}")
    if not blind:
        return []
    return [f"it does not feel {' and '.join(blind)}, and should: a factor or a term is missing"]


def _taylor_along(a: Audit, d: np.ndarray) -> tuple[tuple[Remainder, ...], bool]:
    """Return the Taylor test in the direction of the deviation, where it shows best.

    Also whether it contradicts the deviation: the remainder falls as h², far below it.
    """
    if a.pulled is None or not d.any():
        return (), False
    m = _worst_cotangent(a)
    steps = 4.0 ** -np.arange(1, 13) if a.f.lifted.x64 else 2.0 ** -np.arange(2, 14)
    values = a.f.along(a.inputs(a.f), d[None], np.array([[0.0, *steps]]), a.U)[0, :, m]
    slope = float(a.g[m] @ d) if np.isfinite(a.g[m][d != 0]).all() else float("nan")
    test = remainder_test(values, steps, slope, float(a.sigma[m]), "the deviation")
    claimed = abs(slope - _slope(a, d, m)[0])
    with np.errstate(invalid="ignore"):
        least = np.nanmin(np.array(test.remainders) / steps, initial=np.inf)
    return (test,), bool(test.order > 1.7 and least < 0.1 * claimed)
