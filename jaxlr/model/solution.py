"""How a fit ended, and what it found."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import numpy as np

from jaxlr.base.printing import Shown, array_of, numbers, shape_of, shown
from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Params


class Status(enum.IntEnum):
    """How a fit ended. In a `Solution` it is an integer array, so that lanes stack."""

    CONVERGED = 0
    PRECISION_REACHED = 1
    OUT_OF_PASSES = 2
    NO_FINITE_OPTIMUM = 3
    NOT_FINITE = 4

    @property
    def ok(self) -> bool:
        """Whether the parameters are an optimum, to the tolerance or to the dtype's precision."""
        return self <= Status.PRECISION_REACHED

    @property
    def message(self) -> str:
        """What the status means, in a sentence."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "the tolerance was met",
    Status.PRECISION_REACHED: "the precision of the dtype was reached before the tolerance",
    Status.OUT_OF_PASSES: "max_passes was reached before the tolerance",
    Status.NO_FINITE_OPTIMUM: "there is no finite optimum: the classes can be separated without "
    "penalty, a class has no examples, or a penalty or weight is negative",
    Status.NOT_FINITE: "the loss or its gradient is NaN or infinite at the start",
}


def status_words(status: np.ndarray) -> list[str]:
    """Return how lanes ended, in words; with counts where they differ.

    >>> status_words(np.array([0, 0])), status_words(np.array([0, 2, 0]))
    (['converged'], ['2 converged', '1 out of passes'])
    """
    codes, counts = np.unique(status, return_counts=True)
    words = [Status(int(code)).name.lower().replace("_", " ") for code in codes]
    if len(words) == 1:
        return words
    return [f"{count} {word}" for count, word in zip(counts, words, strict=True)]


class FitError(RuntimeError):
    """Raised on the host by `Solution.raise_if_failed`."""


def _solution(solution: Any) -> Shown:
    codes = array_of(solution.status)
    if codes is None:
        title = "Solution"
    elif codes.ndim:
        ends = ", ".join(status_words(codes.astype(int)))
        title = f"Solution of {' × '.join(map(str, codes.shape))} lanes: {ends}"
    else:
        title = f"Solution: {status_words(codes.astype(int))[0]}"
    rows = {name: shape_of(getattr(solution.params, name, None)) for name in ("w", "b")}
    rest = ("loss", "gradient_norm", "suboptimality", "estimate", "num_passes")
    return title, rows | {name: numbers(getattr(solution, name)) for name in rest}


@shown(_solution)
class Solution(NamedTuple):
    """What a fit returns: a pytree whose leaves are arrays, so that lanes stack.

    Args:
        params: the parameters found.
        loss: the objective there, `()`.
        gradient_norm: Euclidean norm of the objective's gradient there, `()`.
        suboptimality: upper bound on `loss − optimum`, `()`; infinite where none is known.
        num_passes: passes over X that were spent, `()` int32.
        status: a `Status` code, `()` int32.
        estimate: of `loss − optimum`, `()`: `½·gᵀHg` with g the gradient and H the search's
            inverse Hessian. Not a bound, but there without a penalty as well.
    """

    params: Params
    loss: Array
    gradient_norm: Array
    suboptimality: Array
    num_passes: Array
    status: Array
    estimate: Array

    def raise_if_failed(self) -> Solution:
        """Return the solution, or raise `FitError` naming the lanes that are not an optimum.

        Reads the status on the host: not for use inside jit.
        """
        status = np.asarray(self.status)
        failed = np.argwhere(status > Status.PRECISION_REACHED)
        if not len(failed):
            return self
        first = Status(int(status[tuple(failed[0])]))
        if status.ndim == 0:
            raise FitError(f"The fit failed: {first.message} (status {int(first)}).")
        lane = ", ".join(map(str, failed[0]))
        raise FitError(
            f"{len(failed)} of {status.size} lanes failed; the first is lane {lane}: "
            f"{first.message} (status {int(first)})."
        )
