"""The command line: `jaxlr fit`, `sweep`, `predict`, `inspect` and `audit`."""

from jaxlr.cli.app import main

__all__ = ["main"]
