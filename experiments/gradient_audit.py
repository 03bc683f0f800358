"""Which tool tells wrong gradients from right ones?

A catalogue of gradients with planted bugs and of right gradients of awkward functions, each
judged with defaults by `jaxlr.audit`, by `jax.test_util.check_grads` and by
`chex.assert_numerical_grads` (pip install chex; left out when it is missing). The last two are
told which modes of differentiation exist; `jaxlr.audit` finds out.

    python -m experiments.gradient_audit [words of the names of cases …]

prints a table and leaves it in experiments/results/.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import jax
import jax.test_util

from experiments.gradient_catalogue import BUGS, CORRECT, Case
from experiments.record import save
from jaxlr.audit import audit_gradient

AGREES, DISAGREES, CANNOT_TELL = "agrees", "disagrees", "cannot tell"


def _asserts(check: Callable[..., None]) -> Callable[[Case], str]:
    """A tool that asserts: what it raises is its verdict."""

    def judge(case: Case) -> str:
        try:
            check(case.fun, case.args, order=2, modes=case.modes)
        except Exception:
            return DISAGREES
        return AGREES

    return judge


def tools() -> dict[str, Callable[[Case], str]]:
    """Return the tools, each a function from a case to a verdict."""
    found: dict[str, Callable[[Case], str]] = {
        "jaxlr.audit": lambda case: audit_gradient(case.fun, None, *case.args).verdict.words,
        "check_grads": _asserts(jax.test_util.check_grads),
    }
    try:
        import chex
    except ImportError:
        print("chex is missing: its column is left out (pip install chex).")
    else:
        found["chex"] = _asserts(chex.assert_numerical_grads)
    return found


def due(case: Case) -> str:
    """Return the right verdict."""
    if case.open:
        return CANNOT_TELL
    return DISAGREES if any(case is bug for bug in BUGS) else AGREES


def judge_all(words: list[str]) -> list[dict]:
    """Return a record for each case: its name, the right verdict and those of the tools."""
    found, records = tools(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in (*BUGS, *CORRECT):
            if words and not any(word in case.name for word in words):
                continue
            record: dict = {"case": case.name, "due": due(case), "open": case.open, "seconds": {}}
            for name, judge in found.items():
                start = time.perf_counter()
                record[name] = judge(case)
                record["seconds"][name] = round(time.perf_counter() - start, 2)
            records.append(record)
            marks = (
                f"{name}: {record[name]}" + " (wrong)" * (record[name] != record["due"])
                for name in found
            )
            print(f"{case.name:44} {', '.join(marks)}", flush=True)
    return records


def table(records: list[dict]) -> str:
    """Return how often each tool was right, as text."""
    bugs = [r for r in records if r["due"] == DISAGREES]
    right = [r for r in records if r["due"] == AGREES]
    open_ = [r for r in records if r["due"] == CANNOT_TELL]
    lines = [
        f"{len(bugs)} planted bugs, {len(right)} right gradients, {len(open_)} open points",
        f"{'':12} {'bugs caught':>12} {'missed':>7} {'false alarms':>13} "
        f"{'cannot tell':>12} {'seconds':>8}",
    ]
    for name in records[0]["seconds"]:
        caught = sum(r[name] == DISAGREES for r in bugs)
        missed = sum(r[name] == AGREES for r in bugs)
        alarms = sum(r[name] == DISAGREES for r in (*right, *open_))
        open_answers = sum(r[name] == CANNOT_TELL for r in records)
        seconds = sum(r["seconds"][name] for r in records)
        lines.append(
            f"{name:12} {caught:>9}/{len(bugs):<2} {missed:>7} "
            f"{alarms:>10}/{len(right) + len(open_):<2} {open_answers:>12} {seconds:>8.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    records = judge_all(sys.argv[1:])
    text = table(records)
    print(f"\n{text}")
    save("gradient_audit", records, table=text.splitlines())


if __name__ == "__main__":
    main()
