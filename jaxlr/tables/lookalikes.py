"""Texts that are meant as numbers or dates, though they are written as neither.

Levels made of them would be nearly as many features as rows. Each is judged by how all values of
a column look: one word among them, and they are levels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jaxlr.tables.table import is_number

_FEW_UNITS = 10  # as many of 1A, 2A, … may be levels
_NUMBER = r"(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?"
_GROUPED = r"\d{1,3}(?:(?:[ \u00a0\u2009\u202f]\d{3})+|(?:'\d{3})+|(?:’\d{3})+|(?:_\d{3})+)"
_EITHER = rf"(?:{_GROUPED}(?:[.,]\d*)?|{_NUMBER}|\d{{1,3}}(?:,\d{{3}})+(?:\.\d*)?)"
_SIGN = r"[+\u2212-]?"
_MONEY = r"(?:[$€£¥₹]|USD|EUR|GBP|CHF|JPY)"
_CLOCK = r"([01]?\d|2[0-4]):[0-5]\d(:[0-6]\d([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?"
_MONTH, _DAY, _YEAR = r"(0?[1-9]|1[0-2])", r"(0?[1-9]|[12]\d|3[01])", r"(1\d|2\d)\d\d"
_WORD = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = "|".join(
    (
        rf"{_YEAR}(?P<s>[-/.]){_MONTH}(?P=s){_DAY}",
        rf"({_MONTH}/{_DAY}|{_DAY}/{_MONTH})/({_YEAR}|\d\d)",
        rf"({_MONTH}(?P<t>[-.]){_DAY}|{_DAY}(?P<u>[-.]){_MONTH})(?(t)(?P=t)|(?P=u)){_YEAR}",
        rf"{_DAY}[ -]{_WORD}[ ,-]*({_YEAR}|\d\d)",
        rf"{_WORD} {_DAY},? {_YEAR}",
    )
)
_ZONE = r" ?(Z|UTC|GMT|[+-]\d\d(:?\d\d)?)?"


class Lookalike(NamedTuple):
    """What all values of a column look like.

    Args:
        what: a verb and the kind, such as "holds numbers with a comma".
        due: what is due in their place.
    """

    what: str
    due: str


def _like(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.ASCII | re.IGNORECASE).fullmatch


_PLAIN = "where a plain number is due"
_COMMA = r"[+-]?(\d*(,\d+)+|\d{1,3}(,\d{3})+\.\d*|\d{1,3}(\.\d{3})+,\d*)([eE][+-]?\d+)?"
COMMAS = Lookalike(
    "holds numbers with a comma",
    "where digits are written without commas, and with a point before the decimals",
)
_NUMBERS = (
    (COMMAS, _like(_COMMA)),
    (
        Lookalike("holds numbers with a percent sign", _PLAIN),
        _like(rf"{_SIGN}{_EITHER}\s?[%‰]"),
    ),
    (
        Lookalike("holds amounts of money", _PLAIN),
        _like(rf"{_SIGN}{_MONEY}\s?{_SIGN}{_EITHER}|{_SIGN}{_EITHER}\s?{_MONEY}"),
    ),
    (
        Lookalike("holds numbers with gaps between thousands", _PLAIN),
        _like(rf"{_SIGN}({_GROUPED}([.,]\d*)?|\d{{1,3}}(\.\d{{3}}){{2,}})"),
    ),
    (Lookalike("holds hexadecimal numbers", _PLAIN), _like(r"[+-]?0x[0-9a-f]+")),
    (
        Lookalike("holds numbers with a minus sign that is not -", _PLAIN),
        _like(rf"[\u2212\u2013]{_NUMBER}"),
    ),
)
_TIMES = (
    (
        Lookalike("looks like dates", "where numbers are due, such as days since a first one"),
        _like(rf"({_DATE})([T ]?\s*{_CLOCK}{_ZONE})?"),
    ),
    (Lookalike("looks like times of day", "where numbers are due, such as hours"), _like(_CLOCK)),
)
_UNIT = re.compile(rf"[+-]?{_NUMBER}\s?(?P<unit>°?[^\W\d_]+(/[^\W\d_]+)?)")


def lookalike(texts: Iterable[str]) -> Lookalike | None:
    """Return what all texts look like; None if some do not, or if all are plain numbers.

    Plain numbers may be among the numbers, and not among the dates.

    >>> lookalike(["7", "12%", "5.5 %"]).what
    'holds numbers with a percent sign'
    >>> [lookalike(texts) for texts in (["5%", "5%+"], ["3-room", "2-room"], ["1A", "2B"], ["7"])]
    [None, None, None, None]
    """
    texts = list(texts)
    others = [text for text in texts if not is_number(text)]
    if not others:
        return None
    if found := next((kind for kind, fits in _NUMBERS if fits(others[0])), None):
        return found if all(any(fits(t) for _, fits in _NUMBERS) for t in others) else None
    if len(others) < len(texts):
        return None
    for kind, fits in _TIMES:
        if all(map(fits, texts)):
            return kind
    if len(texts) > _FEW_UNITS and (first := _UNIT.fullmatch(texts[0])):
        unit = first["unit"]
        if all((found := _UNIT.fullmatch(text)) and found["unit"] == unit for text in texts):
            return Lookalike(f"holds numbers with a unit, {unit}", _PLAIN)
    return None
