"""The door: what it takes, the batch it makes of it, and every complaint by its telling words."""
# ruff: noqa: E501  (one complaint a line, in the table)

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxlr
from jaxlr import data
from jaxlr.model.shapes import check_shapes

X = np.arange(15.0).reshape(5, 3)  # 5 examples, 3 features, by rows
Y = np.array([0, 1, 1, 0, 1])
K = np.array([0, 2, 1, 0, 2])
P = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0, 0.5, 0.5], [0.25, 0.25, 0.5], [0, 0, 1]])


def rows(X: Any = X, y: Any = Y, **options: Any) -> Any:
    return jaxlr.Batch.from_rows(X, y, **options)


def columns(X: Any = X.T, y: Any = Y, **options: Any) -> Any:
    return jaxlr.Batch.from_columns(X, y, **options)


def put(array, index, value, dtype: Any = float):
    array = np.array(array, dtype)
    array[index] = value
    return array


class Table:
    """What a data frame is to the door: an array with the names of its columns."""

    def __init__(self, array, columns):
        self.array, self.columns = np.asarray(array), columns

    def __array__(self, dtype=None, copy=None):
        return self.array

    def select(self, *columns):
        """Pick columns: a method that lazy weights have as well."""
        raise AssertionError("a table is no lazy weights")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Counts:
    counts: jax.Array

    def select(self, take):
        return take(self.counts).astype(jnp.float32)


# --- What goes in and what comes out ------------------------------------------------------------


@pytest.mark.parametrize(
    "given_as", [np.asarray, jnp.asarray, np.ndarray.tolist, np.asfortranarray]
)
def test_rows_and_columns_make_the_same_batch(given_as, dtype):
    A = X.astype(dtype)
    by_rows = rows(given_as(A), Y.tolist(), weights=range(5), offset=[0.5] * 5, dtype=dtype)
    by_columns = columns(given_as(A.T.copy()), Y, weights=np.arange(5), offset=np.full(5, 0.5))
    for batch in (by_rows, by_columns):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
        assert batch.X.shape == (3, 5)
        due = (
            jnp.zeros(()).dtype if given_as is np.ndarray.tolist and batch is by_columns else dtype
        )
        assert {a.dtype for a in jax.tree.leaves(batch)} == {np.dtype(due)}
        np.testing.assert_array_equal(batch.X, A.T)
        np.testing.assert_array_equal(batch.y, Y)
        np.testing.assert_array_equal(batch.weights, np.arange(5))
        np.testing.assert_array_equal(batch.offset, np.full(5, 0.5))
        assert batch.n_classes == 2
        check_shapes(jaxlr.init_params(3), batch)


def test_soft_labels_and_offsets_of_more_classes_are_turned_with_x():
    offset = 10.0 * np.arange(5)[:, None] + np.arange(3)
    by_rows, by_columns = rows(y=P, offset=offset), columns(y=P.T, offset=offset.T)
    for batch in (by_rows, by_columns):
        np.testing.assert_array_equal(batch.y, P.T.astype(batch.X.dtype))
        np.testing.assert_array_equal(batch.offset, offset.T)
        assert batch.n_classes == 3
        check_shapes(jaxlr.init_params(3, 3), batch)
    with_indices = rows(y=K, offset=offset)
    np.testing.assert_array_equal(with_indices.y, K)
    assert with_indices.y.dtype == jnp.int32


def test_x_is_laid_out_in_memory_by_columns():
    host = np.asarray(rows(dtype="float32").X)
    assert host.flags.c_contiguous
    assert host.strides == (5 * 4, 4)


@pytest.mark.parametrize(
    ("y", "n_classes", "found", "kind"),
    [
        ([0, 1, 1, 0, 1], None, 2, "f"),
        ([False, True, True, False, True], None, 2, "f"),
        ([0.0, 1.0, 1.0, 0.0, 1.0], None, 2, "f"),
        (np.array([0, 1, 1, 0, 1], np.uint8), 2, 2, "f"),
        ([0.5, 0.5, 0.5, 0.5, 0.5], None, 2, "f"),
        ([0, 0.25, 0, 0, 0], None, 2, "f"),
        ([0, 2, 1, 0, 2], None, 3, "i"),
        ([0.0, 2.0, 1.0, 0.0, 2.0], None, 3, "i"),
        ([0, 2, 1, 0, 2], 5, 5, "i"),
        ([0, 1, 1, 0, 1], 3, 3, "i"),
        ([3, 0, 3, 0, 3], np.int64(4), 4, "i"),
    ],
)
def test_labels(y, n_classes, found, kind):
    batch = rows(y=y, n_classes=n_classes)
    assert batch.n_classes == found
    assert type(batch.n_classes) is int
    assert batch.y.dtype.kind == kind
    np.testing.assert_array_equal(batch.y, np.asarray(y, float))


