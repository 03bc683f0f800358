"""A fit to a sample of the examples: where a fit to all of them starts, and its curvature.

A sample of s examples out of many has an optimum that lies within the statistical error, n/s in
the loss, of that of all examples, and a Hessian that differs from theirs by a factor of about
1 ± √(n/s). From there each pass over all examples brings two to three digits. A pass over the
sample is cheap, and in a sweep one pilot serves all folds and resamples of its penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch, Params
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import Status
from jaxlr.model.thinned import thinned
from jaxlr.solver import minimize
from jaxlr.solver.curvature import Curvature, factorise, is_blind, is_low_rank, make_curvature
from jaxlr.solver.minimize import Search
from jaxlr.solver.null import start_model
from jaxlr.solver.solve import Task, functions, solve, unravel_params

_EXAMPLES_A_FEATURE = 128
_FEWEST = 8192
# A sample that takes longer is nearly separable, and misleads.
_PASSES, _ROUNDS = 10, 4  # passes in a round
_TOL = 1e-5  # below the statistical error of any sample


class Starts(NamedTuple):
    """Where lanes can start; each lane has one of them.

    Args:
        params: leaves with a first axis of starts.
        L: of the factors of P there, `(starts, B, r, r)`.
        blind: whether there is none, or one that misses what the examples see, `(starts,)`.
    """

    params: Params
    L: Array
    blind: Array


class Pilot(NamedTuple):
    """Where lanes start.

    Args:
        params: the optimum of the sample; the null model where none was found.
        curvature: of the sample's loss, there.
    """

    params: Params
    curvature: Curvature


def sample_size(batch: Batch) -> int:
    """Return how many examples a pilot sees: all, where they are few.

    >>> sample_size(Batch(jnp.ones((10, 50)), jnp.ones(50)))
    50
    """
    size = max(_FEWEST, _EXAMPLES_A_FEATURE * batch.n_features * (batch.n_classes - 1))
    return size if 4 * size <= batch.m_examples else batch.m_examples


def sees_all(batch: Batch) -> bool:
    """Whether a pilot sees all examples, since they are few.

    >>> sees_all(Batch(jnp.ones((10, 50)), jnp.ones(50)))
    True
    """
    return sample_size(batch) == batch.m_examples


def sample(batch: Batch) -> Batch:
    """Return the examples that a pilot sees.

    >>> sample(Batch(jnp.ones((1, 40_000)), jnp.ones(40_000))).m_examples
    8192
    """
    return thinned(batch, sample_size(batch))


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
    null = start_model(batch)
    end, _ = solve(
        batch, penalty, null, make_curvature(null, batch), tol=_TOL, max_passes=_ROUNDS * _PASSES
    )
    found = end.status <= Status.PRECISION_REACHED
    params = jax.tree.map(lambda a, b: jnp.where(found, a, b), end.params, null)
    # A sample without weight has neither a null model nor a curvature.
    params = jax.tree.map(jnp.nan_to_num, params)
    return Pilot(params, finite_curvature(params, batch))


def fit_samples(
    batch: Batch, penalty: Callable[[Array], Penalty], starts: Starts, centre: Array
) -> Starts:
    """Return the optimum of a sample for each of many penalties, with the factor of P there.

    In rounds: after each of them the factor is made anew, where it is.

    Args:
        batch: the sample.
        penalty: `i → Penalty`.
        starts: where the search for each optimum begins, and where it is left if it is not found.
        centre: of the factors.
    """
    numbers, dtype = jnp.arange(len(starts.L)), starts.L.dtype
    task = Task(centre, jnp.asarray(_TOL, dtype), jnp.int32(_PASSES))
    x, unravel = jax.vmap(lambda a: ravel_pytree(a)[0])(starts.params), unravel_params(batch, dtype)

    def step(search: Search, L: Array, i: Array) -> Search:
        return minimize.advance(search, *functions(L, batch, penalty(i), task), task.tol)

    def running(searches: Search) -> Array:
        return (searches.status == minimize.RUNNING) & (searches.num_passes < task.max_passes)

    def factor(x: Array, i: Array) -> tuple[Array, Array]:
        return factorise_at(finite_curvature(unravel(x), batch, centre), penalty(i))

    def one_round(carry: tuple) -> tuple:
        k, searches, L, _ = carry
        searches = jax.vmap(minimize.restart)(searches, searches.x)
        searches = searches._replace(num_passes=jnp.zeros_like(searches.num_passes))
        # A loop for all of them: `advance` leaves alone those that have ended.
        searches = lax.while_loop(
            lambda s: running(s).any(), lambda s: jax.vmap(step)(s, L, numbers), searches
        )
        return k + 1, searches, *jax.vmap(factor)(searches.x, numbers)

    def unfinished(carry: tuple) -> Array:
        k, searches, *_ = carry
        return (k < _ROUNDS) & (searches.status == minimize.RUNNING).any()

    first = 0, jax.vmap(minimize.start)(x), starts.L, starts.blind
    _, searches, L, blind = lax.while_loop(unfinished, one_round, first)
    found = (searches.status >= 0) & (searches.status <= Status.PRECISION_REACHED)
    here = Starts(jax.vmap(unravel)(searches.x), L, blind)
    return jax.tree.map(
        lambda a, b: jnp.where(found.reshape(-1, *[1] * (a.ndim - 1)), a, b), here, starts
    )


def factorise_at(curvature: Curvature, penalty: Penalty) -> tuple[Array, Array]:
    """Return the factor of P, and whether it misses an unpenalised feature."""
    return factorise(curvature, penalty).L, is_blind(curvature, penalty)


def finite_curvature(params: Params, batch: Batch, centre: Array | None = None) -> Curvature:
    """Return `make_curvature(params, batch, centre)`, or an identity where that is not finite."""
    H, mean = make_curvature(params, batch, centre)
    if is_low_rank(H):
        instead = jnp.zeros_like(H).at[:, 0].set(1)
    else:
        instead = jnp.eye(H.shape[-1], dtype=H.dtype)
    return Curvature(jnp.where(jnp.isfinite(H).all(), H, instead / 4), jnp.nan_to_num(mean))
