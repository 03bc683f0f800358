"""How much work a command begins: said before it starts."""

import sys

from jaxlr.cli.data import Data

# Lanes × examples × features × classes. 500 lanes of scikit-learn's digits are 6e8 and take
# 190 s of CPU; 20,000 × 100 in 10 classes are 2e7 and take some 10 s.
_LONG = 10**9


def announce(data: Data, lanes: int, what: str) -> None:
    """Say on stderr what is fitted: on a terminal, and anywhere if it will take minutes.

    Args:
        data: what is fitted to; nothing is said of zeros that stand in for it.
        lanes: how many fits.
        what: they are.
    """
    batch = data.batch
    stands_in = data.design is not None and not data.source
    long = lanes * batch.m_examples * batch.n_features * batch.n_classes > _LONG
    if stands_in or not (long or sys.stderr.isatty()):
        return
    size = f"{batch.m_examples} examples × {batch.n_features} features, {batch.n_classes} classes"
    end = ": this may take many minutes …" if long else " …"
    print(f"Fitting {what} to {size}{end}", file=sys.stderr, flush=True)
