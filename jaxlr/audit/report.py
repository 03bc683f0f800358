"""What an audit found: a verdict, the evidence for it as a table, and what to look at first."""

from __future__ import annotations

import enum
import math
import textwrap
from typing import Any, NamedTuple

WIDTH = 80


class Verdict(enum.IntEnum):
    """The answer of an audit; as an integer, the exit code of a shell command.

    >>> Verdict.CANNOT_TELL.words
    'cannot tell'
    """

    AGREES = 0
    DISAGREES = 1
    CANNOT_TELL = 2

    @property
    def words(self) -> str:
        """The verdict in lower-case words."""
        return self.name.lower().replace("_", " ")


class GradientError(AssertionError):
    """Raised by `Report.raise_if_failed`; its message is the printed report."""


class Evidence(NamedTuple):
    """One row of the table: a leaf (or the whole gradient) against one kind of evidence.

    Args:
        leaf: path of the leaf, as in `params.w`; "" for a check of the whole gradient.
        shape: its shape.
        check: the kind of evidence: "differences", "complex step", "second order" …
        deviation: largest |judged − evidence|.
        relative: the deviation there, relative to the entry or to what the check is scaled by.
        where: index of the largest deviation.
        noise: the estimated error of the evidence there, absolute.
        verdict: of this row alone.
        note: the reason, in words; or "".
        vague: whether it would not have seen an error of 1e-3 of the leaf; it then agrees with
            a derivative of zero only.

    """

    leaf: str
    shape: tuple[int, ...]
    check: str
    deviation: float
    relative: float
    where: str
    noise: float
    verdict: Verdict
    note: str = ""
    vague: bool = False


class Remainder(NamedTuple):
    """A Taylor-remainder test in one direction: `|f(x + h·v) − f(x) − h·g·v|` against h.

    Args:
        label: the direction, in words.
        steps: h, descending.
        remainders: the remainder at each step.
        noise: the rounding of f, below which a remainder means nothing.
        order: the observed order: 2 when g is right, 1 when it is not; NaN below the noise.

    """

    label: str
    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    noise: float
    order: float


