"""What jaxlr's estimators share: predictions from `coef_` and `intercept_`, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data


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
