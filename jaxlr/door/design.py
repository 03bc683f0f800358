"""From the columns of a table to features and labels, and back to the user's units.

A column of numbers is a feature. A column of text with L levels is L − 1 of them, each 1 where
the value is that level and else 0; the level without a feature is the base, the most frequent
one. Features are standardised, `(x − mean)/scale`, so that one penalty fits all; a coefficient w
of the standardised feature is `w/scale` in the user's units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlr.door.moments import deviation_of, mean_of
from jaxlr.door.survey import Roles, Survey, Tally, first_level
from jaxlr.tables import Chunk, Table, TableError, is_number, listed
from jaxlr.tables.table import counted, short
from jaxlr.tables.values import by_value, levels, numbers

_MOST_FRACTIONS = 10  # classes, where one is no integer, or where most are one row


class Column(NamedTuple):
    """A column of a table that features are made of.

    Args:
        name: of the column.
        levels: None for numbers; else the levels, the base first.
        fill: what stands in for a missing value: a number, or the base; None to refuse it.
    """

    name: str
    levels: tuple[str, ...] | None
    fill: float | str | None

    @property
    def features(self) -> list[str]:
        """The names of its features."""
        if self.levels is None:
            return [self.name]
        return [f"{self.name}={level}" for level in self.levels[1:]]


class Design(NamedTuple):
    """How features and labels are made of a table; JSON can hold it.

    Args:
        columns: that features are made of, in their order.
        target: the column of labels.
        classes: the labels' names, by number.
        weights: the column of the examples' weights, or None.
        missing: words that stand for a missing value in a CSV, besides pyarrow's.
    """

    columns: tuple[Column, ...]
    target: str
    classes: tuple[str, ...]
    weights: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def features(self) -> list[str]:
        """The names of the features, n of them."""
        return [name for column in self.columns for name in column.features]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


def as_json(design: Design) -> dict[str, Any]:
    """Return a design as JSON has it.

    >>> age = Design((Column("age", None, 38.5),), "sick", ("no", "yes"))
    >>> as_json(age)["columns"]
    [{'name': 'age', 'levels': None, 'fill': 38.5}]
    >>> from_json(as_json(age)) == age
    True
    """
    columns = [
        column._asdict() | {"levels": None if column.levels is None else list(column.levels)}
        for column in design.columns
    ]
    lists = {"classes": list(design.classes), "missing": list(design.missing)}
    return design._asdict() | lists | {"columns": columns}


def from_json(content: Mapping[str, Any]) -> Design:
    """Return what `as_json` was given; raises KeyError or TypeError for anything else."""
    columns = tuple(
        Column(c["name"], None if c["levels"] is None else tuple(c["levels"]), c["fill"])
        for c in content["columns"]
    )
    classes, missing = tuple(content["classes"]), tuple(content["missing"])
    return Design(columns, content["target"], classes, content["weights"], missing)


def make_design(
    found: Survey, table: Table, roles: Roles, impute: str | None = None, missing: tuple = ()
) -> tuple[Design, np.ndarray, np.ndarray]:
    """Return the design of what a survey found, and the mean and scale of its features.

    Args:
        found: from `survey(table, roles)`.
        table, roles: as for the survey.
        impute: None to refuse missing values; "mean" or "median" for numbers, and the base for
            text. The median is not known yet: such a column is filled with NaN.
        missing: words that stand for a missing value, besides pyarrow's.

    Returns:
        The design; mean and standard deviation of each feature, `(n,)`, of the values that are
        there; the scale of a constant feature is 1.

    Raises:
        TableError: missing values that are refused, with their counts; labels that are no
            classes; no features.
    """
    classes = _classes(found, table, roles)
    gaps = {name: found.tallies[name].missing for name in roles.features}
    gaps = {name: count for name, count in gaps.items() if count}
    if gaps and impute is None:
        raise TableError(
            f"{told_gaps(gaps, found.rows, table)} Impute them with --impute mean or --impute "
            f"median, which give text its most frequent level; or leave columns out with --exclude."
        )
    columns, means, scales = [], [], []
    for name in roles.features:
        tally = found.tallies[name]
        if tally.levels is None:
            means.append(mean_of(tally.moments))
            scales.append(deviation_of(tally.moments))
            fill = {None: None, "mean": means[-1], "median": np.nan}[impute]
            columns.append(Column(name, None, fill))
        else:
            ordered = _base_first(tally.levels)
            columns.append(Column(name, ordered, ordered[0] if impute else None))
            shares = [tally.levels[level] / found.weight for level in ordered[1:]]
            means += shares
            scales += [(share * (1 - share)) ** 0.5 for share in shares]
    design = Design(tuple(columns), roles.target, classes, roles.weights, missing)
    if not means:
        raise TableError(f"{table.path} has no column that varies, besides {roles.target}.")
    mean, scale = np.array(means), np.array(scales)
    return design, mean, np.where(scale > 0, scale, 1.0)


def _base_first(found: Mapping[str, float]) -> tuple[str, ...]:
    ordered = in_order(found)
    base = max(ordered, key=lambda level: found[level])
    return (base, *(level for level in ordered if level != base))


def in_order(names: Any) -> list[str]:
    """Return levels in order: as numbers if all of them are, else by the alphabet.

    Capitals count as small letters: of `no` and `Yes` the second is `Yes`.

    >>> in_order(["10", "9"]), in_order(["b", "a"]), in_order(["a", "B", "A"])
    (['9', '10'], ['a', 'b'], ['A', 'a', 'B'])
    """
    are_numbers = all(map(is_number, names))
    return sorted(names, key=lambda s: (float(s) if are_numbers else s.casefold(), s))


# --- Labels -------------------------------------------------------------------------------------


def _classes(survey: Survey, table: Table, roles: Roles) -> tuple[str, ...]:
    tally, target = survey.tallies[roles.target], f"--target {roles.target}"
    if tally.missing:
        raise TableError(
            f"{target}: it is missing in {counted(tally.missing, 'row')} of {table.path}: drop "
            "such rows."
        )
    found = {level: weight for level, weight in (tally.levels or {}).items() if weight > 0}
    if all(map(is_number, found)):
        found = {by_value(level): None for level in found}
        fractions = [level for level in found if not level.lstrip("-").isdigit()]
        if fractions and len(found) > _MOST_FRACTIONS:
            raise TableError(
                f"{target}: it holds {len(found)} different numbers, such as {fractions[0]}, and "
                f"not classes: make classes of them, as by a threshold."
            )
    if len(found) > _MOST_FRACTIONS and 2 * len(found) > survey.rows:
        raise TableError(
            f"{target}: it holds {len(found)} different values in {survey.rows} rows of "
            f"{table.path}, such as {short(next(iter(found)))}: that is a name of the rows, or a "
            f"quantity, and not classes. Give another target, or make classes of it."
        )
    if len(found) < 2:
        raise TableError(
            f"{target}: all rows of {table.path} are {short(next(iter(found)))}, so that there is "
            f"nothing to tell apart."
        )
    return _positive_last(tuple(in_order(found)), roles)


def _positive_last(classes: tuple[str, ...], roles: Roles) -> tuple[str, ...]:
    """Return the classes, of two the positive one second if it is said which that is."""
    if roles.positive is None:
        return classes
    own = f"--positive {roles.positive}"
    if len(classes) > 2:
        raise TableError(
            f"{own}: it says which of two classes the odds are of, and {roles.target} has "
            f"{len(classes)}: {listed(classes)}."
        )
    place = _places(classes, [roles.positive.strip()]).get(roles.positive.strip())
    if place is None:
        raise TableError(f"{own}: {roles.target} has no such class. It has {listed(classes)}.")
    return classes if place == 1 else classes[::-1]


def class_weights(design: Design, tally: Tally) -> dict[str, float]:
    """Return the weight of each class, of the tally of the target.

    >>> design = Design((), "y", ("0", "1"))
    >>> class_weights(design, Tally(levels={"1.0": 2.0, "0": 3.0}))
    {'0': 3.0, '1': 2.0}
    """
    found = tally.levels or {}
    weights, number = dict.fromkeys(design.classes, 0.0), _places(design.classes, list(found))
    for level, weight in found.items():
        if level in number:  # others have no weight
            weights[design.classes[number[level]]] += weight
    return weights


def labels(design: Design, chunk: Chunk, table: Table) -> np.ndarray:
    """Return the class number of each row of a chunk, `(rows,)`; −1 where it is none.

    >>> import pyarrow as pa
    >>> from pathlib import Path
    >>> table = Table(Path("a.csv"), ("y",), False, (), lambda *_: iter(()), str)
    >>> chunk = Chunk(0, 3, {"y": pa.array(["1.0", "0", None])}, 1.0)
    >>> labels(Design((), "y", ("0", "1")), chunk, table).tolist()
    [1, 0, -1]
    """
    places, found = levels(chunk.columns[design.target], table.missing)
    number = _places(design.classes, found)
    return np.array([*(number.get(level, -1) for level in found), -1])[places]


def _places(known: Sequence[str], found: Sequence[str]) -> dict[str, int]:
    """Return the places of known levels, and of those found that have the value of one of them.

    So 1 and TRUE in one file are 1.0 and True in another; but not where a value is two levels.

    >>> _places(["1.0", "true"], ["1", "3", "True"])
    {'1.0': 0, 'true': 1, '1': 0, 'True': 1}
    """
    places = {level: i for i, level in enumerate(known)}
    if others := [level for level in found if level not in places]:
        values = [by_value(level) for level in known]
        counts = Counter(values)
        once = {value: i for i, value in enumerate(values) if counts[value] == 1}
        places |= {level: once[v] for level in others if (v := by_value(level)) in once}
    return places


# --- Features -----------------------------------------------------------------------------------


class MissingValue(TableError):
    """Raised for a missing value where the design has nothing that stands in for it."""


class Encoded(NamedTuple):
    """The features of some rows.

    Args:
        X: `(n, rows)` float64: an example is a column.
        imputed: how many missing values were filled in, by column.
        unseen: how many levels were counted as the base although they are others, by column.
    """

    X: np.ndarray
    imputed: dict[str, int]
    unseen: dict[str, int]


def encode(design: Design, chunk: Chunk, table: Table, unseen: str = "refuse") -> Encoded:
    """Return the features of a chunk's rows, not standardised, and what was put into them.

    Args:
        design: how they are made.
        chunk: with all columns of the design.
        table: where it comes from.
        unseen: "refuse" a level that the design does not have, or count it as the "base".

    Raises:
        TableError: a value that is no number, or an unseen level.
        MissingValue: a missing value, where the design has no fill.

    >>> import pyarrow as pa
    >>> from pathlib import Path
    >>> table = Table(Path("a.csv"), ("age", "city"), False, (), lambda *_: iter(()), str)
    >>> columns = Column("age", None, 40.0), Column("city", ("Bern", "Ulm"), "Bern")
    >>> chunk = {"age": pa.array(["31", None]), "city": pa.array(["Ulm", "Bern"])}
    >>> found = encode(Design(columns, "y", ("0", "1")), Chunk(0, 2, chunk, 1.0), table)
    >>> found.X.tolist(), found.imputed
    ([[31.0, 40.0], [1.0, 0.0]], {'age': 1})
    """
    X, j = np.empty((len(design.features), chunk.rows)), 0
    imputed, others = {}, {}
    for column in design.columns:
        if column.levels is None:
            X[j], gaps = _numbers(column, chunk, table)
            j += 1
        else:
            places, gaps, new = _levels(column, chunk, table, unseen)
            others[column.name] = int(new.sum())
            for level in range(1, len(column.levels)):
                X[j] = places == level
                j += 1
        imputed[column.name] = int(gaps.sum())
    imputed, others = ({k: v for k, v in counts.items() if v} for counts in (imputed, others))
    return Encoded(X, imputed, others)


def _numbers(column: Column, chunk: Chunk, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of a column, and where they were missing."""
    name, fill = column.name, column.fill
    values = numbers(chunk.columns[name], table.missing)
    if values is None:
        i, said = first_level(name, chunk, table, lambda level: not is_number(level))
        raise TableError(
            f"column {name} is {said} in {table.place(chunk.start + i)} of {table.path}, where a "
            f"number is due."
        )
    if (gaps := np.isnan(values)).any():
        _check_gap(column, gaps, chunk, table)
        values[gaps] = fill
    if (infinite := np.isinf(values)).any():
        where = table.place(chunk.start + int(infinite.argmax()))
        raise TableError(f"column {name} is infinite in {where} of {table.path}.")
    return values, gaps


