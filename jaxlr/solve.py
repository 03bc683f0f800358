"""The optimum of an objective: passes over X, and the curvature made anew where that pays."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr import minimize
from jaxlr.curvature import Curvature, Factor, factorise, is_blind, make_curvature, precondition
from jaxlr.objective import value_and_grad
from jaxlr.types import Array, Batch, Params, Penalty, Status

_STAGE = 4  # passes between two decisions
_POINTWISE = 64  # operations that the loss of one logit costs


class End(NamedTuple):
    """Where a search for the optimum ended.

    Args:
        params, value, grad: the best point, and the objective there.
        num_passes: over X; making the curvature anew counts as one.
        status: a `Status`.
        decrement: `½·gᵀHg`, an estimate of `value − optimum`.
        factor: of P, the last.
    """

    params: Params
    value: Array
    grad: Params
    num_passes: Array
    status: Array
    decrement: Array
    factor: Factor


class _State(NamedTuple):
    search: minimize.Search
    L: Array  # of the factor of P
    share: Array  # of the way from the null model to the point, where L was made
    value: Array  # of the objective there; infinite if that was not the point
    stale: Array  # whether L is to be made anew


def solve(
    batch: Batch,
    penalty: Penalty,
    start: Params,
    curvature: Curvature,
    null: Params,
    *,
    tol: Array,
    max_passes: Array,
    of_sample: bool = False,
) -> End:
    """Minimise the objective.

    Args:
        batch, penalty: the objective.
        start: in the dtype of the arithmetic.
        curvature: to begin with.
        null: the null model.
        tol: see `minimize`.
        max_passes: the most passes over X.
        of_sample: whether the curvature may be of fewer examples.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> zero = Params(jnp.zeros(1), jnp.array(0.0))
    >>> H = make_curvature(zero, batch)
    >>> end = solve(batch, Penalty(0.1), zero, H, zero, tol=1e-10, max_passes=50)
    >>> f"{end.params.w[0]:.3f}", int(end.status)
    ('0.637', 0)
    """
    x, unravel = ravel_pytree(start)
    eps, max_passes = jnp.finfo(x.dtype).eps, jnp.asarray(max_passes, jnp.int32)
    tol = jnp.asarray(tol, x.dtype)
    curvature = Curvature(*(jnp.asarray(a, x.dtype) for a in curvature))
    centre, price = curvature.centre, _price(batch, curvature)

    def objective(x: Array) -> tuple[Array, Array]:
        value, grad = value_and_grad(unravel(x), batch, penalty)
        return value, ravel_pytree(grad)[0]

    def product(L: Array, g: Array) -> Array:
        return ravel_pytree(precondition(Factor(L, centre), unravel(g)))[0]

    def refresh(state: _State) -> _State:
        # Where the step is being shortened the curvature misleads, as it does far out, where it
        # vanishes: that of halfway to the null model is safer, and half of that the next time.
        search, here = state.search, state.search.step == 1
        share = jnp.where(here, 1, state.share / 2)
        place = jax.tree.map(lambda a, b: b + share * (a - b), unravel(search.x), null)
        L = factorise(make_curvature(place, batch, centre), penalty).L
        search = minimize.redirect(search, lambda g: product(L, g))
        search = search._replace(num_passes=search.num_passes + 1)
        return _State(search, L, share, jnp.where(here, search.value, jnp.inf), jnp.array(False))

    def stage(state: _State) -> _State:
        # A loop of one turn or none: under vmap it runs only if a lane needs it.
        state = lax.while_loop(lambda state: state.stale, refresh, state)
        before = state.search
        search = minimize.minimize(
            objective,
            lambda g: product(state.L, g),
            before,
            tol=tol,
            max_passes=jnp.minimum(before.num_passes + _STAGE, max_passes),
        )
        # At the rate of this stage, so many passes are still to come.
        rate = jnp.log(before.decrement / search.decrement) / _STAGE
        slow = ~(jnp.log(search.decrement / tol) <= price * rate) & jnp.isfinite(before.decrement)
        lost = search.status == Status.PRECISION_REACHED
        here = jnp.abs(state.value - search.value) <= 8 * eps * jnp.abs(search.value)
        # Near the precision of the dtype every search looks slow, and another curvature would
        # bring nothing: passes must have paid a quarter of it.
        too_dear = search.num_passes < price / 4
        # A stall is the precision of the dtype if the curvature is that of the place; where
        # another is too dear it is taken for it.
        settled = here | too_dear
        running = (search.status == minimize.RUNNING) | (lost & ~settled)
        search = search._replace(
            status=jnp.where(running, minimize.RUNNING, search.status),
            step=jnp.where(lost, 1, search.step),
        )
        return state._replace(search=search, stale=running & (slow | lost) & ~settled)

    def unfinished(state: _State) -> Array:
        return (state.search.status == minimize.RUNNING) & (state.search.num_passes < max_passes)

    L = factorise(curvature, penalty).L
    one, infinite = jnp.ones((), x.dtype), jnp.array(jnp.inf, x.dtype)
    # A curvature of a sample may miss a feature that is rare.
    blind = is_blind(curvature, penalty) if of_sample else jnp.array(False)
    first = _State(minimize.start(x), L, one, infinite, blind)
    last = lax.while_loop(unfinished, stage, first)
    search, factor = last.search, Factor(last.L, centre)
    out = search.status == minimize.RUNNING
    status = jnp.where(out, Status.OUT_OF_PASSES, search.status).astype(jnp.int32)
    params, grad = unravel(search.x), unravel(search.grad)
    return End(params, search.value, grad, search.num_passes, status, search.decrement, factor)


def _price(batch: Batch, curvature: Curvature) -> float:
    """Return how many passes of many lanes cost as much as making the curvature anew."""
    K = 1 if batch.n_classes == 2 else batch.n_classes
    return 2 * curvature.H.size / ((4 * batch.n_features + _POINTWISE) * K)
