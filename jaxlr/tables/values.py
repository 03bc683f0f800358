"""The values of a column: as numbers, or as levels, a number for each different text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from jaxlr.base.extras import require
from jaxlr.tables.arrow import from_texts, to_numpy
from jaxlr.tables.table import is_number


def is_numeric(kind: Any) -> bool:
    """Whether columns of a pyarrow type hold numbers."""
    types = require("pyarrow", "cli").types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def is_plain(kind: Any) -> bool:
    """Whether columns of a pyarrow type hold numbers or text, which truth values are too."""
    types = require("pyarrow", "cli").types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    texts = (types.is_string, types.is_large_string, types.is_boolean, types.is_null)
    return is_numeric(kind) or any(is_text(kind) for is_text in texts)


def numbers(column: Any, missing: Sequence[str] = ()) -> np.ndarray | None:
    """Return a column as numbers; None where a text is not a number.

    Args:
        column: a pyarrow array of numbers or text.
        missing: the words that stand for a missing value.

    Returns:
        `(rows,)` float64, with NaN for what is missing; or None.

    >>> import pyarrow as pa
    >>> numbers(pa.array(["1.5", None, " 2"])).tolist(), numbers(pa.array(["1", "a"]))
    ([1.5, nan, 2.0], None)
    """
    pa, compute = require("pyarrow", "cli"), require("pyarrow.compute", "cli")
    column = _decoded(column)
    if is_numeric(column.type):
        column = compute.cast(column, pa.float64(), safe=False)
    else:
        try:
            column = compute.cast(column, pa.float64())
        except pa.ArrowInvalid:  # spaces around?
            column = compute.utf8_trim_whitespace(column)
            gaps = compute.is_in(column, from_texts(missing))
            column = compute.if_else(gaps, pa.NULL, column)
            try:
                column = compute.cast(column, pa.float64())
            except pa.ArrowInvalid:
                return None
    return to_numpy(column)


def levels(column: Any, missing: Sequence[str] = ()) -> tuple[np.ndarray, list[str]]:
    """Return a column as levels, its different texts without spaces around.

    Args:
        column: a pyarrow array of text; or of numbers, whose levels are such as `1` and `2.5`.
        missing: the words that stand for a missing value.

    Returns:
        The place of each value's level, `(rows,)` integers, −1 for what is missing; the levels.

    >>> import pyarrow as pa
    >>> places, found = levels(pa.array(["b", None, " b", "a", " - "]), missing=["-"])
    >>> places.tolist(), found
    ([0, -1, 0, 1, -1], ['b', 'a'])
    """
    pa, compute = require("pyarrow", "cli"), require("pyarrow.compute", "cli")
    column = _decoded(column)
    if pa.types.is_floating(column.type):
        gaps = compute.is_nan(column)
        column = compute.if_else(gaps, pa.NULL, column)
    text = compute.cast(column, pa.string())
    if pa.types.is_boolean(column.type):
        text = compute.utf8_capitalize(text)  # True, as a CSV has it
    encoded = compute.dictionary_encode(text, null_encoding="encode")
    texts = [text and text.strip() for text in encoded.dictionary.to_pylist()]
    found = list(dict.fromkeys(t for t in texts if t is not None and t not in missing))
    place = {text: i for i, text in enumerate(found)}
    table = np.array([place.get(text, -1) for text in texts], int)
    return table[to_numpy(encoded.indices)], found


def by_value(level: str) -> str:
    """Return a level in the one way that its value is written: `1` for `1.0`, and `True`.

    >>> [by_value(level) for level in ("1.0", "01", "2.50", "9007199254740993", "TRUE", "a")]
    ['1', '1', '2.5', '9007199254740993', 'True', 'a']
    """
    if not is_number(level):
        return level.capitalize() if level.lower() in ("true", "false") else level
    number = float(level)
    if not number.is_integer():
        return repr(number)
    exact = Decimal(level)  # as a float is not beyond 2⁵³
    return str(int(exact if exact == exact.to_integral_value() else number))


def _decoded(column: Any) -> Any:
    types = require("pyarrow", "cli").types
    return column.dictionary_decode() if types.is_dictionary(column.type) else column
