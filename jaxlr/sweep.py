"""Many fits at once: the lanes of one program, which share X and its curvature."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxlr.curvature import Curvature, make_curvature
from jaxlr.fit import fit
from jaxlr.lanes import MEMORY, Work, chunk_size, lane_of, run
from jaxlr.linear import logits
from jaxlr.losses import pointwise_loss
from jaxlr.pilot import Pilot, make_pilot, null_model, sample_size
from jaxlr.resampling import FoldWeights, Resampled, multinomial_counts, stratified_folds
from jaxlr.tiles import cast, sum_over_tiles, total_weight, weighted, working
from jaxlr.types import Array, Batch, Params, Penalty, Solution, check_shapes, init_params
from jaxlr.wide import back, into, narrow


class Scores(NamedTuple):
    """How well parameters predict examples: leaves of the shape of the lanes.

    Args:
        log_loss: weighted mean of the loss, in nats.
        accuracy: weighted share of examples whose most likely class is the label's.
    """

    log_loss: Array
    accuracy: Array


class CrossValidation(NamedTuple):
    """What `cross_validate` returns, for P penalties and F folds.

    Args:
        penalties: as they were given, P of them.
        solutions: fits to the examples outside each fold, `(P, F)` lanes.
        scores: of each fit on the examples of its fold, `(P, F)`.
        best: the penalty with the least mean log loss, `()` integer.
        best_one_se: the strongest penalty whose mean log loss is within one standard error of
            the best one's, `()` integer (Breiman et al., Classification and Regression Trees,
            1984, section 3.4.3).
    """

    penalties: Penalty
    solutions: Solution
    scores: Scores
    best: Array
    best_one_se: Array


def sweep(
    batch: Batch,
    penalties: Penalty,
    *,
    init: Params | None = None,
    tol: Array | None = None,
    max_passes: int = 500,
    memory: int = MEMORY,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> Solution:
    """Fit once for each penalty: lanes of one program.

    Args:
        batch: the examples.
        penalties: `l2` `(P,)`; `factors` None, `(n,)` for all, or `(P, n)`.
        init, tol, max_passes: as for `fit`, the same for all lanes.
        memory: bytes that the lanes may need beyond X; they run in chunks that fit.
        checkpoint: a file that keeps the finished chunks: the same call, made again after an
            interruption, takes them from there and returns what it would have returned.
        progress: show a bar. With it or a checkpoint, not for use inside jit.

    Returns:
        A `Solution` whose leaves have a first axis of P lanes. A lane that fails has a status
        that says so, and does not change the others.

    Raises:
        ValueError: when shapes do not fit each other.
        CheckpointError: the file is damaged, or belongs to another call.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> solution = sweep(batch, Penalty(l2=jnp.array([0.01, 0.1, 1.0])))
    >>> solution.params.w.shape, solution.status.tolist()
    ((3, 1), [0, 0, 0])
    """
    axes = _lanes(penalties)
    problem = _Problem(batch, penalties, init, None, tol, max_passes)
    work = Work(_share_sweep, _lane_of_sweep, axes)
    lanes = jnp.arange(len(penalties.l2))
    return run(work, problem, lanes, chunk_size(batch, len(lanes), memory), checkpoint, progress)


def cross_validate(
    batch: Batch,
    penalties: Penalty,
    *,
    folds: int | Array = 5,
    key: Array | None = None,
    tol: Array | None = None,
    max_passes: int = 500,
    memory: int = MEMORY,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> CrossValidation:
    """Fit for each penalty outside each fold, and score inside it: P × F lanes.

    Args:
        batch: the examples.
        penalties: `l2` `(P,)`; `factors` None, `(n,)` for all, or `(P, n)`.
        folds: how many folds, drawn at random and stratified by class; or the fold number of
            each example, `(m,)` integers from 0.
        key: a `jax.random.key` for the draw; not needed when fold numbers are given.
        tol, max_passes, memory, checkpoint, progress: as for `sweep`.

    Returns:
        A `CrossValidation`.

    Raises:
        ValueError: when shapes do not fit each other, or a number of folds comes with no key.

    >>> X = jnp.linspace(-1.0, 1.0, 40).reshape(1, 40)
    >>> y = (X[0] + jnp.sin(30 * X[0]) > 0).astype(int)
    >>> result = cross_validate(
    ...     Batch(X, y), Penalty(jnp.array([0.01, 100.0])), folds=4, key=jax.random.key(0)
    ... )
    >>> result.scores.log_loss.shape, int(result.best)
    ((2, 4), 0)
    """
    axes = _lanes(penalties)
    if jnp.ndim(folds) == 0:
        if key is None:
            raise ValueError("Folds are drawn at random: give key=jax.random.key(seed).")
        num_folds, fold_of = int(folds), stratified_folds(batch, int(folds), key)
    else:
        fold_of = jnp.asarray(folds)
        if fold_of.shape != (batch.m_examples,):
            raise ValueError(
                f"folds has shape {fold_of.shape} where ({batch.m_examples},) is due: "
                "the fold number of each example."
            )
        if isinstance(fold_of, Tracer):
            raise ValueError(
                "folds is traced, and the number of lanes depends on its values: inside jit, "
                "draw them with folds=5 and a key, or close over the array."
            )
        num_folds = int(fold_of.max()) + 1
    problem = _Problem(batch, penalties, None, fold_of, tol, max_passes)
    # One axis of lanes, not two: their products with X then need no transposed copies.
    grid = (len(penalties.l2), num_folds)
    places = tuple(place.reshape(-1) for place in jnp.indices(grid))
    size = chunk_size(batch, len(places[0]), memory)
    work = Work(_share_folds, _lane_of_folds, axes)
    lanes = run(work, problem, places, size, checkpoint, progress)
    solutions, scores = jax.tree.map(lambda leaf: leaf.reshape(*grid, *leaf.shape[1:]), lanes)
    best, best_one_se = select(penalties.l2, scores.log_loss)
    return CrossValidation(penalties, solutions, scores, best, best_one_se)


def bootstrap(
    batch: Batch,
    penalty: Penalty,
    num_resamples: int,
    key: Array,
    *,
    counts: Callable[[Array, int], Array] = multinomial_counts,
    tol: Array | None = None,
    max_passes: int = 500,
    memory: int = MEMORY,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> Solution:
    """Fit to resamples of the examples: a lane for each.

    A resample is a count for each example, which multiplies its weight. The spread of the
    lanes' parameters estimates that of the fit (Efron, Bootstrap methods, 1979).

    Args:
        batch: the examples.
        penalty: `Penalty(l2, factors)`, the same for all lanes.
        num_resamples: R, a Python integer.
        key: a `jax.random.key`; resample r is drawn by the r-th of `jax.random.split(key, R)`.
        counts: `(key, m) → (m,)` counts: `multinomial_counts`, m draws with replacement, or
            `poisson_counts`.
        tol, max_passes, memory, checkpoint, progress: as for `sweep`.

    Returns:
        A `Solution` whose leaves have a first axis of R lanes.

    Raises:
        ValueError: num_resamples is less than 1, or shapes do not fit each other.

    >>> X = jnp.linspace(-1.0, 1.0, 40).reshape(1, 40)
    >>> y = (X[0] + jnp.sin(30 * X[0]) > 0).astype(int)
    >>> lanes = bootstrap(Batch(X, y), Penalty(l2=0.1), 10, jax.random.key(0))
    >>> lanes.params.w.shape
    (10, 1)
    """
    num_resamples = operator.index(num_resamples)
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1.")
    check_shapes(init_params(batch.n_features, batch.n_classes), batch, penalty)
    problem = _Problem(batch, penalty, None, None, tol, max_passes)
    work = Work(_share_bootstrap, _lane_of_bootstrap, counts)
    keys = jax.random.split(key, num_resamples)
    size = chunk_size(batch, num_resamples, memory)
    return run(work, problem, keys, size, checkpoint, progress)


def select(l2: Array, log_loss: Array) -> tuple[Array, Array]:
    """Return the place of the best mean, and of the strongest penalty within a standard error.

    Args:
        l2: `(P,)`.
        log_loss: `(P, F)`: of each penalty in each fold; a NaN is never chosen.

    >>> l2, log_loss = jnp.array([0.1, 1.0, 9.0]), jnp.array([[1.0, 2.0], [1.2, 2.0], [9.0, 9.0]])
    >>> [int(i) for i in select(l2, log_loss)]
    [0, 1]
    """
    mean = jnp.nan_to_num(log_loss.mean(axis=1), nan=jnp.inf)
    error = log_loss.std(axis=1, ddof=1) / log_loss.shape[1] ** 0.5
    best = mean.argmin()
    near = mean <= mean[best] + error[best]
    strongest = jnp.where(near, l2, -jnp.inf).argmax()
    return best, jnp.where(near.any(), strongest, best)


def score(params: Params, batch: Batch) -> Scores:
    """Return the weighted log loss and accuracy of one lane, from one pass over X.

    A soft label gives credit to the predicted class as far as it goes.

    >>> batch = Batch(jnp.array([[1.0, 2.0, -3.0]]), jnp.array([1, 0, 0]))
    >>> f"{score(Params(jnp.array([9.0]), jnp.array(0.0)), batch).accuracy:.3f}"
    '0.667'
    """
    params, dtype = working(params, batch)

    def sums(tile):
        tile = cast(tile, dtype)
        Z, Y = logits(params, tile.X, tile.offset), tile.y
        value, _ = pointwise_loss(tile.n_classes).value_and_residual(Z, Y)
        if Z.ndim == 1:
            right = jnp.where(Z > 0, Y, 1 - Y)
        else:
            right = jnp.take_along_axis(Y, Z.argmax(axis=0)[None], axis=0)[0]
        right = jnp.where(jnp.isnan(value), jnp.nan, right)
        value, right = weighted(tile.weights, value), weighted(tile.weights, right)
        return value.sum(), right.sum(), total_weight(tile, dtype)

    value, right, total = sum_over_tiles(sums, batch)
    return Scores(value / total, right / total)


def _lanes(penalties: Penalty) -> tuple[int, int | None]:
    """Return the axes of l2 and factors that are lanes."""
    if jnp.ndim(penalties.l2) != 1:
        raise ValueError(
            f"penalties.l2 has shape {jnp.shape(penalties.l2)} where (P,) is due: one a lane."
        )
    if penalties.factors is None or jnp.ndim(penalties.factors) != 2:
        return 0, None
    (lanes,), (others, _) = jnp.shape(penalties.l2), jnp.shape(penalties.factors)
    if others != lanes:
        raise ValueError(f"penalties.factors has {others} lanes, penalties.l2 {lanes}.")
    return 0, 0


class _Problem(NamedTuple):
    """What the lanes of a sweep share, besides what is made of it.

    Args:
        batch: the examples.
        penalties: a penalty for each lane, or one for all.
        init: where to start, or None for the pilot.
        folds: the fold number of each example, or None.
        tol, max_passes: as for `fit`.
    """

    batch: Batch
    penalties: Penalty
    init: Params | None
    folds: Array | None
    tol: Array | None
    max_passes: Array | int

    def penalty(self, axes: tuple, i: Array) -> Penalty:
        l2, factors = self.penalties
        return Penalty(l2[i], factors if factors is None or axes[1] is None else factors[i])

    def fit(self, batch: Batch, penalty: Penalty, pilot: Pilot) -> Solution:
        start = pilot.params if self.init is None else self.init
        options = {"tol": self.tol, "max_passes": self.max_passes}
        return fit(batch, penalty, init=start, curvature=pilot.curvature, **options)


class _Shared(NamedTuple):
    """What is made once for all lanes: a narrow batch, and pilots."""

    batch: Batch
    Q: Array | None
    init: Params | None
    pilots: Pilot


def _narrow(problem: _Problem) -> tuple[Batch, Array | None, Params | None]:
    batch, Q = narrow(problem.batch, problem.penalties)
    return batch, Q, None if problem.init is None else into(Q, problem.init)


def _pilots(batch: Batch, penalties: Penalty, axes: tuple) -> Pilot:
    """Return the pilot of each penalty; they share the centre of their curvatures."""

    def pilot(l2, factors):
        return make_pilot(batch, Penalty(l2, factors))

    lanes = Pilot(Params(0, 0), Curvature(0, None))  # pyright: ignore[reportArgumentType]
    return jax.vmap(pilot, axes, lanes)(penalties.l2, penalties.factors)


def _pilot_of(pilots: Pilot, i: Array) -> Pilot:
    params, (H, centre) = pilots
    return Pilot(lane_of(params, i), Curvature(H[i], centre))


def _with_weights(batch: Batch, weights: Any) -> Batch:
    return dataclasses.replace(batch, weights=weights)


def _lifted(Q: Array | None, solution: Solution) -> Solution:
    return solution._replace(params=back(Q, solution.params))


# --- What the lanes share, and a lane: of a sweep, of a cross-validation, of a bootstrap ---------


def _share_sweep(problem: _Problem, axes: tuple) -> _Shared:
    batch, Q, init = _narrow(problem)
    if sample_size(batch) < batch.m_examples:
        return _Shared(batch, Q, init, _pilots(batch, problem.penalties, axes))
    null = null_model(batch)
    return _Shared(batch, Q, init, Pilot(null, make_curvature(null, batch)))


def _lane_of_sweep(problem: _Problem, shared: _Shared, axes: tuple, i: Array) -> Solution:
    batch, Q, init, pilots = shared
    sampled = sample_size(batch) < batch.m_examples
    pilot = _pilot_of(pilots, i) if sampled else pilots
    solution = problem._replace(init=init).fit(batch, problem.penalty(axes, i), pilot)
    return _lifted(Q, solution)


def _share_folds(problem: _Problem, axes: tuple) -> _Shared:
    # A penalty's pilot, of all folds, serves the fits outside each.
    batch, Q, init = _narrow(problem)
    return _Shared(batch, Q, init, _pilots(batch, problem.penalties, axes))


def _lane_of_folds(problem: _Problem, shared: _Shared, axes: tuple, place: tuple):
    (batch, Q, _, pilots), (i, fold) = shared, place
    outside, inside = (
        _with_weights(batch, FoldWeights(problem.folds, fold, batch.weights, held_out))
        for held_out in (False, True)
    )
    solution = problem.fit(outside, problem.penalty(axes, i), _pilot_of(pilots, i))
    return _lifted(Q, solution), score(solution.params, inside)


def _share_bootstrap(problem: _Problem, _: Callable) -> _Shared:
    batch, Q, init = _narrow(problem)
    return _Shared(batch, Q, init, make_pilot(batch, problem.penalties))


def _lane_of_bootstrap(problem: _Problem, shared: _Shared, counts: Callable, key: Array):
    batch, Q, _, pilot = shared
    weights = Resampled(counts(key, batch.m_examples), batch.weights)
    return _lifted(Q, problem.fit(_with_weights(batch, weights), problem.penalties, pilot))
