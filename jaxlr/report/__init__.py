"""A sweep as one page of HTML that needs nothing else: no script, no font, no network."""

from jaxlr.report.contents import Sweep, page, write

__all__ = ["Sweep", "page", "write"]
