"""What the columns of a table hold, from one pass over it: kinds, levels, moments, gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxlr.door.moments import Moments, add_numbers
from jaxlr.tables import Chunk, Table, TableError, is_number
from jaxlr.tables.lookalikes import COMMAS, lookalike
from jaxlr.tables.table import short
from jaxlr.tables.values import by_value, is_numeric, levels, numbers

_EMPTY = "has no values"
_MOST_LEVELS = 100  # of a column that the user did not say holds levels
_MOST_CLASSES = 1000
_FEW_CLASSES = 10  # as many of 5% and 10%, or of dates, may be classes


class Roles(NamedTuple):
    """Which columns are what.

    Args:
        target: the column to predict.
        features: the columns to predict it from.
        categorical: those of them that are levels although they may hold numbers.
        weights: the column of the examples' weights, or None.
        positive: which of two classes is the second, whose odds are told; None for the order.
    """

    target: str
    features: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    weights: str | None = None
    positive: str | None = None

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        return [self.target, *([self.weights] if self.weights else []), *self.features]


class Tally(NamedTuple):
    """What a column holds.

    Args:
        missing: how many of its values are missing.
        levels: the weight of each level, of text; None for numbers, and while all is missing.
            Texts of one value, as 1 and 1.0, are one level: the first of them.
        spelled: the level of each value, as `by_value` writes it.
        alike: the other texts that a level was spelled as, and the level.
        odd: the first level that is no number, and its row.
        first: the first number; None for text.
        moments: of the numbers.
        counting: whether the numbers so far are those of the rows, each one more than the last.
        trouble: why the column cannot be used, or None.
    """

    missing: int = 0
    levels: dict[str, float] | None = None
    spelled: Mapping[str, str] = MappingProxyType({})
    alike: Mapping[str, str] = MappingProxyType({})
    odd: tuple[str, int] | None = None
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
            tallies[name] = tally._replace(trouble=_EMPTY)
        elif tally.levels and name not in roles.categorical:
            most = _FEW_CLASSES if name == roles.target else 0
            trouble = tally.trouble or _disguise(tally, tally.levels, table, most)
            tallies[name] = tally._replace(trouble=trouble)
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
        if any(name not in table.others and why != _EMPTY for name, why in trouble.items()):
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
        return _add_levels(tally, chunk.start, column, weights, table, None)
    if name == roles.target:
        return _add_levels(tally, chunk.start, column, weights, table, _MOST_CLASSES)
    if text:
        return _add_levels(tally, chunk.start, column, weights, table, _MOST_LEVELS)
    values = numbers(column, table.missing)
    if values is not None and (tally.levels is None or np.isnan(values).all()):
        return _add_numbers(tally, chunk, values, weights, table)
    places, found = levels(column, table.missing)
    if tally.first is None and not any(map(is_number, found)):
        return _add_levels(tally, chunk.start, column, weights, table, _MOST_LEVELS)
    odd = tally.odd or _first_odd(places, found, chunk.start)
    if trouble := _disguise(tally._replace(odd=odd), [*(tally.levels or ()), *found], table, 0):
        return tally._replace(trouble=trouble)
    odd = is_number if tally.levels else lambda level: not is_number(level)
    i, said = first_level(name, chunk, table, odd)
    kinds = "text and numbers" if tally.levels else "numbers and text"
    return tally._replace(trouble=f"holds {kinds}, as {said} in {table.place(chunk.start + i)}")


def _disguise(tally: Tally, found: Iterable[str], table: Table, most: int) -> str | None:
    """Return the trouble with levels that are numbers or dates in another way of writing.

    Args:
        tally: with the first level that is no number.
        found: the levels.
        table: where they come from.
        most: so many of them may be levels, but not of numbers with a comma.
    """
    kind = lookalike(found := list(found))
    if kind is None or tally.odd is None or (len(found) <= most and kind != COMMAS):
        return None
    text, row = tally.odd
    return f"{kind.what}, as {short(text)} in {table.place(row)}, {kind.due}"


def _first_odd(places: np.ndarray, found: Sequence[str], start: int) -> tuple[str, int] | None:
    """Return the first level of a chunk that is no number, and its row."""
    k = next((k for k, level in enumerate(found) if not is_number(level)), None)
    return None if k is None else (found[k], start + int((places == k).argmax()))


def _add_levels(
    tally: Tally, start: int, column: Any, weights: np.ndarray, table: Table, most: int | None
) -> Tally:
    places, found = levels(column, table.missing)
    known = places >= 0
    sums = np.bincount(places[known], weights[known], len(found))
    merged, spelled, alike = dict(tally.levels or {}), dict(tally.spelled), dict(tally.alike)
    for level, total in zip(found, sums.tolist(), strict=True):
        own = spelled.setdefault(by_value(level), level)
        merged[own] = merged.get(own, 0.0) + total
        if own != level:
            alike[level] = own
    missing, odd = tally.missing + int((~known).sum()), tally.odd
    if odd is None:
        odd = _first_odd(places, found, start)
    tally = tally._replace(
        missing=missing, levels=merged or None, spelled=spelled, alike=alike, odd=odd
    )
    if most is not None and len(merged) > most:
        first = short(next(iter(merged)))
        trouble = _disguise(tally, merged, table, 0)
        trouble = trouble or f"has more than {most} different values, such as {first}"
        return tally._replace(trouble=trouble)
    return tally


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
