"""Where an experiment's table, figures and picture go, with what they were measured on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "jax", "jaxlib", "numpy", "optax", "scikit-learn", "scipy", "glum", "statsmodels", "jaxopt",
)  # fmt: skip


def setting() -> dict[str, Any]:
    """Return versions and machine: without them a time means nothing."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "packages": versions,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def save(name: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Write `results/NAME.json` and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"setting": setting(), **more, "rows": rows}, indent=1) + "\n")
    return path


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows of text under their keys; the first column is flush left, the others right."""
    columns = list(rows[0])
    widths = [max(len(c), *(len(row[c]) for row in rows)) for c in columns]

    def line(cells):
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in rest)])

    print(line(columns))
    print("  ".join("-" * w for w in widths))
    for row in rows:
        print(line([row[c] for c in columns]))
