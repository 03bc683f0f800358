"""Pieces of a page of HTML; every string that is given is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jaxlr.base.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = """
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff }
main { max-width: 62rem; margin: auto; padding: 1rem }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
p, pre { overflow-wrap: anywhere; max-width: 48rem }
.lead { font-size: 1.15rem }
.alarm { border-left: 4px solid #D55E00; padding-left: .75rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums }
th { border-color: #999; vertical-align: bottom; white-space: normal }
th:first-child, td:first-child, .name, .bars { text-align: left }
.name { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; max-width: 24rem }
.best { background: #e5f1f8; font-weight: 600 }
.one-se { background: #f3f3f3 }
.bar { display: inline-block; height: .7rem; background: #0072B2 }
.pictures { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
figure { margin: 0 }
img { width: 100%; height: auto }
figcaption { font-size: .9rem }
pre { white-space: pre-wrap; background: #f3f3f3; padding: .75rem }
"""


def document(title: str, lead: str, sections: Mapping[str, str]) -> str:
    """Return the whole page.

    Args:
        title: its headline.
        lead: the paragraph below it, as HTML.
        sections: their headlines, and what is in them as HTML.
    """
    parts = [f"<section><h2>{text(name)}</h2>{part}</section>" for name, part in sections.items()]
    return (
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        # A browser then refuses whatever is not on the page, should anything slip in.
        '<meta http-equiv=Content-Security-Policy content="default-src '
        "'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{text(title)}</h1>{lead}{''.join(parts)}</main></body></html>\n"
    )


def text(words: Any) -> str:
    """Return what shows as these words, within an element or a quoted attribute.

    >>> text("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return html.escape(str(words))


class Row(NamedTuple):
    """Cells of a table, and a class that the style knows."""

    cells: Sequence[Any]
    kind: str = ""


def table(head: Sequence[str], rows: Iterable[Row], names: int = 1) -> str:
    """Return a table whose first columns are names, which may break; all cells are escaped."""

    def line(tag: str, row: Row) -> str:
        cells = [
            f"<{tag}{' class=name' if i < names else ''}>{text(cell)}</{tag}>"
            for i, cell in enumerate(row.cells)
        ]
        return f"<tr{f' class={row.kind}' if row.kind else ''}>{''.join(cells)}</tr>"

    lines = "".join(line("td", row) for row in rows)
    return f"<div class=wide><table>{line('th', Row(head))}{lines}</table></div>"


def paragraph(words: str, kind: str = "") -> str:
    """Return the words as a paragraph, of a class that the style knows."""
    return f"<p{f' class={kind}' if kind else ''}>{text(words)}</p>"


def figure(ax: Axes, title: str, caption: str) -> str:
    """Return a drawing as an image within the page, with words for those who do not see it."""
    file = io.BytesIO()
    # Else there would be random names in it, and the date.
    with require("matplotlib", "plots").rc_context({"svg.hashsalt": "jaxlr"}):
        cast("Figure", ax.figure).savefig(file, format="svg", metadata={"Date": None})
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img alt="{text(title)}" src="data:image/svg+xml;base64,{source}">'
        f"<figcaption><b>{text(title)}.</b> {text(caption)}</figcaption></figure>"
    )
