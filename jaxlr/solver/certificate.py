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

Binary is K = 2 with the logits (0, z), and q one of the two classes. With v = ∓z the log-odds of
the other one, `KL(q ‖ p) = log(1 + eᵛ) ≤ max(v, 0) + log 2` and `χ²(q ‖ p) = (1 − p_q)/p_q = eᵛ`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlr.base.pytrees import Array, LazyWeights, Take
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import feature_sums
from jaxlr.model.linear import logits
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.passes import by_lanes, cast, sum_over_tiles, weighted, working
from jaxlr.model.penalty import Penalty, conjugate_of, gradient_of, ridge
from jaxlr.model.shapes import check_shapes


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
    check_shapes(params, batch, penalty)
    return certify_and_sum(params, batch, penalty, grad_b, None, lambda *_: ())[0]


def certify_and_sum(
    params: Params,
    batch: Batch,
    penalty: Penalty,
    grad_b: Array,
    weights: LazyWeights | None,
    fun: Callable[[Params, Batch], Any],
) -> tuple[Certificate, Any]:
    """Return what `certify` does, and other sums over the examples from the same pass.

    Args:
        params, batch, penalty, grad_b: as for `certify`.
        weights: the weights that fun sees in the place of the batch's, which are lazy as well;
            None: it is not called.
        fun: `(params, tile) → sums`, and the sums of all tiles are returned.
    """
    params, dtype = working(params, batch)
    n, K = batch.n_features, batch.n_classes
    totals, mixture = _mixture(batch, grad_b, dtype)
    both = weights is not None  # the array itself would be kept by a rule of vmap: a leak for JAX
    if both:
        batch = dataclasses.replace(batch, weights=_Both(batch.weights, weights))

    def over_examples(known, batch, sums, lanes):
        params, mixture = known

        def of_tile(tile):
            if not both:
                return _proof(params, mixture, tile, lanes), ()
            mine, other = (dataclasses.replace(tile, weights=c) for c in tile.weights)
            return _proof(params, mixture, mine, lanes), fun(params, other)

        return sums(of_tile, batch, n + 2 * K)

    (G, kl, unsure), others = by_lanes(over_examples)((params, mixture), batch)
    l2 = ridge(penalty, n, dtype)
    G = G / totals.all + gradient_of(penalty, params.w)
    separated = (unsure == 0) & (l2 == 0).all()
    not_convex = (totals.negative > 0) | (l2 < 0).any()
    missing = (totals.rarest == 0) & batch.intercept  # its intercept falls for ever
    bound = kl / totals.all + conjugate_of(penalty, G)
    return Certificate(bound, missing | separated | not_convex), others


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class _Both:
    """Two weights for each example, `(2, m)`."""

    one: LazyWeights
    other: LazyWeights

    def select(self, take: Take) -> Array:
        return jnp.stack([self.one.select(take), self.other.select(take)])


class _Mixture(NamedTuple):
    t: Array
    q: Array  # as labels are
    entropy: Array  # of q


class _Totals(NamedTuple):
    all: Array  # Σ cᵢ
    rarest: Array  # 0 where a class has no examples
    negative: Array  # how many weights are


def _proof(params: Params, mixture: _Mixture, tile: Batch, lanes: int) -> tuple[Array, ...]:
    """Return `X (c ⊙ (P' − Y))ᵀ`, a bound on `Σ cᵢ KL(p'ᵢ ‖ pᵢ)`, and `Σ cᵢ` of unsure examples.

    They are those whose label is soft, or has not more than half of the probability.
    """
    t, q, entropy = mixture
    pointwise = pointwise_loss(tile.n_classes)
    tile = cast(tile, params.w.dtype)
    Z, Y = logits(params, tile.X, tile.offset), tile.y
    _, residual = pointwise.value_and_residual(Z, Y)
    if tile.n_classes == 2:
        v = jnp.where(q > 0, -Z, Z)  # log-odds of the class that q is not
        kl, chi2 = jnp.maximum(v, 0) + math.log(2), jnp.exp(v)
        rounding = jnp.finfo(Z.dtype).eps
        sure = jnp.where(Z > 0, Y == 1, Y == 0) & (jnp.abs(Z) > rounding)
    else:
        P = pointwise.probability(Z)
        under_q, _ = pointwise.value_and_residual(Z, jnp.broadcast_to(q, Z.shape))
        kl, chi2 = jnp.maximum(under_q - entropy, 0), _ratio((q - P) ** 2, P).sum(axis=0)
        sure = (Y.max(axis=0) == 1) & ((Y * P).sum(axis=0) > 0.5)
    kl = t * jnp.minimum(kl, t * chi2)
    return (
        # p' − y, with p' − p = t·(q − p) and p = y + residual
        feature_sums(tile.X, weighted(tile.weights, (1 - t) * residual + t * (q - Y)), lanes),
        weighted(tile.weights, jnp.where(t > 0, kl, 0)).sum(),
        weighted(tile.weights, (~sure).astype(Z.dtype)).sum(),
    )


def _mixture(batch: Batch, grad_b: Array, dtype) -> tuple[_Totals, _Mixture]:
    """Return sums of weights, and the least mixture with one distribution of the class totals."""

    def sums(tile):
        tile = cast(tile, dtype)
        c = jnp.ones(tile.m_examples, dtype) if tile.weights is None else tile.weights
        # The weight outside a class by itself: it is exactly 0 if all have the class.
        both = jnp.tensordot(c, jnp.stack([tile.y, 1 - tile.y]), (-1, -1), precision="highest")
        return both, (c < 0).astype(dtype).sum()

    (own, other), negative = sum_over_tiles(sums, batch)
    total = (own + other).reshape(-1)[0]
    totals = _Totals(total, jnp.minimum(own, other).min(), negative)
    y, excess = own / total, jnp.asarray(grad_b, dtype)  # p̄ − ȳ is the gradient's db
    p = y + excess
    t = excess / jnp.where(p > 0, p, 1)
    if y.ndim == 0:
        # Of two classes q is the one that p̄ has too little of.
        t = jnp.maximum(t, -excess / jnp.where(p < 1, 1 - p, 1))
        return totals, _Mixture(t, (excess <= 0).astype(dtype), jnp.zeros((), dtype))
    t = jnp.maximum(t.max(), 0)
    q = jnp.where(t > 0, p - excess / jnp.where(t > 0, t, 1), p)
    q = jnp.maximum(q, 0)
    entropy = -jnp.where(q > 0, q * jnp.log(jnp.where(q > 0, q, 1)), 0).sum()
    return totals, _Mixture(t, q[:, None], entropy)


def _ratio(a: Array, b: Array) -> Array:
    """Return a/b for numbers that are not negative, where 0/0 is 0 and a/0 is infinite."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), jnp.where(a > 0, jnp.inf, 0))
