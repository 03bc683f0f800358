"""Cross-validation over C in scikit-learn's interface: every C in every split is a lane."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.special import log_expit, log_softmax
from sklearn import get_config
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from jaxlr.model.solution import Solution
from jaxlr.sklearn.classifier import LinearClassifier
from jaxlr.sklearn.data import (
    Data,
    batch_of,
    check,
    check_options,
    iterations,
    passes,
    precision,
    rows_of,
    strength,
    tolerance,
    warn_of_failures,
)
from jaxlr.sklearn.logistic import LogisticRegression
from jaxlr.sklearn.splits import fit_splits

Split = tuple[Any, Any]
"""The places of the rows to fit to, and of those to score on."""


class LogisticRegressionCV(LinearClassifier):
    """Logistic regression whose C is chosen by cross-validation.

    Fits once for each C to the training rows of each split, and to all rows, as lanes of one
    compiled program; C is that with the greatest mean score on the test rows, the first of
    equals. A split may hold any rows, repeated ones too.

    Args:
        Cs: values of C; or how many, from 1e-4 to 1e4.
        cv: a number of stratified folds (None: 5), a splitter of scikit-learn, or an iterable of
            `(train, test)` places.
        scoring: a scorer of scikit-learn or its name.
        refit: whether `coef_` is the fit to all rows with the chosen C; else `C_`, `coef_` and
            `intercept_` are means over the splits, each with the C that is best there.
        tol, fit_intercept, class_weight, random_state, max_iter: as for `LogisticRegression`.

    Attributes set by fit, for F splits, P values of C and D = n + 1 (n without intercept), in
    scikit-learn's layout, whose axis of length 1 is that of its `l1_ratios`:
        classes_, coef_, intercept_, n_features_in_, feature_names_in_: as for `LinearClassifier`.
        C_: the C that was chosen.
        Cs_: the values of C, `(P,)`.
        scores_: on the test rows, `(F, 1, P)`.
        coefs_paths_: of each fit, the intercept last, `(F, 1, P, 1 or K, D)`.
        n_iter_: steps until each fit ended, `(F, 1, P)`.

    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=[0.01, 0.1, 1.0]))
    >>> model.fit(X, y)[-1].C_
    1.0
    """

    def __init__(
        self,
        *,
        Cs: Any = 10,
        cv: Any = None,
        scoring: Any = "neg_log_loss",
        refit: bool = True,
        tol: float | None = None,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        max_iter: int = 500,
    ):
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> LogisticRegressionCV:
        """Fit to rows X `(m, n)`, labels y `(m,)` and weights `(m,)`; return self.

        Args:
            X, y, sample_weight: as for `LogisticRegression`.
            params: for the splitter and the scorer, where metadata routing asks for them.

        Raises:
            ValueError: what cannot be learned from, or an option that means nothing.
        """
        check_options(
            refit=self.refit,
            tol=self.tol,
            fit_intercept=self.fit_intercept,
            max_iter=self.max_iter,
        )
        Cs = self._grid()
        routed = self._route("fit", sample_weight=sample_weight, **params)
        data = check(self, X, y, sample_weight)
        splitter: Any = check_cv(self.cv, data.y, classifier=True)
        splits = list(splitter.split(data.X, data.y, **routed["split"]))
        _check_splits(splits, data.weights)
        with precision(data):
            lanes = self._fits(data, Cs, splits)
        warn_of_failures(lanes)
        self.Cs_, self.classes_ = Cs, data.classes
        coefs, intercepts = rows_of(lanes.params, data)
        scorer, plain = knowing(self._scorer(), data.classes), self.scoring == "neg_log_loss"
        plain = plain and routed["score"].keys() <= {"sample_weight"}
        scores = np.empty((len(splits), len(Cs)))
        for f, (_, test) in enumerate(splits):
            options = {name: _of_rows(a, test, len(data.y)) for name, a in routed["score"].items()}
            rows, labels, place = data.X[test], data.y[test], data.codes[test]
            if plain and not np.any(options.get("sample_weight", 1)):
                raise ValueError(f"split {f} of cv scores on no row with a weight above 0.")
            for p in range(len(Cs)):
                coef, intercept = coefs[f, p], intercepts[f, p]
                if plain:
                    scores[f, p] = -_log_loss(coef, intercept, rows, place, **options)
                else:
                    model = _fitted(data.classes, coef, intercept)
                    scores[f, p] = scorer(model, rows, labels, **options)

        ranked = np.where(np.isnan(scores), -np.inf, scores)  # a NaN is never chosen
        if self.refit:
            best = ranked.sum(axis=0).argmax()
            self.C_ = float(Cs[best])
            self.coef_, self.intercept_ = coefs[-1, best], intercepts[-1, best]
        else:
            best, split = ranked.argmax(axis=1), np.arange(len(splits))
            self.C_ = float(Cs[best].mean())
            self.coef_ = coefs[split, best].mean(axis=0)
            self.intercept_ = intercepts[split, best].mean(axis=0)
        path = [coefs, intercepts[..., None]] if self.fit_intercept else [coefs]
        self.coefs_paths_ = np.concatenate(path, axis=-1)[: len(splits), None]
        self.scores_ = scores[:, None]
        self.n_iter_ = iterations(lanes)[: len(splits), None]
        return self

    def _fits(self, data: Data, Cs: np.ndarray, splits: list[Split]) -> Solution:
        """Return the lanes, `(F + 1, P)`: the last row of them is fitted to all examples."""
        batch = batch_of(data, intercept=self.fit_intercept)
        m = len(data.y)
        rows = [np.arange(m)[train] for train, _ in splits] + [np.arange(m)]
        counts = np.stack([np.bincount(places, minlength=batch.m_examples) for places in rows])
        counts = counts.astype(np.uint8 if counts.max() < 256 else np.int32)
        totals = counts[:, :m] @ data.weights.astype(np.float64)
        l2 = strength(Cs, totals[:, None]).astype(data.X.dtype)
        max_passes = np.int32(passes(self.max_iter))
        return jax.device_get(fit_splits(batch, counts, l2, tolerance(self.tol, data), max_passes))

    def score(self, X: Any, y: Any, **params: Any) -> float:
        """Return the score of the predictions for X by `scoring`."""
        return self._scorer()(self, X, y, **self._route("score", **params)["score"])

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata are routed: to fit, the splitter and the scorer."""
        to_scorer = MethodMapping().add(caller="fit", callee="score")
        to_scorer = to_scorer.add(caller="score", callee="score")
        to_splitter = MethodMapping().add(caller="fit", callee="split")
        router = MetadataRouter(owner=self).add_self_request(self)
        router = router.add(splitter=check_cv(self.cv), method_mapping=to_splitter)
        return router.add(scorer=self._scorer(), method_mapping=to_scorer)

    def _route(self, method: str, **params: Any) -> dict[str, dict[str, Any]]:
        """Return the metadata for the splitter's `split` and for the scorer."""
        params = {name: value for name, value in params.items() if value is not None}
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, method, **params)
            split = routed.splitter.split if method == "fit" else {}
            return {"split": split, "score": routed.scorer.score}
        if unknown := sorted(params.keys() - {"sample_weight"}):
            raise ValueError(
                f"{', '.join(unknown)} cannot be passed on: that is only supported if "
                f"enable_metadata_routing=True, see sklearn.set_config."
            )
        return {"split": {}, "score": params}

    def _scorer(self) -> Callable:
        return get_scorer(self.scoring or "accuracy")

    def _grid(self) -> np.ndarray:
        if isinstance(self.Cs, (int, np.integer)) and self.Cs > 0:
            return np.logspace(-4, 4, int(self.Cs))
        Cs = np.asarray(self.Cs)
        if Cs.ndim != 1 or not len(Cs):
            raise ValueError(f"Cs is {self.Cs!r}: values of C, or how many, are due.")
        for C in Cs.tolist():
            check_options(C=C)
        return Cs.astype(np.float64)


