"""What jaxlr's estimators share: predictions from `coef_` and `intercept_`, on the host."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from jaxlr.sklearn.data import validated

_ONE_WAY = "every fit runs to its optimum in one way: drop it"
_L2 = "the penalty is half the squares of coef_, over C: drop it, or give C=np.inf for no penalty"
# scikit-learn's arguments that are no choice here, and why.
_ABSENT = {
    "solver": _ONE_WAY,
    "dual": _ONE_WAY,
    "penalty": _L2,
    "l1_ratio": _L2,
    "l1_ratios": _L2,
    "n_jobs": "every core is used: drop it",
    "verbose": "nothing is printed: drop it",
    "intercept_scaling": "the intercept is never penalised: drop it",
    "multi_class": "more than two classes are fitted as a softmax: drop it, or use "
    "sklearn.multiclass.OneVsRestClassifier",
    "use_legacy_attributes": "attributes have the new layout: drop it",
}


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

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Refuse, in a sentence, arguments that the class has not."""
        known = inspect.signature(cls.__init__).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            for name in options.keys() - known.keys():
                why = _ABSENT.get(name, f"it has {', '.join(list(known)[1:])}")
                raise TypeError(f"{cls.__name__} has no argument {name}: {why}.")
        return super().__new__(cls)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits: `(m,)` for two classes, `(m, K)` for more."""
        check_is_fitted(self)
        X = validated(self, X, reset=False)
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
