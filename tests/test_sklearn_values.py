"""Values and arguments that the estimators mend, or refuse in a sentence."""

import inspect
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.linear_model import LogisticRegressionCV as ReferenceCV

from jaxlr.sklearn import BootstrapLogisticRegression, LogisticRegression, LogisticRegressionCV

pytestmark = pytest.mark.usefixtures("quick_programs")

RNG = np.random.default_rng(0)
T = np.arange(60.0)
TWO = (T + 15 * RNG.normal(size=60) > 30).astype(int)
THREE = np.digitize(T + 15 * RNG.normal(size=60), [20, 40])
MEAN = 1.7e9
TIMES = MEAN + np.column_stack([T, 7 * np.sin(T)])
NEAR = TIMES - MEAN
ESTIMATORS: list[Any] = [LogisticRegression, LogisticRegressionCV, BootstrapLogisticRegression]
EXACT = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}


# --- Means far from 0 ---------------------------------------------------------------------------


@pytest.mark.parametrize("y", [TWO, THREE])
def test_a_mean_far_from_0_hides_nothing(y):
    """Weights of 0 leave rows out of the means, of which one would be far."""
    c = np.r_[0.0, RNG.uniform(0.5, 2, 59)]
    X = TIMES.copy()
    X[0] = -1e15
    expected = Reference(**EXACT).fit(NEAR[1:], y[1:], c[1:])
    model = LogisticRegression().fit(X, y, c)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6)
    due = expected.intercept_ - MEAN * expected.coef_.sum(axis=1)
    np.testing.assert_allclose(model.intercept_, due, rtol=1e-6)
    found, due = model.predict_proba(X[1:]), expected.predict_proba(NEAR[1:])
    np.testing.assert_allclose(found, due, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("y", [TWO, THREE])
def test_every_fit_of_every_estimator_is_as_about_the_mean(y):
    splits = [(np.arange(60) % 3 != k, np.arange(60) % 3 == k) for k in range(3)]
    far, near = (LogisticRegressionCV(Cs=[0.01, 1.0], cv=splits).fit(X, y) for X in (TIMES, NEAR))
    np.testing.assert_allclose(far.scores_, near.scores_, atol=1e-6)
    due = near.coefs_paths_[..., -1] - MEAN * near.coefs_paths_[..., :-1].sum(axis=-1)
    np.testing.assert_allclose(far.coefs_paths_[..., :-1], near.coefs_paths_[..., :-1], atol=1e-9)
    np.testing.assert_allclose(far.coefs_paths_[..., -1], due, rtol=1e-6)

    options = {"n_resamples": 5, "random_state": 0}
    far, near = (BootstrapLogisticRegression(**options).fit(X, y) for X in (TIMES, NEAR))
    np.testing.assert_allclose(far.coefs_, near.coefs_, atol=1e-9)
    due = near.intercepts_ - MEAN * near.coefs_.sum(axis=-1)
    np.testing.assert_allclose(far.intercepts_, due, rtol=1e-6)


@pytest.mark.parametrize("y", [TWO, THREE])
def test_a_warm_start_begins_where_the_last_fit_ended(y):
    for mean, steps in ((50, 2), (MEAN, 7)):  # an intercept of 3e8 is known to 6e-8 only
        model = LogisticRegression(warm_start=True).fit(mean + NEAR, y)
        cold, first = model.n_iter_[0], model.coef_
        model.fit(mean + NEAR, y)
        assert model.n_iter_[0] <= steps < cold
        np.testing.assert_allclose(model.coef_, first, rtol=1e-6)


def test_float32_is_centred_before_it_is_rounded():
    X = (1e4 + NEAR).astype(np.float32)
    model = LogisticRegression().fit(X, TWO)
    expected = Reference(**EXACT).fit(X.astype(float) - 1e4, TWO)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-4)
    assert model.coef_.dtype == model.intercept_.dtype == np.float32


