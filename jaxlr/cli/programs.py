"""Compiled programs, which the command line keeps in the user's cache folder for the next time."""

import contextlib
import glob
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_MOST = 200 * 2**20  # bytes in the folder; `jaxlr sweep` on data of a new shape adds half a MB
_LEAST = {  # what a program that is kept takes at least
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}
_FAILED = re.compile(r"Error (?:reading|writing) persistent compilation cache entry for '([^']+)'")


def use_cache(cache: bool) -> None:
    """Let JAX keep this process's programs in the user's cache folder; or not, if told so.

    Where the user has told JAX of another folder, or to keep nothing, it is left at that. What is
    wrong with the folder or with a file in it ends no command: it compiles anew.
    """
    if not cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    # All programs: together, the small ones take a second or two to compile.
    for name, least in _LEAST.items():
        if name.upper() not in os.environ:
            jax.config.update(name, least)
    told = "JAX_COMPILATION_CACHE_DIR" in os.environ or _setting("jax_compilation_cache_dir")
    folder = None if told else _folder()
    if folder is None or not _setting("jax_enable_compilation_cache"):
        return
    _trim(folder, _MOST)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # First of the filters, so that no setting of the user's makes an error of it.
    warnings.filterwarnings("always", _FAILED.pattern, UserWarning)
    warnings.showwarning = _mending(folder, warnings.showwarning)


def _setting(name: str) -> Any:
    return getattr(jax.config, name)  # `read` refuses some


def _folder() -> Path | None:
    """Return the folder of the programs, or None if there is none and it cannot be made."""
    try:
        import platformdirs
    except ModuleNotFoundError:
        return None
    folder = Path(platformdirs.user_cache_dir("jaxlr", appauthor=False)) / "programs"
    if not folder.is_absolute():  # a user without a home
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)  # the user's own: what is in it will be run
    except OSError:
        return None
    return folder


def _trim(folder: Path, most: int) -> None:
    """Remove the files that were used last the longest ago, until at most so many bytes are left.

    JAX's own limit, jax_compilation_cache_max_size, is not used: it takes a lock for each program,
    and if a process is killed between two of its files, JAX 0.10 writes no more.
    """
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process removes files, too
            about = path.stat()
            if path.is_file():
                found.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    size = sum(length for _, length, _ in found)
    for _, length, path in sorted(found):
        if size <= most:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        size -= length


def _mending(folder: Path, show: Callable[..., Any]) -> Callable[..., None]:
    """Return what shows warnings, but removes the files of a program if JAX warns of them.

    JAX leaves a damaged file as it is, as of a process that was killed while it wrote, and would
    compile that program each time.
    """

    def show_or_mend(message: Any, *args: Any, **kwargs: Any) -> None:
        failed = _FAILED.match(str(message))
        if failed is None:
            show(message, *args, **kwargs)
            return
        for path in folder.glob(f"{glob.escape(failed[1])}-*"):
            with contextlib.suppress(OSError):
                path.unlink()

    return show_or_mend
