"""The Hessian of the data term where it is too large to hold: a diagonal and a part of low rank.

With D the diagonal of H, the matrix `D^-½ H D^-½` has a unit diagonal, and few of its eigenvalues
are large: `BᵀB`, of some rows, stands for these, and τ, the mean of the others, for the rest,

    H ≈ D^½ (τI + BᵀB) D^½.

B is Nyström's: of the products `Y = ΩH` with some random vectors, `B = (ΩYᵀ)^-½ Y`. These are
made from a part of the examples, in one pass; the diagonal is of all of them (Frangella, Tropp and
Udell, Randomized Nyström preconditioning, SIAM J. Matrix Anal. Appl. 44, 2023).

Both H and its factor are arrays `(1, 1+k, d)`: a first row as long as the parameters, and k more.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base import lapack
from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import centred, feature_sums, squares
from jaxlr.model.linear import logits
from jaxlr.model.losses import pointwise_loss
from jaxlr.model.passes import cast, intercept_sums, sum_over_tiles, total_weight, weighted
from jaxlr.model.thinned import thinned

_HELD = 2**24  # numbers of a matrix that is held
_NUMBERS = 2**24  # of the rows of B
_ROWS = (32, 256)
_EXAMPLES = 16  # for each row of B
_LEAST = 1e-2  # of τ: what no example of the part has seen is not nothing


def rows(d: int, numbers: int) -> int:
    """Return how many rows B has, for d parameters; 0 where a matrix of so many numbers is held.

    >>> rows(1001, 1001**2), rows(10_001, 10_001**2), rows(200_000, 200_000**2)
    (0, 256, 83)
    """
    fewest, most = _ROWS
    return 0 if numbers <= _HELD else min(most, max(fewest, _NUMBERS // d))


def price(m: int, k: int) -> float:
    """Return how many passes over m examples cost as much as an approximation with k rows."""
    return 1 + k * min(1, _EXAMPLES * k / m)


def approximate(params: Params, batch: Batch, centre: Array, k: int) -> Array:
    """Return the approximation of H at params, `(1, 1+k, d)`: D, and B.

    Args:
        params: where.
        batch: the examples.
        centre: x̄, `(n,)`, that the features are taken about.
        k: from `rows`.
    """
    n, K, dtype = batch.n_features, batch.n_classes, centre.dtype
    pointwise = pointwise_loss(K)

    def seen(tile: Batch) -> tuple[Batch, Array]:
        tile = cast(tile, dtype)
        Z = logits(params, tile.X, tile.offset)
        return dataclasses.replace(tile, X=centred(tile.X, centre), offset=None), Z

    def diagonal_sums(tile: Batch) -> tuple[Params, Array]:
        tile, Z = seen(tile)
        if K == 2:
            s = pointwise.curvature(Z)[0, 0]
        else:
            a = pointwise.probability(Z)
            s = a * (1 - a)
        s = weighted(tile.weights, s)
        return Params(squares(tile.X, s), intercept_sums(tile, s)), total_weight(tile, dtype)

    D, total = sum_over_tiles(diagonal_sums, batch, values=2 * n + K)
    D = _flat(D) / total
    scale = jnp.where(D > 0, 1 / jnp.sqrt(jnp.where(D > 0, D, 1)), 0)
    Omega = jax.random.normal(jax.random.key(0), (k, len(D)), dtype)
    # As the parameters of one model, that has k·K classes: the products are of matrices.
    classes = len(D) // (n + 1)
    V = (Omega * scale[None]).reshape(k, n + 1, classes)
    V = jnp.transpose(V, (1, 0, 2)).reshape(n + 1, k * classes)
    V = Params(V[:-1], V[-1] if batch.intercept else jnp.zeros_like(V[-1]))

    def sums(tile: Batch) -> tuple[Params, Array]:
        tile, Z = seen(tile)
        U, p = logits(V, tile.X).reshape(k, *Z.shape), pointwise.compact(Z)
        # One by one: of all at once a compiler makes the sums over the classes for each class.
        sU = lax.map(lambda u: pointwise.compact_product(p, u), U).reshape(k * classes, -1)
        sU = weighted(tile.weights, sU)
        return Params(feature_sums(tile.X, sU), intercept_sums(tile, sU)), total_weight(tile, dtype)

    few = thinned(batch, min(_EXAMPLES * k, batch.m_examples))
    Y, total = sum_over_tiles(sums, few, values=n + k * classes)
    Y = jnp.concatenate([Y.w, Y.b[None]]).reshape(n + 1, k, classes)
    Y = jnp.transpose(Y, (1, 0, 2)).reshape(k, -1)
    Y = Y * scale[None] / jnp.where(total > 0, total, 1)
    values, vectors = lapack.eigh(_product(Omega, Y.T))
    large = values > k * jnp.finfo(dtype).eps * values[-1]
    root = jnp.where(large, 1 / jnp.sqrt(jnp.where(large, values, 1)), 0)
    B = root[:, None] * _product(vectors.T, Y)
    return jnp.concatenate([D[None], B])[None]


def factorise(H: Array, l2: Array, constant: Array) -> Array:
    """Return `(1, 1+k, d)`: s and W of `P = s(I − WᵀW)²s`, the inverse of H with the penalty.

    Positive definite even in rounding.

    Args:
        H: from `approximate`.
        l2: of each parameter, `(d,)`.
        constant: what D may be for a constant feature, `(d,)`.
    """
    D, B = H[0, 0], H[0, 1:]
    D = jnp.where(constant < D, D, 0)
    both = D + l2
    scale = jnp.where(both > 0, 1 / jnp.sqrt(jnp.where(both > 0, both, 1)), 0)
    # In the units of `both`: the identity but for `share` of it, which is the data's.
    share = D * scale**2
    alive = (D > 0).sum()
    tau = (alive - (B**2).sum()) / jnp.maximum(alive - len(B), 1)
    root = 1 / jnp.sqrt(jnp.clip(tau, _LEAST, 1) * share + 1 - share)
    G = B * (jnp.sqrt(share) * root)[None]
    # (I + GᵀG)^-½ = I − WᵀW, from the eigenvectors of GGᵀ.
    values, vectors = lapack.eigh(_product(G, G.T))
    less = -jnp.expm1(-jnp.log1p(jnp.maximum(values, 0)) / 2)
    part = jnp.sqrt(jnp.where(values > 0, less / jnp.where(values > 0, values, 1), 0))
    W = part[:, None] * _product(vectors.T, G)
    return jnp.concatenate([(scale * root)[None], W])[None]


def precondition(L: Array, g: Array) -> Array:
    """Return P·g, of flat vectors `(d,)`; L from `factorise`."""
    s, W = L[0, 0], L[0, 1:]
    x = s * g
    for _ in range(2):
        x = x - _product(_product(W, x), W)
    return s * x


def _flat(params: Params) -> Array:
    return jnp.concatenate([params.w, params.b[None]]).reshape(-1)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
