"""Parquet and Feather, whose columns have types: numbers stay numbers, and text is text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxlr.base.extras import require
from jaxlr.tables.table import Chunk, Table, TableError, heads_by_name, in_chunks, sentence
from jaxlr.tables.values import is_plain

PARQUET = (".parquet", ".pq")
FEATHER = (".feather", ".arrow", ".ipc")


def open_columns(path: Path, parquet: bool) -> Table:
    """Return a Parquet or a Feather file as a table.

    Args:
        path: of the file.
        parquet: whether it is that; else it is Feather, which is Arrow's IPC file.

    Raises:
        TableError: the file is damaged; also while chunks are read.
    """
    pa = require("pyarrow", "cli")
    failures = (pa.ArrowException, OSError)

    def opened() -> Any:
        if parquet:
            return require("pyarrow.parquet", "cli").ParquetFile(path)
        return require("pyarrow.ipc", "cli").open_file(pa.memory_map(str(path)))

    def complaint(error: Exception) -> TableError:
        kind = "Parquet" if parquet else "Feather"
        return TableError(f"{path} is no {kind} file, or is damaged: {sentence(error)}")

    try:
        with opened() as file:
            schema = file.schema_arrow if parquet else file.schema
            rows = file.metadata.num_rows if parquet else None
    except failures as error:
        raise complaint(error) from None
    heads = heads_by_name(path, schema.names)

    def chunks(names: Sequence[str], rows: int) -> Iterator[Chunk]:
        wanted = [heads[name] for name in names]
        try:
            with opened() as file:
                batches = (_of_parquet if parquet else _of_feather)(file, wanted, rows)
                yield from in_chunks(batches, names, rows)
        except failures as error:
            raise complaint(error) from None

    kinds = {name: schema.field(head).type for name, head in heads.items()}
    others = {name: str(kind) for name, kind in kinds.items() if not is_plain(kind)}
    place = "row {}".format
    return Table(
        path, tuple(heads), True, (), chunks, lambda row: place(row + 1), None, others, rows
    )


def _of_parquet(file: Any, heads: list[str], rows: int) -> Iterator[tuple[Any, float]]:
    whole, read = max(file.metadata.num_rows, 1), 0
    for batch in file.iter_batches(rows, columns=heads, use_threads=False):
        read += len(batch)
        yield batch.select(heads), read / whole


def _of_feather(file: Any, heads: list[str], _: int) -> Iterator[tuple[Any, float]]:
    count = file.num_record_batches
    for i in range(count):
        yield file.get_batch(i).select(heads), (i + 1) / count
