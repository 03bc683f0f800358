"""Fits to the rows of splits: every penalty in every split is a lane of one program."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.base.pytrees import Array, Take
from jaxlr.lanes.chunks import Work, chunk_size, run
from jaxlr.lanes.problem import (
    Problem,
    Shared,
    find_path,
    fit_lanes,
    fitted,
    make_problem,
    num_starts,
    share,
)
from jaxlr.model.batch import Batch
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import Solution
from jaxlr.solver.pilot import sees_all


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


def fit_splits(batch: Batch, counts: Array, l2: Array, tol: Array, max_passes: Array) -> Solution:
    """Fit each penalty to each split.

    Args:
        batch: the examples, with an array of weights.
        counts: how often each split has each example, `(F, m)` integers.
        l2: of each split, `(F, P)`: those of the last one, times a factor for each split.
        tol, max_passes: as for `jaxlr.fit`.

    Returns:
        A `Solution` whose leaves have first axes `(F, P)`.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]), jnp.ones(4))
    >>> counts = jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    >>> fit_splits(batch, counts, jnp.full((2, 3), 0.1), 1e-9, 100).params.w.shape
    (2, 3, 1)
    """
    splits, penalties = jnp.shape(l2)
    places = tuple(place.reshape(-1) for place in np.indices((penalties, splits)))
    problem = make_problem(batch, Penalty(l2), folds=counts, tol=tol, max_passes=max_passes)
    size = chunk_size(batch, len(places[0]))
    lanes = run(Work("splits", _share, _splits, None), problem, places, size)
    return jax.tree.map(
        lambda leaf: leaf.reshape(penalties, splits, *leaf.shape[1:]).swapaxes(0, 1), lanes
    )


def _share(problem: Problem, _: None, size: int) -> Shared:
    l2 = problem.penalties.l2[-1]
    kind = "pilot" if _led(problem) else "null" if sees_all(problem.batch) else "sample"
    return share(problem, lambda i: Penalty(l2[i]), l2, size, kind)


def _led(problem: Problem) -> bool:
    """Whether a penalty's pilot, of all examples, leads the fits to each split."""
    l2 = problem.penalties.l2
    return sees_all(problem.batch) and l2.size > num_starts(l2.shape[1], alike=True)


def _splits(problem: Problem, shared: Shared, _: None, places: tuple, size: int) -> Solution:
    batch, l2 = shared.batch, problem.penalties.l2

    def objective(place: tuple) -> tuple[Batch, Penalty]:
        i, split = place
        weights = SplitCounts(problem.folds, split, batch.weights)
        return dataclasses.replace(batch, weights=weights), Penalty(l2[split, i])

    led, pilots, count = _led(problem), None, len(places[0])
    if led:
        pilots = shared.penalties, jnp.full(len(shared.penalties), len(l2) - 1)
    path = find_path(problem, shared, l2[-1], led, count, len(l2), size)
    which = shared.which[places[0]]
    return fit_lanes(problem, shared, objective, places, which, size, fitted, pilots, path=path)
