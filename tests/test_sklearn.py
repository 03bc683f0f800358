"""scikit-learn's interface: its own checks, its estimators as reference, its tools around ours."""

import pickle
import subprocess
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import jaxlr
from jaxlr.sklearn import BootstrapLogisticRegression, LogisticRegression, LogisticRegressionCV

pytestmark = pytest.mark.usefixtures("quick_programs")

IRIS, SPECIES = (np.asarray(a) for a in load_iris(return_X_y=True))
IRIS = IRIS - IRIS.mean(axis=0)
# Two species, with some flowers misnamed: else a line could tell them apart.
FLOWERS, TWO = IRIS[:100], np.where(np.arange(100) % 7 == 0, 1 - SPECIES[:100], SPECIES[:100])
WEIGHTS = np.random.default_rng(0).uniform(0.2, 3.0, 150)
EXACT = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}


def problem(n_classes):
    return (FLOWERS, TWO, WEIGHTS[:100]) if n_classes == 2 else (IRIS, SPECIES, WEIGHTS)


# --- scikit-learn's checks ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        pytest.param(LogisticRegressionCV(Cs=3, cv=3), marks=pytest.mark.slow),
        # Few rows: some resamples lack a class.
        pytest.param(BootstrapLogisticRegression(n_resamples=5), marks=pytest.mark.slow),
    ],
)
def test_scikit_learns_checks_pass(estimator):
    check_estimator(estimator, on_skip=None)


# --- One fit ------------------------------------------------------------------------------------


@pytest.mark.quick("3")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_objective_is_C_times_the_losses_plus_half_the_squares(x64, n_classes):
    """At the fit, autodiff of scikit-learn's objective is zero."""
    X, y, c = problem(n_classes)
    model = LogisticRegression(C=0.3).fit(X, y, c)

    def objective(coef, intercept):
        Z = X @ coef.T + intercept[None]
        Z = jnp.pad(Z, ((0, 0), (1, 0))) if n_classes == 2 else Z
        each = jax.nn.logsumexp(Z, axis=1) - Z[np.arange(len(y)), y]
        return 0.3 * (c * each).sum() + (coef**2).sum() / 2

    grads = jax.grad(objective, (0, 1))(jnp.asarray(model.coef_), jnp.asarray(model.intercept_))
    for grad in grads:
        np.testing.assert_allclose(grad, 0, atol=1e-7)
    batch = jaxlr.Batch.from_rows(X, y, weights=c)
    loss = jaxlr.fit(batch, jaxlr.Penalty(1 / (0.3 * c.sum()))).loss
    value = objective(model.coef_, model.intercept_)
    np.testing.assert_allclose(loss, value / (0.3 * c.sum()), rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"fit_intercept": False},
        {"class_weight": {0: 2.0, 1: 0.5}},
        {"class_weight": "balanced", "C": 0.1},
    ],
)
def test_options_mean_what_they_mean_there(n_classes, options):
    X, y, c = problem(n_classes)
    X = X + 0.5  # so that the intercept matters
    model, expected = LogisticRegression(**options), Reference(**EXACT, **options)
    model.fit(X, y, c)
    expected.fit(X, y, c)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, atol=1e-6)
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        ours, theirs = getattr(model, method)(X), getattr(expected, method)(X)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def test_without_penalty_the_softmax_is_pinned_by_a_mean_of_zero():
    y = np.roll(SPECIES, 25)  # not separable
    model = LogisticRegression(C=np.inf).fit(IRIS, y)
    expected = Reference(C=np.inf, **EXACT).fit(IRIS, y)
    np.testing.assert_allclose(model.coef_.mean(axis=0), 0, atol=1e-13)
    difference = expected.coef_ - expected.coef_.mean(axis=0)
    np.testing.assert_allclose(model.coef_, difference, atol=1e-6)


def test_log_probabilities_do_not_round_to_minus_infinity():
    model = LogisticRegression().fit(FLOWERS, TWO)
    far = FLOWERS[:1] * 1e6
    z = abs(model.decision_function(far)[0])
    assert z > 1000
    np.testing.assert_allclose(np.sort(model.predict_log_proba(far)[0]), [-z, 0], rtol=1e-12)


def test_float32_stays_float32_and_float64_is_float64_whatever_jax_does(x64_off):
    narrow = LogisticRegression().fit(np.float32(FLOWERS), TWO)
    wide = LogisticRegression().fit(FLOWERS, TWO)
    assert not jax.config.read("jax_enable_x64")
    assert narrow.coef_.dtype == narrow.predict_proba(np.float32(FLOWERS)).dtype == np.float32
    assert wide.coef_.dtype == wide.predict_proba(FLOWERS).dtype == np.float64
    assert LogisticRegression().fit(FLOWERS.round().astype(int), TWO).coef_.dtype == np.float64
    np.testing.assert_allclose(narrow.coef_, wide.coef_, atol=1e-3)


