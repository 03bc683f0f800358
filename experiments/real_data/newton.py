"""The optimum of a logistic regression in float64, independent of jaxlr: Newton's method in NumPy.

The columns are standardised inside, which changes neither the optimum nor the objective; the
Newton systems are solved by an eigendecomposition that leaves out directions without curvature.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog


class Optimum(NamedTuple):
    """The least objective found, and what remains: `½gᵀH⁺g`, an estimate of the excess there."""

    value: float
    decrement: float


class Objective:
    """`Σ ℓᵢ/m + ½·l2·‖w‖²` in parameters theta `(n+1, k)` of the standardised columns.

    Two classes are k = 1, and the intercept is the last row.
    """

    def __init__(self, rows: np.ndarray, y: np.ndarray, l2: float):
        m = len(rows)
        self.K = int(y.max()) + 1
        self.mean, spread = rows.mean(axis=0), rows.std(axis=0)
        constant = spread <= 1e-12 * np.abs(self.mean)
        self.spread = np.where(constant, 1.0, spread)
        columns = np.where(constant, 0.0, (rows - self.mean) / self.spread)
        self.X = np.column_stack([columns, np.ones(m)])
        self.Y = np.eye(self.K)[y]
        # A constant column is the intercept's: the optimum has no weight there under a penalty.
        self.ridge = np.append(l2 / self.spread**2, 0.0)[:, None]

    def parameters(self, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return theta of the parameters in the user's units, `(n,)` or `(n, K)`."""
        w = w.reshape(len(self.mean), -1)
        return np.vstack([w * self.spread[:, None], np.atleast_1d(b) + self.mean @ w])

    def logits(self, theta: np.ndarray) -> np.ndarray:
        """Return the logits of all classes, `(m, K)`; that of the first of two is 0."""
        Z = self.X @ theta
        return np.column_stack([np.zeros(len(Z)), Z]) if self.K == 2 else Z

    def value(self, theta: np.ndarray) -> float:
        """Return the objective."""
        Z = self.logits(theta)
        Z = Z - (Z * self.Y).sum(axis=1, keepdims=True)  # the label's own logit is 0
        top = Z.max(axis=1, keepdims=True)
        at_label = self.Y > 0
        rest = np.where(at_label, 0.0, np.exp(np.minimum(Z, 700.0))).sum(axis=1)
        losses = np.where(
            top[:, 0] > 600, top[:, 0] + np.log(np.exp(Z - top).sum(axis=1)), np.log1p(rest)
        )
        return float(losses.mean() + (self.ridge * theta**2).sum() / 2)

    def derivatives(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient and the Hessian, flat."""
        Z = self.logits(theta)
        E = np.exp(Z - Z.max(axis=1, keepdims=True))
        P = E / E.sum(axis=1, keepdims=True)
        # 1 − p of the label as the sum of the others, which is not lost in rounding.
        others = np.where(self.Y > 0, 0.0, P)
        R = others - self.Y * others.sum(axis=1, keepdims=True)
        m, k = len(Z), theta.shape[1]
        R, P = R[:, -k:], P[:, -k:]
        g = self.X.T @ R / m + self.ridge * theta
        H = np.empty((*theta.shape, *theta.shape))
        for i in range(k):
            for j in range(i, k):
                s = P[:, i] * ((i == j) - P[:, j])
                if i == j:
                    s = P[:, i] * (E.sum(axis=1) - E[:, -k:][:, i]) / E.sum(axis=1)
                H[:, i, :, j] = H[:, j, :, i] = (self.X * s[:, None]).T @ self.X / m
        H = H.reshape(theta.size, theta.size) + np.diag(np.repeat(self.ridge[:, 0], k))
        return g.ravel(), H

    def newton_step(self, theta: np.ndarray) -> tuple[np.ndarray, float]:
        """Return `H⁺g` and `½gᵀH⁺g`."""
        g, H = self.derivatives(theta)
        scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
        values, V = np.linalg.eigh(H * scale[:, None] * scale)
        inverse = np.where(values > 1e-13 * values.max(), 1 / np.maximum(values, 1e-300), 0.0)
        step = scale * (V @ (inverse * (V.T @ (scale * g))))
        return step.reshape(theta.shape), float(g @ step.ravel() / 2)

    def minimum(self, steps: int = 200) -> Optimum:
        """Return the optimum, by Newton's method with halved steps from zero."""
        theta = np.zeros((self.X.shape[1], 1 if self.K == 2 else self.K))
        value = self.value(theta)
        for _ in range(steps):
            step, decrement = self.newton_step(theta)
            if not decrement > 1e-22:
                break
            t = 1.0
            while t > 1e-6 and not self.value(theta - t * step) <= value:
                t /= 2
            if t <= 1e-6:  # below the rounding of the value: one whole step, if it helps
                trial = theta - step
                if self.newton_step(trial)[1] >= decrement:
                    break
                theta = trial
                continue
            theta = theta - t * step
            value = self.value(theta)
        return Optimum(value, self.newton_step(theta)[1])

    def excess(self, theta: np.ndarray, optimum: Optimum) -> float:
        """Return `value − optimum`: by the difference, or where that is rounding by ½gᵀH⁺g."""
        difference = self.value(theta) - optimum.value
        return difference if difference > 1e-9 else self.newton_step(theta)[1]


def separable(rows: np.ndarray, y: np.ndarray, part: int = 1500) -> bool:
    """Return whether some direction parts the classes, ties allowed: then no optimum is finite.

    A linear program (Konis, Linear programming algorithms for detecting separated data, 2007).
    What cannot be parted in a part of the rows that spans all columns cannot be parted in all.
    """
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [(rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-300), np.ones(len(y))]
    )
    X = X[:, (np.abs(X).max(axis=0) > 0) & np.isfinite(X).all(axis=0)]
    chosen = rng.permutation(len(y))[:part]
    if len(y) > part:
        spans = np.linalg.matrix_rank(X[chosen]) == np.linalg.matrix_rank(X)
        if spans and not _parted(X[chosen], y[chosen], int(y.max()) + 1):
            return False
    return _parted(X, y, int(y.max()) + 1)


def _parted(X: np.ndarray, y: np.ndarray, K: int) -> bool:
    if K == 2:
        A = np.where(y > 0, 1.0, -1.0)[:, None] * X
    else:
        A = np.concatenate(
            [
                np.kron(np.eye(K)[[a]] - np.eye(K)[[b]], X[y == a])
                for a in range(K)
                for b in range(K)
                if a != b
            ]
        )
    A = A / np.abs(A).max()
    found = linprog(
        -A.sum(axis=0),
        A_ub=np.vstack([-A, A]),
        b_ub=np.r_[np.zeros(len(A)), np.ones(len(A))],
        bounds=(None, None),
        method="highs",
    )
    return found.status != 0 or -found.fun > 1e-6
