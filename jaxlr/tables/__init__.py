"""Tables in files, a chunk of rows at a time: CSV, Parquet, Feather and LIBSVM text.

Nothing is held but a chunk, whatever the size of a file; only LIBSVM text is held whole, sparse.
A column holds one of two things: numbers, as float64 with NaN for what is missing, or text. A CSV
does not say which, so that all of it is text here, and `jaxlr.door.design` decides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jaxlr.tables import columnar, delimited, libsvm
from jaxlr.tables.table import Chunk, Table, TableError, check_names, counted, is_number, listed

__all__ = [
    "Chunk",
    "Table",
    "TableError",
    "check_names",
    "counted",
    "is_number",
    "listed",
    "open_table",
    "rows_of_chunk",
]

_VALUES = 2**18  # of a chunk: more are no faster
_ROWS = (256, 2**16)  # of a chunk: the fewest and the most


def open_table(
    path: str | os.PathLike, *, delimiter: str | None = None, missing: Sequence[str] = ()
) -> Table:
    r"""Return a table, which the suffix of its name says how to read.

    Args:
        path: `.csv` or `.tsv`, also packed as `.gz`, `.bz2` or `.zst`; `.parquet`; `.feather` or
            `.arrow`; `.svm`, `.libsvm` or `.txt` for LIBSVM text.
        delimiter: between the columns of a CSV: a comma, or a tab for `.tsv`, when None.
        missing: words that stand for a missing value in a CSV, besides those of pyarrow.

    Raises:
        TableError: it is none of these, or is damaged; in a sentence.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.csv")
    ...     _ = path.write_text("age,city\n31,Bern\n,Ulm\n")
    ...     table = open_table(path)
    ...     (chunk,) = table.chunks(["age"], 10)
    >>> table.names, chunk.columns["age"].to_pylist()
    (('age', 'city'), ['31', None])
    """
    path = Path(path)
    if path.is_dir():
        raise TableError(f"{path} is a folder: a file is due.")
    if not path.is_file():
        raise TableError(f"{path}: there is no such file.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = delimited.PACKED.get(suffixes[-1]) if suffixes else None
    suffix = next(iter(suffixes[-2:-1] if packed else suffixes[-1:]), "")
    if suffix in delimited.SUFFIXES:
        delimiter = delimiter or ("\t" if suffix == ".tsv" else ",")
        return delimited.open_csv(path, packed, delimiter, missing)
    if not packed and suffix in columnar.PARQUET + columnar.FEATHER:
        return columnar.open_columns(path, suffix in columnar.PARQUET)
    if not packed and suffix in libsvm.SUFFIXES:
        return libsvm.open_libsvm(path)
    raise TableError(
        f"{path}: its name ends in none of .csv, .tsv, .parquet, .feather, .arrow, .svm, .libsvm "
        f"and .txt, which say what a file is."
    )


def rows_of_chunk(columns: int) -> int:
    """Return how many rows of so many columns to read at once.

    >>> rows_of_chunk(64), rows_of_chunk(10**6)
    (4096, 256)
    """
    return min(max(_VALUES // max(columns, 1), _ROWS[0]), _ROWS[1])
