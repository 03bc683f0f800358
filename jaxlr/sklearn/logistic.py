"""One fit in scikit-learn's interface."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxlr.model.batch import Batch, Params
from jaxlr.model.penalty import Penalty
from jaxlr.sklearn.classifier import LinearClassifier
from jaxlr.sklearn.data import (
    Data,
    batch_of,
    check,
    check_options,
    iterations,
    params_of,
    passes,
    precision,
    rows_of,
    strength,
    tolerance,
    warn_of_failures,
)
from jaxlr.solver.fit import fit


class LogisticRegression(LinearClassifier):
    """Logistic regression, binary or softmax, fitted to its optimum.

    Minimises `C·Σ cᵢℓᵢ + ½‖coef_‖²` with the weights c of the examples, which are `sample_weight`
    times `class_weight`; the intercept is never penalised. float32 rows are fitted in float32, all
    others in float64, whether JAX's x64 is on or off.

    Args:
        C: inverse strength of the penalty; `np.inf` for none.
        tol: the fit ends when its estimated suboptimality, in the mean loss, is at most `tol²`:
            when its gradient g has `√(½·gᵀH⁻¹g) ≤ tol`. None: as far as the dtype allows.
        fit_intercept: whether there is one; else it is 0.
        class_weight: None, `{label: weight}`, or "balanced": `Σc / (K·Σc of the class)`.
        random_state: has no effect, since nothing is drawn.
        max_iter: the most steps, of one pass over X each; 0 leaves `coef_` at the start.
        warm_start: whether fit starts at the last fit's `coef_` and `intercept_`.

    Attributes set by fit:
        classes_, coef_, intercept_, n_features_in_, feature_names_in_: as for `LinearClassifier`.
        n_iter_: steps until the fit ended, `(1,)`.
        suboptimality_: an upper bound on the mean loss's distance from its optimum; infinite
            without penalty.

    A fit that does not reach its optimum gives a `ConvergenceWarning` that says why.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = LogisticRegression(C=10.0).fit(X, y)
    >>> model.coef_.shape, model.feature_names_in_[0], f"{model.score(X, y):.2f}"
    ((3, 4), 'sepal length (cm)', '0.98')
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float | None = None,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        max_iter: int = 500,
        warm_start: bool = False,
    ):
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.max_iter = max_iter
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit to rows X `(m, n)`, labels y `(m,)` and weights `(m,)`; return self.

        Raises:
            ValueError: what cannot be learned from, or an option that means nothing.
        """
        check_options(
            C=self.C,
            tol=self.tol,
            fit_intercept=self.fit_intercept,
            max_iter=self.max_iter,
            warm_start=self.warm_start,
        )
        data = check(self, X, y, sample_weight)
        l2 = strength(self.C, data.weights.sum(dtype=np.float64))
        with precision(data):
            self._fit(data, batch_of(data, intercept=self.fit_intercept), Penalty(l2))
        return self

    def _fit(self, data: Data, batch: Batch, penalty: Penalty) -> None:
        solution = fit(
            batch,
            penalty,
            init=self._start(data, batch),
            tol=tolerance(self.tol, data),
            max_passes=passes(self.max_iter),
        )
        solution = jax.device_get(solution)
        warn_of_failures(solution)
        self.classes_ = data.classes
        self.coef_, self.intercept_ = rows_of(solution.params, data)
        self.n_iter_ = iterations(solution).reshape(1)
        self.suboptimality_ = float(solution.suboptimality)

    def _start(self, data: Data, batch: Batch) -> Params | None:
        if not self.warm_start or not hasattr(self, "coef_"):
            return None
        due = (1 if batch.n_classes == 2 else batch.n_classes, data.X.shape[1])
        if self.coef_.shape != due:
            raise ValueError(
                f"warm_start: coef_ has shape {self.coef_.shape} where {due} is due: the classes "
                f"or features are not those of the last fit."
            )
        return params_of(self.coef_, self.intercept_, data, batch.n_features)