@pytest.mark.parametrize(
    "given_dtype", ["float16", "bfloat16", "float32", "float64", "int64", "bool"]
)
@pytest.mark.parametrize("asked", [None, "float16", "bfloat16", "float32"])
def test_dtype_is_that_asked_for_or_given_or_the_default(given_dtype, asked, dtype):
    A = np.eye(5, 3).astype(jnp.dtype(given_dtype))
    batch = rows(A, weights=np.full(5, 257), offset=np.ones(5, int), dtype=asked)
    default = jnp.zeros(()).dtype
    due = asked or (default if given_dtype in ("float64", "int64", "bool") else given_dtype)
    assert batch.X.dtype == batch.y.dtype == jnp.dtype(due)
    np.testing.assert_array_equal(batch.X.astype(float), np.eye(5, 3).T)
    # Weights and offsets are never in half precision: 257 is no bfloat16.
    assert batch.weights.dtype == batch.offset.dtype == jnp.promote_types(due, jnp.float32)
    assert batch.weights.tolist() == [257] * 5


def test_the_batch_is_a_copy_of_what_was_given():
    given_X, given_y = np.zeros((3, 5), np.float32), Y.astype(np.float32)
    batch = columns(given_X, given_y)
    by_rows = rows(given_X.T, given_y)
    given_X[:], given_y[:] = 7, 7
    for made in (batch, by_rows):
        assert not made.X.any()
        assert made.y.tolist() == Y.tolist()


@pytest.mark.parametrize("m", [1, 511, 512, 513, 1_300])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_rows_are_turned_whatever_lies_where_in_memory(m, dtype):
    values = np.random.default_rng(0).integers(-99, 99, (2 * m, 6)).astype(dtype)
    for given_X in (values[:m], np.asfortranarray(values[:m]), values[::2], values[:m, ::-1]):
        batch = rows(given_X, y=np.arange(m) % 2 if m > 1 else [0.5])
        np.testing.assert_array_equal(batch.X, given_X.T.astype(batch.X.dtype))
        kept = np.array(batch.X)
        given_X += 1
        np.testing.assert_array_equal(batch.X, kept)


@pytest.mark.parametrize("kind", ["f4", "f8", "i4"])
def test_numbers_of_another_byte_order_are_the_same_numbers(kind):
    there, here = (
        rows(
            X.astype(order + kind),
            y=np.abs(P).astype(order + "f8"),
            weights=np.ones(5, order + kind),
        )
        for order in "><"
    )
    for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bad_value_is_found_at_the_end_of_many():
    many = np.zeros((100_000, 3), np.float32)
    many[-1, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"X\[99999, 2\] is nan \(example 99999, feature 2\): 1 value"
    ):
        rows(many, y=np.arange(100_000) % 2)


def test_float64_without_x64_becomes_float32_without_a_word():
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batch = rows(X.astype(np.float64), y=P, weights=np.ones(5), offset=np.ones((5, 3)))
    assert caught == []
    assert {a.dtype for a in jax.tree.leaves(batch)} == {np.dtype("float32")}


def test_lazy_weights_are_passed_on():
    lazy = Counts(jnp.arange(5, dtype=jnp.uint8))
    assert rows(weights=lazy).weights is lazy


def test_a_table_as_weights_is_an_array():
    assert rows(weights=Table(np.arange(5), ["w"])).weights.tolist() == [0, 1, 2, 3, 4]


