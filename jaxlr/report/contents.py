"""What a report says of a sweep, section by section."""

from __future__ import annotations

import math
import os
import platform
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlr import plots
from jaxlr.base.atomic import write_atomically
from jaxlr.base.pytrees import LazyWeights
from jaxlr.files.data_set import Data
from jaxlr.model.solution import Solution, Status, status_words
from jaxlr.plots.style import COLORS
from jaxlr.report.markup import Row, document, figure, paragraph, table, text
from jaxlr.studies.sweep import CrossValidation
from jaxlr.version import __version__

_ROWS = 100  # of a table of coefficients
_RESAMPLES, _RESAMPLED = 200, 1_000_000  # for bands, where no more logits than this are resampled
_UNBALANCED = 3  # the largest class has so many times the examples of the smallest


class Sweep(NamedTuple):
    """What a sweep found; its arrays are NumPy's."""

    data: Data
    seed: int  # of the draw of folds
    fold_of: np.ndarray  # the fold number of each example
    result: CrossValidation
    path: Solution  # the fits to all examples, a lane a penalty
    seconds: float  # compiling included


def write(path: str | os.PathLike, found: Sweep, command: str) -> None:
    """Write the page to a file: all of it, or nothing.

    Args:
        path: of the file; one that is there already is replaced.
        found: as for `page`.
        command: as for `page`.

    Raises:
        WriteError: the file cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    content = page(found, command, time.strftime("%Y-%m-%d %H:%M %Z"))
    with write_atomically(path) as file:
        file.write(content.encode())


def page(found: Sweep, command: str, written: str = "") -> str:
    """Return the page: data, table, pictures, chosen model, how to reproduce.

    Args:
        found: what `jaxlr sweep` found.
        command: that found it, as it was typed.
        written: when, for the reader.

    Returns:
        HTML; the same for the same arguments.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    sections = {
        "Data": _data(found),
        "Penalties": _penalties(found),
        "Pictures": _pictures(found),
        "Chosen model": _model(found),
        "How to reproduce": _reproduce(found, command, written),
    }
    return document(f"{found.data.name}: a sweep of penalties", _lead(found), sections)


def _lead(found: Sweep) -> str:
    """Return what was chosen, and a sentence for each way in which fits failed."""
    result, best = found.result, int(found.result.best)
    loss, accuracy = (plots.mean_and_error(score) for score in result.scores)
    penalties, folds = result.solutions.status.shape
    chosen = (
        f"The best of {penalties} penalties is l2 = {result.penalties.l2[best]:.3g}: on the "
        f"held-out examples of {folds} folds it has a log loss of {_spread(loss, best, 4)} and an "
        f"accuracy of {_spread(accuracy, best, 3)} (mean ± standard error over the folds)."
    )
    if best < 0:
        chosen = "None was chosen: no penalty has a finite log loss on the held-out examples."
    status = np.column_stack([result.solutions.status, found.path.status])
    codes, counts = np.unique(status[status > Status.PRECISION_REACHED], return_counts=True)
    failed = "".join(
        paragraph(f"{n} of {status.size} fits failed: {Status(int(code)).message}.", "alarm")
        for code, n in zip(codes, counts, strict=True)
    )
    return paragraph(chosen, "lead") + failed


def _spread(mean_and_error: tuple[np.ndarray, np.ndarray], i: int, digits: int) -> str:
    mean, error = mean_and_error
    return f"{mean[i]:.{digits}f} ± {error[i]:.{digits}f}"


# --- Data, penalties ----------------------------------------------------------------------------


def _data(found: Sweep) -> str:
    batch, names = found.data.batch, found.data.class_names
    y, weights = _probabilities(found), _weights(found)
    mass = y.sum(axis=1) if weights is None else y @ np.asarray(weights, np.float64)
    share = mass / mass.sum()
    rows = [
        f"<tr><td class=name>{text(name)}</td><td>{count:,.0f}</td><td>{part:.1%}</td>"
        f"<td class=bars><span class=bar style='width: {width:.2f}rem'></span></td></tr>"
        for name, count, part, width in zip(
            names, y.sum(axis=1), share, 4 * share / share.max(), strict=True
        )
    ]
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    summary = (
        f"{batch.m_examples:,} examples × {batch.n_features:,} features, {batch.n_classes} classes."
    )
    if _standardised(found):
        summary += (
            " Every column is standardised by the mean and standard deviation of all examples."
        )
    if weights is not None:
        summary += " The examples have weights, and shares are of the weight."
    yardstick = (
        f"To compare with: whoever always says {names[share.argmax()]!r} is right "
        f"{share.max():.1%} of the time, and the classes' shares alone have a log loss of "
        f"{entropy:.4f}."
    )
    if share.max() > _UNBALANCED * share.min():
        yardstick += (
            f" The classes are unbalanced, {names[share.argmin()]!r} has {share.min():.1%}: "
            "accuracy says little here, log loss and precision–recall say more."
        )
    head = "<tr><th class=name>class</th><th>examples</th><th>share</th><th></th></tr>"
    classes = f"<div class=wide><table>{head}{''.join(rows)}</table></div>"
    # What was read from a file has notes on what was done to its columns.
    notes = "".join(map(paragraph, found.data.notes))
    return paragraph(summary) + classes + paragraph(yardstick) + notes


