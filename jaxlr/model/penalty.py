"""The penalty of one lane."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxlr.base.arguments import is_real, known
from jaxlr.base.printing import Shown, numbers, shown
from jaxlr.base.pytrees import Array


def _penalty(penalty: Any) -> Shown:
    rows = {"l2": numbers(penalty.l2), "factors": numbers(penalty.factors)}
    return "Penalty", {name: words for name, words in rows.items() if words != "None"}


@shown(_penalty)
class Penalty(NamedTuple):
    """The penalty `½·l2·Σⱼ factorsⱼ·‖wⱼ‖²`; the intercept is never penalised.

    Args:
        l2: strength, `()`. With scikit-learn's C: `l2 = 1/(C·Σ weights)`.
        factors: None, or `(n,)`: a factor for each feature; 0 leaves a feature unpenalised.
    """

    l2: Array = 0.0
    factors: Array | None = None


def ridge(penalty: Penalty, n_features: int, dtype: Any) -> Array:
    """Return the penalty of each feature, `l2·f`, `(n,)`, in a dtype.

    >>> ridge(Penalty(0.5, jnp.array([1, 0])), 2, jnp.float32).tolist()
    [0.5, 0.0]
    """
    l2 = jnp.asarray(penalty.l2, dtype)
    if penalty.factors is None:
        return jnp.broadcast_to(l2, n_features)
    return l2 * jnp.asarray(penalty.factors, dtype)


def per_weight(penalty: Penalty, w: Array) -> Array:
    """Return the penalty `l2·f` of each weight, in the shape and dtype of w.

    >>> per_weight(Penalty(0.5, jnp.array([1, 0])), jnp.ones((2, 3))).tolist()
    [[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]
    """
    l2 = ridge(penalty, len(w), w.dtype)
    return jnp.broadcast_to(l2.reshape(-1, *[1] * (w.ndim - 1)), w.shape)


def value_of(penalty: Penalty, w: Array) -> Array:
    """Return the penalty of weights, `½·l2·Σⱼ fⱼ‖wⱼ‖²`.

    >>> float(value_of(Penalty(0.5), jnp.array([1.0, 2.0])))
    1.25
    """
    return (per_weight(penalty, w) * w**2).sum() / 2


def gradient_of(penalty: Penalty, w: Array) -> Array:
    """Return the gradient of the penalty, `l2·f ⊙ w`; also the product of its Hessian with w.

    >>> gradient_of(Penalty(0.5), jnp.array([1.0, 2.0])).tolist()
    [0.5, 1.0]
    """
    return per_weight(penalty, w) * w


def conjugate_of(penalty: Penalty, G: Array) -> Array:
    """Return the penalty's convex conjugate, `Σ max_w (G·w − ½·l2·f·w²)`.

    That is `G²/(2·l2·f)` for each weight; without a penalty 0 where G is 0, and else infinite.

    >>> float(conjugate_of(Penalty(0.5), jnp.array([1.0, 2.0])))
    5.0
    """
    l2 = per_weight(penalty, G)
    each = jnp.where(l2 > 0, G**2 / (2 * jnp.where(l2 > 0, l2, 1)), jnp.inf)
    return jnp.where((l2 == 0) & (G == 0), 0, each).sum()


def check_penalty(penalty: Penalty) -> None:
    """Raise ValueError when an l2 that is known is negative, TypeError when it is no number.

    Not for lanes, one of which is not to end the others: their status says it. That of an l2 that
    is NaN says so as well.

    >>> check_penalty(Penalty(-1.0))
    Traceback (most recent call last):
    ...
    ValueError: penalty.l2 is -1.0 where a number that is not negative is due: 0 is no penalty.
    """
    l2 = known(penalty.l2)
    if l2 is not None and not is_real(l2):
        raise TypeError(f"penalty.l2 is {penalty.l2!r} where a number is due: 0 is no penalty.")
    if l2 is not None and (l2 < 0).any():
        raise ValueError(
            f"penalty.l2 is {l2} where a number that is not negative is due: 0 is no penalty."
        )
