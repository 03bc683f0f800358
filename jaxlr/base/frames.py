"""Tables of pandas, polars, pyarrow and narwhals, a column at a time.

None of these libraries is imported: a table is known by its methods. As a whole, a table of
columns of several dtypes is an array of objects to NumPy; each column alone is an array of numbers.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np


class Cells(NamedTuple):
    """The cells of a column.

    Args:
        values: as NumPy has them, `(rows,)`.
        missing: which of them are, `(rows,)`.
        dtype: what its own library calls that.
        is_categorical: whether values are categories, even if these are numbers.
    """

    values: np.ndarray
    missing: np.ndarray
    dtype: str
    is_categorical: bool

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers or truth values, but for the missing ones."""
        plain = self.values.dtype.kind in "biuf" and self.values.ndim == 1
        return plain and not self.is_categorical

    @property
    def first_other(self) -> int:
        """The row of the first value that is no number; else of the first that is not missing."""
        there = np.flatnonzero(~self.missing)
        others = (i for i in there if not is_number(type(self.values[i])))
        return int(next(others, there[0] if len(there) else 0))


def is_lazy(given: Any) -> bool:
    """Whether this is a query that gives a table when it is collected."""
    return hasattr(type(given), "collect_schema") and not hasattr(type(given), "iter_columns")


def is_table(given: Any) -> bool:
    """Whether this is a table whose columns can be had one by one."""
    kind = type(given)
    pandas = hasattr(kind, "iloc") and hasattr(kind, "columns")
    pyarrow = hasattr(kind, "column_names") and hasattr(kind, "columns")
    return pandas or pyarrow or hasattr(kind, "iter_columns")


def is_column(given: Any) -> bool:
    """Whether this is a column: a series, or an array whose values may be missing."""
    kind = type(given)
    marked = hasattr(kind, "isna") or hasattr(kind, "is_null")
    return marked and hasattr(kind, "to_numpy") and not is_table(given)


def is_one_array(table: Any) -> bool:
    """Whether all columns have one dtype, of NumPy's numbers: an array already, as in pandas."""
    dtypes = set(getattr(table, "dtypes", ())) if hasattr(type(table), "iloc") else set()
    return len(dtypes) == 1 and all(isinstance(d, np.dtype) and d.kind in "iuf" for d in dtypes)


def columns_of(table: Any) -> list[Any]:
    """Return the columns of a table, as its library has them."""
    if hasattr(type(table), "iter_columns"):
        return list(table.iter_columns())
    if hasattr(type(table), "iloc"):
        return [table.iloc[:, j] for j in range(table.shape[1])]
    return list(table.columns)


def column_names(X: Any) -> tuple[Any, ...]:
    """Return the names of a table's columns, or nothing."""
    if is_lazy(X):
        return ()
    names = getattr(X, "column_names", None)  # pyarrow's, whose `columns` are the columns
    names = getattr(X, "columns", ()) if names is None else names
    return tuple(names) if hasattr(names, "__iter__") else ()


def read(column: Any) -> Cells:
    """Return the cells of a column, as NumPy has them.

    >>> import pandas as pd
    >>> cells = read(pd.Series([True, None, False], dtype="boolean"))
    >>> cells.missing.tolist(), cells.dtype
    ([False, True, False], 'boolean')
    >>> read(pd.Series([1, 2], dtype="Int64")).values
    array([1, 2])
    """
    dtype = getattr(column, "dtype", getattr(column, "type", None))
    is_plain = isinstance(dtype, np.dtype) and dtype.kind in "iuf"  # a NaN there is a number
    if is_plain:
        missing = np.zeros(len(column), bool)
    else:
        marked = column.isna() if hasattr(type(column), "isna") else column.is_null()
        missing = np.asarray(marked, bool)
    zero_copy = {} if not hasattr(type(column), "to_pylist") else {"zero_copy_only": False}
    values = np.asarray(column.to_numpy(**zero_copy))
    if values.dtype == object and values.ndim == 1:
        values = _as_numbers(values, missing)
    return Cells(values, missing, str(dtype), hasattr(dtype, "categories"))


def joined(columns: list[np.ndarray], rows: int) -> np.ndarray:
    """Return columns side by side, `(rows, columns)`, in the dtype that holds them all.

    >>> joined([np.array([1, 2]), np.array([0.5, 1.5]), np.array([True, False])], 2).tolist()
    [[1.0, 0.5, 1.0], [2.0, 1.5, 0.0]]
    """
    if not columns:
        return np.empty((rows, 0))
    table = np.empty((len(columns), rows), np.result_type(*columns))
    for j, column in enumerate(columns):
        table[j] = column
    return table.T


def _as_numbers(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return decimals, and numbers some of which are missing, as floats; else what was given."""
    kinds = {type(value) for value in values[~missing]}
    if kinds == {Decimal} or (missing.any() and all(map(is_number, kinds))):
        numbers = np.full(len(values), np.nan)
        numbers[~missing] = values[~missing]
        return numbers
    return values


def is_number(kind: type) -> bool:
    """Whether this is a type of real numbers or of truth values."""
    return issubclass(kind, (int, float, np.integer, np.floating, np.bool_, Decimal))
