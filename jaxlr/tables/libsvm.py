"""LIBSVM text, `label index:value index:value …` on each line; parsed by scikit-learn."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxlr.extras import require
from jaxlr.tables.table import Chunk, Table, TableError, is_number, short

SUFFIXES = (".svm", ".svmlight", ".libsvm", ".txt")
LABEL = "label"  # the column that is not a feature
_PAIR = re.compile(r"(qid|\d+):(\S+)")


def open_libsvm(path: Path) -> Table:
    """Return LIBSVM text as a table: a column `label`, and features named by their indices.

    A feature that a line does not mention is zero there, and so is one that no line mentions.

    Raises:
        TableError: a line is none of `label index:value …`; names it.
    """
    load = require("sklearn.datasets", "cli").load_svmlight_file
    pa = require("pyarrow", "cli")
    try:
        X, y = load(str(path), zero_based=True)
    except (ValueError, OverflowError) as error:
        line, text = _bad_line(path)
        raise TableError(
            f"line {line or '?'} of {path} is no LIBSVM text, label index:value …, with rising "
            f"indices: {short(text)}."
        ) from error
    if not len(y):
        raise TableError(f"{path} is empty.")
    first = 0 if X.shape[1] and X[:, :1].nnz else 1
    names = (LABEL, *map(str, range(first, X.shape[1])))

    def chunks(names: Sequence[str], rows: int) -> Iterator[Chunk]:
        for start in range(0, len(y), rows):
            dense, columns = X[start : start + rows].toarray(), {}
            for name in names:
                values = np.zeros(len(dense))
                if name == LABEL:
                    values = y[start : start + rows]
                elif name.isdigit() and int(name) < X.shape[1]:
                    values = dense[:, int(name)]
                columns[name] = pa.array(np.ascontiguousarray(values))
            yield Chunk(start, len(dense), columns, min(1.0, (start + rows) / len(y)))

    return Table(path, names, True, (), chunks, lambda row: f"row {row + 1}", LABEL)


def _bad_line(path: Path) -> tuple[int | None, str]:
    """Return the first line that is wrong, from 1, and what it holds."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            label, *words = line.partition("#")[0].split() or ["0"]
            pairs = [_PAIR.fullmatch(word) for word in words]
            indices = [int(pair[1]) for pair in pairs if pair and pair[1] != "qid"]
            rising = all(a < b for a, b in itertools.pairwise(indices))
            fine = all(pair and is_number(pair[2]) for pair in pairs)
            if not (is_number(label) and fine and rising):
                return number, line.strip()
    return None, ""