def _probabilities(found: Sweep) -> np.ndarray:
    """Return the labels as probabilities, `(K, m)`."""
    K, y = found.data.batch.n_classes, np.asarray(found.data.batch.y)
    if y.ndim == 2:
        return y
    return np.stack([1 - y, y]) if K == 2 else np.arange(K)[:, None] == y


def _standardised(found: Sweep) -> bool:
    return found.data.standardised


def _weights(found: Sweep) -> Any:
    weights = found.data.batch.weights
    return weights.select(lambda a: a) if isinstance(weights, LazyWeights) else weights


def _penalties(found: Sweep) -> str:
    penalties, fits, scores, best, best_one_se, *_ = found.result
    loss, accuracy = (plots.mean_and_error(score) for score in scores)
    rows = []
    for i, l2 in enumerate(penalties.l2):
        marks = [name for name, at in (("best", best), ("1 SE", best_one_se)) if i == int(at)]
        cells = [
            f"{l2:.3g}",
            ", ".join(marks),
            _spread(loss, i, 4),
            _spread(accuracy, i, 3),
            f"{fits.gradient_norm[i].max():.1e}",
            f"{fits.suboptimality[i].max():.1e}",
            ", ".join(status_words(fits.status[i])),
        ]
        rows.append(Row(cells, "best" if "best" in marks else "one-se" if marks else ""))
    head = ["l2", "", "log loss", "accuracy", "gradient", "gap", "status"]
    legend = (
        "best: the least mean log loss on held-out examples. 1 SE: the strongest penalty within "
        "one standard error of it. gradient: the norm of the objective's gradient where the fit "
        "ended; gap: how far the objective is above its optimum, at most; of both the worst of "
        "the folds."
    )
    return table(head, rows, names=0) + paragraph(legend) + _edge(found)


def _edge(found: Sweep) -> str:
    best, count = int(found.result.best), len(found.result.penalties.l2)
    if best not in (0, count - 1):
        return ""
    end = "weakest: a weaker one" if best == 0 else "strongest: a stronger one"
    return paragraph(f"The best penalty tried is the {end} may be better still.")


# --- Pictures -----------------------------------------------------------------------------------


def _pictures(found: Sweep) -> str:
    data, result = found.data, found.result
    l2 = result.penalties.l2
    unit = "standard deviation" if _standardised(found) else "unit"
    path = plots.coefficient_path(l2, found.path, data.feature_names, unit=unit)
    if result.best >= 0:
        path.axvline(float(l2[int(result.best)]), color=COLORS[1], lw=0.8, ls="--", zorder=0)
    shown = [
        figure(
            plots.validation_curve(result),
            "Log loss on held-out examples",
            "Mean over the folds, and a standard error to each side, along the penalty.",
        ),
        figure(
            path,
            "Coefficients",
            "Of each feature, along the penalty. Dashed: the best penalty.",
        ),
    ]
    Z = _out_of_fold(found)
    if not np.isfinite(Z).all():
        note = "Not all fits are finite: there are no pictures of predictions."
        return f"<div class=pictures>{''.join(shown)}</div>{paragraph(note)}"
    y, weights, names = np.asarray(data.batch.y), _weights(found), data.class_names
    few = Z.size <= _RESAMPLED
    bands = {"key": jax.random.key(found.seed) if few else None, "num_resamples": _RESAMPLES}
    each = "" if Z.ndim == 1 else " Each class against the rest."
    band = " The bands hold 95% of the curves of resampled examples." if few else ""
    shown += [
        figure(
            plots.roc_curve(Z, y, weights, class_names=names, **bands),
            "ROC curve",
            f"AUC is the area under it.{each}{band}",
        ),
        figure(
            plots.precision_recall_curve(Z, y, weights, class_names=names, **bands),
            "Precision and recall",
            f"AP is the area under the steps.{each}{band}",
        ),
        figure(
            plots.reliability_diagram(Z, y, weights, class_names=names),
            "Reliability",
            "On the diagonal probabilities are frequencies; the calibration error is the mean "
            "distance from it. Lines up and down are 95% intervals.",
        ),
    ]
    note = (
        "The last three show each example as the fit predicts it that did not see it, with the "
        "best penalty. That penalty was chosen on the same examples, so they are slightly "
        "optimistic, as is the log loss above."
    )
    return f"<div class=pictures>{''.join(shown)}</div>{paragraph(note)}"


