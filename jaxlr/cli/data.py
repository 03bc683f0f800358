"""What the command line learns from: scikit-learn's data sets, and the user's files."""

import contextlib
import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.base.extras import require
from jaxlr.cli.datasets import dataset
from jaxlr.cli.medians import with_medians
from jaxlr.cli.memory import give_back, total_memory
from jaxlr.cli.refusal import Refusal
from jaxlr.door.design import Design, class_weights, encode, labels, make_design
from jaxlr.door.moments import standardised
from jaxlr.door.survey import Roles, Survey, survey, weights_of
from jaxlr.door.telling import told_levels
from jaxlr.files.data_set import Data
from jaxlr.model.batch import Batch
from jaxlr.tables import Chunk, Table, TableError, check_names, listed, open_table, rows_of_chunk
from jaxlr.tables.table import counted, one_line

IMPUTES = ("mean", "median")
_ALIGNED = 64  # bytes, where JAX takes a NumPy array as it is
_LARGE = 2**28  # bytes of X, from where on memory is worth some seconds
_SHARE = 0.8  # of the machine's memory, for X at most; the rest is for all else
_RARE = 0.2  # of the share that a class has where all have the same


class Reading(NamedTuple):
    """The options of a file that is to be learned from; names are separated by commas."""

    target: str | None = None
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    weights: str | None = None
    impute: str | None = None
    missing: tuple[str, ...] = ()
    delimiter: str | None = None
    standardize: bool = True
    positive: str | None = None


def load(name: str) -> Data:
    """Return one of scikit-learn's data sets, its columns standardised.

    >>> data = load("iris")
    >>> data.batch.X.shape, data.class_names
    ((4, 150), ['setosa', 'versicolor', 'virginica'])
    """
    rows, labels, feature_names, class_names = dataset(name)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    batch = Batch.from_rows((rows - mean) / scale, labels)
    return Data(str(name), batch, mean, scale, feature_names, class_names)


def read(
    path: Path,
    options: Reading,
    rehearse: Callable[[Data], Any] | None = None,
    check: Callable[[Mapping[str, float]], None] | None = None,
) -> Data:
    """Return the data of a file, from two passes over it: what is there, and the features.

    Memory is that of X and of some chunks of rows. What XLA needs to compile comes on top,
    hundreds of megabytes, unless it is given back before X is there.

    Args:
        path: of the file.
        options: which columns are what.
        rehearse: what will be done with the data, if it is large: done first with zeros in the
            place of X, which need no memory as long as nobody has written to them.
        check: what is told the number of examples of each class before the features are made,
            and may refuse it; not if examples have weights.

    Raises:
        TableError: what the file holds cannot be used; a sentence that names column and line.
    """
    if options.impute not in (None, *IMPUTES):
        raise Refusal(
            f"--impute {options.impute}: {' or '.join(IMPUTES)} is due, of numbers; text gets its "
            f"most frequent level."
        )
    table = open_table(path, delimiter=options.delimiter, missing=options.missing)
    roles, notes = _roles(table, options)
    if table.rows is not None:  # else it is asked when they have been counted
        check_size(table, len(roles.features), table.rows)
    size = rows_of_chunk(len(roles.columns))
    chunks = shown(table.chunks(roles.columns, size), f"Looking through {path.name}")
    found = survey(chunks, table, roles)
    _check_weights(found, roles, table)
    design, mean, scale = make_design(found, table, roles, options.impute, options.missing)
    if check is not None and roles.weights is None:
        check(class_weights(design, found.tallies[roles.target]))
    if not options.standardize:
        _check_scale(design, scale, table)
        scale = np.ones_like(scale)  # centred all the same: 1.7e9 + 1 is 1.7e9 in float32
    batch = _empty(table, design, found.rows)
    if rehearse is not None and batch.X.nbytes > _LARGE:
        y = np.arange(found.rows) % len(design.classes)
        zeros = in_jax(dataclasses.replace(batch, y=y.astype(batch.y.dtype)))
        names = design.features, list(design.classes)
        rehearse(Data(path.name, zeros, mean, scale, *names, design))
        del zeros
    give_back()
    chunks = shown(table.chunks(roles.columns, size), f"Reading {path.name}")
    _fill(batch, chunks, table, design, mean, scale)
    give_back()
    design = with_medians(design, batch, mean, scale)
    source = {
        "file": path.name,
        "sha256": fingerprint(path),
        "rows": found.rows,
        "columns": len(roles.features),
        "impute": options.impute,
        "missing": {name: found.tallies[name].missing for name in roles.features
                    if found.tallies[name].missing},
        "class_weights": np.bincount(batch.y.astype(int), batch.weights).tolist(),
    }  # fmt: skip
    return Data(
        path.name,
        in_jax(batch),
        mean,
        scale,
        design.features,
        list(design.classes),
        design,
        source,
        (*notes, *_notes(found, design, source)),
    )


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def names_of(given: Sequence[str], table: Table, role: str) -> list[str]:
    """Return the columns that an option names, separated by commas or given again and again."""
    names = []
    for text in given:
        names += [text] if text in table.names else [name.strip() for name in text.split(",")]
    check_names(table, names, role)
    return list(dict.fromkeys(names))


