"""Derivatives of an optimum with respect to what went into it, by the implicit function theorem.

At the optimum of the objective L the gradient is zero, whatever u is: the examples, their
labels, weights and offset, or the penalty. Differentiate `g(θ(u), u) = 0`:

    H dθ = −∂g/∂u du        H = ∂²L/∂θ²,  g = ∂L/∂θ
    dL   = ∂L/∂u du         by the envelope theorem: the part through θ is g·dθ = 0

The right-hand side is the derivative of the hand-derived gradient; H acts by the hand-derived
Hessian–vector product. The system is solved by conjugate gradients, preconditioned with the
curvature that serves the fit. Where it began with that of the null model, of few examples, it is
taken anew at the optimum, and two or three products with H are enough. Meanwhile the curvature of
each example is kept, a number for each class and lane. How the optimum was found does not matter.

Where H is singular the answer is the one of least norm in (w, b), dθ = −H⁺ ∂g/∂u du. The
directions that H does not see are known beforehand: those of the unpenalised features that no
logit changes with (collinear and constant features), and, for the softmax, what shifts all
classes alike in an unpenalised feature or in the intercept. They turn when X moves, which would
add to the derivative of a least-norm θ by X: that part is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr.base import lapack
from jaxlr.base.pytrees import Array
from jaxlr.base.rules import is_fixed, jvp_of_perturbed
from jaxlr.model.batch import Batch, Params
from jaxlr.model.objective import NO_PENALTY, check_direction, hvp, make_hvp, value_and_grad
from jaxlr.model.passes import working
from jaxlr.model.penalty import Penalty, ridge
from jaxlr.model.shapes import check_shapes
from jaxlr.model.solution import Solution, Status
from jaxlr.solver.curvature import (
    Curvature,
    Factor,
    factorise,
    is_low_rank,
    make_curvature,
    precondition,
)
from jaxlr.solver.pilot import sample
from jaxlr.solver.wide import Basis, back, into, narrow

_MOST = 500  # products with H in a solve


class Inverse(NamedTuple):
    """What is made once of an optimum, to solve any number of systems with its Hessian.

    Args:
        factor: of the inverse Hessian, nearly, in the features of the narrow batch.
        Q: from `narrow`.
        unseen: orthonormal columns, and zeros, `(n+1, n+1)`: directions of (w, b) of one class
            that neither an example nor the penalty sees. No columns where P is of low rank.
        ridge: the penalty of each feature and of the intercept, `(n+1,)`.
    """

    factor: Factor
    Q: Basis | None
    unseen: Array
    ridge: Array


def make_inverse(
    params: Params, batch: Batch, penalty: Penalty, factor: Factor | None = None
) -> Inverse:
    """Return what `solve_hessian` needs of an optimum.

    Args:
        params: the optimum.
        batch, penalty: the objective.
        factor: of the inverse Hessian near the optimum, if one is known.
    """
    batch, Q = narrow(batch, penalty, params.w.dtype)
    params = into(Q, params)
    n, dtype = batch.n_features, params.w.dtype
    l2 = jnp.append(ridge(penalty, n, dtype), 0)
    if factor is None:
        curvature = make_curvature(params, sample(batch))
        factor = factorise(curvature, penalty)
    factor = Factor(*(a.astype(dtype) for a in factor))
    if is_low_rank(factor.L):
        return Inverse(factor, Q, jnp.zeros((n + 1, 0), dtype), l2)
    unseen = jnp.zeros((n + 1, n + 1), dtype)

    # Of an unpenalised feature a sample may not see what the examples do, and the examples may
    # see nothing. A loop of one turn or none: under vmap it runs only if a lane needs it. What
    # does not depend on its state a compiler would move out of it, to be made always.
    def look(state):
        todo, factor, _ = state
        place = jax.tree.map(lambda a: jnp.where(todo, a, 0), params)
        curvature = make_curvature(place, batch, factor.centre)
        return ~todo, factorise(curvature, penalty), _unseen(curvature, l2 == 0)

    first = (l2[:-1] == 0).any(), factor, unseen
    _, factor, unseen = lax.while_loop(lambda state: state[0], look, first)
    return Inverse(factor, Q, unseen, l2)


def _unseen(curvature: Curvature, free: Array) -> Array:
    """Return a basis of the directions of (w, b), zero where not free, that change no logit."""
    H, centre = curvature
    rows, eps = len(centre) + 1, jnp.finfo(H.dtype).eps
    # Two features are collinear for all classes alike: sum over the classes.
    columns = H.shape[-1] // rows
    H = jnp.trace(H.reshape(-1, rows, columns, rows, columns), axis1=2, axis2=4).sum(axis=0)
    diagonal = jnp.diagonal(H)
    alive = diagonal > (4 * eps * jnp.append(jnp.abs(centre), 0)) ** 2
    scale = jnp.where(alive & free, jnp.sqrt(jnp.where(alive, diagonal, 1)), 1)
    both = (alive & free)[:, None] & (alive & free)[None]
    correlation = jnp.where(both, H / (scale[:, None] * scale[None]), 0)
    correlation = correlation + jnp.diag(jnp.where(free, 0, 1).astype(H.dtype))
    values, vectors = lapack.eigh(jnp.nan_to_num(correlation))
    none = (values <= 8 * eps * (rows**0.5 + values[-1])).astype(H.dtype)
    vectors = vectors / scale[:, None] * none[None]
    w, b = vectors[:-1], vectors[-1] - centre @ vectors[:-1]
    # Eigenvalues ascend: the directions are the first columns, and Q's first span the same.
    return lapack.qr(jnp.concatenate([w, b[None]]))[0] * none[None]


def _project(inverse: Inverse, x: Params) -> Params:
    """Return the part of x, of the narrow batch, that H sees: an orthogonal projection."""
    V = jnp.concatenate([x.w, x.b[None]])  # (n+1,) or (n+1, K)
    common = V.mean(axis=1, keepdims=True) if V.ndim == 2 else jnp.zeros_like(V)
    V = V - common
    V = V - inverse.unseen @ (inverse.unseen.T @ V)
    if x.w.ndim == 2:
        V = V + jnp.where(inverse.ridge[:, None] == 0, 0, common)
    return Params(V[:-1], V[-1])


def _approximate(inverse: Inverse, r: Params) -> Params:
    """Return P·r with P near H⁺: symmetric, and zero where H is."""
    return _by_parts(
        inverse,
        r,
        lambda r: _project(inverse, precondition(inverse.factor, _project(inverse, r))),
        lambda rest, l2: rest / jnp.where(l2 == 0, 1, l2),
    )


def _seen(inverse: Inverse, r: Params) -> Params:
    """Return the part of r that H sees."""
    return _by_parts(inverse, r, lambda r: _project(inverse, r), lambda rest, _: rest)


def _by_parts(inverse: Inverse, r: Params, within: Callable, beyond: Callable) -> Params:
    """Return `within(r)` in the span of the examples, and beyond it what H, l2 there, sees."""
    narrow_r = into(inverse.Q, r)
    x = back(inverse.Q, within(narrow_r))
    if inverse.Q is None:
        return x
    rest, l2 = r.w - back(inverse.Q, narrow_r).w, inverse.ridge[0]
    return x._replace(w=x.w + jnp.where(l2 == 0, 0, beyond(rest, l2)))


def _inner(a: Params, b: Params) -> Array:
    return (a.w * b.w).sum() + (a.b * b.b).sum()


def _add(a: Params, t: Array, b: Params) -> Params:
    return jax.tree.map(lambda a, b: a + t * b, a, b)


def _conjugate_gradients(product: Callable, inverse: Inverse, r: Params) -> tuple[Params, Array]:
    """Return H⁺r, and the square of the residual over that of r, both in the norm of P.

    All directions are in the range of P, which is that of H; what H does not see of r would stay
    in the residual, and rounding of it with it. It ends where the residual is below what a fit to
    the default tolerance leaves as an error of the derivative.
    """
    eps, r = jnp.finfo(r.w.dtype).eps, _seen(inverse, r)
    z = _approximate(inverse, r)
    first = _inner(r, z)

    def more(state):
        *_, rz, k = state
        return (rz > eps**1.25 * first) & (k < _MOST)  # false for NaN

    def step(state):
        x, r, p, rz, k = state
        Hp = product(p)
        pHp = _inner(p, Hp)
        curved = pHp > 0  # else rounding has the word: stop
        t = jnp.where(curved, rz / jnp.where(curved, pHp, 1), 0)
        x, r = _add(x, t, p), _add(r, -t, Hp)
        z = _approximate(inverse, r)
        new = _inner(r, z)
        return x, r, _add(z, new / rz, p), new, jnp.where(curved, k + 1, _MOST)

    zero = jax.tree.map(jnp.zeros_like, r)
    x, *_, rz, _ = lax.while_loop(more, step, (zero, r, z, first, 0))
    return x, rz / jnp.where(first == 0, 1, first)


def solve_hessian(
    inverse: Inverse, params: Params, r: Params, batch: Batch, penalty: Penalty
) -> Params:
    """Return `H⁺r`, with H the Hessian of the objective: the x of least norm with `Hx = r`.

    Linear in r: forward and reverse mode. NaN where the residual stays above √eps.

    Args:
        inverse: from `make_inverse`.
        params, batch, penalty: the optimum and its objective.
        r: of the shapes of params.
    """
    return _solve_hessian(inverse, params, r, batch, penalty, float(jnp.finfo(r.w.dtype).eps))


def _solve_hessian(inverse, params, r, batch, penalty, most: float) -> Params:
    """Return `H⁺r`, NaN where the square of the residual, relative to that of r, is above most."""
    # As one vector, all of it linear in what moves: to transpose the solve JAX asks for that.
    r_flat, unravel = ravel_pytree(r)

    def product_flat(v):
        return ravel_pytree(hvp(params, unravel(v), batch, penalty))[0]

    def solve(_, r):  # is not differentiated itself
        product = make_hvp(*lax.stop_gradient((params, batch, penalty)))
        x, squared = _conjugate_gradients(product, inverse, unravel(r))
        x = ravel_pytree(x)[0]
        return x * jnp.where(squared <= most, 1, jnp.nan).astype(x.dtype)

    return unravel(lax.custom_linear_solve(product_flat, r_flat, solve, symmetric=True))


class InverseHvp(NamedTuple):
    """What `inverse_hvp` returns.

    Args:
        product: `H⁺v`, of the shapes of v.
        residual: `‖v − Hx‖ / ‖v‖`, `()`, of what H sees of v, in a norm near that of H⁻¹: about
            the relative error of the product in the norm of H. Taken from one more product, not
            from what the solver believes.
        nullity: the dimension of what H does not see, `()` integer: 0 where it is invertible.
            For the softmax it is 1 at least: a shift of the intercept that all classes share.
    """

    product: Params
    residual: Array
    nullity: Array


@jax.jit
def inverse_hvp(
    params: Params, v: Params, batch: Batch, penalty: Penalty = NO_PENALTY
) -> InverseHvp:
    """Return the inverse Hessian times a vector, the system in each derivative of a fit.

        H x = v

    Where H is singular, the x of least norm that solves it for the part of v that H sees.

    The derivatives of `fit` are NaN where the solver reckons that the residual of their system
    stays above √eps; here it is measured by one more product, and nothing is hidden. The product
    has derivatives, by params, v and the objective.

    Args:
        params: the optimum: far from it H may be singular where this does not expect it.
        v: of the shapes of params.
        batch, penalty: the objective.

    Returns:
        `InverseHvp(product, residual, nullity)`.

    Raises:
        ValueError: shapes do not fit each other.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]] * 2), jnp.array([0, 1, 0, 1]))
    >>> zero = Params(jnp.zeros(2), jnp.array(0.0))
    >>> x, residual, nullity = inverse_hvp(zero, zero._replace(b=jnp.array(1.0)), batch)
    >>> x.w.round(4).tolist(), x.b.round(4).item(), bool(residual < 1e-4), int(nullity)
    ([-4.0, -4.0], 24.0, True, 1)
    """
    check_shapes(params, batch, penalty)
    check_direction(v, params)
    params, dtype = working(params, batch)
    v = Params(*(jnp.asarray(a, dtype) for a in v))
    v = v if batch.intercept else v._replace(b=jnp.zeros_like(v.b))
    inverse = make_inverse(*lax.stop_gradient((params, batch, penalty)))
    x = _solve_hessian(inverse, params, v, batch, penalty, jnp.inf)

    def squared(r):
        return _inner(r, _approximate(inverse, r))

    v = _seen(inverse, v)
    Hx = hvp(params, x, batch, penalty)
    left, whole = squared(_add(v, jnp.array(-1, dtype), Hx)), squared(v)
    left, whole = lax.stop_gradient((left, whole))
    residual = jnp.sqrt(jnp.maximum(left, 0) / jnp.where(whole == 0, 1, whole))
    unseen = jnp.maximum((inverse.unseen != 0).any(axis=0).sum(), int(not batch.intercept))
    nullity = unseen
    if batch.n_classes > 2:
        # What is seen and not penalised, all classes may share.
        nullity = batch.n_classes * unseen + (inverse.ridge == 0).sum() - unseen
    if inverse.Q is not None:
        beyond = (batch.n_features - inverse.Q.left.shape[1]) * (v.w.size // batch.n_features)
        nullity = nullity + jnp.where(inverse.ridge[0] == 0, beyond, 0)
    return InverseHvp(x, residual, nullity)


def with_derivatives(
    search: Callable[..., tuple[Solution, Factor | None]],
) -> Callable[..., Solution]:
    """Return `search(batch, penalty, *rest)`, a function to the optimum, with its derivatives.

    Args:
        search: returns a `Solution`, and the factor that `make_inverse` takes or None. It is never
            differentiated itself, and what is in rest does not move the optimum.
    """

    def derived(batch: Batch, penalty: Penalty, *rest: Any) -> Solution:
        solution, factor = search(*lax.stop_gradient((batch, penalty, *rest)))
        return as_optimum(solution, factor, batch, penalty)

    return derived


def as_optimum(
    solution: Solution, factor: Factor | None, batch: Batch, penalty: Penalty
) -> Solution:
    """Return the solution of an objective, one without derivatives, with them.

    Args:
        solution, factor: as a search returns them: see `with_derivatives`.
        batch, penalty: the objective.
    """
    found = solution.params, solution.loss
    params, loss = _optimum(found, (solution.status, factor), batch, penalty)
    return solution._replace(params=params, loss=loss)


@jax.custom_jvp
def _optimum(
    found: tuple[Params, Array], known: tuple[Array, Factor | None], batch: Batch, penalty: Penalty
) -> tuple[Params, Array]:
    """Return what was found, params and loss, as a function of the objective."""
    return found


def _optimum_jvp(primals: tuple, tangents: tuple) -> tuple:
    _, (status, factor), batch, penalty = primals
    dots = tuple(tangents[2:])
    params, loss = _optimum(*primals)
    if is_fixed(dots):
        return (params, loss), jax.tree.map(jnp.zeros_like, (params, loss))
    # NaN in the tangents, and in the cotangents, of a lane that is not at an optimum.
    trust = jnp.where(status <= Status.PRECISION_REACHED, 1, jnp.nan)

    def trusted(tree: Any) -> Any:
        return jax.tree.map(lambda a: a * trust.astype(a.dtype), tree)

    def value_and_slope(batch, penalty):
        return value_and_grad(params, batch, penalty)

    _, (d_loss, d_grad) = jvp_of_perturbed(value_and_slope, (batch, penalty), dots)
    params_, batch_, penalty_, factor_ = lax.stop_gradient((params, batch, penalty, factor))
    inverse = make_inverse(params_, batch_, penalty_, factor_)
    r = trusted(jax.tree.map(jnp.negative, d_grad))
    d_params = trusted(solve_hessian(inverse, params, r, batch, penalty))
    return (params, loss), (d_params, trusted(d_loss))


_optimum.defjvp(_optimum_jvp, symbolic_zeros=True)
