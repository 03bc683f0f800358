"""What the shell's `jaxlr` runs; outside the package, since to import that takes a second."""

import signal


def main() -> None:
    """Run the command line. Ctrl-C ends it at once, as SIGTERM does, and not by an exception.

    An exception is lost where Python ignores it, as in a callback of its garbage collector, and
    XLA is deaf to it. What is half written goes all the same: see `jaxlr.files`.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jaxlr.cli import main

    main()
