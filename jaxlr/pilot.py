"""A fit to a sample of the examples: where a fit to all of them starts, and its curvature.

A sample of s examples out of many has an optimum that lies within the statistical error, n/s in
the loss, of that of all examples, and a Hessian that differs from theirs by a factor of about
1 ± √(n/s). From there each pass over all examples brings two to three digits. A pass over the
sample is cheap, and in a sweep one pilot serves all folds and resamples of its penalty.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.curvature import Curvature, make_curvature
from jaxlr.solve import solve
from jaxlr.tiles import cast, sum_over_tiles, total_weight, weighted
from jaxlr.types import Batch, Params, Penalty, Status, init_params

_EXAMPLES_A_FEATURE = 128
_FEWEST = 8192
_PASSES = 40  # a sample that takes longer is nearly separable, and misleads
_TOL = 1e-5  # below the statistical error of any sample


class Pilot(NamedTuple):
    """Where lanes start.

    Args:
        params: the optimum of the sample; the null model where none was found.
        curvature: of the sample's loss, there.
    """

    params: Params
    curvature: Curvature


@jax.jit
def null_model(batch: Batch) -> Params:
    """Return zero weights and the intercept that fits the class frequencies, `log ȳ`.

    That is the optimum under an infinite penalty when there is no offset. A class without
    examples counts as half of one. All zero where the batch has no intercept.

    >>> batch = Batch(jnp.ones((1, 4)), jnp.array([0, 0, 0, 1]))
    >>> f"{null_model(batch).b:.4f}"
    '-1.0986'
    """
    dtype = jnp.result_type(batch.X, jnp.float32)
    zero = init_params(batch.n_features, batch.n_classes, dtype)
    if not batch.intercept:
        return zero

    def totals(tile):
        tile = cast(tile, dtype)
        return weighted(tile.weights, tile.y).sum(axis=-1), total_weight(tile, dtype)

    y, total = sum_over_tiles(totals, batch)
    least = 0.5 / batch.m_examples
    y = jnp.clip(y / total, least, 1 - least)
    b = jnp.log(y) - (jnp.log1p(-y) if y.ndim == 0 else jnp.log(y).mean())
    return zero._replace(b=b)


def sample_size(batch: Batch) -> int:
    """Return how many examples a pilot sees: all, where they are few.

    >>> sample_size(Batch(jnp.ones((10, 50)), jnp.ones(50)))
    50
    """
    size = max(_FEWEST, _EXAMPLES_A_FEATURE * batch.n_features * (batch.n_classes - 1))
    return size if 4 * size <= batch.m_examples else batch.m_examples


def sample(batch: Batch) -> Batch:
    """Return the examples that a pilot sees: one at random from each of equal stretches.

    Sorted examples and examples with a period are sampled fairly; the draw is always the same.

    >>> sample(Batch(jnp.ones((1, 40_000)), jnp.ones(40_000))).m_examples
    8192
    """
    size, m = sample_size(batch), batch.m_examples
    if size == m:
        return batch
    places = (np.arange(size) + np.random.default_rng(0).random(size)) * (m / size)
    places = np.minimum(places.astype(np.int32), m - 1)
    return batch.select(lambda a: jnp.take(a, places, axis=-1))


@jax.jit
def make_pilot(batch: Batch, penalty: Penalty) -> Pilot:
    """Fit a sample of the examples, and return where a fit to all of them starts.

    Args:
        batch: the examples.
        penalty: `Penalty(l2, factors)`.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> pilot = make_pilot(batch, Penalty(l2=0.1))
    >>> f"{pilot.params.w[0]:.2f}"
    '0.63'
    """
    batch = sample(batch)
    null = null_model(batch)
    end = solve(
        batch, penalty, null, make_curvature(null, batch), null, tol=_TOL, max_passes=_PASSES
    )
    found = end.status <= Status.PRECISION_REACHED
    params = jax.tree.map(lambda a, b: jnp.where(found, a, b), end.params, null)
    # A sample without weight has neither a null model nor a curvature.
    params = jax.tree.map(jnp.nan_to_num, params)
    return Pilot(params, _or_identity(make_curvature(params, batch)))


def _or_identity(curvature: Curvature) -> Curvature:
    """Return a curvature that is finite."""
    H, centre = curvature
    identity = jnp.eye(H.shape[-1], dtype=H.dtype)
    return Curvature(jnp.where(jnp.isfinite(H).all(), H, identity / 4), jnp.nan_to_num(centre))
