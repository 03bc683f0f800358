"""Intervals for coefficients and predictions in scikit-learn's interface, by the bootstrap."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from scipy.special import expit, softmax
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jaxlr.model.batch import Batch
from jaxlr.model.penalty import Penalty
from jaxlr.sklearn.data import Data, passes, rows_of, tolerance, validated, warn_of_failures
from jaxlr.sklearn.logistic import LogisticRegression
from jaxlr.studies.refits import bootstrap
from jaxlr.studies.resampling import poisson_counts

_PROBABILITIES = 2**22  # of all resamples, that are held at once


class BootstrapLogisticRegression(LogisticRegression):
    """Logistic regression with intervals, from fits to resamples as lanes of one program.

    A resample counts each example a Poisson number of times with mean 1; given their sum, these
    are draws with replacement. Its fit has the penalty of the fit to all examples. An interval
    lies between percentiles of the resamples' fits: it tells how far they would vary from one
    sample to another, and not how far the penalty pulls them all from an unpenalised fit.

    Args:
        n_resamples: R, how many.
        random_state: a seed, or a NumPy `RandomState`, of the resamples.
        C, tol, fit_intercept, class_weight, max_iter, warm_start: as for `LogisticRegression`.

    Attributes set by fit, besides those of `LogisticRegression`:
        coefs_: of each resample, `(R, 1, n)`, or `(R, K, n)`.
        intercepts_: of each resample, `(R, 1)`, or `(R, K)`.

    >>> from sklearn.datasets import load_breast_cancer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = (X[:, :3] - X[:, :3].mean(axis=0)) / X[:, :3].std(axis=0)
    >>> model = BootstrapLogisticRegression(n_resamples=200, random_state=0).fit(X, y)
    >>> low, high = model.coef_interval()
    >>> bool((low < model.coef_).all() and (model.coef_ < high).all())
    True
    >>> low, high = model.predict_proba_interval(X[:5], confidence_level=0.9)
    >>> low.shape
    (5, 2)
    """

    coefs_: np.ndarray
    intercepts_: np.ndarray

    def __init__(
        self,
        *,
        n_resamples: int = 1000,
        C: float = 1.0,
        tol: float | None = None,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        max_iter: int = 500,
        warm_start: bool = False,
    ):
        super().__init__(
            C=C,
            tol=tol,
            fit_intercept=fit_intercept,
            class_weight=class_weight,
            random_state=random_state,
            max_iter=max_iter,
            warm_start=warm_start,
        )
        self.n_resamples = n_resamples

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BootstrapLogisticRegression:
        """Fit to rows X `(m, n)`, labels y `(m,)`, weights `(m,)`, and to resamples; return self.

        Raises:
            ValueError: what cannot be learned from, or an option that means nothing.
        """
        if not isinstance(self.n_resamples, (int, np.integer)) or self.n_resamples < 1:
            raise ValueError(f"n_resamples is {self.n_resamples!r}: an integer from 1 on is due.")
        super().fit(X, y, sample_weight)
        return self

    def coef_interval(self, confidence_level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of `coef_`, low and high, each of its shape."""
        check_is_fitted(self)
        low, high = np.quantile(self.coefs_, _tails(confidence_level), axis=0)
        return low, high

    def intercept_interval(self, confidence_level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of `intercept_`, low and high, each of its shape."""
        check_is_fitted(self)
        low, high = np.quantile(self.intercepts_, _tails(confidence_level), axis=0)
        return low, high

    def predict_proba_interval(
        self, X: Any, confidence_level: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of each probability, low and high, each `(m, K)`."""
        check_is_fitted(self)
        tails = _tails(confidence_level)
        X = validated(self, X, reset=False)
        at_once = max(1, _PROBABILITIES // self.intercepts_.size)
        rows = np.split(X, range(at_once, len(X), at_once))
        low, high = np.concatenate([self._quantiles(a, tails) for a in rows], axis=1)
        return low, high

    def _quantiles(self, X: np.ndarray, tails: tuple[float, float]) -> np.ndarray:
        Z = np.einsum("mn,rkn->rmk", X, self.coefs_, optimize=True) + self.intercepts_[:, None]
        if Z.shape[-1] > 1:
            return np.quantile(softmax(Z, axis=-1), tails, axis=0)
        low, high = np.quantile(expit(Z[..., 0]), tails, axis=0)
        return np.stack([np.column_stack([1 - high, low]), np.column_stack([1 - low, high])])

    def _fit(self, data: Data, batch: Batch, penalty: Penalty) -> None:
        super()._fit(data, batch, penalty)
        seed = check_random_state(self.random_state).randint(2**31)
        lanes = jax.device_get(
            bootstrap(
                batch,
                penalty,
                int(self.n_resamples),
                jax.random.key(seed),
                counts=poisson_counts,
                tol=tolerance(self.tol, data),
                max_passes=passes(self.max_iter),
            )
        )
        warn_of_failures(lanes)
        self.coefs_, self.intercepts_ = rows_of(lanes.params, data)


def _tails(confidence_level: float) -> tuple[float, float]:
    if not 0 < confidence_level < 1:
        raise ValueError(f"confidence_level is {confidence_level!r}: between 0 and 1 is due.")
    return (1 - confidence_level) / 2, (1 + confidence_level) / 2
