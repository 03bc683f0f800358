"""`jaxlr inspect`: what a model holds: coefficients with intervals, fit quality, training."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from jaxlr.base.extras import require
from jaxlr.cli.refusal import Refusal
from jaxlr.door.telling import told_fills, told_levels
from jaxlr.files.model_file import Model, load_model
from jaxlr.files.saving import plain
from jaxlr.tables import counted
from jaxlr.tables.table import one_line

_INTERCEPT = "(intercept)"


def read(path: Path) -> Model:
    """Return a model, or refuse the file."""
    try:
        return load_model(path)
    except FileNotFoundError:
        raise Refusal(f"{path}: there is no such file.") from None
    except (ValueError, OSError) as error:
        why = getattr(error, "strerror", None)
        raise Refusal(f"{path} cannot be read: {why}." if why else str(error)) from None


def coefficients(model: Model, level: float) -> list[dict[str, Any]]:
    """Return a row for the intercept and for each feature; of a softmax for each class as well.

    Of a softmax they are those about their mean over the classes.

    Args:
        model: the model.
        level: of the intervals, such as 0.95.

    Returns:
        Rows of `feature`, `class` (whose odds they are of), `standardised`, and in the user's
        units `coefficient`, `standard_error`, `interval`, `odds_ratio` and
        `odds_ratio_interval`; None for what is not known.

    >>> from jaxlr.files.model_file import make_model
    >>> from jaxlr.model.batch import Params
    >>> model = make_model(Params(np.ones(1), np.zeros(())), mean=[3.0], scale=[2.0])
    >>> [(row["feature"], row["coefficient"]) for row in coefficients(model, 0.95)]
    [('(intercept)', -1.5), ('x1', 0.5)]
    """
    (w, b), mean, scale, _, _, errors = model
    n, K = len(w), 1 if w.ndim == 1 else w.shape[1]
    w, b = np.asarray(w, float).reshape(n, K), np.asarray(b, float).reshape(K)
    if K > 1:
        w, b = w - w.mean(axis=1, keepdims=True), b - b.mean()
    own = np.vstack([b, w])
    rows, classes = [], class_names(model)
    with np.errstate(over="ignore", invalid="ignore"):  # the scale may be 1e-320, or the level 1
        raw = np.vstack([b - (mean / scale) @ w, w / scale[:, None]])
        sure = np.full_like(raw, np.nan)
        if errors is not None:
            each = np.reshape(errors.w, (n, K)) / scale[:, None]
            sure = np.vstack([np.reshape(errors.raw_b, K), each])
        raw = np.where(np.isfinite(raw), raw, np.nan)
        reach = NormalDist().inv_cdf((1 + level) / 2) * sure
        limits = np.stack([raw - reach, raw + reach], axis=-1)
        for j, feature in enumerate([_INTERCEPT, *feature_names(model)]):
            for k in range(K):
                row = {
                    "standardised": own[j, k],
                    "coefficient": raw[j, k],
                    "standard_error": sure[j, k],
                    "interval": limits[j, k],
                    "odds_ratio": np.exp(raw[j, k]),
                    "odds_ratio_interval": np.exp(limits[j, k]),
                }
                told = {name: plain(value) for name, value in row.items()}
                rows.append({"feature": feature, "class": classes[k if K > 1 else 1], **told})
    return rows


def feature_names(model: Model) -> list[str]:
    """Return the features' names, or x1, x2, … where the model has none."""
    return model.metadata["feature_names"] or [f"x{j + 1}" for j in range(len(model.mean))]


def class_names(model: Model) -> list[str]:
    """Return the classes' names, or their numbers where the model has none."""
    return model.metadata["class_names"] or [str(k) for k in range(model.metadata["n_classes"])]


def content(model: Model, level: float) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {**model.metadata, "level": level, "coefficients": coefficients(model, level)}


def show(model: Model, level: float, notes: Sequence[str] = ()) -> None:
    """Print the coefficients, how good the fit is, how it was made, and notes."""
    console = require("rich.console", "cli").Console(highlight=False, markup=False)
    # A narrower terminal breaks the lines itself, and no number is cut short.
    console.width = max(80, console.width)
    console.print(_table(model, level), "", *_closing(model, level), *notes, sep="\n")


def made_of(model: Model) -> list[str]:
    """Return how features are made of columns, in sentences."""
    design = model.design
    return [] if design is None else [*told_levels(design), told_fills(design)]


