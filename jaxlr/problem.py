"""What the lanes of a sweep share: the examples, the penalties, and what is made of them once."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from jaxlr.curvature import Curvature
from jaxlr.fit import fit
from jaxlr.lanes import lane_of
from jaxlr.pilot import Pilot, make_pilot
from jaxlr.types import Array, Batch, Params, Penalty, Solution
from jaxlr.wide import back, into, narrow


class Problem(NamedTuple):
    """What the lanes of a sweep share, besides what is made of it.

    Args:
        batch: the examples.
        penalties: a penalty for each lane, or one for all.
        init: where to start, or None for the pilot.
        folds: the fold number of each example, `(m,)`, or splits, `(F, m)`, or None.
        tol, max_passes: as for `fit`.
    """

    batch: Batch
    penalties: Penalty
    init: Params | None
    folds: Array | None
    tol: Array | None
    max_passes: Array | int

    def penalty(self, axes: tuple, i: Array) -> Penalty:
        """Return the penalty of lane i; axes are those of l2 and factors that are lanes."""
        l2, factors = self.penalties
        return Penalty(l2[i], factors if factors is None or axes[1] is None else factors[i])

    def fit(self, batch: Batch, penalty: Penalty, pilot: Pilot) -> Solution:
        """Return the fit of one lane, from a pilot."""
        start = pilot.params if self.init is None else self.init
        options = {"tol": self.tol, "max_passes": self.max_passes}
        return fit(batch, penalty, init=start, curvature=pilot.curvature, **options)


class Shared(NamedTuple):
    """What is made once for all lanes: a narrow batch with its Q and start, and pilots."""

    batch: Batch
    Q: Array | None
    init: Params | None
    pilots: Pilot


def narrowed(problem: Problem) -> tuple[Batch, Array | None, Params | None]:
    """Return the batch with no more features than examples, Q, and the start: see `wide`."""
    batch, Q = narrow(problem.batch, problem.penalties)
    return batch, Q, None if problem.init is None else into(Q, problem.init)


def pilots_of(batch: Batch, penalties: Penalty, axes: tuple) -> Pilot:
    """Return the pilot of each penalty; they share the centre of their curvatures."""

    def pilot(l2, factors):
        return make_pilot(batch, Penalty(l2, factors))

    lanes = Pilot(Params(0, 0), Curvature(0, None))  # pyright: ignore[reportArgumentType]
    return jax.vmap(pilot, axes, lanes)(penalties.l2, penalties.factors)


def pilot_of(pilots: Pilot, i: Array) -> Pilot:
    """Return the pilot of penalty i."""
    params, (H, centre) = pilots
    return Pilot(lane_of(params, i), Curvature(H[i], centre))


def with_weights(batch: Batch, weights: Any) -> Batch:
    """Return the batch with other weights of its examples."""
    return dataclasses.replace(batch, weights=weights)


def lifted(Q: Array | None, solution: Solution) -> Solution:
    """Return the solution for the batch as it was before it was made narrow."""
    return solution._replace(params=back(Q, solution.params))
