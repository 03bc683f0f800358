"""Memory that is free, for the system to have."""

import contextlib
import ctypes

from jaxlr.extras import require


def give_back() -> None:
    """Give back what compiling and parsing have freed, where it is known how to."""
    require("pyarrow", "cli").default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
