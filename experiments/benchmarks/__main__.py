"""Side-by-side timings: `python -m experiments.benchmarks [--only W1 W6 …] [--quick]`.

Each row is one way to run a workload, in processes of its own, on the same data:

    cold        seconds from the start of the process to the end of the first run
    warm        median seconds of later runs
    convert     seconds that the data take to the library's layout (jaxlr: Batch.from_rows);
                it is within cold
    excess      objective − optimum of the worst lane, in float64 against a Newton solve
    memory      the most that the process held; worker processes are not counted
    passes      over X: the most of a lane, and the mean
    floor       seconds of those passes' two bare matrix products, at the rate measured here
    × cold, × warm   the way's time over jaxlr's

`~` marks times that are scaled from a part of the lanes, whose number is in the column lanes:
some of the folds or resamples, or evenly spaced penalties with both extremes. `≤` marks a bound
of jaxlr's own, where it draws the weights itself. The excess is that of the lanes with the
extreme penalties and the largest gradients; statsmodels, which has no l2, is judged without one.
scikit-learn and glum run with n_jobs=-1 and 1, and the better counts (with --quick, -1 alone).
Each workload's rows are saved in `experiments/results/` as they come.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments import record
from experiments.benchmarks import catalogue, picture, quality, timing
from experiments.benchmarks.catalogue import Way

NAMES = ("W1", "W2", "W3", "W4", "W5a", "W5b", "W6", "W7", "W8", "W9", "W10")
_COLUMNS = (
    ("way", 46), ("lanes", 6), ("cold s", 9), ("warm s", 10), ("convert s", 9), ("excess", 9),
    ("memory MiB", 10), ("passes", 12), ("floor s", 9), ("× cold", 8), ("× warm", 8),
)  # fmt: skip


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description="Times jaxlr and its peers, workload by workload.")
    parser.add_argument("--only", nargs="+", default=list(NAMES), metavar="W", help="W1 W2 …")
    parser.add_argument("--quick", action="store_true", help="small workloads, in minutes")
    parser.add_argument("--repeats", type=int, default=5, help="the most warm runs, by default 5")
    given = parser.parse_args()
    names = [name for name in NAMES if any(name in (w, w + "a", w + "b") for w in given.only)]
    if not names:
        parser.error(f"no workload is named {' '.join(given.only)}: {', '.join(NAMES)}")
    if given.quick:
        print("QUICK: every workload is shrunk; these are no figures to quote.")
    for name in names:
        if name in ("W6", "W10"):
            study(name, given.quick)
        else:
            compare(name, given.quick, given.repeats)
    path = picture.draw(given.quick)
    if path is not None:
        print(f"\nPicture: {path}")


def compare(name: str, quick: bool, repeats: int) -> None:
    """Time every way of a workload; print and save each row when it is known."""
    title, make, ways = catalogue.workload(name, quick)
    print(f"\n{name}  {title}")
    print("  ".join(_cell(title, title, width) for title, width in _COLUMNS))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        problem = make()
        problem.save(Path(folder))
        seconds = 120 if quick else 3_600
        rate = timing.fresh("ours:rate", seconds, folder=folder, lanes=problem.lanes)["seconds"]
        for way in ways:
            try:
                row = _row(way, problem, Path(folder), rate, quick, repeats)
            except timing.Failed as reason:
                row = {"way": way.label, "failed": str(reason)}
            for kind in ("cold", "warm"):
                if kind in row and kind in (rows or [row])[0]:
                    row[f"times_{kind}"] = row[kind] / (rows or [row])[0][kind]
            rows.append(row)
            print(_line(row), flush=True)
            record.save(
                _file(name, quick), rows, workload=title, quick=quick, lanes=problem.lanes,
                examples=problem.X.shape[0], features=problem.X.shape[1],
                pass_seconds=rate, load=os.getloadavg(),
            )  # fmt: skip


def _row(way: Way, problem, folder: Path, rate: float, quick: bool, repeats: int) -> dict[str, Any]:
    """Return one way's figures: of its fastest alternative."""
    part = problem.part(*way.part)
    rows, failures = [], []
    for options in way.options[:1] if quick else way.options:
        out = folder / "fits.npz"
        try:
            row = timing.fresh(
                "timing:measure", 120 if quick else 3_600, way=way.function, folder=str(folder),
                part=list(way.part), options=options, repeats=repeats,
                budget=1.0 if quick else 60.0, out=str(out),
            )  # fmt: skip
        except timing.Failed as reason:
            failures.append(reason)
            continue
        with np.load(out) as arrays:
            fits = timing.Fits(**arrays)
        row["way"], row["options"] = way.label, options
        row["excess"], row["checked"] = quality.worst(part, fits)
        row["measured_lanes"] = part.lanes
        if part.lanes < problem.lanes:
            scale = problem.lanes / part.lanes
            row["scaled_by"] = scale
            # What is not the fits themselves is paid once.
            row["cold"] += (scale - 1) * row["warm"]
            row["warm"] *= scale
        if fits.passes is not None:
            row["passes"] = [int(fits.passes.max()), float(fits.passes.mean())]
            row["floor"] = float(fits.passes.sum()) * rate
        if fits.status is not None:
            row["status"] = np.bincount(fits.status).tolist()
        if fits.bound is not None:
            row["bound"] = float(fits.bound.max())
        rows.append(row)
    if not rows:
        raise failures[0]
    best = min(rows, key=lambda row: row["warm"])
    return {**best, "cold": min(row["cold"] for row in rows)}


def study(name: str, quick: bool) -> None:
    """Run W6 or W10, which compare jaxlr with itself and with bare products."""
    function = {"W6": "studies:gradient", "W10": "studies:growth"}[name]
    try:
        answer = timing.fresh(function, 600 if quick else 3_600, quick=quick)
    except timing.Failed as reason:
        print(f"\n{name}  failed: {reason}")
        return
    print(f"\n{name}  {answer['title']}")
    record.print_table(answer["table"])
    record.save(
        _file(name, quick), answer["rows"], workload=answer["title"], quick=quick,
        load=os.getloadavg(), **answer["more"],
    )  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['way']:<{_COLUMNS[0][1]}}  {row['failed']}"
    about = "~" if "scaled_by" in row else ""
    bound = "≤" if row["checked"] == 0 else ""
    jobs = row["options"].get("n_jobs")
    text = {
        "way": row["way"] + (f", n_jobs={jobs}" if jobs else ""),
        "lanes": f"{row['measured_lanes']:,}",
        "cold s": about + _seconds(row["cold"]),
        "warm s": about + _seconds(row["warm"]),
        "convert s": _seconds(row["conversion"]),
        "excess": f"{bound}{row['excess']:.1e}",
        "memory MiB": f"{row['memory'] / 2**20:,.0f}",
        "passes": "{}, {:.1f}".format(*row["passes"]) if "passes" in row else "",
        "floor s": _seconds(row["floor"]) if "floor" in row else "",
        "× cold": f"{row['times_cold']:.1f}" if "times_cold" in row else "",
        "× warm": f"{row['times_warm']:.1f}" if "times_warm" in row else "",
    }
    line = "  ".join(_cell(title, text[title], width) for title, width in _COLUMNS)
    failed = sum(row.get("status", [])[2:])
    return line + f"  {failed} lanes failed" * bool(failed)


def _cell(title: str, text: str, width: int) -> str:
    return text.ljust(width) if title == "way" else text.rjust(width)


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _file(name: str, quick: bool) -> str:
    return f"benchmark_{name}{'_quick' * quick}"


if __name__ == "__main__":
    main()
