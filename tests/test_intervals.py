"""Standard errors: against statsmodels without a penalty, and a plain inverse with one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from jax.flatten_util import ravel_pytree

import jaxlr
from jaxlr.inference.intervals import _varies, standard_errors
from tests.helpers import plain_loss, problem


@pytest.mark.usefixtures("x64")
def test_without_a_penalty_they_are_statsmodels():
    _, batch = problem(3, 60, seed=1)
    solution = jaxlr.fit(batch).raise_if_failed()
    mean, scale = np.array([1.0, -2.0, 3.0]), np.array([2.0, 0.5, 4.0])
    found = standard_errors(solution.params, batch, jaxlr.Penalty(), mean, scale)
    assert found is not None
    X = np.asarray(batch.X).T
    raw = X * scale + mean
    for features, w, b in ((X, found.w, found.b), (raw, found.w / scale, found.raw_b)):
        fitted = sm.Logit(np.asarray(batch.y), sm.add_constant(features)).fit(disp=0, tol=1e-12)
        np.testing.assert_allclose(b, fitted.bse[0], rtol=1e-6)
        np.testing.assert_allclose(w, fitted.bse[1:], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_with_a_penalty_they_are_of_the_inverse_hessian_for_weighted_classes():
    _, batch = problem(2, 40, 3, seed=2, weights=True)
    penalty = jaxlr.Penalty(l2=0.1)
    params = jaxlr.fit(batch, penalty).raise_if_failed().params
    found = standard_errors(params, batch, penalty)
    assert found is not None
    flat, unravel = ravel_pytree(params)
    H = jax.hessian(lambda x: plain_loss(unravel(x), batch, penalty))(flat)
    covariance = np.linalg.pinv(np.asarray(H), rcond=1e-10) / np.asarray(batch.weights).sum()
    C = np.kron(np.eye(3), np.eye(3) - 1 / 3)  # about the mean over the classes
    errors = np.sqrt(np.diag(C @ covariance @ C))
    np.testing.assert_allclose(found.w, errors[:6].reshape(2, 3), rtol=1e-8)
    np.testing.assert_allclose(found.b, errors[6:], rtol=1e-8)


def test_what_is_not_determined_is_infinitely_unsure():
    _, batch = problem(2, 40, seed=3)
    X = jnp.concatenate([batch.X, batch.X[:1]])
    twins = jaxlr.Batch(X, batch.y)
    params = jaxlr.fit(twins).params
    found = standard_errors(params, twins, jaxlr.Penalty())
    assert found is not None
    assert np.isinf(found.w).tolist() == [True, False, True]
    assert np.isfinite(found.b)


def test_too_many_parameters_have_none():
    batch = jaxlr.Batch(jnp.zeros((2048, 2)), jnp.array([0.0, 1.0]))
    assert standard_errors(jaxlr.init_params(2048), batch, jaxlr.Penalty()) is None


def test_what_varies_is_seen_without_an_array_of_the_size_of_X():
    X = jnp.zeros((8, 400_000)).at[3, 377_777].set(1e-30)
    batch = jaxlr.Batch(X, jnp.zeros(400_000))
    analysis = _varies.lower(batch).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < X.size / 4  # bytes: as booleans X has X.size
    assert np.flatnonzero(_varies(batch)).tolist() == [3]
