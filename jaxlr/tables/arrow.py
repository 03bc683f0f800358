"""From pyarrow to NumPy and back without pandas.

pyarrow's `array`, `scalar` and `to_numpy` import pandas where it is installed, to know its types
when they see them: a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlr.base.extras import require


def to_numpy(column: Any) -> np.ndarray:
    """Return a pyarrow array of numbers as NumPy's, with NaN for what is missing.

    >>> import pyarrow as pa
    >>> to_numpy(pa.array([7.0, 1.0, None])[1:]).tolist(), to_numpy(pa.array([3, 4])).dtype
    ([1.0, nan], dtype('int64'))
    """
    dtype = np.dtype(column.type.to_pandas_dtype())
    if len(column) == 0:
        return np.zeros(0, dtype)
    values = _buffer(column, dtype).copy()
    if column.null_count:
        values[_buffer(column.is_null().cast(require("pyarrow", "cli").uint8()), bool)] = np.nan
    return values


def _buffer(column: Any, dtype: Any) -> np.ndarray:
    offset = column.offset * np.dtype(dtype).itemsize
    return np.frombuffer(column.buffers()[1], dtype, len(column), offset)


def from_numpy(values: np.ndarray) -> Any:
    """Return a NumPy array of numbers as pyarrow's.

    >>> from_numpy(np.array([1.5, 2.0])).to_pylist()
    [1.5, 2.0]
    """
    pa = require("pyarrow", "cli")
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, data])


def from_texts(texts: Sequence[str]) -> Any:
    """Return a pyarrow array of texts.

    >>> from_texts(["Köln", "", "Ulm"]).to_pylist()
    ['Köln', '', 'Ulm']
    """
    pa = require("pyarrow", "cli")
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)
