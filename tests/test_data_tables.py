"""Tables at the door: columns of numbers of any kind, and words for columns of anything else."""

import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import jaxlr

Y = [0, 1, 1, 0]
# By columns, as the batch has them.
DUE = [[1.5, 2, 3, 4], [1, 2, 3, 4], [1, 0, 1, 1]]
MIXED = {"a": [1.5, 2.0, 3.0, 4.0], "b": [1, 2, 3, 4], "c": [True, False, True, True]}
GAPS = {"a": [1.5, 2.0, 3.0, 4.0], "b": [1, None, 3, None]}


def polars(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def narwhals(columns):
    return pytest.importorskip("narwhals").from_native(pa.table(columns))


def nullable(columns):
    return pd.DataFrame(columns).convert_dtypes()


def arrow_backed(columns):
    return pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow")


def record_batch(columns):
    return pa.RecordBatch.from_pydict(columns)


LIBRARIES = [pd.DataFrame, nullable, arrow_backed, pa.table, record_batch, polars, narwhals]
WITH_GAPS = LIBRARIES[1:]  # a plain frame of pandas has NaN there


@pytest.mark.parametrize("table", LIBRARIES)
def test_columns_of_several_dtypes_are_features(table):
    batch = jaxlr.Batch.from_rows(table(MIXED), Y)
    np.testing.assert_array_equal(batch.X, DUE)
    assert batch.X.dtype == jaxlr.Batch.from_rows(np.eye(4), Y).X.dtype
    by_columns = table({f"example {i}": values for i, values in enumerate(np.transpose(DUE))})
    np.testing.assert_array_equal(jaxlr.Batch.from_columns(by_columns, Y).X, DUE)


@pytest.mark.parametrize("table", LIBRARIES)
def test_labels_weights_and_offsets_may_be_columns_and_tables_of_one(table):
    both = table({"y": [False, True, True, False], "w": [1, 2, 3, 4]})
    y, w = both["y"], both["w"]
    one, other = table({"y": [False, True, True, False]}), table({"w": [1, 2, 3, 4]})
    for labels, numbers in ((y, w), (one, other)):
        for make, X in ((jaxlr.Batch.from_rows, np.eye(4, 2)), (jaxlr.Batch.from_columns, DUE)):
            batch = make(X, labels, weights=numbers, offset=numbers)
            assert (batch.y.tolist(), batch.n_classes) == (Y, 2)
            np.testing.assert_array_equal(batch.weights, [1, 2, 3, 4])
            np.testing.assert_array_equal(batch.offset, [1, 2, 3, 4])


def test_labels_may_be_a_table_of_probabilities():
    soft = pd.DataFrame({"a": [1.0, 0, 0, 0.5], "b": [0, 1, 0, 0.5], "c": [0, 0, 1, 0]})
    batch = jaxlr.Batch.from_rows(np.eye(4), soft)
    np.testing.assert_array_equal(batch.y, [[1, 0, 0, 0.5], [0, 1, 0, 0.5], [0, 0, 1, 0]])


@pytest.mark.parametrize("table", WITH_GAPS)
def test_missing_values_are_refused_by_the_name_of_their_column(table):
    words = r"X\[1, 1\] is missing \(example 1, feature 1 'b'\): 2 values of column 'b' are missing"
    with pytest.raises(ValueError, match=words):
        jaxlr.Batch.from_rows(table(GAPS), Y)
    gaps = table(GAPS)["b"]
    with pytest.raises(ValueError, match=r"weights\[1\] is missing: 2 values are missing\. Drop"):
        jaxlr.Batch.from_rows(np.eye(4), Y, weights=gaps)
    truth = table({"y": [True, False, None, True], "z": [1, 2, 3, 4]})["y"]
    with pytest.raises(ValueError, match=r"y\[2\] is missing: 1 value is missing"):
        jaxlr.Batch.from_rows(np.eye(4), truth)


def test_nan_in_a_plain_frame_is_nan():
    with pytest.raises(
        ValueError, match=r"X\[1, 1\] is nan \(example 1, feature 1 'b'\): 2 values"
    ):
        jaxlr.Batch.from_rows(pd.DataFrame({**GAPS, "c": [1, 2, 3, 4]}), Y)


@pytest.mark.parametrize("table", LIBRARIES)
def test_text_is_refused_by_the_name_of_its_column(table):
    X = table({"a": [1, 2, 3, 4], "colour": ["red", None, "red", "blue"]})
    with pytest.raises(
        TypeError, match=r"X\[0, 1\] is 'red' \(example 0, feature 1 'colour'\)"
    ) as e:
        jaxlr.Batch.from_rows(X, Y)
    assert "column 'colour' has dtype" in str(e.value)
    assert "give 0 or 1 for each of its values as a column of its own, or drop it" in str(e.value)
    with pytest.raises(TypeError, match=r"y\[0\] is 'red', and y has dtype .*number the classes"):
        jaxlr.Batch.from_rows(np.eye(4), X["colour"])


DATES = np.array(["2020-01-31"] * 4, "datetime64[s]")
OTHERS = {
    "dates": (pd.Series(DATES), "datetime64[s]", "such as days"),
    "dates of a zone": (pd.Series(DATES).dt.tz_localize("UTC"), "UTC]", "such as days"),
    "dates of arrow": (pd.Series(DATES).astype("date32[pyarrow]"), "date32", "such as days"),
    "durations": (pd.to_timedelta([1, 2, 3, 4]), "timedelta64[ns]", "such as days"),
    "periods": (pd.period_range("2020", "2023", freq="Y"), "period", "such as days"),
    "categories": (pd.Categorical(["r", "g", "r", "b"]), "category", "0 or 1 for each"),
    "categories that are numbers": (pd.Categorical([1, 2, 1, 3]), "category", "0 or 1 for each"),
    "objects": (pd.Series([1, 2.5, True, 4], dtype=object), "object", "as floats"),
    "numbers and text": (pd.Series([1, 2.5, "a", 4]), "object", "0 or 1 for each"),
    "lists": (pd.Series([[1], [2], [3], [4]]), "object", "as numbers, or drop it"),
    "complex numbers": (np.arange(4) * 1j, "complex128", "as numbers, or drop it"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_number_is_refused_with_a_remedy(name):
    values, dtype, fix = OTHERS[name]
    with pytest.raises(TypeError) as caught:
        jaxlr.Batch.from_rows(pd.DataFrame({"a": [1, 2, 3, 4], "b": values}), Y)
    said = str(caught.value)
    assert said.startswith("X[2, 1] is 'a'" if name == "numbers and text" else "X[0, 1] is ")
    assert "feature 1 'b'), and column 'b' has dtype " in said
    assert dtype in said
    assert fix in said


def test_dates_and_categories_of_polars():
    pl = pytest.importorskip("polars")
    for column in (
        pl.Series(DATES.astype("datetime64[ms]")),
        pl.Series(["r", "g", "r", "b"], dtype=pl.Categorical),
    ):
        with pytest.raises(TypeError, match=r"X\[0, 1\] is .*, and column 'b' has dtype"):
            jaxlr.Batch.from_rows(pl.DataFrame({"a": [1, 2, 3, 4], "b": column}), Y)
    with pytest.raises(TypeError, match=r"X is a query that has not run: give X.collect\(\)"):
        jaxlr.Batch.from_rows(pl.DataFrame(MIXED).lazy(), Y)


def test_decimals_and_sparse_columns_are_numbers():
    exact = [decimal.Decimal("1.5"), decimal.Decimal(2), decimal.Decimal(3), decimal.Decimal(4)]
    few = pd.arrays.SparseArray([0, 0, 1.0, 0])
    for table in (pa.table({"a": exact}), pd.DataFrame({"a": exact}), nullable({"a": exact})):
        assert jaxlr.Batch.from_rows(table, Y).X.tolist() == [[1.5, 2, 3, 4]]
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "few": few})
    assert jaxlr.Batch.from_rows(frame, Y).X.tolist() == [[1, 2, 3, 4], [0, 0, 1, 0]]


def test_columns_of_one_name_and_a_table_without_any():
    frame = pd.DataFrame(np.arange(8.0).reshape(4, 2), columns=["a", "a"]).convert_dtypes()
    np.testing.assert_array_equal(jaxlr.Batch.from_rows(frame, Y).X, [[0, 2, 4, 6], [1, 3, 5, 7]])
    with pytest.raises(ValueError, match=r"X has shape \(4, 0\), so it is empty"):
        jaxlr.Batch.from_rows(pd.DataFrame(index=range(4)), Y)