def test_a_fit_that_fails_says_why():
    with pytest.warns(ConvergenceWarning, match=r"The fit did not converge: max_iter .* Raise"):
        LogisticRegression(max_iter=2).fit(IRIS, SPECIES)
    with pytest.warns(ConvergenceWarning, match="there is no finite optimum"):
        LogisticRegression(C=np.inf).fit(FLOWERS, SPECIES[:100])


def test_hard_problems_converge_where_scikit_learn_warns():
    X, y = load_breast_cancer(return_X_y=True)  # unscaled
    with pytest.warns(ConvergenceWarning):
        Reference().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression().fit(X, y)
    assert model.suboptimality_ < 1e-10


def test_warm_start_begins_at_the_last_fit():
    model = LogisticRegression(warm_start=True).fit(IRIS, SPECIES)
    cold, expected = model.n_iter_[0], model.coef_
    model.fit(IRIS, SPECIES)
    assert model.n_iter_[0] <= 2 < cold
    np.testing.assert_allclose(model.coef_, expected, atol=1e-7)
    with pytest.raises(ValueError, match=r"warm_start: coef_ has shape \(3, 4\) where \(1, 4\)"):
        model.fit(FLOWERS, TWO)


def test_max_iter_counts_steps_and_warm_starts_take_them_one_at_a_time():
    odds = np.log(TWO.mean() / (1 - TWO.mean()))
    expected = Reference(**EXACT).fit(FLOWERS, TWO).coef_
    distances = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = LogisticRegression(max_iter=0).fit(FLOWERS, TWO)
        np.testing.assert_allclose(start.decision_function(FLOWERS), odds, rtol=1e-12)
        assert start.n_iter_[0] == 0
        model = LogisticRegression(max_iter=1, warm_start=True)
        for _ in range(10):
            model.fit(FLOWERS, TWO)
            distances.append(abs(model.coef_ - expected).max())
            assert model.n_iter_[0] == 1
    assert (np.diff(distances) < 0).all()
    assert LogisticRegression(max_iter=2**31).fit(FLOWERS, TWO).n_iter_[0] < 50


def test_folds_and_subsets_of_features_share_a_program():
    from jaxlr.solver.fit import _fit

    LogisticRegression().fit(IRIS[:, :2], SPECIES)
    before = _fit._cache_size()  # pyright: ignore
    LogisticRegression(C=2.0, max_iter=90).fit(IRIS[3:, :3], SPECIES[3:], WEIGHTS[3:])
    assert _fit._cache_size() == before  # pyright: ignore


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"C": 0}, "C is 0: a number above 0 is due, or infinity"),
        ({"C": np.nan}, "C is nan"),
        ({"tol": -1.0}, "tol is -1.0: None, or a number from 0 on"),
        ({"max_iter": 1.5}, "max_iter is 1.5: an integer from 0 on"),
        ({"fit_intercept": "no"}, "fit_intercept is 'no': True or False"),
        ({"warm_start": 2}, "warm_start is 2: True or False"),
        ({"class_weight": {1: -2.0}}, "class_weight of 1 is -2.0: a number from 0 on"),
    ],
)
def test_options_without_meaning_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        LogisticRegression(**options).fit(FLOWERS, TWO)


def test_what_cannot_be_learned_from_is_refused():
    names = np.array(["ham", "spam"])[TWO]
    with pytest.raises(ValueError, match="y holds 1 class, ham: two are needed"):
        LogisticRegression().fit(FLOWERS, np.repeat("ham", 100))
    with pytest.raises(ValueError, match="1 class where weights are positive, spam: two"):
        LogisticRegression().fit(FLOWERS, names, (names == "spam") * 1.0)
    with pytest.raises(ValueError, match="sample_weight is zero for every example"):
        LogisticRegression().fit(FLOWERS, names, np.zeros(100))
    with pytest.raises(ValueError, match="1 class where weights are positive, ham: two"):
        LogisticRegression(class_weight={"spam": 0.0}).fit(FLOWERS, names)
    with pytest.raises(ValueError, match="Cs is -1: values of C, or how many, are due"):
        LogisticRegressionCV(Cs=-1).fit(FLOWERS, TWO)
    splits = [(np.arange(100), [0]), ([], [0])]
    for cv, sentence in (
        ([], r"cv is \[\]: at least one split is due"),
        (splits, "split 1 of cv trains on no row with a weight above 0"),
        ([(TWO >= 0, TWO < 0)], "split 0 of cv has no row to score on"),
    ):
        with pytest.raises(ValueError, match=sentence):
            LogisticRegressionCV(cv=cv).fit(FLOWERS, TWO)
    with pytest.raises(ValueError, match="n_resamples is 0"):
        BootstrapLogisticRegression(n_resamples=0).fit(FLOWERS, TWO)
    model = BootstrapLogisticRegression(n_resamples=3).fit(FLOWERS, TWO)
    with pytest.raises(ValueError, match="confidence_level is 95: between 0 and 1 is due"):
        model.coef_interval(95)


