"""Gradients with planted bugs, and right ones of awkward functions, to measure auditors by."""

from experiments.gradient_catalogue.bugs import PLAIN
from experiments.gradient_catalogue.cases import Case
from experiments.gradient_catalogue.correct import CORRECT
from experiments.gradient_catalogue.hidden import HIDDEN

BUGS = (*PLAIN, *HIDDEN)

__all__ = ["BUGS", "CORRECT", "Case"]
