"""Gradients with planted bugs, and right ones of awkward functions, to measure auditors by."""

from experiments.gradient_catalogue.bugs import BUGS
from experiments.gradient_catalogue.cases import Case
from experiments.gradient_catalogue.correct import CORRECT

__all__ = ["BUGS", "CORRECT", "Case"]
