"""How a command ends that did not do what it was asked to: a sentence and an exit code."""

import contextlib
import sys
import traceback
from collections.abc import Iterator


@contextlib.contextmanager
def in_a_sentence(code: int = 2) -> Iterator[None]:
    """Say what went wrong in place of a traceback, and end with an exit code."""
    try:
        yield
    except BrokenPipeError:  # nobody reads on, as after `| head`
        raise
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        _let_go(error)
        print(f"jaxlr: {sentence}", file=sys.stderr)
        sys.exit(code)


def _let_go(error: BaseException | None) -> None:
    """Close the files that the traceback of an error keeps open, as they are being read ahead."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _sentence(error: Exception) -> str | None:
    """Return what the user is told of an error; None of one that nobody foresaw."""
    # Late, as these import JAX.
    from jaxlr.base.atomic import WriteError
    from jaxlr.base.extras import MissingExtra
    from jaxlr.cli.refusal import Refusal
    from jaxlr.tables import TableError

    if isinstance(error, (Refusal, MissingExtra, TableError, WriteError)):
        return str(error)
    if not isinstance(error, OSError):
        return None
    what = f"{error.filename} cannot be read"  # files that are written raise WriteError
    if error.filename is None:
        what = "standard output cannot be written"
        with contextlib.suppress(OSError):
            sys.stdout.close()  # else Python tries again at its exit
    return f"{what}: {error.strerror or error}."


def fail_if(failure: str | None) -> None:
    """End with exit code 1 and a sentence about what failed, if anything did."""
    if failure:
        print(f"jaxlr: {failure}", file=sys.stderr)
        sys.exit(1)
