"""A quasi-Newton loop for smooth convex functions: one evaluation an iteration.

It knows a value-and-gradient function and a preconditioner P, near the inverse Hessian, and
nothing else. The direction is L-BFGS's (Nocedal & Wright, Numerical Optimization, 2nd ed.,
algorithm 7.4) with P as its initial matrix. Its two loops over the pairs are two triangular
systems with one matrix, whose inverse is kept: products instead of loops of small steps.

There is no inner line search: an iteration evaluates one point and either accepts it or
shortens the step. Along a direction d a convex function falls as long as its slope is not
positive, so that `g₁·d ≤ 0` is enough to accept x₁, and unlike a comparison of two values it
is not lost in rounding. Where the decrease to be expected is below the rounding of the value,
it is told from the slopes at both ends: it is near `step·(g₀ + g₁)·d/2`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxlr.base.pytrees import Array
from jaxlr.model.solution import Status

RUNNING = -1  # the status of a search that has not ended
_MEMORY = 8  # pairs (s, y) that are kept
_ARMIJO = 1e-4
_RISE = 1e-2  # of the value, that no slope excuses: logits far from zero are mostly rounding then
_STALLS = 8  # steps below the value's rounding without `gᵀPg` halved


class Search(NamedTuple):
    """Where a search stands: a point, what is known there, and the next step to try.

    Args:
        x: the best point so far, `(d,)`.
        value, grad: there; the value is infinite before the first evaluation.
        preconditioned: P·grad.
        direction, step: the next point is `x + step·direction`.
        decrement: `½·gᵀHg`, an estimate of `value − optimum`; H is L-BFGS's inverse Hessian.
        pairs: differences s of points and P·y of P·grad in turn, newest first, `(16, d)`.
        inverse: of the lower triangle of S·Yᵀ, Y the differences of gradients, `(8, 8)`; rows
            without a pair are zero.
        inner: Y·P·Yᵀ, `(8, 8)`.
        scale: of P in H.
        milestone: `gᵀPg` when it was last halved.
        stalls: steps below the value's rounding since then.
        num_passes: evaluations so far.
        status: `RUNNING` or a `Status`.
    """

    x: Array
    value: Array
    grad: Array
    preconditioned: Array
    direction: Array
    step: Array
    decrement: Array
    pairs: Array
    inverse: Array
    inner: Array
    scale: Array
    milestone: Array
    stalls: Array
    num_passes: Array
    status: Array


def start(x: Array) -> Search:
    """Return a search that has yet to evaluate its first point, x `(d,)`."""
    dtype, zeros = x.dtype, jnp.zeros_like(x)
    infinite, square = jnp.array(jnp.inf, dtype), jnp.zeros((_MEMORY, _MEMORY), dtype)
    return Search(
        x, infinite, zeros, zeros, zeros, jnp.ones((), dtype), infinite,
        jnp.zeros((2 * _MEMORY, x.size), dtype), square, square, jnp.ones((), dtype), infinite,
        jnp.int32(0), jnp.int32(0), jnp.int32(RUNNING),
    )  # fmt: skip


def restart(search: Search, x: Array) -> Search:
    """Return a search that has yet to evaluate x, `(d,)`: the start, or its own point anew.

    That is all it takes: what a search knows has no effect where its value is infinite.
    """
    return search._replace(x=x, value=jnp.full_like(search.value, jnp.inf))


def with_another(search: Search, preconditioned: Array) -> Search:
    """Return a search that goes on from its point with another P; no evaluation is lost.

    Args:
        search: where it stands, a point evaluated.
        preconditioned: P·grad, of the new P.
    """
    norm = search.grad @ preconditioned
    return search._replace(
        preconditioned=preconditioned,
        direction=-preconditioned,
        step=jnp.ones_like(search.step),
        decrement=norm / 2,
        inverse=jnp.zeros_like(search.inverse),  # and so no pairs
        scale=jnp.ones_like(search.scale),
        milestone=norm,
        stalls=jnp.zeros_like(search.stalls),
        status=jnp.where(jnp.isfinite(norm), search.status, Status.NOT_FINITE).astype(jnp.int32),
    )


def is_blind(search: Search) -> Array:
    """Whether P sees nothing of a gradient that is not zero: then a small decrement says nothing.

    As where all examples are saturated, and the curvature vanishes. A gradient whose squares
    vanish is as good as zero.
    """
    least = jnp.finfo(search.x.dtype).tiny ** 0.5
    return (search.decrement == 0) & (jnp.abs(search.grad) > least).any()


def minimize(
    value_and_grad: Callable[[Array], tuple[Array, Array]],
    precondition: Callable[[Array], Array],
    search: Search,
    *,
    tol: Array,
    max_passes: Array,
) -> Search:
    """Continue a search until it ends or has spent `max_passes` evaluations.

    Args:
        value_and_grad: of a smooth convex function of `(d,)`.
        precondition: `g → P·g`, symmetric and positive definite.
        search: from `start`, or where an earlier call stopped.
        tol: end as converged when `½·gᵀHg`, the estimated suboptimality, is at most this.
        max_passes: of the whole search, those already spent included.

    Returns:
        The search; its status is `RUNNING` when it ran out of passes.

    >>> def bowl(x):
    ...     return ((x - 1) ** 2).sum(), 2 * (x - 1)
    >>> end = minimize(bowl, lambda g: g, start(jnp.zeros(3)), tol=1e-9, max_passes=20)
    >>> end.x.tolist(), int(end.status)
    ([1.0, 1.0, 1.0], 0)
    """
    tol = jnp.asarray(tol, search.x.dtype)

    def running(search: Search) -> Array:
        return (search.status == RUNNING) & (search.num_passes < max_passes)

    def step(search: Search) -> Search:
        return advance(search, value_and_grad, precondition, tol)

    return lax.while_loop(running, step, search)


def advance(
    search: Search,
    value_and_grad: Callable[[Array], tuple[Array, Array]],
    precondition: Callable[[Array], Array],
    tol: Array,
) -> Search:
    """Return the search after one more evaluation; where it has ended it stays as it is.

    Args:
        search: where it stands.
        value_and_grad, precondition, tol: as for `minimize`.

    >>> def bowl(x):
    ...     return ((x - 1) ** 2).sum(), 2 * (x - 1)
    >>> advance(start(jnp.zeros(3)), bowl, lambda g: g / 2, jnp.array(1e-9)).direction.tolist()
    [1.0, 1.0, 1.0]
    """
    eps, running = jnp.finfo(search.x.dtype).eps, search.status == RUNNING
    first = ~jnp.isfinite(search.value)
    x = jnp.where(first, search.x, search.x + search.step * search.direction)
    value, grad = (jnp.asarray(a, x.dtype) for a in value_and_grad(x))
    preconditioned = precondition(grad)

    slope, new_slope = search.grad @ search.direction, grad @ search.direction
    new_norm = grad @ preconditioned
    finite = jnp.isfinite(value) & jnp.isfinite(new_norm)
    expected = search.step * slope
    flat = ~first & (jnp.abs(expected) <= 8 * eps * jnp.abs(search.value))
    downhill = (new_slope <= 0) | (value <= search.value + _ARMIJO * expected)
    accepted = jnp.where(flat, new_slope <= 0.9 * jnp.abs(slope), downhill)
    accepted = first | accepted & (value <= search.value + _RISE * jnp.abs(search.value))
    # In rounding, as of features far from zero, neither H nor P may show a way down.
    uphill = ~first & (slope > 0)
    accepted = running & finite & accepted & ~uphill

    # Not accepted: to where a straight line through the two slopes has its zero.
    shorter = jnp.where(finite & (new_slope > 0), slope / (slope - new_slope), 0.1)
    step = jnp.where(accepted, 1, search.step * jnp.clip(shorter, 0.1, 0.5))

    s, y, Py = x - search.x, grad - search.grad, preconditioned - search.preconditioned
    moved = (jnp.where(accepted & ~first, a, 0) for a in (s, y, Py))
    pairs, inverse, inner, scale = _remember(search, *moved)
    x, value, grad, preconditioned = (
        jnp.where(accepted, new, old)
        for new, old in zip((x, value, grad, preconditioned), search[:4], strict=True)
    )
    Hg = _lbfgs(grad, preconditioned, pairs, inverse, inner, scale)
    # In rounding H may be no longer positive definite, nor finite: P is.
    decrease = grad @ Hg
    ahead = (decrease >= 0) & jnp.isfinite(decrease)
    direction = -jnp.where(ahead, Hg, preconditioned)
    decrement = jnp.where(accepted, jnp.where(ahead, decrease, new_norm) / 2, search.decrement)

    halved = accepted & (first | (new_norm <= search.milestone / 2))
    stalls = jnp.where(halved, 0, search.stalls + flat.astype(jnp.int32))
    # Written so that NaN is on the failing side of each comparison.
    blind = is_blind(search._replace(grad=grad, decrement=decrement))
    found = (decrement >= 0) & (decrement <= tol)  # a negative one is rounding
    status = jnp.where(accepted & ~blind & found, Status.CONVERGED, RUNNING)
    lost = (stalls >= _STALLS) | (step < eps) | uphill
    status = jnp.where((status == RUNNING) & lost, Status.PRECISION_REACHED, status)
    status = jnp.where(first & ~finite, Status.NOT_FINITE, status)
    return Search(
        x, value, grad, preconditioned, direction, step, decrement, pairs, inverse, inner, scale,
        jnp.where(halved, new_norm, search.milestone),
        stalls.astype(jnp.int32),
        search.num_passes + running.astype(jnp.int32),
        jnp.where(running, status, search.status).astype(jnp.int32),
    )  # fmt: skip


def _remember(search: Search, s: Array, y: Array, Py: Array) -> tuple[Array, ...]:
    """Put a pair in front of the others; without a part in T⁻¹ it has no effect.

    The inverse of `[[σ, 0], [c, T]]` is `[[1/σ, 0], [−T⁻¹c/σ, T⁻¹]]`; without its last row and
    column it is that of the pairs that stay.
    """
    first = ~jnp.isfinite(search.value)
    T, M = jnp.where(first, 0, search.inverse[:-1, :-1]), search.inner[:-1, :-1]
    pairs = jnp.concatenate([s[None], Py[None], search.pairs[:-2]])
    Sy, PYy = _product(pairs, y).reshape(-1, 2).T
    curved = Sy[0] > jnp.finfo(y.dtype).eps * PYy[0]
    sigma = jnp.where(curved, Sy[0], 1)
    column = jnp.concatenate([jnp.ones_like(Sy[:1]), -_product(T, Sy[1:])])
    column = jnp.where(curved, column / sigma, 0)
    inverse = jnp.concatenate([column[:, None], jnp.pad(T, ((1, 0), (0, 0)))], axis=1)
    inner = jnp.concatenate([PYy[:, None], jnp.concatenate([PYy[None, 1:], M])], axis=1)
    scale = sigma / jnp.where(curved, PYy[0], 1)
    return pairs, inverse, inner, jnp.where(curved, scale, jnp.where(first, 1, search.scale))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _lbfgs(g: Array, Pg: Array, pairs: Array, inverse: Array, inner: Array, scale: Array) -> Array:
    """Return `H·g`; pairs whose part of T⁻¹ is zero change nothing.

    With T the lower triangle of S·Yᵀ, pairs newest first, and D its diagonal, the loop from the
    newest pair on finds `a = T⁻¹Sg`, and the loop back `b = T⁻ᵀ(Da − Yr)`, where
    `r = scale·P(g − Yᵀa)` and `H·g = r + Sᵀb`. P is linear and symmetric: all of this is made
    of products with S and P·Yᵀ, and with the matrix Y·P·Yᵀ.
    """
    Sg, PYg = _product(pairs, g).reshape(-1, 2).T
    a = _product(inverse, Sg)
    diagonal = jnp.einsum("ii->i", inverse)  # jnp.diagonal is a gather, of more steps
    Da = a / jnp.where(diagonal > 0, diagonal, 1)
    b = _product(Da - scale * (PYg - _product(inner, a)), inverse)
    both = jnp.stack([b, -scale * a], axis=1).reshape(-1)
    return scale * Pg + _product(both, pairs)
