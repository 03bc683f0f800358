"""The optimum of an objective: passes over X, and the curvature made anew where that pays.

One lane is `solve`. The lanes of a sweep are in `queue`: the same passes, many lanes at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch, Params, init_params
from jaxlr.model.objective import value_and_grad
from jaxlr.model.penalty import Penalty, gradient_of
from jaxlr.model.solution import Status
from jaxlr.solver import lowrank, minimize
from jaxlr.solver.curvature import (
    Curvature,
    Factor,
    exact_curvature,
    factorise,
    is_blind,
    is_low_rank,
    make_curvature,
    precondition,
)
from jaxlr.solver.null import null_model

_STAGE = 3  # passes between two decisions
_NEAR = 0.1  # of the value: within it another P of low rank leads on no faster, but where it stalls
# Of the way from the null model. Without this limit 100 fits to breast cancer took 1,046 passes,
# and with it 945, as without the rule; of 192 fits with offsets to ±1e3 one runs out of passes.
_FAR_OUT = 1 / 8
_POINTWISE = 64  # operations that the loss of one logit costs


class End(NamedTuple):
    """Where a search for the optimum ended.

    Args:
        params, value, grad: the best point, and the objective there; flat vectors until the end.
        num_passes: over X; making the curvature anew counts as one.
        status: a `Status`.
        decrement: `½·gᵀHg`, an estimate of `value − optimum`.
    """

    params: Params | Array
    value: Array
    grad: Params | Array
    num_passes: Array
    status: Array
    decrement: Array


class State(NamedTuple):
    """Where a lane stands, besides the factor L of its preconditioner P.

    Args:
        search: of the minimum; of flat parameters.
        share: of the way from the null model to the point, where L was made, `()`.
        value: of the objective there; infinite if that was not the point.
        made: the decrement there, by that L; infinite if that was not the point.
        before: the decrement when it was last decided how to go on; infinite at first.
        passed: passes since then; −1 where its point is yet to be evaluated.
        stale: whether L is to be made anew.
    """

    search: minimize.Search
    share: Array
    value: Array
    made: Array
    before: Array
    passed: Array
    stale: Array


class Task(NamedTuple):
    """What all lanes of a search have in common.

    Args:
        centre: x̄ of the curvatures, `(n,)`.
        tol, max_passes: see `minimize`.
    """

    centre: Array
    tol: Array
    max_passes: Array


def begin(x: Array, stale: Array, task: Task) -> State:
    """Return a lane at its start, x `(d,)`; stale: whether L is to be made anew."""
    infinite, one = jnp.array(jnp.inf, x.dtype), jnp.ones((), x.dtype)
    search = minimize.start(x)._replace(status=_first_status(task))
    return State(search, one, infinite, infinite, infinite, jnp.int32(-1), stale)


def _first_status(task: Task) -> Array:
    return jnp.where(task.max_passes > 0, minimize.RUNNING, Status.OUT_OF_PASSES).astype(jnp.int32)


def restarted(state: State, done: Array, x: Array, stale: Array, task: Task) -> State:
    """Return the state of another lane, as `begin` does, where this one is done."""
    search = state.search
    value = minimize.restart(search, x).value
    search = search._replace(
        x=jnp.where(done, x, search.x),
        value=jnp.where(done, value, search.value),
        num_passes=jnp.where(done, 0, search.num_passes),
        status=jnp.where(done, _first_status(task), search.status),
    )
    return State(
        search,
        jnp.where(done, 1, state.share),
        jnp.where(done, jnp.inf, state.value),
        jnp.where(done, jnp.inf, state.made),
        jnp.where(done, jnp.inf, state.before),
        jnp.where(done, -1, state.passed),
        jnp.where(done, stale, state.stale),
    )


def own_curvature(state: State, L: Array, batch: Batch, task: Task) -> Curvature:
    """Return the curvature that L is to be made of anew, from one pass.

    Where the step is being shortened that of the place misleads, as it does far out, where it
    vanishes: that of halfway to the null model without the offset is safer, and half of that the
    next time.

    Args:
        state, L: of one lane.
        batch: its examples.
        task: that of all lanes.
    """
    x = state.search.x
    null, here = null_model(batch), unravel_params(batch, x.dtype)(x)
    null = jax.tree.map(lambda a: a.astype(x.dtype), null)
    share = _share(state)
    place = jax.tree.map(lambda a, b: b + share * (a - b), here, null)
    if batch.offset is not None:
        batch = dataclasses.replace(batch, offset=share * batch.offset.astype(share.dtype))
    make = make_curvature if is_low_rank(L) else exact_curvature  # of L's form
    H, centre = make(place, batch, task.centre)
    if batch.offset is not None:  # that of T·ℓ(z/T), the loss of a temperature T = 1/share
        H = jnp.concatenate([share * H[:, :1], H[:, 1:]], axis=1) if is_low_rank(L) else share * H
    return Curvature(H.astype(L.dtype), centre.astype(L.dtype))


def renewed(state: State, own: Array, preconditioned: Array, task: Task) -> State:
    """Return how the state goes on with another L, where it was stale: from its point.

    It has ended if by that L the point is the optimum.

    Args:
        state: of one lane.
        own: whether L was made of `own_curvature`, which took a pass.
        preconditioned: P·grad of the new L.
        task: its task.
    """
    search, stale, share = state.search, state.stale, _share(state)
    first = ~jnp.isfinite(search.value)  # nothing is known yet of its point
    anew = minimize.with_another(search, preconditioned)
    found = (anew.decrement >= 0) & (anew.decrement <= task.tol)
    found &= (anew.status == minimize.RUNNING) & ~minimize.is_blind(anew)
    status = jnp.where(found, Status.CONVERGED, anew.status).astype(jnp.int32)
    anew = anew._replace(status=status)
    anew = State(
        jax.tree.map(lambda a, b: jnp.where(first, a, b), search, anew),
        share,
        jnp.where(share == 1, search.value, jnp.inf),
        jnp.where(share == 1, anew.decrement, jnp.inf),
        jnp.where(first, jnp.inf, anew.decrement),
        jnp.where(first, -1, 0),
        jnp.zeros_like(stale),
    )
    state = jax.tree.map(lambda a, b: jnp.where(stale, b, a), state, anew)
    num_passes = state.search.num_passes + (stale & own).astype(jnp.int32)
    return state._replace(search=state.search._replace(num_passes=num_passes))


def _share(state: State) -> Array:
    search = state.search
    misled = (search.step != 1) | minimize.is_blind(search)
    # Far out a share with which the search has moved is kept: it has many such steps to take.
    kept = (state.share <= _FAR_OUT) & (search.inverse != 0).any()
    less = jnp.where(kept, state.share, state.share / 2)
    return jnp.where(misled & ~_precise(search), less, 1)


def _precise(search: minimize.Search) -> Array:
    """Whether the curvature is that of the optimum, and what shortens steps is rounding."""
    small = jnp.finfo(search.x.dtype).eps ** 0.5 * jnp.abs(search.value)
    return (search.decrement <= small) & ~minimize.is_blind(search)


def functions(L: Array, batch: Batch, penalty: Penalty, task: Task) -> tuple[Callable, Callable]:
    """Return value and gradient of the objective, and `g → P·g`, of flat vectors."""

    def objective(x: Array) -> tuple[Array, Array]:
        params = unravel_params(batch, x.dtype)(x)
        value, grad = value_and_grad(params, batch, penalty)
        if batch.n_classes > 2:
            grad = _summing_to_zero(grad, params, penalty)
        return value, ravel_pytree(grad)[0]

    def product(g: Array) -> Array:
        step = precondition(Factor(L, task.centre), unravel_params(batch, g.dtype)(g))
        if batch.n_classes > 2:  # one number more for all intercepts changes nothing but rounding
            step = step._replace(b=step.b - step.b.mean())
        return ravel_pytree(step)[0]

    return objective, product


def _summing_to_zero(grad: Params, params: Params, penalty: Penalty) -> Params:
    """Return a gradient of the softmax without what rounding leaves of the sum over classes.

    The gradients of the data term sum to zero over the classes. Where features are far from zero
    rounding leaves much more than that, and along a shift that is common to all classes only the
    penalty curves: P, which divides by it, would make of that rounding most of a step.
    """
    common = (grad.w - gradient_of(penalty, params.w)).mean(axis=1, keepdims=True)
    return Params(grad.w - common, grad.b - grad.b.mean())


def advance(state: State, L: Array, batch: Batch, penalty: Penalty, task: Task) -> State:
    """Return a lane after one more pass over X, and with a decision after each few of them."""
    before, price = state.search, renewal_price(batch, L)
    eps = jnp.finfo(before.x.dtype).eps
    running = before.status == minimize.RUNNING
    search = minimize.advance(before, *functions(L, batch, penalty, task), task.tol)
    lost = running & (search.status == Status.PRECISION_REACHED)
    passed = state.passed + 1
    blind = running & minimize.is_blind(search)
    due = lost | blind | (passed == _STAGE)
    # At the rate of these passes, so many are still to come.
    rate = jnp.log(state.before / search.decrement) / _STAGE
    slow = ~(jnp.log(search.decrement / task.tol) <= price * rate) & jnp.isfinite(state.before)
    # The curvature is that of the place, and leads on; or there is nothing more to be gained.
    moved, size = jnp.abs(state.value - search.value), jnp.abs(search.value)
    here = moved <= (8 * eps if is_low_rank(L) else eps**0.75) * size
    if not is_low_rank(L):
        # A value that has risen since is rounding, of large features far above its eps.
        here |= (search.value > state.value) & (state.made <= eps**0.75 * size)
    precise = _precise(search)
    near = moved <= _NEAR * size if is_low_rank(L) else here
    believed = near & ((search.step == 1) | precise)
    # Near the precision of the dtype every search looks slow, and another curvature would
    # bring nothing: passes must have paid a quarter of it. Where another is too dear a stall
    # is taken for the precision of the dtype, but not of a P that is none of the whole Hessian.
    too_dear = search.num_passes.astype(size.dtype) < price / 4
    too_dear = too_dear & (not is_low_rank(L))
    settled = (here | too_dear) & precise
    status = jnp.where(lost & ~settled, minimize.RUNNING, search.status)
    running = status == minimize.RUNNING
    out = running & (search.num_passes >= task.max_passes)
    pays = (slow & ~believed & ~too_dear) | (lost & ~settled) | blind
    search = search._replace(status=jnp.where(out, Status.OUT_OF_PASSES, status).astype(jnp.int32))
    return State(
        search,
        state.share,
        state.value,
        state.made,
        jnp.where(due | (passed == 0), search.decrement, state.before),
        jnp.where(due, 0, passed).astype(jnp.int32),
        running & ~out & due & pays,
    )


def unfinished(state: State) -> Array:
    """Whether a lane has more passes to make."""
    return state.search.status == minimize.RUNNING


def solve(
    batch: Batch,
    penalty: Penalty,
    start: Params,
    curvature: Curvature,
    *,
    tol: Array,
    max_passes: Array,
    of_sample: bool = False,
) -> tuple[End, Factor]:
    """Minimise the objective; return the end, and the factor of the last P.

    Args:
        batch, penalty: the objective.
        start: in the dtype of the arithmetic.
        curvature: to begin with.
        tol: see `minimize`.
        max_passes: the most passes over X.
        of_sample: whether the curvature may be of fewer examples.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> zero = Params(jnp.zeros(1), jnp.array(0.0))
    >>> H = make_curvature(zero, batch)
    >>> end, _ = solve(batch, Penalty(0.1), zero, H, tol=1e-10, max_passes=50)
    >>> f"{end.params.w[0]:.3f}", int(end.status)
    ('0.637', 0)
    """
    x, _ = ravel_pytree(start)
    curvature = Curvature(*(jnp.asarray(a, x.dtype) for a in curvature))
    task = Task(curvature.centre, jnp.asarray(tol, x.dtype), jnp.asarray(max_passes, jnp.int32))
    # A curvature of a sample may miss a feature that is rare.
    blind = is_blind(curvature, penalty) if of_sample else jnp.array(False)

    def step(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, L = carry

        # A loop of one turn or none: under vmap it runs only if a lane needs it. What does not
        # depend on its state a compiler would move out of it, to be made always.
        def make(carry):
            stale, L, _ = carry
            x = jnp.where(stale, state.search.x, 0)
            moved = state._replace(search=state.search._replace(x=x))
            L = factorise(own_curvature(moved, L, batch, task), penalty).L
            return jnp.zeros_like(stale), L, functions(L, batch, penalty, task)[1](grad)

        grad = state.search.grad
        _, L, Pg = lax.while_loop(lambda carry: carry[0], make, (state.stale, L, grad))
        state = renewed(state, jnp.array(True), Pg, task)
        return advance(state, L, batch, penalty, task), L

    first = begin(x, blind, task), factorise(curvature, penalty).L
    state, L = lax.while_loop(lambda carry: unfinished(carry[0]), step, first)
    return unflattened(ended(state), batch), Factor(L, task.centre)


def ended(state: State) -> End:
    """Return the end of a lane, or of many, with parameters and gradient as flat vectors."""
    search = state.search
    return End(
        search.x, search.value, search.grad, search.num_passes, search.status, search.decrement
    )


def unflattened(end: End, batch: Batch) -> End:
    """Return the end of a lane with its parameters and gradient as such."""
    unravel = unravel_params(batch, end.value.dtype)
    return end._replace(params=unravel(end.params), grad=unravel(end.grad))


def unravel_params(batch: Batch, dtype) -> Callable[[Array], Params]:
    """Return the function that makes parameters of a flat vector."""
    shapes = init_params(batch.n_features, batch.n_classes, dtype)
    return ravel_pytree(shapes)[1]


def renewal_price(batch: Batch, L: Array) -> float:
    """Return how many passes of many lanes cost as much as making the curvature anew."""
    if is_low_rank(L):
        return lowrank.price(batch.m_examples, L.shape[-2] - 1)
    K = 1 if batch.n_classes == 2 else batch.n_classes
    return 2 * L.size / ((4 * batch.n_features + _POINTWISE) * K)
