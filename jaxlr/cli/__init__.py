"""The command line: `jaxlr sweep` and `jaxlr audit`."""

from jaxlr.cli.app import main

__all__ = ["main"]
