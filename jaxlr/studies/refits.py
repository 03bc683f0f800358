"""One penalty, many data: fits to resamples of the examples, and to permuted labels."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxlr.base.arguments import check_key, check_options, says_what_is_due
from jaxlr.base.pytrees import Array
from jaxlr.lanes.checkpoint import stable_name
from jaxlr.lanes.chunks import MEMORY, PIECE, Work, chunk_size, run, run_lanes
from jaxlr.lanes.problem import Problem, Shared, fit_lanes, fitted, make_problem, share
from jaxlr.model.batch import Batch
from jaxlr.model.penalty import Penalty, check_penalty
from jaxlr.model.shapes import check_shapes
from jaxlr.model.solution import Solution
from jaxlr.solver.pilot import sees_all
from jaxlr.studies.resampling import Resampled, multinomial_counts

_DRAWN = 16  # bytes an example that a lane needs while it draws


@says_what_is_due
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
            `poisson_counts`. With a checkpoint, a function that is defined with `def` at the top
            level of a module: it is known by its name, and by what it computes.
        tol, max_passes, memory, checkpoint, progress: as for `sweep`.

    Returns:
        A `Solution` whose leaves have a first axis of R lanes.

    Raises:
        ValueError: num_resamples is less than 1, shapes do not fit each other, l2, tol or
            max_passes is negative, or a checkpoint cannot know the counts by a name.
        TypeError: when an argument is of another type.

    >>> X = jnp.linspace(-1.0, 1.0, 40).reshape(1, 40)
    >>> y = (X[0] + jnp.sin(30 * X[0]) > 0).astype(int)
    >>> lanes = bootstrap(Batch(X, y), Penalty(l2=0.1), 10, jax.random.key(0))
    >>> lanes.params.w.shape
    (10, 1)
    """
    num_resamples = _at_least_one("num_resamples", num_resamples)
    _check(batch, penalty, key, tol, max_passes)
    problem = make_problem(batch, penalty, tol=tol, max_passes=max_passes)
    name = "bootstrap" if checkpoint is None else f"bootstrap by {stable_name('counts', counts)}"
    work = Work(name, _share_bootstrap, _bootstrap, counts)
    keys = jax.random.split(key, num_resamples)
    size = chunk_size(batch, num_resamples, memory, own=_DRAWN + PIECE)
    return run(work, problem, keys, size, checkpoint, progress)


@says_what_is_due
def permute(
    batch: Batch,
    penalty: Penalty,
    num_permutations: int,
    key: Array,
    *,
    tol: Array | None = None,
    max_passes: int = 500,
    memory: int = MEMORY,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> Solution:
    """Fit to permuted labels: a lane for each permutation.

    Where features and labels are independent, the loss of the true labels is as likely to be at
    any place among those of the lanes (Good, Permutation, Parametric and Bootstrap Tests of
    Hypotheses, 3rd ed., 2005).

    Args:
        batch: the examples; weights and offset stay with the features.
        penalty: `Penalty(l2, factors)`, the same for all lanes.
        num_permutations: a Python integer.
        key: a `jax.random.key`; permutation r is drawn by the r-th of `jax.random.split`.
        tol, max_passes, memory, checkpoint, progress: as for `sweep`.

    Returns:
        A `Solution` whose leaves have a first axis of `num_permutations` lanes.

    Raises:
        ValueError: num_permutations is less than 1, shapes do not fit each other, or l2, tol or
            max_passes is negative.
        TypeError: when an argument is of another type.

    >>> X = jnp.linspace(-1.0, 1.0, 40).reshape(1, 40)
    >>> batch, penalty = Batch(X, (X[0] > 0.3).astype(int)), Penalty(l2=0.1)
    >>> lanes = permute(batch, penalty, 99, jax.random.key(0))
    >>> lanes.loss.shape
    (99,)
    """
    num_permutations = _at_least_one("num_permutations", num_permutations)
    _check(batch, penalty, key, tol, max_passes)
    if jnp.issubdtype(jnp.asarray(batch.y).dtype, jnp.integer) and batch.n_classes <= 256:
        # Each lane has labels of its own.
        batch = dataclasses.replace(batch, y=jnp.asarray(batch.y, jnp.uint8))
    problem = make_problem(batch, penalty, tol=tol, max_passes=max_passes)
    work = Work("permutations", _share_permutations, _permutations, None)
    keys = jax.random.split(key, num_permutations)
    labels = batch.n_classes if jnp.ndim(batch.y) == 2 else 1
    size = chunk_size(batch, num_permutations, memory, own=_DRAWN + 4 * PIECE * labels)
    return run(work, problem, keys, size, checkpoint, progress)


def _check(batch: Batch, penalty: Penalty, key: Array, tol: Any, max_passes: Any) -> None:
    check_shapes(None, batch, penalty)
    check_key(key)
    check_options(tol, max_passes)
    check_penalty(penalty)


def _at_least_one(name: str, count: int) -> int:
    try:
        count = operator.index(count)
    except TypeError:
        raise TypeError(f"{name} is {count!r}: an integer is due.") from None
    if count < 1:
        raise ValueError(f"{name} is {count}; it must be at least 1.")
    return count


# --- What the lanes share, and some lanes: of a bootstrap, of permutations -----------------------


def _share_bootstrap(problem: Problem, _: Callable, size: int) -> Shared:
    return _share(problem, size, "pilot" if sees_all(problem.batch) else "sample")


def _share(problem: Problem, size: int, kind: Literal["null", "pilot", "sample"]) -> Shared:
    l2 = jnp.reshape(problem.penalties.l2, 1)
    return share(problem, lambda _: problem.penalties, l2, size, kind)


def _bootstrap(problem: Problem, shared: Shared, counts: Callable, keys: Array, size: int):
    batch = shared.batch
    drawn = run_lanes(lambda key: counts(key, batch.m_examples), keys, size)

    def resampled(counts: Array) -> Batch:
        return dataclasses.replace(batch, weights=Resampled(counts, batch.weights))

    # One that has each example once.
    pilots = jnp.ones_like(drawn[:1]) if sees_all(problem.batch) else None
    return _fits(problem, shared, resampled, drawn, size, pilots)


def _share_permutations(problem: Problem, _: None, size: int) -> Shared:
    # Permuted labels have no more to do with the features than the null model has.
    return _share(problem, size, "null")


def _permutations(problem: Problem, shared: Shared, _: None, keys: Array, size: int) -> Solution:
    batch = shared.batch

    def permuted(key: Array) -> Array:
        return jnp.take(batch.y, jax.random.permutation(key, batch.m_examples), axis=-1)

    labels = run_lanes(permuted, keys, size)
    return _fits(problem, shared, lambda y: dataclasses.replace(batch, y=y), labels, size)


def _fits(
    problem: Problem, shared: Shared, data: Callable, lanes: Array, size: int, pilots: Any = None
) -> Solution:
    """Return the fits to the batches that `data` makes of the lanes."""
    return fit_lanes(
        problem, shared, lambda lane: (data(lane), problem.penalties), lanes,
        jnp.zeros(len(lanes), jnp.int32), size, fitted, pilots,
    )  # fmt: skip
