"""More features than examples: the fit is that of the features as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.wide import back, into, narrow
from tests.helpers import plain_loss, problem


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fit_is_at_the_optimum_of_all_features(x64, n_classes):
    _, batch = problem(60, 12, n_classes, weights=True, offset=True)
    solution = jaxlr.fit(batch, jaxlr.Penalty(0.05)).raise_if_failed()
    assert solution.params.w.shape[0] == 60
    value, grad = jax.value_and_grad(plain_loss)(solution.params, batch, jaxlr.Penalty(0.05))
    np.testing.assert_allclose(solution.loss, value, rtol=1e-13)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(grad)) < 1e-9
    assert 0 <= solution.suboptimality < 1e-15


def test_factors_are_kept(x64):
    _, batch = problem(30, 12)
    factors = jnp.linspace(0.5, 2, 30)
    solution = jaxlr.fit(batch, jaxlr.Penalty(0.05, factors)).raise_if_failed()
    grad = jax.grad(plain_loss)(solution.params, batch, jaxlr.Penalty(0.05, factors))
    assert np.abs(grad.w).max() < 1e-9


@pytest.mark.slow
def test_lanes_are_fits(x64):
    _, batch = problem(30, 12, 3)
    l2 = jnp.array([1.0, 0.1])
    swept = jaxlr.sweep(batch, jaxlr.Penalty(l2))
    folds = jnp.arange(12) % 3
    crossed = jaxlr.cross_validate(batch, jaxlr.Penalty(l2), folds=folds)
    lanes = jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 3, jax.random.key(0))
    for i in range(2):
        alone = jaxlr.fit(batch, jaxlr.Penalty(l2[i]))
        np.testing.assert_allclose(swept.params.w[i], alone.params.w, atol=1e-8)
        for f in range(3):
            out = jaxlr.Batch(batch.X[:, folds != f], batch.y[folds != f], n_classes=3)
            alone = jaxlr.fit(out, jaxlr.Penalty(l2[i]))
            np.testing.assert_allclose(crossed.solutions.params.w[i, f], alone.params.w, atol=1e-8)
    counts = jaxlr.multinomial_counts(jax.random.split(jax.random.key(0), 3)[2], 12)
    again = jaxlr.Batch(batch.X, batch.y, counts.astype(float), n_classes=3)
    alone = jaxlr.fit(again, jaxlr.Penalty(0.1))
    np.testing.assert_allclose(lanes.params.w[2], alone.params.w, atol=1e-8)


def test_a_start_is_projected_and_back(x64):
    params, batch = problem(30, 12)
    small, Q = narrow(batch, jaxlr.Penalty())
    np.testing.assert_allclose(
        jaxlr.logits(into(Q, params), small.X), jaxlr.logits(params, batch.X), atol=1e-12
    )
    v = into(Q, params)
    np.testing.assert_allclose(into(Q, back(Q, v)).w, v.w, atol=1e-12)
    near = jaxlr.fit(batch, jaxlr.Penalty(0.1))
    again = jaxlr.fit(batch, jaxlr.Penalty(0.1), init=near.params)
    assert again.num_passes < near.num_passes
    np.testing.assert_allclose(again.params.w, near.params.w, atol=1e-8)
