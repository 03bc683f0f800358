"""What jaxlr's estimators share: predictions from `coef_` and `intercept_`, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxlr.types import Params


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """A classifier with the logits `X·coef_ᵀ + intercept_`: one column, or K for K > 2 classes.

    Attributes set by fit:
        classes_: the labels, sorted, `(K,)`.
        coef_: `(1, n)`, or `(K, n)`.
        intercept_: `(1,)`, or `(K,)`.
        n_features_in_, feature_names_in_: n, and the names of a table's columns.
    """

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray
    n_features_in_: int

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits: `(m,)` for two classes, `(m, K)` for more."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        Z = X @ self.coef_.T + self.intercept_
        return Z[:, 0] if Z.shape[1] == 1 else Z

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely class of each row, `(m,)`."""
        Z = self.decision_function(X)
        return self.classes_[(Z > 0).astype(int) if Z.ndim == 1 else Z.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, `(m, K)`: σ or softmax of the logits."""
        Z = self.decision_function(X)
        return np.column_stack([expit(-Z), expit(Z)]) if Z.ndim == 1 else softmax(Z, axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of the probabilities, `(m, K)`, also of those that round to 0."""
        Z = self.decision_function(X)
        if Z.ndim == 1:
            return np.column_stack([log_expit(-Z), log_expit(Z)])
        return log_softmax(Z, axis=1)


def rows_of(params: Params, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `coef_` and `intercept_` from the parameters of a lane, or of lanes.

    A shift common to all classes of the softmax changes no probability: their mean is made 0.

    >>> coef, intercept = rows_of(Params(np.ones((3, 2)), np.zeros(3)), 2)  # three lanes
    >>> coef.shape, intercept.shape
    ((3, 1, 2), (3, 1))
    """
    w, b = np.asarray(params.w), np.asarray(params.b)
    if n_classes == 2:
        return w[..., None, :].copy(), b[..., None].copy()
    w = np.swapaxes(w, -1, -2)
    return w - w.mean(axis=-2, keepdims=True), b - b.mean(axis=-1, keepdims=True)


def params_of(coef: np.ndarray, intercept: np.ndarray) -> Params:
    """Return the parameters of a lane from `coef_` and `intercept_`.

    >>> params_of(np.ones((1, 4)), np.zeros(1)).w.shape
    (4,)
    """
    return Params(coef[0], intercept[0]) if len(coef) == 1 else Params(coef.T, intercept)
