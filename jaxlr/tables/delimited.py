"""CSV: values with a delimiter between them, a head line of names; parsed by pyarrow.

Where pyarrow finds something wrong it does not say on which line. The line is then found with
the standard library's parser, which counts lines.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxlr.base.extras import require
from jaxlr.tables.table import (
    Chunk,
    Table,
    TableError,
    heads_by_name,
    in_chunks,
    is_number,
    listed,
    sentence,
    short,
)
from jaxlr.tables.text_encoding import check_encoding, not_utf8

SUFFIXES = (".csv", ".tsv")
PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_BLOCK = 2**19  # bytes that are parsed at once; some fifty such blocks are held
_LONGEST = 2**26  # bytes of a head line
_BAD_ROW = re.compile(r"Expected (?P<due>\d+) columns, got (?P<got>\d+): (?P<text>.*)", re.DOTALL)


class _File(NamedTuple):
    path: Path
    packed: str | None
    delimiter: str
    missing: tuple[str, ...]
    block: int


def open_csv(path: Path, packed: str | None, delimiter: str, missing: Sequence[str] = ()) -> Table:
    """Return a CSV as a table, all its columns text.

    Args:
        path: of the file.
        packed: None, or what pyarrow calls the compression.
        delimiter: one character.
        missing: words that stand for a missing value, besides those of pyarrow.

    Raises:
        TableError: the file has no names, or is damaged; also while chunks are read.
    """
    pa, arrow = require("pyarrow", "cli"), require("pyarrow.csv", "cli")
    if len(delimiter) != 1:
        raise TableError(f"--delimiter {delimiter}: one character is due.")
    with path.open("rb") as file:
        block = max(_BLOCK, 8 * len(file.readline(_LONGEST)))
    words = (*arrow.ConvertOptions().null_values, *missing)
    file = _File(path, packed, delimiter, words, block)
    try:
        with _unpacked(file) as stream:
            check_encoding(path, stream.read(4), packed)
        line, names = next(_records(file), (1, []))
        _check_quotes(file)
    except OSError as error:  # of what is packed
        raise _complaint(file, error) from None
    if not names:
        raise TableError(f"{path} is empty." if names == [] else _open_quote(path, line))
    if any("\ufffd" in name for name in names) and (bad_line := _line_not_utf8(file)):
        raise not_utf8(path, bad_line)  # of the head itself: pyarrow would know no such column
    heads = heads_by_name(path, names)
    _check_head(file, list(heads))

    def chunks(names: Sequence[str], rows: int) -> Iterator[Chunk]:
        def batches() -> Generator[tuple[Any, float]]:
            # Closed whatever happens: pyarrow's threads read ahead, and none is to be at it when
            # the process ends.
            with pa.OSFile(str(path)) as raw:
                size = raw.size()
                with _reader(file, raw, [heads[name] for name in names]) as reader:
                    for batch in reader:
                        yield batch, raw.tell() / size

        try:
            with contextlib.closing(batches()) as read:
                yield from in_chunks(read, names, rows)
        except (pa.ArrowInvalid, OSError) as error:
            raise _complaint(file, error) from None

    return Table(path, tuple(heads), False, words, chunks, lambda row: _place(file, row))


def _reader(file: _File, raw: Any, heads: list[str]) -> Any:
    """Return the reader of some columns of an open file, as text.

    It has no `invalid_row_handler`: no thread of pyarrow's is to need Python, which may be ending.
    """
    pa, arrow = require("pyarrow", "cli"), require("pyarrow.csv", "cli")
    return arrow.open_csv(
        pa.CompressedInputStream(raw, file.packed) if file.packed else raw,
        # One thread keeps few blocks at once.
        arrow.ReadOptions(block_size=file.block, use_threads=False),
        arrow.ParseOptions(delimiter=file.delimiter, newlines_in_values=True),
        arrow.ConvertOptions(
            include_columns=heads,
            column_types=dict.fromkeys(heads, pa.string()),
            null_values=file.missing,
            strings_can_be_null=True,
        ),
    )


def _check_head(file: _File, names: list[str]) -> None:
    if all(map(is_number, names)):
        raise TableError(
            f"the first line of {file.path} holds numbers, {listed(names, 3)}, where the names "
            f"of the columns are due: put a line of names on top."
        )
    others = [sign for sign in ";\t|," if sign != file.delimiter and sign in names[0]]
    if len(names) == 1 and others:
        shown = "$'\\t'" if others[0] == "\t" else f"'{others[0]}'"
        raise TableError(
            f"{file.path} has one column only, {short(names[0])}: if another sign than "
            f"{file.delimiter!r} is between its columns, say so, as in --delimiter {shown}."
        )


# --- What is wrong, and where -------------------------------------------------------------------


def _complaint(file: _File, error: Exception) -> TableError:
    if bad := _BAD_ROW.search(str(error)):
        due, got = int(bad["due"]), int(bad["got"])
        records = ((line, len(values or ())) for line, values in _records(file))
        line = next((line for line, length in records if length != due), None)
        return TableError(
            f"line {line or '?'} of {file.path} has {got} value{'s' * (got != 1)} where its head "
            f"has {due} columns: {short(bad['text'])}."
        )
    if "UTF8" in str(error) and (line := _line_not_utf8(file)):
        return not_utf8(file.path, line)
    return TableError(f"{file.path} cannot be read as a CSV: {sentence(error)}")


def _check_quotes(file: _File) -> None:
    """Refuse a quote that is never closed: all that follows it would be one value."""
    quotes = 0
    with _unpacked(file) as stream:
        while part := stream.read(_BLOCK):
            quotes += part.count(b'"')
    if quotes % 2:
        for line, values in _records(file):
            if values is None:
                raise TableError(_open_quote(file.path, line))


def _open_quote(path: Path, line: int) -> str:
    return f"line {line} of {path} opens a quote that is not closed."


def _place(file: _File, row: int) -> str:
    """Return the line of a row; the head is the first record."""
    for i, (line, _) in enumerate(_records(file)):
        if i == row + 1:
            return f"line {line}"
    return f"row {row + 1}"


def _records(file: _File) -> Iterator[tuple[int, Any]]:
    """Yield the line on which each record begins, from 1, and its values; slowly.

    The values are None, and nothing follows, where a quote is not closed.
    """
    with _unpacked(file) as stream:
        text = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
        lines, line = csv.reader(text, delimiter=file.delimiter, strict=True), 1
        while True:
            try:
                values = next(lines, None)
            except csv.Error:
                yield line, None
                return
            if values is None:
                return
            if values:
                yield line, values
            line = lines.line_num + 1


def _line_not_utf8(file: _File) -> int | None:
    with _unpacked(file) as stream:
        for i, line in enumerate(io.BufferedReader(stream)):
            try:
                line.decode()
            except UnicodeDecodeError:
                return i + 1
    return None


def _unpacked(file: _File) -> Any:
    return require("pyarrow", "cli").input_stream(str(file.path), compression=file.packed)
