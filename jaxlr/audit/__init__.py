"""Is my gradient right? An audit of any JAX function's gradient, by independent evidence.

    report = audit_gradient(fun, grad, *args)     # or grad=None: what JAX derives
    print(report)                                 # agrees, disagrees or cannot tell, and why
    assert_gradient(fun, grad, *args)             # in a test

>>> import jax.numpy as jnp
>>> x = jnp.array([1.0, 2.0, 4.0])
>>> report = audit_gradient(lambda x: jnp.log(x).sum(), lambda x: -1 / x, x)
>>> report.verdict.words
'disagrees'
>>> report.hints[0]
'x: the sign is flipped: it is −1 times the right one'
"""

from jaxlr.audit.audit import audit_gradient
from jaxlr.audit.report import GradientError, Report, Verdict
from jaxlr.audit.testing import assert_gradient

__all__ = ["GradientError", "Report", "Verdict", "assert_gradient", "audit_gradient"]