class Report(NamedTuple):
    """The outcome of `audit_gradient`: `print` it, or `raise_if_failed` in a test.

    Args:
        name: of the function.
        verdict: AGREES, DISAGREES or CANNOT_TELL.
        rows: the evidence, worst first.
        hints: what to look at first, in words; or, for CANNOT_TELL, what would settle it.
        notes: what was not judged, which modes are missing.
        remainders: the Taylor tests.

    """

    name: str
    verdict: Verdict
    rows: tuple[Evidence, ...] = ()
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remainders: tuple[Remainder, ...] = ()

    def __str__(self) -> str:
        """Return the report as text of at most 80 columns."""
        lines = _wrap(
            f"{self.verdict.words.upper()}: {_HEADLINES[self.verdict].format(self.name)}", ""
        )
        for hint in self.hints:
            lines += _wrap(f"→ {hint}", "  ")
        if self.rows:
            lines += ["", *_table(self.rows)]
        orders = [r.order for r in self.remainders if not math.isnan(r.order)]
        if orders:
            seen = ", ".join(f"{order:.2f}" for order in orders)
            lines += ["", *_wrap(f"Order of the Taylor remainder (2 if right): {seen}", "")]
        if self.notes:
            lines += ["", *[line for note in self.notes for line in _wrap(note, "")]]
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return the same text, which is what a notebook shows."""
        return str(self)

    @property
    def ok(self) -> bool:
        """Whether the verdict is AGREES."""
        return self.verdict == Verdict.AGREES

    def raise_if_failed(self) -> Report:
        """Return the report when it agrees; else raise `GradientError` with its text.

        Raises:
            GradientError: for DISAGREES, and for CANNOT_TELL: a test that saw nothing proves
                nothing.

        """
        if not self.ok:
            raise GradientError(f"\n{self}")
        return self

    def plot(self, ax: Any = None) -> Any:
        """Draw the Taylor remainder against the step, with the slopes of order 1 and 2.

        Args:
            ax: matplotlib axes; new ones when None.

        Returns:
            The axes.

        Raises:
            ImportError: without matplotlib.

        """
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                message = 'report.plot() needs matplotlib: pip install "jaxlr[plots]"'
                raise ImportError(message) from error
            _, ax = plt.subplots()
        drawn = 0
        for remainder in self.remainders:
            seen = [
                (h, max(y, remainder.noise, 1e-300))
                for h, y in zip(remainder.steps, remainder.remainders, strict=True)
                if math.isfinite(y)
            ]
            if not seen:
                continue
            order = remainder.order
            said = "below the noise" if math.isnan(order) else f"order {order:.1f}"
            ax.loglog(
                *zip(*seen, strict=True), "o-", markersize=3, label=f"{remainder.label}: {said}"
            )
            drawn += 1
        if drawn:
            _slopes(ax)
            ax.legend()
        else:
            text = "no remainder: fun or the gradient is not finite here, or has another shape"
            ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, wrap=True)
            ax.set_xticks([])
            ax.set_yticks([])
        ax.set_xlabel("step h")
        ax.set_ylabel("|f(x + hv) − f(x) − h·g·v|")
        ax.set_title(f"{self.name}: {_TITLES[self.verdict]}")
        return ax


def _slopes(ax: Any) -> None:
    """Draw the slopes of order 1 and 2 through the largest remainder, as far as there are any."""
    points = [line.get_xydata() for line in ax.get_lines()]
    h0, start = max((line[0] for line in points), key=lambda point: point[1])
    smallest = min(line[:, 0].min() for line in points)
    bottom = min(line[:, 1].min() for line in points) / 10
    for order, name in ((1, "h"), (2, "h²")):
        # Down to the smallest step, or to the bottom of the picture.
        end = max(smallest, h0 * (bottom / start) ** (1 / order))
        ends = [h0, end], [start, start * (end / h0) ** order]
        ax.loglog(*ends, "k" + ":-"[order - 1], alpha=0.4)
        ax.annotate(name, (ends[0][1], ends[1][1]), (-4, 2), textcoords="offset points", ha="right")
    ax.set_ylim(bottom=bottom)


_HEADLINES = {
    Verdict.AGREES: "the gradient of {} is right, as far as the evidence sees.",
    Verdict.DISAGREES: "the gradient of {} is wrong.",
    Verdict.CANNOT_TELL: "whether the gradient of {} is right is not settled.",
}


_TITLES = {
    Verdict.AGREES: "the gradient agrees",
    Verdict.DISAGREES: "the gradient disagrees",
    Verdict.CANNOT_TELL: "the gradient is not settled",
}


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]


def _number(a: float) -> str:
    return "–" if math.isnan(a) else f"{a:.1e}"


_COLUMNS = (
    ("leaf", 13),
    ("shape", 8),
    ("evidence", 17),
    ("abs.dev", 7),
    ("rel.dev", 7),
    ("at", 9),
    ("noise", 7),
    ("", 5),
)
_SHORT = {Verdict.AGREES: "ok", Verdict.DISAGREES: "WRONG", Verdict.CANNOT_TELL: "?"}


def _table(rows: tuple[Evidence, ...]) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        fields = zip(cells, _COLUMNS, strict=True)
        return " ".join(f"{_cut(cell, width):<{width}}" for cell, (_, width) in fields).rstrip()

    lines = [line(tuple(name for name, _ in _COLUMNS)), "─" * WIDTH]
    for row in rows:
        cells = (
            row.leaf or "(all)",
            "×".join(map(str, row.shape)) if row.leaf else "",
            row.check,
            _number(row.deviation),
            _number(row.relative),
            row.where,
            _number(row.noise),
            _SHORT[row.verdict],
        )
        lines.append(line(cells))
        if row.note:
            lines += _wrap(row.note, "    ")
    return lines
