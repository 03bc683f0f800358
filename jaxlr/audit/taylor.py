"""The Taylor-remainder test: a verdict without a tolerance.

    R(h) = |f(x + hv) − f(x) − h·g·v|

falls as h² when g·v is the derivative along v, and as h when it is not, over the range of steps
between the curvature of f and its rounding (as in pyadjoint's `taylor_test`).
"""

from __future__ import annotations

import numpy as np

from jaxlr.audit.report import Remainder


def remainder_test(
    values: np.ndarray, steps: np.ndarray, slope: float, sigma: float, label: str = ""
) -> Remainder:
    """Return the remainders along a direction, and their observed order.

    `order = log(R(h)/R(h/ρ)) / log ρ`, the median over the smallest steps above the noise.

    Args:
        values: `(K+1,)`: f at the point, then at the steps.
        steps: `(K,)`, descending by a constant ratio ρ.
        slope: g·v, the derivative to be judged.
        sigma: noise of f.
        label: the direction, in words.

    >>> h = 0.1 * 4.0 ** -np.arange(8)
    >>> f = np.exp(np.concatenate([[0.0], h]))
    >>> [round(remainder_test(f, h, slope, 1e-16).order) for slope in (1.0, 1.001)]
    [2, 1]

    """
    with np.errstate(all="ignore"):
        remainders = abs(values[1:] - values[0] - steps * slope)
        usable = np.isfinite(remainders) & (remainders > 20 * sigma)
        pairs = np.flatnonzero(usable[:-1] & usable[1:])
        rates = np.log(remainders[:-1] / remainders[1:]) / np.log(steps[0] / steps[1])
    order = float(np.median(rates[pairs[-3:]])) if len(pairs) else float("nan")
    return Remainder(label, tuple(steps.tolist()), tuple(remainders.tolist()), sigma, order)
