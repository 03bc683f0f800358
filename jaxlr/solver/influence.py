"""What a fit owes to each example: approximate leave-one-out, and influence functions.

Without example i the objective, times the sum of the weights that remain, loses
`cᵢ(ℓᵢ + ½·l2·Σⱼ fⱼ‖wⱼ‖²)`. One Newton step from the optimum θ of all of them, with
x̃ = (x, 1), residual rᵢ, curvature sᵢ, `G = (C·H)⁻¹`, `C = Σ c`, and p the gradient of the penalty:

    θ₋ᵢ − θ = (C·H − cᵢ x̃ᵢ sᵢ x̃ᵢᵀ)⁻¹ cᵢ(x̃ᵢ rᵢ + p)
    x̃ᵢᵀ(θ₋ᵢ − θ) = cᵢ (I − cᵢ Bᵢ sᵢ)⁻¹ (Bᵢ rᵢ + x̃ᵢᵀG p)        Bᵢ = x̃ᵢᵀG x̃ᵢ

by the Woodbury identity: one factorisation serves all examples (Pregibon, Logistic regression
diagnostics, 1981; Rad & Maleki, A scalable estimate of the out-of-sample prediction error via
approximate leave-one-out, 2020). For K classes rᵢ, sᵢ and Bᵢ are `(K,)`, `(K, K)` and `(K, K)`.

To first order in cᵢ, the change of any function of the parameters is its influence function
(Koh & Liang, Understanding black-box predictions via influence functions, 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxlr.base.arguments import transfers
from jaxlr.base.meshes import with_auto_axes
from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.base.warning import warn_user
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import centred, dense, products
from jaxlr.model.linear import logits
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.objective import NO_PENALTY, value_and_grad
from jaxlr.model.passes import cast, map_tiles, sum_over_tiles, total_weight, weighted, working
from jaxlr.model.penalty import Penalty, gradient_of
from jaxlr.model.shapes import check_shapes
from jaxlr.solver.curvature import Factor, blocks, exact_curvature, factorise, precondition
from jaxlr.solver.implicit import make_inverse, solve_hessian
from jaxlr.solver.wide import back, into, narrow


class LeaveOneOut(NamedTuple):
    """What a fit would be without each of its examples, approximately.

    Args:
        logits: of each example under the fit without it, `(m,)` or `(K, m)`.
        loss: of each example under the fit without it, `(m,)`.
        leverage: `tr(cᵢBᵢsᵢ)`, `(m,)`: how much of a parameter each example decides; their sum is
            the effective number of parameters.
        trusted: whether the example's own logits move by less than 1 when it is left out, `(m,)`:
            a curvature then changes by less than a factor e, and a Newton step is near. False in
            nearly separable data; and where rounding decides: `(I − cBs)⁻¹` is above eps^(−1/3),
            or a leverage is above the K − 1 that it cannot pass.
    """

    logits: Array
    loss: Array
    leverage: Array
    trusted: Array


@transfers
def leave_one_out(params: Params, batch: Batch, penalty: Penalty = NO_PENALTY) -> LeaveOneOut:
    """Return the logits and the loss of each example under the fit to the others, approximately.

    See the module for the formula. It costs as much as making the Hessian. The objective
    without an example divides by the weights that remain, as a refit does.

    Args:
        params: the optimum.
        batch, penalty: its objective.

    Returns:
        `LeaveOneOut`.

    Raises:
        ValueError: shapes do not fit each other, or a softmax has more than 1,024 parameters.

    >>> import jaxlr
    >>> X = jnp.linspace(-2.0, 2.0, 30)[None]
    >>> batch = jaxlr.Batch(X, (X[0] + jnp.sin(9 * X[0]) > 0) * 1)
    >>> solution = jaxlr.fit(batch, jaxlr.Penalty(l2=0.1))
    >>> left_out = leave_one_out(solution.params, batch, jaxlr.Penalty(l2=0.1))
    >>> (
    ...     bool(left_out.loss.mean() > jaxlr.loss(solution.params, batch)),
    ...     bool(left_out.trusted.all()),
    ... )
    (True, True)
    """
    return _warned(*_leave_one_out(params, batch, penalty))


@jax.jit
@with_auto_axes
def _leave_one_out(params: Params, batch: Batch, penalty: Penalty) -> tuple[LeaveOneOut, Array]:
    params, batch, _, root, q, total, excess = _prepare(params, batch, penalty)
    dtype = params.w.dtype
    eps = jnp.finfo(dtype).eps

    def each(tile):
        Z, Y, dz, _, leverage, amplified = _left_out(root, q, total, params, cast(tile, dtype))
        loss, _ = pointwise_loss(batch.n_classes).value_and_residual(Z + dz, Y)
        near = jnp.abs(dz.reshape(-1, Y.shape[-1])).max(axis=0) < 1
        return LeaveOneOut(Z + dz, loss, leverage, near & (amplified < eps ** (-1 / 3)))

    found = map_tiles(each, batch, values=_values(batch))
    possible = found.leverage.max() <= batch.n_classes - 1 + jnp.sqrt(eps)
    return found._replace(trusted=found.trusted & possible), excess


@transfers
def leave_one_out_params(params: Params, batch: Batch, penalty: Penalty = NO_PENALTY) -> Params:
    """Return the parameters of the fit without each example, approximately: m of them.

    Args:
        params, batch, penalty: as for `leave_one_out`, whose formula it is.

    Returns:
        `Params` whose leaves have a first axis of m examples: `(m, n)` and `(m,)`, or `(m, n, K)`
        and `(m, K)`.

    Raises:
        ValueError: as `leave_one_out`.

    >>> import jaxlr
    >>> X = jnp.linspace(-2.0, 2.0, 30)[None]
    >>> batch = jaxlr.Batch(X, (X[0] + jnp.sin(9 * X[0]) > 0) * 1)
    >>> solution = jaxlr.fit(batch, jaxlr.Penalty(l2=0.1))
    >>> leave_one_out_params(solution.params, batch, jaxlr.Penalty(l2=0.1)).w.shape
    (30, 1)
    """
    return _warned(*_leave_one_out_params(params, batch, penalty))


@jax.jit
@with_auto_axes
def _leave_one_out_params(params: Params, batch: Batch, penalty: Penalty) -> tuple[Params, Array]:
    params, batch, Q, root, q, total, excess = _prepare(params, batch, penalty)
    dtype = params.w.dtype

    def each(tile):
        tile = cast(tile, dtype)
        Z, Y, dz, dual, *_ = _left_out(root, q, total, params, tile)
        shift = (dual + pointwise_loss(batch.n_classes).curvature_product(Z, dz)) / total
        c = jnp.ones(Y.shape[-1], dtype) if tile.weights is None else tile.weights

        def one(x, d, c):
            g = Params(jnp.tensordot(x, d, 0), d * float(batch.intercept))
            step = precondition(root, g)
            moved = jax.tree.map(lambda p, a, b: p + c * (a + b), params, q, step)
            return back(Q, moved)

        moved = jax.vmap(one, (-1, -1, -1))(dense(tile.X), shift, c)
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1), moved)

    moved = map_tiles(each, batch, values=_values(batch))
    return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), moved), excess


@transfers
def influence(
    fun: Callable[[Params], Array], params: Params, batch: Batch, penalty: Penalty = NO_PENALTY
) -> Array:
    """Return how much leaving out each example would change `fun(params)`, to first order.

        cᵢ/C · (x̃ᵢ rᵢ + p)ᵀ H⁻¹ ∇fun

    The influence of a group is the sum of those of its members.

    Args:
        fun: of the parameters, to a number: a prediction, or the loss on other examples.
        params: the optimum.
        batch, penalty: its objective.

    Returns:
        `(m,)`.

    Raises:
        ValueError: shapes do not fit each other, or fun returns no single number.

    >>> import jaxlr
    >>> X = jnp.linspace(-2.0, 2.0, 30)[None]
    >>> batch = jaxlr.Batch(X, (X[0] + jnp.sin(9 * X[0]) > 0) * 1)
    >>> params = jaxlr.fit(batch, jaxlr.Penalty(l2=0.1)).params
    >>> influence(lambda p: p.w[0], params, batch, jaxlr.Penalty(l2=0.1)).shape
    (30,)
    """
    check_shapes(params, batch, penalty)
    due = jax.tree.leaves(jax.eval_shape(fun, params))
    if len(due) != 1 or due[0].shape != ():
        found = ", ".join(str(leaf.shape) for leaf in due)
        raise ValueError(f"fun returns shape {found} where a number, shape (), is due.")
    return _warned(*_influence(jax.grad(fun)(params), params, batch, penalty))


@jax.jit
@with_auto_axes
def _influence(
    slope: Params, params: Params, batch: Batch, penalty: Penalty
) -> tuple[Array, Array]:
    params, dtype = working(params, batch)
    slope = jax.tree.map(lambda a: jnp.asarray(a, dtype), slope)
    inverse = make_inverse(*lax.stop_gradient((params, batch, penalty)))
    v = solve_hessian(inverse, params, slope, batch, penalty)
    total = sum_over_tiles(lambda tile: total_weight(tile, dtype), batch)
    common = (gradient_of(penalty, params.w) * v.w).sum()

    def each(tile):
        tile = cast(tile, dtype)
        Z = logits(params, tile.X, tile.offset)
        _, dZ = pointwise_loss(tile.n_classes).value_and_residual(Z, tile.y)
        along = (dZ * logits(v, tile.X)).reshape(-1, tile.m_examples).sum(axis=0)
        return weighted(tile.weights, along + common) / total

    _, grad = value_and_grad(params, batch, penalty)
    excess = _excess(into(inverse.Q, grad), inverse.factor, batch.m_examples)
    return map_tiles(each, batch), excess


# --- Whether it is an optimum at all -------------------------------------------------------------


def _excess(grad: Params, root: Factor, m: int) -> Array:
    """Return how far the loss, summed over m examples, would fall by a Newton step, `()`."""
    step = precondition(root, grad)
    return lax.stop_gradient(m * ((grad.w * step.w).sum() + (grad.b * step.b).sum()) / 2)


def _warned(found: Any, excess: Array) -> Any:
    """Return what was found; warn where it is not of an optimum, outside jit and vmap."""
    if not isinstance(excess, Tracer) and not excess <= 1:
        warn_user(
            "The parameters are no optimum of this objective: a Newton step would lower the loss, "
            f"summed over the examples, by {float(excess):.2g}. Is it the batch and the penalty "
            "that they were fitted with?"
        )
    return found


# --- The Newton step without an example ---------------------------------------------------------


def _prepare(params: Params, batch: Batch, penalty: Penalty):
    """Return what all examples share.

    A narrow problem, the factor of H⁻¹, `H⁻¹p/C`, C, and the excess.
    """
    check_shapes(params, batch, penalty)
    batch, Q = narrow(batch, penalty, common_dtype(jnp.float32, *params))
    if blocks(batch.n_features, batch.n_classes)[0] > 1:
        raise ValueError(
            f"Leaving out examples needs the whole Hessian, and {batch.n_features} features × "
            f"{batch.n_classes} classes are too many: a softmax may have 1,024 parameters."
        )
    params, dtype = working(into(Q, params), batch)
    root = factorise(exact_curvature(params, batch), penalty)
    total = sum_over_tiles(lambda tile: total_weight(tile, dtype), batch)
    slope = Params(gradient_of(penalty, params.w), jnp.zeros_like(params.b))
    q = jax.tree.map(lambda a: a / total, precondition(root, slope))
    _, grad = value_and_grad(params, batch, penalty)
    return params, batch, Q, root, q, total, _excess(grad, root, batch.m_examples)


def _left_out(root: Factor, q: Params, total: Array, params: Params, tile: Batch):
    """Return the logits, labels, how the logits move, residual, leverage, and `‖(I − cBs)⁻¹‖`."""
    pointwise, K, t = pointwise_loss(tile.n_classes), _columns(params), tile.m_examples
    Z, Y = logits(params, tile.X, tile.offset), tile.y
    _, dZ = pointwise.value_and_residual(Z, Y)
    L, centre = root
    B = _within(L[0], centred(tile.X, centre), tile.intercept, K) / total
    c = jnp.ones(t, Z.dtype) if tile.weights is None else tile.weights
    force = c[None] * (_apply(B, dZ.reshape(K, t)) + logits(q, tile.X).reshape(K, t))
    if K == 1:
        leverage = c * B[0, 0] * pointwise.curvature(Z)[0, 0]
        return Z, Y, force[0] / (1 - leverage), dZ, leverage, jnp.abs(1 / (1 - leverage))
    # S = TTᵀ with T = diag(u)(I − uuᵀ), u = √a, as Σ a = 1. Then (I − BS)⁻¹ = I + BT N⁻¹ Tᵀ, and
    # N = I − TᵀBT is symmetric, of eigenvalues in (0, 1].
    u = jnp.exp(jax.nn.log_softmax(Z, axis=0) / 2)  # has derivatives where a is 0 as well

    def project(v):
        return v - u * (u * v).sum(axis=0)[None]

    W = u[:, None] * B * u[None]
    Wu = _apply(W, u)
    W = c[None, None] * (W - u[:, None] * Wu[None] - project(Wu)[:, None] * u[None])  # TᵀBT
    inverse = _inverse(jnp.eye(K, dtype=Z.dtype)[..., None] - W)
    y = _apply(inverse, project(u * force))
    dz = force + c[None] * _apply(B, u * project(y))
    return Z, Y, dz, dZ, jnp.trace(W), jnp.abs(inverse).max(axis=(0, 1))


def _within(L: Array, X: Any, intercept: bool, K: int) -> Array:
    """Return `x̃ᵢᵀ(LᵀL)x̃ᵢ` of each example, `(K, K, t)`."""
    # One matrix product, whose rows are those of a class after those of another.
    of_class = jnp.moveaxis(L.reshape(len(L), -1, K), -1, 0)
    of_class = of_class.reshape(K * len(L), -1)
    rows = products(of_class[:, :-1].T, X) + float(intercept) * of_class[:, -1:]
    rows = rows.reshape(K, len(L), -1)
    if K == 1:
        return (rows**2).sum(axis=1)[None]
    first, second = np.triu_indices(K)
    pairs = lax.map(lambda pair: (rows[pair[0]] * rows[pair[1]]).sum(axis=0), (first, second))
    place = np.zeros((K, K), int)
    place[first, second] = place[second, first] = np.arange(len(first))
    return pairs[place]


# Examples are on the last axis, and small matrices are worked through in loops: compilers are slow
# at many small products, and at sums over an axis that is not the last.


def _apply(A: Array, x: Array) -> Array:
    """Return `A·x` for each example, of `(K, K, t)` and `(K, t)`."""
    zero = jnp.zeros_like(x)
    return lax.fori_loop(0, len(x), lambda k, total: total + A[:, k] * x[k][None], zero)


def _inverse(A: Array) -> Array:
    """Return the inverse of each positive definite matrix, `(K, K, t)`, by Gauss and Jordan."""

    def step(k, M):
        pivot = 1 / M[k, k]
        row = (M[k] * pivot[None]).at[k].set(pivot)
        column = M[:, k].at[k].set(0)
        return (M.at[:, k].set(0) - column[:, None] * row[None]).at[k].set(row)

    return lax.fori_loop(0, len(A), step, A)


def _values(batch: Batch) -> int:
    """Return how many values an example brings: for K classes K rows of all the parameters."""
    K = 1 if batch.n_classes == 2 else batch.n_classes
    return (batch.n_features + 1) * K * K + 1


def _columns(params: Params) -> int:
    return 1 if params.w.ndim == 1 else params.w.shape[1]