def test_tables_of_pyarrow():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"age": X[:, 0], "height": X[:, 1], "count": [0, 1, 2, 3, 4]})
    batch = rows(table, pa.array(Y), weights=pa.array([1.0] * 5))
    np.testing.assert_array_equal(batch.X, np.stack([X[:, 0], X[:, 1], range(5)]))
    assert batch.y.tolist() == Y.tolist()
    table = pa.table({"age": X[:, 0], "height": put(X[:, 1], 2, np.nan)})
    with pytest.raises(ValueError, match=r"X\[2, 1\] is nan \(example 2, feature 1 'height'\)"):
        rows(table)
    with pytest.raises(TypeError, match=r"X\[0, 1\] is 'red' \(example 0, feature 1 'colour'\)"):
        rows(pa.table({"age": X[:, 0], "colour": ["red"] * 5}))


def test_a_class_may_have_no_examples_when_the_number_of_classes_is_given():
    assert rows(y=[0, 2, 2, 0, 2], n_classes=3).n_classes == 3


def outcome(*args, **options) -> tuple[Any, str]:
    """Return the batch, or None and the complaint."""
    try:
        return rows(*args, **options), ""
    except ValueError as error:
        return None, str(error)


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(np.float64, (4, 2), elements=st.floats(width=64)),
    hnp.arrays(np.float64, 4, elements=st.floats(width=64) | st.sampled_from([0.0, 1.0, 2.0])),
)
def test_whatever_the_numbers_a_batch_is_finite_or_refused_in_a_sentence(wild_X, wild_y):
    batch, complaint = outcome(wild_X, [0, 1, 0, 1], dtype="float32")
    with np.errstate(over="ignore"):
        expected = wild_X.T.astype(np.float32)
    if batch is None:
        assert complaint.startswith("X[")
        assert "nan" not in complaint or np.isnan(wild_X).any()
    else:
        np.testing.assert_array_equal(batch.X, expected)
        assert np.isfinite(expected).all()

    batch, complaint = outcome(np.ones((4, 2)), wild_y)
    if batch is None:
        assert complaint.startswith("y")
    else:
        y = np.asarray(batch.y)
        assert y.min() >= 0
        assert y.max() <= batch.n_classes - 1
        assert len(set(y.tolist())) > 1 or 0 < y[0] < 1


# --- Complaints ---------------------------------------------------------------------------------

NAN, INF = np.nan, np.inf
named = Table(put(X, (3, 1), NAN), ["age", "height", "weight"])
mixed = Table(put(X, (3, 2), "red", object), ["age", "height", "colour"])


class Sparse:
    nnz = 3

    def toarray(self):
        return X


