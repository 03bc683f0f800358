"""What the lanes of a sweep share: the examples, the penalties, and what is made of them once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.lanes.chunks import in_chunks, run_lanes
from jaxlr.lanes.engine import Path, rough, solve_lanes
from jaxlr.model.batch import Batch, Params
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import Solution
from jaxlr.solver.curvature import Curvature
from jaxlr.solver.fit import certified, default_tolerance, no_worse
from jaxlr.solver.implicit import as_optimum
from jaxlr.solver.null import start_model
from jaxlr.solver.pilot import (
    Starts,
    factorise_at,
    finite_curvature,
    fit_samples,
    sample,
    sees_all,
)
from jaxlr.solver.separation import judged, may_be_unpenalised
from jaxlr.solver.solve import End, Task
from jaxlr.solver.wide import Basis, into, narrow

_STARTS = 16
_NEXT = 8  # leaders that a lane begins between
_WILD = 32  # sum of sizes of a polynomial's weights; at most some 11 between even nodes
# Where the penalty of P is another than that of the lane by more than this, the lane makes a P of
# its own: the decrement would be too small by as much as P's is stronger, or, where it is weaker,
# as the scale that L-BFGS gives P shrinks what P says of the intercept.
_NEAR = 5


class Problem(NamedTuple):
    """What the lanes of a sweep share, besides what is made of it.

    Args:
        batch: the examples.
        penalties: a penalty for each lane, or one for all.
        init: where to start, or None for the pilot.
        folds: the fold number of each example, `(m,)`, or splits, `(F, m)`, or None.
        tol, max_passes: as for `fit`.
        judge: an empty tuple to look for separation, which takes a penalty of 0; else None. It is
            part of the tree's structure, and so known when tracing.
    """

    batch: Batch
    penalties: Penalty
    init: Params | None
    folds: Array | None
    tol: Array | None
    max_passes: Array | int
    judge: tuple[()] | None

    def penalty(self, axes: tuple, i: Array) -> Penalty:
        """Return penalty i; axes are those of l2 and factors that are lanes."""
        l2, factors = self.penalties
        return Penalty(l2[i], factors if factors is None or axes[1] is None else factors[i])


def make_problem(
    batch: Batch,
    penalties: Penalty,
    *,
    tol: Array | None,
    max_passes: Array | int,
    init: Params | None = None,
    folds: Array | None = None,
) -> Problem:
    """Return a problem; its arguments are those of `Problem`."""
    judge = () if may_be_unpenalised(penalties) else None
    return Problem(batch, penalties, init, folds, tol, max_passes, judge)


class Shared(NamedTuple):
    """What is made once for all lanes: a narrow batch with its Q, and where lanes start.

    Args:
        curvature: for lanes whose start has no P, or None: see `solve_lanes`.
        penalties: of each start, which of the penalties it is made with, integers.
        l2: of these penalties.
        which: of each penalty, at which start its lanes begin, integers.
    """

    batch: Batch
    Q: Basis | None
    starts: Starts
    centre: Array
    curvature: Curvature | None
    penalties: Array
    l2: Array
    which: Array


def share(
    problem: Problem,
    penalty: Callable[[Array], Penalty],
    l2: Array,
    size: int,
    kind: Literal["null", "pilot", "sample"],
    alike: bool = True,
) -> Shared:
    """Return what all lanes share.

    Neighbours among the penalties share a start: the middle one of them makes it, and of the
    weakest ones the weakest, so that the others lie between penalties that make one.

    Args:
        problem: the problem.
        penalty: penalty i.
        l2: of all penalties, `(P,)`.
        size: how many starts are made at once.
        kind: "null": all lanes start at the null model, with its curvature; "pilot": some do,
            which make P of it, and the others where these end; "sample": they start at the optimum
            of a sample, with its curvature there (see `pilot`).
        alike: whether penalties differ in l2 alone.
    """
    count = num_starts(len(l2), alike)
    of_start, which = _starts(l2, count)
    dtype = common_dtype(jnp.float32, *(problem.init or ()))
    X = lax.stop_gradient(problem.batch.X)  # derivatives are those of the batch as it was
    batch, Q = narrow(dataclasses.replace(problem.batch, X=X), problem.penalties, dtype)
    fixed, init = lax.stop_gradient((batch, problem.init))
    small = sample(fixed)
    null = start_model(small if kind == "sample" else fixed)
    at_null = finite_curvature(null, small)
    centre = at_null.centre

    params = jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)), null)
    if kind == "pilot":
        factors = jnp.zeros((count, *at_null.H.shape), at_null.H.dtype), jnp.ones(count, bool)
    else:
        factors = run_lanes(lambda i: factorise_at(at_null, penalty(i)), of_start, size)
    starts = Starts(jax.tree.map(jnp.nan_to_num, params), *factors)
    if kind == "sample":
        starts = in_chunks(
            lambda some: fit_samples(small, lambda k: penalty(some[0][k]), some[1], centre),
            (of_start, starts),
            size,
        )
    if init is not None:
        init, null = into(Q, init), start_model(fixed)
        params = jax.vmap(lambda i: no_worse(init, null, fixed, penalty(i)))(of_start)
        starts = starts._replace(params=params)
    dtype = common_dtype(batch.X, *starts.params, jnp.float32)
    params, L, H = jax.tree.map(lambda a: a.astype(dtype), (starts.params, starts.L, at_null))
    starts = Starts(params, L, starts.blind)
    return Shared(
        batch, Q, starts, H.centre, H if kind == "pilot" else None, of_start, l2[of_start], which
    )


def num_starts(penalties: int, alike: bool) -> int:
    """Return how many starts there are, of so many penalties that differ in l2 alone or not."""
    return _STARTS if alike and penalties >= 2 * _STARTS else penalties


def _starts(l2: Array, count: int) -> tuple[Array, Array]:
    """Return which penalty makes each start, `(count,)`, and the start of each penalty, `(P,)`."""
    P = len(l2)
    fair = jnp.isfinite(l2) & (l2 >= 0)  # where one of a group is, it makes the start
    ranked = jnp.argsort(jnp.where(fair, l2, jnp.nan))
    group = np.arange(P) * count // P
    first = np.searchsorted(group, np.arange(count))
    last = np.searchsorted(group, np.arange(count), side="right") - 1
    middle = ranked[(first + last) // 2]  # of two the weaker one, whose decrements are safe
    weakest = fair[ranked[0]] & (l2[ranked[0]] > 0)
    middle = middle.at[0].set(jnp.where(weakest, ranked[0], middle[0]))
    of_start = jnp.where(fair[middle], middle, ranked[first])
    return of_start, jnp.zeros(P, jnp.int32).at[ranked].set(jnp.asarray(group, jnp.int32))


def find_path(
    problem: Problem, shared: Shared, l2: Array, led: bool, lanes: int, families: int, size: int
) -> Path | None:
    """Return the path of lanes where all are there, some wait, and starts have a good P.

    Args:
        problem, shared: what the lanes share.
        l2: of the penalties of a family; those of another one may all be larger by one factor.
        led: whether pilots lead the others.
        lanes: how many there are.
        families: how many there would be.
        size: how many lanes run at once.
    """
    shares = len(shared.penalties) < len(l2) and problem.init is None
    waits = led or (not sees_all(problem.batch) and lanes > size)
    if not (shares and waits and lanes == len(l2) * families):
        return None
    return path_of(shared.penalties, l2, families)


def path_of(leads: Array, l2: Array, families: int) -> Path:
    """Return the path of lanes `(P, families)`: those of some penalties lead the others.

    Parameters are smooth functions of log l2: a lane begins at the polynomial through the ends of
    the leaders next to its penalty, Lagrange's; but where that would be wild, as between nodes of
    very uneven distances and far outside them, it waits for nobody.

    Args:
        leads: which penalties lead, in ascending order of them, `(S,)` integers.
        l2: of all penalties, `(P,)`.
        families: how many; a lane's number is `penalty·families + family`.
    """
    S = len(leads)
    nodes = jnp.log(l2[leads])

    def polynomial(x: Array) -> Array:
        """Return the weights of the nodes in its value at x."""
        first = jnp.clip(jnp.searchsorted(nodes, x) - _NEXT // 2, 0, S - _NEXT)
        near = lax.dynamic_slice_in_dim(nodes, first, _NEXT)
        ratios = (x - near[None]) / (near[:, None] - near[None])
        weights = jnp.where(jnp.eye(_NEXT, dtype=bool), 1, ratios).prod(axis=1)
        return lax.dynamic_update_slice_in_dim(jnp.zeros_like(nodes), weights, first, 0)

    weights = jax.vmap(polynomial)(jnp.log(l2))
    tame = jnp.abs(weights).sum(axis=1) <= _WILD  # and so finite
    alone = (~tame).at[leads].set(True)
    family = jnp.where(alone[:, None], -1, jnp.arange(families)[None])
    leaders = leads[None] * families + jnp.arange(families)[:, None]
    return Path(leaders, family.reshape(-1), jnp.repeat(weights, families, axis=0))


def fit_lanes(
    problem: Problem,
    shared: Shared,
    objective: Callable[[Any], tuple[Batch, Penalty]],
    lanes: Any,
    which: Array,
    size: int,
    finish: Callable[[Any, Batch, Penalty, End, Basis | None], Any],
    pilots: Any = None,
    kept: bool = False,
    path: Path | None = None,
) -> Any:
    """Return what `finish(lane, batch, penalty, end, Q)` makes of each lane, such as `fitted`.

    Args:
        problem, shared: what the lanes share.
        objective: `lane → (batch, penalty)`, with the X of the shared batch.
        lanes: a tree of arrays whose first axis is that of the lanes.
        which: the start of each lane.
        size: how many lanes run at once.
        finish: makes the result of a lane, its batch the one that was not made narrow by Q.
        pilots: None, or lanes, one for each start in their order: they are solved first, and the
            others begin where they end.
        kept: whether the results begin with those of the pilots. If not, they need only be near
            their optimum.
        path: None, or which of the lanes begin between others; pilots that are kept are in it.
    """
    dtype = shared.starts.params.w.dtype
    tol = default_tolerance(dtype) if problem.tol is None else problem.tol
    task = Task(shared.centre, jnp.asarray(tol, dtype), jnp.asarray(problem.max_passes, jnp.int32))
    starts, task, curvature = lax.stop_gradient((shared.starts, task, shared.curvature))
    count = 0 if pilots is None else len(starts.L)
    if pilots is not None:
        lanes = jax.tree.map(lambda *a: jnp.concatenate(a), pilots, lanes)
        which = jnp.concatenate([jnp.arange(count, dtype=which.dtype), which])
        if path is not None and not kept:
            path = Path(
                path.leaders + count,
                jnp.pad(path.family, (count, 0), constant_values=-1),
                jnp.pad(path.weights, ((count, 0), (0, 0))),
            )

    def fixed(lane: Any) -> tuple[Batch, Penalty]:
        return lax.stop_gradient(objective(lane))

    l2 = jax.vmap(lambda lane: fixed(lane)[1].l2)(lanes)
    start_l2 = shared.l2[which]
    far = (start_l2 > _NEAR * l2) | (_NEAR * start_l2 < l2)
    # Weak penalties, whose starts are the first ones, take the most passes: none of them is to be
    # begun last, but after the pilots, and after the leaders of a path.
    early = (jnp.arange(len(which)) < count).astype(jnp.int32)
    if path is not None:
        early = early + (path.family < 0).astype(jnp.int32)
    rank = which - len(which) * early
    if path is not None:
        path = path._replace(weights=lax.stop_gradient(path.weights).astype(dtype))
    first = task if kept else rough(task)
    ends = solve_lanes(
        fixed, lanes, starts, which, far, rank, task, size, count, first, curvature, path
    )
    if not kept:
        ends, lanes = jax.tree.map(lambda a: a[count:], (ends, lanes))

    def one(pair: tuple) -> Any:
        lane, end = pair
        batch, penalty = objective(lane)
        if problem.judge is not None:
            end = judged(end, *lax.stop_gradient((batch, penalty)), task.centre)
        batch = dataclasses.replace(batch, X=problem.batch.X)
        return finish(lane, batch, penalty, end, shared.Q)

    return run_lanes(one, (lanes, ends), size)


def fitted(_: Any, batch: Batch, penalty: Penalty, end: End, Q: Basis | None) -> Solution:
    """Return the solution of a lane, with a bound and with derivatives."""
    solution = certified(*lax.stop_gradient((batch, penalty, end, Q)))
    return as_optimum(solution, None, batch, penalty)
