"""Can a fit find the examples whose labels are wrong?

A fifth of the labels of a real data set are flipped, and the fit has some clean examples beside
them to score on. Three answers, each a score of every example, and the area under its curve:

    weights     of the examples, c = σ(u), learnt by descent on the loss of the clean examples under
                the fit with weights c: its gradient is that of the fit (bilevel; Franceschi et
                al., Bilevel programming for hyperparameter optimization, 2018)
    influence   of each example on the same loss: the first step of that descent
    left out    the loss of each example under the fit to the others, which needs no clean ones

Beside them the loss on further clean examples: of the fit to all, to the weighted, and to those
that are right.

Run `python -m experiments.data_cleaning`. It prints a table, and saves figures and a picture under
`experiments/results/`. Five splits and draws of flips are lanes of one program.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxlr
from experiments import record
from experiments.leave_one_out import standardised, told
from experiments.real_data import sets
from jaxlr.model.metrics import roc_auc

NAMES = (
    "sklearn/breast_cancer", "MASS/biopsy", "statsmodels/anes96", "Ecdat/Hdma", "sklearn/wine",
)  # fmt: skip
L2, SHARE, SEEDS, STEPS = 1e-2, 0.2, 5, 40


class Task(NamedTuple):
    """Examples with wrong labels among them, clean ones to score on, and clean ones to test on.

    Args:
        train, clean, test: the examples.
        flipped: whether the label of an example of `train` is wrong, `(m,)`.
    """

    train: jaxlr.Batch
    clean: jaxlr.Batch
    test: jaxlr.Batch
    flipped: Any


def flip(data: sets.DataSet, seed: int, share: float = SHARE) -> Task:
    """Return half of the examples with flipped labels, 20 % clean ones, and the rest for a test."""
    rng = np.random.default_rng(seed)
    rows, m, K = standardised(data), len(data.y), int(data.y.max()) + 1
    half, clean, test = np.split(rng.permutation(m), [m // 2, m * 7 // 10])
    flipped = rng.permutation(len(half)) < share * len(half)
    y = (data.y[half] + np.where(flipped, rng.integers(1, K, len(half)), 0)) % K

    def batch(places, y):
        return jaxlr.Batch.from_rows(rows[places], y, n_classes=K)

    return Task(batch(half, y), batch(clean, data.y[clean]), batch(test, data.y[test]), flipped)


def fitted(task: Task, weights: Any, l2: float) -> jaxlr.Params:
    """Return the fit to weighted examples."""
    return jaxlr.fit(dataclasses.replace(task.train, weights=weights), jaxlr.Penalty(l2)).params


def clean(task: Task, l2: float = L2, num_steps: int = STEPS) -> dict[str, Any]:
    """Return the area under the curve of each way, and test losses; one task, to be mapped.

    The rate moves the logit of a weight by at most ½ in the first step, and stays.
    """

    def outer(u):
        params = fitted(task, jax.nn.sigmoid(u), l2)
        return jaxlr.loss(params, task.clean), jaxlr.loss(params, task.test)

    def auc(score):
        return roc_auc(score, task.flipped)

    def step(state, _):
        u, rate = state
        (_, test), slope = jax.value_and_grad(outer, has_aux=True)(u)
        rate = jnp.where(rate == 0, 0.5 / jnp.abs(slope).max(), rate)
        return (u - rate * slope, rate), (auc(-(u - rate * slope)), test)

    ones = jnp.ones(task.train.m_examples)
    penalty = jaxlr.Penalty(l2)
    (u, _), (areas, tests) = lax.scan(step, (0 * ones, jnp.zeros(())), None, length=num_steps)
    params = fitted(task, ones, l2)
    moved = jaxlr.influence(lambda p: jaxlr.loss(p, task.clean), params, task.train, penalty)
    left_out = jaxlr.leave_one_out(params, task.train, penalty)
    return {
        "areas": areas,  # after each step
        "tests": jnp.append(tests, outer(u)[1]),  # before each step, and after the last
        "influence": auc(-moved),
        "left out": auc(left_out.loss),
        "right": jaxlr.loss(fitted(task, 1.0 - task.flipped, l2), task.test),
    }


def study(data: sets.DataSet, seeds: int = SEEDS) -> dict[str, Any]:
    """Return the record of a data set: means over the seeds, and the areas of each."""
    tasks = [flip(data, seed) for seed in range(seeds)]
    lanes = jax.tree.map(lambda *a: jnp.stack(a), *tasks)
    each = jax.device_get(jax.jit(jax.vmap(clean))(lanes))
    row = {k: np.asarray(v).mean(axis=0).tolist() for k, v in each.items()}
    spread = np.asarray(each["areas"]).std(axis=0)
    shape = {"m": tasks[0].train.m_examples, "clean": tasks[0].clean.m_examples}
    return {"data": data.name, **shape, **row, "spread": spread.tolist()}


def show(rows: list[dict[str, Any]]) -> None:
    """Print a row for each data set."""
    record.print_table(
        [
            {
                "data": row["data"], "examples": f"{row['m']}", "clean": f"{row['clean']}",
                "area: weights": f"{row['areas'][-1]:.3f}",
                "influence": f"{row['influence']:.3f}",
                "left out": f"{row['left out']:.3f}",
                "test loss: all": f"{row['tests'][0]:.3f}",
                "weighted": f"{row['tests'][-1]:.3f}",
                "right ones": f"{row['right']:.3f}",
            }
            for row in rows
        ]
    )  # fmt: skip


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the area under the curve, and the test loss, against the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(rows), 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(rows), squeeze=False, sharex=True)
    for (above, below), row in zip(axes.T, rows, strict=True):
        areas, spread = np.asarray(row["areas"]), np.asarray(row["spread"])
        steps = np.arange(1, len(areas) + 1)
        above.plot(steps, areas, color="#0072B2", label="learnt weights")
        above.fill_between(steps, areas - spread, areas + spread, color="#0072B2", alpha=0.2)
        above.axhline(row["influence"], color="#E69F00", ls="--", label="influence")
        above.axhline(row["left out"], color="#009E73", ls="-.", label="loss when left out")
        above.set_title(row["data"].split("/")[1])
        below.plot(range(len(row["tests"])), row["tests"], color="#0072B2")
        below.axhline(row["right"], color="grey", ls=":", label="fit to the right labels alone")
        below.set_xlabel("steps")
        below.set_ylim(bottom=0)
        for ax in (above, below):
            ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("area under the curve")
    axes[1, 0].set_ylabel("test loss")
    handles = [h for ax in axes[:, 0] for h in ax.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    record.RESULTS.mkdir(exist_ok=True)
    figure.savefig(record.RESULTS / "data_cleaning.png", dpi=120)


def main() -> None:
    """Clean each data set; print, save and draw."""
    with jax.enable_x64(True):
        rows = [study(data) for data in told(NAMES)]
    print(
        f"\n\n{SHARE:.0%} of the labels flipped; means over {SEEDS} splits, after {STEPS} steps\n"
    )
    show(rows)
    path = record.save("data_cleaning", rows, l2=L2, share=SHARE, steps=STEPS, seeds=SEEDS)
    draw(rows)
    print(f"\nSaved {path.relative_to(record.RESULTS.parents[1])} and data_cleaning.png beside it.")


if __name__ == "__main__":
    main()
