"""scikit-learn's interface: estimators whose X has examples as rows, and whose penalty is C.

They are pages over `jaxlr.fit`, its lanes and `jaxlr.bootstrap`, and work where scikit-learn's
own do: in pipelines, searches, calibration and inspection.

>>> from jaxlr.sklearn import LogisticRegression
>>> LogisticRegression().fit([[1.0], [2.0], [3.0], [4.0]], ["a", "b", "a", "b"]).classes_.tolist()
['a', 'b']
"""

from jaxlr.base.extras import require

require("sklearn.base", "sklearn")  # before the imports that need it: to say how to install it

from jaxlr.sklearn.bootstrap import BootstrapLogisticRegression  # noqa: E402
from jaxlr.sklearn.logistic import LogisticRegression  # noqa: E402
from jaxlr.sklearn.logistic_cv import LogisticRegressionCV  # noqa: E402

__all__ = ["BootstrapLogisticRegression", "LogisticRegression", "LogisticRegressionCV"]
