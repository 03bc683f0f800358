"""X: the only file that multiplies, slices or sums the features.

X is an array, `(n, m)`, or anything that answers what is asked here: see `Features`. All other
files ask the functions of this one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeGuard

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base.pytrees import Array, Take

# Full float32 products on every device: TPUs and GPUs would else round the inputs of a float32
# product to fewer bits, and a certificate would mean nothing.
_PRECISION = lax.Precision.HIGHEST


class Features(Protocol):
    """What X answers if it is no array: a pytree with these methods.

    Args:
        shape: `(n, m)`: n features of m examples.
        dtype: of its numbers.
    """

    shape: tuple[int, int]
    dtype: Any

    def products(self, w: Array) -> Array:
        """Return `wᵀX`: `(m,)`, or `(K, m)` of w `(n, K)`."""
        ...

    def sums(self, r: Array) -> Array:
        """Return `X rᵀ`: `(n,)` of r `(m,)`; `(n, K)` of r `(K, m)`."""
        ...

    def squares(self, s: Array) -> Array:
        """Return `Σᵢ sᵢ xᵢ²`, as `sums` does."""
        ...

    def gram(self, S: Array) -> Array:
        """Return `X diag(S_kl) Xᵀ`, `(K, n, L, n)` of S `(K, L, m)`; or refuse to."""
        ...

    def extremes(self) -> Array:
        """Return the largest magnitude of each feature, `(n,)`, or a bound on it."""
        ...

    def magnitudes(self) -> Features:
        """Return `|X|`, or a bound on it."""
        ...

    def take(self, take: Take) -> Features:
        """Return the examples that `take` picks from the last axis of an array."""
        ...

    def astype(self, dtype: Any) -> Features:
        """Return X with numbers of another dtype."""
        ...

    def dense(self) -> Array:
        """Return X as an array; or refuse to."""
        ...


def is_array(X: Any) -> TypeGuard[Array]:
    """Whether X is an array, and not `Features` of another kind.

    >>> is_array(jnp.ones((2, 3)))
    True
    """
    return not hasattr(X, "products")


def products(w: Array, X: Any) -> Array:
    """Return `wᵀX`, `(m,)`, or `(K, m)` of w `(n, K)`.

    >>> products(jnp.array([1.0, 2.0]), jnp.eye(2)).tolist()
    [1.0, 2.0]
    """
    if is_array(X):
        return jnp.tensordot(w, X, axes=(0, 0), precision=_PRECISION)
    return X.products(w)


def feature_sums(X: Any, r: Array, lanes: int = 1) -> Array:
    """Return `X rᵀ`, sums over the examples for each feature.

    Args:
        X: `(n, m)`.
        r: `(m,)`, or `(K, m)`: numbers for each example, such as the residual.
        lanes: how many r share X under vmap, where that is known.

    Returns:
        `(n,)`, or `(n, K)`.

    >>> feature_sums(jnp.array([[1.0, 2.0, 3.0]]), jnp.ones(3)).tolist()
    [6.0]
    """
    if not is_array(X):
        return X.sums(r)
    # Under vmap an r of two axes has three: as the second factor they would be copied.
    of_classes = X.ndim == r.ndim == 2
    turned = X.ndim == r.ndim + 1 == 2 and _is_slow(lanes) and not _is_slow(len(X))
    if of_classes or turned:
        return jnp.tensordot(r, X, axes=(-1, -1), precision=_PRECISION).T
    return jnp.tensordot(X, r, axes=(-1, -1), precision=_PRECISION)


def _is_slow(columns: int) -> bool:
    """Whether a second factor of so many columns makes a product slow: by half, on CPUs."""
    return 48 < columns < 64


def squares(X: Any, s: Array) -> Array:
    """Return `Σᵢ sᵢ xᵢ²`, `(n,)`, or `(n, K)` of s `(K, m)`.

    >>> squares(jnp.array([[1.0, 2.0, 3.0]]), jnp.ones(3)).tolist()
    [14.0]
    """
    return feature_sums(X**2, s) if is_array(X) else X.squares(s)


def gram(X: Any, S: Array, last: float) -> Array:
    """Return `Σᵢ S_kl,i x̃ᵢx̃ᵢᵀ`, `(K, n+1, L, n+1)`, where x̃ is x and a last number.

    Args:
        X: `(n, m)`.
        S: `(K, L, m)`: numbers for each example.
        last: 1 with an intercept, else 0.

    >>> gram(jnp.array([[1.0, 2.0]]), jnp.ones((1, 1, 2)), 1.0)[0, :, 0].tolist()
    [[5.0, 3.0], [3.0, 2.0]]
    """
    if is_array(X):
        row = jnp.full((1, X.shape[1]), last, X.dtype)
        X = jnp.concatenate([X, row])
        # One k at a time, to hold n·L·m values instead of n·K·L·m.
        return lax.map(lambda S_k: feature_sums(X[:, None] * S_k[None], X), S)
    border = last * jnp.moveaxis(jax.vmap(X.sums)(S), 1, 2)  # (K, L, n)
    corner = last**2 * S.sum(axis=-1)[:, None, :, None]
    top = jnp.concatenate([X.gram(S), jnp.swapaxes(border, 1, 2)[..., None]], axis=-1)
    bottom = jnp.concatenate([border[:, None], corner], axis=-1)
    return jnp.concatenate([top, bottom], axis=1)


def extremes(X: Any) -> Array:
    """Return the largest magnitude of each feature, `(n,)`.

    >>> extremes(jnp.array([[1.0, -2.0]])).tolist()
    [2.0]
    """
    return jnp.abs(X).max(axis=1) if is_array(X) else X.extremes()


def magnitudes(X: Any) -> Any:
    """Return `|X|`.

    >>> magnitudes(jnp.array([[1.0, -2.0]])).tolist()
    [[1.0, 2.0]]
    """
    return jnp.abs(X) if is_array(X) else X.magnitudes()


def taken(X: Any, take: Take) -> Any:
    """Return some examples.

    >>> taken(jnp.array([[1.0, 2.0, 3.0]]), lambda a: a[..., :2]).tolist()
    [[1.0, 2.0]]
    """
    return take(X) if is_array(X) else X.take(take)


def without_features(X: Any) -> Array:
    """Return X of the same examples without a feature, `(0, m)`.

    >>> without_features(jnp.ones((2, 3))).shape
    (0, 3)
    """
    return X[:0] if is_array(X) else jnp.zeros((0, X.shape[1]), X.dtype)


def dense(X: Any) -> Array:
    """Return X as an array, `(n, m)`.

    >>> dense(jnp.ones((2, 3))).shape
    (2, 3)
    """
    return X if is_array(X) else X.dense()


def size(X: Any, dtype: Any) -> tuple[Array, Array]:
    """Return the largest magnitude of X, and the norm of X divided by it, `()`.

    >>> largest, norm = size(jnp.array([[3e30, 4e30]]), jnp.float32)
    >>> bool(abs(norm - 1.25) < 1e-6), bool(largest == 4e30)
    (True, True)
    """
    X = dense(X)
    largest = jnp.abs(X).max()
    return largest.astype(dtype), jnp.linalg.norm((X / largest).astype(dtype))


def centred(X: Any, centre: Array) -> Any:
    """Return X about a centre, `(n,)`, as `X − centre`.

    >>> centred(jnp.array([[1.0, 2.0]]), jnp.array([1.0])).tolist()
    [[0.0, 1.0]]
    """
    return X - centre[:, None] if is_array(X) else Centred(X, centre)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Centred:
    """`X − centre` where X itself must not change: a correction of rank one.

    Args:
        X: `Features`.
        centre: `(n,)`.
    """

    X: Features
    centre: Array

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of X."""
        return self.X.shape

    @property
    def dtype(self) -> Any:
        """The dtype of X."""
        return self.X.dtype

    def products(self, w: Array) -> Array:
        """Return `wᵀX − wᵀcentre`."""
        return self.X.products(w) - _product(w.T, self.centre)[..., None]

    def sums(self, r: Array) -> Array:
        """Return `X rᵀ − centre ⊗ Σ r`."""
        return self.X.sums(r) - jnp.multiply.outer(self.centre, r.sum(axis=-1))

    def squares(self, s: Array) -> Array:
        """Return `Σ s x² − 2·centre·Σ s x + centre²·Σ s`."""
        c = self.centre.reshape(-1, *[1] * (s.ndim - 1))
        rest = jnp.multiply.outer(self.centre**2, s.sum(axis=-1))
        return self.X.squares(s) - 2 * c * self.X.sums(s) + rest

    def gram(self, S: Array) -> Array:
        """Return `X diag(s) Xᵀ − c gᵀ − g cᵀ + c cᵀ Σ s` with `g = X s`, for each s of S."""
        c, g = self.centre, jax.vmap(self.X.sums)(S)  # (K, n, L)
        cg = jnp.einsum("i,kjl->kilj", c, g)
        cc = jnp.einsum("i,j,kl->kilj", c, c, S.sum(axis=-1))
        return self.X.gram(S) - cg - jnp.swapaxes(cg, 1, 3) + cc

    def extremes(self) -> Array:
        """Return a bound on the magnitudes, `max |x| + |c|`."""
        return self.X.extremes() + jnp.abs(self.centre)

    def magnitudes(self) -> Centred:
        """Return a bound on the magnitudes, `|X| + |c|`."""
        return Centred(self.X.magnitudes(), -jnp.abs(self.centre))

    def take(self, take: Take) -> Centred:
        """Return some examples about the same centre."""
        return Centred(self.X.take(take), self.centre)

    def astype(self, dtype: Any) -> Centred:
        """Return X and the centre in another dtype."""
        return Centred(self.X.astype(dtype), self.centre.astype(dtype))

    def dense(self) -> Array:
        """Return `X − centre` as an array."""
        return self.X.dense() - self.centre[:, None]


def _product(A: Array, x: Array) -> Array:
    return jnp.tensordot(A, x, 1, precision=_PRECISION)
