"""Warnings that name the line of the caller's own."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

import jax


def warn_user(message: str) -> None:
    """Warn, and name the line of the caller's own that led here, not one of JAX or jaxlr."""
    inner = tuple(os.path.dirname(str(file)) for file in (jax.__file__, os.path.dirname(__file__)))
    frame, level = sys._getframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith((*inner, contextlib.__file__)):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)
