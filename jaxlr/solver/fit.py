"""One lane from start to finish: pilot, minimise, certify."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxlr.base.arguments import check_options, says_what_is_due, transfers
from jaxlr.base.meshes import with_auto_axes
from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import size
from jaxlr.model.objective import NO_PENALTY, loss, value_and_grad
from jaxlr.model.penalty import Penalty, check_penalty
from jaxlr.model.shapes import check_shapes, check_type
from jaxlr.model.solution import Solution, Status
from jaxlr.solver.certificate import Certificate, certify
from jaxlr.solver.compiling import is_little, jit_by_work
from jaxlr.solver.curvature import Curvature, Factor, make_curvature
from jaxlr.solver.implicit import with_derivatives
from jaxlr.solver.null import start_model
from jaxlr.solver.pilot import Pilot, make_pilot, sees_all
from jaxlr.solver.separation import judged, may_be_unpenalised
from jaxlr.solver.solve import End, solve
from jaxlr.solver.watch import warn_if_failed
from jaxlr.solver.wide import Basis, back, into, is_wide, narrow


def default_tolerance(dtype) -> float:
    """Return the suboptimality that a fit aims at: 1e-20 in float64, 1e-10 in float32.

    >>> default_tolerance(jnp.float32)
    1e-10
    """
    return 1e-20 if jnp.finfo(dtype).bits == 64 else 1e-10


@says_what_is_due
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

    `params` and `loss` are differentiable with respect to X, y, weights, offset, l2 and
    factors, in forward and reverse mode and more than once, by the implicit function theorem
    (see `jaxlr.solver.implicit`): how the optimum was found plays no part. The other fields have
    derivatives of zero. A derivative is that at the point which was found, and its error is
    about `‖H⁻¹‖·gradient_norm`, which shrinks as √tol.
    Where parameters are not determined (no penalty, collinear features) the derivative is the one
    of least norm; one by X then lacks what the turning of the null space adds. It is NaN for a fit
    whose status is not ok, with a warning outside jit and vmap, and where the solver reckons that
    its linear system is not solved to √eps. A penalty that is all that holds a direction, and
    small, multiplies the rounding of the system's right-hand side by 1/l2: for l2 below 1e-6 with
    collinear features in float32 nothing shows that but `inverse_hvp`, whose residual is measured.

    Args:
        batch: the examples.
        penalty: `Penalty(l2, factors)`.
        init: where to start, if the loss there is not above that of the null model. When None, the
            optimum of a sample of the examples if they are many (see `jaxlr.solver.pilot`), else
            the null model, which knows the offset. From parameters in float64 the fit
            is in float64, whatever the dtype of X: that polishes a fit in float32.
        curvature: from `make_curvature`, to start with; that of the sample, or of the null
            model, when None. Under vmap, lanes that are given one share it.
        tol: stop when the estimated suboptimality is at most this; by default 1e-20 in
            float64 and 1e-10 in float32, or at the precision of the dtype.
        max_passes: the most passes over X of the search; one more proves the bound.

    Returns:
        A `Solution`. Nothing is raised for data: look at `status`, or call
        `solution.raise_if_failed()`.

    Raises:
        ValueError: when shapes do not fit each other; l2, tol or max_passes is negative, and
            known (of lanes under vmap, or inside jit, the status says it).
        TypeError: when an argument is of another type.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> solution = fit(batch, Penalty(l2=0.1)).raise_if_failed()
    >>> f"{solution.params.w[0]:.3f} {solution.loss:.3f}"
    '0.637 0.616'
    """
    check_shapes(init, batch, penalty)
    check_options(tol, max_passes)
    check_penalty(penalty)
    run = _fit_and_judge if may_be_unpenalised(penalty) else _fit
    run = with_auto_axes(functools.partial(run, is_little(batch)))
    return warn_if_failed(run(batch, penalty, init, curvature, tol, max_passes))


@transfers
def polish(solution: Solution, batch: Batch, penalty: Penalty = NO_PENALTY) -> Solution:
    """Fit again in float64 from where a fit in float32 ended, X as it is.

    x64 is on while it runs, and left as it was: not for use inside jit, where `fit` with an
    `init` in float64 does the same.

    Args:
        solution: of one lane, the one that was chosen.
        batch, penalty: its objective.

    Returns:
        A `Solution` in float64.

    Raises:
        ValueError: when shapes do not fit each other, or inside jit.
        TypeError: when an argument is of another type.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([0, 1, 0, 1]))
    >>> fine = polish(fit(batch, Penalty(l2=0.1)), batch, Penalty(l2=0.1))
    >>> str(fine.params.w.dtype), float(fine.suboptimality) < 1e-16
    ('float64', True)
    """
    check_type("solution", solution, Solution)
    check_shapes(solution.params, batch, penalty)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((solution, batch, penalty))):
        raise ValueError("polish switches x64 on: not inside jit. Use fit with a float64 init.")
    with jax.enable_x64(True):
        start = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), solution.params)
        return fit(batch, penalty, init=start)