def _roles(table: Table, options: Reading) -> tuple[Roles, list[str]]:
    named = [name for name in table.names if name]
    target = options.target or table.target
    if target is None:
        raise Refusal(
            f"--target is not given: say which column of {table.path} to predict. It has "
            f"{listed(named)}."
        )
    check_names(table, [target], "--target")
    if options.weights:
        check_names(table, [options.weights], "--weights")
        if options.weights == target:
            raise Refusal(f"--weights {target}: that is the target.")
    features = names_of(options.features, table, "--features")
    for name, role in ((target, "the target"), (options.weights, "the column of weights")):
        if name in features:
            raise Refusal(f"--features {name}: that is {role}.")
    features = features or named
    exclude = names_of(options.exclude, table, "--exclude")
    categorical = names_of(options.categorical, table, "--categorical")
    if target in exclude:
        raise Refusal(f"--exclude {target}: that is the target.")
    if target in categorical:
        raise Refusal(f"--categorical {target}: that is the target, which is levels anyhow.")
    left_out = {target, options.weights, *exclude}
    features = tuple(name for name in features if name not in left_out)
    if not features:
        raise Refusal(f"{table.path} has no column besides {', '.join(filter(None, left_out))}.")
    unnamed = "" in table.names and not options.features
    notes = ["A column has no name, as the index in pandas' files: it is left out."] * unnamed
    categorical = tuple(name for name in categorical if name in features)
    return Roles(target, features, categorical, options.weights, options.positive), notes


def _check_scale(design: Design, scale: np.ndarray, table: Table) -> None:
    """Refuse features whose squares, summed, may be beyond the dtype."""
    limits = jnp.finfo(jnp.zeros(()).dtype)
    j = int(scale.argmax())
    if scale[j] > 0.01 * float(limits.max) ** 0.5:
        raise Refusal(
            f"--no-standardize: column {design.features[j]} of {table.path} has a standard "
            f"deviation of {scale[j]:.3g}, whose square is near the end of {limits.dtype} or "
            f"beyond: leave --no-standardize out, or take another unit."
        )


def _check_weights(found: Survey, roles: Roles, table: Table) -> None:
    """Refuse weights whose sum, or one over it, the dtype holds with few digits or not at all."""
    limits = jnp.finfo(jnp.zeros(()).dtype)
    most = float(limits.eps / limits.tiny)
    if roles.weights is not None and not 1 / most <= found.weight <= most:
        raise TableError(
            f"--weights {roles.weights}: the weights of {table.path} sum to {found.weight:.3g}, "
            f"and {limits.dtype} takes sums from {1 / most:.0e} to {most:.0e}: divide them by "
            f"their mean."
        )


def check_size(table: Table, n: int, rows: int) -> None:
    """Refuse a file whose X would not fit memory: n features × rows, dense."""
    dtype = np.dtype(jnp.zeros(()).dtype)
    need, have = n * rows * dtype.itemsize, total_memory()
    if have is not None and need > _SHARE * have:
        raise Refusal(
            f"{table.path}: {n} features × {rows} examples, dense in {dtype}, need "
            f"{_gigabytes(need)}, and {100 * _SHARE:.0f} % of this machine's memory is "
            f"{_gigabytes(_SHARE * have)}: choose columns by --features or --exclude, or take "
            f"fewer rows."
        )


def _gigabytes(size: float) -> str:
    """Return a number of bytes in words.

    >>> _gigabytes(2.5e9), _gigabytes(4e13)
    ('2.5 GB', '40,000 GB')
    """
    return f"{size / 1e9:,.0f} GB" if size >= 1e10 else f"{size / 1e9:.2g} GB"


def _empty(table: Table, design: Design, rows: int) -> Batch:
    """Return a batch of NumPy arrays that are to be filled: X `(n, rows)`."""
    dtype, n, classes = np.dtype(jnp.zeros(()).dtype), len(design.features), len(design.classes)
    check_size(table, n, rows)
    X = _aligned((n, rows), dtype)
    y = np.zeros(rows, dtype if classes == 2 else np.int32)
    weights = None if design.weights is None else np.ones(rows, dtype)
    return Batch(X, y, weights, None, classes)