def _out_of_fold(found: Sweep) -> np.ndarray:
    """Return the logits of each example under the best penalty's fit outside its fold."""
    batch, fold_of = found.data.batch, np.asarray(found.fold_of)
    w, b = (np.asarray(a)[int(found.result.best)] for a in found.result.solutions.params)
    X = np.asarray(batch.X)
    Z = np.empty((*b.shape[1:], X.shape[1]), X.dtype)
    for fold in range(len(w)):
        held_out = fold_of == fold
        Z[..., held_out] = np.tensordot(w[fold], X[:, held_out], (0, 0)) + b[fold][..., None]
    return Z if batch.offset is None else Z + np.asarray(batch.offset)


# --- The model ----------------------------------------------------------------------------------


def _model(found: Sweep) -> str:
    data, batch, best = found.data, found.data.batch, int(found.result.best)
    if best < 0:
        return paragraph("There is none.")
    fit, l2 = jax.tree.map(lambda leaf: leaf[best], found.path), found.result.penalties.l2[best]
    gap = float(fit.suboptimality)
    bound = (
        f"It is proven to be at most {gap:.1e} above its optimum"
        if math.isfinite(gap)
        else "No bound on its distance to the optimum is known"
    )
    C = 1 / (float(l2) * (batch.m_examples if _weights(found) is None else _weights(found).sum()))
    certificate = (
        f"Fitted to all {batch.m_examples:,} examples with l2 = {l2:.3g} (scikit-learn's C = "
        f"{C:.3g}). The objective, mean log loss plus penalty, is {fit.loss:.6f}. {bound}, and "
        f"estimated to be {fit.estimate:.1e} above it; the gradient's norm is "
        f"{fit.gradient_norm:.1e} after {int(fit.num_passes)} passes over the data. The fit ended "
        f"because {Status(int(fit.status)).message}."
    )
    of = f"of {data.class_names[1]}, " if batch.n_classes == 2 else ""
    meaning = (
        f"Coefficients are changes of the log-odds {of}per standard deviation of the feature, and "
        "per unit that it came in."
        if _standardised(found)
        else f"Coefficients are changes of the log-odds {of}per unit of the feature; the columns "
        "kept their scale, and were centred."
    )
    return paragraph(certificate) + paragraph(meaning) + _coefficients(found)


def _coefficients(found: Sweep) -> str:
    """Return the table of the largest coefficients, after the intercept."""
    data, best = found.data, int(found.result.best)
    w, b = (np.asarray(a, np.float64)[best] for a in found.path.params)
    softmax = w.ndim == 2
    w, b = w.reshape(len(w), -1), np.atleast_1d(b)
    scale = np.asarray(data.scale, np.float64)[:, None]
    own = w / scale
    b_own = b - (np.asarray(data.mean, np.float64)[:, None] * own).sum(axis=0)
    kinds = [[name] for name in data.class_names] if softmax else [[]]
    units = ["per standard deviation"] * _standardised(found)

    def row(name: str, k: int, standard: float, own: float, kind: str = "") -> Row:
        first = [f"{standard:.4g}"] * len(units)
        return Row([name, *kinds[k], *first, f"{own:.6g}"], kind)

    lines = [row("(intercept)", k, b[k], b_own[k], "one-se") for k in range(len(b))]
    order = np.argsort(-np.abs(w), axis=None, kind="stable")
    for j, k in zip(*np.unravel_index(order[:_ROWS], w.shape), strict=True):
        lines.append(row(data.feature_names[j], int(k), w[j, k], own[j, k]))
    head = ["feature", *["class"] * softmax, *units, "per unit"]
    rows = table(head, lines, names=2 if softmax else 1)
    if len(order) <= _ROWS:
        return rows
    return rows + paragraph(
        f"These are the {_ROWS} largest of {len(order):,} coefficients; the others are within "
        f"±{np.abs(w).ravel()[order[_ROWS]]:.2g}{' per standard deviation' if units else ''}. The "
        "option --output writes all of them."
    )


def _reproduce(found: Sweep, command: str, written: str) -> str:
    facts = {
        "jaxlr": __version__,
        "JAX": f"{jax.__version__}, on {jax.default_backend()}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "precision": found.data.batch.X.dtype,
        "seed of the folds": found.seed,
        "time": f"{found.seconds:.1f} s, compiling included",
        "written": written,
        "SHA-256 of the data": found.data.source.get("sha256", ""),
    }
    rows = [Row(fact) for fact in facts.items() if fact[1] != ""]
    return f"<pre>{text(command)}</pre>" + table(["", ""], rows, names=2)
