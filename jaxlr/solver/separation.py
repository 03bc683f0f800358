"""Whether the classes can be separated by features without penalty: then there is no optimum.

A direction d of the parameters, zero where there is a penalty, separates if along it no example
loses and some win: with the logits `uᵢ = dᵀx̃ᵢ` of an example whose label is y,

    uᵢ[y] − uᵢ[k] ≥ 0 for each class k, and > 0 for some example and class;

an example whose label is soft must have equal logits for all classes of its label. Along such a
direction the loss falls for ever (Albert and Anderson, On the existence of maximum likelihood
estimates in logistic regression models, Biometrika 71, 1984). If all inequalities are strict the
separation is complete; else it is quasi-complete: some examples overlap, and stay where they are.

A search that has ended on such data is far out: pairs of an example and a class have next to no
probability, and the others, R, are those that overlap. So d is looked for where the parameters
already are, as their part that R does not see, and in what the labels ask for, in the null space of

    G = Σᵢ Mᵢ ⊗ x̃ᵢx̃ᵢᵀ,    Mᵢ = |q|·diag(q) − qqᵀ,    q: the classes of i in R or in its label.

What is found is then tested on every example, so that no rounding of the projection, and no choice
of what counts as next to no probability, can make a separation where there is none: data that only
come near stay within the tolerance of a few roundings of a logit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlr.base import lapack
from jaxlr.base.arguments import known
from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import centred, extremes, feature_sums, magnitudes, squares
from jaxlr.model.linear import logits
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.objective import gradient
from jaxlr.model.passes import (
    cast,
    intercept_sums,
    sum_over_tiles,
    total_weight,
    weighted,
    working,
)
from jaxlr.model.penalty import Penalty, ridge
from jaxlr.model.solution import Status
from jaxlr.solver.curvature import centre_of, gram, root_of_inverse
from jaxlr.solver.solve import End

_MOST_PARAMETERS = 1024  # of which the eigenvectors of G are made: in some 1 s on two cores
_LARGEST, _FACTOR = 1e-2, 30  # of the probabilities that count as next to none, tried in turn
_ROUNDS = 3  # of the projection, each of which takes away what rounding has left
_LONG = 20.0  # logits that the largest part of a direction moves
_MOVED = 1.0  # logits that the direction must move somewhere: a search far out has moved them by 10
_TINY = float(np.finfo(np.float32).tiny)
_PART = 1e-3  # of the largest part that a feature has in a direction, below which it has none
_ROUNDINGS = 16  # of a logit, that an example may lose: of its sum of products, and of d


class Direction(NamedTuple):
    """A direction of the parameters, and what it does to the examples.

    Args:
        d: the direction, of the shapes of the parameters, with the features about the centre.
        separates: whether no example loses by it and some win, `()`.
        moves: whether some win, `()`.
    """

    d: Params
    separates: Array
    moves: Array


def find_direction(params: Params, batch: Batch, penalty: Penalty, centre: Array) -> Direction:
    """Return a direction without penalty that separates the classes, from a few passes over X.

    It is looked for where a search has ended. `separates` is proven, but for rounding; if it is
    False the search may have ended too early, or there are more than 1,024 parameters.

    Args:
        params: where a search has ended.
        batch, penalty: the objective.
        centre: a point amid the examples, `(n,)`, such as their mean.

    >>> batch = Batch(jnp.array([[1.0, 2.0, 3.0, 3.0, 4.0, 5.0]]), jnp.array([0, 0, 0, 1, 1, 1]))
    >>> far_out, mean = Params(jnp.array([20.0]), jnp.array(-60.0)), jnp.array([3.0])
    >>> bool(find_direction(far_out, batch, Penalty(0.0), mean).separates)
    True
    >>> bool(find_direction(far_out, batch, Penalty(0.1), mean).separates)
    False
    """
    params, dtype = working(params, batch)
    free = ridge(penalty, batch.n_features, dtype) == 0
    nothing = jax.tree.map(jnp.zeros_like, params)
    none = Direction(nothing, jnp.array(False), free.any())
    if params.w.size + params.b.size > _MOST_PARAMETERS:
        return none._replace(moves=jnp.array(False))
    least = 8 * jnp.finfo(dtype).eps

    def unfinished(state: tuple[Array, Direction]) -> Array:
        share, found = state
        return ~found.separates & found.moves & (share > least)

    def tried(state: tuple[Array, Direction]) -> tuple[Array, Direction]:
        share, found = state
        # A compiler would move out of the loop, to be made always, what the state is no part of.
        about = jnp.where(found.moves, centre, 0).astype(dtype)
        zero = jax.tree.map(lambda a: jnp.where(found.moves, 0, a), params)
        wanted = _wanted(zero, batch, about)
        return share / _FACTOR, _unseen_part(params, batch, free, about, wanted, share)

    # If there is a penalty on each feature this takes no pass at all.
    return lax.while_loop(unfinished, tried, (jnp.asarray(_LARGEST, dtype), none))[1]


def may_be_unpenalised(penalty: Penalty) -> bool:
    """Whether a feature may be without penalty: also if that is not known, as inside jit.

    Less than the normal numbers of float32 may be rounded to zero there.

    >>> may_be_unpenalised(Penalty(0.1)), may_be_unpenalised(Penalty(0.1, jnp.array([1.0, 0.0])))
    (False, True)
    """
    values = [known(a) for a in penalty if a is not None]
    return any(a is None or (np.abs(a) < _TINY).any() for a in values)


def judged(end: End, batch: Batch, penalty: Penalty, centre: Array) -> End:
    """Return the end of a search, with a status that says so if there is no finite optimum.

    Args:
        end: of a search.
        batch, penalty: the objective.
        centre: as for `find_direction`.
    """
    separates = find_direction(end.params, batch, penalty, centre).separates
    none = separates & (end.status != Status.NOT_FINITE)
    status = jnp.where(none, Status.NO_FINITE_OPTIMUM, end.status)
    return end._replace(status=status.astype(jnp.int32))


@jax.jit
def separating_features(params: Params, batch: Batch, penalty: Penalty) -> Array:
    """Return which features separate the classes, where a search has ended on such data, `(n,)`.

    Those with a part in the direction along which the loss falls for ever.

    >>> batch = Batch(
    ...     jnp.array([[0.0, 0.0, 1.0, 0.0], [1.0, 2.0, 2.0, 2.0]]), jnp.array([0, 1, 1, 0])
    ... )
    >>> far_out = Params(jnp.array([20.0, 0.1]), jnp.array(0.0))
    >>> separating_features(far_out, batch, Penalty(0.0)).tolist()
    [True, False]
    """
    centre = centre_of(batch, None, working(params, batch)[1])
    found = find_direction(params, batch, penalty, centre)
    w = jnp.abs(found.d.w).reshape(batch.n_features, -1).max(axis=1) * _spreads(batch, centre)
    return found.separates & (w > _PART * w.max())


def _unseen_part(
    params: Params, batch: Batch, free: Array, centre: Array, wanted: Array, share: Array
) -> Direction:
    """Return a direction that examples in R do not see, tested on all of them.

    Args:
        params: in the dtype of the arithmetic.
        batch: the examples.
        free: which features have no penalty, `(n,)`.
        centre: as for `find_direction`.
        wanted: what the labels ask for, a flat direction.
        share: the probability up to which a class counts as none.
    """
    dtype, columns = params.w.dtype, params.w.size // batch.n_features
    free = jnp.repeat(jnp.append(free, batch.intercept), columns).astype(dtype)

    def overlap(tile: Batch) -> Array:
        return _overlap(logits(params, tile.X, tile.offset), tile.y, share)

    def turned(d: Array) -> Params:
        d = d.reshape(-1, *params.b.shape)
        return Params(d[:-1], d[-1])

    G = gram(overlap, batch, centre)[0] * free[:, None] * free[None]
    diagonal = jnp.diagonal(G)
    scale = jnp.where(diagonal > 0, jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    correlation = G / (scale[:, None] * scale[None]) + jnp.diag(1 - free)
    values, vectors = lapack.eigh(jnp.nan_to_num(correlation))
    unseen = values <= 8 * jnp.finfo(dtype).eps * (len(values) ** 0.5 + values[-1])
    inverse = jnp.where(unseen, 0, 1 / jnp.where(unseen, 1, values))

    def project(_: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Return directions without what R sees of them, and whether examples lost and won."""
        d, *_ = state
        effect = jax.vmap(lambda d: _effect(overlap, turned(d), batch, centre))(d)
        g = jax.vmap(_flat)(effect.seen) * (free / scale)[None]
        seen = _product(_product(g, vectors) * inverse[None], vectors.T) / scale[None]
        return d - seen, effect.lost, effect.won

    spread = jnp.repeat(jnp.append(_spreads(batch, centre), 1), columns)
    nearest = _projection(jnp.where(unseen[None], vectors / scale[:, None], 0), spread)
    first = jnp.stack([nearest(_about(params, centre) * free), nearest(wanted * free / spread**2)])
    largest = jnp.abs(first[1] * spread).max()
    first = first.at[1].multiply(_LONG / jnp.where(largest > 0, largest, 1))
    none = jnp.zeros(len(first), bool)
    d, lost, won = lax.fori_loop(0, _ROUNDS, project, (first, none, none))
    separates = won & ~lost
    return Direction(turned(d[jnp.argmax(separates)]), separates.any(), won.any())


