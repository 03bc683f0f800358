"""Times a way in a fresh process: `python -m experiments.benchmarks.timing REQUEST`.

Cold is the wall time from the start of the process to the end of the first run: imports,
loading the .npy files, conversion of the data, compiling. Warm is the median of later runs.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks import workloads

_ROOMS = "experiments.benchmarks"


class Fits(NamedTuple):
    """What a way found, L lanes, on the host.

    Args:
        w, b: `(L, n)`, `(L,)`, or for K classes `(L, n, K)`, `(L, K)`.
        l2: of each lane, as the way used it, `(L,)`.
        column: the column of weights of each lane, `(L,)`; -1 where the way drew its own.
        passes: over X, `(L,)`, or None where it is not known.
        bound: the way's own bound on its suboptimality, `(L,)`, or None.
        status: how each lane ended, `(L,)`, or None.
    """

    w: np.ndarray
    b: np.ndarray
    l2: np.ndarray
    column: np.ndarray
    passes: np.ndarray | None = None
    bound: np.ndarray | None = None
    status: np.ndarray | None = None


class Ready(NamedTuple):
    """A way with its data converted: `run()` is what is timed, `fits(run())` is what it found."""

    run: Callable[[], Any]
    fits: Callable[[Any], Fits]


class Failed(RuntimeError):
    """Raised where a process did not end well; says why in a line."""


def fresh(function: str, seconds: float, **arguments: Any) -> dict[str, Any]:
    """Return `function(**arguments)`, a dict, from a fresh process.

    Args:
        function: `"room:name"` in this folder.
        seconds: the most it may take.
        arguments: what JSON can hold.
    """
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        request = {"function": function, "arguments": arguments, "out": str(out)}
        request["started"] = time.time()
        command = [sys.executable, "-m", f"{_ROOMS}.timing", json.dumps(request)]
        try:
            done = subprocess.run(
                command, env=environment, timeout=seconds, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"stopped after {seconds:.0f} s") from None
        if done.returncode:
            last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            last = last.replace("ModuleNotFoundError: No module", "skipped: no module")
            raise Failed(last.removeprefix("NotImplementedError: ")[:300])
        return json.loads(out.read_text())


def measure(
    way: str,
    folder: str,
    part: list,
    options: dict,
    repeats: int,
    budget: float,
    out: str,
    started: float,
) -> dict[str, Any]:
    """Time a way, write its fits to `out`, and return the times; called in a fresh process.

    Args:
        way: `"room:name"` of a function of a Problem that returns a `Ready`.
        folder: where the problem is.
        part: penalties and columns to take, None for all.
        options: of the way.
        repeats: the most warm runs.
        budget: no further warm run once they have taken this many seconds.
        out: a path ending in .npz.
        started: when the process was asked for, in `time.time()`.
    """
    problem = workloads.load(Path(folder)).part(*part)
    prepare = _find(way)
    ready = prepare(problem, **options)
    result = _block(ready.run())
    cold = time.time() - started
    memory = _peak_memory()
    warm: list[float] = []
    while not warm or (len(warm) < repeats and sum(warm) < budget):
        start = time.perf_counter()
        result = _block(ready.run())
        warm.append(time.perf_counter() - start)
    fits = ready.fits(result)
    start = time.perf_counter()
    prepare(problem, **options)
    conversion = time.perf_counter() - start
    given = {k: np.asarray(v) for k, v in fits._asdict().items() if v is not None}
    np.savez(out, allow_pickle=False, **given)
    return {
        "cold": cold,
        "warm": statistics.median(warm),
        "warm_runs": warm,
        "conversion": conversion,
        "memory": memory,
        "lanes": problem.lanes,
    }


def _block(result: Any) -> Any:
    jax = sys.modules.get("jax")
    return result if jax is None else jax.block_until_ready(result)


def _find(name: str) -> Callable[..., Any]:
    room, _, function = name.partition(":")
    return getattr(importlib.import_module(f"{_ROOMS}.{room}"), function)


def _peak_memory() -> int:
    """Return the bytes that this process held at most; worker processes are not counted."""
    try:  # ru_maxrss would count what the process that started this one held
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    """Answer one request of `fresh`."""
    request = json.loads(sys.argv[1])
    function, arguments = request["function"], request["arguments"]
    if function == "timing:measure":
        arguments["started"] = request["started"]
    answer = _find(function)(**arguments)
    Path(request["out"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