def _check_splits(splits: list[Split], weights: np.ndarray) -> None:
    if not splits:
        raise ValueError(f"cv is {splits!r}: at least one split is due.")
    rows = np.arange(len(weights))
    for f, (train, test) in enumerate(splits):
        if not weights[train].any():
            raise ValueError(f"split {f} of cv trains on no row with a weight above 0.")
        if not len(rows[test]):
            raise ValueError(f"split {f} of cv has no row to score on.")


def knowing(scorer: Callable, classes: np.ndarray) -> Callable:
    """Return a scorer that takes the classes from the fit, not from the labels it sees.

    The test rows of a split may lack a class: the log loss could not be computed from them.
    """
    function = getattr(scorer, "_score_func", None)
    named = inspect.signature(function).parameters if function else {}
    if "labels" not in named:
        return scorer
    options = {"labels": classes, **scorer._kwargs}
    if "pos_label" in named and len(classes) == 2:
        options.setdefault("pos_label", classes[1])
    return make_scorer(
        function,
        greater_is_better=scorer._sign > 0,
        response_method=scorer._response_method,
        **options,
    )


def _log_loss(
    coef: np.ndarray,
    intercept: np.ndarray,
    X: np.ndarray,
    place: np.ndarray,
    sample_weight: np.ndarray | None = None,
) -> float:
    """Return what scikit-learn's scorer does, without its checks, which take longer than a fit.

    Args:
        coef, intercept: of the fit.
        X, place, sample_weight: rows, the places of their classes, and weights.
    """
    Z = X @ coef.T + intercept
    if Z.shape[1] == 1:
        log_p = log_expit(np.where(place == 1, Z[:, 0], -Z[:, 0]))
    else:
        log_p = log_softmax(Z, axis=1)[np.arange(len(Z)), place]
    eps = np.finfo(Z.dtype).eps  # probabilities are cut off there
    log_p = np.clip(log_p, np.log(eps), np.log1p(-eps))
    weights = None if sample_weight is None else np.ravel(sample_weight)
    return -float(np.average(log_p, weights=weights))


def _fitted(classes: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> LogisticRegression:
    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = classes, coef, intercept
    model.n_features_in_ = coef.shape[1]
    return model


def _of_rows(value: Any, rows: Any, m: int) -> Any:
    """Return the entries for some rows, of metadata with an entry for each of m."""
    array = np.asarray(value)
    return array[rows] if array.shape[:1] == (m,) else value