def _search(
    batch, penalty, init, curvature, tol, max_passes, judge=False
) -> tuple[Solution, Factor | None]:
    """Return the solution and what `make_inverse` takes; judge: whether to look for separation."""
    options = {"tol": tol, "max_passes": max_passes, "judge": judge}
    if curvature is not None:
        end, factor = _search_as_is(batch, penalty, init, curvature, **options)
        # Of wide data `make_inverse` takes a factor of the narrow batch.
        return certified(batch, penalty, end), None if is_wide(batch, penalty) else factor
    small, Q = narrow(batch, penalty, common_dtype(jnp.float32, *(init or ())))
    init = None if init is None else into(Q, init)
    end, factor = _search_as_is(small, penalty, init, None, **options)
    return certified(batch, penalty, end, Q), factor


# Two programs: to look for separation is a third more to compile, and most fits have a penalty.
_fit = jit_by_work(with_derivatives(_search))
_fit_and_judge = jit_by_work(with_derivatives(functools.partial(_search, judge=True)))


def _search_as_is(
    batch, penalty, init, curvature, *, tol, max_passes, judge
) -> tuple[End, Factor | None]:
    null = start_model(batch)
    of_sample = curvature is not None or not sees_all(batch)
    if curvature is None and of_sample:
        pilot = make_pilot(batch, penalty)
    else:
        pilot = Pilot(null, make_curvature(null, batch) if curvature is None else curvature)
    start, curvature = pilot.params, pilot.curvature
    if init is not None:
        start = no_worse(init, null, batch, penalty)
    dtype = common_dtype(batch.X, start.w, start.b, jnp.float32)
    tol = jnp.asarray(default_tolerance(dtype) if tol is None else tol, dtype)
    start = jax.tree.map(lambda a: jnp.asarray(a, dtype), start)
    options = {"tol": tol, "max_passes": max_passes, "of_sample": of_sample}
    end, factor = solve(batch, penalty, start, curvature, **options)
    if judge:
        end = judged(end, batch, penalty, factor.centre)
    # That of a null model is no more than a start: at the optimum another is made.
    return end, factor if of_sample else None


def no_worse(init: Params, null: Params, batch: Batch, penalty: Penalty) -> Params:
    """Return where to start: init, or the null model if init is finite and worse.

    Far out, where all examples are saturated, there is no curvature to follow.

    Args:
        init: what the caller asked for.
        null: from `start_model`.
        batch, penalty: the objective.
    """
    dtype = common_dtype(*init, *null)
    both = jax.tree.map(lambda *a: jnp.stack([jnp.asarray(x, dtype) for x in a]), init, null)
    value, of_null = jax.vmap(loss, (0, None, None))(both, batch, penalty)
    finite = jnp.isfinite(init.w).all() & jnp.isfinite(init.b).all()
    worse = finite & ~(value <= of_null)
    return jax.tree.map(lambda a: jnp.where(worse, a[1], a[0]), both)


def certified(batch: Batch, penalty: Penalty, end: End, Q: Basis | None = None) -> Solution:
    """Return the solution with a bound on its distance from the optimum, from one more pass.

    Args:
        batch, penalty: the objective.
        end: of the search, in the batch that `narrow` made of this one if there is a Q.
        Q: from `narrow`.
    """
    end, rounding = lifted(batch, penalty, end, Q)
    return solution_of(end, certify(end.params, batch, penalty, end.grad.b), rounding)


def solution_of(end: End, certificate: Certificate, rounding: Array) -> Solution:
    """Return the solution that a search and a certificate make, and what `lifted` has moved."""
    suboptimality, unbounded = certificate
    finite = end.status != Status.NOT_FINITE
    status = jnp.where(finite & unbounded, Status.NO_FINITE_OPTIMUM, end.status)
    return Solution(
        end.params,
        end.value,
        jnp.sqrt((end.grad.w**2).sum() + (end.grad.b**2).sum()),
        jnp.where(finite, suboptimality + rounding, jnp.inf),
        end.num_passes + 1,
        status.astype(jnp.int32),
        jnp.where(finite, end.decrement + rounding, jnp.inf),
    )


def lifted(batch: Batch, penalty: Penalty, end: End, Q: Basis | None) -> tuple[End, Array]:
    """Return the end as one in the batch as it was, and what rounding has moved; by one pass if Q.

    That of R, or of wᵀX, moves a logit by ½·eps·‖x‖·‖w‖ or so, and the loss, whose curvature is ¼
    at most (for the softmax ½), by ⅛ of its square or so.
    """
    if Q is None:
        return end, jnp.zeros((), end.value.dtype)
    params = back(Q, end.params)
    value, grad = value_and_grad(params, batch, penalty)
    dtype = value.dtype
    largest, norm = size(batch.X, dtype)
    norm = norm * jnp.linalg.norm(params.w)
    moved = (jnp.finfo(dtype).eps * largest * norm) ** 2 / (32 * batch.m_examples)
    moved = jnp.nan_to_num(moved)
    rounded = (moved > default_tolerance(dtype)) & (end.status == Status.CONVERGED)
    status = jnp.where(rounded, Status.PRECISION_REACHED, end.status).astype(jnp.int32)
    return End(params, value, grad, end.num_passes + 1, status, end.decrement), moved
