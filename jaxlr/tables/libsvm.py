"""LIBSVM text, `label index:value index:value …` on each line; parsed by scikit-learn."""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxlr.base.extras import require
from jaxlr.tables.table import Chunk, Table, TableError, is_number, short
from jaxlr.tables.text_encoding import check_encoding

SUFFIXES = (".svm", ".svmlight", ".libsvm", ".txt")
LABEL = "label"  # the column that is not a feature
_LARGEST = 2**31 - 1  # index that scikit-learn reads
_PAIR = re.compile(r"(qid|\d+):(\S+)")


def open_libsvm(path: Path) -> Table:
    """Return LIBSVM text as a table: a column `label`, and features named by their indices.

    The features are those that some line mentions: hashed indices may be far apart, and one that
    is zero in every row would have a coefficient of zero. A feature that a line does not mention
    is zero there, and so is one that is asked for by its index and that no line mentions.

    Raises:
        TableError: a line is none of `label index:value …`; names it.
    """
    load = require("sklearn.datasets", "cli").load_svmlight_file
    pa = require("pyarrow", "cli")
    try:
        with path.open("rb") as file:
            start = file.read(4)
            check_encoding(path, start)
            file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
            X, y = load(file, zero_based=True)
    except (ValueError, OverflowError) as error:
        if isinstance(error, TableError):
            raise
        raise _complaint(path) from error
    if not len(y):
        raise TableError(f"{path} is empty.")
    indices, places = np.unique(X.indices, return_inverse=True)
    X = type(X)((X.data, places, X.indptr), (len(y), len(indices)))
    place = {str(index): i for i, index in enumerate(indices.tolist())}

    def chunks(names: Sequence[str], rows: int) -> Iterator[Chunk]:
        known = [name for name in names if name in place]
        some = X[:, [place[name] for name in known]]
        for start in range(0, len(y), rows):
            dense = some[start : start + rows].toarray(order="F")
            columns = {name: np.zeros(len(dense)) for name in names}
            columns |= dict(zip(known, dense.T, strict=True))
            if LABEL in columns:
                columns[LABEL] = y[start : start + rows]
            arrays = {name: pa.array(values) for name, values in columns.items()}
            yield Chunk(start, len(dense), arrays, min(1.0, (start + rows) / len(y)))

    names, where = (LABEL, *place), "row {}".format
    return Table(path, names, True, (), chunks, lambda row: where(row + 1), LABEL, rows=len(y))


def _complaint(path: Path) -> TableError:
    """Return what is wrong with the first line that is wrong."""
    line, text = _bad_line(path)
    large = [int(index) for index in re.findall(r"\b(\d+):", text) if int(index) > _LARGEST]
    if large:
        return TableError(
            f"line {line} of {path} has the index {large[0]}, and {_LARGEST} is the largest that "
            f"can be read: number the features anew, or hash them to fewer."
        )
    return TableError(
        f"line {line or '?'} of {path} is no LIBSVM text, label index:value …, with rising "
        f"indices: {short(text)}."
    )


def _bad_line(path: Path) -> tuple[int | None, str]:
    """Return the first line that is wrong, from 1, and what it holds."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            label, *words = line.partition("#")[0].split() or ["0"]
            pairs = [_PAIR.fullmatch(word) for word in words]
            indices = [int(pair[1]) for pair in pairs if pair and pair[1] != "qid"]
            rising = all(a < b for a, b in itertools.pairwise([*indices, _LARGEST + 1]))
            fine = all(pair and is_number(pair[2]) for pair in pairs)
            if not (is_number(label) and fine and rising):
                return number, line.strip()
    return None, ""