def _levels(
    column: Column, chunk: Chunk, table: Table, unseen: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of a column's levels, where they were missing, and where they are new."""
    name, own = column.name, list(column.levels or ())
    places, found = levels(chunk.columns[name], table.missing)
    known = _places(own, found)
    new = np.array([*(level not in known for level in found), False])[places]
    if new.any() and unseen == "refuse":
        i, said = first_level(name, chunk, table, lambda level: level not in known)
        raise TableError(
            f"column {name} is {said} in {table.place(chunk.start + i)} of {table.path}, a level "
            f"that the model has not seen: it knows {listed(own)}. --unseen base counts "
            f"it as {own[0]}."
        )
    if (gaps := places < 0).any():
        _check_gap(column, gaps, chunk, table)
    return np.array([*(known.get(level, 0) for level in found), 0])[places], gaps, new


def _check_gap(column: Column, gaps: np.ndarray, chunk: Chunk, table: Table) -> None:
    if column.fill is None:
        where = table.place(chunk.start + int(gaps.argmax()))
        raise MissingValue(f"column {column.name} is missing in {where} of {table.path}.")


def told_gaps(gaps: Mapping[str, int], rows: int, table: Table) -> str:
    """Return how many values are missing in which columns, in a sentence."""
    counts = listed([f"{name} {count}" for name, count in gaps.items()])
    return f"{table.path} has missing values, of {rows} rows: {counts}."