REFUSED = {
    # Shapes of X.
    "vector X": (lambda: rows(X[:, 0]), "X has shape (5,) where (m_examples, n_features) is due: a single feature is X[:, None]"),
    "vector X by columns": (lambda: columns(X[:, 0]), "X has shape (5,) where (n_features, m_examples) is due: a single feature is X[None, :]"),
    "images": (lambda: rows(np.ones((5, 2, 4))), "X has shape (5, 2, 4) where (m_examples, n_features) is due: reshape"),
    "number": (lambda: columns(3.0), "X has shape () where (n_features, m_examples) is due"),
    "no examples": (lambda: rows(np.ones((0, 3)), []), "X has shape (0, 3), so it is empty: give (m_examples, n_features)"),
    "no features": (lambda: columns(np.ones((0, 5))), "X has shape (0, 5), so it is empty: give (n_features, m_examples)"),
    "empty list": (lambda: rows([], []), "X has shape (0,), so it is empty"),
    "ragged": (lambda: rows([[1.0, 2.0], [3.0]]), "X is not a rectangular array of numbers"),
    # X and y do not fit each other.
    "one label short": (lambda: rows(y=Y[:4]), "y has shape (4,), but X of shape (5, 3) has 5 examples, its rows. Give one label for each of the rows"),
    "no labels": (lambda: columns(y=[]), "y has shape (0,), but X of shape (3, 5) has 5 examples, its columns"),
    "columns by rows": (lambda: rows(X.T), "y has shape (5,), but X of shape (3, 5) has 3 examples, its rows. If the examples are the columns of X, use Batch.from_columns"),
    "rows by columns": (lambda: columns(X), "y has shape (5,), but X of shape (5, 3) has 3 examples, its columns. If the examples are the rows of X, use Batch.from_rows"),
    "both by columns": (lambda: rows(X[:, :2].T, P.T), "y has shape (3, 5), but X of shape (2, 5) has 2 examples, its rows. If the examples are the columns"),
    "both by rows": (lambda: columns(X[:, :2], P), "If the examples are the rows of X, use Batch.from_rows"),
    "y alone by columns": (lambda: rows(y=P.T), "y has shape (3, 5), but X of shape (5, 3) has 5 examples, its rows. The probabilities of an example are one of the rows of y: give y.T"),
    "y alone by rows": (lambda: columns(y=P), "one of the columns of y: give y.T"),
    "a column of labels": (lambda: rows(y=Y[:, None]), "y has shape (5, 1): labels are a vector here; give np.ravel(y)"),
    "a row of labels": (lambda: columns(y=Y[None]), "y has shape (1, 5): labels are a vector here; give np.ravel(y)"),
    "a single label": (lambda: rows(y=1), "y has shape () where (5,) or (5, K) is due"),
    "three axes": (lambda: columns(y=np.ones((1, 1, 5))), "y has shape (1, 1, 5) where (5,) or (K, 5) is due"),
    "two columns": (lambda: rows(y=P[:, :2]), "y has shape (5, 2): for two classes give the probability of class 1 as a vector, y[:, 1]"),
    "two rows": (lambda: columns(y=P.T[:2]), "y has shape (2, 5): for two classes give the probability of class 1 as a vector, y[1]"),
    # Values of X.
    "nan": (lambda: rows(put(X, (3, 1), NAN)), "X[3, 1] is nan (example 3, feature 1): 1 value is NaN or infinite. Impute them"),
    "nan by columns": (lambda: columns(put(X, (3, 1), NAN).T), "X[1, 3] is nan (example 3, feature 1): 1 value"),
    "named column": (lambda: rows(named), "X[3, 1] is nan (example 3, feature 1 'height')"),
    "several": (lambda: rows(put(X, ([4, 2, 1], [0, 0, 2]), -INF)), "X[2, 0] is -inf (example 2, feature 0): 3 values in 2 of the features are NaN or infinite. Impute them"),
    "overflow": (lambda: rows(put(X, (4, 2), -1e39), dtype="float32"), "X[4, 2] is -1e+39 (example 4, feature 2): too large for float32, whose largest number is 3.4e+38"),
    "overflow of integers": (lambda: rows(put(X, (4, 2), 70000, int), dtype="float16"), "X[4, 2] is 70000 (example 4, feature 2): too large for float16, whose largest number is 6.55e+04"),
    "masked": (lambda: rows(np.ma.masked_equal(X, 4)), "X is masked in 1 of its 15 entries: impute"),
    # Labels.
    "nan in y": (lambda: rows(y=put(Y, 2, NAN)), "y[2] is nan: 1 value is NaN or infinite. Drop"),
    "minus one": (lambda: rows(y=2 * Y - 1), "y[0] is -1, and labels are not negative: for labels −1 and 1 give (y + 1) / 2"),
    "negative": (lambda: rows(y=put(K, 3, -2, int)), "y[3] is -2, and labels are not negative: number the classes 0…K−1"),
    "two of two": (lambda: rows(y=K, n_classes=2), "y[1] is 2, but n_classes is 2: labels are 0, 1, or the probability of class 1"),
    "soft above one": (lambda: rows(y=[0.5, 0.1, 1.5, 0, 1]), "y[0] is 0.5 and y[2] is 1.5: labels are integers from 0, or all of them probabilities"),
    "soft above one, of two": (lambda: rows(y=[0.5, 0.1, 1.5, 0, 1], n_classes=2), "y[2] is 1.5, but n_classes is 2"),
    "a fraction that is outside": (lambda: rows(y=[0, 1.5, 1, 0, 1]), "y[1] is 1.5: labels are integers from 0, or all of them"),
    "fraction": (lambda: rows(y=[0, 0.25, 1, 2, 1], n_classes=3), "y[1] is 0.25, and n_classes is 3: labels are integers from 0, or probabilities of shape (5, K)"),
    "fraction by columns": (lambda: columns(y=[0, 0.25, 1, 2, 1], n_classes=3), "probabilities of shape (K, 5)"),
    "float32 is shown as it is": (lambda: rows(y=np.array([0.1, 0, 1, 2, 1], np.float32), n_classes=3), "y[0] is 0.1, and"),
    "too many classes": (lambda: rows(y=[0, 1, 2, 3, 1], n_classes=3), "y[3] is 3, but n_classes is 3: classes are 0…2"),
    "too many soft classes": (lambda: rows(y=P, n_classes=4), "y has shape (5, 3), for 3 classes, but n_classes is 4"),
    "soft for two": (lambda: columns(y=P.T, n_classes=2), "y has shape (3, 5), for 3 classes, but n_classes is 2"),
    "gap": (lambda: rows(y=[0, 3, 1, 0, 3]), "y has labels up to 3, but none is 2: number the classes 0…K−1, as in y = np.unique(y, return_inverse=True)[1]; or give n_classes"),
    "from one": (lambda: rows(y=[1, 2, 1, 2, 1]), "y has labels up to 2, but none is 0"),
    "huge label": (lambda: rows(y=[0, 1, 1e300, 2, 1]), "y has labels up to 1e+300, but none is 3"),
    "only ones": (lambda: rows(y=np.ones(5)), "y holds class 1 only: there is nothing to tell apart; add examples of another class"),
    "only zeros": (lambda: rows(y=np.zeros(5, int)), "y holds class 0 only"),
    "only twos": (lambda: rows(y=[2] * 5), "y holds class 2 only"),
    "only twos of three": (lambda: rows(y=[2] * 5, n_classes=3), "y holds class 2 only"),
    "only one, soft": (lambda: rows(y=np.eye(3)[[1] * 5]), "y holds class 1 only"),
    "one class where weighted": (lambda: rows(weights=Y), "y holds class 1 only where weights are positive"),
    "soft below zero": (lambda: rows(y=put(P, (2, 1), -0.5)), "y[2, 1] is -0.5 where a probability, 0 to 1, is due"),
    "soft above one, of three": (lambda: columns(y=put(P, (2, 1), 1.5).T), "y[1, 2] is 1.5 where a probability"),
    "nan in soft": (lambda: columns(y=put(P, (2, 1), NAN).T), "y[1, 2] is nan: 1 value"),
    "sum": (lambda: rows(y=put(P, (2, 1), 0.51)), "y[2] sums to 1.01: the probabilities of an example sum to one"),
    "sum by columns": (lambda: columns(y=put(P, (2, 1), 0.51).T), "y[:, 2] sums to 1.01"),
    "one class by number": (lambda: rows(n_classes=1), "n_classes is 1: at least 2 are due"),
    # Weights and offsets.
    "weights of another m": (lambda: rows(weights=np.ones(3)), "weights has shape (3,) where (5,) is due: a number for each example"),
    "a column of weights": (lambda: rows(weights=np.ones((5, 1))), "weights has shape (5, 1) where (5,) is due"),
    "negative weight": (lambda: rows(weights=[1, 0, 1, -0.1, 1]), "weights[3] is -0.1: weights are not negative; 0 leaves an example out"),
    "nan weight": (lambda: rows(weights=[1, NAN, 1, 1, 1]), "weights[1] is nan: 1 value"),
    "infinite weight": (lambda: rows(weights=[1, 1, 1, 1, INF]), "weights[4] is inf"),
    "zero weights": (lambda: rows(weights=np.zeros(5)), "weights are all zero"),
    "weights that vanish": (lambda: rows(weights=np.full(5, 1e-60), dtype="float32"), "weights are all zero"),
    "weights below normal numbers": (lambda: rows(weights=np.full(5, 1e-39), dtype="float32"), "weights sum to 5e-39, too little in float32: a mean divides by their sum; rescale them"),
    "weights that overflow": (lambda: rows(weights=np.full(5, 1e38), dtype="float32"), "weights sum to 5e+38, too much in float32"),
    "offset of another m": (lambda: rows(offset=np.ones(3)), "offset has shape (3,) where (5,) is due"),
    "offset of another K": (lambda: rows(y=K, offset=np.ones(5)), "offset has shape (5,) where (5, 3) is due: a number for each example and class"),
    "offset not turned": (lambda: columns(y=K, offset=np.ones((5, 3))), "offset has shape (5, 3) where (3, 5) is due"),
    "infinite offset": (lambda: rows(y=K, offset=put(P, (1, 2), INF)), "offset[1, 2] is inf: 1 value"),
    "asked for float64": (lambda: rows(dtype="float64"), "dtype is float64, but x64 is off: turn it on with jax.config.update('jax_enable_x64', True)"),
}  # fmt: skip

