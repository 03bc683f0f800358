"""What the shell's `jaxlr` runs; outside the package, since to import that takes a second."""

import signal


def main() -> None:
    """Run the command line. Ctrl-C ends it at once, from here on: see `jaxlr.cli.interrupt`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jaxlr.cli import main

    main()
