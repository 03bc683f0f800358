"""Memory that is free, for the system to have."""

import contextlib
import ctypes
import sys


def give_back() -> None:
    """Give back what compiling and parsing have freed, where it is known how to."""
    pyarrow = sys.modules.get("pyarrow")  # not imported, it holds nothing
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
