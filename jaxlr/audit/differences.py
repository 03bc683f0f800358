"""Central differences by Richardson extrapolation, each with an estimate of its own error.

    D(h) = (f(x + hv) − f(x − hv)) / 2h = f'·v + c₂h² + c₄h⁴ + …

On a ladder of steps h, h/ρ, h/ρ² … the terms in h², h⁴ … are eliminated one after the other.
Every number of that table is a candidate; its error is estimated by its neighbours, by the
rounding noise σ/h, and by what finer steps say against it. The candidate with the smallest
estimate is the answer (Ridders 1982; the noise σ of f as in Moré & Wild 2011).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

STEPS = 6
"""Steps of a ladder."""


class Slopes(NamedTuple):
    """Derivatives along directions, from values of f along them.

    Args:
        value: the derivative, or the middle of the two one-sided ones.
        error: its estimated error; infinite where f is not finite around the point.
        jump: the right-hand minus the left-hand derivative; zero where there is no kink.
        one_sided: whether f is finite on one side only.
        discontinuous: whether f itself jumps at the point; the error is infinite there.

    """

    value: np.ndarray
    error: np.ndarray
    jump: np.ndarray
    one_sided: np.ndarray
    discontinuous: np.ndarray


def ladder(start: float, ratio: float) -> np.ndarray:
    """Return STEPS steps, the coarsest first.

    >>> ladder(1.0, 8.0)[:3].tolist()
    [1.0, 0.125, 0.015625]
    """
    return start * ratio ** -np.arange(STEPS, dtype=float)


def abscissae(steps: np.ndarray) -> np.ndarray:
    """Return the points at which f is needed: 0, then the steps, then their negatives."""
    return np.concatenate([[0.0], steps, -steps])


def noise_level(values: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the rounding noise in f, from equally spaced values.

    High differences of a smooth function vanish and those of noise do not:
    `σ² ≈ (k!)²/(2k)! · mean (Δᵏf)²` (Hamming; Moré & Wild 2011).

    Args:
        values: `(..., N)`, closely spaced along the last axis, N > 8.

    Returns:
        `(...,)`; NaN where f is not finite.

    >>> wobble = 1e-9 * np.random.default_rng(0).normal(size=500)
    >>> f"{noise_level(3.0 + np.linspace(0, 1e-3, 500) + wobble):.0e}"
    '1e-09'

    """
    levels = []
    for k in (5, 6, 7):
        factor = math.factorial(k) ** 2 / math.factorial(2 * k)
        levels.append(np.sqrt(factor * (np.diff(values, k) ** 2).mean(axis=-1)))
    return np.max(levels, axis=0)


