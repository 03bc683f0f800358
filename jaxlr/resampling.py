"""Folds and resamples as example weights, in bytes: not a float an example and lane."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.types import Array, Batch, LazyWeights, Take


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class FoldWeights:
    """The weights of the examples outside one fold, or inside it; zero for the others.

    A `LazyWeights`: under `jax.vmap` over `fold`, a lane costs one integer.

    Args:
        fold_of: the fold number of each example, `(m,)` integers.
        fold: which fold, `()`.
        weights: of the examples, or None: `(m,)` or `LazyWeights`.
        held_out: static; False for the examples to fit on, True for those to score on.

    >>> folds = FoldWeights(jnp.array([0, 1, 2, 0]), jnp.array(0))
    >>> folds.select(lambda a: a).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    fold_of: Array
    fold: Array
    weights: Any = None
    held_out: bool = dataclasses.field(default=False, metadata={"static": True})

    def select(self, take: Take) -> Array:
        """Return the weights of the examples that `take` picks."""
        chosen = (take(self.fold_of) == self.fold) == self.held_out
        if self.weights is None:
            return chosen.astype(jnp.float32)
        lazy = isinstance(self.weights, LazyWeights)
        weights = self.weights.select(take) if lazy else take(self.weights)
        return jnp.where(chosen, weights, 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Resampled:
    """The weights of the examples, each times how often a resample has it. A `LazyWeights`.

    Args:
        counts: `(m,)` integers.
        weights: of the examples, or None: `(m,)` or `LazyWeights`.

    >>> Resampled(jnp.array([0, 2]), jnp.array([0.5, 3.0])).select(lambda a: a).tolist()
    [0.0, 6.0]
    """

    counts: Array
    weights: Any = None

    def select(self, take: Take) -> Array:
        """Return the weights of the examples that `take` picks."""
        counts = take(self.counts)
        if self.weights is None:
            return counts.astype(jnp.float32)
        lazy = isinstance(self.weights, LazyWeights)
        return counts * (self.weights.select(take) if lazy else take(self.weights))


def multinomial_counts(key: Array, m: int) -> Array:
    """Return how often each of m examples is among m draws with replacement: `(m,)` uint8.

    >>> int(multinomial_counts(jax.random.key(0), 100).sum())
    100
    """
    drawn = jax.random.randint(key, (m,), 0, m)
    return jnp.zeros(m, jnp.uint8).at[drawn].add(1)


def poisson_counts(key: Array, m: int) -> Array:
    """Return m independent Poisson numbers with mean 1: `(m,)` uint8.

    The counts of draws with replacement tend to them as m grows; they need no other example.

    >>> poisson_counts(jax.random.key(0), 5).shape
    (5,)
    """
    k = np.arange(16)
    mass = np.exp(-1) / np.array([math.factorial(i) for i in k])
    uniform = jax.random.uniform(key, (m,))
    return jnp.searchsorted(jnp.asarray(mass.cumsum(), uniform.dtype), uniform).astype(jnp.uint8)


def stratified_folds(batch: Batch, folds: int, key: Array) -> Array:
    """Return a random fold number for each example, each class spread evenly over the folds.

    The numbers of a class in two folds differ by at most one, and so do the folds' sizes. An
    example with a soft label counts for its most likely class.

    Args:
        batch: the examples; only the labels are read.
        folds: how many, from 2 to m.
        key: a `jax.random.key`.

    Returns:
        `(m,)` integers from 0 to folds − 1.

    Raises:
        ValueError: folds is not between 2 and m.

    >>> batch = Batch(jnp.ones((1, 6)), jnp.array([0, 0, 0, 1, 1, 1]))
    >>> sorted(stratified_folds(batch, 3, jax.random.key(0))[:3].tolist())
    [0, 1, 2]
    """
    m = batch.m_examples
    if not 2 <= folds <= m:
        raise ValueError(f"folds is {folds}; it must be between 2 and the {m} examples.")
    y = jnp.asarray(batch.y)
    label = y.argmax(axis=0) if y.ndim == 2 else jnp.round(y)
    shuffled = jax.random.permutation(key, m)
    by_class = shuffled[jnp.argsort(label[shuffled], stable=True)]
    number = (jnp.arange(m) % folds).astype(jnp.uint8 if folds <= 256 else jnp.int32)
    return jnp.zeros(m, number.dtype).at[by_class].set(number)
