"""For tests: an assertion whose failure shows the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxlr.audit.audit import audit_gradient
from jaxlr.audit.report import Report


def assert_gradient(
    fun: Callable, grad: Callable | None = None, *args: Any, **options: Any
) -> Report:
    """Audit a gradient and fail, with the report as the message, unless it agrees.

    Args:
        fun, grad, *args, **options: as for `audit_gradient`.

    Returns:
        The report.

    Raises:
        GradientError: an AssertionError, for the verdicts DISAGREES and CANNOT_TELL.

    >>> import jax.numpy as jnp
    >>> assert_gradient(jnp.sin, jnp.cos, jnp.array(0.5)).ok
    True

    """
    __tracebackhide__ = True
    return audit_gradient(fun, grad, *args, **options).raise_if_failed()
