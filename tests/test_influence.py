"""Leaving out examples, against refits without them and against derivatives of fits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import jaxlr
from tests.helpers import problem, quick, tiles_of

pytestmark = pytest.mark.usefixtures("x64")

FACTORS = jnp.array([0.5, 1.0, 2.0])


def exact(batch, penalty):
    """Return the logits of each example, and the parameters, of the fit without it."""
    m = batch.m_examples
    weights = jnp.ones(m) if batch.weights is None else batch.weights

    def without(i):
        left = dataclasses.replace(batch, weights=weights.at[i].set(0))
        params = jaxlr.fit(left, penalty).params
        return jaxlr.logits(params, batch.X, batch.offset)[..., i], params

    axes: Any = (-1, 0)
    return quick(jax.vmap(without, 0, axes))(jnp.arange(m))


def relative(actual, expected, start):
    actual, expected, start = map(np.asarray, (actual, expected, start))
    return np.abs(actual - expected).max() / np.abs(expected - start).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "n_classes", "limit"), [((3, 400), 2, 0.004), ((3, 400), 3, 0.02), ((9, 7), 2, 0.2)]
)
def test_one_newton_step_is_near_a_refit(shape, n_classes, limit):
    n, m = shape
    _, batch = problem(n, m, n_classes, weights=True, offset=True, soft=True)
    penalty = jaxlr.Penalty(jnp.array(0.1), FACTORS if shape == (3, 400) else None)
    solution = jaxlr.fit(batch, penalty)
    left_out = jaxlr.leave_one_out(solution.params, batch, penalty)
    logits, params = exact(batch, penalty)
    start = jaxlr.logits(solution.params, batch.X, batch.offset)
    assert relative(left_out.logits, logits, start) < limit
    moved = jaxlr.leave_one_out_params(solution.params, batch, penalty)
    assert relative(moved.w, params.w, solution.params.w) < limit
    assert relative(moved.b, params.b, solution.params.b) < limit
    # Both say the same of an example's own logits.
    X, offset = batch.X[..., None], jnp.asarray(batch.offset)[..., None]
    own = jax.vmap(lambda p, x, o: jaxlr.logits(p, x, o), (0, 1, -2), -1)(moved, X, offset)
    np.testing.assert_allclose(own[..., 0, :], left_out.logits, rtol=1e-8)


@pytest.mark.slow
def test_the_error_falls_as_the_square_of_the_share_of_an_example():
    # One Newton step: with four times the examples each error is sixteen times smaller, and
    # what moves is four times smaller.
    penalty, errors = jaxlr.Penalty(jnp.array(0.05)), []
    for repeats in (1, 4):
        _, batch = problem(2, 40, weights=True)
        many = batch.select(lambda a: jnp.tile(a, repeats))  # noqa: B023
        params = jaxlr.fit(many, penalty).params
        logits, _ = exact(many, penalty)
        errors.append(jnp.abs(jaxlr.leave_one_out(params, many, penalty).logits - logits).max())
    assert 10 < errors[0] / errors[1] < 25


def test_an_objective_that_is_quadratic_is_left_exactly():
    # With labels at ½ and weights near 0 the loss is z²/8 + log 2, and one step is enough.
    _, batch = problem(2, 12, weights=True)
    batch = dataclasses.replace(batch, y=jnp.full(12, 0.5), offset=1e-4 * batch.X[0])
    penalty = jaxlr.Penalty(jnp.array(0.2))
    params = jaxlr.fit(batch, penalty).params
    left_out = jaxlr.leave_one_out(params, batch, penalty)
    logits, _ = exact(batch, penalty)
    start = jaxlr.logits(params, batch.X, batch.offset)
    # What is left is `cᵢ·l2` in the Hessian, of which the step takes the gradient alone.
    assert relative(left_out.logits, logits, start) < 0.06


def test_leverages_sum_to_the_effective_number_of_parameters():
    _, batch = problem(3, 60, weights=True)
    params = jaxlr.fit(batch).params
    left_out = jaxlr.leave_one_out(params, batch)
    np.testing.assert_allclose(left_out.leverage.sum(), 4, rtol=1e-9)
    assert left_out.trusted.all()


@pytest.mark.usefixtures("quick_programs")
def test_an_influence_is_a_derivative_of_the_fit():
    for n_classes in (2, 3):
        _, batch = problem(3, 40, n_classes, weights=True, offset=True)
        _, held_out = problem(3, 15, n_classes, seed=4)
        penalty = jaxlr.Penalty(jnp.array(0.1), FACTORS)

        def loss(params):
            return jaxlr.loss(params, held_out)  # noqa: B023

        def outer(weights):
            moved = dataclasses.replace(batch, weights=weights)  # noqa: B023
            return loss(jaxlr.fit(moved, penalty).params)  # noqa: B023

        actual = jaxlr.influence(loss, jaxlr.fit(batch, penalty).params, batch, penalty)
        h = 1e-3
        for i in (0, 7):
            c = batch.weights
            slope = (outer(c.at[i].add(h)) - outer(c.at[i].add(-h))) / (2 * h)
            np.testing.assert_allclose(actual[i], -c[i] * slope, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_programs")
def test_tiles_and_nearly_separable_data():
    _, batch = problem(3, 3000, 3, weights=True)
    penalty = jaxlr.Penalty(jnp.array(0.1))
    params = jaxlr.fit(batch, penalty).params
    whole = jaxlr.leave_one_out(params, batch, penalty)
    with tiles_of(1024):
        tiled = jaxlr.leave_one_out(params, batch, penalty)
    np.testing.assert_allclose(tiled.loss, whole.loss, rtol=1e-10)
    X, y = map(np.asarray, load_breast_cancer(return_X_y=True))
    batch = jaxlr.Batch.from_rows((X - X.mean(0)) / X.std(0), y, dtype="float64")
    weak, strong = jaxlr.Penalty(jnp.array(1e-6)), jaxlr.Penalty(jnp.array(1e-1))
    assert not jaxlr.leave_one_out(jaxlr.fit(batch, weak).params, batch, weak).trusted.all()
    assert jaxlr.leave_one_out(jaxlr.fit(batch, strong).params, batch, strong).trusted.all()


def test_an_influence_on_many_numbers_is_refused():
    params, batch = problem(3, 20)
    with pytest.raises(ValueError, match=r"fun returns shape \(3,\) where a number"):
        jaxlr.influence(lambda p: p.w, params, batch)


def test_a_large_softmax_is_refused():
    params, batch = problem(300, 400, 5)
    with pytest.raises(ValueError, match="300 features × 5 classes are too many"):
        jaxlr.leave_one_out(params, batch)


@pytest.mark.slow
def test_what_is_rounding_is_not_trusted():
    # Wide, weak penalties, float32: 1 − leverage is rounding, whatever the logits say.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 12)), rng.dirichlet(np.ones(3), 12).T
    penalties = jaxlr.Penalty(jnp.logspace(-6, 1, 8, dtype="float32"))
    rough, fine = (
        jaxlr.cross_validate(
            jaxlr.Batch(jnp.asarray(X, dtype), jnp.asarray(y, dtype), n_classes=3),
            jaxlr.Penalty(penalties.l2.astype(dtype)),
            folds="loo",
        )
        for dtype in ("float32", "float64")
    )
    off = abs(rough.scores.log_loss - fine.scores.log_loss).max(axis=1) > 0.05
    untrusted = jnp.asarray(rough.untrusted)
    assert off.any()
    assert (untrusted[off] == 12).all()
    assert untrusted[-1] == 0
    assert rough.best == fine.best


@pytest.mark.slow
@pytest.mark.usefixtures("quick_programs")
def test_a_leave_one_out_loss_is_differentiable_both_ways():
    _, batch = problem(3, 40, 3, weights=True)

    def total(t):
        penalty = jaxlr.Penalty(jnp.exp(t), FACTORS)
        params = jaxlr.fit(batch, penalty).params
        return jaxlr.leave_one_out(params, batch, penalty).loss.sum()

    t, h = jnp.array(-1.0), 1e-4
    slope = (total(t + h) - total(t - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(total)(t), slope, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(total)(t), slope, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_programs")
def test_parameters_of_another_objective_are_noticed():
    X, y = map(np.asarray, load_breast_cancer(return_X_y=True))
    batch, penalty = jaxlr.Batch.from_rows((X - X.mean(0)) / X.std(0), y), jaxlr.Penalty(1e-2)
    params = jaxlr.fit(batch, penalty).params
    jaxlr.leave_one_out(params, batch, penalty)
    words = "no optimum of this objective: a Newton step would lower the loss, summed"
    for function in (
        lambda *args: jaxlr.leave_one_out(*args),
        lambda *args: jaxlr.leave_one_out_params(*args),
        lambda *args: jaxlr.influence(lambda p: p.w[0], *args),
    ):
        function(params, batch, penalty)
        with pytest.warns(RuntimeWarning, match=words) as seen:
            function(params, batch)
        assert seen[0].filename == __file__
