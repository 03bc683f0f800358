"""A warning where a fit that failed is differentiated."""

from __future__ import annotations

import jax
from jax.core import Tracer

from jaxlr.base.warning import warn_user
from jaxlr.model.solution import FitError, Solution


def warn_if_failed(solution: Solution) -> Solution:
    """Return the solution; where it is differentiated outside jit and vmap, warn of failed lanes.

    The rule of a derivative runs in Python, and outside jit the status is there to look at. No
    callback is compiled, which would cost time and could not be exported: inside jit the status
    says it.
    """
    return _watched(solution) if isinstance(solution.loss, Tracer) else solution


@jax.custom_jvp
def _watched(solution: Solution) -> Solution:
    return solution


@_watched.defjvp
def _watched_jvp(primals: tuple, tangents: tuple) -> tuple:
    (solution,) = primals
    if not isinstance(solution.status, Tracer):
        try:
            solution.raise_if_failed()
        except FitError as failure:
            warn_user(f"{failure} Its derivatives are NaN.")
    return solution, *tangents
