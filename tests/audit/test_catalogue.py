"""A fixed part of the catalogue of `experiments.gradient_audit`."""

import jax
import pytest

from experiments.gradient_catalogue import CORRECT
from experiments.gradient_catalogue.bugs import PLAIN
from experiments.gradient_catalogue.hidden import HIDDEN
from jaxlr.audit import Verdict, audit_gradient

OPEN = [case for case in CORRECT if case.open]
BUGS = [*HIDDEN, *PLAIN[::12]]
SAMPLE = [*BUGS, *OPEN, *CORRECT[: -len(OPEN) : 12]]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize("case", SAMPLE, ids=[case.name for case in SAMPLE])
def test_the_verdict_is_the_right_one(case):
    with jax.numpy_rank_promotion("allow"):
        report = audit_gradient(case.fun, None, *case.args)
    due = Verdict.DISAGREES if any(case is bug for bug in BUGS) else Verdict.AGREES
    assert report.verdict == (Verdict.CANNOT_TELL if case.open else due), str(report)
