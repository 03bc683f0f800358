"""What a design does to columns, in sentences."""

from __future__ import annotations

from jaxlr.door.design import Design
from jaxlr.tables import listed
from jaxlr.tables.table import one_line


def told_levels(design: Design) -> list[str]:
    """Return which columns are encoded by level, and their bases, in a sentence if there are any.

    >>> from jaxlr.door.design import Column, Design
    >>> told_levels(Design((Column("city", ("Ulm", "Bern"), None),), "y", ("0", "1")))
    ['Encoded by level: city (2 levels, base Ulm).']
    """
    encoded = [
        f"{column.name} ({len(column.levels)} levels, base {one_line(column.levels[0])})"
        for column in design.columns
        if column.levels is not None
    ]
    return [f"Encoded by level: {listed(encoded)}."] if encoded else []


def told_fills(design: Design) -> str:
    """Return what stands in for missing values, in a sentence.

    >>> from jaxlr.door.design import Column, Design
    >>> told_fills(Design((Column("age", None, 38.5), Column("x", None, 1.0)), "y", ("0", "1")))
    'Missing values are imputed: age by 38.5, x by 1.'
    """
    fills = [
        f"{column.name} by {one_line(fill) if isinstance(fill, str) else told_number(fill)}"
        for column in design.columns
        if (fill := column.fill) is not None
    ]
    return f"Missing values are imputed: {listed(fills)}." if fills else (
        "Missing values are refused."
    )  # fmt: skip


def told_number(value: float) -> str:
    """Return a number in six digits, or with all that are before the point.

    >>> told_number(38.53333333), told_number(1700000029.5), told_number(-2e200)
    ('38.5333', '1700000029.5', '-2e+200')
    """
    if not 1e5 < abs(value) < 1e15:
        return f"{value:.6g}"
    return f"{value:.1f}".removesuffix(".0")
