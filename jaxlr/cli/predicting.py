"""`jaxlr predict`: classes and probabilities of the rows of a file, a chunk at a time."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxlr.base.atomic import write_atomically
from jaxlr.base.extras import require
from jaxlr.cli.data import bar, check_finite, names_of
from jaxlr.cli.inspection import class_names
from jaxlr.cli.refusal import Refusal
from jaxlr.door.design import Design, MissingValue, encode, labels, told_gaps
from jaxlr.door.moments import standardised
from jaxlr.door.survey import weights_of
from jaxlr.files.model_file import Model
from jaxlr.files.saving import plain
from jaxlr.tables import Chunk, Table, TableError, counted, listed, open_table, rows_of_chunk
from jaxlr.tables.arrow import from_numpy, from_texts
from jaxlr.tables.table import one_line
from jaxlr.tables.values import levels, numbers

ENDINGS = (".csv", ".parquet", ".feather")
UNSEEN = ("refuse", "base")
_SHOWN = 12  # classes that the model does not have


class Options(NamedTuple):
    """The options of `jaxlr predict`."""

    keep: tuple[str, ...] = ()
    unseen: str = "refuse"  # or "base"
    missing: tuple[str, ...] = ()
    delimiter: str | None = None


class Predictions(NamedTuple):
    """What was predicted.

    Args:
        rows: how many.
        counts: how often each class was the most likely.
        imputed: how many missing values were filled in, by column.
        unseen: how many levels were counted as the base although they are others, by column.
        target: the column of labels, where the file has it.
        labelled: how many rows have a label that the model knows.
        unknown: how many have a label that it does not know.
        unknown_classes: the first of these labels.
        weights: the column that weighted log loss and accuracy, or None.
        log_loss, accuracy: on the rows with a label, or None.
    """

    rows: int
    counts: dict[str, int]
    imputed: dict[str, int]
    unseen: dict[str, int]
    target: str | None
    labelled: int
    unknown: int
    unknown_classes: list[str]
    weights: str | None
    log_loss: float | None
    accuracy: float | None


def check_files(data: Path, output: Path | None, as_json: bool) -> None:
    """Refuse what could not be written in the end."""
    if output is None:
        if as_json:
            raise Refusal("--json: say with --output where the predictions go.")
        if sys.stdout is None:
            raise Refusal("standard output is closed: say with --output where to write.")
        return
    if output.suffix.lower() not in ENDINGS:
        raise Refusal(f"{output} is a name that does not end in {' or '.join(ENDINGS)}.")
    if not output.parent.is_dir():
        raise Refusal(f"{output} cannot be written: there is no folder {output.parent}.")
    if output.exists() and data.exists() and output.samefile(data):
        raise Refusal(f"--output {output}: that is the file of the rows to predict.")
    with write_atomically(output, replace=False):
        pass


def content(found: Predictions) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {name: plain(value) for name, value in found._asdict().items()}


def told(found: Predictions, output: Path | None) -> str:
    """Return what was predicted, in sentences."""
    counts = ", ".join(f"{name} {count}" for name, count in found.counts.items())
    where = "" if output is None else f", written to {output}"
    lines = [f"{counted(found.rows, 'row')}{where}; predicted: {counts}."]
    for what, columns in (
        ("Missing values imputed", found.imputed),
        ("Levels not seen, counted as the base", found.unseen),
    ):
        if columns:
            each = [
                f"{name} {count}{' (every row)' if count == found.rows else ''}"
                for name, count in columns.items()
            ]
            lines.append(f"{what}: {listed(each)}.")
    if found.unknown:
        have = "has" if found.unknown == 1 else "have"
        more = ", …" if len(found.unknown_classes) > _SHOWN else ""
        lines.append(
            f"{counted(found.unknown, 'row')} {have} a class that the model does not have: "
            f"{', '.join(map(one_line, found.unknown_classes[:_SHOWN]))}{more}."
        )
    if found.log_loss is not None:
        how = "" if found.weights is None else f", weighted by {found.weights}"
        loss = format(found.log_loss, ".4f" if found.log_loss < 1e6 else ".3g")
        lines.append(
            f"The {counted(found.labelled, 'row')} whose class is known{how}: "
            f"log loss {loss}, accuracy {found.accuracy:.3f}."
        )
    elif found.target is not None and not found.labelled:
        lines.append(
            f"Column {found.target} holds none of the model's classes ({listed(list(found.counts))}"
            f"), so that there is no log loss."
        )
    return "\n".join(lines)


def run(model: Model, path: Path, output: Path | None, options: Options) -> Predictions:
    """Predict the rows of a file, and write them to another, or to standard output as CSV.

    Raises:
        TableError: a row cannot be predicted; then nothing is written.
    """
    design = model.design
    if options.unseen not in UNSEEN:
        raise Refusal(f"--unseen {options.unseen}: {' or '.join(UNSEEN)} is due.")
    if design is None:
        raise Refusal("the model was not fitted to a file, and does not say what its columns are.")
    words = (*design.missing, *options.missing)
    table = open_table(path, delimiter=options.delimiter, missing=words)
    absent = [name for name in design.names if name not in table.names]
    named = [name for name in design.names if not name.isdigit()]
    if table.target is not None and named:
        raise Refusal(
            f"{path} has features by number only, and the model has columns with names: "
            f"{listed(named)}."
        )
    if absent and table.target is None:  # in LIBSVM text, what is absent is zero
        raise Refusal(f"{path} lacks columns of the model: {', '.join(absent)}.")
    for name in design.names:
        if name in table.others:
            raise Refusal(f"column {name} of {path} holds {table.others[name]}, not what it did.")
    keep = names_of(options.keep, table, "--keep")
    ours = {"prediction", *(f"probability_{name}" for name in class_names(model))}
    for name in ours.intersection(keep):
        raise Refusal(f"--keep {name}: a column of the predictions has that name.")
    target = [design.target] if design.target in table.names else []
    weights = design.weights if target else None
    weights = weights if weights and weights in table.names else None
    columns = [*design.names, *target, *keep]
    columns = list(dict.fromkeys([*columns, weights] if weights else columns))
    rows = rows_of_chunk(len(design.features) + len(columns))
    names = class_names(model)
    total, labelled, weight, loss, right = 0, 0, 0.0, 0.0, 0.0
    strange, strangers = 0, dict[str, None]()
    counts, imputed, unseen = np.zeros(len(names), int), Counter(), Counter()
    try:
        with _sink(output) as write, bar(f"Predicting {path.name}") as advance:
            for chunk in table.chunks(columns, rows):
                features = encode(design, chunk, table, options.unseen)
                imputed.update(features.imputed)
                unseen.update(features.unseen)
                P = _log_probabilities(model, features.X, design, chunk, table)
                number = P.argmax(axis=0)
                write(_record(P, number, chunk, names, keep, design, table))
                total, counts = total + chunk.rows, counts + np.bincount(number, None, len(names))
                if target:
                    y = labels(design, chunk, table)
                    others = _others(y, chunk.columns[design.target], table)
                    strange += len(others)
                    strangers = dict.fromkeys([*strangers, *dict.fromkeys(others)][: _SHOWN + 1])
                    c = weights_of(chunk, table, weights)
                    labelled, known = labelled + int((y >= 0).sum()), (y >= 0) & (c > 0)
                    own = float(c[known].sum())
                    share = own / (weight + own) if own else 0.0
                    weight += own
                    if known.any():
                        c = c[known] / own
                        loss += (-float(c @ P[y[known], known]) - loss) * share
                        right += (float(c @ (number[known] == y[known])) - right) * share
                advance(chunk.done)
            if total == 0:
                raise TableError(f"{path} has no rows.")
    except MissingValue:
        raise TableError(
            f"{_all_gaps(design, table, columns, rows)} The model was fitted without --impute, and "
            f"has nothing that stands in for them."
        ) from None
    return Predictions(
        total,
        dict(zip(names, counts.tolist(), strict=True)),
        dict(imputed),
        dict(unseen),
        next(iter(target), None),
        labelled,
        strange,
        list(strangers),
        weights,
        loss if weight else None,
        right if weight else None,
    )


def _others(y: np.ndarray, column: Any, table: Table) -> list[str]:
    """Return the labels that are no classes of the model, nor missing."""
    places, found = levels(column, table.missing)
    return [found[k] for k in places[(y < 0) & (places >= 0)].tolist()]


def _log_probabilities(
    model: Model, X: np.ndarray, design: Design, chunk: Chunk, table: Table
) -> np.ndarray:
    """Return the log probabilities of a chunk, `(K, rows)` float64; refuse what has none.

    In float64, and without a program of XLA's: a row far beyond those of the fit has a logit beyond
    float32, and a probability of 0 or 1 all the same.
    """
    Z = standardised(X, model.mean, model.scale)
    check_finite(Z, X, design, chunk, table)
    w, b = (np.asarray(a, float) for a in model.params)
    with np.errstate(over="ignore", invalid="ignore"):
        logits = w.T @ Z + b[..., None]
    lost = ~np.isfinite(np.atleast_2d(logits)).all(axis=0)
    if lost.any():
        i = int(lost.argmax())
        j = int(np.abs(Z[:, i]).argmax())
        raise TableError(
            f"the logit of {table.place(chunk.start + i)} of {table.path} is not finite: column "
            f"{design.features[j]} is {X[j, i]:.6g}, far beyond those of the fit: correct it."
        )
    if logits.ndim == 1:
        logits = np.stack([0 * logits, logits])
    with np.errstate(over="ignore"):
        below = logits - logits.max(axis=0)
        return below - np.log(np.exp(below).sum(axis=0))


def _record(
    P: np.ndarray,
    number: np.ndarray,
    chunk: Chunk,
    names: list[str],
    keep: list[str],
    design: Design,
    table: Table,
) -> Any:
    """Return a record batch: the columns that are kept, the class, and its probabilities."""
    pa = require("pyarrow", "cli")
    columns = {name: chunk.columns[name] for name in keep}
    try:
        classes = from_numpy(np.array(list(map(int, names)), np.int64))
    except (ValueError, OverflowError):  # words, or integers beyond 64 bits
        classes = from_texts(names)
    columns["prediction"] = classes.take(from_numpy(number))
    dtype = jnp.zeros(()).dtype
    shown = range(1, 2) if len(names) == 2 else range(len(names))
    for k in shown:
        columns[f"probability_{names[k]}"] = from_numpy(np.exp(P[k]).astype(dtype))
    return pa.record_batch(columns)


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[Callable[[Any], None]]:
    """Yield what writes record batches, by the suffix of the file; nothing if all fails."""
    if output is None:
        with _batches(sys.stdout.buffer, ".csv") as write:
            yield write
        return
    with write_atomically(output) as file, _batches(file, output.suffix.lower()) as write:
        yield write


@contextlib.contextmanager
def _batches(file: IO[bytes], suffix: str) -> Iterator[Callable[[Any], None]]:
    module = {".csv": "csv", ".parquet": "parquet", ".feather": "ipc"}[suffix]
    arrow = require(f"pyarrow.{module}", "cli")
    make = {"csv": "CSVWriter", "parquet": "ParquetWriter", "ipc": "new_file"}[module]
    writer = None

    def write(batch: Any) -> None:
        nonlocal writer
        writer = writer or getattr(arrow, make)(file, batch.schema)
        writer.write_batch(batch)

    yield write
    if writer is not None:
        writer.close()


def _all_gaps(design: Design, table: Table, columns: list[str], rows: int) -> str:
    """Return how many values are missing in which columns of the whole file, in a sentence."""
    gaps, total = dict.fromkeys(design.names, 0), 0
    for chunk in table.chunks(columns, rows):
        total += chunk.rows
        for column in design.columns:
            values = chunk.columns[column.name]
            found = numbers(values, table.missing) if column.levels is None else None
            missing = np.isnan(found) if found is not None else levels(values, table.missing)[0] < 0
            gaps[column.name] += int(missing.sum())
    return told_gaps({name: count for name, count in gaps.items() if count}, total, table)
