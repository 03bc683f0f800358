"""What a table is, and what all kinds of files share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxlr.base.extras import require


class TableError(ValueError):
    """Raised when a file, or what it holds, cannot be used; a sentence that says where and why."""


class Chunk(NamedTuple):
    """Some rows of a table.

    Args:
        start: how many rows there are before them.
        rows: how many they are.
        columns: by name: pyarrow arrays, `(rows,)`.
        done: the share of the file that has been read, 0 to 1.
    """

    start: int
    rows: int
    columns: dict[str, Any]
    done: float


class Table(NamedTuple):
    """A file of columns.

    Args:
        path: of the file.
        names: of its columns, in order.
        typed: whether the file says which columns are text.
        missing: the words that stand for a missing value in text.
        chunks: `(names, rows) → chunks` of those columns, all of so many rows but the last.
        place: `row → words`, where a row is: "line 17", or "row 16" of a file without lines.
        target: the column that the kind of file says is to be predicted, or None.
        others: the columns that hold neither numbers nor text, and what they hold.
        rows: how many it has, if that is known before they are read.
    """

    path: Path
    names: tuple[str, ...]
    typed: bool
    missing: tuple[str, ...]
    chunks: Callable[[Sequence[str], int], Iterator[Chunk]]
    place: Callable[[int], str]
    target: str | None = None
    others: Mapping[str, str] = {}
    rows: int | None = None


def heads_by_name(path: Path, heads: Sequence[str]) -> dict[str, str]:
    """Return the heads of the columns by their names, which are heads without spaces around.

    >>> heads_by_name(Path("a.csv"), ["age", " city"])
    {'age': 'age', 'city': ' city'}
    """
    found: dict[str, str] = {}
    for head in heads:
        if (name := head.strip()) in found and name:
            raise TableError(f"{path} has two columns named {name!r}: give them different names.")
        found[name] = head
    return found


def in_chunks(
    batches: Iterator[tuple[Any, float]], names: Sequence[str], rows: int
) -> Iterator[Chunk]:
    """Yield chunks of so many rows.

    Args:
        batches: record batches of any size, and the share of the file that they end at.
        names: of their columns.
        rows: of a chunk; the last may have fewer.
    """
    start = 0
    for batch, done in _regular(batches, rows):
        yield Chunk(start, len(batch), dict(zip(names, batch.columns, strict=True)), done)
        start += len(batch)


def _regular(batches: Iterator[tuple[Any, float]], rows: int) -> Iterator[tuple[Any, float]]:
    pa = require("pyarrow", "cli")

    def joined() -> Any:
        return held[0] if len(held) == 1 else pa.concat_batches(held)

    held, count, done = [], 0, 0.0
    for batch, done in batches:
        held, count = [*held, batch], count + len(batch)
        while count >= rows:
            whole = joined()
            yield whole.slice(0, rows), done
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield joined(), done


def check_names(table: Table, wanted: Sequence[str], role: str) -> None:
    """Refuse names that are no columns of the table, and say which may have been meant.

    Args:
        table: where they are looked for.
        wanted: the names.
        role: who asks for them, such as an option.
    """
    for name in wanted:
        if name not in table.names:
            same = [other for other in table.names if other.lower() == name.lower()]
            close = same or difflib.get_close_matches(name, table.names, 1)
            meant = f" Is {close[0]} meant?" if close else ""
            raise TableError(
                f"{role} {name}: {table.path} has no such column.{meant} It has "
                f"{listed(table.names)}."
            )


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return names in a row, not too many of them.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def counted(count: int, thing: str) -> str:
    """Return how many things there are, in words.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count} {thing}{'' if count == 1 else 's'}"


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.I | re.A)


def is_number(text: str) -> bool:
    """Whether a text is written as a number.

    >>> [is_number(text) for text in ("-1.5e3", "1,5", "3+", "")]
    [True, False, False, False]
    """
    return _NUMBER.fullmatch(text.strip()) is not None


def short(text: str, most: int = 40) -> str:
    r"""Return a text in quotes, on one line and not too long.

    >>> short("a\nb")
    "'a b'"
    """
    text = " ".join(text.split())
    return repr(text if len(text) <= most else f"{text[:most]}…")


def one_line(text: str) -> str:
    r"""Return a text with a sign for each end of a line.

    >>> one_line("a\nb")
    'a↵b'
    """
    return "↵".join(text.splitlines())


def sentence(error: Exception) -> str:
    """Return the first line of an error, with a full stop."""
    return f"{str(error).partition(chr(10))[0].rstrip('.') or type(error).__name__}."
