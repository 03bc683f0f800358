"""What kind of mistake a deviation looks like: the ways in which derivations by hand go wrong.

Each pattern is a hypothesis that predicts the wrong gradient from the right one. The first one
that predicts it is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxlr.audit.flat import Leaf, position

CLOSE = 1e-3


class Case(NamedTuple):
    """The derivatives of one leaf, judged and right, at some of its entries.

    Args:
        leaf: the leaf.
        index: `(k,)`: which entries of the leaf; all of them in order when `k` is its size.
        judged, truth: `(k,)`.
        error: `(k,)`: of the truth.
        x: `(k,)`: the leaf's own values.
        dimensions: lengths of axes of the arguments and what they are called.
        scalars: values of single numbers among the arguments, and their paths.

    """

    leaf: Leaf
    index: np.ndarray
    judged: np.ndarray
    truth: np.ndarray
    error: np.ndarray
    x: np.ndarray
    dimensions: tuple[tuple[int, str], ...]
    scalars: tuple[tuple[float, str], ...]

    @property
    def whole(self) -> bool:
        """Whether every entry of a real leaf is there."""
        return len(self.index) == int(np.prod(self.leaf.shape))


def name_pattern(case: Case) -> str:
    """Return the first pattern that explains the case, in words; "" when none does.

    >>> leaf = Leaf("w", (3,), np.float32, 0, 3)
    >>> t, x = np.array([1.0, -2.0, 0.5]), np.ones(3)
    >>> name_pattern(Case(leaf, np.arange(3), -2 * t, t, 0 * t, x, (), ()))
    'it is −2 times the right one: the sign is flipped, and a factor of 2 too many'

    """
    with np.errstate(all="ignore"):
        if not _wrong_entries(case).any():  # it is wrong elsewhere
            return ""
        for pattern in _PATTERNS:
            text = pattern(case)
            if text:
                return text
    return ""


def _close(a: np.ndarray, b: np.ndarray, case: Case) -> bool:
    scale = max(np.max(abs(a), initial=0), np.max(abs(b), initial=0))
    limit = 8 * case.error + CLOSE / 2 * abs(b) + 1e-6 * scale
    return a.shape == b.shape and bool(scale > 0) and bool((abs(a - b) <= limit).all())


def _not_finite(case: Case) -> str:
    bad = ~np.isfinite(case.judged)
    if not bad.any():
        return ""
    where = "everywhere" if bad.all() else f"at {position(case.leaf, int(case.index[bad][0]))}"
    return (
        f"it is {'NaN' if np.isnan(case.judged[bad]).any() else 'infinite'} {where} where fun has "
        "a finite derivative: look for 0·∞ in a branch that `where` does not take"
    )


def _zero(case: Case) -> str:
    return "it is zero where it should not be" if not case.judged.any() else ""


def _is_named(c: float, case: Case) -> bool:
    sizes = [1.0, 2.0, *(float(m) for m, _ in case.dimensions if m > 2)]
    return any(abs(c / value - 1) < CLOSE for m in sizes for value in (m, 1 / m))


def factor_name(c: float, dimensions: tuple[tuple[int, str], ...]) -> str:
    """Return what a constant factor is likely to be: 2, the length of an axis, or a number.

    >>> factor_name(0.05, ((20, "axis 1 of X"),))
    'a factor of 20, the length of axis 1 of X, is missing'
    """
    axes = [(float(m), f"{m}, the length of {name},") for m, name in dimensions if m > 2]
    names = [(2.0, "2"), *axes]
    for size, name in names:
        for value, verb in ((size, "too many"), (1 / size, "is missing")):
            if abs(c / value - 1) < CLOSE:
                return f"a factor of {name} {verb}"
    return f"a factor of {c:.6g} too many" if c > 1 else f"a factor of {1 / c:.6g} is missing"


def _proportional(case: Case) -> str:
    truth = case.truth
    c = float(case.judged @ truth / (truth @ truth))
    if not np.isfinite(c) or len(truth) < 1 or not _close(case.judged, c * truth, case):
        return ""
    if len(truth) == 1 and not _is_named(abs(c), case):  # two numbers always have a ratio
        return ""
    return _factor_text(c, case)


def _factor_text(c: float, case: Case) -> str:
    number = f"{c:.6g}".replace("-", "−")
    if abs(c + 1) < CLOSE:
        return "the sign is flipped: it is −1 times the right one"
    if c < 0:
        rest = factor_name(-c, case.dimensions)
        return f"it is {number} times the right one: the sign is flipped, and {rest}"
    return f"it is {number} times the right one: {factor_name(c, case.dimensions)}"


def _permutations(truth: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if truth.ndim == 2 and truth.shape[0] == truth.shape[1]:
        yield "it is transposed", truth.T
    if truth.ndim >= 2:
        yield (
            "its axes are in the wrong order (reshaped instead of transposed)",
            (truth.T.reshape(truth.shape)),
        )
    for axis in range(truth.ndim):
        if truth.shape[axis] > 1:
            yield f"it is reversed along axis {axis}", np.flip(truth, axis)
            for shift in (1, -1):
                yield (
                    f"it is shifted by one along axis {axis}: an index is off by one",
                    (np.roll(truth, shift, axis)),
                )


def _permuted(case: Case) -> str:
    if not case.whole:
        return ""
    judged, shape = case.judged, case.leaf.shape
    for text, other in _permutations(case.truth.reshape(shape)):
        other = other.ravel()
        if _close(judged, other, case):
            return text
        if _close(judged, -other, case):
            return f"{text}, and the sign is flipped"
    return ""


def _averaged(case: Case) -> str:
    """A sum over an axis that came out as the mean, or the sum spread over the axis."""
    if not case.whole:
        return ""
    truth = case.truth.reshape(case.leaf.shape)
    for axis in range(truth.ndim):
        for verb, reduce in (("summed", np.sum), ("averaged", np.mean)):
            other = np.broadcast_to(reduce(truth, axis=axis, keepdims=True), truth.shape).ravel()
            if truth.shape[axis] > 1 and _close(case.judged, other, case):
                return f"it is {verb} over axis {axis}: a sum over the wrong axis"
    return ""


def _wrong_entries(case: Case) -> np.ndarray:
    limit = 8 * case.error + CLOSE / 4 * abs(case.truth) + 1e-6 * np.max(abs(case.truth))
    return ~(abs(case.judged - case.truth) <= limit)


def _where(case: Case, wrong: np.ndarray) -> str:
    """In words, where the wrong entries are, when that is a simple place; else ""."""
    leaf = case.leaf
    if len(wrong) > 1 and wrong.sum() == 1:
        return f"only the entry {position(leaf, int(case.index[wrong][0]))} is wrong"
    if case.whole and len(leaf.shape) > 1:
        grid = wrong.reshape(leaf.shape)
        for axis, length in enumerate(leaf.shape):
            lines = np.moveaxis(grid, axis, 0).reshape(length, -1).any(axis=1)
            if length > 1 and lines.sum() == 1:
                place = ", ".join(
                    str(int(np.argmax(lines))) if a == axis else ":" for a in range(len(leaf.shape))
                )
                return f"only [{place}] is wrong (one row, column or class)"
    for name, region in (("negative", case.x < 0), ("positive", case.x > 0)):
        if region.any() and not region.all() and (wrong == region).all() and wrong.sum() > 1:
            return f"it is wrong where {leaf.path} is {name}, and right elsewhere: a wrong branch"
    size = abs(case.x)
    if 1 < wrong.sum() < len(wrong) - 1 and size[wrong].min() > size[~wrong].max():
        return f"it is wrong only where |{leaf.path}| > {size[~wrong].max():.3g}"
    return ""


def _localised(case: Case) -> str:
    wrong = _wrong_entries(case)
    where = _where(case, wrong) if not wrong.all() else ""
    if not where:
        return ""
    part = case._replace(
        leaf=case.leaf._replace(shape=(-1, *case.leaf.shape)),  # no longer whole
        index=case.index[wrong],
        judged=case.judged[wrong],
        truth=case.truth[wrong],
        error=case.error[wrong],
        x=case.x[wrong],
    )
    how = _zero(part) or _proportional(part) or ""
    if (
        wrong.sum() == 1
        and "factor of" in how
        and not any(k in how for k in ("of 2 ", "the length", "sign"))
    ):
        how = ""
    return where + (f"; there {how}" if how else "")


def _added(case: Case) -> str:
    away, x = case.judged - case.truth, case.x
    if len(x) < 2:
        return ""
    for basis, text in ((x, f"·{case.leaf.path}"), (np.ones_like(x), "")):
        c = float(away @ basis / (basis @ basis)) if basis.any() else 0.0
        spread = CLOSE * abs(c * basis) + 8 * case.error + 1e-6 * np.max(abs(case.truth))
        if c and (abs(away - c * basis) <= spread).all() and np.ptp(x) > 0:
            verb = "is missing" if c < 0 else "too many"
            for size, path in case.scalars:
                for k, prefix in ((1.0, ""), (2.0, "2·"), (0.5, "½·")):
                    if size and abs(abs(c) / abs(k * size) - 1) < CLOSE:
                        sign = verb if size > 0 else "has the wrong sign or is missing"
                        return f"the term {prefix}{path}{text} {sign}"
            return f"it is off by {c:.4g}{text}: an added term, such as a penalty's, {verb}"
    return ""


def _but_for_a_penalty(case: Case) -> str:
    """A factor on the data's part of a gradient, and the penalty's part right."""
    basis = np.stack([case.truth, case.x], axis=1)
    if len(case.x) < 3 or np.linalg.matrix_rank(basis, tol=1e-6 * abs(basis).max()) < 2:
        return ""
    c = np.linalg.lstsq(basis, case.judged, rcond=None)[0]
    if not _is_named(abs(c[0]), case) or not _close(case.judged, basis @ c, case):
        return ""
    return f"but for a term in {case.leaf.path}, {_factor_text(float(c[0]), case)}"


def _slip(case: Case) -> str:
    ratios = case.judged / case.truth
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) > 1 and abs(ratios - 1).max() < 0.1:
        return f"it is off by at most {abs(ratios - 1).max():.1e} of each entry: a small slip"
    # A random gradient of few entries has the wrong signs, now and then, by chance.
    if len(ratios) > 5 and (ratios < 0).all():
        return "every entry has the wrong sign"
    return ""


_PATTERNS = (
    _not_finite,
    _zero,
    _proportional,
    _permuted,
    _averaged,
    _localised,
    _added,
    _but_for_a_penalty,
    _slip,
)
_SHAPES = "its shape is {} where {} is due"


def name_shape(leaf: Leaf, given: np.ndarray, truth: np.ndarray) -> str:
    """Return what is wrong with a gradient of the wrong shape.

    >>> leaf = Leaf("b", (3,), np.float32, 0, 3)
    >>> name_shape(leaf, np.ones((5, 3)), np.full(3, 5.0))
    'its shape is (5, 3) where (3,) is due: the sum over the broadcast axis 0 is missing'

    """
    if given.shape == leaf.shape:
        return (
            f"it is {given.dtype} where {np.dtype(leaf.dtype)} is due, which has no imaginary part"
        )
    text = _SHAPES.format(given.shape, leaf.shape)
    for axes in ((0,), (-1,), (0, 1), tuple(range(given.ndim))):
        if len(axes) <= given.ndim and len({a % given.ndim for a in axes}) == len(axes):
            for keepdims in (False, True):
                total = given.sum(axis=axes, keepdims=keepdims)
                if total.shape != leaf.shape or total.size != len(truth):
                    continue
                known = np.isfinite(truth)  # of a long leaf some entries only
                if np.allclose(total.ravel()[known], truth[known], rtol=1e-2):
                    shown = " and ".join(str(a % given.ndim) for a in axes)
                    return f"{text}: the sum over the broadcast axis {shown} is missing"
    if given.shape == leaf.shape[::-1]:
        return f"{text}: it is transposed"
    return text
