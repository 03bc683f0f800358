"""The experiments on derivatives of fits, on little data, against what they do not compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import jaxlr
from experiments import data_cleaning, hypergradient, leave_one_out, relevance
from experiments.real_data.sets import DataSet
from jaxlr.model.objective import NO_PENALTY
from tests.helpers import plain_loss

pytestmark = pytest.mark.usefixtures("x64", "quick_programs")


def drawn(m=60, n=2, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(m, n))
    return DataSet("drawn", rows, (rows[:, 0] + rng.logistic(size=m) > 0).astype(int))


@pytest.mark.slow
def test_differences_of_refits_are_the_implicit_derivative():
    problem = hypergradient.drawn(200, 2, "float64", C=0.1)
    reference, doubt = hypergradient.differences(problem)
    # By hand, from a dense Hessian of the plain loss: dV/du = −l2·e^u·w ⊙ (H⁻¹∇V)_w.
    penalty = jaxlr.Penalty(jnp.array(problem.l2))
    params = jaxlr.fit(problem.train, penalty, tol=1e-30).params
    flat = jnp.append(params.w, params.b)

    def loss(flat, batch, penalty=NO_PENALTY):
        return plain_loss(jaxlr.Params(flat[:-1], flat[-1]), batch, penalty)

    H = jax.hessian(loss)(flat, problem.train, penalty)
    v = jnp.linalg.solve(H, jax.grad(loss)(flat, problem.held_out))
    expected = -problem.l2 * params.w * v[:-1]
    assert doubt < 1e-7
    assert hypergradient.deviation(expected, reference) < 1e-8
    (error,) = hypergradient.accuracy(problem, np.array([1e-20]), np.asarray(expected))
    assert error < 1e-8


@pytest.mark.slow
def test_the_peers_solve_the_same_problem():
    problem = hypergradient.drawn(200, 2, "float64", C=0.1)
    u = jnp.zeros(2)
    expected = jax.grad(hypergradient.held_out_loss)(u, problem)

    def unrolled(u):
        return hypergradient.unrolled(u, problem, num_steps=400, momentum=0.8)

    assert hypergradient.deviation(jax.jit(jax.grad(unrolled))(u), np.asarray(expected)) < 1e-6


def test_refits_leave_out_one_example_and_are_scikit_learns():
    data = drawn(12)
    batch = leave_one_out.padded(data, 3, 16)
    exact = leave_one_out.refits(batch, jaxlr.Penalty(jnp.array(0.1)), chunk=8)
    rows, m = leave_one_out.standardised(data), len(data.y)
    for i in (0, 5, 11):
        rest = np.arange(m) != i
        model = LogisticRegression(C=1 / (0.1 * (m - 1)), tol=1e-10).fit(rows[rest], data.y[rest])
        expected = -model.predict_log_proba(rows[i : i + 1])[0, data.y[i]]
        np.testing.assert_allclose(exact[i], expected, rtol=1e-4)


def test_a_summary_tells_flagged_from_trusted():
    exact, near = np.array([[1.0, 2.0], [1.0, 1.0]]), np.array([[1.1, 3.0], [1.0, 1.5]])
    curve = leave_one_out.Curve(exact, near, np.array([[True, False], [True, True]]), exact / 2)
    row = leave_one_out.summary("", curve, np.array([1.0, 0.1]))
    np.testing.assert_allclose(row["error"], [1.1 / 3, 0.25])
    np.testing.assert_allclose(row["error of the trusted"], [0.1 / 3, 0.25])
    assert row["not trusted"] == [1, 0]
    assert row["best"] == row["best by one step"] == 1


@pytest.mark.slow
def test_flips_are_found():
    data = drawn(120)
    task = data_cleaning.flip(data, 0)
    right = {tuple(x): y for x, y in zip(leave_one_out.standardised(data), data.y, strict=True)}
    wrong = [
        right[tuple(x)] != y for x, y in zip(task.train.X.T.tolist(), task.train.y, strict=True)
    ]
    np.testing.assert_array_equal(wrong, task.flipped)
    assert np.sum(wrong) == 12
    each = jax.jit(lambda task: data_cleaning.clean(task, num_steps=2))(task)
    # The first step of the descent is along the influence of each example.
    np.testing.assert_allclose(each["areas"][0], each["influence"], rtol=1e-12)
    # The loss of an example under a fit that barely knows it is a score by itself.
    params = jaxlr.fit(task.train, jaxlr.Penalty(data_cleaning.L2)).params
    losses = leave_one_out.losses(params, task.train)
    assert abs(roc_auc_score(task.flipped, losses) - each["left out"]) < 0.05
    assert each["tests"][2] < each["tests"][0]


def test_noise_stands_at_the_end_and_a_record_tells_what_was_put_away(monkeypatch):
    batch, test = relevance.noisy(drawn(100, n=1), 2, seed=0)
    assert batch.X.shape == test.X.shape == (3, 50)
    assert not set(batch.X[0].tolist()) & set(test.X[0].tolist())
    both = np.concatenate([batch.X[0], test.X[0]])
    np.testing.assert_allclose([both.mean(), both.std()], [0, 1], atol=1e-12)
    found = {"l2": 0.1, "free": {"cv": 0.1, "test": 0.9}, "no noise": {"test": 0.2}}
    found |= {"one": {"cv": 0.5, "test": 0.5}, "up": {"cv": 0.3, "test": 0.4, "l2": [0.1, 2, 0.2]}}
    monkeypatch.setattr(relevance, "search", lambda *_: found)
    row = relevance.study(drawn(100, n=1), 2, seeds=2)
    assert (row["away, real"], row["away, noise"], row["test, up"]) == (0, 0.5, 0.4)
