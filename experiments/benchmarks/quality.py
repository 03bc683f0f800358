"""How far fits are from the optimum, in float64, by an independent Newton solve in NumPy.

The gradient of every lane is computed; solved again are the lanes with the extreme penalties and
those whose gradient g is the largest as `gᵀ(H₀ + l2)⁻¹g`, H₀ the Hessian at zero.
Columns are centred (the intercept moves along) and scaled by the Hessian's diagonal: neither
changes the optimum. Where there are more features than examples, the optimum lies in the space
that the examples span, and the search is there.
"""

from __future__ import annotations

import numpy as np

from experiments.benchmarks.timing import Fits
from experiments.benchmarks.workloads import Problem

_LARGEST = 4  # lanes that are checked for their gradient


def worst(problem: Problem, fits: Fits) -> tuple[float, int]:
    """Return the largest `objective − optimum` of the lanes checked, and how many those are."""
    if (fits.column < 0).any():  # on weights that the way drew itself: only its bound is known
        assert fits.bound is not None
        return float(fits.bound.max()), 0
    if not (np.isfinite(fits.w).all() and np.isfinite(fits.b).all()):
        return float("nan"), len(fits.b)
    X, mean, span = _columns(problem.X)
    K = problem.n_classes
    Y = problem.y.astype(float)[:, None] if K == 2 else np.eye(K)[problem.y]
    lanes = range(len(fits.b))
    starts = [_start(fits, lane, mean, span) for lane in lanes]
    if len(lanes) > 2 * _LARGEST:
        lanes = _suspects(problem, fits, X, Y, starts)
    excess = []
    for lane in lanes:
        theta, outside = starts[lane]
        objective = _Objective(X, Y, _weights(problem, fits, lane), float(fits.l2[lane]))
        found = objective.value(theta) + 0.5 * fits.l2[lane] * outside
        excess.append(found - objective.minimum(theta))
    return float(max(excess)), len(excess)


def _columns(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return centred rows in float64 with a last column of ones, the mean, and a basis or None."""
    X = rows.astype(np.float64)
    mean = X.mean(axis=0)
    X -= mean
    span = None
    if X.shape[1] > X.shape[0]:
        span, R = np.linalg.qr(X.T)  # X = Rᵀ spanᵀ
        X = R.T
    return np.column_stack([X, np.ones(len(X))]), mean, span


def _start(fits: Fits, lane: int, mean, span) -> tuple[np.ndarray, float]:
    """Return a lane's parameters in the columns used, `(n+1, k)`, and ‖w‖² outside their span."""
    w = fits.w[lane].astype(np.float64).reshape(len(mean), -1)
    b = np.atleast_1d(fits.b[lane].astype(np.float64)) + mean @ w
    inside = w if span is None else span.T @ w
    return np.vstack([inside, b]), 0.0 if span is None else float(((w - span @ inside) ** 2).sum())


def _weights(problem: Problem, fits: Fits, lane: int) -> np.ndarray:
    c = problem.weights(int(fits.column[lane])).astype(np.float64)
    return c / c.sum()


def _suspects(problem: Problem, fits: Fits, X, Y, starts) -> list[int]:
    """Return the lanes to check: extreme penalties and largest gradients."""
    s, V = np.linalg.eigh(X.T @ X / len(X))
    size = np.empty(len(starts))
    for lane, (theta, _) in enumerate(starts):
        objective = _Objective(X, Y, _weights(problem, fits, lane), float(fits.l2[lane]))
        g = V.T @ objective.gradient(theta, objective.probability(objective.X @ theta))
        floor = 1e-12 * s.max()
        size[lane] = (g**2 / (np.maximum(s, floor)[:, None] / 4 + fits.l2[lane])).sum()
    order = np.argsort(fits.l2, kind="stable")
    chosen = [*order[[0, 1, -2, -1]], *np.argsort(size)[-_LARGEST:]]
    return sorted({int(lane) for lane in chosen})


class _Objective:
    """`Σ cᵢℓᵢ + ½·l2·‖w‖²` of parameters theta, `(n+1, k)`: k is 1 for two classes, else K."""

    def __init__(self, X: np.ndarray, Y: np.ndarray, c: np.ndarray, l2: float):
        used = c > 0
        self.X, self.Y, self.c = (X, Y, c) if used.all() else (X[used], Y[used], c[used])
        self.ridge = np.append(np.full(X.shape[1] - 1, l2), 0.0)[:, None]

    def value(self, theta: np.ndarray) -> float:
        Z = self.X @ theta
        if Z.shape[1] == 1:
            losses = np.logaddexp(0, np.where(self.Y > 0, -Z, Z))[:, 0]
        else:
            top = Z.max(axis=1, keepdims=True)
            losses = np.log(np.exp(Z - top).sum(axis=1)) - ((Z - top) * self.Y).sum(axis=1)
        return float(np.sum(self.c * losses) + 0.5 * np.sum(self.ridge * theta**2))

    @staticmethod
    def probability(Z: np.ndarray) -> np.ndarray:
        if Z.shape[1] == 1:
            return 0.5 * (1 + np.tanh(Z / 2))
        P = np.exp(Z - Z.max(axis=1, keepdims=True))
        return P / P.sum(axis=1, keepdims=True)

    def gradient(self, theta: np.ndarray, P: np.ndarray) -> np.ndarray:
        return self.X.T @ (self.c[:, None] * (P - self.Y)) + self.ridge * theta

    def minimum(self, theta: np.ndarray) -> float:
        """Return the optimum, by Newton's method with halved steps from theta."""
        best = self.value(theta)
        for _ in range(100):
            P = self.probability(self.X @ theta)
            g = self.gradient(theta, P)
            d = self._newton(g, P)
            decrement = float(np.sum(g * d))
            step = 1.0
            while step > 1e-9 and not self.value(theta - step * d) <= best:
                step /= 2
            if step <= 1e-9:
                break
            theta = theta - step * d
            best = min(best, self.value(theta))
            if not decrement > 1e-15:
                break
        return best

    def _newton(self, g: np.ndarray, P: np.ndarray) -> np.ndarray:
        """Return the Newton direction: exact for two classes, by conjugate gradients else."""
        S = P * (1 - P)
        weight = self.c * S.mean(axis=1)
        H = self.X.T @ (weight[:, None] * self.X) + np.diagflat(self.ridge)
        scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
        H = H * scale[:, None] * scale + 1e-15 * np.eye(len(H))
        s, V = np.linalg.eigh(H)
        s = np.maximum(s, 1e-15 * s.max())

        def precondition(r: np.ndarray) -> np.ndarray:
            return scale[:, None] * (V @ ((V.T @ (scale[:, None] * r)) / s[:, None]))

        if P.shape[1] == 1:
            return precondition(g)

        def product(D: np.ndarray) -> np.ndarray:
            Q = P * (self.X @ D)
            Q -= P * Q.sum(axis=1, keepdims=True)
            return self.X.T @ (self.c[:, None] * Q) + self.ridge * D

        d, r = np.zeros_like(g), g.copy()
        z = precondition(r)
        p, rz = z, np.sum(r * z)
        first = rz
        for _ in range(300):
            if not rz > 1e-16 * first:
                break
            Hp = product(p)
            a = rz / np.sum(p * Hp)
            d, r = d + a * p, r - a * Hp
            z = precondition(r)
            rz, old = np.sum(r * z), rz
            p = z + (rz / old) * p
        return d
