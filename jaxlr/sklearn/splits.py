"""Fits to the rows of splits: every penalty in every split is a lane of one program."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlr.curvature import Curvature
from jaxlr.fit import fit
from jaxlr.lanes import Work, chunk_size, lane_of, run
from jaxlr.pilot import Pilot, make_pilot
from jaxlr.types import Array, Batch, Params, Penalty, Solution, Take
from jaxlr.wide import back, narrow


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class SplitCounts:
    """The weights of the examples, each times how often a split has it. A `LazyWeights`.

    Splits may overlap and may have an example several times, unlike folds. Under `jax.vmap` over
    `split`, a lane costs one integer.

    Args:
        counts: how often each split has each example, `(F, m)` integers.
        split: which split, `()`.
        weights: of the examples, `(m,)`.

    >>> counts = jnp.array([[1, 1, 0], [0, 2, 1]])
    >>> SplitCounts(counts, jnp.array(1), jnp.array([5.0, 3.0, 1.0])).select(lambda a: a).tolist()
    [0.0, 6.0, 1.0]
    """

    counts: Array
    split: Array
    weights: Array

    def select(self, take: Take) -> Array:
        """Return the weights of the examples that `take` picks."""
        return take(self.counts)[self.split] * take(self.weights)


class _Problem(NamedTuple):
    batch: Batch
    counts: Array
    l2: Array
    tol: Array
    max_passes: Array


class _Shared(NamedTuple):
    batch: Batch
    Q: Array | None
    pilots: Pilot


def fit_splits(batch: Batch, counts: Array, l2: Array, tol: Array, max_passes: Array) -> Solution:
    """Fit each penalty to each split.

    Args:
        batch: the examples, with an array of weights.
        counts: how often each split has each example, `(F, m)` integers.
        l2: of each split, `(F, P)`.
        tol, max_passes: as for `jaxlr.fit`.

    Returns:
        A `Solution` whose leaves have first axes `(F, P)`.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]), jnp.ones(4))
    >>> counts = jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    >>> fit_splits(batch, counts, jnp.full((2, 3), 0.1), 1e-9, 100).params.w.shape
    (2, 3, 1)
    """
    shape = jnp.shape(l2)
    places = tuple(place.reshape(-1) for place in jnp.indices(shape))
    problem = _Problem(batch, counts, l2, tol, max_passes)
    size = chunk_size(batch, len(places[0]))
    lanes = run(Work(_share, _lane, None), problem, places, size)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), lanes)


def _share(problem: _Problem, _: None) -> _Shared:
    batch, Q = narrow(problem.batch, Penalty())
    lanes = Pilot(Params(0, 0), Curvature(0, None))  # pyright: ignore[reportArgumentType]
    # A penalty's pilot, of all examples, serves the fits to each split.
    pilots = jax.vmap(lambda l2: make_pilot(batch, Penalty(l2)), out_axes=lanes)(problem.l2[-1])
    return _Shared(batch, Q, pilots)


def _lane(problem: _Problem, shared: _Shared, _: None, place: tuple[Any, Any]) -> Solution:
    (batch, Q, (params, (H, centre))), (split, i) = shared, place
    weights = SplitCounts(problem.counts, split, batch.weights)
    solution = fit(
        dataclasses.replace(batch, weights=weights),
        Penalty(problem.l2[split, i]),
        init=lane_of(params, i),
        curvature=Curvature(H[i], centre),
        tol=problem.tol,
        max_passes=problem.max_passes,
    )
    return solution._replace(params=back(Q, solution.params))
