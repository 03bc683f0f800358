"""The Hessian of the data term at some parameters, and the preconditioner made of it.

It is taken in the variables (w, b + wᵀx̄), with x̄ the mean of the examples: features that are
far from zero would else hide behind the intercept. With the intercept as the last feature,
`x̃ᵢ = (xᵢ − x̄, 1)`, it is

    H = Σ cᵢ sᵢ ⊗ x̃ᵢx̃ᵢᵀ / Σ cᵢ,

where sᵢ is the curvature of the loss: a(1−a), or diag(a) − aaᵀ for the softmax. Where the
softmax has too many parameters for that, the blocks of its diagonal, one a class with
s = aₖ(1−aₖ), stand for it: where two classes compete they are half of it. Where these are too
large as well, from some 4,096 features on, it is a diagonal and a part of low rank: see `lowrank`.

The lanes of a sweep see the same X: one curvature serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlr.base import lapack
from jaxlr.base.pytrees import Array
from jaxlr.base.rules import with_lanes
from jaxlr.model import features
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import centred, dense, feature_sums, taken
from jaxlr.model.linear import logits
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.passes import cast, sum_over_tiles, total_weight, weighted, working
from jaxlr.model.penalty import Penalty, ridge
from jaxlr.model.shapes import check_shapes
from jaxlr.solver import lowrank

_MOST_PARAMETERS = 1024  # of a softmax whose Hessian is taken whole
_SERIAL = 1000  # numbers on the right-hand side of a triangular solve that one thread does


class Curvature(NamedTuple):
    """The Hessian of the data term, or the blocks of its diagonal, or an approximation.

    Args:
        H: `(B, r, r)`: one block of all parameters, `(n+1, K)` in rows with the intercept as the
            last feature; or a block of n+1 for each class. Of many parameters, `(1, 1+k, d)`:
            the diagonal, and k rows of a part of low rank.
        centre: x̄, `(n,)`.
    """

    H: Array
    centre: Array


def blocks(n_features: int, n_classes: int) -> tuple[int, int]:
    """Return (B, r): how many blocks a curvature has, and how many parameters a block.

    >>> blocks(200, 2), blocks(200, 3), blocks(200, 10)
    ((1, 201), (1, 603), (10, 201))
    """
    rows, K = n_features + 1, n_classes
    if K == 2:
        return 1, rows
    return (1, rows * K) if rows * K <= _MOST_PARAMETERS else (K, rows)


def shape(n_features: int, n_classes: int) -> tuple[int, int, int]:
    """Return the shape of a curvature's H: `(B, r, r)`, or `(1, 1+k, d)` where that is too large.

    >>> shape(200, 10), shape(20_000, 2)
    ((10, 201, 201), (1, 257, 20001))
    """
    B, r = blocks(n_features, n_classes)
    d = (n_features + 1) * (1 if n_classes == 2 else n_classes)
    k = lowrank.rows(d, B * r**2)
    return (1, 1 + k, d) if k else (B, r, r)


def is_low_rank(H: Array) -> bool:
    """Whether the H of a curvature, or the L of its factor, is a diagonal and a part of low rank.

    >>> is_low_rank(jnp.ones((2, 5, 5))), is_low_rank(jnp.ones((1, 3, 5)))
    (False, True)
    """
    return H.shape[-2] != H.shape[-1]


@jax.jit
def make_curvature(params: Params, batch: Batch, centre: Array | None = None) -> Curvature:
    """Return the curvature of the data term at params, from one or two passes over X.

    Args:
        params: where: `w` `(n,)` or `(n, K)`.
        batch: the examples.
        centre: x̄, `(n,)`; the weighted mean of the examples when None, or any point near it.
            Lanes that share a centre share the products with X.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([0, 1, 1]))
    >>> curvature = make_curvature(Params(jnp.zeros(1), jnp.array(0.0)), batch)
    >>> (12 * curvature.H[0]).round(4).tolist(), curvature.centre.tolist()
    ([[2.0, 0.0], [0.0, 3.0]], [2.0])
    """
    check_shapes(params, batch)
    params, dtype = working(params, batch)
    _, rows, r = shape(batch.n_features, batch.n_classes)
    if rows == r:
        return exact_curvature(params, batch, centre)
    centre = centre_of(batch, centre, dtype)
    return Curvature(lowrank.approximate(params, batch, centre, rows - 1), centre)


def centre_of(batch: Batch, centre: Array | None, dtype) -> Array:
    """Return centre, or the weighted mean of the examples where it is None."""
    if centre is not None:
        return jnp.asarray(centre, dtype)
    if not batch.intercept:  # x̃ᵢ = (xᵢ, 0): what has no curvature is left where it is
        return jnp.zeros(batch.n_features, dtype)
    # About one of the examples a constant feature is 0, and its mean exact.
    origin = dense(taken(batch.X, lambda a: a[..., :1])).astype(dtype)[:, 0]

    def moments(tile):
        tile = cast(tile, dtype)
        ones = weighted(tile.weights, jnp.ones(tile.m_examples, dtype))
        return feature_sums(centred(tile.X, origin), ones), total_weight(tile, dtype)

    first, total = sum_over_tiles(moments, batch)
    return origin + first / total


@jax.jit
def exact_curvature(params: Params, batch: Batch, centre: Array | None = None) -> Curvature:
    """Return the curvature as a matrix or blocks of its diagonal, however large they are."""
    params, dtype = working(params, batch)
    K, (B, _) = batch.n_classes, blocks(batch.n_features, batch.n_classes)

    def second_derivatives(tile: Batch) -> Array:
        Z = logits(params, tile.X, tile.offset)
        if B == 1:
            return pointwise_loss(K).curvature(Z)
        a = pointwise_loss(K).probability(Z)
        return (a * (1 - a))[:, None]

    centre = centre_of(batch, centre, dtype)
    return Curvature(gram(second_derivatives, batch, centre), centre)


def gram(weights: Callable[[Batch], Array], batch: Batch, centre: Array) -> Array:
    """Return `Σ cᵢ Sᵢ ⊗ x̃ᵢx̃ᵢᵀ / Σ cᵢ`, `(B, r, r)` as the H of a curvature.

    Args:
        weights: `tile → S`: a matrix for each example, `(K, K, t)` and `(1, 1, t)` of two classes,
            if B is 1; else the diagonals, `(K, 1, t)`.
        batch: the examples.
        centre: x̄, `(n,)`.
    """
    n, K, dtype = batch.n_features, batch.n_classes, centre.dtype
    B, r = blocks(n, K)
    columns = r // (n + 1)  # of parameters in a block: 1, or K where it is the only one

    def scatter(tile: Batch) -> tuple[Array, Array]:
        tile = cast(tile, dtype)
        S = weighted(tile.weights, weights(tile))
        H = features.gram(centred(tile.X, centre), S, float(batch.intercept))
        return H, total_weight(tile, dtype)  # (K, n+1, columns, n+1)

    # Each lane has its own S_k·X: of tiles of half the size, which cost one lane no more.
    values = 2 * ((n + 1) * (columns + 1) + K + K * columns)
    H, total = sum_over_tiles(scatter, batch, values=values)
    H = H / total
    return jnp.transpose(H, (1, 0, 3, 2)).reshape(1, r, r) if B == 1 else H[:, :, 0]


class Factor(NamedTuple):
    """A factor of P, the inverse of the Hessian with its penalty: see `factorise`.

    Args:
        L: `(B, r, r)`: of each block, `LᵀL = P` in the variables of the curvature; or `(1, 1+k, d)`
            from `lowrank.factorise`.
        centre: x̄, `(n,)`.
    """

    L: Array
    centre: Array


def factorise(curvature: Curvature, penalty: Penalty) -> Factor:
    """Return a factor of P, the inverse of the Hessian with the penalty, `H + l2·diag(f)`.

    Rows and columns are scaled to a unit diagonal before the Cholesky factorisation, so that
    the scales of the features do not matter. Collinear and constant features, and the common
    shift of all classes, leave the matrix singular: as little is added to its diagonal as lets
    the factorisation succeed.

    Args:
        curvature: of the data term.
        penalty: `Penalty(l2, factors)`.

    >>> one = Curvature(jnp.array([[[3.0, 0.0], [0.0, 0.25]]]), jnp.array([0.0]))
    >>> P = factorise(one, Penalty(l2=1.0))
    >>> [round(a.item(), 4) for a in precondition(P, Params(jnp.array([4.0]), jnp.array(1.0)))]
    [1.0, 4.0]
    """
    H, centre = curvature
    dtype, rows, r = H.dtype, len(centre) + 1, H.shape[-1]
    columns = r // rows
    l2, constant = _ridge(curvature, penalty), _rounding(curvature)
    last = np.arange(r) >= r - columns

    def pull(diagonal: Array) -> Array:
        """Return the penalty of each parameter.

        An intercept has none, but where all examples are saturated no curvature either, and P would
        not see it: with ¼, the most it can have, a step is safe.
        """
        return jnp.where(last & (diagonal <= 0), 0.25, jnp.repeat(l2, columns)).astype(dtype)

    if is_low_rank(H):
        return Factor(lowrank.factorise(H, pull(H[0, 0]), constant), centre)
    unit = jnp.eye(r, dtype=dtype)

    def invert(block: Array) -> Array:
        if columns > 1:
            # A shift common to all classes changes nothing where it is not penalised: hold it.
            free = _diagonal(block).reshape(rows, columns).sum(axis=1) / columns**2
            free = jnp.where(l2 == 0, free, 0)
            block = block + jnp.kron(jnp.diag(free), jnp.ones((columns, columns), dtype))
        diagonal = _diagonal(block)
        diagonal = diagonal + pull(diagonal)
        alive = diagonal > constant
        unscale = jnp.where(alive, 1 / jnp.sqrt(jnp.where(alive, diagonal, 1)), 0)
        # P = LᵀL, positive definite even in rounding; products are cheaper than solves.
        scaled = jnp.where(unit > 0, 1, block * (unscale[:, None] * unscale[None]))
        return root_of_inverse(scaled) * unscale[None]

    return Factor(jax.vmap(invert)(H), centre)


@jax.custom_jvp
def root_of_inverse(A: Array) -> Array:
    """Return `L = F⁻¹` with `A + jitter·I = FFᵀ`, the jitter as small as lets it succeed, `(r, r)`.

    A has a unit diagonal.
    """
    unit, r, eps = jnp.eye(len(A), dtype=A.dtype), len(A), jnp.finfo(A.dtype).eps

    def failed(carry):
        jitter, factor = carry
        return ~jnp.isfinite(factor[-1, -1]) & (jitter < 1)  # all are NaN, or all from somewhere on

    def more(carry):
        jitter = 8 * carry[0]
        return jitter, lapack.cholesky(A + jitter * unit)

    first = jnp.asarray(r**0.5 * eps, A.dtype), jnp.full_like(A, jnp.nan)
    # A matrix that is not finite has no factor: the limit ends the loop.
    _, factor = lax.while_loop(failed, more, first)
    return with_lanes(_inverse_of_triangle)(factor)


@root_of_inverse.defjvp
def root_of_inverse_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """`dL = −Φ(L dA Lᵀ)·L`, Φ the lower triangle with half of its diagonal.

    From `dF = F·Φ(F⁻¹ dA F⁻ᵀ)`: Murray, Differentiation of the Cholesky decomposition, 2016,
    equation 8. The loop that looks for the jitter, which is held, has no reverse mode.
    """
    (A,), (dA,) = primals, tangents
    L = root_of_inverse(A)
    M = L @ dA @ L.T
    return L, -(jnp.tril(M) - jnp.diag(jnp.diagonal(M)) / 2) @ L


def _inverse_of_triangle(lanes: int, F: Array) -> Array:
    r, unit = len(F), jnp.eye(len(F), dtype=F.dtype)
    # On CPUs a solve with more numbers than this wakes threads of the library that does it, and
    # where they have nothing more to do they still keep a core busy for tens of milliseconds:
    # longer than a fit takes. Of many lanes there is work enough for a core to be missed.
    width = _SERIAL // r
    if lanes > 1 or width == 0 or width >= r:
        return lapack.solve_lower(F, unit)
    unit = jnp.pad(unit, ((0, 0), (0, -r % width))).reshape(r, -1, width)
    parts = lax.map(lambda i: lapack.solve_lower(F, unit[:, i]), jnp.arange(unit.shape[1]))
    return jnp.moveaxis(parts, 0, 1).reshape(r, -1)[:, :r]


def is_blind(curvature: Curvature, penalty: Penalty) -> Array:
    """Whether there is a feature, not penalised, that does not vary in a curvature, `()`.

    P is zero there, so that a search would leave it where it is.

    >>> rare = Curvature(jnp.array([[[0.0, 0.0], [0.0, 0.25]]]), jnp.array([0.0]))
    >>> bool(is_blind(rare, Penalty())), bool(is_blind(rare, Penalty(l2=1.0)))
    (True, False)
    """
    rows = len(curvature.centre) + 1
    columns = curvature.H.shape[-1] // rows
    H = curvature.H
    diagonal = H[:, 0] if is_low_rank(H) else jax.vmap(_diagonal)(H)
    dead = diagonal <= _rounding(curvature)[None]
    free = jnp.repeat(_ridge(curvature, penalty)[:-1] == 0, columns)
    return (dead[:, : len(free)] & free[None]).any()


def _diagonal(A: Array) -> Array:
    return A.reshape(-1)[:: len(A) + 1]  # jnp.diagonal is a gather, of more steps


def _ridge(curvature: Curvature, penalty: Penalty) -> Array:
    """Return the penalty of each feature and of the intercept, `(n+1,)`."""
    n, dtype = len(curvature.centre), curvature.centre.dtype
    return jnp.append(ridge(penalty, n, dtype), 0)


def _rounding(curvature: Curvature) -> Array:
    """Return what the diagonal of a block may be for a constant feature, `(r,)`.

    About its mean such a feature is rounding: the intercept has it already.
    """
    H, centre = curvature
    columns = H.shape[-1] // (len(centre) + 1)
    eps = jnp.finfo(H.dtype).eps
    return jnp.repeat(4 * eps * jnp.append(jnp.abs(centre), 0), columns) ** 2


def precondition(factor: Factor, grad: Params) -> Params:
    """Return P·g, of the shapes of g.

    Args:
        factor: from `factorise`.
        grad: g, in the shapes of the parameters.

    >>> P = Factor(jnp.diag(jnp.array([0.5, 2.0]))[None], jnp.array([0.0]))
    >>> precondition(P, Params(jnp.array([4.0]), jnp.array(1.0))).w.tolist()
    [1.0]
    """
    L, centre = factor
    w = grad.w - jnp.tensordot(centre, grad.b, axes=0)
    g = jnp.concatenate([w, grad.b[None]])  # (n+1,) or (n+1, K)
    columns = g.reshape(1, -1) if len(L) == 1 else g.T  # (B, r)
    if is_low_rank(L):
        x = lowrank.precondition(L, columns[0])
    else:
        x = jnp.einsum("bij,bi->bj", L, jnp.einsum("bij,bj->bi", L, columns))
    x = x.reshape(g.shape) if len(L) == 1 else x.T
    w = x[:-1]
    return Params(w, x[-1] - jnp.tensordot(centre, w, axes=1))
