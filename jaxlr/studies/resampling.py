"""Folds, splits and resamples as example weights, in bytes: not a float an example and lane."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxlr.base.arguments import check_key, transfers
from jaxlr.base.meshes import with_auto_axes
from jaxlr.base.pytrees import Array, LazyWeights, Take
from jaxlr.model.batch import Batch
from jaxlr.model.shapes import check_shapes

FIT, SCORE = 1, 2  # the roles of an example in a split


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
        fold_of, fold = (jnp.asarray(a, jnp.int32) for a in (take(self.fold_of), self.fold))
        chosen = (fold_of == fold) == self.held_out
        return _times(chosen, self.weights, take)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class SplitWeights:
    """The weights of the examples that a split fits on, or of those that it scores on.

    A `LazyWeights`: under `jax.vmap` over `split`, a lane costs one integer.

    Args:
        roles: `(S, m)` integers, a row for each split: `FIT`, `SCORE`, both added, or 0.
        split: which row, `()`.
        weights: of the examples, or None: `(m,)` or `LazyWeights`.
        held_out: static; False for the examples to fit on, True for those to score on.

    >>> roles = jnp.array([[FIT, SCORE, 0], [SCORE, FIT, FIT]])
    >>> SplitWeights(roles, jnp.array(1)).select(lambda a: a).tolist()
    [0.0, 1.0, 1.0]
    """

    roles: Array
    split: Array
    weights: Any = None
    held_out: bool = dataclasses.field(default=False, metadata={"static": True})

    def select(self, take: Take) -> Array:
        """Return the weights of the examples that `take` picks."""
        chosen = (take(self.roles)[self.split] & (SCORE if self.held_out else FIT)) > 0
        return _times(chosen, self.weights, take)


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
        return _times(take(self.counts), self.weights, take)


def _times(counts: Array, weights: Any, take: Take) -> Array:
    """Return `countsᵢcᵢ`, and 0 for a count of 0 whatever the weight."""
    if weights is None:
        return counts.astype(jnp.float32)
    weights = weights.select(take) if isinstance(weights, LazyWeights) else take(weights)
    weights = weights if jnp.issubdtype(weights.dtype, jnp.floating) else weights * 1.0
    counts = counts.astype(weights.dtype)
    return jnp.where(counts == 0, 0, counts * weights)


@functools.partial(jax.jit, static_argnames=("m",))
def multinomial_counts(key: Array, m: int) -> Array:
    """Return how often each of m examples is among m draws with replacement: `(m,)` uint8.

    Examples are equally likely to 1 part in 2³²/m.

    >>> int(multinomial_counts(jax.random.key(0), 100).sum())
    100
    """
    check_key(key)
    drawn = jax.random.bits(key, (m,), jnp.uint32) % np.uint32(m)  # half the work of randint
    return jnp.zeros(m, jnp.uint8).at[drawn].add(1)


@functools.partial(jax.jit, static_argnames=("m",))
def poisson_counts(key: Array, m: int) -> Array:
    """Return m independent Poisson numbers with mean 1: `(m,)` uint8.

    The counts of draws with replacement tend to them as m grows; they need no other example.

    >>> poisson_counts(jax.random.key(0), 5).shape
    (5,)
    """
    check_key(key)
    k = np.arange(16)
    mass = np.exp(-1) / np.array([math.factorial(i) for i in k])
    uniform = jax.random.uniform(key, (m,))
    return jnp.searchsorted(jnp.asarray(mass.cumsum(), uniform.dtype), uniform).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnames=("folds",))
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
    check_shapes(None, batch)
    check_key(key)
    m = batch.m_examples
    if not 2 <= folds <= m:
        raise ValueError(f"folds is {folds}; it must be between 2 and the {m} examples.")

    @with_auto_axes
    def dealt(y: Array, key: Array) -> Array:
        label = y.argmax(axis=0) if y.ndim == 2 else jnp.round(y)
        shuffle = jax.random.bits(key, (m,), jnp.uint32)
        _, _, by_class = lax.sort((label, shuffle, jnp.arange(m)), num_keys=2)
        number = (jnp.arange(m) % folds).astype(jnp.uint8 if folds <= 256 else jnp.int32)
        return jnp.zeros(m, number.dtype).at[by_class].set(number)

    return dealt(jnp.asarray(batch.y), key)


@functools.partial(jax.jit, static_argnames=("folds", "repeats"))
def repeated_folds(batch: Batch, folds: int, repeats: int, key: Array) -> Array:
    """Return the splits of folds drawn several times: `(repeats·folds, m)` uint8 roles.

    Args:
        batch, folds: as for `stratified_folds`.
        repeats: how often to draw.
        key: a `jax.random.key`; draw r has the r-th of `jax.random.split(key, repeats)`.

    >>> batch = Batch(jnp.ones((1, 6)), jnp.array([0, 0, 0, 1, 1, 1]))
    >>> repeated_folds(batch, 3, 2, jax.random.key(0)).shape
    (6, 6)
    """
    check_key(key)
    draw = jax.vmap(lambda key: stratified_folds(batch, folds, key))
    fold_of = draw(jax.random.split(key, repeats))
    inside = fold_of[:, None] == jnp.arange(folds, dtype=fold_of.dtype)[None, :, None]
    return jnp.where(inside, SCORE, FIT).astype(jnp.uint8).reshape(-1, batch.m_examples)


@transfers
def group_folds(groups: Any, folds: int, key: Array) -> np.ndarray:
    """Return a fold number for each example, so that no group is in two folds.

    The largest group goes to the smallest fold, and so on; groups of one size in random order.
    On the host: not for use inside jit.

    Args:
        groups: which group each example is of, `(m,)`: integers, strings, anything that sorts.
        folds: how many, from 2 to the number of groups.
        key: a `jax.random.key`.

    Returns:
        `(m,)` integers from 0 to folds − 1.

    Raises:
        ValueError: groups is not one-dimensional, or folds is out of range.

    >>> group_folds(["ann", "bob", "ann", "cy"], 2, jax.random.key(0))[[0, 2]].tolist()
    [0, 0]
    """
    check_key(key)
    groups = np.asarray(groups)
    if groups.ndim != 1:
        raise ValueError(f"groups has shape {groups.shape} where (m,) is due: one an example.")
    names, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not 2 <= folds <= len(names):
        raise ValueError(f"folds is {folds}; it must be between 2 and the {len(names)} groups.")
    shuffled = np.asarray(jax.random.permutation(key, len(names)))
    fold_of_group, filled = np.zeros(len(names), np.int32), np.zeros(folds, np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of_group[group] = filled.argmin()
        filled[filled.argmin()] += sizes[group]
    return fold_of_group[group_of]


def splits(pairs: Iterable[tuple[Any, Any]], m: int) -> np.ndarray:
    """Return the splits that pairs of index arrays say, as scikit-learn's splitters yield them.

    Args:
        pairs: of the examples to fit on and those to score on: indices, or masks of m booleans.
        m: how many examples there are.

    Returns:
        `(S, m)` uint8 roles, for `cross_validate(folds=…)`.

    Raises:
        ValueError: there is no pair, a part is empty, or an index is out of range.

    >>> splits([([0, 1], [2]), ([1, 2], [0])], 3).tolist()
    [[1, 1, 2], [2, 1, 1]]
    """
    rows = []
    for number, pair in enumerate(pairs):
        row = np.zeros(m, np.uint8)
        for role, part in zip((FIT, SCORE), map(np.asarray, pair), strict=True):
            if part.dtype == bool and part.shape == (m,):
                part = np.flatnonzero(part)
            if part.ndim != 1 or not part.size or part.dtype.kind not in "iu":
                raise ValueError(
                    f"Split {number} has a part of shape {part.shape} and type {part.dtype} where "
                    f"indices of examples are due, or a mask of {m} booleans."
                )
            if part.min() < -m or part.max() >= m:
                far = part.max() if part.max() >= m else part.min()
                raise ValueError(f"Split {number} names example {far} of {m}.")
            row[part] |= role
        rows.append(row)
    if not rows:
        raise ValueError("There are no splits: give at least one pair of index arrays.")
    return np.stack(rows)


def as_folds(batch: Batch, folds: int | Array, key: Array | None = None) -> tuple[int, Array]:
    """Return how many folds there are, and their numbers `(m,)` or the splits `(F, m)`.

    Args:
        batch: the examples.
        folds: how many, drawn by `stratified_folds`; or the fold number of each example, `(m,)`
            integers from 0; or splits, `(F, m)`.
        key: a `jax.random.key` for the draw.

    Raises:
        ValueError: a number of folds comes with no key, shapes do not fit, or a fold or split has
            no examples.
        TypeError: folds is a number, but no integer.

    >>> as_folds(Batch(jnp.ones((1, 3)), jnp.ones(3)), jnp.array([0, 1, 1]))[0]
    2
    """
    check_shapes(None, batch)
    if np.ndim(folds) == 0:
        if key is None:
            raise ValueError("Folds are drawn at random: give key=jax.random.key(seed).")
        check_key(key)
        try:
            num_folds = operator.index(folds)  # pyright: ignore[reportArgumentType]
        except TypeError:
            raise TypeError(f"folds is {folds!r}: an integer or an array is due.") from None
        return num_folds, stratified_folds(batch, num_folds, key)
    m = batch.m_examples
    if not isinstance(folds, Tracer):
        folds = np.asarray(folds)  # that jit does not trace it where it is closed over
    if not jnp.issubdtype(folds.dtype, jnp.integer):
        raise ValueError(
            f"folds has dtype {folds.dtype} where integers are due: fold numbers, or what "
            "jaxlr.splits returns."
        )
    if folds.ndim > 2 or folds.shape[-1] != m:
        raise ValueError(
            f"folds has shape {folds.shape} where ({m},) is due, the fold number of each "
            f"example, or (splits, {m})."
        )
    if folds.ndim == 2:
        if not isinstance(folds, Tracer):
            _check_splits(np.asarray(folds), _known_weights(batch))
        return len(folds), jnp.asarray(folds)
    if isinstance(folds, Tracer):
        raise ValueError(
            "folds is traced, and the number of lanes depends on its values: inside jit, "
            "draw them with folds=5 and a key, or close over the array."
        )
    numbers, sizes = np.unique(np.asarray(folds), return_counts=True)
    if numbers[0] < 0 or numbers[-1] >= len(numbers):
        raise ValueError(
            f"folds are numbered {numbers[0]} to {numbers[-1]} and {len(numbers)} of them have "
            f"examples: 0 to {len(numbers) - 1} are due."
        )
    weights = _known_weights(batch)
    if weights is not None:
        empty = np.bincount(np.asarray(folds), weights) == 0
        if empty.any():
            raise ValueError(f"Fold {empty.argmax()} has only examples of weight 0.")
    if len(numbers) < 2:
        raise ValueError(f"folds holds one fold of all {sizes[0]} examples: give at least two.")
    return len(numbers), jnp.asarray(folds)


def _known_weights(batch: Batch) -> np.ndarray | None:
    weights = batch.weights
    known = weights is not None and not isinstance(weights, LazyWeights | Tracer)
    return np.asarray(weights) if known else None


def _check_splits(splits: np.ndarray, weights: np.ndarray | None) -> None:
    for role, words in ((FIT, "fit to"), (SCORE, "score on")):
        takes = (splits & role) > 0
        empty = ~(takes if weights is None else takes & (weights != 0)).any(axis=1)
        if empty.any():
            raise ValueError(
                f"Split {empty.argmax()} has no example to {words}: its roles are {FIT} to fit, "
                f"{SCORE} to score, {FIT + SCORE} for both and 0 for neither; see jaxlr.splits."
            )


def parts(batch: Batch, folds: Array, fold: Array) -> tuple[Batch, Batch]:
    """Return the batch with weights of the examples to fit on, and of those to score on.

    Args:
        batch: the examples.
        folds: fold numbers or splits, from `as_folds`.
        fold: which, `()`.

    >>> batch = Batch(jnp.ones((1, 3)), jnp.ones(3))
    >>> outside, inside = parts(batch, jnp.array([0, 1, 1]), jnp.array(0))
    >>> outside.weights.select(lambda a: a).tolist(), inside.weights.select(lambda a: a).tolist()
    ([0.0, 1.0, 1.0], [1.0, 0.0, 0.0])
    """
    Weights = FoldWeights if folds.ndim == 1 else SplitWeights
    outside, inside = (
        dataclasses.replace(batch, weights=Weights(folds, fold, batch.weights, held_out))
        for held_out in (False, True)
    )
    return outside, inside
