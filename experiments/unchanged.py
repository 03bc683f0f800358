"""Do fits end as before? For whoever moves walls: passes, statuses, optima, what is compiled.

    python -m experiments.unchanged --save before.npz      before the change
    python -m experiments.unchanged --against before.npz   after it

runs some forty kinds of fits and sweeps (binary and softmax, wide and of low rank, folds,
resamples, permutations, weights and offsets, easy and hard) in both dtypes. Against a file it says
of each kind whether passes and statuses are the same, how far losses and parameters are from what
they were, and ends with 1 if a pass or a status differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

import jaxlr
from experiments.record import print_table

Kind = Callable[[], Any]
_WHAT = ("passes", "status", "loss", "w", "b", "compiled")
_COLUMNS = ("kind", "same", "passes", "programs", "loss", "w", "b")
_COMPILED = "/jax/core/compile/backend_compile_duration"


def penalties(weakest: float, strongest: float, count: int) -> jaxlr.Penalty:
    """Return penalties evenly spaced in log l2, given by their powers of ten."""
    return jaxlr.Penalty(jnp.logspace(weakest, strongest, count))


def standardised(X: Any) -> np.ndarray:
    """Return X with columns of mean 0 and deviation 1; a constant column is zero."""
    scale = X.std(0)
    return (X - X.mean(0)) / np.where(scale > 0, scale, 1)


def drawn(m: int, n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, and labels drawn at a few random parameters."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, n))
    logits = X[:, :5] @ rng.normal(size=(min(n, 5), classes))
    return X, (logits + rng.gumbel(size=(m, classes))).argmax(1)


def of_one_batch(name: str, batch: jaxlr.Batch, l2s: jaxlr.Penalty) -> dict[str, Kind]:
    """Return what is done with every data set."""
    key, one = jax.random.key(0), jaxlr.Penalty(l2s.l2[len(l2s.l2) // 2])
    return {
        f"{name}: fit": lambda: jaxlr.fit(batch, one),
        f"{name}: sweep": lambda: jaxlr.sweep(batch, l2s),
        f"{name}: folds": lambda: jaxlr.cross_validate(batch, l2s, folds=5, key=key).solutions,
    }


def kinds() -> dict[str, Kind]:
    """Return all kinds, by name, in the dtype that is on."""
    rng, key = np.random.default_rng(1), jax.random.key(0)
    X, y = datasets.load_breast_cancer(return_X_y=True)
    cancer = jaxlr.Batch.from_rows(standardised(X), y)
    weighted = jaxlr.Batch.from_rows(standardised(X), y, weights=rng.uniform(0, 3, 569))
    shifted = jaxlr.Batch.from_rows(standardised(X), y, offset=2 * rng.normal(size=569))
    wine, classes = datasets.load_wine(return_X_y=True)
    digits, digit = (a[:600] for a in datasets.load_digits(return_X_y=True))
    twice = np.repeat(drawn(40, 6, 2, 3)[0], 3, 1) + 1e-6 * rng.normal(size=(40, 18))
    large = jaxlr.Batch.from_rows(*drawn(30_000, 10, 2, 4))
    factors = jaxlr.Penalty(jnp.logspace(-4, 0, 6), jnp.linspace(0.1, 3.0, 30))
    return {
        **of_one_batch("cancer", cancer, penalties(-5, 0, 20)),
        **of_one_batch("cancer, raw", jaxlr.Batch.from_rows(X, y), penalties(-5, 0, 8)),
        **of_one_batch("cancer, weights", weighted, penalties(-4, 0, 8)),
        **of_one_batch("cancer, offset", shifted, penalties(-4, 0, 8)),
        **of_one_batch(
            "wine", jaxlr.Batch.from_rows(standardised(wine), classes), penalties(-5, 0, 10)
        ),
        **of_one_batch("wine, raw", jaxlr.Batch.from_rows(wine, classes), penalties(-5, 0, 10)),
        **of_one_batch("wide", jaxlr.Batch.from_rows(*drawn(60, 200, 2, 2)), penalties(-4, 0, 10)),
        **of_one_batch(
            "wide softmax", jaxlr.Batch.from_rows(*drawn(60, 90, 3, 5)), penalties(-3, 0, 6)
        ),
        **of_one_batch(
            "low rank", jaxlr.Batch.from_rows(twice, drawn(40, 6, 2, 3)[1]), penalties(-4, 0, 6)
        ),
        **of_one_batch("large", large, penalties(-5, 0, 10)),
        "cancer: 10 folds × 100": lambda: (
            jaxlr.cross_validate(cancer, penalties(-6, 1, 100), folds=10, key=key).solutions
        ),
        "cancer: leave one out": lambda: (
            jaxlr.cross_validate(
                jaxlr.Batch(cancer.X[:, :80], cancer.y[:80]), penalties(-2, 0, 2), folds="loo"
            ).solutions
        ),
        "cancer: repeated folds": lambda: (
            jaxlr.cross_validate(
                cancer, penalties(-4, 0, 6), folds=jaxlr.repeated_folds(cancer, 3, 2, key)
            ).solutions
        ),
        "cancer: penalty factors": lambda: jaxlr.sweep(cancer, factors),
        "cancer: no penalty, raw": lambda: jaxlr.fit(
            jaxlr.Batch.from_rows(X, y), jaxlr.Penalty(1e-8)
        ),
        "cancer: no intercept": lambda: jaxlr.sweep(
            jaxlr.Batch.from_rows(standardised(X), y, intercept=False), penalties(-4, 0, 8)
        ),
        "cancer: bootstrap": lambda: jaxlr.bootstrap(cancer, jaxlr.Penalty(1e-2), 200, key),
        "cancer: permute": lambda: jaxlr.permute(cancer, jaxlr.Penalty(1e-2), 200, key),
        "digits: sweep": lambda: jaxlr.sweep(
            jaxlr.Batch.from_rows(digits / 16, digit), penalties(-4, 0, 6)
        ),
        "large: bootstrap": lambda: jaxlr.bootstrap(large, jaxlr.Penalty(1e-3), 50, key),
        "large: no penalty": lambda: jaxlr.fit(large, jaxlr.Penalty(0.0)),
    }


def record(dtype: str) -> dict[str, np.ndarray]:
    """Run all kinds in `dtype` and return what they end with, by names `dtype/kind/what`."""
    found, compiled = {}, []

    def count(event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILED:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(count)
    with jax.enable_x64(dtype == "float64"):
        for name, run in kinds().items():
            jax.clear_caches()
            compiled.clear()
            start = time.perf_counter()
            solution = jax.device_get(run())
            values = {
                "passes": solution.num_passes,
                "status": solution.status,
                "loss": solution.loss,
                "w": solution.params.w,
                "b": solution.params.b,
                "compiled": len(compiled),
            }
            found |= {f"{dtype}/{name}/{what}": np.asarray(value) for what, value in values.items()}
            seconds = time.perf_counter() - start
            passes = np.sum(solution.num_passes)
            told = f"{dtype}, {name}: {passes} passes, {len(compiled)} programs, {seconds:.1f} s"
            print(told, file=sys.stderr, flush=True)
    return found


def relative(new: np.ndarray, old: np.ndarray) -> float:
    """Return the largest difference, in units of the largest entry."""
    new, old = new.astype(np.float64), old.astype(np.float64)
    return float(np.max(np.abs(new - old), initial=0) / max(np.max(np.abs(old), initial=0), 1e-300))


def compare(new: dict[str, np.ndarray], old: dict[str, np.ndarray]) -> list[dict[str, str]]:
    """Return a row for each kind; `same` is "no" if a pass or a status differs."""
    rows = []
    for kind in sorted({name.rsplit("/", 1)[0] for name in new}):
        names = {what: f"{kind}/{what}" for what in _WHAT}
        if any(a not in old or new[a].shape != old[a].shape for a in names.values()):
            rows.append(dict.fromkeys(_COLUMNS, "") | {"kind": kind, "same": "no"})
            continue
        pairs = {what: (new[name], old[name]) for what, name in names.items()}
        same = all(np.array_equal(*pairs[what]) for what in ("passes", "status"))
        rows.append(
            {
                "kind": kind,
                "same": "yes" if same else "no",
                "passes": " → ".join(str(int(a.sum())) for a in reversed(pairs["passes"])),
                "programs": " → ".join(str(int(a)) for a in reversed(pairs["compiled"])),
                **{what: f"{relative(*pairs[what]):.0e}" for what in ("loss", "w", "b")},
            }
        )
    return rows


def main() -> int:
    """Read the arguments, run, and save or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--save", type=Path, metavar="FILE", help="write what fits end with")
    way.add_argument("--against", type=Path, metavar="FILE", help="compare with what was written")
    chosen = parser.parse_args()
    if chosen.against and not chosen.against.is_file():
        parser.error(f"there is no file {chosen.against}: write one first, with --save")
    found = record("float32") | record("float64")
    if chosen.save:
        with chosen.save.open("wb") as file:
            np.savez_compressed(file, **found)  # pyright: ignore[reportArgumentType]
        return 0
    with np.load(chosen.against) as old:
        rows = compare(found, dict(old))
    print_table(rows)
    return int(any(row["same"] == "no" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
