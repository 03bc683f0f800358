"""Many fits at once: the lanes of one program, which share X and its curvature."""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.base.arguments import check_options, says_what_is_due
from jaxlr.base.printing import Shown, array_of, numbers, shown
from jaxlr.base.pytrees import Array
from jaxlr.lanes.chunks import MEMORY, PIECE, Work, chunk_size, run
from jaxlr.lanes.engine import Path
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
from jaxlr.model.batch import Batch, Params
from jaxlr.model.losses import label_probabilities
from jaxlr.model.penalty import Penalty
from jaxlr.model.shapes import check_shapes, check_type
from jaxlr.model.solution import Solution, status_words
from jaxlr.solver.influence import leave_one_out
from jaxlr.solver.pilot import sees_all
from jaxlr.solver.solve import End
from jaxlr.solver.watch import warn_if_failed
from jaxlr.solver.wide import Basis
from jaxlr.studies.resampling import FIT, as_folds, parts
from jaxlr.studies.scores import Scores, certified_and_scored, credit

_MAX_PASSES = 500
_FEW = 3  # lanes to a start from which on a pilot that is none of them pays


def _cross_validation(found: Any) -> Shown:
    l2, best, best_one_se = map(array_of, (found.penalties.l2, found.best, found.best_one_se))
    status = array_of(found.solutions.status)
    title = "CrossValidation"
    rows = {name: numbers(getattr(found.scores, name)) for name in found.scores._fields}
    if l2 is None or best is None or best_one_se is None or status is None:
        return title, rows
    if l2.ndim != 1 or best.ndim:
        return title, rows
    lanes = " × ".join(map(str, status.shape))
    title += f" of {lanes} lanes: {', '.join(status_words(status.astype(int)))}"
    for name, place in (("best", int(best)), ("best_one_se", int(best_one_se))):
        rows[name] = "none" if place < 0 else f"{place}, l2 = {l2[place]:.4g}"
    mean = array_of(found.scores.log_loss)
    if mean is not None and best >= 0:
        rows["best"] += f", mean log loss {mean[int(best)].mean():.4f}"
    return title, rows


@shown(_cross_validation)
class CrossValidation(NamedTuple):
    """What `cross_validate` returns, for P penalties and F folds.

    Args:
        penalties: as they were given, P of them.
        solutions: fits to the examples outside each fold, `(P, F)` lanes; with `folds="loo"` fits
            to all examples, `(P,)` lanes.
        scores: of each fit on the examples of its fold, `(P, F)`; with `folds="loo"` of each
            example under the fit without it, `(P, m)`, approximately.
        best: the penalty with the least mean log loss, `()` integer.
        best_one_se: the strongest penalty whose mean log loss is within one standard error of
            the best one's, `()` integer (Breiman et al., Classification and Regression Trees,
            1984, section 3.4.3).
        untrusted: of how many examples the score is not to be trusted, `(P,)` integers: see
            `LeaveOneOut`. None but with `folds="loo"`. A penalty with more than half of them is
            not chosen: best is −1 where all are such.
    """

    penalties: Penalty
    solutions: Solution
    scores: Scores
    best: Array
    best_one_se: Array
    untrusted: Array | None = None


