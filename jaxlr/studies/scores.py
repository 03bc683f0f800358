"""How well parameters predict examples, such as those that a fit has not seen."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base.pytrees import Array
from jaxlr.base.rules import is_fixed, jvp_of_perturbed
from jaxlr.model.batch import Batch, Params
from jaxlr.model.linear import logits
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.passes import cast, sum_over_tiles, total_weight, weighted, working
from jaxlr.model.penalty import Penalty
from jaxlr.model.shapes import check_shapes
from jaxlr.model.solution import Solution
from jaxlr.solver.certificate import certify_and_sum
from jaxlr.solver.fit import lifted, solution_of
from jaxlr.solver.implicit import as_optimum
from jaxlr.solver.solve import End
from jaxlr.solver.wide import Basis


class Scores(NamedTuple):
    """How well parameters predict examples: leaves of the shape of the lanes.

    Args:
        log_loss: weighted mean of the loss, in nats.
        accuracy: weighted share of examples whose most likely class is the label's.
    """

    log_loss: Array
    accuracy: Array


@jax.jit
def score(params: Params, batch: Batch) -> Scores:
    """Return the weighted log loss and accuracy of one lane, from one pass over X.

    A soft label gives credit to the predicted class as far as it goes.

    >>> batch = Batch(jnp.array([[1.0, 2.0, -3.0]]), jnp.array([1, 0, 0]))
    >>> f"{score(Params(jnp.array([9.0]), jnp.array(0.0)), batch).accuracy:.3f}"
    '0.667'
    """
    check_shapes(params, batch)
    params, _ = working(params, batch)
    return _means(sum_over_tiles(lambda tile: _sums(params, tile), batch))


def certified_and_scored(
    batch: Batch, inside: Batch, penalty: Penalty, end: End, Q: Basis | None
) -> tuple[Solution, Scores]:
    """Return the solution as `fit.certified` does, and its scores, with their derivatives.

    The scores come from the pass over X that proves the bound.

    Args:
        batch, penalty: the objective.
        inside: the same examples, with the weights of those to score on.
        end, Q: as for `fit.certified`.
    """
    fixed, weights, rest = lax.stop_gradient((batch, inside.weights, (penalty, end, Q)))
    there, rounding = lifted(fixed, *rest)
    certificate, sums = certify_and_sum(there.params, fixed, rest[0], there.grad.b, weights, _sums)
    solution = as_optimum(solution_of(there, certificate, rounding), None, batch, penalty)
    return solution, _known(_means(sums), solution.params, inside)


@jax.custom_jvp
def _known(scores: Scores, params: Params, batch: Batch) -> Scores:
    """Return the scores, which are those of params on the batch."""
    return scores


def _known_jvp(primals: tuple, tangents: tuple) -> tuple[Scores, Scores]:
    _, params, batch = primals
    scores = _known(*primals)  # not the argument: a derivative of this one would see it fixed
    if is_fixed(tangents[1:]):
        return scores, jax.tree.map(jnp.zeros_like, scores)
    return scores, jvp_of_perturbed(score, (params, batch), tuple(tangents[1:]))[1]


_known.defjvp(_known_jvp, symbolic_zeros=True)


def _sums(params: Params, tile: Batch) -> tuple[Array, Array, Array]:
    """Return `Σ cᵢℓᵢ`, the sum of the weights of right predictions, and `Σ cᵢ`."""
    dtype = params.w.dtype
    tile = cast(tile, dtype)
    Z, Y = logits(params, tile.X, tile.offset), tile.y
    value, _ = pointwise_loss(tile.n_classes).value_and_residual(Z, Y)
    right = credit(Z, Y, value)
    value, right = weighted(tile.weights, value), weighted(tile.weights, right)
    return value.sum(), right.sum(), total_weight(tile, dtype)


def _means(sums: tuple[Array, Array, Array]) -> Scores:
    value, right, total = sums
    return Scores(value / total, right / total)


def credit(Z: Array, Y: Array, value: Array) -> Array:
    """Return the label's probability of the most likely class, `(m,)`; NaN where the loss is."""
    if Z.ndim == 1:
        right = jnp.where(Z > 0, Y, 1 - Y)
    else:
        right = jnp.take_along_axis(Y, Z.argmax(axis=0)[None], axis=0)[0]
    return jnp.where(jnp.isnan(value), jnp.nan, right)
