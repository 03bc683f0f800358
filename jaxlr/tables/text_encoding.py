"""Text that is not UTF-8: what it is, and how to convert it."""

from __future__ import annotations

import codecs
from pathlib import Path

from jaxlr.tables.table import TableError

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_ZEROS: dict[
    tuple[bool, ...], str
] = {  # which of the first four bytes are zero, where there is no mark
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}
_UNPACK = {"gzip": "gzip -dc", "bz2": "bzip2 -dc", "zstd": "zstd -dc"}


def wide_encoding(start: bytes) -> str | None:
    """Return what a text is encoded in by its first bytes, if that is UTF-16 or UTF-32.

    >>> [wide_encoding("ab".encode(name)) for name in ("utf-8", "utf-16", "utf-16-be")]
    [None, 'UTF-16', 'UTF-16BE']
    """
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    return _ZEROS.get(tuple(byte == 0 for byte in start[:4]))


def check_encoding(path: Path, start: bytes, packed: str | None = None) -> None:
    """Refuse UTF-16 and UTF-32, which other programs write, and say how to convert them.

    Args:
        path: of the file.
        start: its first bytes, unpacked.
        packed: None, or what pyarrow calls the compression.
    """
    if name := wide_encoding(start):
        own = path.name.removesuffix(path.suffix) if packed else path.name
        convert = f"iconv -f {name} -t UTF-8"
        if packed:
            convert = f"{_UNPACK[packed]} {path.name} | {convert} > utf8-{own}"
        else:
            convert = f"{convert} {own} > utf8-{own}"
        raise TableError(f"{path} is {name}, where UTF-8 is due: convert it, as by {convert}.")


def not_utf8(path: Path, line: int) -> TableError:
    """Return what is raised for a line that is not UTF-8."""
    return TableError(
        f"line {line} of {path} is not UTF-8: convert it, as by iconv -f WINDOWS-1252 -t UTF-8."
    )