def _table(model: Model, level: float) -> Any:
    table = require("rich.table", "cli").Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    softmax = model.params.w.ndim == 2
    standardised = (model.scale != 1).any()
    table.add_column("feature", overflow="fold")
    if softmax:
        table.add_column("class", overflow="fold")
    heads = ["standardised"] * bool(standardised) + ["per unit", f"{100 * level:g} % interval"]
    for head in [*heads, "odds ratio"]:
        table.add_column(head, justify="right", no_wrap=True)
    before = None
    for row in coefficients(model, level):
        name, cells = row["feature"], [_number(row["coefficient"]), _interval(row["interval"])]
        if standardised:
            cells.insert(0, _number(row["standardised"]))
        if softmax:
            cells.insert(0, one_line(row["class"]))
        ratio = "" if name == _INTERCEPT else _ratio(row["odds_ratio"])
        table.add_row("" if name == before else one_line(name), *cells, ratio)
        before = name
    return table


def _number(value: float | None) -> str:
    """Return a number in three digits.

    >>> _number(0.0012345), _number(1234.5), _number(None)
    ('0.00123', '1.23e+03', '–')
    """
    return "–" if value is None else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    """Return a ratio in three digits; near 1 in as many as show how it differs.

    >>> _ratio(2.3456), _ratio(0.99766), _ratio(1.0000103), _ratio(1.0)
    ('2.35', '0.9977', '1.000010', '1')
    """
    step = 1.0 if value is None else abs(value - 1)
    if not 1e-8 < step < 0.01:
        return _number(value)
    return f"{value:.{1 - math.floor(math.log10(step))}f}"


def _interval(limits: list[float | None]) -> str:
    low, high = map(_number, limits)
    return f"{low} … {high}" if low != "–" and high != "–" else "–"


def _closing(model: Model, level: float) -> list[str]:
    found, data, training = (model.metadata[name] for name in ("objective", "data", "training"))
    classes, l2 = class_names(model), found.get("l2")
    if len(classes) == 2:
        lines = [f"Coefficients are of the log odds of {classes[1]} against {classes[0]}."]
    else:
        lines = ["Coefficients are of a class's log odds against the (geometric) mean of all."]
    if (model.scale != 1).any():
        lines[0] += " standardised: per standard deviation of the feature."
    lines.append(_about_intervals(model, level, l2))
    if data:
        lines.append(_fit_quality(data))
    if found:
        lines.append(
            f"Objective {_or_unknown(found['loss'], '.6f')}, l2 = {_or_unknown(l2, '.3g')}, "
            f"gradient {_or_unknown(found['gradient_norm'], '.1e')}, gap "
            f"{_or_unknown(found['suboptimality'], '.1e')}, {found['status'].replace('_', ' ')}."
        )
    where = [f"jaxlr {model.metadata['jaxlr_version']}"]
    if "dataset" in training:
        where.append(f"from {training['dataset']}")
    if "file" in data:
        size = f"{counted(data['rows'], 'row')}, {counted(data['columns'], 'column')}"
        where.append(f"({size}, SHA-256 {data['sha256'][:12]}…)")
    if "folds" in training:
        where.append(f"with l2 chosen by {training['folds']}-fold cross-validation")
    return [*lines, f"Made by {' '.join(where)}."]


def _or_unknown(value: float | None, form: str) -> str:
    """Return a number in a format; a fit that failed may have none that is finite."""
    return "unknown" if value is None else format(value, form)


def _about_intervals(model: Model, level: float, l2: float | None) -> str:
    if model.errors is None:
        return "There are no intervals: the model file has no standard errors."
    said = f"The {100 * level:g} % intervals are normal, from the inverse Hessian at the fit"
    if l2 == 0:
        return f"{said} (Wald's)."
    return (
        f"{said}, with the penalty taken as given: it pulls coefficients towards zero, so that the "
        "intervals are approximate, and no confidence intervals of the unpenalised model."
    )


def _fit_quality(data: dict[str, Any]) -> str:
    auc = f", ROC AUC {data['roc_auc']:.3f}" if data.get("roc_auc") is not None else ""
    if (some := data.get("roc_auc_examples", data["m_examples"])) < data["m_examples"]:
        auc += f" (of {some} of them)"
    return (
        f"On the {data['m_examples']} examples it was fitted to: log loss "
        f"{_or_unknown(data['log_loss'], '.4f')} ({data['null_log_loss']:.4f} without features), "
        f"accuracy {_or_unknown(data['accuracy'], '.3f')} ({data['null_accuracy']:.3f}){auc}."
    )
