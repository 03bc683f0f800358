"""What the shell's `jaxlr` runs; outside the package, since to import that takes a second."""

import signal


def main() -> None:
    """Run the command line. Ctrl-C while it is imported ends it at once, without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # and not ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jaxlr.cli import main

    signal.signal(signal.SIGINT, before)
    main()
