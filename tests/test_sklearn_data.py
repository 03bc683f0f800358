"""`coef_` on twenty real data sets against scikit-learn's Newton solver."""

import numpy as np
import pytest
from sklearn import datasets
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.preprocessing import StandardScaler

from jaxlr.sklearn import LogisticRegression


def from_sklearn(name):
    few = {"n_class": 4} if name == "digits" else {}  # and yet too many for a whole Hessian
    return getattr(datasets, f"load_{name}")(return_X_y=True, **few)


def from_statsmodels(name):
    table = getattr(pytest.importorskip("statsmodels.api").datasets, name).load_pandas()
    y = np.asarray(table.endog, float)
    return table.exog.select_dtypes("number").to_numpy(float), y[:, 0] if y.ndim == 2 else y


# Name, source, and where numbers are cut into classes: None for labels, or quantiles.
SETS = [
    ("breast_cancer", from_sklearn, None),
    ("iris", from_sklearn, None),
    ("wine", from_sklearn, None),
    ("digits", from_sklearn, None),
    ("diabetes", from_sklearn, (1 / 3, 2 / 3)),
    ("linnerud", from_sklearn, 0.5),
    ("anes96", from_statsmodels, None),
    ("spector", from_statsmodels, None),
    ("modechoice", from_statsmodels, None),
    ("fair", from_statsmodels, (0.6, 0.9)),
    ("randhie", from_statsmodels, 0.4),
    ("star98", from_statsmodels, 0.5),
    ("ccard", from_statsmodels, 0.5),
    ("longley", from_statsmodels, 0.5),
    ("stackloss", from_statsmodels, 0.5),
    ("scotland", from_statsmodels, 0.5),
    ("copper", from_statsmodels, 0.5),
    ("grunfeld", from_statsmodels, (0.25, 0.5, 0.75)),
    ("statecrime", from_statsmodels, (1 / 3, 2 / 3)),
    ("committee", from_statsmodels, 0.5),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source", "cuts"), SETS, ids=[name for name, *_ in SETS])
def test_coefficients_are_scikit_learns(quick_programs, name, source, cuts):
    X, y = source(name)
    X, y = StandardScaler().fit_transform(X), y[:, 0] if y.ndim == 2 else y
    if cuts is not None:
        y = np.digitize(y, np.quantile(y, np.atleast_1d(cuts)))
    weights = np.random.default_rng(0).uniform(0.2, 3.0, len(y))
    for options, c in (({}, None), ({"C": 0.03, "class_weight": "balanced"}, weights)):
        model = LogisticRegression(**options).fit(X, y, c)
        expected = Reference(solver="newton-cholesky", tol=1e-12, max_iter=1000, **options)
        expected.fit(X, y, c)
        np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-6)
        np.testing.assert_allclose(model.intercept_, expected.intercept_, atol=1e-6)
        assert model.coef_.dtype == np.float64
        assert model.suboptimality_ < 1e-9
