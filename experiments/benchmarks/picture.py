"""The picture of the benchmarks: warm and cold time of each peer over jaxlr's."""

from __future__ import annotations

import json
from pathlib import Path

from experiments import record
from jaxlr.base.extras import require


def draw(quick: bool) -> Path | None:
    """Draw every workload that `results/` has; return the picture's path, None without rows."""
    ending = "_quick" * quick
    bars = []
    for path in sorted(record.RESULTS.glob(f"benchmark_W*{ending}.json"), key=_order):
        saved = json.loads(path.read_text())
        if saved["quick"] != quick:
            continue
        name = path.stem.split("_")[1]
        peers = [row for row in saved["rows"][1:] if "times_warm" in row]
        bars += [(f"{name}  {row['way']}", row["times_warm"], row["times_cold"]) for row in peers]
    if not bars:
        return None
    figure = require("matplotlib.figure", "plots").Figure(
        figsize=(8, 1.2 + 0.24 * len(bars)), layout="constrained"
    )
    axes = figure.subplots()
    places = range(len(bars))[::-1]
    labels, warm, cold = zip(*bars, strict=True)
    axes.hlines(places, 1, warm, color="0.85", zorder=0)
    axes.plot(warm, places, "o", color="C0", label="warm")
    axes.plot(cold, places, "o", mfc="none", color="C1", label="cold")
    axes.axvline(1, color="0.3", linewidth=1)
    axes.set(xscale="log", xlabel="time / time of jaxlr", yticks=places, yticklabels=labels)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    quickly = " (quick: shrunk workloads)" * quick
    axes.set_title(f"Peers' time over jaxlr's{quickly}")
    axes.margins(y=0.6 / len(bars))
    figure.legend(frameon=False, loc="outside lower right", ncols=2)
    path = record.RESULTS / f"benchmarks{ending}.png"
    figure.savefig(path, dpi=150)
    return path


def _order(path: Path) -> int:
    return int("".join(filter(str.isdigit, path.stem.split("_")[1])))
