"""Derivatives of an optimum with respect to what went into it, by the implicit function theorem.

At the optimum of the objective L the gradient is zero, whatever u is: the examples, their
labels, weights and offset, or the penalty. Differentiate `g(θ(u), u) = 0`:

    H dθ = −∂g/∂u du        H = ∂²L/∂θ²,  g = ∂L/∂θ
    dL   = ∂L/∂u du         by the envelope theorem: the part through θ is g·dθ = 0

The right-hand side is the derivative of the hand-derived gradient; H acts by the hand-derived
Hessian–vector product. The system is solved by conjugate gradients, preconditioned with the
curvature that serves the fit. Where it began with that of the null model, of few examples, it is
taken anew at the optimum, and two or three products with H are enough. How the optimum was found
does not matter.

Where H is singular the answer is the one of least norm in (w, b), dθ = −H⁺ ∂g/∂u du. The
directions that H does not see are known beforehand: those of the unpenalised features that no
logit changes with (collinear and constant features), and, for the softmax, what shifts all
classes alike in an unpenalised feature or in the intercept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr.curvature import Curvature, Factor, factorise, make_curvature, precondition
from jaxlr.objective import hvp, value_and_grad
from jaxlr.pilot import sample
from jaxlr.rules import is_fixed, jvp_of_perturbed
from jaxlr.types import Array, Batch, Params, Penalty, Solution, Status
from jaxlr.wide import back, into, narrow

_MOST = 500  # products with H in a solve


class Inverse(NamedTuple):
    """What is made once of an optimum, to solve any number of systems with its Hessian.

    Args:
        factor: of the inverse Hessian, nearly, in the features of the narrow batch.
        Q: from `narrow`.
        unseen: orthonormal columns, and zeros, `(n+1, n+1)`: directions of (w, b) of one class
            that neither an example nor the penalty sees.
        ridge: the penalty of each feature and of the intercept, `(n+1,)`.
    """

    factor: Factor
    Q: Array | None
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
    batch, Q = narrow(batch, penalty)
    params = into(Q, params)
    n, dtype = batch.n_features, params.w.dtype
    factors = jnp.ones(n, dtype) if penalty.factors is None else penalty.factors
    ridge = jnp.asarray(penalty.l2, dtype) * jnp.append(jnp.asarray(factors, dtype), 0)
    unseen = jnp.zeros((n + 1, n + 1), dtype)
    if factor is None:
        curvature = make_curvature(params, sample(batch))
        factor = factorise(curvature, penalty)
    factor = Factor(*(a.astype(dtype) for a in factor))

    # Of an unpenalised feature a sample may not see what the examples do, and the examples may
    # see nothing. A loop of one turn or none: under vmap it runs only if a lane needs it. What
    # does not depend on its state a compiler would move out of it, to be made always.
    def look(state):
        todo, factor, _ = state
        place = jax.tree.map(lambda a: jnp.where(todo, a, 0), params)
        curvature = make_curvature(place, batch, factor.centre)
        return ~todo, factorise(curvature, penalty), _unseen(curvature, ridge == 0)

    first = (ridge[:-1] == 0).any(), factor, unseen
    _, factor, unseen = lax.while_loop(lambda state: state[0], look, first)
    return Inverse(factor, Q, unseen, ridge)


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
    values, vectors = jnp.linalg.eigh(jnp.nan_to_num(correlation))
    none = values <= 8 * eps * (rows**0.5 + values[-1])
    vectors = vectors / scale[:, None] * none[None]
    w, b = vectors[:-1], vectors[-1] - centre @ vectors[:-1]
    # Eigenvalues ascend: the directions are the first columns, and Q's first span the same.
    return jnp.linalg.qr(jnp.concatenate([w, b[None]]))[0] * none[None]


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
    narrow_r = into(inverse.Q, r)
    x = _project(inverse, precondition(inverse.factor, _project(inverse, narrow_r)))
    x = back(inverse.Q, x)
    if inverse.Q is None:
        return x
    # Beyond the span of the examples H is the penalty alone.
    rest, l2 = r.w - back(inverse.Q, narrow_r).w, inverse.ridge[0]
    return x._replace(w=x.w + jnp.where(l2 == 0, 0, rest / jnp.where(l2 == 0, 1, l2)))


def _inner(a: Params, b: Params) -> Array:
    return (a.w * b.w).sum() + (a.b * b.b).sum()


def _add(a: Params, t: Array, b: Params) -> Params:
    return jax.tree.map(lambda a, b: a + t * b, a, b)


def _conjugate_gradients(product: Callable, inverse: Inverse, r: Params) -> Params:
    """Return H⁺r; NaN where the residual, in the norm of P, stays above √eps of what it was.

    All directions are in the range of P, which is that of H.
    """
    eps = jnp.finfo(r.w.dtype).eps
    z = _approximate(inverse, r)
    first = _inner(r, z)

    def more(state):
        *_, rz, k = state
        return (rz > eps**1.5 * first) & (k < _MOST)  # false for NaN

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
    solved = jnp.where(rz <= eps * first, 1, jnp.nan).astype(first.dtype)
    return jax.tree.map(lambda a: a * solved, x)


def solve_hessian(
    inverse: Inverse, params: Params, r: Params, batch: Batch, penalty: Penalty
) -> Params:
    """Return `H⁺r`, with H the Hessian of the objective: the x of least norm with `Hx = r`.

    Linear in r: forward and reverse mode.

    Args:
        inverse: from `make_inverse`.
        params, batch, penalty: the optimum and its objective.
        r: of the shapes of params.
    """
    # As one vector, all of it linear in what moves: to transpose the solve JAX asks for that.
    r_flat, unravel = ravel_pytree(r)

    def product(v):
        return hvp(params, v, batch, penalty)

    def product_flat(v):
        return ravel_pytree(product(unravel(v)))[0]

    def solve(_, r):
        return ravel_pytree(_conjugate_gradients(product, inverse, unravel(r)))[0]

    return unravel(lax.custom_linear_solve(product_flat, r_flat, solve, symmetric=True))


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
        found = solution.params, solution.loss
        params, loss = _optimum(found, (solution.status, factor), batch, penalty)
        return solution._replace(params=params, loss=loss)

    return derived


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
