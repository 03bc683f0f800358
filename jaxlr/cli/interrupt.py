"""Ctrl-C ends a command at once, wherever it is."""

import signal


def end_at_once() -> None:
    """Let Ctrl-C end the process as SIGTERM does, and not by an exception.

    An exception is lost where Python ignores it, as in a callback of its garbage collector, and
    XLA is deaf to it. What is half written goes all the same: see `jaxlr.files`.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
