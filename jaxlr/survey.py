"""What the columns of a table hold, from one pass over it: kinds, levels, moments, gaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxlr.moments import Moments, add_numbers
from jaxlr.tables import Chunk, Table, TableError, is_number
from jaxlr.tables.table import short
from jaxlr.tables.values import is_numeric, levels, numbers

_MOST_LEVELS = 100  # of a column that the user did not say holds levels
_MOST_CLASSES = 1000
_COMMA = re.compile(r"[+-]?\d*(,\d+)+([eE][+-]?\d+)?")  # 51,5 and 1,000


class Roles(NamedTuple):
    """Which columns are what.

    Args:
        target: the column to predict.
        features: the columns to predict it from.
        categorical: those of them that are levels although they may hold numbers.
        weights: the column of the examples' weights, or None.
    """

    target: str
    features: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        return [self.target, *([self.weights] if self.weights else []), *self.features]


class Tally(NamedTuple):
    """What a column holds.

    Args:
        missing: how many of its values are missing.
        levels: the weight of each level, of text; None for numbers, and while all is missing.
        first: the first number; None for text.
        moments: of the numbers.
        counting: whether the numbers so far are those of the rows, each one more than the last.
        trouble: why the column cannot be used, or None.
    """

    missing: int = 0
    levels: dict[str, float] | None = None
    first: float | None = None
    moments: Moments = Moments()
    counting: bool = True
    trouble: str | None = None


class Survey(NamedTuple):
    """What a table holds.

    Args:
        rows: how many it has.
        weight: of all of them: as many, or the sum of the column of weights.
        tallies: of the target and the features.
    """

    rows: int
    weight: float
    tallies: dict[str, Tally]


def survey(chunks: Iterable[Chunk], table: Table, roles: Roles) -> Survey:
    """Return what the columns of a table hold.

    Text is levels, and numbers are numbers unless the user said that they are levels. In a CSV a
    column is text if none of its values is a number; one that mixes both is refused.

    Args:
        chunks: of `table`, with the columns of `roles`.
        table: where they come from.
        roles: which columns are what.

    Raises:
        TableError: there are no rows, or columns that cannot be used: all of them, with reasons.

    >>> import pyarrow as pa
    >>> from pathlib import Path
    >>> table = Table(Path("a.csv"), ("y", "age"), False, (), lambda *_: iter(()), str)
    >>> chunk = Chunk(0, 2, {"y": pa.array(["no", "yes"]), "age": pa.array(["31", None])}, 1.0)
    >>> found = survey([chunk], table, Roles("y", ("age",)))
    >>> found.rows, found.tallies["y"].levels, found.tallies["age"].missing
    (2, {'no': 1.0, 'yes': 1.0}, 1)
    """
    rows, weight, tallies = 0, 0.0, {}
    for name in (roles.target, *roles.features):
        kind = table.others.get(name)
        tallies[name] = Tally(trouble=f"holds {kind}" if kind else None)
    for chunk in chunks:
        weights = weights_of(chunk, table, roles.weights)
        with np.errstate(over="ignore"):
            rows, weight = rows + chunk.rows, weight + float(weights.sum())
        if np.isinf(weight):
            raise TableError(
                f"--weights {roles.weights}: the weights of {table.path} sum to more than 1.8e308: "
                f"divide them by their mean."
            )
        for name, tally in tallies.items():
            if tally.trouble is None:
                tallies[name] = _add(tally, name, chunk, weights, table, roles)
    if rows == 0:
        raise TableError(f"{table.path} has no rows.")
    if weight == 0:
        raise TableError(f"column {roles.weights} of {table.path}: all weights are zero.")
    for name, tally in tallies.items():
        if tally.missing == rows:
            tallies[name] = tally._replace(trouble="has no values")
    _check(tallies, table, roles)
    return Survey(rows, weight, tallies)


def _check(tallies: dict[str, Tally], table: Table, roles: Roles) -> None:
    trouble = {name: tally.trouble for name, tally in tallies.items() if tally.trouble}
    if roles.target in trouble:
        raise TableError(f"--target {roles.target}: it {trouble[roles.target]}.")
    if trouble:
        reasons = "; ".join(f"{name} {why}" for name, why in trouble.items())
        advice = f"Leave them out, as by --exclude {','.join(trouble)}"
        if any(name in table.others for name in trouble):
            advice += "; or make numbers or text of what is neither"
        if any(name not in table.others for name in trouble):
            advice += (
                "; or say --categorical for a column of levels, and --missing for a word that "
                "stands for a missing value"
            )
        raise TableError(
            f"{table.path} has columns that are no features as they are: {reasons}. {advice}."
        )


def weights_of(chunk: Chunk, table: Table, name: str | None) -> np.ndarray:
    """Return the weights of a chunk's rows: a column of it, or ones; refuse what is no weight."""
    if name is None:
        return np.ones(chunk.rows)
    weights = numbers(chunk.columns[name], table.missing)
    if weights is None:
        i, said = first_level(name, chunk, table, lambda level: not is_number(level))
    else:
        bad = ~(np.isfinite(weights) & (weights >= 0))
        if not bad.any():
            return weights
        i = int(bad.argmax())
        said = "missing" if np.isnan(weights[i]) else f"{weights[i]:g}"
    raise TableError(
        f"--weights {name}: in {table.place(chunk.start + i)} of {table.path} it is {said}, and "
        f"weights are finite numbers that are not negative."
    )