def _projection(basis: Array, spread: Array) -> Callable[[Array], Array]:
    """Return `x → the direction in the span of a basis that is nearest to x`.

    In what directions do to all examples, as far as the features' spreads tell: else what R pins
    down would leak into it.

    Args:
        basis: independent columns, and zeros, `(d, d)`.
        spread: of each parameter's feature, `(d,)`.
    """
    basis = basis * spread[:, None]
    sizes = jnp.sqrt((basis**2).sum(axis=0))
    basis = basis / jnp.where(sizes > 0, sizes, 1)[None]
    root = root_of_inverse(_product(basis.T, basis) + jnp.diag((sizes == 0).astype(basis.dtype)))

    def nearest(x: Array) -> Array:
        inner = _product(root.T, _product(root, _product(basis.T, x * spread)))
        return _product(basis, inner) / spread

    return nearest


def _about(params: Params, centre: Array) -> Array:
    """Return parameters as a flat direction, of features about the centre."""
    return _flat(params._replace(b=params.b + centre @ params.w))


def _wanted(zero: Params, batch: Batch, centre: Array) -> Array:
    """Return what the labels ask for where all logits are zero: R has no part of it that is unseen.

    It is where the loss falls fastest, of features about the centre.
    """
    fall = gradient(zero, dataclasses.replace(batch, offset=None))
    return -_flat(fall._replace(w=fall.w - jnp.tensordot(centre, fall.b, axes=0)))


