"""The command line: `jaxlr fit`, `sweep`, `predict`, `inspect` and `audit`."""

from jaxlr_command.app import main

__all__ = ["main"]
