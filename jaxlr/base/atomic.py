"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class WriteError(OSError):
    """Raised when a file cannot be written; says which, and why."""


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside `path` that takes its place when the block ends without an exception.

    Args:
        path: what is there is kept whole until then; a link is followed.
        replace: False to leave everything as it was: whether it could be written.

    Yields:
        A binary file to write to.

    Raises:
        WriteError: an `OSError`: it cannot be written, or `path` is no file, such as a folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_atomically(Path(folder, "a.txt")) as file:
    ...         _ = file.write(b"whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    target = Path(os.path.realpath(path))
    # Beside the target, since a file can be moved at one stroke only within a file system.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        if target.exists() and not target.is_file():
            raise OSError("it is there already, and is not a file")
        with _removed_if_killed(temporary), open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{os.fspath(path)} cannot be written: {reason}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def _removed_if_killed(path: Path) -> Iterator[None]:
    """Remove a file before a signal ends the process, where it would end it at once."""
    dying = [number for number in (signal.SIGINT, signal.SIGTERM)
             if signal.getsignal(number) is signal.SIG_DFL]  # fmt: skip
    if threading.current_thread() is not threading.main_thread():
        dying = []  # only the main thread may say what a signal does

    def die(number, _):
        with contextlib.suppress(OSError):
            path.unlink()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in dying:
        signal.signal(number, die)
    try:
        yield
    finally:
        for number in dying:
            signal.signal(number, signal.SIG_DFL)