def _fill(
    batch: Batch,
    chunks: Iterable[Chunk],
    table: Table,
    design: Design,
    mean: np.ndarray,
    scale: np.ndarray,
) -> None:
    """Write all chunks to a batch of NumPy arrays, standardised."""
    changed = TableError(f"{table.path} changed while it was read.")
    end = 0
    for chunk in chunks:
        part, end = slice(chunk.start, chunk.start + chunk.rows), chunk.start + chunk.rows
        if end > batch.m_examples:
            raise changed
        features = encode(design, chunk, table).X
        with np.errstate(over="ignore"):
            batch.X[:, part] = standardised(features, mean, scale)
        check_finite(batch.X[:, part], features, design, chunk, table)
        batch.y[part] = np.maximum(labels(design, chunk, table), 0)  # no class: of weight 0
        if batch.weights is not None:
            batch.weights[part] = weights_of(chunk, table, design.weights)
    if end < batch.m_examples:
        raise changed


def check_finite(
    Z: np.ndarray, features: np.ndarray, design: Design, chunk: Chunk, table: Table
) -> None:
    """Refuse features that are too large for their dtype once they are standardised.

    Args:
        Z: `(n, rows)`, standardised.
        features: as they were, with NaN where the median is due.
        design: what they are.
        chunk, table: where they come from.
    """
    lost = np.isinf(Z) | (np.isnan(Z) & ~np.isnan(features))
    if lost.any():
        j, i = np.argwhere(lost)[0]
        raise TableError(
            f"column {design.features[j]} is {features[j, i]:.6g} in "
            f"{table.place(chunk.start + int(i))} of {table.path}, which is too far from the "
            f"column's mean for {Z.dtype}: correct it"
            f"{', or set JAX_ENABLE_X64=1' if Z.dtype == np.float32 else ''}."
        )


def in_jax(batch: Batch) -> Batch:
    """Return a batch of NumPy arrays as one of JAX's, without a copy of X."""
    X = jax.device_put(batch.X, may_alias=True)  # not `asarray`, which copies
    y, weights = jax.tree.map(jnp.asarray, (batch.y, batch.weights))
    return dataclasses.replace(batch, X=X, y=y, weights=weights)


def _aligned(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Return an array that JAX takes without a copy."""
    size = shape[0] * shape[1] * dtype.itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def _notes(found: Survey, design: Design, source: dict[str, Any]) -> Iterator[str]:
    yield from told_levels(design)
    alike = [
        f"{name} {one_line(other)} as {one_line(level)}"
        for name, tally in found.tallies.items()
        for other, level in tally.alike.items()
        if name != design.target or level in design.classes
    ]
    if alike:
        yield f"Of one value, and so one level: {listed(alike)}."
    if source["missing"]:
        counts = [f"{name} in {counted(n, 'row')}" for name, n in source["missing"].items()]
        how = f"the {source['impute']}, or the base level"
        yield f"Missing values imputed by {how}: {listed(counts)}."
    counting = [
        name
        for name, tally in found.tallies.items()
        if tally.counting and tally.moments.variance > 0 and found.rows > 2
    ]
    if counting:
        yield (
            f"Counting the rows, and so perhaps no feature but a name: {listed(counting)}; "
            f"--exclude leaves it out."
        )
    constant = [
        name
        for name, tally in found.tallies.items()
        if name != design.target
        and (len(tally.levels) == 1 if tally.levels is not None else tally.moments.variance == 0)
    ]
    if constant:
        yield f"Constant, and so of no effect: {listed(constant)}."
    weights = np.array(source["class_weights"])
    shares = weights / weights.sum()
    if shares.min() < _RARE / len(shares):
        rare, frequent = design.classes[shares.argmin()], design.classes[shares.argmax()]
        yield (
            f"Classes are out of balance: {100 * shares.min():.2g} % of the examples are {rare}, "
            f"and to always say {frequent} is right for {100 * shares.max():.3g} %: judge by the "
            f"log loss, not by the accuracy."
        )


def shown(chunks: Iterable[Chunk], words: str) -> Iterator[Chunk]:
    """Yield chunks, under a bar on a terminal; the bar vanishes in the end."""
    with bar(words) as advance:
        for chunk in chunks:
            yield chunk
            advance(chunk.done)


@contextlib.contextmanager
def bar(words: str) -> Iterator[Callable[[float], None]]:
    """Yield what to tell the share that is done: a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    rich = require("rich.progress", "cli")
    console = require("rich.console", "cli").Console(stderr=True)
    with rich.Progress(console=console, transient=True) as progress:
        task = progress.add_task(words, total=1.0)
        yield lambda done: progress.update(task, completed=done)
