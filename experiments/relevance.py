"""Does a penalty for each feature, tuned by gradient, tell features from noise?

Columns of noise are added to real data, half of which is fitted. A grid over one penalty for all
features is searched by cross-validation; from its best, `jaxlr.tune` follows the gradient of the
same loss in one penalty for each feature (automatic relevance determination):

    free    wherever that leads;
    up      with no penalty below that of the grid, so that the search can only put features away.

So many penalties can fit the folds themselves. The other half of the examples tells; beside them,
what a fit without the noise loses there, under the grid's penalty.

Run `python -m experiments.relevance`. It prints a table, and saves figures and a picture under
`experiments/results/`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxlr
from experiments import record
from experiments.leave_one_out import standardised, told
from experiments.real_data import sets

NAMES = ("sklearn/breast_cancer", "car/Mroz", "Ecdat/Hdma", "Ecdat/Males")
NOISE, SEEDS, FOLDS = 50, 3, 5
GRID = np.logspace(-4, 1, 31)
MOST = 1e3  # no penalty above this: the weight is gone


def noisy(data: sets.DataSet, num_noise: int, seed: int) -> tuple[jaxlr.Batch, jaxlr.Batch]:
    """Return half of the examples to fit and half to test on, columns of noise at the end."""
    rng = np.random.default_rng(seed)
    rows = standardised(data)
    rows = np.hstack([rows, rng.normal(size=(len(rows), num_noise))])
    fit, test = np.split(rng.permutation(len(rows)), [len(rows) // 2])
    K = int(data.y.max()) + 1
    first, second = (jaxlr.Batch.from_rows(rows[i], data.y[i], n_classes=K) for i in (fit, test))
    return first, second


def search(
    batch: jaxlr.Batch, test: jaxlr.Batch, num_noise: int, seed: int, num_steps: int = 30
) -> dict[str, Any]:
    """Return cross-validated and test losses of each way, and the penalties found."""
    n = batch.n_features
    key, groups = jax.random.key(seed), np.arange(n)
    grid = jaxlr.Penalty(jnp.asarray(GRID))
    result = jaxlr.cross_validate(batch, grid, folds=FOLDS, key=key)
    scores = np.asarray(result.scores.log_loss).mean(axis=1)
    best = jaxlr.Penalty(jnp.asarray(GRID[scores.argmin()]))
    params = jaxlr.fit(batch, best).params
    real = batch.X.at[n - num_noise :].set(0)  # a feature of zeros has no weight
    without = jaxlr.fit(jaxlr.Batch(real, batch.y, n_classes=batch.n_classes), best).params
    row: dict[str, Any] = {
        "one": {"cv": float(scores.min()), "test": float(jaxlr.loss(params, test))},
        "no noise": {"test": float(jaxlr.loss(without, test))},
    }
    for name, least in (("free", 1e-6), ("up", best.l2)):
        options = {"groups": groups, "num_steps": num_steps, "bounds": (least, MOST)}
        tuned = jaxlr.tune(batch, best, folds=FOLDS, key=key, **options)
        row[name] = {
            "cv": float(tuned.value),
            "test": float(jaxlr.loss(tuned.solution.params, test)),
            "steps": int(tuned.num_steps),
            "status": jaxlr.TuneStatus(int(tuned.status)).name.lower(),
            "l2": np.asarray(tuned.penalty.l2 * tuned.penalty.factors).tolist(),
        }
    return row | {"l2": float(best.l2)}


def study(data: sets.DataSet, num_noise: int = NOISE, seeds: int = SEEDS) -> dict[str, Any]:
    """Return the record of a data set: means over the seeds, and the penalties of each."""
    each = []
    for seed in range(seeds):
        batch, test = noisy(data, num_noise, seed)
        each.append(search(batch, test, num_noise, seed))
    row: dict[str, Any] = {"data": data.name, "m": batch.m_examples, "noise": num_noise}
    row["n"] = batch.n_features - num_noise
    for way in ("one", "free", "up", "no noise"):
        for loss in each[0][way].keys() & {"cv", "test"}:
            row[f"{loss}, {way}"] = float(np.mean([one[way][loss] for one in each]))
    gone = np.array([one["up"]["l2"] for one in each]) > 10 * np.array([[o["l2"]] for o in each])
    row["away, real"] = float(gone[:, : row["n"]].mean())
    row["away, noise"] = float(gone[:, row["n"] :].mean())
    return row | {"each": each}


def show(rows: list[dict[str, Any]]) -> None:
    """Print a row for each data set."""
    record.print_table(
        [
            {
                "data": row["data"],
                "m × n": f"{row['m']} × {row['n']}+{row['noise']}",
                "cv: one": f"{row['cv, one']:.3f}",
                "free": f"{row['cv, free']:.3f}",
                "up": f"{row['cv, up']:.3f}",
                "test: one": f"{row['test, one']:.3f}",
                "free ": f"{row['test, free']:.3f}",
                "up ": f"{row['test, up']:.3f}",
                "no noise": f"{row['test, no noise']:.3f}",
                "put away: noise": f"{row['away, noise']:.0%}",
                "others": f"{row['away, real']:.0%}",
            }
            for row in rows
        ]
    )


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the penalty of each feature, of the first seed, and the test losses."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(rows), 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(rows), squeeze=False)
    ways = {"one": "one penalty", "free": "free", "up": "up", "no noise": "without noise"}
    for (above, below), row in zip(axes.T, rows, strict=True):
        first, n = row["each"][0], row["n"]
        l2 = np.sort(first["up"]["l2"][:n]), np.sort(first["up"]["l2"][n:])
        above.semilogy(np.linspace(0, 1, n), l2[0], "o", ms=4, color="#0072B2", label="real")
        above.semilogy(
            np.linspace(0, 1, len(l2[1])), l2[1], "o", ms=4, mfc="none", color="#D55E00",
            label="noise",
        )  # fmt: skip
        above.axhline(first["l2"], color="grey", ls=":", label="of the grid")
        above.set(title=row["data"].split("/")[1], xlabel="features in order")
        for i, way in enumerate(ways):
            each = [one[way]["test"] for one in row["each"]]
            below.plot([i] * len(each), each, "o", ms=4, color="grey")
            below.plot(i, np.mean(each), "_", ms=22, mew=2, color="#0072B2")
        below.set_xticks(range(len(ways)), list(ways.values()), rotation=25, ha="right")
        below.margins(x=0.15)
        for ax in (above, below):
            ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("l2 of each feature (up)")
    axes[0, 0].legend(frameon=False)
    axes[1, 0].set_ylabel("test loss")
    record.RESULTS.mkdir(exist_ok=True)
    figure.savefig(record.RESULTS / "relevance.png", dpi=120)


def main() -> None:
    """Search on each data set; print, save and draw."""
    with jax.enable_x64(True):
        rows = [study(data) for data in told(NAMES)]
    print(f"\n\nOne penalty from a grid, and one for each feature by gradient; {SEEDS} splits\n")
    show(rows)
    path = record.save("relevance", rows, grid=GRID.tolist(), folds=FOLDS)
    draw(rows)
    print(f"\nSaved {path.relative_to(record.RESULTS.parents[1])} and relevance.png beside it.")


if __name__ == "__main__":
    main()
