"""One lane from start to finish: pilot, minimise, certify."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr import minimize
from jaxlr.certificate import certify
from jaxlr.curvature import Curvature, make_curvature, preconditioner
from jaxlr.objective import NO_PENALTY, value_and_grad
from jaxlr.pilot import Pilot, make_pilot, null_model, sample_size
from jaxlr.types import (
    Array,
    Batch,
    Params,
    Penalty,
    Solution,
    Status,
    check_shapes,
    init_params,
)
from jaxlr.wide import back, into, narrow


def default_tolerance(dtype) -> float:
    """Return the suboptimality that a fit aims at: 1e-20 in float64, 1e-10 in float32.

    >>> default_tolerance(jnp.float32)
    1e-10
    """
    return 1e-20 if jnp.finfo(dtype).bits == 64 else 1e-10


def _patience(batch: Batch, curvature: Curvature) -> int:
    """Return after how many passes the curvature is made anew: as many as that costs.

    So no more than twice the passes are spent of one who knew beforehand whether it pays.
    """
    rows, k, *_ = curvature.H.shape
    return max(20, (rows * k) ** 2 // (2 * rows * max(batch.n_classes - 1, 1)))


class _State(NamedTuple):
    search: minimize.Search
    H: Array  # of the curvature
    stale: Array  # whether the curvature is to be made anew


def fit(
    batch: Batch,
    penalty: Penalty = NO_PENALTY,
    *,
    init: Params | None = None,
    curvature: Curvature | None = None,
    tol: Array | None = None,
    max_passes: Array | int = 500,
) -> Solution:
    """Fit a logistic regression to its optimum.

    Minimises `Σ cᵢℓᵢ / Σ cᵢ + ½·l2·Σⱼ fⱼ‖wⱼ‖²`. Works under `jax.jit` and `jax.vmap`: over
    penalties, labels, weights, or anything else.

    Args:
        batch: the examples.
        penalty: `Penalty(l2, factors)`.
        init: where to start. When None, the optimum of a sample of the examples where they are
            many (see `jaxlr.pilot`), else the null model.
        curvature: from `make_curvature`, to start with; that of the sample, or of the null
            model, when None. Under vmap, lanes that are given one share it.
        tol: stop when the estimated suboptimality is at most this; by default 1e-20 in
            float64 and 1e-10 in float32, or at the precision of the dtype.
        max_passes: the most passes over X.

    Returns:
        A `Solution`. Nothing is raised for data: look at `status`, or call
        `solution.raise_if_failed()`.

    Raises:
        ValueError: when shapes do not fit each other.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> solution = fit(batch, Penalty(l2=0.1)).raise_if_failed()
    >>> f"{solution.params.w[0]:.3f} {solution.loss:.3f}"
    '0.637 0.616'
    """
    params = init_params(batch.n_features, batch.n_classes) if init is None else init
    check_shapes(params, batch, penalty)
    return _fit(batch, penalty, init, curvature, tol, max_passes)


@jax.jit
def _fit(batch, penalty, init, curvature, tol, max_passes) -> Solution:
    if curvature is not None:
        return _fit_as_is(batch, penalty, init, curvature, tol, max_passes)
    batch, Q = narrow(batch, penalty)
    init = None if init is None else into(Q, init)
    solution = _fit_as_is(batch, penalty, init, None, tol, max_passes)
    return solution._replace(params=back(Q, solution.params))


def _fit_as_is(batch, penalty, init, curvature, tol, max_passes) -> Solution:
    null = null_model(batch)
    if curvature is None and sample_size(batch) < batch.m_examples:
        pilot = make_pilot(batch, penalty)
    else:
        pilot = Pilot(null, make_curvature(null, batch) if curvature is None else curvature)
    start, curvature = pilot.params if init is None else init, pilot.curvature
    dtype = jnp.result_type(batch.X, start.w, start.b, jnp.float32)
    tol = jnp.asarray(default_tolerance(dtype) if tol is None else tol, dtype)
    max_passes = jnp.asarray(max_passes, jnp.int32)
    x, unravel = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, dtype), start))
    x_null = jnp.asarray(ravel_pytree(null)[0], dtype)

    def objective(x: Array) -> tuple[Array, Array]:
        value, grad = value_and_grad(unravel(x), batch, penalty)
        return value, ravel_pytree(grad)[0]

    centre, patience = curvature.centre, _patience(batch, curvature)

    def refresh(state: _State) -> _State:
        # Where the step is being shortened the curvature misleads, as it does far out, where it
        # vanishes: that of the null model is a safe one.
        place = jnp.where(state.search.step == 1, state.search.x, x_null)
        search = minimize.forget(state.search)
        search = search._replace(num_passes=search.num_passes + 1)
        return _State(search, make_curvature(unravel(place), batch, centre).H, jnp.array(False))

    def stage(state: _State) -> _State:
        # A loop of one turn or none: under vmap it runs only if a lane needs it.
        state = lax.while_loop(lambda state: state.stale, refresh, state)
        P = preconditioner(Curvature(state.H, centre), penalty)
        search = minimize.minimize(
            objective,
            lambda g: ravel_pytree(P(unravel(g)))[0],
            state.search,
            tol=tol,
            max_passes=jnp.minimum(state.search.num_passes + patience, max_passes),
        )
        return _State(search, state.H, search.status == minimize.RUNNING)

    def unfinished(state: _State) -> Array:
        return (state.search.status == minimize.RUNNING) & (state.search.num_passes < max_passes)

    first = _State(minimize.start(x), curvature.H, jnp.array(False))
    search = lax.while_loop(unfinished, stage, first).search
    params, grad = unravel(search.x), unravel(search.grad)
    suboptimality, unbounded = certify(params, batch, penalty, grad.b)
    status = search.status
    status = jnp.where(status == minimize.RUNNING, Status.OUT_OF_PASSES, status)
    finite = status != Status.NOT_FINITE
    status = jnp.where(finite & unbounded, Status.NO_FINITE_OPTIMUM, status)
    return Solution(
        params,
        search.value,
        jnp.linalg.norm(search.grad),
        jnp.where(finite, suboptimality, jnp.inf),
        search.num_passes + 1,
        status.astype(jnp.int32),
    )
