"""jaxlr's way to each workload, and the two bare matrix products at the same shapes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxlr
from experiments.benchmarks import workloads
from experiments.benchmarks.timing import Fits, Ready
from experiments.benchmarks.workloads import Problem


def cross_validate(problem: Problem) -> Ready:
    """All penalties × folds, fitted and scored."""
    batch, penalty, folds = _batch(problem), _penalty(problem), jnp.asarray(problem.folds)

    def fits(result: jaxlr.CrossValidation) -> Fits:
        P, F = result.solutions.loss.shape
        flat = jax.tree.map(lambda a: a.reshape(P * F, *a.shape[2:]), result.solutions)
        return _fits(flat, np.repeat(_l2(problem), F), np.tile(np.arange(F), P))

    return Ready(lambda: jaxlr.cross_validate(batch, penalty, folds=folds), fits)


def sweep(problem: Problem) -> Ready:
    """All penalties, fitted and scored on the held-out rows."""
    batch, penalty = _batch(problem), _penalty(problem)
    held_out = jaxlr.Batch.from_rows(problem.X_val, problem.y_val, n_classes=problem.n_classes)
    score = jax.jit(jax.vmap(jaxlr.score, in_axes=(0, None)))

    def run():
        solution = jaxlr.sweep(batch, penalty)
        return solution, score(solution.params, held_out)

    return Ready(run, lambda result: _fits(result[0], _l2(problem), np.zeros(len(problem.l2))))


def fit(problem: Problem) -> Ready:
    """One fit."""
    batch, penalty = _batch(problem), jaxlr.Penalty(jnp.float32(problem.l2[0]))

    def fits(solution: jaxlr.Solution) -> Fits:
        lane = jax.tree.map(lambda a: a[None], solution)
        return _fits(lane, _l2(problem), np.zeros(1))

    return Ready(lambda: jaxlr.fit(batch, penalty), fits)


def bootstrap(problem: Problem) -> Ready:
    """As many refits as there are resamples, with counts of its own."""
    refit = getattr(jaxlr, "bootstrap", None)
    if refit is None:
        raise NotImplementedError("skipped: jaxlr has no bootstrap yet")
    batch, penalty = _batch(problem), jaxlr.Penalty(jnp.float32(problem.l2[0]))
    count, key = len(problem.columns), jax.random.key(0)

    def fits(solution: jaxlr.Solution) -> Fits:
        return _fits(solution, np.repeat(_l2(problem), count), np.full(count, -1))

    return Ready(lambda: refit(batch, penalty, num_resamples=count, key=key), fits)


def rate(folder: str, lanes: int) -> dict[str, float]:
    """Return the seconds that the two bare products of one lane take, among `lanes` lanes."""
    problem = workloads.load(Path(folder))
    columns = min(lanes, 64) * (1 if problem.n_classes == 2 else problem.n_classes)
    X = jnp.asarray(problem.X.T)
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.standard_normal((columns, X.shape[0]), dtype=np.float32))
    r = jnp.asarray(rng.standard_normal((columns, X.shape[1]), dtype=np.float32))
    products = jax.jit(lambda w, r: (w @ X, X @ r.T))
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        jax.block_until_ready(products(w, r))
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:]) / min(lanes, 64)}


def _batch(problem: Problem) -> jaxlr.Batch:
    batch = jaxlr.Batch.from_rows(problem.X, problem.y, n_classes=problem.n_classes)
    return jax.block_until_ready(batch)


def _l2(problem: Problem) -> np.ndarray:
    return problem.l2.astype(np.float32).astype(np.float64)  # as jaxlr has it


def _penalty(problem: Problem) -> jaxlr.Penalty:
    return jaxlr.Penalty(jnp.asarray(problem.l2, jnp.float32))


def _fits(solution: jaxlr.Solution, l2: np.ndarray, column: np.ndarray) -> Fits:
    w, b = (np.asarray(a) for a in solution.params)
    passes, bound, status = solution.num_passes, solution.suboptimality, solution.status
    return Fits(w, b, l2, column, *(np.asarray(a) for a in (passes, bound, status)))
