"""`jaxlr audit`: judge a gradient that the user names, or jaxlr's own."""

import contextlib
import importlib
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlr.audit import Report, Verdict, audit_gradient
from jaxlr.cli.refusal import Refusal
from jaxlr.extras import require
from jaxlr.self_audit import FUNCTIONS, audit_case, cases


def named(name: str, option: str) -> Callable:
    """Return the function that `module:function` names; modules of this folder are found.

    >>> named("math:floor", "FUNCTION")(1.5)
    1
    >>> named("math", "FUNCTION")
    Traceback (most recent call last):
    ...
    jaxlr.cli.refusal.Refusal: FUNCTION math: write module:function, as in mymodel:loss.
    """
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise Refusal(f"{option} {name}: write module:function, as in mymodel:loss.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise Refusal(f"{option} {name}: {module} needs {error.name}: {error}.") from None
        raise Refusal(
            f"{option} {name}: there is no module {module} in this folder or among the packages."
        ) from None
    except Exception as error:
        raise Refusal(f"{option} {name}: importing {module} failed: {_said(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise Refusal(f"{option} {name}: {module} has no {path}.")
        found = getattr(found, part)
    if not callable(found):
        raise Refusal(f"{option} {name}: it is of type {type(found).__name__}, not a function.")
    return found


def arguments(text: str, fun: Callable) -> tuple[Any, ...]:
    """Return the arguments at which to audit.

    Args:
        text: the path of an .npz file, whose arrays are named as the parameters of fun are or
            taken in their order; or `module:function`, a function that returns a tuple.
        fun: the function that will be given them.
    """
    path = Path(text)
    if path.suffix.lower() == ".npz":
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise Refusal(f"--args {text}: there is no such file.") from None
        except (OSError, ValueError, EOFError):
            raise Refusal(f"--args {text}: it is not an .npz file of arrays.") from None
        try:
            names = list(inspect.signature(fun).parameters)
        except (TypeError, ValueError):
            names = []
        if arrays and set(arrays) <= set(names):
            missing = [name for name in names[: max(map(names.index, arrays)) + 1]
                       if name not in arrays]  # fmt: skip
            if missing:
                raise Refusal(f"--args {text}: it has no array {missing[0]}.")
            return tuple(arrays[name] for name in names if name in arrays)
        return tuple(arrays.values())
    try:
        found = named(text, "--args")()
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"--args {text}: it failed: {_said(error)}") from error
    return found if isinstance(found, tuple) else (found,)


def judge(fun: str, grad: str | None, reference: str | None, args: str) -> Report:
    """Return the report on the gradient of a function; all are `module:function`."""
    judged = named(fun, "FUNCTION")
    derivative = named(grad, "--grad") if grad else None
    other = named(reference, "--reference") if reference else None
    at = arguments(args, judged)
    try:
        return audit_gradient(judged, derivative, *at, reference=other)
    except Exception as error:
        shapes = ", ".join(_shape(a) for a in at)
        raise Refusal(
            f"{fun} cannot be audited at its arguments ({shapes}): {_said(error)}"
        ) from error


def draw(report: Report, path: Path) -> None:
    """Write the picture of the Taylor remainders."""
    figure = require("matplotlib.figure", "plots").Figure(figsize=(6, 4.2), layout="constrained")
    report.plot(figure.subplots())
    figure.savefig(path, dpi=150)


def own() -> tuple[str, Verdict]:
    """Audit jaxlr's own derivatives: return the table, and the worst verdict."""
    start, rows, reports = time.perf_counter(), [], []
    with _progress(len(cases()) * len(FUNCTIONS)) as step:
        for case in cases():
            row = []
            for function in FUNCTIONS:
                row.append(audit_case(function, case))
                step()
            rows.append((case.name, row))
            reports += row
    wrong = [report for report in reports if report.verdict != Verdict.AGREES]
    lines = [f"{'case':<40}" + "".join(f"{name:>10}" for name in FUNCTIONS), "─" * 80]
    for name, row in rows:
        lines.append(f"{name:<40}" + "".join(f"{_deviation(report):>10}" for report in row))
    agreed = len(reports) - len(wrong)
    lines += [
        "",
        "The largest deviation from central differences, relative to the entry; WRONG or ? where",
        "an audit does not agree. The loss is audited to the second order.",
        "",
        f"{agreed} of {len(reports)} audits agree. {time.perf_counter() - start:.0f} s.",
    ]
    lines += [f"\n{report}" for report in wrong]
    worst = Verdict.AGREES
    for verdict in (Verdict.CANNOT_TELL, Verdict.DISAGREES):
        if any(report.verdict == verdict for report in wrong):
            worst = verdict
    return "\n".join(lines), worst


def _deviation(report: Report) -> str:
    if report.verdict != Verdict.AGREES:
        return "WRONG" if report.verdict == Verdict.DISAGREES else "?"
    seen = [row.relative for row in report.rows if row.check == "differences"]
    return f"{max(seen):.0e}" if seen else "ok"


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Yield what to call after each audit: a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    rich = require("rich.progress", "cli")
    console = require("rich.console", "cli").Console(stderr=True)
    with rich.Progress(console=console, transient=True) as progress:
        task = progress.add_task("Auditing jaxlr's derivatives", total=total)
        yield lambda: progress.advance(task)


def _shape(argument: Any) -> str:
    shape = getattr(argument, "shape", None)
    return type(argument).__name__ if shape is None else f"{argument.dtype}{list(shape)}"


def _said(error: BaseException) -> str:
    """Return the first line of an error, as a sentence."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {first}"
