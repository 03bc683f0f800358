"""Penalties by gradient: the least held-out loss over log l2, one for all features or by group.

With w(θ) the fit under the penalties `l2 = exp θ`, the held-out loss V(w(θ)) has the gradient

    dV/dθ = −(∂g/∂θ)ᵀ H⁻¹ ∂V/∂w        g, H: gradient and Hessian of the objective that is fitted

of the implicit function theorem (Bengio, Gradient-based optimization of hyperparameters, 2000;
see `jaxlr.solver.implicit`): one linear system a fit, however many penalties there are. A penalty
for each feature is automatic relevance determination: that of a feature which does not help grows
until the feature is gone.

An optimiser of optax moves θ, within bounds; each fit starts where the last one ended, and all
folds share the curvature there.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer

from jaxlr.base.arguments import check_options, says_what_is_due
from jaxlr.base.printing import Shown, array_of, numbers, shown
from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.lanes.chunks import MEMORY, chunk_size, run_lanes
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import dense
from jaxlr.model.objective import loss
from jaxlr.model.penalty import Penalty
from jaxlr.model.shapes import check_shapes, check_type
from jaxlr.model.solution import FitError, Solution, Status
from jaxlr.solver.curvature import make_curvature
from jaxlr.solver.fit import fit
from jaxlr.solver.null import start_model
from jaxlr.solver.pilot import sample
from jaxlr.solver.wide import into, narrow
from jaxlr.studies.resampling import as_folds, parts

_RUNNING = -1
_LBFGS = optax.lbfgs()  # one object for all calls: the compiled program belongs to it


class TuneStatus(enum.IntEnum):
    """How a search for penalties ended. In `Tuned` it is an integer array, so that lanes stack."""

    CONVERGED = 0
    AT_BOUND = 1
    OUT_OF_STEPS = 2
    FAILED = 3

    @property
    def ok(self) -> bool:
        """Whether no penalty within the bounds has a slope above the tolerance."""
        return self <= TuneStatus.AT_BOUND

    @property
    def message(self) -> str:
        """What the status means, in a sentence."""
        return _MESSAGES[self]


_MESSAGES = {
    TuneStatus.CONVERGED: "the gradient is within the tolerance",
    TuneStatus.AT_BOUND: "the gradient is within the tolerance but for penalties that stand at an "
    "end of the bounds",
    TuneStatus.OUT_OF_STEPS: "num_steps points were tried before the gradient met the tolerance",
    TuneStatus.FAILED: "a fit failed, or the held-out loss or its gradient is not finite",
}


def _tuned(found: Any) -> Shown:
    status = array_of(found.status)
    word = ""
    if status is not None and not status.ndim:
        word = f": {TuneStatus(int(status)).name.lower().replace('_', ' ')}"
    rows = {"l2": numbers(found.penalty.l2), "factors": numbers(found.penalty.factors)}
    rows |= {name: numbers(getattr(found, name)) for name in ("value", "gradient", "num_steps")}
    return f"Tuned{word}", {name: words for name, words in rows.items() if words != "None"}


@shown(_tuned)
class Tuned(NamedTuple):
    """What `tune` returns.

    Args:
        penalty: the one found: the first stationary point, or where there was none that with the
            least held-out loss of those tried.
        value: the held-out loss there, `()`; infinite where no point could be evaluated.
        gradient: of the held-out loss there by log l2, `()`, or `(G,)` for G groups.
        solution: the fit to all of the batch under the penalty.
        history: the held-out loss of each point tried, `(num_steps,)`; NaN after the end.
        num_steps: how many points were tried, `()` int32.
        status: a `TuneStatus` code, `()` int32.
    """

    penalty: Penalty
    value: Array
    gradient: Array
    solution: Solution
    history: Array
    num_steps: Array
    status: Array

    def raise_if_failed(self) -> Tuned:
        """Return the result, or raise `FitError` naming the lanes that are not stationary.

        Reads the status on the host: not for use inside jit.
        """
        status = np.asarray(self.status)
        failed = np.argwhere(status > TuneStatus.AT_BOUND)
        if not len(failed):
            self.solution.raise_if_failed()
            return self
        first = TuneStatus(int(status[tuple(failed[0])]))
        where = f" of lane {', '.join(map(str, failed[0]))}" if status.ndim else ""
        raise FitError(f"The search{where} failed: {first.message} (status {int(first)}).")


@says_what_is_due
def tune(
    batch: Batch,
    penalty: Penalty,
    *,
    validation: Batch | None = None,
    folds: int | Array | None = None,
    key: Array | None = None,
    groups: Array | None = None,
    optimizer: optax.GradientTransformation = _LBFGS,
    num_steps: int = 50,
    gtol: Array | float = 1e-6,
    bounds: tuple[Array | float, Array | float] = (1e-8, 1e4),
    tol: Array | None = None,
    max_passes: Array | int = 500,
    memory: int = MEMORY,
) -> Tuned:
    """Search for the penalty with the least held-out loss, by its gradient.

    Minimises `V(θ)`, with penalties `l2 = exp θ`: the loss on `validation` of the fit to the
    batch, or the mean over the folds of the loss in each of the fit outside it, which is what
    `cross_validate` selects by. V need not be convex: what is found is a stationary point. For
    several starts `jax.vmap` over penalties; `jax.jit` works too.

    Args:
        batch: the examples to fit to.
        penalty: where to start. Without groups `l2` is searched for and `factors` stay; with
            them, l2 times factors, by group.
        validation: the examples to score on; or
        folds, key: as for `cross_validate`.
        groups: None, or the group of each feature, `(n,)` integers from 0: features of a group
            share one l2, that multiplies their factors. `jnp.arange(n)` for one each.
        optimizer: any optax transformation, by default `optax.lbfgs()`. It sees V in a scale in
            which the largest `|∂V/∂θ|` at the start is 1, so that learning rates are in units of
            log l2, as in `optax.adam(0.1)`. Keep the object to reuse the compiled program.
        num_steps: a Python integer, the most points to try; within a step the line search of
            `optax.lbfgs` may evaluate several.
        gtol: stop where no `|∂V/∂θ|` is above this, but for penalties that stand at a bound and
            want to cross it. Far from the best penalty V is flat and meets it too: V must also be
            convex along the last step, so that the start alone never counts. Slopes below the
            rounding of V, as in float32 under a penalty of 1e-7, tell nothing: do not start there.
        bounds: the least and the greatest l2, of every group; the start is moved into them.
        tol, max_passes: of the fits, as for `fit`; a derivative is of the point that was found,
            so that the default is tighter than there: 1e-14 in float32, 1e-20 in float64.
        memory: bytes that the folds may need beyond X; they run in chunks that fit.

    Returns:
        `Tuned`.

    Raises:
        ValueError: neither or both of validation and folds are given, l2 is negative, or what is
            given does not fit together.
        TypeError: num_steps is not a Python integer, or an argument is of another type.

    >>> X = jnp.linspace(-1.0, 1.0, 40).reshape(1, 40)
    >>> batch = Batch(X, (X[0] + jnp.sin(30 * X[0]) > 0).astype(int))
    >>> tuned = tune(batch, Penalty(l2=1.0), folds=4, key=jax.random.key(0)).raise_if_failed()
    >>> f"{tuned.penalty.l2:.3f}"
    '0.013'
    """
    check_shapes(None, batch, penalty)
    _check_start(penalty.l2)
    check_options(tol, max_passes)
    check_type("optimizer", optimizer, optax.GradientTransformation)
    if isinstance(folds, str):
        raise ValueError(
            f"folds is {folds!r}: tune scores fits to all examples but a fold's. Give how many "
            "folds, or fold numbers; folds='loo' is for cross_validate."
        )
    if (validation is None) == (folds is None):
        raise ValueError("Give either validation=, a batch to score on, or folds=.")
    if validation is not None:
        _check_validation(batch, validation)
        num_folds, folds = 1, None
    else:
        num_folds, folds = as_folds(batch, folds, key)  # pyright: ignore[reportArgumentType]
    num_groups = None if groups is None else _count(groups, batch.n_features)
    try:
        num_steps = operator.index(num_steps)
    except TypeError:
        raise TypeError(f"num_steps must be a Python integer, not {num_steps!r}.") from None
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; it must be at least 1.")
    _check_bounds(bounds)
    found = _search(
        _Problem(batch, penalty, validation, folds, groups, tuple(bounds), gtol, tol, max_passes),
        optimizer, num_steps, num_groups, num_folds, memory,
    )  # fmt: skip
    best, gradient, value, history, steps, status = found
    penalty = _penalty(penalty, groups, best)
    solution = fit(batch, penalty, tol=tol, max_passes=max_passes)
    return Tuned(penalty, value, gradient, solution, history, steps, status)


def _check_start(l2: Array) -> None:
    if not isinstance(l2, Tracer) and not np.all(np.asarray(l2) >= 0):
        raise ValueError(
            f"penalty.l2 is {l2}: a search for l2 starts from a number that is not negative."
        )


def _check_bounds(bounds: Any) -> None:
    pair = isinstance(bounds, tuple | list) and [jnp.shape(end) for end in bounds] == [(), ()]
    traced = pair and any(isinstance(end, Tracer) for end in bounds)
    if not pair or not (traced or 0 < bounds[0] < bounds[1]):
        raise ValueError(f"bounds are {bounds}: two numbers are due, 0 < least < greatest.")


def _check_validation(batch: Batch, validation: Batch) -> None:
    check_type("validation", validation, Batch)
    ours, theirs = ((b.n_features, b.n_classes, b.intercept) for b in (batch, validation))
    if ours != theirs:
        raise ValueError(
            "validation and the batch differ in (n_features, n_classes, intercept): "
            f"{theirs} and {ours}."
        )
    check_shapes(None, validation)


def _count(groups: Array, n: int) -> int:
    """Return how many groups there are."""
    if isinstance(groups, Tracer):
        raise ValueError("groups is traced, and their number depends on its values: close over it.")
    groups = np.asarray(groups)
    if groups.shape != (n,) or groups.dtype.kind not in "iu":
        raise ValueError(
            f"groups has shape {groups.shape} and dtype {groups.dtype} where ({n},) integers are "
            "due: the group of each feature."
        )
    numbers = np.unique(groups)
    if numbers[0] != 0 or numbers[-1] != len(numbers) - 1:
        raise ValueError(
            f"groups are numbered {numbers[0]} to {numbers[-1]} and {len(numbers)} of them have "
            f"features: 0 to {len(numbers) - 1} are due."
        )
    return len(numbers)


class _Problem(NamedTuple):
    batch: Batch
    penalty: Penalty
    validation: Batch | None
    folds: Array | None
    groups: Array | None
    bounds: tuple
    gtol: Array | float
    tol: Array | None
    max_passes: Array | int


class _State(NamedTuple):
    log_l2: Array  # the next point to try
    memory: Any  # the optimiser's
    params: Params  # of the last fits: a lane for each fold
    before: Array  # the last point,
    slope: Array  # and the gradient there
    scale: Array  # of the loss that the optimiser sees
    best: Array
    gradient: Array  # at the best
    value: Array
    history: Array
    num_steps: Array
    status: Array


def _penalty(start: Penalty, groups: Array | None, log_l2: Array) -> Penalty:
    """Return the penalty at a point; with groups, l2 is the geometric mean of theirs."""
    if groups is None:
        return Penalty(jnp.exp(log_l2), start.factors)
    mean = log_l2.mean()
    factors = jnp.exp(log_l2 - mean)[jnp.asarray(groups)]
    return Penalty(jnp.exp(mean), factors if start.factors is None else factors * start.factors)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _search(
    problem: _Problem,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    num_groups: int | None,
    num_folds: int,
    memory: int,
) -> tuple[Array, ...]:
    """Return the best point, the gradient and the value there, the history, steps and status."""
    batch, penalty, validation, folds, groups, bounds, gtol, tol, max_passes = problem
    dtype = common_dtype(batch.X, jnp.float32)
    tol = jnp.finfo(dtype).eps ** 2 if tol is None else tol
    low, high = (jnp.log(jnp.asarray(end, dtype)) for end in bounds)
    optimizer = optax.with_extra_args_support(optimizer)
    # Factors, that groups make, do not go with a narrow batch.
    batch, Q = narrow(batch, _penalty(penalty, groups, jnp.zeros(num_groups or (), dtype)))
    if Q is not None and validation is not None:
        validation = dataclasses.replace(validation, X=into(Q, Params(dense(validation.X), 0)).w)
    size = chunk_size(batch, num_folds, memory)

    def held_out(log_l2: Array, starts: Params) -> tuple[Array, Solution]:
        """Return the mean loss, and the fits: a lane for each fold."""
        here = _penalty(penalty, groups, jnp.clip(log_l2, low, high))
        near = lax.stop_gradient(jax.tree.map(lambda a: a.mean(axis=0), starts))
        curvature = make_curvature(near, sample(batch))

        def lane(place):
            fold, start = place
            seen, scored = (batch, validation) if folds is None else parts(batch, folds, fold)
            options = {"init": start, "curvature": curvature, "tol": tol, "max_passes": max_passes}
            solution = fit(seen, here, **options)
            return loss(solution.params, scored), solution

        values, solutions = run_lanes(lane, (jnp.arange(num_folds), starts), size)
        return values.mean(), solutions

    def move(state: tuple) -> tuple:
        log_l2, memory, params, value, grad, scale, _ = state
        grad = scale * grad
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, memory = optimizer.update(
                grad, memory, log_l2, value=scale * value, grad=grad,
                value_fn=lambda log_l2: scale * held_out(log_l2, params)[0],
            )  # fmt: skip
        log_l2 = jnp.clip(jnp.asarray(optax.apply_updates(log_l2, updates)), low, high)
        return log_l2, memory, params, value, grad, scale, jnp.array(False)

    def step(state: _State) -> _State:
        here, k = state.log_l2, state.num_steps
        (value, fits), grad = jax.value_and_grad(held_out, has_aux=True)(here, state.params)
        at_bound = (here <= low) | (here >= high)
        outward = ((here <= low) & (grad > 0)) | ((here >= high) & (grad < 0))
        free = jnp.where(outward, 0, grad)
        ok = (fits.status <= Status.PRECISION_REACHED).all()
        ok = ok & jnp.isfinite(value) & jnp.isfinite(grad).all()
        steepest = jnp.abs(free).max()
        # Where V begins to fall from a flat stretch it is concave; it is convex about a minimum,
        # and where it flattens out towards a bound.
        bend = jnp.where(outward, 0, (grad - state.slope) * (here - state.before)).sum()
        settled = (k > 0) & ((bend > 0) | (steepest == 0))
        stationary = ok & (steepest <= gtol) & settled
        scale = jnp.where((k == 0) & (steepest > 0), 1 / steepest, state.scale)
        end = jnp.where(at_bound.any(), TuneStatus.AT_BOUND, TuneStatus.CONVERGED)
        out = jnp.where(k + 1 < num_steps, _RUNNING, TuneStatus.OUT_OF_STEPS)
        status = jnp.where(ok, jnp.where(stationary, end, out), TuneStatus.FAILED)
        better = ok & (stationary | (value < state.value))
        best, gradient, least = jax.tree.map(
            lambda a, b: jnp.where(better, a, b),
            (here, grad, value),
            (state.best, state.gradient, state.value),
        )
        # A loop of one turn or none: what has ended needs no line search.
        todo = here, state.memory, fits.params, value, free, scale, status == _RUNNING
        log_l2, memory, *_ = lax.while_loop(lambda state: state[-1], move, todo)
        history = state.history.at[k].set(value)
        return _State(
            log_l2, memory, fits.params, here, grad, scale, best, gradient, least, history, k + 1,
            status.astype(jnp.int32),
        )  # fmt: skip

    start = jnp.clip(jnp.log(jnp.asarray(penalty.l2, dtype)), low, high)
    start = jnp.broadcast_to(start, num_groups or ())
    params = jax.tree.map(lambda a: jnp.stack([a] * num_folds), start_model(batch))
    nan, infinite, one = (
        jnp.full_like(start, jnp.nan),
        jnp.array(jnp.inf, dtype),
        jnp.ones((), dtype),
    )
    first = _State(
        start, optimizer.init(start), params, start, nan, one, start, nan, infinite,
        jnp.full(num_steps, jnp.nan, dtype), jnp.int32(0), jnp.int32(_RUNNING),
    )  # fmt: skip
    last = lax.while_loop(lambda state: state.status == _RUNNING, step, first)
    return last.best, last.gradient, last.value, last.history, last.num_steps, last.status
