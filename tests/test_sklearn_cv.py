"""Cross-validation in scikit-learn's interface: its own as reference."""

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.linear_model import LogisticRegressionCV as ReferenceCV
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, ShuffleSplit

from jaxlr.sklearn import LogisticRegressionCV
from jaxlr.sklearn.logistic_cv import _fitted, _log_loss, knowing
from tests.test_sklearn import EXACT, FLOWERS, IRIS, SPECIES, TWO, WEIGHTS, problem

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.quick("options2-3")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"Cs": [0.05, 1.0], "scoring": "neg_log_loss"},
        {"Cs": 2, "cv": ShuffleSplit(3, random_state=0), "scoring": None, "refit": False},
        {"Cs": [0.3, 0.1, 1.0], "fit_intercept": False, "class_weight": "balanced"},
    ],
)
def test_cross_validation_is_scikit_learns(n_classes, options):
    X, y, c = problem(n_classes)
    options = {"scoring": "neg_log_loss", **options}
    layout = {"l1_ratios": (0.0,), "use_legacy_attributes": False}
    model = LogisticRegressionCV(**options).fit(X, y, c)
    expected = ReferenceCV(**options, **EXACT, **layout).fit(X, y, c)
    for name in ("scores_", "coefs_paths_", "coef_", "intercept_", "Cs_", "C_"):
        ours, theirs = getattr(model, name), getattr(expected, name)
        assert np.shape(ours) == np.shape(theirs)
        np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=1e-6)
    assert model.n_iter_.shape == expected.n_iter_.shape
    np.testing.assert_allclose(model.score(X, y), expected.score(X, y), rtol=1e-6)


def test_a_split_may_hold_any_rows():
    """Repeated and overlapping rows, masks, and a training set without one of the classes."""
    rng = np.random.default_rng(1)
    drawn, mask = rng.integers(0, 150, 150), np.arange(150) % 3 > 0
    two = np.flatnonzero(SPECIES > 0)
    splits = [(drawn, np.arange(20)), (mask, ~mask), (two, np.arange(75)), ([0, 60, 140, 0], [1])]
    with pytest.warns(ConvergenceWarning, match="1 of 5 fits .* a class has no examples"):
        model = LogisticRegressionCV(Cs=[0.5], cv=iter(splits)).fit(IRIS, SPECIES, WEIGHTS)
    for path, score, (train, test) in zip(model.coefs_paths_, model.scores_, splits, strict=True):
        if train is two:
            assert np.isfinite(score).all()
            continue
        alone = Reference(C=0.5, **EXACT).fit(IRIS[train], SPECIES[train], WEIGHTS[train])
        np.testing.assert_allclose(path[0, 0, :, :-1], alone.coef_, atol=1e-6)
        probability = alone.predict_proba(IRIS[test])[np.arange(len(IRIS[test])), SPECIES[test]]
        expected = np.average(np.log(probability), weights=WEIGHTS[test])
        np.testing.assert_allclose(score[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e3])  # of logits: probabilities of 0 and 1 are cut off
def test_log_losses_are_the_scorers(n_classes, dtype, scale):
    X, y, c = problem(n_classes)
    X, rng = X.astype(dtype), np.random.default_rng(0)
    K = 1 if n_classes == 2 else n_classes
    coef, intercept = scale * rng.normal(size=(K, X.shape[1])).astype(dtype), np.ones(K, dtype)
    classes, place = np.unique(y, return_inverse=True)
    scorer = knowing(get_scorer("neg_log_loss"), classes)
    for weights in (None, c):
        expected = scorer(_fitted(classes, coef, intercept), X, y, sample_weight=weights)
        found = _log_loss(coef, intercept, X, place, weights)
        np.testing.assert_allclose(-found, expected, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.slow
def test_weights_to_score_by_may_be_a_column_but_not_all_zero():
    column, none = WEIGHTS[:100, None], np.where(np.arange(100) < 20, 0, 1.0)
    splits = [(np.arange(20, 100), np.arange(20))]
    a, b = (LogisticRegressionCV(Cs=[1.0]).fit(FLOWERS, TWO, c) for c in (column, column[:, 0]))
    np.testing.assert_array_equal(a.scores_, b.scores_)
    with pytest.raises(ValueError, match="split 0 of cv scores on no row with a weight above 0"):
        LogisticRegressionCV(Cs=[1.0], cv=splits).fit(FLOWERS, TWO, none)


def test_a_score_that_is_nan_is_never_chosen():
    def scorer(model, X, y):
        return np.nan if abs(model.coef_).max() > 1 else abs(model.coef_).max()

    assert LogisticRegressionCV(Cs=[1e-3, 1e-2, 1e3], scoring=scorer).fit(FLOWERS, TWO).C_ == 1e-2


def test_metadata_are_routed_to_the_splitter_and_the_scorer():
    groups = np.arange(100) % 4
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegressionCV(Cs=[1.0], cv=GroupKFold(4))
        model.fit(FLOWERS, TWO, groups=groups)
        splits = GroupKFold(4).split(FLOWERS, TWO, groups)
        for score, (train, test) in zip(model.scores_, splits, strict=True):
            alone = Reference(**EXACT).fit(FLOWERS[train], TWO[train])
            probability = alone.predict_proba(FLOWERS[test])[np.arange(25), TWO[test]]
            np.testing.assert_allclose(score[0, 0], np.log(probability).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"groups cannot be passed on: .*enable_metadata_routing"):
        model.fit(FLOWERS, TWO, groups=groups)
