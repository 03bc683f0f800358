"""`jaxlr sweep`: choose the penalty by cross-validation, tell it, write it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxlr
from jaxlr import plots
from jaxlr.base.atomic import write_atomically
from jaxlr.base.extras import require
from jaxlr.cli.memory import give_back
from jaxlr.cli.refusal import Refusal
from jaxlr.cli.trained import trained
from jaxlr.cli.work import announced
from jaxlr.files.data_set import Data
from jaxlr.files.model_file import Model, write_model
from jaxlr.files.saving import objective, plain
from jaxlr.model.padding import in_room
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import Solution, Status, status_words
from jaxlr.report import Sweep
from jaxlr.studies.sweep import cross_validate_and_fit
from jaxlr.tables import counted
from jaxlr.tables.table import one_line
from jaxlr.version import __version__

_LEGEND = (
    "best: the least mean log loss. 1 SE: the strongest penalty within one standard error of it. "
    "±: standard error over the folds. gradient: its norm; gap: how far the objective is above "
    "its optimum, at most; of both the worst of the folds."
)


def check_files(plot: Path | None, output: Path | None, report: Path | None = None) -> None:
    """Refuse what could not be written in the end; import what will be needed then."""
    known = (plot, (".png", ".svg", ".pdf")), (output, (".npz",)), (report, (".html",))
    for path, endings in known:
        if path is not None:
            if path.suffix.lower() not in endings:
                raise Refusal(f"{path} is a name that does not end in {' or '.join(endings)}.")
            if not path.parent.is_dir():
                raise Refusal(f"{path} cannot be written: there is no folder {path.parent}.")
            with write_atomically(path, replace=False):
                pass
    require("rich.console", "cli")
    if plot is not None or report is not None:
        require("matplotlib.figure", "plots")


def _penalties(count: int, low: float, high: float, dtype: Any) -> np.ndarray:
    """Return penalties evenly spaced in the logarithm, or refuse the range.

    >>> _penalties(3, 0.25, 1.0, np.float32).tolist()
    [0.25, 0.5, 1.0]
    """
    limits = np.finfo(dtype)
    if limits.tiny <= float(low) < float(high) <= float(limits.max):
        l2 = np.geomspace(low, high, count).astype(dtype)
        if (np.diff(l2) > 0).all():
            return l2
    raise Refusal(
        f"--l2-min {low:g} --l2-max {high:g}: they must be positive and finite, the first below "
        f"the second, with {count} different numbers of {limits.dtype} between them."
    )


def check_folds(folds: int, counts: Mapping[str, float]) -> None:
    """Refuse more folds than some class has examples.

    Args:
        folds: how many.
        counts: the number of examples of each class.
    """
    name, count = min(counts.items(), key=lambda item: item[1])
    if folds > count:
        raise Refusal(
            f"--folds {folds}: class {one_line(name)} has {counted(round(count), 'example')}, and "
            f"every fold needs one."
        )


def run(data: Data, penalties: int, l2_min: float, l2_max: float, folds: int, seed: int) -> Sweep:
    """Cross-validate the penalties, and fit each to all examples."""
    batch = data.batch
    l2 = _penalties(penalties, l2_min, l2_max, batch.X.dtype)
    counts = np.bincount(np.asarray(batch.y, int), minlength=batch.n_classes)
    check_folds(folds, dict(zip(data.class_names, counts.tolist(), strict=True)))
    start = time.perf_counter()
    lanes = penalties * (folds + 1)
    with announced(data, lanes, f"{penalties} penalties × {folds} folds and all, {lanes} lanes,"):
        # In a program of its own: operation by operation it would leave 80 MB of small ones.
        draw = jax.jit(jaxlr.stratified_folds, static_argnums=1)
        fold_of = jax.device_get(draw(batch, folds, jax.random.key(seed)))
        give_back()  # what this has freed, before the fits need their own
        roomy = in_room(batch)
        gaps = roomy.m_examples - batch.m_examples  # of weight 0: any fold will do
        folds_of = np.pad(fold_of, (0, gaps))
        result, path = jax.device_get(cross_validate_and_fit(roomy, Penalty(l2), folds_of))
    return Sweep(data, seed, fold_of, result, path, time.perf_counter() - start)


def _chosen(found: Sweep) -> Solution:
    """Return the fit of the best penalty to all examples."""
    return jax.tree.map(lambda leaf: leaf[int(found.result.best)], found.path)


def failure(found: Sweep) -> str | None:
    """Return a sentence about the fits that are no optimum, or None if all are."""
    folds = found.result.solutions.status
    status = np.column_stack([folds, found.path.status])
    failed = np.argwhere(status > Status.PRECISION_REACHED)
    if not len(failed):
        return None
    lane, fold = failed[0]
    on = "all examples" if fold == folds.shape[1] else f"those outside fold {fold}"
    lost = "" if _has_model(found) else " The best one is among them: no model is written."
    return (
        f"{len(failed)} of {status.size} fits failed; the first is l2 = "
        f"{found.result.penalties.l2[lane]:.2e} on {on}: {Status(int(status[lane, fold])).message}."
        f"{lost}"
    )


def _has_model(found: Sweep) -> bool:
    """Whether the best penalty's fit to all examples is an optimum."""
    return int(found.result.best) >= 0 and Status(int(_chosen(found).status)).ok


