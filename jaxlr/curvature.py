"""The Hessian of the data term at some parameters, and the preconditioner made of it.

It is taken in the variables (w, b + wᵀx̄), with x̄ the mean of the examples: features that are
far from zero would else hide behind the intercept. With the intercept as the last feature,
`x̃ᵢ = (xᵢ − x̄, 1)`, it is

    H = Σ cᵢ sᵢ ⊗ x̃ᵢx̃ᵢᵀ / Σ cᵢ,

where sᵢ is the curvature of the loss: a(1−a), or diag(a) − aaᵀ for the softmax. Where the
softmax has too many parameters for that, all classes share the H of the mean of their a(1−a).

The lanes of a sweep see the same X: one curvature serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
from jax import lax

from jaxlr.linear import feature_sums, logits
from jaxlr.losses import pointwise_loss
from jaxlr.tiles import cast, sum_over_tiles, total_weight, weighted, working
from jaxlr.types import Array, Batch, Params, Penalty

_MOST_PARAMETERS = 256  # of a softmax whose Hessian is taken whole


class Curvature(NamedTuple):
    """The Hessian of the data term, or near it.

    Args:
        H: `(n+1, k, n+1, k)`, features × classes twice, with the intercept as the last feature;
            k is 1 for two classes and where the classes share one, else K.
        centre: x̄, `(n,)`.
    """

    H: Array
    centre: Array


@jax.jit
def make_curvature(params: Params, batch: Batch, centre: Array | None = None) -> Curvature:
    """Return the curvature of the data term at params, from one or two passes over X.

    Args:
        params: where: `w` `(n,)` or `(n, K)`.
        batch: the examples.
        centre: x̄, `(n,)`; the weighted mean of the examples when None, or any point near it.
            Lanes that share a centre share the products with X.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> curvature = make_curvature(Params(jnp.zeros(1), jnp.array(0.0)), batch)
    >>> (12 * curvature.H[:, 0, :, 0]).round(4).tolist(), curvature.centre.tolist()
    ([[2.0, 0.0], [0.0, 3.0]], [2.0])
    """
    params, dtype = working(params, batch)
    n, K = batch.n_features, batch.n_classes

    def moments(tile):
        tile = cast(tile, dtype)
        ones = weighted(tile.weights, jnp.ones(tile.m_examples, dtype))
        return feature_sums(tile.X, ones), total_weight(tile, dtype)

    if centre is None and not batch.intercept:
        centre = jnp.zeros(n, dtype)  # x̃ᵢ = (xᵢ, 0): what has no curvature is left where it is
    if centre is None:
        first, total = sum_over_tiles(moments, batch)
        centre = first / total
    centre = jnp.asarray(centre, dtype)
    whole = K == 2 or (n + 1) * K <= _MOST_PARAMETERS
    k = 1 if K == 2 or not whole else K

    def scatter(tile):
        tile = cast(tile, dtype)
        Z = logits(params, tile.X, tile.offset)
        if whole:
            S = pointwise_loss(K).curvature(Z)
        else:
            a = pointwise_loss(K).probability(Z)
            S = (a * (1 - a)).mean(axis=0)[None, None]
        S = weighted(tile.weights, S)
        last = jnp.full((1, tile.m_examples), batch.intercept, dtype)
        X = jnp.concatenate([tile.X - centre[:, None], last])
        # One class at a time, to hold n·k·t values instead of n·k²·t.
        H = lax.map(lambda S_k: feature_sums(X[:, None] * S_k[None], X), S)
        return H, total_weight(tile, dtype)

    H, total = sum_over_tiles(scatter, batch, values=(n + 1) * (k + 1) + K + k * k)
    return Curvature(jnp.transpose(H / total, (1, 0, 3, 2)), centre)


def preconditioner(curvature: Curvature, penalty: Penalty) -> Callable[[Params], Params]:
    """Return `g → P·g`, with P the inverse of the Hessian with the penalty, `H + l2·diag(f)`.

    Rows and columns are scaled to a unit diagonal before the Cholesky factorisation, so that
    the scales of the features do not matter. Collinear and constant features, and the common
    shift of all classes, leave the matrix singular: as little is added to its diagonal as lets
    the factorisation succeed.

    Args:
        curvature: of the data term.
        penalty: `Penalty(l2, factors)`.

    >>> one = Curvature(jnp.array([3.0, 0.0, 0.0, 0.25]).reshape(2, 1, 2, 1), jnp.array([0.0]))
    >>> P = preconditioner(one, Penalty(l2=1.0))
    >>> [round(a.item(), 4) for a in P(Params(jnp.array([4.0]), jnp.array(1.0)))]
    [1.0, 4.0]
    """
    H, centre = curvature
    dtype, rows, k = H.dtype, H.shape[0], H.shape[1]
    factors = jnp.ones_like(centre) if penalty.factors is None else penalty.factors
    ridge = jnp.asarray(penalty.l2, dtype) * jnp.append(jnp.asarray(factors, dtype), 0)
    A = H.reshape(rows * k, rows * k) + jnp.diag(jnp.repeat(ridge, k))
    if k > 1:
        # A shift common to all classes changes nothing where it is not penalised: hold it fast.
        free = jnp.where(ridge == 0, jnp.trace(H, axis1=1, axis2=3).diagonal() / k**2, 0)
        A = A + jnp.kron(jnp.diag(free), jnp.ones((k, k), dtype))
    eps = jnp.finfo(dtype).eps
    # A constant feature, about its mean, is rounding: the intercept has it already.
    constant = eps * jnp.append(jnp.abs(centre), 0)
    diagonal = jnp.diagonal(A)
    alive = diagonal > jnp.repeat(constant, k) ** 2
    unscale = jnp.where(alive, 1 / jnp.sqrt(jnp.where(alive, diagonal, 1)), 0)
    unit = jnp.eye(rows * k, dtype=dtype)
    A = jnp.where(unit > 0, 1, A * (unscale[:, None] * unscale[None]))

    def failed(carry):
        _, factor = carry
        return ~jnp.isfinite(factor).all()

    def more(carry):
        jitter, _ = carry
        return 8 * jitter, jnp.linalg.cholesky(A + 8 * jitter * unit)

    jitter = jnp.asarray((rows * k) ** 0.5 * eps, dtype)
    # A matrix that is not finite has no factor: the limit ends the loop.
    _, factor = lax.while_loop(
        lambda carry: failed(carry) & (carry[0] < 1), more, (jitter, jnp.full_like(A, jnp.nan))
    )

    # P = L⁻ᵀL⁻¹, positive definite even in rounding; products are cheaper than solves in lanes.
    inverse = linalg.solve_triangular(factor, unit, lower=True) * unscale[None]

    def apply(grad: Params) -> Params:
        w = grad.w - jnp.tensordot(centre, grad.b, axes=0)
        r = jnp.concatenate([w, grad.b[None]])  # (n+1,) or (n+1, K)
        # A shared H has a column for each class; a whole one has the classes in its rows.
        columns = r.reshape(rows * k, -1)
        x = (inverse.T @ (inverse @ columns)).reshape(r.shape)
        w = x[:-1]
        return Params(w, x[-1] - jnp.tensordot(centre, w, axes=1))

    return apply
