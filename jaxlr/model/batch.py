"""The parameters and the examples of one lane."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlr.base.arguments import transfers
from jaxlr.base.printing import Shown, shape_of, shown
from jaxlr.base.pytrees import Array, LazyWeights, Take, logit_shape
from jaxlr.door import arrays
from jaxlr.door.given import Side
from jaxlr.model.features import taken


class Params(NamedTuple):
    """The parameters of one lane: `Z = wᵀX + b`.

    Args:
        w: weights of the features: `(n,)`, or `(n, K)` for the softmax over K classes.
        b: intercept: `()`, or `(K,)`.
    """

    w: Array
    b: Array


def init_params(n_features: int, n_classes: int = 2, dtype: Any = None) -> Params:
    """Return parameters that are all zero.

    Args:
        n_features: n, the number of rows of X.
        n_classes: 2 for the sigmoid; K > 2 for the softmax over K classes.
        dtype: of the parameters; JAX's default float when None.

    Returns:
        `Params` of shapes `(n,)` and `()`, or `(n, K)` and `(K,)`.

    >>> init_params(3, n_classes=4).w.shape
    (3, 4)
    """
    classes = logit_shape(n_classes)
    return Params(jnp.zeros((n_features, *classes), dtype), jnp.zeros(classes, dtype))


def _batch(batch: Any) -> Shown:
    shape = getattr(batch.X, "shape", ())
    sizes = f"{shape[1]} examples × {shape[0]} features, " if len(shape) == 2 else ""
    without = "" if batch.intercept else ", no intercept"
    rows = {name: shape_of(getattr(batch, name)) for name in ("X", "y", "weights", "offset")}
    rows = {name: words for name, words in rows.items() if words != "None"}
    return f"Batch of {sizes}{batch.n_classes} classes{without}", rows


@shown(_batch)
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """The examples: an example is a column of X.

    Nothing is checked here, so that batches can be built inside jit. `Batch.from_rows` and
    `Batch.from_columns` check their input and say what is wrong with it.

    Args:
        X: features, `(n, m)`: n features of m examples; an array, or anything that answers what
            `jaxlr.model.features.Features` lists.
        y: labels. `n_classes=2`: `(m,)`, 0/1 or the probability of class 1. More classes:
            `(m,)` integers 0…K−1, or `(K, m)` probabilities whose columns sum to one.
        weights: None, `(m,)`, or `LazyWeights`. Weight 2 is a repeated example.
        offset: None, or a term added to the logits: `(m,)`, or `(K, m)`.
        n_classes: static; 2 is the sigmoid, K > 2 the softmax.
        intercept: static; False leaves the intercept out: b has no effect, and its derivatives
            are zero.

    >>> batch = Batch(jnp.ones((3, 5)), jnp.array([0, 1, 1, 0, 1]))
    >>> batch.n_features, batch.m_examples, batch.n_classes
    (3, 5, 2)
    """

    X: Array
    y: Array
    weights: Any = None
    offset: Array | None = None
    n_classes: int = dataclasses.field(default=2, metadata={"static": True})
    intercept: bool = dataclasses.field(default=True, metadata={"static": True})

    @property
    def n_features(self) -> int:
        """The number of features, n."""
        return self.X.shape[0]

    @property
    def m_examples(self) -> int:
        """The number of examples, m."""
        return self.X.shape[1]

    def select(self, take: Take) -> Batch:
        """Return the batch of the examples that `take` picks, its weights as an array."""
        weights = self.weights
        if weights is not None:
            weights = weights.select(take) if isinstance(weights, LazyWeights) else take(weights)
        offset = None if self.offset is None else take(self.offset)
        picked = {"X": taken(self.X, take), "y": take(self.y), "weights": weights, "offset": offset}
        return dataclasses.replace(self, **picked)

    @classmethod
    @transfers
    def from_rows(
        cls,
        X: Any,
        y: Any,
        *,
        weights: Any = None,
        offset: Any = None,
        n_classes: int | None = None,
        intercept: bool = True,
        dtype: Any = None,
    ) -> Batch:
        """Return a checked batch from examples that are rows: `X_batch = Xᵀ`.

        NumPy and JAX arrays, lists, and tables (pandas, polars, pyarrow) of numbers are taken: a
        table column by column, of whatever dtypes of numbers and truth values, nullable ones too.
        y, weights and offset may be such columns, or tables of one.

        Args:
            X: features, `(m, n)`: an example is a row.
            y: labels. Two classes: `(m,)`, 0/1 or the probability of class 1. More: `(m,)` integers
                0…K−1, or `(m, K)` probabilities whose rows sum to one.
            weights: None, `(m,)` not negative, or `LazyWeights`, which are passed on unchecked.
            offset: None, or a term added to the logits: `(m,)`, or `(m, K)`.
            n_classes: found from y when None; then every class must have an example. Given, and
                more than 2, a class may have none, as in a fold that misses a rare class.
            intercept: whether there is one; without, b stays as it starts, at 0.
            dtype: a floating dtype; that of X when None (JAX's default where X is not floating or
                x64 is off). float64 and integers are rounded to it, unless that hides a feature.

        Returns:
            `Batch` of JAX arrays: X `(n, m)`; y in the dtype of X, classes as int32; weights and
            offset in that dtype too, but at least in float32.

        Raises:
            ValueError: wrong shapes; NaN, infinity, or numbers too large for the dtype; features or
                offsets that a narrower dtype rounds by more than a thousandth of their standard
                deviation; features whose squares overflow or vanish; labels that are no classes or
                probabilities, or are all of one class; negative or all-zero weights; missing
                values; empty data.
            TypeError: strings, dates, categories, objects, complex numbers, sparse matrices, values
                traced by jit.

        >>> batch = Batch.from_rows([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 1])
        >>> batch.X.tolist(), batch.n_classes
        ([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]], 2)
        >>> Batch.from_rows([[1.0, 2.0], [3.0, float("nan")]], [0, 1])
        Traceback (most recent call last):
        ...
        ValueError: X[1, 1] is nan (example 1, feature 1): 1 value is NaN or infinite.
        Impute them, or drop such examples.
        """
        examples = arrays.checked(Side(rows=True), X, y, weights, offset, n_classes, dtype)
        return cls(*examples, intercept=bool(intercept))

    @classmethod
    @transfers
    def from_columns(
        cls,
        X: Any,
        y: Any,
        *,
        weights: Any = None,
        offset: Any = None,
        n_classes: int | None = None,
        intercept: bool = True,
        dtype: Any = None,
    ) -> Batch:
        """Return a checked batch from examples that are columns, as `Batch` has them.

        Args:
            X: features, `(n, m)`: an example is a column.
            y: labels as for `from_rows`, but probabilities of K classes are `(K, m)`.
            weights, n_classes, intercept, dtype: as for `from_rows`.
            offset: None, `(m,)`, or `(K, m)`.

        Returns:
            `Batch`, as `from_rows` does; and raises what it raises.

        >>> batch = Batch.from_columns([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]], [0, 1, 2])
        >>> batch.X.shape, batch.n_classes
        ((2, 3), 3)
        >>> Batch.from_columns([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 1])
        Traceback (most recent call last):
        ...
        ValueError: y has shape (3,), but X of shape (3, 2) has 2 examples, its columns.
        If the examples are the rows of X, use Batch.from_rows.
        """
        examples = arrays.checked(Side(rows=False), X, y, weights, offset, n_classes, dtype)
        return cls(*examples, intercept=bool(intercept))
