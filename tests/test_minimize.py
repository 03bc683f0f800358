"""The quasi-Newton loop on functions with known minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlr.model.solution import Status
from jaxlr.solver import minimize


def run(value, x, tol=1e-12, max_passes=100, precondition=lambda g: g):
    search = minimize.start(jnp.asarray(x))
    return minimize.minimize(
        jax.value_and_grad(value), precondition, search, tol=tol, max_passes=max_passes
    )


def test_quadratic_with_its_hessian_takes_two_passes(x64):
    A = jnp.diag(jnp.array([1.0, 1e4, 1e-3]))
    end = run(
        lambda x: (x - 2) @ A @ (x - 2) / 2, np.zeros(3), precondition=lambda g: g / A.diagonal()
    )
    np.testing.assert_allclose(end.x, 2.0, rtol=1e-12)
    assert (int(end.num_passes), int(end.status)) == (2, Status.CONVERGED)


def test_another_preconditioner_costs_no_evaluation(x64):
    """The step after it is that of the new P, whatever the pairs of before say."""
    A = jnp.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])

    def value_and_grad(x):
        return (x - 2) @ A @ (x - 2) / 2, A @ (x - 2)

    search, tol = minimize.start(jnp.zeros(3)), jnp.array(1e-20)
    for _ in range(3):
        search = minimize.advance(search, value_and_grad, lambda g: 0.2 * g, tol)
    assert search.status == minimize.RUNNING
    there = search.x
    search = minimize.with_another(search, jnp.linalg.solve(A, search.grad))
    np.testing.assert_allclose(search.decrement, value_and_grad(there)[0], rtol=1e-12)
    search = minimize.advance(search, value_and_grad, lambda g: jnp.linalg.solve(A, g), tol)
    np.testing.assert_allclose(search.x, 2.0, rtol=1e-12)
    assert (int(search.num_passes), int(search.status)) == (4, Status.CONVERGED)
    assert minimize.with_another(search, jnp.full(3, jnp.nan)).status == Status.NOT_FINITE


def test_ill_conditioned_without_preconditioner(x64):
    scales = jnp.geomspace(1.0, 1e3, 12)
    end = run(lambda x: (scales * (x - 1) ** 2).sum(), np.zeros(12), tol=1e-18, max_passes=300)
    np.testing.assert_allclose(end.x, 1.0, atol=1e-8)
    assert int(end.status) == Status.CONVERGED


def test_counts_are_of_evaluations(x64):
    calls = []

    def value(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.log(jnp.cosh(x - 3)).sum()

    end = run(value, np.zeros(2))
    jax.effects_barrier()
    assert len(calls) == int(end.num_passes)


def test_a_step_into_infinity_is_shortened(x64):
    # −log is infinite beyond zero, where the first step leads: −log(x) + x has its minimum at 1.
    end = run(lambda x: (x - jnp.log(x)).sum(), [0.01])
    np.testing.assert_allclose(end.x, 1.0, rtol=1e-6)
    assert int(end.status) == Status.CONVERGED


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_start_that_is_not_finite_ends_at_once(bad):
    end = run(lambda x: (x**2).sum() + bad, [1.0])
    assert (int(end.status), int(end.num_passes)) == (Status.NOT_FINITE, 1)


def test_a_gradient_that_is_not_finite_ends_at_once():
    end = run(lambda x: jnp.sqrt(x).sum(), [0.0])
    assert int(end.status) == Status.NOT_FINITE


def test_passes_are_limited_and_the_search_goes_on():
    def value(x):
        return jnp.logaddexp(x, -3 * x).sum()

    first = run(value, [9.0], max_passes=3)
    assert (int(first.status), int(first.num_passes)) == (minimize.RUNNING, 3)
    grad = jax.value_and_grad(value)
    end = minimize.minimize(grad, lambda g: g, first, tol=1e-10, max_passes=60)
    np.testing.assert_allclose(end.x, np.log(3) / 4, rtol=1e-4)


def test_the_precision_of_the_dtype_is_not_out_of_passes():
    # With so small a tolerance only rounding can end it; the minimum is known.
    end = run(lambda x: jnp.cosh(x - 0.3).sum(), np.zeros(5, np.float32), tol=0.0, max_passes=500)
    assert int(end.status) in (Status.PRECISION_REACHED, Status.CONVERGED)
    assert int(end.num_passes) < 40
    np.testing.assert_allclose(end.x, 0.3, atol=1e-4)


def test_lanes_do_not_change_each_other():
    def end(target):
        return run(lambda x: jnp.cosh(x - target).sum(), np.zeros(3, np.float32))

    targets = jnp.array([0.5, jnp.nan, 2.0, 5.0])
    lanes = jax.vmap(end)(targets)
    assert lanes.status.tolist()[1] == Status.NOT_FINITE
    for i in (0, 2, 3):
        alone = end(targets[i])
        np.testing.assert_allclose(lanes.x[i], alone.x, rtol=1e-5)
        assert int(lanes.num_passes[i]) == int(alone.num_passes)


@pytest.mark.parametrize("factor", [np.nan, np.inf, -1.0])
def test_where_the_pairs_lead_uphill_or_nowhere_p_leads_on(factor, monkeypatch):
    def bowl(x):
        return ((x - 1) ** 2 * jnp.arange(1, 4)).sum(), 2 * (x - 1) * jnp.arange(1, 4)

    search = minimize.start(jnp.zeros(3))
    for _ in range(3):
        search = minimize.advance(search, bowl, lambda g: g / 9, jnp.array(1e-12))
    with monkeypatch.context() as patch:
        patch.setattr(minimize, "_lbfgs", lambda g, *_: factor * g)
        after = minimize.advance(search, bowl, lambda g: g / 9, jnp.array(1e-12))
    assert int(after.status) == minimize.RUNNING
    np.testing.assert_allclose(after.direction, -after.grad / 9)
    end = minimize.minimize(bowl, lambda g: g / 9, after, tol=1e-12, max_passes=99)
    np.testing.assert_allclose(end.x, 1, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 11])
def test_lbfgs_matrix_is_the_dense_bfgs_formula_of_the_last_pairs(count, x64):
    """Of eight of them; a step that is not curved takes a place and has no effect."""
    rng = np.random.default_rng(0)
    P = np.diag(rng.uniform(0.5, 2.0, 6))
    M = rng.normal(size=(6, 6))
    A = M @ M.T + np.eye(6)
    search = minimize.start(jnp.zeros(6))._replace(value=jnp.array(1.0))
    pairs = []
    for i in range(count):
        s = rng.normal(size=6)
        y = -A @ s if i == 4 else A @ s
        pairs.append((s, y))
        kept = minimize._remember(search, *map(jnp.asarray, (s, y, P @ y)))
        names = ("pairs", "inverse", "inner", "scale")
        search = search._replace(**dict(zip(names, kept, strict=True)))
        if i != 4:
            np.testing.assert_allclose(search.scale, (s @ y) / (y @ P @ y), rtol=1e-12)
    H = 0.7 * P
    for s, y in pairs[-8:]:
        if s @ y > 0:
            V = np.eye(6) - np.outer(y, s) / (s @ y)
            H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    g = jnp.asarray(rng.normal(size=6))
    kept = search.pairs, search.inverse, search.inner
    found = minimize._lbfgs(g, P @ g, *kept, jnp.array(0.7))
    np.testing.assert_allclose(found, H @ g, rtol=1e-9)


def test_a_preconditioner_that_leads_uphill_is_no_convergence():
    """As one that is not positive in rounding: its decrement is below any tolerance."""
    start = minimize.start(jnp.ones(2))
    end = minimize.minimize(
        lambda x: ((x**2).sum() / 2, x), lambda g: -g, start, tol=jnp.array(1e-8), max_passes=50
    )
    assert end.status == Status.PRECISION_REACHED
    assert end.value == 1.0


def test_a_value_that_rises_where_the_slope_falls_is_rounding():
    """As far out, where a logit is a difference of large numbers."""
    end = minimize.minimize(
        lambda x: (jnp.where(x[0] == 1, 1.0, 5.0), jnp.ones(2)), lambda g: g,
        minimize.start(jnp.ones(2)), tol=jnp.array(1e-8), max_passes=50,
    )  # fmt: skip
    assert end.status == Status.PRECISION_REACHED
    assert end.value == 1.0