def first_level(
    name: str, chunk: Chunk, table: Table, wanted: Callable[[str], bool]
) -> tuple[int, str]:
    """Return the first row of a chunk with a level that is wanted, and that level in quotes."""
    places, found = levels(chunk.columns[name], table.missing)
    marked = np.array([*map(wanted, found), False])  # the last one: missing
    i = int(marked[places].argmax())
    return i, short(found[places[i]])


def _add(
    tally: Tally, name: str, chunk: Chunk, weights: np.ndarray, table: Table, roles: Roles
) -> Tally:
    """Return the tally with the values of one more chunk."""
    column, text = chunk.columns[name], table.typed and not is_numeric(chunk.columns[name].type)
    if name in roles.categorical:
        return _add_levels(tally, column, weights, table, None)
    if (name == roles.target or text) and tally.levels is None:
        tally = _commas(tally, name, chunk, table)
    if tally.trouble is not None:
        return tally
    if name == roles.target:
        return _add_levels(tally, column, weights, table, _MOST_CLASSES)
    if text:
        return _add_levels(tally, column, weights, table, _MOST_LEVELS)
    values = numbers(column, table.missing)
    if values is not None and (tally.levels is None or np.isnan(values).all()):
        return _add_numbers(tally, chunk, values, weights, table)
    if tally.levels is None and (commas := _commas(tally, name, chunk, table)).trouble:
        return commas
    _, found = levels(column, table.missing)
    if tally.first is None and not any(map(is_number, found)):
        return _add_levels(tally, column, weights, table, _MOST_LEVELS)
    odd = is_number if tally.levels else lambda level: not is_number(level)
    i, said = first_level(name, chunk, table, odd)
    kinds = "text and numbers" if tally.levels else "numbers and text"
    return tally._replace(trouble=f"holds {kinds}, as {said} in {table.place(chunk.start + i)}")


def _commas(tally: Tally, name: str, chunk: Chunk, table: Table) -> Tally:
    """Return the tally, with trouble if the chunk has nothing but numbers, some with a comma."""
    _, found = levels(chunk.columns[name], table.missing)
    comma = [level for level in found if _COMMA.fullmatch(level)]
    if not comma or not all(is_number(level) or _COMMA.fullmatch(level) for level in found):
        return tally
    i, said = first_level(name, chunk, table, comma.__contains__)
    place = table.place(chunk.start + i)
    return tally._replace(
        trouble=f"holds numbers with a comma, as {said} in {place}, where a decimal point is due"
    )


def _add_levels(
    tally: Tally, column: Any, weights: np.ndarray, table: Table, most: int | None
) -> Tally:
    places, found = levels(column, table.missing)
    known = places >= 0
    sums = np.bincount(places[known], weights[known], len(found))
    merged = dict(tally.levels or {})
    for level, total in zip(found, sums.tolist(), strict=True):
        merged[level] = merged.get(level, 0.0) + total
    if most is not None and len(merged) > most:
        first = short(next(iter(merged)))
        return tally._replace(trouble=f"has more than {most} different values, such as {first}")
    missing = tally.missing + int((~known).sum())
    return tally._replace(missing=missing, levels=merged or None)


def _add_numbers(
    tally: Tally, chunk: Chunk, values: np.ndarray, weights: np.ndarray, table: Table
) -> Tally:
    gaps = np.isnan(values)
    if (infinite := np.isinf(values)).any():
        i = int(infinite.argmax())
        return tally._replace(trouble=f"is infinite in {table.place(chunk.start + i)}")
    origin = float(values[0]) if tally.first is None else tally.first
    counting = tally.counting and bool(
        (values == origin + chunk.start + np.arange(chunk.rows)).all()
    )
    tally = tally._replace(missing=tally.missing + int(gaps.sum()), counting=counting)
    if gaps.all():
        return tally
    values, weights = values[~gaps], weights[~gaps]
    first = float(values[0]) if tally.first is None else tally.first
    return tally._replace(first=first, moments=add_numbers(tally.moments, values, weights))
