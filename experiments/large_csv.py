"""Does a CSV of 1 GB fit, sweep and predict within 2.5 times its size in float32?

    python -m experiments.large_csv [--rows 1800000] [--columns 64]

makes a CSV in a temporary folder, with a column of text and a column of labels, runs `jaxlr
sweep`, `jaxlr fit` and `jaxlr predict` on it as a user would, each in a process of its own, and
compares the most memory that each held with 2.5 times the float32 size of the matrix of features.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

LIMIT = 2.5  # times the float32 size of the features
_ROWS = 2**14  # that are made at once


class Run(NamedTuple):
    """A command, what it printed, how long it took, and the most memory that it held."""

    command: str
    output: str
    seconds: float
    peak: int  # bytes


def make_csv(path: Path, rows: int, columns: int, seed: int = 0) -> None:
    """Write standard normal numbers in four decimals, a text of three levels, and labels."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=columns) / columns**0.5
    cities = np.array(["Bern", "Graz", "Ulm"])
    writer = None
    for start in range(0, rows, _ROWS):
        m = min(_ROWS, rows - start)
        X = rng.normal(size=(columns, m)).round(4)
        city = rng.integers(0, 3, m)
        y = rng.random(m) < 1 / (1 + np.exp(-(w @ X) - 0.5 * (city == 2)))
        arrays = {f"x{j}": X[j] for j in range(columns)}
        batch = pa.record_batch(
            {**arrays, "city": cities[city], "bought": np.where(y, "yes", "no")}
        )
        writer = writer or pyarrow.csv.CSVWriter(str(path), batch.schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()


def run(folder: Path, *arguments: str) -> Run:
    """Run a command of jaxlr in a folder, and wait for it."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxlr", *arguments], cwd=folder, stdout=out, stderr=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode()
    if process.returncode:
        raise SystemExit(f"jaxlr {' '.join(arguments)} failed: {output}")
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = time.perf_counter() - start
    return Run(arguments[0], output, seconds, usage.ru_maxrss * unit)


def run_all(folder: Path, rows: int, columns: int) -> tuple[list[Run], int, int]:
    """Return the three runs, the size of the file and that of its features in float32."""
    make_csv(folder / "large.csv", rows, columns)
    target = ("--target", "bought")
    runs = [
        run(folder, "sweep", "large.csv", *target, "--output", "model.npz"),
        run(folder, "fit", "large.csv", *target),
        run(folder, "predict", "model.npz", "large.csv", "-o", "scored.csv"),
    ]
    return runs, (folder / "large.csv").stat().st_size, rows * (columns + 2) * 4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_150_000)
    parser.add_argument("--columns", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, size, floats = run_all(Path(folder), args.rows, args.columns)
    print(f"{size / 1e9:.2f} GB of CSV, {floats / 1e6:.0f} MB of float32; limit {LIMIT} times that")
    print(f"{'command':<10}{'seconds':>10}{'peak MB':>10}{'times':>8}")
    for name, _, seconds, peak in runs:
        print(f"{name:<10}{seconds:>10.0f}{peak / 1e6:>10.0f}{peak / floats:>8.2f}")
    if any(peak > LIMIT * floats for *_, peak in runs):
        raise SystemExit("The limit is exceeded.")


if __name__ == "__main__":
    main()
