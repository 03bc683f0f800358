"""Do the defaults reach the optimum on real data, raw, and does every bound hold?

    python -m experiments.real_data [words of the names of data sets …]

fits each data set in float64 and in float32, with l2 = 1/m and, where the optimum is finite, with
l2 = 0, and compares with an independent Newton solve in float64 (of the data as that dtype has
them). Beside it scikit-learn's LogisticRegression with its defaults at the same penalty. Prints a
table, leaves it in experiments/results/, and ends with 1 if a fit or a bound fails.

The demands: an excess over the optimum of at most 1e-9 in float64 and 1e-6 in float32, and no
bound below the excess.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxlr
from experiments.real_data import newton, sets
from experiments.record import print_table, save

_DEMAND = {"float64": 1e-9, "float32": 1e-6}


class Outcome(NamedTuple):
    """How a fit of jaxlr ended: the excess over the optimum, its bound and estimate."""

    excess: float
    bound: float
    estimate: float
    passes: int
    status: str

    def kept(self, dtype: str) -> bool:
        """Whether the demands are met."""
        return self.excess <= _DEMAND[dtype] and self.bound >= 0.999 * self.excess


def judge(found: sets.DataSet, l2: float, dtype: str) -> Outcome:
    """Fit with defaults and compare with the optimum.

    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> found = sets.DataSet("noise", X, np.arange(40) % 2)
    >>> judge(found, 0.1, "float32").kept("float32")
    True
    """
    rows, l2 = found.rows.astype(dtype), np.dtype(dtype).type(l2)
    with jax.enable_x64(dtype == "float64"):
        batch = jaxlr.Batch.from_rows(rows, found.y)
        solution = jax.device_get(jaxlr.fit(batch, jaxlr.Penalty(jnp.asarray(l2))))
    objective = newton.Objective(rows.astype(float), found.y, float(l2))
    w, b = (np.asarray(a, float) for a in solution.params)
    return Outcome(
        objective.excess(objective.parameters(w, b), objective.minimum()),
        float(solution.suboptimality),
        float(solution.estimate),
        int(solution.num_passes),
        jaxlr.Status(int(solution.status)).name.lower(),
    )


def scikit_learns(found: sets.DataSet, l2: float) -> tuple[float, bool]:
    """Return the excess of scikit-learn's defaults, and whether it warned."""
    from sklearn.linear_model import LogisticRegression

    C = np.inf if l2 == 0 else 1 / (l2 * len(found.y))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(C=C).fit(found.rows, found.y)
    objective = newton.Objective(found.rows, found.y, l2)
    theta = objective.parameters(model.coef_.T, model.intercept_)
    return objective.excess(theta, objective.minimum()), bool(caught)


def compare(found: sets.DataSet) -> list[dict[str, Any]]:
    """Return the rows of one data set."""
    m, n = found.rows.shape
    rows = []
    for l2 in (1 / m, 0.0):
        if l2 == 0 and newton.separable(found.rows, found.y):
            continue
        excess, warned = scikit_learns(found, l2)
        outcomes = {dtype: judge(found, l2, dtype) for dtype in _DEMAND}
        rows.append(
            {
                "name": found.name, "m": m, "n": n, "K": int(found.y.max()) + 1, "l2": l2,
                **{dtype: outcome._asdict() for dtype, outcome in outcomes.items()},
                "kept": {dtype: outcome.kept(dtype) for dtype, outcome in outcomes.items()},
                "scikit_learn": {"excess": excess, "warned": warned},
            }
        )  # fmt: skip
    return rows


def text(row: dict[str, Any]) -> dict[str, str]:
    """Return a row of the table."""
    cells = {
        "data": row["name"],
        "m × n, K": f"{row['m']} × {row['n']}, {row['K']}",
        "l2": "1/m" if row["l2"] else "0",
    }
    for dtype, short in (("float64", "64"), ("float32", "32")):
        outcome, kept = row[dtype], row["kept"][dtype]
        cells |= {
            f"passes {short}": f"{outcome['passes']}",
            f"excess {short}": f"{outcome['excess']:.0e}" + ("" if kept else " !"),
            f"bound {short}": f"{outcome['bound']:.0e}",
        }
    other = row["scikit_learn"]
    return cells | {
        "scikit-learn": f"{other['excess']:.0e}" + (" warned" if other["warned"] else "")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Fits real data sets with jaxlr's defaults.")
    parser.add_argument("words", nargs="*", help="of the names of data sets: those, not all")
    words = parser.parse_args().words
    rows, names = [], set()
    for found in itertools.chain(sets.scikit_learns(), sets.statsmodels(), sets.rs()):
        if words and not any(word in found.name for word in words):
            continue
        print(found.name, end=" ", flush=True)
        names.add(found.name)
        rows += compare(found)
        jax.clear_caches()  # of its own shapes: a process has room for those of some 60 data sets
    if not rows:
        parser.error(f"no data set has {' or '.join(words)} in its name")
    print("\n")
    print_table([text(row) for row in rows])
    failed = [row for row in rows if not all(row["kept"].values())]
    with_zero = sum(row["l2"] == 0 for row in rows)
    print(
        f"\n{len(names)} data sets, {len(rows)} problems ({with_zero} without a penalty), in both "
        f"dtypes: {len(rows) - len(failed)} within the demands, {len(failed)} not (marked !). "
        f"scikit-learn's defaults: {sum(row['scikit_learn']['excess'] > 1e-6 for row in rows)} "
        "further than 1e-6 from the optimum."
    )
    save("real_data", rows, demand=_DEMAND)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
