"""jaxlr's own derivatives, audited: what `jaxlr audit` runs, and the tests with it.

Four functions over a grid of cases. Each is judged by differences of the function that it is the
derivative of, and knows nothing of the audit:

    loss        what JAX derives of it, by jaxlr's rules, to the second order
    gradient    against the loss
    hvp         against the gradient, along a direction
    hessian     the same, the whole matrix times the direction
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxlr.audit import Report, audit_gradient
from jaxlr.base.pytrees import Array
from jaxlr.model import objective
from jaxlr.model.batch import Batch, Params
from jaxlr.model.penalty import Penalty

SEVERAL_TILES = 16_384 * 2 + 37  # the last one is ragged


class Case(NamedTuple):
    """A point at which derivatives are audited.

    Args:
        name: in words.
        n, m, n_classes: the size of the problem.
        parts: which of "weights", "offset", "soft labels" and "factors" there are.
        data: whether the derivatives by X, y, weights, offset and penalty are audited too.
    """

    name: str
    n: int
    m: int
    n_classes: int
    parts: frozenset[str] = frozenset()
    data: bool = False


def cases() -> list[Case]:
    """Return the grid of cases.

    >>> len(cases()) >= 16
    True
    """
    everything = frozenset({"weights", "offset", "soft labels", "factors"})
    grid = []
    for K, kind in ((2, "binary"), (3, "softmax")):
        grid += [Case(f"{kind}, {part}", 3, 7, K, frozenset({part})) for part in sorted(everything)]
        grid += [
            Case(f"{kind}, plain", 3, 7, K),
            Case(f"{kind}, one feature", 1, 7, K, everything),
            Case(f"{kind}, one example", 3, 1, K, everything),
            Case(f"{kind}, all of them, and by the data", 3, 7, K, everything, data=True),
            Case(f"{kind}, all of them, three tiles", 3, SEVERAL_TILES, K, everything),
        ]
    return grid


def arguments(case: Case) -> tuple[Params, Batch, Penalty]:
    """Return parameters, examples and a penalty for a case; always the same.

    >>> arguments(cases()[0])[0].w.shape
    (3,)
    """
    n, m, K = case.n, case.m, case.n_classes
    rng = np.random.default_rng(n + m + K)
    classes = () if K == 2 else (K,)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    y = rng.integers(0, K, m)
    if "soft labels" in case.parts:
        y = rng.uniform(size=m) if K == 2 else rng.dirichlet(np.ones(K), m).T
    batch = Batch(
        normal(n, m),
        jnp.asarray(y, jnp.float32 if K == 2 or "soft labels" in case.parts else jnp.int32),
        jnp.asarray(rng.uniform(0.5, 2, m), jnp.float32) if "weights" in case.parts else None,
        normal(*classes, m) if "offset" in case.parts else None,
        K,
    )
    factors = jnp.asarray(rng.uniform(0.5, 2, n), jnp.float32) if "factors" in case.parts else None
    return Params(normal(n, *classes), normal(*classes)), batch, Penalty(jnp.float32(0.3), factors)


def _hessian_times(params: Params, batch: Batch, penalty: Penalty, u: Params) -> Params:
    H = objective.hessian(params, batch, penalty)

    def product(rows: Params) -> Array:
        return jnp.tensordot(rows.w, u.w, u.w.ndim) + jnp.tensordot(rows.b, u.b, u.b.ndim)

    return Params(product(H.w), product(H.b))


def _audits() -> dict[str, tuple[Callable, Callable | None]]:
    def hvp(params, batch, penalty, u):
        return objective.hvp(params, u, batch, penalty)

    return {
        "loss": (objective.loss, None),
        "gradient": (objective.loss, objective.gradient),
        "hvp": (objective.gradient, hvp),
        "hessian": (objective.gradient, _hessian_times),
    }


FUNCTIONS = tuple(_audits())


def audit_case(function: str, case: Case) -> Report:
    """Audit one of jaxlr's derivatives at one case.

    Args:
        function: one of `FUNCTIONS`.
        case: from `cases`.

    >>> audit_case("gradient", cases()[0]).verdict.words
    'agrees'
    """
    fun, derivative = _audits()[function]
    argnums = (0, 1, 2) if case.data and derivative is None else 0
    return audit_gradient(fun, derivative, *arguments(case), argnums=argnums)