# --- The bootstrap ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
def test_resamples_are_weighted_fits_and_intervals_their_percentiles(n_classes):
    X, y, c = problem(n_classes)
    model = BootstrapLogisticRegression(n_resamples=40, random_state=3).fit(X, y, c)
    seed = np.random.RandomState(3).randint(2**31)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), 40)
        counts = np.array([jaxlr.poisson_counts(key, 512) for key in keys])[:, : len(y)]
    for r in (0, 39):
        weights = counts[r] * c
        C = c.sum() / weights.sum()
        alone = Reference(C=C, **EXACT).fit(X, y, weights)
        np.testing.assert_allclose(model.coefs_[r], alone.coef_, atol=1e-6)
        np.testing.assert_allclose(model.intercepts_[r], alone.intercept_, atol=1e-6)
    low, high = model.coef_interval(0.9)
    for end, percent in ((low, 5), (high, 95)):
        expected = np.percentile(model.coefs_, percent, axis=0)
        np.testing.assert_allclose(end, expected, rtol=1e-12)
    low, _ = model.intercept_interval(0.9)
    np.testing.assert_allclose(low, np.percentile(model.intercepts_, 5, axis=0), rtol=1e-12)
    probabilities = []
    for coef, intercept in zip(model.coefs_, model.intercepts_, strict=True):
        lane: Any = clone(model)
        lane.classes_, lane.n_features_in_ = model.classes_, 4
        lane.coef_, lane.intercept_ = coef, intercept
        probabilities.append(lane.predict_proba(X))
    ends = model.predict_proba_interval(X, 0.8)
    for end, percent in zip(ends, (10, 90), strict=True):
        expected = np.percentile(probabilities, percent, axis=0)
        np.testing.assert_allclose(end, expected, atol=1e-12)


def test_the_same_seed_draws_the_same_resamples():
    a, b, c = (
        BootstrapLogisticRegression(n_resamples=3, random_state=seed).fit(FLOWERS, TWO).coefs_
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


# --- scikit-learn's tools, tables, and life without scikit-learn ---------------------------------


def test_tools_take_the_estimators():
    names = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
    table = pd.DataFrame(IRIS, columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).set_output(transform="pandas")
    grid = {"logisticregression__C": [1e-4, 1.0]}
    search: Any = GridSearchCV(pipeline, grid, scoring="neg_log_loss")
    search.fit(table, names)
    assert search.best_params_ == {"logisticregression__C": 1.0}
    assert search.best_estimator_[-1].feature_names_in_.tolist() == ["a", "b", "c", "d"]
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(table), search.predict_proba(table))
    copy: Any = clone(search.best_estimator_[-1])
    assert copy.get_params()["C"] == 1.0
    calibrated = CalibratedClassifierCV(LogisticRegression(), cv=3).fit(table, names)
    assert calibrated.score(table, names) > 0.9
    importance: Any = permutation_importance(search, table, names, n_repeats=2, random_state=0)
    assert importance.importances_mean.argmax() in (2, 3)
    assert cross_val_score(LogisticRegressionCV(Cs=[1.0]), table, names, cv=3).mean() > -0.3


def test_tables_are_rows():
    expected = LogisticRegression().fit(IRIS, SPECIES)
    table = pa.table({name: IRIS[:, j] for j, name in enumerate("abcd")})
    for X in (table, table.to_pandas(), IRIS.tolist(), jnp.asarray(IRIS)):
        model = LogisticRegression().fit(X, SPECIES)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-3)
    frame = table.to_pandas()
    frame["kind"] = np.where(WEIGHTS > 1.5, "wild", "tame")
    encoded = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    pipeline: Any = make_pipeline(encoded, LogisticRegression()).fit(frame, SPECIES)
    assert pipeline[-1].coef_.shape == (3, 6)


def test_a_missing_scikit_learn_is_named_where_it_is_needed():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import jaxlr\n"
        "from jaxlr.base.extras import MissingExtra\n"
        "try:\n    import jaxlr.sklearn\n"
        "except MissingExtra as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == (
        'This needs sklearn, which is not installed: pip install "jaxlr[sklearn]"'
    )
