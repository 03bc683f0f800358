"""Optional packages, imported when they are first needed."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtra(ImportError):
    """Raised when an optional package is not installed; says how to install it."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra of jaxlr brings it.

    Args:
        module: the module's full name, such as `"matplotlib.figure"`.
        extra: the extra that installs it.

    Returns:
        The module.

    Raises:
        MissingExtra: when it is not installed.

    >>> require("no_such_package", "plots")
    Traceback (most recent call last):
    ...
    jaxlr.base.extras.MissingExtra: This needs no_such_package, which is not installed:
    pip install "jaxlr[plots]"
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise  # it is installed, and misses something of its own
        raise MissingExtra(
            f'This needs {package}, which is not installed: pip install "jaxlr[{extra}]"',
            name=package,
        ) from None
