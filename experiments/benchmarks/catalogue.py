"""The workloads: what each asks, its data, and the ways that are timed on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.benchmarks import workloads
from experiments.benchmarks.workloads import Problem

_JOBS = ({"n_jobs": -1}, {"n_jobs": 1})


class Way(NamedTuple):
    """A way to run a workload.

    Args:
        label: how the table names it.
        function: `"room:name"`, of a Problem, that returns a `Ready`.
        options: alternatives to try; the fastest is kept.
        part: penalties and columns of weights to run, None for all; times are scaled.
    """

    label: str
    function: str
    options: tuple[dict[str, Any], ...] = ({},)
    part: tuple[int | None, int | None] = (None, None)


class Workload(NamedTuple):
    """One workload: the first of its ways is jaxlr's."""

    title: str
    make: Callable[[], Problem]
    ways: tuple[Way, ...]


def workload(name: str, quick: bool) -> Workload:
    """Return a workload by its name, W1 to W9, smaller if quick."""
    return _ALL[name](quick)


def _cv(solver: str, columns: int | None = None, tol: float | None = None) -> Way:
    label, options = _jobs(solver, tol)
    return Way(f"LogisticRegressionCV {label}", "peers:sklearn_cv", options, (None, columns))


def _loop(solver: str, part=(None, None), tol: float | None = None) -> Way:
    label, options = _jobs(solver, tol)
    return Way(f"scikit-learn {label}", "peers:sklearn_loop", options, part)


def _jobs(solver: str, tol: float | None) -> tuple[str, tuple[dict[str, Any], ...]]:
    label, given = _solver(solver, tol)
    return label, tuple({**given, **jobs} for jobs in _JOBS)


def _solver(solver: str, tol: float | None) -> tuple[str, dict[str, Any]]:
    if tol is None:
        return solver, {"solver": solver}
    return f"{solver}, tol {tol:.0e}", {"solver": solver, "tol": tol}


def _one(solver: str, tol: float | None = None) -> Way:
    label, given = _solver(solver, tol)
    return Way(f"scikit-learn {label}", "peers:sklearn_loop", (given,))


_CV = Way("jaxlr", "ours:cross_validate")
_FIT = Way("jaxlr", "ours:fit")
_GLUM = Way("glum", "peers:glum_loop")
_SINGLE = (_FIT, _one("lbfgs"), _one("newton-cholesky"), _GLUM)


def _general(
    columns: int | None = None, penalties: int | None = None, tol: float | None = None
) -> tuple[Way, Way]:
    part, given = (penalties, columns), ({} if tol is None else {"tol": tol},)
    suffix = "" if tol is None else f", tol {tol:.0e}"
    return (
        Way(f"vmap of jaxopt.LBFGS{suffix}", "peers:jaxopt_lanes", given, part),
        Way(f"vmap of optax.lbfgs{suffix}", "peers:optax_lanes", given, part),
    )


def _w1(quick: bool) -> Workload:
    m, n = (12_288, 32) if quick else (196_608, 128)
    return Workload(
        f"{m:,} × {n}, correlated; 5 folds × 10 C",
        lambda: workloads.cross_validation(m, n, 5, 10),
        (
            _CV, _cv("lbfgs"), _cv("lbfgs", tol=1e-6), _cv("newton-cholesky"),
            Way("glum", "peers:glum_loop", _JOBS, (None, 2)), *_general(2),
        ),
    )  # fmt: skip


def _w2(quick: bool) -> Workload:
    m, n, values = (12_288, 32, 30) if quick else (196_608, 128, 100)
    return Workload(
        f"{m:,} × {n}, correlated; 10 folds × {values} C",
        lambda: workloads.cross_validation(m, n, 10, values),
        (_CV, _cv("lbfgs", 2), _cv("lbfgs", 2, 1e-6), _cv("newton-cholesky", 2)),
    )


def _w3(quick: bool) -> Workload:
    m, n, K, values = (4_000, 64, 10, 12) if quick else (50_000, 512, 10, 96)
    part = (4, None) if quick else (8, None)
    return Workload(
        f"linear probe: {m:,} × {n}, {K} classes; {values} penalties",
        lambda: workloads.probe(m, n, K, values),
        # Not newton-cholesky: one step on 5,120 parameters takes it minutes.
        (
            Way("jaxlr", "ours:sweep"),
            _loop("lbfgs", part),
            _loop("lbfgs", part, 1e-6),
            *_general(penalties=part[0]),
        ),
    )


def _w4(quick: bool) -> Workload:
    m, n, count = (4_000, 20, 100) if quick else (20_000, 50, 1_000)
    part = (None, 10 if quick else 100)
    return Workload(
        f"bootstrap: {count:,} refits of {m:,} × {n}",
        lambda: workloads.resamples(m, n, count),
        (
            Way("jaxlr", "ours:bootstrap"), _loop("lbfgs", part), _loop("lbfgs", part, 1e-6),
            _loop("newton-cholesky", part), Way("glum", "peers:glum_loop", _JOBS, part),
        ),
    )  # fmt: skip


def _w5(m: int, n: int) -> Callable[[bool], Workload]:
    def make(quick: bool) -> Workload:
        rows = m // 16 if quick else m
        return Workload(
            f"one fit: {rows:,} × {n}, C = 1",
            lambda: workloads.one_fit(rows, n),
            (*_SINGLE, Way("statsmodels, no penalty", "peers:statsmodels_fit"), *_general()),
        )

    return make


def _w7(quick: bool) -> Workload:
    values = 20 if quick else 100
    return Workload(
        f"breast cancer, 569 × 30, standardised; 10 folds × {values} C",
        lambda: workloads.breast_cancer(10, values),
        (
            _CV, _cv("lbfgs"), _cv("lbfgs", tol=1e-6), _cv("newton-cholesky"),
            Way("glum", "peers:glum_loop", part=(5, 2)), *_general(None, 10),
        ),
    )  # fmt: skip


def _w8(quick: bool) -> Workload:
    m = 4_601 if quick else 46_010
    return Workload(
        f"raw columns of scales 1e-5…1e7: {m:,} × 57, 1 % positives, C = 1e4",
        lambda: workloads.wild(m),
        _SINGLE,
    )


def _w9(quick: bool) -> Workload:
    m, n = (100, 1_000) if quick else (250, 5_000)
    return Workload(
        f"wide: {m} × {n:,}, C = 1",
        lambda: workloads.wide(m, n),
        (*_SINGLE, _one("lbfgs", 1e-6), *_general(), *_general(tol=1e-6)),
    )


_ALL: dict[str, Callable[[bool], Workload]] = {
    "W1": _w1,
    "W2": _w2,
    "W3": _w3,
    "W4": _w4,
    "W5a": _w5(196_608, 128),
    "W5b": _w5(1_000_000, 50),
    "W7": _w7,
    "W8": _w8,
    "W9": _w9,
}
