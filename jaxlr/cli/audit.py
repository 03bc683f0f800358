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
from jaxlr.audit.door import function_name
from jaxlr.base.extras import require
from jaxlr.cli.refusal import Refusal
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
    if "/" in module or module.endswith(".py") or module.startswith("."):
        plain = module.removesuffix(".py").lstrip("./").replace("/", ".")
        raise Refusal(f"{option} {name}: a module is due, not a path: write {plain}:{path}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in _and_parents(module):
            raise Refusal(
                f"{option} {name}: importing {module} failed: it needs {error.name}, which is not "
                "installed."
            ) from None
        raise Refusal(
            f"{option} {name}: there is no module {error.name} in this folder or among the "
            "packages."
        ) from None
    except (Exception, SystemExit) as error:
        raise Refusal(f"{option} {name}: importing {module} failed: {_said(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise Refusal(f"{option} {name}: {module} has no {path}.")
        found = getattr(found, part)
    if not callable(found):
        raise Refusal(f"{option} {name}: it is of type {type(found).__name__}, not a function.")
    return found


def _and_parents(module: str) -> list[str]:
    """Return a module's name and those of its packages."""
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def arguments(text: str, fun: Callable) -> tuple[Any, ...]:
    """Return the arguments at which to audit.

    Args:
        text: the path of an .npz file, whose arrays are named as the parameters of fun are or
            taken in their order; or `module:function`, a function that returns a tuple, or a
            dict with those names.
        fun: the function that will be given them.
    """
    path = Path(text)
    if path.suffix.lower() == ".npz":
        return _in_order(_arrays(path), fun, f"--args {text}")
    if path.suffix.lower() == ".npy":
        raise Refusal(
            f"--args {text}: an .npz file is due, as jnp.savez writes it, or module:function."
        )
    try:
        found = named(text, "--args")()
    except Refusal:
        raise
    except (Exception, SystemExit) as error:
        raise Refusal(f"--args {text}: it failed: {_said(error)}") from error
    if found is None or isinstance(found, list):
        raise Refusal(
            f"--args {text}: it returned {'None' if found is None else 'a list'}: a tuple of "
            "arguments is due, or the only one that there is (a list: in a tuple of one)."
        )
    if isinstance(found, dict) and set(found) & set(_parameters(fun)):
        return _in_order(found, fun, f"--args {text}")
    return found if isinstance(found, tuple) else (found,)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise Refusal(f"--args {path}: there is no such file.") from None
    except (OSError, ValueError, EOFError):
        raise Refusal(f"--args {path}: it is not an .npz file of arrays.") from None
    if not arrays:
        raise Refusal(f"--args {path}: there are no arrays in it.")
    return arrays


def _parameters(fun: Callable) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(fun).parameters)
    except (TypeError, ValueError):
        return {}


def _in_order(found: dict[str, Any], fun: Callable, where: str) -> tuple[Any, ...]:
    """Return arguments by the names of a function's parameters, or in order when none is one."""
    parameters = _parameters(fun)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, p in parameters.items() if p.kind in positional]
    needed = [name for name in names if parameters[name].default is inspect.Parameter.empty]
    heading = f"{function_name(fun)} ({', '.join(parameters)})"
    if not set(found) & set(parameters):
        if len(found) < len(needed):
            raise Refusal(
                f"{where}: taken in the order of the parameters of {heading}, its arrays leave "
                f"none for {needed[len(found)]}."
            )
        return tuple(found.values())
    for name in found:
        if name not in names:
            only = ", or only by keyword" if name in parameters else ""
            raise Refusal(f"{where}: {name} is no parameter of {heading}{only}.")
    last = max(map(names.index, found))
    for name in names:
        if name not in found and (name in needed or names.index(name) < last):
            raise Refusal(f"{where}: it has no array {name}, a parameter of {heading}.")
    return tuple(found[name] for name in names if name in found)


def judge(fun: str, grad: str | None, reference: str | None, args: str) -> Report:
    """Return the report on the gradient of a function; all are `module:function`."""
    judged = named(fun, "FUNCTION")
    derivative = named(grad, "--grad") if grad else None
    other = named(reference, "--reference") if reference else None
    at = arguments(args, judged)
    try:
        return audit_gradient(judged, derivative, *at, reference=other)
    except (Exception, SystemExit) as error:
        shapes = ", ".join(_shape(a) for a in at)
        raise Refusal(
            f"{fun} cannot be audited at its arguments ({shapes}): {_said(error)}"
        ) from error


def draw(report: Report, path: Path) -> None:
    """Write the picture of the Taylor remainders."""
    figure = require("matplotlib.figure", "plots").Figure(figsize=(6, 4.2), layout="constrained")
    report.plot(figure.subplots())
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise Refusal(f"--plot {path}: it could not be written: {error}") from error


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
    if isinstance(error, SystemExit):
        return f"it ended the program, with exit code {error.code or 0}"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {first}"
