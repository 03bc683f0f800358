"""When do two sets of derivatives agree? The thresholds of the kit, all of them here.

Everything is compared along directions scaled like the arguments, so that a table of weights
near 1e-4 and one near 1e4 are judged alike. `deviation`, `error` and `scale` are per direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlr.audit.flat import Leaf, position
from jaxlr.audit.report import Evidence, Verdict

RESOLUTION = 1e-3
"""The relative error, in the norm of a leaf, that an AGREES promises to have been able to see."""

SLIP = RESOLUTION / 4
"""A relative deviation above which a derivative is wrong, if the evidence is good enough."""

NEGLIGIBLE = 1e-6
"""A deviation below this part of a leaf's largest entry is never wrong: constants that a
function holds in float32 are not those of the mathematics."""

SAFETY = 8.0
"""How many times its estimated error a piece of evidence may be off."""


class Directions(NamedTuple):
    """Directions along which derivatives are compared.

    Args:
        D: `(R, n)`.
        leaf: `(R,)`: the leaf each one lies in, −1 for the whole vector.
        entry: `(R,)`: the entry of x it moves, −1 when it moves many.

    """

    D: np.ndarray
    leaf: np.ndarray
    entry: np.ndarray

    def select(self, keep: np.ndarray) -> Directions:
        """Return some of the directions."""
        return Directions(self.D[keep], self.leaf[keep], self.entry[keep])


class Comparison(NamedTuple):
    """Judged derivatives against evidence along directions, each `(M, R)` for M cotangents.

    Args:
        judged: the derivatives to be judged.
        truth: the evidence.
        error: the estimated error of the evidence and the rounding of what is judged.
        size: the derivative's natural size along each direction, without cancellation.
        half_jump: half of the distance between the one-sided derivatives; zero but at kinks.
        discontinuous: where fun itself jumps; the error is infinite there.
        zero: the judged derivative that counts as zero: it moves fun by less than fun's own
            rounding, or is its own. Evidence that does not resolve it may call no other right.

    """

    judged: np.ndarray
    truth: np.ndarray
    error: np.ndarray
    size: np.ndarray
    half_jump: np.ndarray
    discontinuous: np.ndarray
    zero: np.ndarray

    @property
    def deviation(self) -> np.ndarray:
        """Absolute deviations; infinite where the judged derivative is not finite."""
        away = abs(self.judged - self.truth)
        away = np.where(np.isfinite(self.judged), away, np.inf)
        # Between the one-sided derivatives every value is a subgradient.
        inside = np.maximum(away - abs(self.half_jump), 0.0)
        return np.where(self.half_jump != 0, inside, away)

    def wrong(self, largest: np.ndarray) -> np.ndarray:
        """Which of them the evidence contradicts.

        Args:
            largest: `(R,)`: the largest derivative within the leaf of each direction.

        """
        with np.errstate(invalid="ignore"):
            scale = np.maximum(self.size, abs(self.truth) + abs(self.half_jump))
            limit = np.maximum(SAFETY * self.error, SLIP * scale)
            return self.deviation > np.maximum(limit, NEGLIGIBLE * largest)


def judge_leaf(
    check: str,
    leaf: Leaf,
    rows: Directions,
    scales: np.ndarray,
    c: Comparison,
    floor: float,
    least: float,
) -> Evidence:
    """Return the row of the table for one leaf.

    Args:
        check: the name of the evidence.
        leaf: the leaf.
        rows: the directions within the leaf, its entries first.
        scales: `(n,)`: the length of an entry's direction.
        c: the derivatives along them.
        floor: the derivative, along a direction, that deviations are at least relative to.
        least: the error of the evidence, in the norm of the leaf, beside what counts as zero.

    """
    finite = np.isfinite(c.truth) & np.isfinite(c.error)
    # A NaN is wrong where fun is known to have a derivative, and an estimate is not enough.
    finite &= np.isfinite(c.judged) | (SAFETY * c.error <= 0.1 * (abs(c.truth) + floor))
    largest = np.max(np.where(finite, abs(c.truth), 0.0), initial=0.0)
    wrong = c.wrong(np.full(len(rows.leaf), largest)) & finite
    deviation = np.where(finite, c.deviation, 0.0)
    limit = np.maximum(SAFETY * c.error, SLIP * c.size) + NEGLIGIBLE * largest + floor
    excess = deviation / np.maximum(limit, 1e-300)
    excess = np.where(wrong, excess + 1e9, np.where(finite, excess, -1.0))
    m, r = np.unravel_index(np.argmax(excess), excess.shape)
    entry = rows.entry[r]
    unit = scales[entry] if entry >= 0 else 1.0
    scale = max(abs(c.truth[m, r]) if np.isfinite(c.truth[m, r]) else 0.0, floor, 1e-300)
    known = np.where(finite, np.minimum(SAFETY * c.error, 1e300), np.inf)
    seen = np.linalg.norm(known, axis=1)
    size = np.linalg.norm(np.where(finite, c.truth, 0.0), axis=1)
    vague = seen > RESOLUTION * size
    is_zero = (~finite | (abs(c.judged) <= c.zero)).all(axis=1) & (seen <= least)
    note, verdict = "", Verdict.AGREES
    if wrong.any():
        verdict = Verdict.DISAGREES
        if (c.half_jump != 0)[wrong].all():
            note = "at a kink, and outside of the interval of the one-sided derivatives"
    elif c.discontinuous.any():
        verdict = Verdict.CANNOT_TELL
        note = _somewhere(
            "fun jumps at {}: it has no derivative there; a point off the jump would settle it",
            leaf,
            rows,
            c.discontinuous,
        )
    elif (c.half_jump != 0).any():
        verdict = Verdict.CANNOT_TELL
        note = _somewhere(
            "fun has a kink at {}: its one-sided derivatives differ and the judged gradient "
            "lies between them; a point off the kink would settle it",
            leaf,
            rows,
            c.half_jump != 0,
        )
    elif not finite.all():
        verdict = Verdict.CANNOT_TELL
        note = "fun is not finite or not smooth around the point; a point inside its domain would"
        note += " settle it"
    elif (vague & ~is_zero).any():
        verdict = Verdict.CANNOT_TELL
        part = float(np.max(seen / np.maximum(size, 1e-300)))
        note = "the evidence is too noisy: it sees " + (
            f"errors of {part:.0e} of the gradient only" if part < 1 else "no gradient so small"
        )
        note += "; fun in float64, or a reference=, would settle it"
    where = position(leaf, int(entry) - leaf.start) if entry >= 0 else "random"
    return Evidence(
        leaf.path,
        leaf.shape,
        check,
        float(deviation[m, r] / unit),
        float(deviation[m, r] / scale),
        where,
        float(c.error[m, r] / unit),
        verdict,
        note,
        vague=bool(vague.any()),
    )


def _somewhere(text: str, leaf: Leaf, rows: Directions, found: np.ndarray) -> str:
    """Return a text about the place where something was found, or the first of many places."""
    where = found.any(axis=0)
    entries = rows.entry[where]
    entries = entries[entries >= 0]
    if not len(entries):
        return text.format("the point")
    at = position(leaf, int(entries[0]) - leaf.start)
    if len(entries) > 1:
        at = f"{len(entries)} entries, the first of them {at}"
    return text.format(at)


def judge_leaves(
    check: str,
    leaves: Sequence[Leaf],
    rows: Directions,
    scales: np.ndarray,
    c: Comparison,
    floor: float,
    least: float,
) -> list[Evidence]:
    """Return a row for each leaf; see `judge_leaf`."""
    found = []
    for i, leaf in enumerate(leaves):
        keep = rows.leaf == i
        if keep.any():
            part = Comparison(*(a[:, keep] for a in c))
            found.append(judge_leaf(check, leaf, rows.select(keep), scales, part, floor, least))
    return found


def judge_scalars(check: str, deviation: Any, scale: Any, error: Any, note: str = "") -> Evidence:
    """Return the row of a check of the whole gradient: numbers that ought to be equal.

    Args:
        check: its name.
        deviation: what they differ by.
        scale: their natural size.
        error: the estimated error of the deviation.
        note: shown when they differ.

    """
    flat = [np.atleast_1d(a).astype(float).ravel() for a in (deviation, scale, error)]
    deviation, scale, error = flat
    finite = np.isfinite(error)
    with np.errstate(all="ignore"):
        limit = np.maximum(SAFETY * error, SLIP * scale)
        deviation = np.where(np.isnan(deviation), np.inf, deviation)
        wrong = finite & (deviation > limit)
        excess = np.where(finite, deviation / np.maximum(limit, 1e-300), -1.0)
    i = int(np.argmax(excess))
    verdict = Verdict.DISAGREES if wrong.any() else Verdict.AGREES
    noisy = ~finite | (SAFETY * error > RESOLUTION * np.maximum(scale, 1e-300))
    if verdict == Verdict.AGREES and (noisy & (deviation > SLIP * scale)).any():
        verdict = Verdict.CANNOT_TELL
    relative = float(deviation[i] / scale[i]) if scale[i] > 0 else float("nan")
    relative = relative if deviation[i] else 0.0
    note = note if verdict == Verdict.DISAGREES else ""
    return Evidence(
        "", (), check, float(deviation[i]), relative, "", float(error[i]), verdict, note
    )
