"""What the shell's `jaxlr` runs: the commands, their options and their help.

It is a package beside `jaxlr` since importing anything of `jaxlr` imports JAX, which takes a
second: a command imports `jaxlr.cli` when it runs, and not for its help.
"""

import signal


def main() -> None:
    """Run the command line. Ctrl-C ends it at once, as SIGTERM does, and not by an exception.

    An exception is lost where Python ignores it, as in a callback of its garbage collector, and
    XLA is deaf to it. What is half written goes all the same: see `jaxlr.base.atomic`.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jaxlr_command.app import main

    main()
