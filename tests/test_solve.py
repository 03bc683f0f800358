"""The search for an optimum: how near it comes in float32, and when the curvature is made anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_breast_cancer

import jaxlr
from jaxlr.model.solution import Status
from jaxlr.solver import solve
from tests.helpers import plain_loss, quick


def excess(solution, batch, penalty):
    """Return how far a fit in float32 is from the optimum: Newton's decrement in float64.

    `½gᵀH⁻¹g` is the objective less its optimum, up to a factor near one so near to it.
    """
    params, X, l2 = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float64), (solution.params, batch.X, penalty.l2)
    )
    batch = jaxlr.Batch(X, batch.y, n_classes=batch.n_classes)
    x, unravel = ravel_pytree(params)

    def objective(x):
        return plain_loss(unravel(x), batch, jaxlr.Penalty(l2))

    g, H = quick(lambda x: (jax.grad(objective)(x), jax.hessian(objective)(x)))(x)
    return float(g @ np.linalg.lstsq(H, g, rcond=1e-14)[0] / 2)


def overlapping(n, m, n_classes):
    """Return classes that overlap, in float32: many parameters, of which few are needed."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, n_classes, m)
    X = rng.standard_normal((n_classes, n))[y] + 2 * rng.standard_normal((m, n))
    X = (X * np.arange(1, n + 1) ** -0.5).T.astype(np.float32)
    return jaxlr.Batch(jnp.asarray(X), jnp.asarray(y), n_classes=n_classes)


@pytest.mark.slow
@pytest.mark.parametrize("l2", [1e-3, 1e-9])
def test_float32_comes_nearer_than_its_values_can_tell(x64, l2):
    # The softmax has more parameters than a whole Hessian is made for: its P is a rough one.
    batch, penalty = overlapping(210, 1500, 5), jaxlr.Penalty(jnp.float32(l2))
    solution = jaxlr.fit(batch, penalty).raise_if_failed()
    assert solution.params.w.dtype == jnp.float32
    assert excess(solution, batch, penalty) < 1e-8


def raw():
    rows, y = load_breast_cancer(return_X_y=True)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    return jaxlr.Batch(jnp.asarray(rows.T, jnp.float32), jnp.asarray(y))


@pytest.mark.slow
@pytest.mark.parametrize("l2", [1e-4, 1e-7])
def test_a_stall_under_a_curvature_from_elsewhere_is_not_believed(x64, l2):
    batch, penalty = raw(), jaxlr.Penalty(jnp.float32(l2))
    centre = batch.X.mean(axis=1)
    scales = jnp.geomspace(1e-3, 1e3, batch.n_features + 1, dtype=jnp.float32)
    rough = jaxlr.Curvature(jnp.diag(scales)[None], centre)
    solution = jaxlr.fit(batch, penalty, curvature=rough).raise_if_failed()
    assert excess(solution, batch, penalty) < 1e-9


@pytest.mark.slow
def test_the_curvature_is_made_anew_where_that_pays(monkeypatch):
    made = []
    make = solve.own_curvature

    def counted(*args):
        jax.debug.callback(lambda: made.append(1))
        return make(*args)

    monkeypatch.setattr(solve, "own_curvature", counted)
    jax.clear_caches()
    batch = raw()
    strong = jaxlr.fit(batch, jaxlr.Penalty(1.0)).raise_if_failed()
    jax.effects_barrier()
    assert (len(made), int(strong.status)) == (0, Status.CONVERGED)
    weak = jaxlr.fit(batch, jaxlr.Penalty(1e-6)).raise_if_failed()
    jax.effects_barrier()
    assert 1 <= len(made) <= 8
    assert int(weak.num_passes) < 50
    # Where it is never paid for, not even a stall at the precision of the dtype makes one.
    made.clear()
    monkeypatch.setattr(solve, "renewal_price", lambda *_: 1e9)
    jax.clear_caches()
    slow = jaxlr.fit(batch, jaxlr.Penalty(1e-6))
    jax.effects_barrier()
    assert (len(made), slow.num_passes > weak.num_passes) == (0, True)
    jax.clear_caches()


@pytest.mark.parametrize("l2", [0.0, 1e-2])
def test_the_estimate_is_near_the_distance(x64, l2):
    # Ended early, where the distance can be told from rounding; without a penalty as well.
    narrow, penalty = overlapping(3, 400, 2), jaxlr.Penalty(l2)
    batch = jaxlr.Batch(narrow.X.astype(jnp.float64), narrow.y)
    optimum = jaxlr.fit(batch, penalty).raise_if_failed()
    for passes in (2, 3):
        early = jaxlr.fit(batch, penalty, max_passes=passes, tol=0.0)
        distance = float(early.loss - optimum.loss)
        assert distance / 2 < float(early.estimate) < 2 * distance


@pytest.mark.slow
def test_a_start_in_float64_polishes_a_fit_to_columns_in_float32(x64):
    batch, penalty = raw(), jaxlr.Penalty(jnp.float32(1e-4))
    solution = jaxlr.fit(batch, penalty)
    assert solution.params.w.dtype == jnp.float32
    start = jax.tree.map(lambda a: a.astype(jnp.float64), solution.params)
    polished = jaxlr.fit(batch, penalty, init=start).raise_if_failed()
    assert polished.params.w.dtype == polished.loss.dtype == jnp.float64
    assert excess(polished, batch, penalty) < 1e-18 < excess(solution, batch, penalty)
