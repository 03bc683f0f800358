"""Can one Newton step stand for the fit without an example, and does it say when it cannot?

`jaxlr.leave_one_out` estimates the loss of each example under the fit to all others from one
factorisation. Here it is compared with those fits themselves, on real data with standardised
columns, over penalties from strong to so weak that classes which can be parted, or nearly, are.
And its time is compared with that of one fit.

Run `python -m experiments.leave_one_out`. It prints two tables, and saves figures and a picture
under `experiments/results/`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxlr
from experiments import record
from experiments.benchmarks.workloads import correlated
from experiments.hypergradient import timed
from experiments.real_data import sets
from jaxlr.solver.curvature import make_curvature

PENALTIES = np.logspace(0, -6, 13)
TWO = (
    "sklearn/breast_cancer", "statsmodels/anes96", "survival/lung",
    "MASS/biopsy", "MASS/birthwt", "MASS/Boston", "MASS/crabs", "MASS/Pima.tr", "car/Mroz",
)  # fmt: skip
THREE = ("sklearn/iris", "sklearn/wine", "car/Womenlf")


class Curve(NamedTuple):
    """What one data set gives, a row for each penalty: `(P, m)`.

    Args:
        exact: the loss of each example under the fit without it.
        approximate: the same by one Newton step.
        trusted: whether the step says that it is near.
        fitted: the loss of each example under the fit to all, `(P, m)`.
    """

    exact: np.ndarray
    approximate: np.ndarray
    trusted: np.ndarray
    fitted: np.ndarray


def found(names: Iterable[str]) -> list[sets.DataSet]:
    """Return the data sets of these names, in this order."""
    every = itertools.chain(sets.scikit_learns(), sets.statsmodels(), sets.rs())
    by_name = {data.name: data for data in every if data.name in names}
    return [by_name[name] for name in names]


def told(names: Iterable[str]) -> Iterator[sets.DataSet]:
    """Yield the data sets of these names, and print each name when its turn comes."""
    for data in found(names):
        print(data.name, end=" ", flush=True)
        yield data


def standardised(data: sets.DataSet) -> np.ndarray:
    """Return the rows with columns of mean 0 and variance 1, without those that are constant."""
    spread = data.rows.std(axis=0)
    varies = spread > 1e-12 * np.abs(data.rows.mean(axis=0))
    return (data.rows - data.rows.mean(axis=0))[:, varies] / spread[varies]


def padded(data: sets.DataSet, n: int, m: int) -> jaxlr.Batch:
    """Return the data in one shape for all, to share a program.

    The features added are zero, and so are the weights of the examples added: neither changes a
    fit.
    """
    rows = standardised(data)
    X = np.zeros((n, m))
    X[: rows.shape[1], : len(rows)] = rows.T
    y, weights = np.zeros(m, int), np.zeros(m)
    y[: len(rows)], weights[: len(rows)] = data.y, 1
    y = y if data.y.max() > 1 else y.astype(float)
    return jaxlr.Batch(
        jnp.asarray(X), jnp.asarray(y), jnp.asarray(weights), n_classes=int(data.y.max()) + 1
    )


def losses(params: jaxlr.Params, batch: jaxlr.Batch) -> Any:
    """Return the loss of each example, `(m,)`."""
    Z = jaxlr.logits(params, batch.X)
    if batch.n_classes == 2:
        return jax.nn.softplus(Z) - batch.y * Z
    return jax.nn.logsumexp(Z, axis=0) - jnp.take_along_axis(Z, batch.y[None], axis=0)[0]


@jax.jit
def _refit(batch: jaxlr.Batch, penalty: jaxlr.Penalty, start: Any, left_out: Any) -> Any:
    """Return, of a chunk of examples, the loss of each under the fit without it, and statuses."""
    params, curvature = start

    def without(i):
        left = dataclasses.replace(batch, weights=batch.weights.at[i].set(0))
        solution = jaxlr.fit(left, penalty, init=params, curvature=curvature)
        return losses(solution.params, batch)[i], solution.status

    return jax.vmap(without)(left_out)


def refits(batch: jaxlr.Batch, penalty: jaxlr.Penalty, chunk: int = 64) -> np.ndarray:
    """Return the loss of each example under the fit without it; of those with a weight."""
    params = jaxlr.fit(batch, penalty).params
    start, m = (params, make_curvature(params, batch)), int((batch.weights > 0).sum())
    places = jnp.arange(0, m, chunk)[:, None] + jnp.arange(chunk)[None]  # the last ones fill up
    loss, status = zip(*(_refit(batch, penalty, start, i) for i in places), strict=True)
    worst = jaxlr.Status(int(np.concatenate(status)[:m].max()))
    if not worst.ok:
        raise AssertionError(f"A refit at l2 = {penalty.l2:.0e} failed: {worst.message}")
    return np.concatenate(loss)[:m]


@jax.jit
def approximations(batch: jaxlr.Batch, penalty: jaxlr.Penalty) -> tuple[Any, Any, Any]:
    """Return the same by one Newton step, whether it is trusted, and the losses as fitted."""
    params = jaxlr.fit(batch, penalty).params
    left_out = jaxlr.leave_one_out(params, batch, penalty)
    return left_out.loss, left_out.trusted, losses(params, batch)


def curve(batch: jaxlr.Batch, penalties: np.ndarray = PENALTIES) -> Curve:
    """Return what one data set gives."""
    rows = []
    for l2 in penalties:
        penalty = jaxlr.Penalty(jnp.asarray(l2))
        exact = refits(batch, penalty)
        row = exact, *(np.asarray(a)[: len(exact)] for a in approximations(batch, penalty))
        rows.append(row)
    return Curve(*(np.stack(a) for a in zip(*rows, strict=True)))


def summary(name: str, curve: Curve, penalties: np.ndarray = PENALTIES) -> dict[str, Any]:
    """Return a record: totals and errors for each penalty, and which penalty is best."""
    exact = curve.exact.sum(axis=1)
    approximate = curve.approximate.sum(axis=1)
    gap = np.where(curve.trusted, curve.approximate - curve.exact, 0).sum(axis=1)
    return {
        "data": name,
        "m": curve.exact.shape[1],
        "l2": penalties.tolist(),
        "exact": (exact / curve.exact.shape[1]).tolist(),
        "approximate": (approximate / curve.exact.shape[1]).tolist(),
        "fitted": curve.fitted.mean(axis=1).tolist(),
        "error": (approximate / exact - 1).tolist(),
        "error of the trusted": (gap / exact).tolist(),
        "not trusted": (~curve.trusted).sum(axis=1).tolist(),
        "best": int(exact.argmin()),
        "best by one step": int(approximate.argmin()),
    }


def cost(name: str, batch: jaxlr.Batch) -> dict[str, Any]:
    """Return the time of a fit, l2 = 1/m, and of leaving out each example."""
    penalty = jaxlr.Penalty(jnp.asarray(1 / batch.m_examples, batch.X.dtype))
    solution, fit = timed(lambda: jaxlr.fit(batch, penalty))
    _, step = timed(lambda: jaxlr.leave_one_out(solution.params, batch, penalty))
    shape = f"{batch.m_examples:,} × {batch.n_features}, {batch.n_classes}"
    return {"data": name, "m × n, K": shape, "fit": fit, "leave_one_out": step, "fits": step / fit}


def costs() -> list[dict[str, Any]]:
    """Return the times in float32, on little data, on many real examples, and on many features."""
    rows = [
        cost(data.name, jaxlr.Batch.from_rows(standardised(data).astype(np.float32), data.y))
        for data in found(("sklearn/breast_cancer", "ggplot2/diamonds"))
    ]
    X, y = correlated(196_608, 128, np.random.default_rng(1))
    return [*rows, cost("drawn at random", jaxlr.Batch.from_rows(X, y))]


# --- What is shown -------------------------------------------------------------------------------


def show(rows: list[dict[str, Any]]) -> None:
    """Print a row for each data set: at the best penalty, and at the weakest."""

    def cells(row):
        best, cells = row["best"], {"data": row["data"], "m": f"{row['m']}"}
        for name, i in (("best", best), ("weakest", -1)):
            cells |= {
                f"{name} l2": f"{row['l2'][i]:.0e}",
                "loss" + " " * (i < 0): f"{row['exact'][i]:.3f}",
                "error" + " " * (i < 0): f"{row['error'][i]:+.2%}",
                "flagged" + " " * (i < 0): f"{row['not trusted'][i]}",
                "flagged refitted" + " " * (i < 0): f"{row['error of the trusted'][i]:+.2%}",
            }
        return cells

    record.print_table([cells(row) for row in rows])


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the curves of each data set: exact, by one step, and as fitted."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 4
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(12, 2.4 * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, sharex=True).ravel()
    for ax, row in zip(axes, rows, strict=False):
        l2, exact, near = (np.asarray(row[k]) for k in ("l2", "exact", "approximate"))
        flagged = np.asarray(row["not trusted"]) > 0
        ax.plot(l2, row["fitted"], ":", color="grey", label="as fitted")
        ax.plot(l2, exact, "-", color="#0072B2", label="exact refits")
        ax.plot(l2[~flagged], near[~flagged], "o", ms=4, color="#D55E00", label="one step")
        ax.plot(
            l2[flagged], near[flagged], "o", ms=4, mfc="none", color="#D55E00",
            label="one step, some examples flagged",
        )  # fmt: skip
        ax.set(xscale="log", title=row["data"].split("/")[1])
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("l2")
    figure.supylabel("loss of an example")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    record.RESULTS.mkdir(exist_ok=True)
    figure.savefig(record.RESULTS / "leave_one_out.png", dpi=120)


def main() -> None:
    """Compare on every data set; print, save and draw."""
    rows = []
    with jax.enable_x64(True):
        for names, n, m in ((TWO, 32, 1024), (THREE, 13, 263)):
            rows += [summary(data.name, curve(padded(data, n, m))) for data in told(names)]
    print("\n\nLeave-one-out loss, exact by refits, and the error of one Newton step\n")
    show(rows)
    errors = np.abs([row["error"][row["best"]] for row in rows])
    quiet = [
        abs(e)
        for row in rows
        for e, k in zip(row["error"], row["not trusted"], strict=True)
        if k == 0
    ]
    rest = [abs(e) for row in rows for e in row["error of the trusted"]]
    print(
        f"\nAt the best penalty the error is under 1 % on {(errors < 0.01).sum()} of {len(rows)} "
        f"data sets. Over all {len(PENALTIES)} penalties it is at most {max(quiet):.1%} where no "
        f"example is flagged ({len(quiet)} of {len(rest)} cases),\nand, with the flagged examples "
        f"refitted, at most {max(rest):.1%}, and {np.mean(np.array(rest) < 0.01):.0%} of the cases "
        "are under 1 %.\n"
    )
    times = costs()
    record.print_table(
        [
            {
                "float32": row["data"], "m × n, K": row["m × n, K"],
                "fit": f"{row['fit'] * 1e3:,.1f} ms",
                "leave_one_out": f"{row['leave_one_out'] * 1e3:,.1f} ms",
                "fits": f"{row['fits']:.2f}",
            }
            for row in times
        ]
    )  # fmt: skip
    path = record.save("leave_one_out", rows, costs=times)
    draw(rows)
    print(f"\nSaved {path.relative_to(record.RESULTS.parents[1])} and leave_one_out.png beside it.")


if __name__ == "__main__":
    main()
