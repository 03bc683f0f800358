"""Memory: how much there is, and giving back what is free."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path


def give_back() -> None:
    """Give back what compiling and parsing have freed, where it is known how to."""
    pyarrow = sys.modules.get("pyarrow")  # not imported, it holds nothing
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's


def total_memory() -> int | None:
    """Return the bytes of memory of this machine, or of its container; None if unknown."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # as on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of version 2 and 1
        with contextlib.suppress(OSError, ValueError):  # "max" stands for no limit
            found.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min((size for size in found if size > 0), default=None)