WRONG_KIND = {
    "strings": (lambda: rows(X.astype(str)), "X[0, 0] is '0.0' (example 0, feature 0), and X has dtype <U32 where numbers are due: encode it"),
    "a column of strings": (lambda: rows(mixed), "X[3, 2] is 'red' (example 3, feature 2 'colour'), and X has dtype object"),
    "none": (lambda: columns(put(X, (3, 2), None, object).T), "X[2, 3] is None (example 3, feature 2)"),
    "numbers as objects": (lambda: rows(X.astype(object)), "X has dtype object: give numbers, as in np.asarray(X, float)"),
    "dates": (lambda: rows(np.full((5, 3), "2020-01-31", "datetime64[D]")), "X[0, 0] is 2020-01-31 (example 0, feature 0), and X has dtype datetime64[D]"),
    "durations": (lambda: rows(np.ones((5, 3), "timedelta64[s]")), "X has dtype timedelta64[s]: give numbers"),
    "a file's name": (lambda: rows("examples.csv"), "X is 'examples.csv', and X has dtype <U12"),
    "complex": (lambda: rows(X * 1j), "X has dtype complex128: no complex numbers are taken"),
    "sparse": (lambda: rows(Sparse()), "X is sparse: give it dense, as X.toarray()"),
    "names of classes": (lambda: rows(y=["cat", "dog", "cat", "dog", "cat"]), "y[0] is 'cat', and y has dtype <U3 where numbers are due: number the classes 0…K−1, as in y = np.unique(y, return_inverse=True)[1]"),
    "weights as strings": (lambda: rows(weights=["a"] * 5), "weights[0] is 'a', and weights has dtype <U1"),
    "offset of objects": (lambda: rows(offset=[None] * 5), "offset[0] is None, and offset has dtype object"),
    "a name of no dtype": (lambda: rows(dtype="foo"), "dtype is foo: one of bfloat16"),
    "an object": (lambda: rows(object()), "and X has dtype object where numbers are due: give an array"),
    "half a class": (lambda: rows(n_classes=2.5), "n_classes is 2.5: an integer is due"),
    "integers asked for": (lambda: rows(dtype=int), "dtype is int: one of bfloat16, float16, float32, float64 is due"),
    "inside jit": (lambda: jax.jit(rows)(X), "X is traced by jit or vmap, where values cannot be checked"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_sentence(name):
    call, words = REFUSED[name]
    with jax.enable_x64(False), pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize("name", WRONG_KIND)
def test_wrong_kinds_are_refused_in_a_sentence(name):
    call, words = WRONG_KIND[name]
    with jax.enable_x64(False), pytest.raises(TypeError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array"])
def test_sparse_matrices_of_scipy_and_jax(kind):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"X is sparse: give it dense, as X.toarray\(\)"):
        rows(getattr(sparse, kind)(X))
    from jax.experimental.sparse import BCOO

    with pytest.raises(TypeError, match=r"X is sparse: give it dense, as X.todense\(\)"):
        rows(BCOO.fromdense(jnp.asarray(X)))


@pytest.mark.parametrize(
    ("dtype", "off", "fine"), [("float32", 1e-3, 1e-4), ("float64", 1e-7, 1e-9)]
)
def test_soft_labels_sum_to_one_as_well_as_the_dtype_can(dtype, off, fine):
    with jax.enable_x64(True):
        rows(y=put(P, (2, 1), 0.5 + fine, dtype), dtype=dtype)
        with pytest.raises(ValueError, match=r"y\[2\] sums to 1.0"):
            rows(y=put(P, (2, 1), 0.5 + off, dtype), dtype=dtype)
        # Probabilities in float32 are not held to the precision of X in float64.
        rows(y=put(P, (2, 1), 0.5 + 1e-4, "float32"), dtype="float64")


def test_a_square_x_is_taken_as_it_is_named():
    square = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(rows(square, [0, 1, 1]).X, square.T)
    np.testing.assert_array_equal(columns(square, [0, 1, 1]).X, square)


def test_the_methods_of_batch_are_the_functions_of_this_room():
    for made, method in ((data.from_rows(X, Y), rows()), (data.from_columns(X.T, Y), columns())):
        assert jax.tree.structure(made) == jax.tree.structure(method)
        jax.tree.map(np.testing.assert_array_equal, made, method)
