"""An upper bound on how far parameters are from the optimum, from one pass over X.

The objective is `F(w, b) = Σ cᵢ(lse(zᵢ) − yᵢᵀzᵢ)/S + ½·l2·Σⱼ fⱼ‖wⱼ‖²` with `S = Σ cᵢ` and
`lse` the log of the sum of exponentials. For any distribution p over the classes
`lse(z) ≥ pᵀz + entropy(p)`, with equality at `p = softmax(z)`. Put distributions p'ᵢ there. What
remains is linear in b, and bounded from below only if

    Σ cᵢp'ᵢ = Σ cᵢyᵢ,                                                              (1)

and quadratic in w, with a minimum in closed form. So any p' with (1) gives a number D(p') that
no value of F is below, and `F(w, b) − D(p')` bounds the suboptimality of (w, b). Written out,
everything that nearly cancels is gone, and two terms that are not negative remain:

    F(w, b) − D(p') = Σ cᵢ KL(p'ᵢ ‖ pᵢ)/S + Σⱼ ‖Gⱼ‖²/(2·l2·fⱼ)
    G = X (c ⊙ (P' − Y))ᵀ/S + l2·f ⊙ w,    pᵢ = softmax(zᵢ).

For p' mix one distribution q into all examples, `p'ᵢ = (1−t)·pᵢ + t·q`. With the weighted means
p̄ and ȳ, (1) asks for `q = p̄ + (ȳ − p̄)/t`, and `q ≥ 0` for `t ≥ maxₖ (p̄ₖ − ȳₖ)/p̄ₖ`, which is at
most 1. At an optimum in b, `p̄ = ȳ` and t = 0: p' = p, and G is the gradient. For t > 0

    KL(p' ‖ p) ≤ min(t·KL(q ‖ p), t²·χ²(q ‖ p)),

the first since KL is convex in its first argument, the second since KL ≤ χ² and p' − p is
t·(q − p). KL(q ‖ p) is the loss under the soft label q, less the entropy of q.

Binary is K = 2 with the logits (0, z).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlr.linear import feature_sums, logits
from jaxlr.losses import pointwise_loss
from jaxlr.tiles import by_lanes, cast, sum_over_tiles, total_weight, weighted, working
from jaxlr.types import Array, Batch, Params, Penalty, ridge


class Certificate(NamedTuple):
    """What one pass over X proves about parameters.

    Args:
        suboptimality: an upper bound on `loss − optimum`, `()`; infinite where none is known.
        unbounded: whether there is no finite optimum, `()`: a class has no examples, or nothing
            is penalised and every example is on the side of its label; or a penalty or a weight
            is negative, where the objective is not convex.
    """

    suboptimality: Array
    unbounded: Array


@jax.jit
def certify(params: Params, batch: Batch, penalty: Penalty, grad_b: Array) -> Certificate:
    """Return an upper bound on `loss(params) − optimum`, and whether there is no optimum.

    The bound needs a penalty on every feature. It holds in exact arithmetic: its rounding is
    relative to itself and to that of the gradient.

    Args:
        params: the parameters of one lane.
        batch, penalty: the objective.
        grad_b: db, the gradient's intercept at params, `()` or `(K,)`.

    Returns:
        A `Certificate`.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> zero = Params(jnp.zeros(1), jnp.array(0.0))
    >>> bool(certify(zero, batch, Penalty(l2=1.0), jnp.array(-1 / 6)).suboptimality > 0.1)
    True
    """
    params, dtype = working(params, batch)
    n, K = batch.n_features, batch.n_classes
    rarest, t, q, entropy = _mixture(batch, grad_b, dtype)
    pointwise = pointwise_loss(K)

    def of_tile(known, tile, lanes):
        params, t, q, entropy = known
        tile = cast(tile, dtype)
        Z, Y = logits(params, tile.X, tile.offset), tile.y
        value, residual = pointwise.value_and_residual(Z, Y)
        P = pointwise.probability(Z)
        under_q, _ = pointwise.value_and_residual(Z, jnp.broadcast_to(q, Z.shape))
        square = (q - P) ** 2
        if K == 2:
            chi2 = _ratio(square, pointwise.curvature(Z)[0, 0])  # 1/a + 1/(1−a) is 1/s
            hard = (Y == 0) | (Y == 1)
        else:
            chi2 = _ratio(square, P).sum(axis=0)
            hard = Y.max(axis=0) == 1
        kl = jnp.minimum(t * jnp.maximum(under_q - entropy, 0), t**2 * chi2)
        unsure = ~(hard & (value < math.log(2)))
        return (
            feature_sums(tile.X, weighted(tile.weights, residual + t * (q - P)), lanes),  # p' − y
            weighted(tile.weights, jnp.where(t > 0, kl, 0)).sum(),
            weighted(tile.weights, unsure.astype(dtype)).sum(),
            (weighted(tile.weights, jnp.ones_like(value)) < 0).astype(dtype).sum(),
            total_weight(tile, dtype),
        )

    def over_examples(known, batch, sums, lanes):
        return sums(lambda tile: of_tile(known, tile, lanes), batch, n + 2 * K)

    known = params, t, q, entropy
    G, kl, unsure, negative, total = by_lanes(over_examples)(known, batch)
    l2 = ridge(penalty, n, dtype).reshape(-1, *[1] * (params.w.ndim - 1))
    G = G / total + l2 * params.w
    quadratic = jnp.where(l2 > 0, G**2 / (2 * jnp.where(l2 > 0, l2, 1)), jnp.inf)
    quadratic = jnp.where((l2 == 0) & (G == 0), 0, quadratic)
    separated = (unsure == 0) & (l2 == 0).all()
    not_convex = (negative > 0) | (l2 < 0).any()
    missing = (rarest == 0) & batch.intercept  # its intercept falls for ever
    return Certificate(kl / total + quadratic.sum(), missing | separated | not_convex)


def _mixture(batch: Batch, grad_b: Array, dtype) -> tuple[Array, Array, Array, Array]:
    """Return the least mixture with one distribution that gives the class totals.

    That is: a number that is 0 where a class has no examples; t; q, as labels are; its entropy.
    """

    def totals(tile):
        tile = cast(tile, dtype)
        other = weighted(tile.weights, 1 - tile.y).sum(axis=-1)  # exactly 0 if all have the class
        return weighted(tile.weights, tile.y).sum(axis=-1), other, total_weight(tile, dtype)

    own, other, total = sum_over_tiles(totals, batch)
    rarest = jnp.minimum(own, other).min()
    y, excess = own / total, jnp.asarray(grad_b, dtype)  # p̄ − ȳ is the gradient's db
    p = y + excess
    t = excess / jnp.where(p > 0, p, 1)
    if y.ndim == 0:
        # Of two classes q is the one that p̄ has too little of.
        t = jnp.maximum(t, -excess / jnp.where(p < 1, 1 - p, 1))
        return rarest, t, (excess <= 0).astype(dtype), jnp.zeros((), dtype)
    t = jnp.maximum(t.max(), 0)
    q = jnp.where(t > 0, p - excess / jnp.where(t > 0, t, 1), p)
    q = jnp.maximum(q, 0)
    entropy = -jnp.where(q > 0, q * jnp.log(jnp.where(q > 0, q, 1)), 0).sum()
    return rarest, t, q[:, None], entropy


def _ratio(a: Array, b: Array) -> Array:
    """Return a/b for numbers that are not negative, where 0/0 is 0 and a/0 is infinite."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), jnp.where(a > 0, jnp.inf, 0))