@says_what_is_due
def sweep(
    batch: Batch,
    penalties: Penalty,
    *,
    init: Params | None = None,
    tol: Array | None = None,
    max_passes: int = _MAX_PASSES,
    memory: int = MEMORY,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> Solution:
    """Fit once for each penalty: lanes of one program.

    Args:
        batch: the examples.
        penalties: `l2` `(P,)`; `factors` None, `(n,)` for all, or `(P, n)`.
        init, tol, max_passes: as for `fit`, the same for all lanes.
        memory: bytes that the lanes that run at once may need beyond X; the others wait.
        checkpoint: a file that keeps the finished chunks: the same call, made again after an
            interruption, takes them from there and returns what it would have returned.
        progress: show a bar. With it or a checkpoint, not for use inside jit.

    Returns:
        A `Solution` whose leaves have a first axis of P lanes. A lane that fails has a status
        that says so, and does not change the others.

    Raises:
        ValueError: when shapes do not fit each other, or tol or max_passes is negative.
        TypeError: when an argument is of another type.
        CheckpointError: the file is damaged, or belongs to another call.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> solution = sweep(batch, Penalty(l2=jnp.array([0.01, 0.1, 1.0])))
    >>> solution.params.w.shape, solution.status.tolist()
    ((3, 1), [0, 0, 0])
    """
    penalties, axes = _lanes(penalties)
    check_shapes(init, batch)
    check_options(tol, max_passes)
    problem = make_problem(batch, penalties, init=init, tol=tol, max_passes=max_passes)
    lanes = jnp.arange(len(penalties.l2))
    size = chunk_size(batch, len(lanes), memory)
    led = init is None and checkpoint is None and not progress and _led(batch, axes, lanes, size)
    work = Work("sweep", _share, _sweep, (axes, led))
    return warn_if_failed(run(work, problem, lanes, size, checkpoint, progress))


@says_what_is_due
def cross_validate(
    batch: Batch,
    penalties: Penalty,
    *,
    folds: int | Array | str = 5,
    key: Array | None = None,
    tol: Array | None = None,
    max_passes: int = _MAX_PASSES,
    memory: int = MEMORY,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> CrossValidation:
    """Fit for each penalty outside each fold, and score inside it: P × F lanes.

    Args:
        batch: the examples.
        penalties: `l2` `(P,)`; `factors` None, `(n,)` for all, or `(P, n)`.
        folds: how many folds, drawn at random and stratified by class; or the fold number of
            each example, `(m,)` integers from 0, such as `group_folds` returns or, to leave out
            one example at a time, `jnp.arange(m)`; or F splits, `(F, m)`, from `splits` or
            `repeated_folds`; or "loo", which estimates what `jnp.arange(m)` gives from P fits
            instead of P × m, by `leave_one_out`, and takes means weighted by the examples.
        key: a `jax.random.key` for the draw; not needed when folds are given.
        tol, max_passes, memory, checkpoint, progress: as for `sweep`.

    Returns:
        A `CrossValidation`.

    Raises:
        ValueError: when shapes do not fit each other, a number of folds comes with no key, a
            fold or split has no examples, or with "loo" a softmax has more than 1,024 parameters.
        TypeError: folds is a number, but no integer, or an argument is of another type.

    >>> X = jnp.linspace(-1.0, 1.0, 40).reshape(1, 40)
    >>> y = (X[0] + jnp.sin(30 * X[0]) > 0).astype(int)
    >>> result = cross_validate(
    ...     Batch(X, y), Penalty(jnp.array([0.01, 100.0])), folds=4, key=jax.random.key(0)
    ... )
    >>> result.scores.log_loss.shape, int(result.best)
    ((2, 4), 0)
    """
    penalties, axes = _lanes(penalties)
    check_shapes(None, batch)
    check_options(tol, max_passes)
    if isinstance(folds, str):
        if folds != "loo":
            raise ValueError(f"folds is {folds!r}: a number, an array, or 'loo' is due.")
        problem = make_problem(batch, penalties, tol=tol, max_passes=max_passes)
        lanes = jnp.arange(len(penalties.l2))
        # Each lane has the examples times a root of its own inverse Hessian.
        own = 8 * (batch.n_features + 4) * (batch.n_classes - 1)
        size = chunk_size(batch, len(lanes), memory, own)
        led = checkpoint is None and not progress and _led(batch, axes, lanes, size)
        work = Work("leave one out", _share, _sweep_loo, (axes, led))
        solutions, scores, untrusted = run(work, problem, lanes, size, checkpoint, progress)
        # Where most scores are not to be trusted there is nothing to choose by.
        trusted = 2 * untrusted[:, None] <= batch.m_examples
        log_loss = jnp.where(trusted, scores.log_loss, jnp.inf)
        best, best_one_se = select(penalties.l2, log_loss, batch.select(lambda a: a).weights)
        return CrossValidation(penalties, solutions, scores, best, best_one_se, untrusted)
    num_folds, folds = as_folds(batch, folds, key)
    problem = make_problem(batch, penalties, folds=folds, tol=tol, max_passes=max_passes)
    runs = {"memory": memory, "checkpoint": checkpoint, "progress": progress}
    found, _ = _arranged(penalties.l2, _lanes_of(problem, num_folds, **runs), num_folds)
    return CrossValidation(penalties, *found)


def cross_validate_and_fit(
    batch: Batch, penalties: Penalty, fold_of: Array
) -> tuple[CrossValidation, Solution]:
    """Return a cross-validation, and the fits to all examples: one more fold of the same program.

    Args:
        batch: the examples.
        penalties: `l2` `(P,)`; `factors` None, `(n,)` for all, or `(P, n)`.
        fold_of: the fold number of each example, `(m,)`.

    Returns:
        What `cross_validate` and `sweep` return.

    >>> batch = Batch(jnp.linspace(-1.0, 1.0, 12)[None], jnp.arange(12) % 2)
    >>> result, fits = cross_validate_and_fit(batch, Penalty(jnp.ones(3)), jnp.arange(12) // 6)
    >>> result.scores.log_loss.shape, fits.loss.shape
    ((3, 2), (3,))
    """
    penalties, _ = _lanes(penalties)
    num_folds, folds = as_folds(batch, fold_of, None)
    problem = make_problem(batch, penalties, folds=folds, tol=None, max_passes=_MAX_PASSES)
    lanes = _lanes_of(problem, num_folds, whole=True)
    found, fits = _arranged(penalties.l2, lanes, num_folds)
    return CrossValidation(penalties, *found), fits


def _lanes_of(
    problem: Problem,
    num_folds: int,
    *,
    whole: bool = False,
    memory: int = MEMORY,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> tuple[Solution, Scores]:
    """Return the fits for each penalty outside each fold, and the scores inside, as lanes.

    Args:
        problem: with folds.
        num_folds: how many there are.
        whole: whether to fit to all examples, too, as a last fold that leaves out none.
        memory, checkpoint, progress: as for `sweep`.
    """
    batch, l2 = problem.batch, problem.penalties.l2
    _, axes = _lanes(problem.penalties)
    folds = np.append(np.arange(num_folds), [-1] * whole).astype(int)  # no example is of fold −1
    # One axis of lanes, not two: their products with X then need no transposed copies.
    places = tuple(
        place.reshape(-1) for place in np.meshgrid(np.arange(len(l2)), folds, indexing="ij")
    )
    size = chunk_size(batch, len(places[0]), memory)
    led = sees_all(batch) and len(places[0]) >= _FEW * num_starts(len(l2), axes[1] is None)
    work = Work("cross-validation", _share, _folds, (axes, led, len(folds)))
    return run(work, problem, places, size, checkpoint, progress)


@functools.partial(jax.jit, static_argnames=("num_folds",))
def _arranged(
    l2: Array, lanes: tuple[Solution, Scores], num_folds: int
) -> tuple[tuple[Solution, Scores, Array, Array], Solution]:
    """Return what a `CrossValidation` holds, and the fits to all examples if there are any."""
    grid = jax.tree.map(lambda leaf: leaf.reshape(len(l2), -1, *leaf.shape[1:]), lanes)
    solutions, scores = jax.tree.map(lambda leaf: leaf[:, :num_folds], grid)
    fits = jax.tree.map(lambda leaf: leaf[:, num_folds:].reshape(-1, *leaf.shape[2:]), grid[0])
    return (solutions, scores, *select(l2, scores.log_loss)), fits


@jax.jit
def select(l2: Array, log_loss: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the place of the best mean, and of the strongest penalty within a standard error.

    Args:
        l2: `(P,)`.
        log_loss: `(P, F)`: of each penalty in each fold; a NaN is never chosen: both places are
            −1 where there is nothing else.
        weights: None, or `(F,)`: how much each fold counts.

    >>> l2, log_loss = jnp.array([0.1, 1.0, 9.0]), jnp.array([[1.0, 2.0], [1.2, 2.0], [9.0, 9.0]])
    >>> [int(i) for i in select(l2, log_loss)]
    [0, 1]
    """
    c = jnp.ones(log_loss.shape[1], log_loss.dtype) if weights is None else weights
    c = (c / c.sum())[None]
    mean = (c * log_loss).sum(axis=1)
    variance = (c * (log_loss - mean[:, None]) ** 2).sum(axis=1)
    error = jnp.sqrt(variance / (1 / (c**2).sum() - 1))
    mean = jnp.where(jnp.isnan(mean), jnp.inf, mean)
    best = jnp.where(jnp.isfinite(mean).any(), mean.argmin(), -1)
    near = mean <= mean[best] + error[best]
    strongest = jnp.where(near, l2, -jnp.inf).argmax()
    return best, jnp.where(near.any() & (best >= 0), strongest, best)


def _lanes(penalties: Penalty) -> tuple[Penalty, tuple[int, int | None]]:
    """Return the penalties as arrays, and the axes of l2 and factors that are lanes."""
    check_type("penalties", penalties, Penalty)
    penalties = Penalty(*(None if a is None else jnp.asarray(a) for a in penalties))
    if jnp.ndim(penalties.l2) != 1 or not len(penalties.l2):
        raise ValueError(
            f"penalties.l2 has shape {jnp.shape(penalties.l2)} where (P,) is due: one a lane."
        )
    if penalties.factors is None or jnp.ndim(penalties.factors) != 2:
        return penalties, (0, None)
    (lanes,), (others, _) = jnp.shape(penalties.l2), jnp.shape(penalties.factors)
    if others != lanes:
        raise ValueError(f"penalties.factors has {others} lanes, penalties.l2 {lanes}.")
    return penalties, (0, 0)


def _led(batch: Batch, axes: tuple, lanes: Array, size: int) -> bool:
    """Whether the lanes of some penalties lead those of the others, all of them in one queue.

    Where they share starts, and no sample makes these.
    """
    shared = num_starts(len(lanes), axes[1] is None) < len(lanes)
    return shared and sees_all(batch) and len(lanes) <= PIECE * size


# --- What the lanes share, and some lanes: of a sweep, of a cross-validation ---------------------
# Known when tracing: the axes of the penalties that are lanes, whether pilots lead the others, and
# of a cross-validation how many folds there are.


def _share(problem: Problem, known: tuple, size: int) -> Shared:
    axes, led, *_ = known
    sampled = problem.init is None and not sees_all(problem.batch)
    kind = "pilot" if led else "sample" if sampled else "null"
    alike = axes[1] is None  # no factors of their own
    l2 = problem.penalties.l2
    return share(problem, lambda i: problem.penalty(axes, i), l2, size, kind, alike)


def _sweep(problem: Problem, shared: Shared, known: tuple, lanes: Array, size: int) -> Solution:
    return _fits(problem, shared, known, lanes, size, fitted)


def _sweep_loo(problem: Problem, shared: Shared, known: tuple, lanes: Array, size: int) -> Any:
    batch, (axes, _) = problem.batch, known

    def finish(i: Array, *of_lane: Any) -> Any:
        solution = fitted(i, *of_lane)
        left_out = leave_one_out(solution.params, batch, problem.penalty(axes, i))
        y = label_probabilities(batch.y, batch.n_classes, left_out.loss.dtype)
        scores = Scores(left_out.loss, credit(left_out.logits, y, left_out.loss))
        return solution, scores, (~left_out.trusted).sum()

    return _fits(problem, shared, known, lanes, size, finish)


def _fits(problem: Problem, shared: Shared, known: tuple, lanes: Array, size: int, finish) -> Any:
    axes, led = known

    def objective(i: Array) -> tuple[Batch, Penalty]:
        return shared.batch, problem.penalty(axes, i)

    count, starts = len(lanes), len(shared.penalties)
    path = find_path(problem, shared, problem.penalties.l2, led, count, 1, size)
    if not led:
        which = shared.which[lanes]
        return fit_lanes(problem, shared, objective, lanes, which, size, finish, path=path)
    leads = jnp.zeros(count, bool).at[shared.penalties].set(True)
    others = jnp.argsort(leads)[: count - starts]
    order = jnp.concatenate([shared.penalties, others])
    if path is not None:
        leaders = jnp.arange(starts)[None]
        path = Path(leaders, path.family[order], path.weights[order])
    results = fit_lanes(
        problem, shared, objective, others, shared.which[others], size, finish,
        pilots=shared.penalties, kept=True, path=path,
    )  # fmt: skip
    place = jnp.argsort(order)
    return jax.tree.map(lambda a: a[place], results)


def _folds(problem: Problem, shared: Shared, known: tuple, places: tuple, size: int) -> Any:
    (axes, led, families), folds, pilots = known, jnp.asarray(problem.folds), None
    count, starts = len(places[0]), len(shared.starts.L)
    if folds.ndim == 2:  # of splits the last one, as no fold number is −1: it leaves out nothing
        folds = jnp.concatenate([folds, jnp.full_like(folds[:1], FIT)])
    if led and count >= _FEW * starts:
        # A penalty's pilot, of all folds, serves the fits outside each.
        pilots = shared.penalties, jnp.full(starts, -1)

    def objective(place: tuple) -> tuple[Batch, Penalty]:
        i, fold = place
        return parts(shared.batch, folds, fold)[0], problem.penalty(axes, i)

    def finish(place: tuple, batch: Batch, penalty: Penalty, end: End, Q: Basis | None) -> Any:
        inside = parts(problem.batch, folds, place[1])[1]
        return certified_and_scored(batch, inside, penalty, end, Q)

    path = find_path(problem, shared, problem.penalties.l2, led, count, families, size)
    which = shared.which[places[0]]
    return fit_lanes(problem, shared, objective, places, which, size, finish, pilots, path=path)