def _flat(d: Params) -> Array:
    return jnp.concatenate([d.w, d.b[None]]).reshape(-1)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _spreads(batch: Batch, centre: Array) -> Array:
    """Return the root mean square of each feature about the centre, `(n,)`; 1 where it is 0."""
    dtype = centre.dtype

    def sums(tile: Batch) -> tuple[Array, Array]:
        tile = cast(tile, dtype)
        ones = weighted(tile.weights, jnp.ones(tile.m_examples, dtype))
        return squares(centred(tile.X, centre), ones), total_weight(tile, dtype)

    about, total = sum_over_tiles(sums, batch)
    return jnp.where(about > 0, jnp.sqrt(about / total), 1)


def _overlap(Z: Array, Y: Array, share: Array) -> Array:
    """Return M of each example, `(K, K, t)`; of two classes `(1, 1, t)`."""
    if Z.ndim == 1:
        a = pointwise_loss(2).probability(Z)
        both = ((Y > 0) | (a > share)) & ((Y < 1) | (1 - a > share))
        return both.astype(Z.dtype)[None, None]
    q = ((Y > 0) | (pointwise_loss(len(Z)).probability(Z) > share)).astype(Z.dtype)
    own = jnp.eye(len(Z), dtype=Z.dtype)[:, :, None]
    return own * (q.sum(axis=0, keepdims=True) * q)[None] - q[:, None] * q[None]


class _Effect(NamedTuple):
    seen: Params  # G·d
    lost: Array  # whether an example loses by d
    won: Array  # whether one wins


def _effect(overlap: Callable[[Batch], Array], d: Params, batch: Batch, centre: Array) -> _Effect:
    """Return what a direction does, from one pass over X."""
    dtype = d.w.dtype
    largest = jnp.abs(d.w).reshape(batch.n_features, -1).max(axis=1)

    def sums(tile: Batch) -> tuple[_Effect, Array]:
        tile = cast(tile, dtype)
        X = centred(tile.X, centre)
        u = logits(d, X)
        # What the largest part of d does, and rounding leaves where it does nothing.
        reach = (largest * extremes(X)).max()
        # X is rounded once, and what is about the centre many times.
        sizes = jax.tree.map(jnp.abs, d)
        size = logits(sizes, magnitudes(tile.X)) + _ROUNDINGS * logits(sizes, magnitudes(X))
        gain = _gain(u, tile.y)
        rounding = jnp.atleast_2d(size).max(axis=0) + _ROUNDINGS * reach
        rounding = jnp.finfo(dtype).eps * rounding
        there = True if tile.weights is None else tile.weights > 0
        lost = (there & ~(gain.min(axis=0) >= -rounding)).astype(dtype).sum()
        won = (there & (gain.max(axis=0) > jnp.maximum(_MOVED, rounding))).astype(dtype).sum()
        Mu = jnp.einsum("klt,lt->kt", overlap(tile), jnp.atleast_2d(u), precision="highest")
        Mu = weighted(tile.weights, Mu).reshape(u.shape)
        seen = Params(feature_sums(X, Mu), intercept_sums(tile, Mu))
        return _Effect(seen, lost, won), total_weight(tile, dtype)

    (seen, lost, won), total = sum_over_tiles(sums, batch)
    return _Effect(jax.tree.map(lambda a: a / total, seen), lost > 0, won > 0)


def _gain(u: Array, Y: Array) -> Array:
    """Return what each example gains over each other class, `(K, t)`, or `(1, t)`."""
    if u.ndim == 1:
        return jnp.where(Y == 1, u, jnp.where(Y == 0, -u, -jnp.abs(u)))[None]
    least = jnp.where(Y > 0, u, jnp.inf).min(axis=0, keepdims=True)
    most = jnp.where(Y > 0, u, -jnp.inf).max(axis=0, keepdims=True)
    return jnp.where(Y > 0, least - most, least - u)