def show(found: Sweep) -> None:
    """Print the table, what it means, what was run and what was chosen."""
    console = require("rich.console", "cli").Console(highlight=False, markup=False)
    # A narrower terminal breaks the lines itself, and no number is cut short.
    console.width = max(80, console.width)
    legend = _LEGEND
    if found.result.best == found.result.best_one_se:
        legend = f"both: best and 1 SE. {legend}"
    if (found.result.solutions.status == Status.PRECISION_REACHED).any():
        legend += f" precision reached: no nearer can be told in {found.data.batch.X.dtype}."
    console.print(_table(found), "", legend, "", *_closing(found), sep="\n")


def _table(found: Sweep) -> Any:
    """Return the table of the penalties, one a row, at most 80 columns wide."""
    table = require("rich.table", "cli").Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "l2", "log loss", "accuracy", "gradient", "gap"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("status")
    penalties, fits, scores, best, best_one_se, _ = found.result
    loss, accuracy = map(plots.mean_and_error, scores)
    columns = (
        [f"{l2:.2e}" for l2 in penalties.l2],
        [f"{mean:.4f} ± {error:.4f}" for mean, error in zip(*loss, strict=True)],
        [f"{mean:.3f} ± {error:.3f}" for mean, error in zip(*accuracy, strict=True)],
        [f"{worst:.1e}" for worst in fits.gradient_norm.max(axis=1)],
        [f"{worst:.1e}" for worst in fits.suboptimality.max(axis=1)],
        [",\n".join(status_words(status)) for status in fits.status],
    )
    for i, row in enumerate(zip(*columns, strict=True)):
        marks = [word for word, place in (("best", best), ("1 SE", best_one_se)) if i == place]
        style = "bold green" if "best" in marks else "cyan" if marks else None
        mark = "both" if len(marks) == 2 else "".join(marks)  # of the width of one
        table.add_row(mark, *row, style=style)
    return table


def _closing(found: Sweep) -> list[str]:
    """Return what was run and chosen, in sentences."""
    batch, fits, fit = found.data.batch, found.result.solutions, _chosen(found)
    (penalties, folds), best = fits.status.shape, int(found.result.best)
    passes = max(fits.num_passes.max(), found.path.num_passes.max())
    lines = [
        f"{found.data.name}: {batch.m_examples} examples × {batch.n_features} features, "
        f"{batch.n_classes} classes; columns "
        f"{_treated(found.data)}. {folds} folds × {penalties} penalties = {fits.status.size} "
        f"lanes, and {penalties} on all examples; at most {passes} passes each; "
        f"{found.seconds:.1f} s; {batch.X.dtype}.",
        f"Best, fitted to all examples: l2 = {found.result.penalties.l2[best]:.2e}, objective "
        f"{fit.loss:.6f}, gradient {fit.gradient_norm:.1e}, gap {fit.suboptimality:.1e}, "
        f"{status_words(fit.status)[0]}.",
    ]
    if best in (0, penalties - 1):
        end = "weakest, so lower --l2-min" if best == 0 else "strongest, so raise --l2-max"
        lines.append(f"The best penalty tried is the {end}.")
    return [*lines, *found.data.notes]


def _treated(data: Data) -> str:
    if not data.standardised:
        return "centred, of the scale that they came in"
    return "standardised (mean and standard deviation of all examples)"


def content(found: Sweep) -> dict[str, Any]:
    """Return what `--json` prints: lists over P penalties, or P lists over F folds."""
    data, (penalties, fits, scores, best, best_one_se, _) = found.data, found.result
    spread = {name: plots.mean_and_error(score) for name, score in scores._asdict().items()}
    content = {
        "jaxlr_version": __version__,
        **_training(found),
        "notes": list(found.data.notes),
        "m_examples": data.batch.m_examples,
        "n_features": data.batch.n_features,
        "n_classes": data.batch.n_classes,
        "fold_of": found.fold_of,
        "seconds": found.seconds,
        "l2": penalties.l2,
        **scores._asdict(),
        **{f"mean_{name}": mean for name, (mean, _) in spread.items()},
        **{f"standard_error_{name}": error for name, (_, error) in spread.items()},
        "gradient_norm": fits.gradient_norm,
        "suboptimality": fits.suboptimality,
        "estimate": fits.estimate,
        "num_passes": fits.num_passes,
        "status": [[Status(code).name.lower() for code in lane] for lane in fits.status.tolist()],
        "best": int(best),
        "best_one_se": int(best_one_se),
        "model": _objective(found),
    }
    return {name: plain(value) for name, value in content.items()}


def _training(found: Sweep) -> dict[str, Any]:
    return {
        "dataset": found.data.name,
        "standardised": found.data.standardised,
        "folds": found.result.solutions.status.shape[1],
        "seed": found.seed,
        "dtype": str(found.data.batch.X.dtype),
    }


def _objective(found: Sweep) -> dict[str, Any]:
    return objective(_chosen(found), _l2(found))


def _l2(found: Sweep) -> float:
    return float(found.result.penalties.l2[int(found.result.best)])


def model(found: Sweep) -> Model:
    """Return the model of the best penalty, fitted to all examples."""
    return trained(found.data, _chosen(found), _l2(found), _training(found))


def write(found: Sweep, plot: Path | None, output: Path | None) -> None:
    """Write the picture and the model, where they were asked for and there is a model."""
    data, how = found.data, _training(found)
    if plot is not None:
        names, title = data.feature_names, f"{data.name}: {how['folds']}-fold cross-validation"
        unit = "standard deviation" if data.standardised else "unit"
        figure = plots.sweep_figure(found.result, found.path, names, title, unit)
        with write_atomically(plot) as file:
            figure.savefig(file, format=plot.suffix[1:].lower(), dpi=150)
    if output is not None and _has_model(found):
        write_model(output, model(found))
