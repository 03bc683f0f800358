"""How much work a command begins: said before it starts."""

import contextlib
import sys
from collections.abc import Iterator

from jaxlr.base.extras import require
from jaxlr.files.data_set import Data

# Lanes × examples × features × classes. 500 lanes of scikit-learn's digits are 6e8 and take
# 31 s of CPU; 20,000 × 100 in 10 classes are 2e7 and take some 10 s.
_LONG = 10**9


@contextlib.contextmanager
def announced(data: Data, lanes: int, what: str) -> Iterator[None]:
    """Say on stderr what is fitted: on a terminal, and anywhere if it will take minutes.

    On a terminal a bar moves and the time is told while the fits run. They are one program, which
    does not say how far it is.

    Args:
        data: what is fitted to; nothing is said of zeros that stand in for it.
        lanes: how many fits.
        what: they are.
    """
    batch, terminal = data.batch, sys.stderr.isatty()
    stands_in = data.design is not None and not data.source
    long = lanes * batch.m_examples * batch.n_features * batch.n_classes > _LONG
    if stands_in or not (long or terminal):
        yield
        return
    size = f"{batch.m_examples} examples × {batch.n_features} features, {batch.n_classes} classes"
    end = ": this may take many minutes …" if long else " …"
    print(f"Fitting {what} to {size}{end}", file=sys.stderr, flush=True)
    with _moving_bar() if terminal else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _moving_bar() -> Iterator[None]:
    """Show a bar that moves beside the time that has passed; it vanishes in the end."""
    rich = require("rich.progress", "cli")
    console = require("rich.console", "cli").Console(stderr=True, force_jupyter=False)
    columns = rich.BarColumn(), rich.TimeElapsedColumn()
    with rich.Progress(*columns, console=console, transient=True) as progress:
        progress.add_task("", total=None)
        yield
