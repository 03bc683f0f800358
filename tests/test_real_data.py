"""The judge of the fits on real data: its own Newton solve, its separation, its encoding."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, xlogy
from sklearn.datasets import load_breast_cancer, load_iris

from experiments.real_data import __main__ as real_data
from experiments.real_data import newton, sets


def data(K, m=80, n=3):
    rng = np.random.default_rng(K)
    return rng.normal(size=(m, n)) * [1e-3, 1.0, 1e4], rng.integers(0, K, m)


@pytest.mark.parametrize("K", [2, 4])
def test_the_objective_is_the_textbooks(K):
    rows, y = data(K)
    objective = newton.Objective(rows, y, 3e-6)
    rng = np.random.default_rng(0)
    k = 1 if K == 2 else K
    w, b = rng.normal(size=(3, k)) / [[1e-3], [1.0], [1e4]], rng.normal(size=k)
    Z = rows @ w + b
    Z = np.column_stack([np.zeros(len(y)), Z]) if K == 2 else Z
    expected = -log_softmax(Z, axis=1)[np.arange(len(y)), y].mean() + 1.5e-6 * (w**2).sum()
    theta = objective.parameters(w, b)
    np.testing.assert_allclose(objective.value(theta), expected, rtol=1e-13)
    g, H = objective.derivatives(theta)
    for i in (0, g.size - 1):
        e = np.zeros(g.size)
        e[i] = 1e-5
        up, down = theta + e.reshape(theta.shape), theta - e.reshape(theta.shape)
        slope = (objective.value(up) - objective.value(down)) / 2e-5
        np.testing.assert_allclose(g[i], slope, rtol=1e-6, atol=1e-8)
        column = (objective.derivatives(up)[0] - objective.derivatives(down)[0]) / 2e-5
        np.testing.assert_allclose(H[:, i], column, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("K", [2, 4])
def test_without_features_the_optimum_is_the_frequencies(K):
    _, y = data(K)
    frequencies = np.bincount(y) / len(y)
    optimum = newton.Objective(np.full((len(y), 1), 7.0), y, 0.1).minimum()
    np.testing.assert_allclose(optimum.value, -xlogy(frequencies, frequencies).sum(), rtol=1e-14)
    assert optimum.decrement < 1e-22


def test_separation():
    rows, y = map(np.asarray, load_iris(return_X_y=True))
    assert newton.separable(rows, y)  # the first species apart from the others
    assert not newton.separable(rows[50:], y[50:] - 1)
    x = np.arange(6.0)[:, None]
    tie = np.array([0, 0, 0, 1, 1, 1])
    assert newton.separable(x, tie)
    assert newton.separable(np.array([0.0, 1, 2, 2, 3, 4])[:, None], tie)  # all but a tie
    assert not newton.separable(x, np.array([0, 0, 1, 0, 1, 1]))
    rng = np.random.default_rng(0)
    many = rng.normal(size=(3000, 2))
    assert not newton.separable(many, rng.integers(0, 2, 3000), part=500)
    assert newton.separable(many, (many[:, 0] > 0).astype(int), part=500)


def test_an_excess_is_that_of_the_values():
    rows, y = map(np.asarray, load_breast_cancer(return_X_y=True))
    objective = newton.Objective(rows[:, :5], y, 1e-2)
    optimum = objective.minimum()
    zero = np.zeros((6, 1))
    assert objective.excess(zero, optimum) == objective.value(zero) - optimum.value > 0.1
    assert optimum.decrement < 1e-20


def test_gaps_are_left_out_and_levels_become_columns():
    table = pd.DataFrame(
        {"x": [1.0, 2.0, np.nan], "f": ["a", "b", "a"], "id": [1, 2, 3], "y": ["u", "v", "u"]}
    )
    found = sets.encoded("some", table, "y", ["id"])
    np.testing.assert_array_equal(found.rows, [[1, 1, 0], [2, 0, 1]])
    np.testing.assert_array_equal(found.y, [0, 1])


def test_fits_to_raw_columns_are_within_the_demands():
    rows, y = map(np.asarray, load_breast_cancer(return_X_y=True))
    row, *rest = real_data.compare(sets.DataSet("raw", rows, y))
    assert row["kept"] == {"float64": True, "float32": True}
    assert not rest  # without a penalty there is no optimum: the classes can be parted
    assert real_data.text(row)["data"] == "raw"
