"""The benchmarks' float64 reference, against optima that it did not compute."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from experiments.benchmarks import quality, workloads
from experiments.benchmarks.timing import Fits


def objective(problem, w, b, l2, c):
    """The plain formula, with the logits (0, z) for two classes."""
    Z = problem.X.astype(np.float64) @ w + b
    Z = np.column_stack([np.zeros(len(Z)), Z]) if Z.ndim == 1 else Z
    losses = np.logaddexp.reduce(Z, axis=1) - Z[np.arange(len(Z)), problem.y]
    return (c * losses).sum() / c.sum() + l2 / 2 * (w**2).sum()


def optimum(problem, l2, c):
    """scikit-learn's, as far as float64 goes."""
    solver = "newton-cholesky" if problem.n_classes == 2 else "lbfgs"
    model = LogisticRegression(C=1 / (l2 * c.sum()), solver=solver, tol=1e-10, max_iter=10_000)
    model.fit(problem.X.astype(np.float64), problem.y, sample_weight=c)
    if problem.n_classes == 2:
        return model.coef_[0], np.ravel(model.intercept_)[0]
    return model.coef_.T, np.asarray(model.intercept_)


@pytest.mark.parametrize(
    "problem",
    [
        workloads.cross_validation(400, 5, folds=3, values=2),
        workloads.resamples(300, 4, count=2),
        workloads.wide(40, 90),
        dataclasses.replace(workloads.probe(300, 6, 3, 2), l2=np.array([1e-1, 1e-3])),
    ],
    ids=["folds", "resamples", "wide", "softmax"],
)
def test_excess_is_the_distance_to_the_optimum(problem):
    column, l2 = int(problem.columns[-1]), float(problem.l2[-1])
    c = problem.weights(column).astype(np.float64)
    w, b = optimum(problem, l2, c)

    def excess(w, b):
        fits = Fits(w[None], np.asarray(b)[None], np.array([l2]), np.array([column]))
        return quality.worst(problem, fits)[0]

    assert -1e-13 < excess(w, b) < 1e-11
    off = 1.5 * w
    expected = objective(problem, off, b, l2, c) - objective(problem, w, b, l2, c)
    assert expected > 1e-4
    assert excess(off, b) == pytest.approx(expected, abs=1e-11)


def test_a_problem_is_saved_whole(tmp_path):
    problem = workloads.resamples(50, 3, count=4)
    problem.save(tmp_path)
    loaded = workloads.load(tmp_path)
    for field in dataclasses.fields(problem):
        np.testing.assert_equal(getattr(loaded, field.name), getattr(problem, field.name))


def test_a_part_keeps_the_extreme_penalties():
    problem = workloads.cross_validation(60, 2, folds=5, values=10)
    part = problem.part(4, 2)
    assert part.l2[[0, -1]].tolist() == problem.l2[[0, -1]].tolist()
    assert (len(part.l2), part.columns.tolist(), part.lanes) == (4, [0, 1], 8)
