"""Scores: of parameters, and of the fits of a cross-validation with their derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from tests.helpers import assert_close, problem, tiles_of


def test_score_gives_soft_labels_part_credit(dtype):
    params, batch = problem(3, 20, soft=True, weights=True, dtype=dtype)
    z = np.asarray(jaxlr.logits(params, batch.X), float)
    y, c = np.asarray(batch.y, float), np.asarray(batch.weights, float)
    expected = np.average(np.where(z > 0, y, 1 - y), weights=c)
    assert_close(jaxlr.score(params, batch).accuracy, expected, dtype)
    assert_close(jaxlr.score(params, batch).log_loss, jaxlr.loss(params, batch), dtype)


def test_score_of_nan_is_nan():
    params, batch = problem(3, 20)
    scores = jaxlr.score(params._replace(b=jnp.nan), batch)
    assert np.isnan(scores.log_loss)
    assert np.isnan(scores.accuracy)


@pytest.mark.quick("2")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_of_folds_have_the_derivatives_of_differences(x64, n_classes):
    _, batch = problem(3, 30, n_classes, weights=True, offset=True, soft=True)
    folds = np.arange(30) % 3

    def losses(l2, X, weights):
        data = dataclasses.replace(batch, X=X, weights=weights)
        scores = jaxlr.cross_validate(data, jaxlr.Penalty(l2), folds=folds).scores
        return scores.log_loss

    at = jnp.array([0.3, 0.05]), batch.X, batch.weights
    rng = np.random.default_rng(0)
    way = [jnp.asarray(rng.normal(size=a.shape) * np.asarray(abs(a))) for a in at]
    h = 1e-4
    steps = [losses(*(a + k * h * d for a, d in zip(at, way, strict=True))) for k in (-2, -1, 1, 2)]
    expected = (steps[0] - 8 * steps[1] + 8 * steps[2] - steps[3]) / (12 * h)
    _, forward = jax.jvp(losses, at, tuple(way))
    np.testing.assert_allclose(forward, expected, rtol=1e-7)
    lanes = jnp.asarray(rng.normal(size=expected.shape))
    slopes = jax.grad(lambda *at: (lanes * losses(*at)).sum(), argnums=(0, 1, 2))(*at)
    back = sum((s * d).sum() for s, d in zip(slopes, way, strict=True))
    np.testing.assert_allclose(back, (lanes * expected).sum(), rtol=1e-7)


@pytest.mark.slow
def test_second_derivatives_of_scores_are_those_of_differences(x64):
    _, batch = problem(3, 30, weights=True)
    folds = np.arange(30) % 3

    def log_loss(s):  # not linear in the scores
        scores = jaxlr.cross_validate(batch, jaxlr.Penalty(jnp.exp(s)), folds=folds).scores
        return jnp.log(scores.log_loss.mean())

    s, h = jnp.array([-1.0, -3.0]), 1e-4
    slope = jax.jit(jax.grad(log_loss))
    expected = [(slope(s + h * d) - slope(s - h * d)) / (2 * h) for d in jnp.eye(2)]
    np.testing.assert_allclose(jax.hessian(log_loss)(s), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_scores_of_wide_data_have_the_derivatives_of_differences(x64):
    _, batch = problem(40, 24)
    folds = np.arange(24) % 3

    def losses(l2):
        return jaxlr.cross_validate(batch, jaxlr.Penalty(l2), folds=folds).scores.log_loss

    l2, d, h = jnp.array([1.0, 0.1]), jnp.array([0.5, -0.03]), 1e-3
    steps = [losses(l2 + k * h * d) for k in (-2, -1, 1, 2)]
    expected = (steps[0] - 8 * steps[1] + 8 * steps[2] - steps[3]) / (12 * h)
    np.testing.assert_allclose(jax.jvp(losses, (l2,), (d,))[1], expected, rtol=1e-6)


def test_a_failed_lane_has_a_score_without_a_derivative(x64):
    _, batch = problem(3, 30)
    penalties = jnp.array([0.1, jnp.nan])

    def losses(l2):
        folds = np.arange(30) % 3
        return jaxlr.cross_validate(batch, jaxlr.Penalty(l2), folds=folds).scores.log_loss

    _, slopes = jax.jvp(losses, (penalties,), (jnp.ones(2),))
    assert np.isfinite(slopes[0]).all()
    assert np.isnan(slopes[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_and_bounds_of_ragged_tiles_are_those_of_the_whole(x64, n_classes):
    """Roles overlap: an example may be of both parts, or of none."""
    _, batch = problem(3, 45, n_classes, weights=True, soft=True)
    roles = np.random.default_rng(0).integers(0, 4, (2, 45))
    penalties = jaxlr.Penalty(jnp.array([0.3, 0.05]))
    whole = jaxlr.cross_validate(batch, penalties, folds=roles)
    with tiles_of(8):
        found = jaxlr.cross_validate(batch, penalties, folds=roles)
    for f in range(2):
        inside = dataclasses.replace(batch, weights=batch.weights * (roles[f] >= 2))
        outside = dataclasses.replace(batch, weights=batch.weights * (roles[f] % 2))
        for p in range(2):
            lane = jax.tree.map(lambda a, p=p, f=f: a[p, f], found.solutions)
            expected = jaxlr.score(lane.params, inside)
            scores = jax.tree.map(lambda a, p=p, f=f: a[p, f], found.scores)
            assert_close(scores, expected, "float64")
            np.testing.assert_allclose(
                lane.loss, jaxlr.loss(lane.params, outside, jaxlr.Penalty(penalties.l2[p]))
            )
            assert 0 <= lane.suboptimality < 1e-15
    assert_close(found.scores, whole.scores, "float64")
