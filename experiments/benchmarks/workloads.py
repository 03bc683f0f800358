"""The data of the workloads, seeded: what is fitted, not how."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

_ARRAYS = ("X", "y", "l2", "columns", "folds", "counts", "X_val", "y_val")


@dataclasses.dataclass(frozen=True)
class Problem:
    """Lanes of fits to one data set: each penalty with each column of example weights.

    A lane minimises `Σ cᵢℓᵢ / Σ cᵢ + ½·l2·‖w‖²`, its c a column of weights: the examples outside
    a fold, the counts of a resample, or ones.

    Args:
        X, y: the examples as rows, `(m, n)` float32 and `(m,)` integers.
        l2: the penalties, strongest first, `(P,)` float64.
        columns: the numbers of the columns of weights, `(F,)`.
        folds: the fold number of each example, `(m,)`, or None.
        counts: how often each resample has each example, `(resamples, m)` uint8, or None.
        X_val, y_val: examples to score on, or None.
    """

    X: np.ndarray
    y: np.ndarray
    l2: np.ndarray
    columns: np.ndarray
    folds: np.ndarray | None = None
    counts: np.ndarray | None = None
    X_val: np.ndarray | None = None
    y_val: np.ndarray | None = None

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.y.max()) + 1

    @property
    def lanes(self) -> int:
        """P × F."""
        return len(self.l2) * len(self.columns)

    @property
    def m_train(self) -> int:
        """The examples a lane has, without the fold that is held out."""
        m = len(self.y)
        return m if self.folds is None else round(m - m / (int(self.folds.max()) + 1))

    def weights(self, column: int) -> np.ndarray:
        """Return one column of example weights, `(m,)`."""
        if self.folds is not None:
            return (self.folds != column).astype(np.float32)
        if self.counts is not None:
            return self.counts[column].astype(np.float32)
        return np.ones(len(self.y), np.float32)

    def part(self, penalties: int | None, columns: int | None) -> Problem:
        """Return the problem with fewer penalties, evenly spaced, ends included, or columns."""
        l2 = self.l2
        if penalties is not None and penalties < len(l2):
            l2 = l2[np.linspace(0, len(l2) - 1, penalties).round().astype(int)]
        return dataclasses.replace(self, l2=l2, columns=self.columns[:columns])

    def save(self, folder: Path) -> None:
        """Write the arrays as `folder/NAME.npy`."""
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                np.save(folder / f"{name}.npy", getattr(self, name))


def load(folder: Path) -> Problem:
    """Return the problem that `save` wrote."""
    paths = {name: folder / f"{name}.npy" for name in _ARRAYS}
    return Problem(**{name: np.load(path) for name, path in paths.items() if path.exists()})


def cross_validation(m: int, n: int, folds: int, values: int) -> Problem:
    """Return folds × values of C in 1e-4…1e4 on correlated columns."""
    rng = np.random.default_rng(1)
    X, y = correlated(m, n, rng)
    return _folded(X, y, folds, values, rng)


def breast_cancer(folds: int, values: int) -> Problem:
    """Return folds × values of C on the breast cancer data, its columns standardised."""
    from sklearn.datasets import load_breast_cancer

    rows, y = load_breast_cancer(return_X_y=True)
    X = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    return _folded(X, y.astype(np.int64), folds, values, np.random.default_rng(7))


def probe(m: int, n: int, K: int, values: int) -> Problem:
    """Return a linear probe: embeddings of K classes, penalties over 12 decades, held-out rows.

    The embeddings' spectrum falls as a power, the classes overlap, and 5 % of labels are wrong.
    """
    rng = np.random.default_rng(3)
    total = m + m // 5
    spectrum = np.arange(1, n + 1) ** -0.5
    y = rng.integers(0, K, total)
    X = rng.standard_normal((K, n))[y] + 1.5 * rng.standard_normal((total, n))
    X = (X * spectrum).astype(np.float32)
    y = np.where(rng.random(total) < 0.05, rng.integers(0, K, total), y)
    l2 = np.logspace(2, -10, values)
    return Problem(X[:m], y[:m], l2, _one(), X_val=X[m:], y_val=y[m:])


def resamples(m: int, n: int, count: int) -> Problem:
    """Return bootstrap refits, l2 = 1/m; a resample's counts are multinomial."""
    rng = np.random.default_rng(4)
    X, y = correlated(m, n, rng)
    counts = np.stack([np.bincount(rng.integers(0, m, m), minlength=m) for _ in range(count)])
    return Problem(X, y, np.array([1 / m]), np.arange(count), counts=counts.astype(np.uint8))


def one_fit(m: int, n: int) -> Problem:
    """Return one fit on correlated columns, C = 1."""
    X, y = correlated(m, n, np.random.default_rng(5))
    return Problem(X, y, np.array([1 / m]), _one())


def wild(m: int, n: int = 57) -> Problem:
    """Return one fit to raw columns like spambase's: 1 % positives and C = 1e4.

    Most columns are frequencies, zero in most rows; a few are counts with long tails; the units
    spread the scales over 1e-5…1e7.
    """
    rng = np.random.default_rng(8)
    present = rng.random((m, n)) < rng.uniform(0.05, 0.5, n)
    rows = np.where(present, rng.exponential(1.0, (m, n)), 0.0)
    rows[:, -3:] = np.exp(rng.normal(1.0, 1.2, (m, 3)))
    signal = (rows - rows.mean(axis=0)) / rows.std(axis=0) @ rng.normal(0, 0.5, n)
    noise = rng.logistic(size=m)
    y = (signal + noise > np.quantile(signal + noise, 0.99)).astype(np.int64)
    X = (rows * 10.0 ** rng.uniform(-5, 6, n)).astype(np.float32)
    return Problem(X, y, np.array([1 / (1e4 * m)]), _one())


def wide(m: int, n: int) -> Problem:
    """Return one fit with more features than examples, C = 1."""
    rng = np.random.default_rng(9)
    X = rng.standard_normal((m, n)).astype(np.float32)
    w = np.where(np.arange(n) < 20, 1.0, 0.0)
    y = (X @ w + rng.logistic(size=m) > 0).astype(np.int64)
    return Problem(X, y, np.array([1 / m]), _one())


def correlated(m: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return columns of unit variance whose covariance has condition 2,500 or so, and labels."""
    basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
    mix = basis * np.sqrt(np.logspace(0, -3.5, n)) @ basis.T
    mix /= np.sqrt((mix**2).sum(axis=0))
    X = rng.standard_normal((m, n), dtype=np.float32) @ mix.astype(np.float32)
    w = rng.normal(0, 2 / n**0.5, n)
    y = (X @ w + rng.logistic(size=m) > 0.5).astype(np.int64)
    return X, y


def _folded(X, y, folds: int, values: int, rng) -> Problem:
    number = np.empty(len(y), np.uint8)
    number[rng.permutation(len(y))] = np.arange(len(y)) % folds
    problem = Problem(X, y, np.ones(values), np.arange(folds), folds=number)
    return dataclasses.replace(problem, l2=np.logspace(4, -4, values) / problem.m_train)


def _one() -> np.ndarray:
    return np.zeros(1, np.int64)