def noise_of_lines(values: np.ndarray) -> np.ndarray:
    """Return the noise level at the closest spacing that f can resolve.

    Where f is flat its rounded values stand still on a fine grid, and show no noise.

    Args:
        values: `(..., spacings, N)`, the closest spacing first.

    Returns:
        `(...,)`; zero where f stands still at every spacing, or is not finite.

    >>> fine, coarse = 1e-5 * np.arange(13.0), 7e-3 * np.arange(13.0)
    >>> bool(noise_of_lines(np.round([fine, coarse], 2)) > 1e-3)
    True

    """
    with np.errstate(invalid="ignore"):
        moves = (np.diff(values, axis=-1) != 0).mean(axis=-1) > 0.5
        levels = noise_level(values)
    chosen = np.take_along_axis(levels, moves.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(moves.any(axis=-1) & np.isfinite(chosen), chosen, 0.0)


def extrapolate(
    values: np.ndarray, ratio: float, powers: tuple[int, ...], noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limit for h → 0, and its estimated error.

    `T[k, j] = T[k, j−1] + (T[k, j−1] − T[k−1, j−1]) / (ρ^p_j − 1)`, where `T[k, 0]` are the
    values, with an error of `c·h^p_1 + d·h^p_2 + …`.

    Args:
        values: `(..., K)` at steps that fall by the ratio; NaN where there is none.
        ratio: ρ.
        powers: exponents of the error's terms, K − 1 of them.
        noise: `(..., K)`: the standard deviation of the noise in the values.

    >>> h = 0.1 * 8.0 ** -np.arange(4)
    >>> limit, error = extrapolate(2 + h**2 + h**4, 8.0, (2, 4, 6), 1e-16 / h)
    >>> f"{limit:.12f}", bool(error < 1e-9)
    ('2.000000000000', True)

    """
    K = values.shape[-1]
    columns = [values]
    for power in powers[: K - 1]:
        last = columns[-1]
        next_ = np.full_like(last, np.nan)
        next_[..., 1:] = last[..., 1:] + np.diff(last, axis=-1) / (ratio**power - 1)
        columns.append(next_)
    best, least = np.full(values.shape[:-1], np.nan), np.full(values.shape[:-1], np.inf)
    for j, column in enumerate(columns):
        for k in range(max(1, j), K):
            neighbours = [(columns[max(j - 1, 0)], k - 1), (columns[max(j - 1, 0)], k)]
            error = np.max([abs(column[..., k] - c[..., i]) for c, i in neighbours], axis=0)
            for i in range(k + 1, K):
                against = abs(column[..., i] - column[..., k]) - 4 * noise[..., i]
                error = np.fmax(error, against)
            error = error + noise[..., k]
            better = np.isfinite(error) & (error < least)
            best, least = np.where(better, column[..., k], best), np.where(better, error, least)
    return best, least


def slopes(
    values: np.ndarray, steps: np.ndarray, sigma: np.ndarray, eps: float, threshold: float
) -> Slopes:
    """Return derivatives from values of f at `abscissae(steps)`.

    Args:
        values: `(..., 2K+1)`.
        steps: `(K,)`, falling by a constant ratio.
        sigma: `(...,)`: noise of f at the point.
        eps: the rounding unit of f, for its noise where it is larger.
        threshold: a kink is a jump of the derivative larger than this part of it, and a
            discontinuity one of f larger than this part of its changes up to h = 1/8.

    >>> h = ladder(0.1, 8.0)
    >>> s = slopes(np.abs(abscissae(h)), h, np.array(1e-16), 1e-16, 1e-3)
    >>> float(s.value), round(float(s.jump), 6)
    (0.0, 2.0)
    >>> bool(slopes(np.sign(abscissae(h)), h, np.array(1e-16), 1e-16, 1e-3).discontinuous)
    True

    """
    K = len(steps)
    ratio = float(steps[0] / steps[1])
    middle, right, left = values[..., :1], values[..., 1 : K + 1], values[..., K + 1 :]
    with np.errstate(all="ignore"):
        rounding = np.fmax(sigma[..., None], eps / 2 * np.fmax(abs(left), abs(right)))
        noise = rounding / steps
        # What is left of f's changes on each side as h → 0.
        changes = [np.where(np.isfinite(a), a, np.nan) for a in (right - middle, left - middle)]
        rest = [extrapolate(a, ratio, (1, 2, 3, 4, 5), 2 * rounding) for a in changes]
        near = np.abs(changes)[..., steps <= 1 / 8]
        least = threshold * np.nan_to_num(near).max(axis=(0, -1), initial=0.0)
        discontinuous = np.any(
            [(abs(c) > 8 * error) & (abs(c) > least) for c, error in rest], axis=0
        )
        values, forward, backward = (
            np.where(np.isfinite(a), a, np.nan)
            for a in (
                (right - left) / (2 * steps),
                (right - middle) / steps,
                (middle - left) / steps,
            )
        )
        value, error = extrapolate(values, ratio, (2, 4, 6, 8, 10), noise)
        jump, jump_error = extrapolate(forward - backward, ratio, (1, 3, 5, 7, 9), 4 * noise)
        # f may end at the point: then the side that it has.
        side = np.where(np.isfinite(forward).sum(-1) >= np.isfinite(backward).sum(-1), 1, 0)
        has = np.where(side[..., None] == 1, forward, backward)
        alone, alone_error = extrapolate(has, ratio, (1, 2, 3, 4, 5), 2 * noise)
        one_sided = ~np.isfinite(error) & np.isfinite(alone_error) & ~discontinuous
        scale = abs(value) + abs(jump) / 2
        kinked = (abs(jump) > 8 * jump_error) & (abs(jump) > threshold * scale) & ~one_sided
        kinked &= ~discontinuous
    # At a kink D(h) converges only as h, and to the middle of the two sides.
    return Slopes(
        np.where(one_sided, alone, value),
        np.where(discontinuous, np.inf, np.where(one_sided, alone_error, error)),
        np.where(kinked, jump, 0.0),
        one_sided,
        discontinuous,
    )