def test_without_an_intercept_rows_stay_where_they_are():
    model = LogisticRegression(fit_intercept=False).fit(NEAR + 5, TWO)
    expected = Reference(fit_intercept=False, **EXACT).fit(NEAR + 5, TWO)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6)
    assert model.intercept_.tolist() == [0]


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_a_fit_would_not_see_is_refused(estimator):
    X = np.column_stack([T, np.where(T == 12, -2, 1)])
    for dtype, scale in (("float64", 1e200), ("float32", 1e30)):
        for factor, verb in ((scale, "overflow"), (1 / scale, "vanish")):
            frame = pd.DataFrame((X * [1, factor]).astype(dtype), columns=["age", "charge"])
            words = (
                rf"X\[12, 1\] is -2e[^ ]* \(example 12, feature 1 'charge'\).* {verb} in {dtype}"
            )
            with pytest.raises(ValueError, match=words):
                estimator().fit(frame, TWO)
    ids = 10**18 + np.arange(60)
    for given in (ids[:, None], pd.DataFrame({"z": T, "id": ids})):
        with pytest.raises(ValueError, match=r"X\[.*float64 rounds .* as in X - X\.min\(0\)"):
            estimator().fit(given, TWO)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_text_is_named_by_its_column(estimator):
    frame = pd.DataFrame({"age": T, "colour": ["red", "blue"] * 30})
    words = (
        r"X\[0, 1\] is 'red' \(example 0, feature 1{}\), and .* numbers are due: .*OneHotEncoder"
    )
    with pytest.raises(ValueError, match=words.format(" 'colour'")):
        estimator().fit(frame, TWO)
    with pytest.raises(ValueError, match=words.format("")):
        estimator().fit(frame.to_numpy(), TWO)
    gaps = pd.DataFrame({"age": pd.array([None, *T[1:]], "Float64"), "one": 1.0})
    with pytest.raises(ValueError, match=r"X\[0, 0\] is missing .*: 1 value of column 'age' is"):
        estimator().fit(gaps, TWO)
    dates = pd.DataFrame({"age": T, "day": pd.date_range("2020-01-31", periods=60, tz="UTC")})
    with pytest.raises(TypeError, match=r"column 'day' has dtype datetime.*days, or drop it\.$"):
        estimator().fit(dates, TWO)


def test_text_is_named_where_it_is_predicted_from():
    model = LogisticRegression().fit(pd.DataFrame({"age": T}), TWO)
    with pytest.raises(ValueError, match=r"X\[1, 0\] is 'old' \(example 1, feature 0 'age'\)"):
        model.predict(pd.DataFrame({"age": [3, "old"]}))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_labels_that_are_missing_are_counted(estimator):
    words: list[Any] = [["no", "yes"][i % 2] for i in range(60)]
    words[3] = words[5] = None
    numbers = [None if word is None else float(word == "yes") for word in words]
    arrow = pd.ArrowDtype(pa.string())
    for y in (
        *(pd.Series(words, dtype=kind) for kind in ("string", "category", object, arrow)),
        pd.Series(words, dtype=object).fillna(pd.NA),
        pd.Series(numbers, dtype="Int64"),
        pd.Series(numbers, dtype="float64"),
        pd.DataFrame({"y": pd.Series(words, dtype="string")}),
        np.array(words, object),
        words,
        [float("nan") if word is None else word for word in words],
        pa.array(words),
    ):
        with pytest.raises(
            ValueError, match=r"^y is missing in 2 of its 60 entries, .* y\[3\]: drop"
        ):
            estimator().fit(T[:, None], y)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_arguments_of_scikit_learns_that_are_no_choice_are_refused_with_a_remedy(estimator):
    ours = set(inspect.signature(estimator).parameters)
    assert ours == set(estimator().get_params())
    theirs = set(inspect.signature(ReferenceCV).parameters) | {"multi_class"}
    theirs |= set(inspect.signature(Reference).parameters)
    for name in theirs - ours - {"C", "Cs", "cv", "scoring", "refit", "warm_start"}:
        with pytest.raises(TypeError) as caught:
            estimator(**{name: None})
        assert str(caught.value).startswith(f"{estimator.__name__} has no argument {name}: ")
        assert "drop it" in str(caught.value)
    with pytest.raises(TypeError, match=r"has no argument c: it has .*tol, .*max_iter"):
        estimator(c=1.0)
    assert clone(estimator(tol=1e-3)).get_params()["tol"] == 1e-3  # pyright: ignore


def test_a_class_that_inherits_may_have_arguments_of_its_own():
    class Named(LogisticRegression):
        def __init__(self, *, name="a", C=1.0):
            super().__init__(C=C)
            self.name = name

    named: Any = clone(Named(name="b", C=2.0))
    assert named.get_params() == {"name": "b", "C": 2.0}
