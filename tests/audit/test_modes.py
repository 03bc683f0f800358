"""Forward and reverse, jit, vmap, second order: what must hold of a right gradient besides."""

import jax
import jax.core
import jax.numpy as jnp
import pytest
from jax import custom_batching, lax

from experiments.gradient_catalogue.cases import newton
from jaxlr.audit import Verdict, audit_gradient

x = jnp.array([0.8, -1.3, 0.4])


def failed(report):
    return {row.check for row in report.rows if row.verdict == Verdict.DISAGREES}


def ruled(slope):
    """Return a sine whose derivative is a rule."""
    fun = jax.custom_jvp(jnp.sin)
    fun.defjvp(lambda p, t: (fun(*p), slope(p[0]) * t[0]))
    return lambda x: fun(x).sum()


def test_all_checks_of_a_plain_function_pass():
    report = audit_gradient(lambda x: jnp.exp(jnp.sin(x)).sum(), None, x)
    checks = {row.check for row in report.rows}
    assert report.ok
    assert checks == {
        "differences",
        "complex step",
        "rounding",
        "value under grad",
        "jit = eager",
        "vmap = loop",
        "forward = reverse",
        "second order",
        "symmetry",
    }
    assert all(1.9 < r.order < 2.1 for r in report.remainders)


def test_without_reverse_mode_the_forward_mode_is_judged():
    def fun(x, wrong=False):
        rule = jax.custom_jvp(jnp.sin)
        rule.defjvp(lambda p, t: (rule(*p), (1.1 if wrong else 1.0) * jnp.cos(p[0]) * t[0]))
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, rule(s[1])), (0, x))[1].sum()

    report = audit_gradient(fun, None, x)
    assert report.ok
    assert any("No reverse mode" in note for note in report.notes)
    assert audit_gradient(lambda x: fun(x, True), None, x).verdict == Verdict.DISAGREES


def test_without_forward_mode_that_is_noted_and_no_failure():
    fun = jax.custom_vjp(lambda x: jnp.sin(x).sum())
    fun.defvjp(lambda x: (fun(x), x), lambda x, u: (u * jnp.cos(x),))
    report = audit_gradient(fun, None, x)
    assert report.ok
    assert any("No forward mode" in note for note in report.notes)


def test_a_rule_that_ignores_its_cotangent():
    fun = jax.custom_vjp(lambda x: jnp.sin(x).sum())
    fun.defvjp(lambda x: (fun(x), x), lambda x, u: (jnp.cos(x),))
    assert audit_gradient(fun, None, x).verdict == Verdict.DISAGREES


def test_wrong_only_in_the_second_order():
    fun = ruled(lambda x: lax.stop_gradient(jnp.cos(x)))
    report = audit_gradient(fun, None, x)
    assert failed(report) == {"second order"}
    assert "own derivative is wrong" in report.hints[0]
    assert audit_gradient(fun, None, x, order=1).ok


def test_wrong_only_under_vmap():
    @custom_batching.custom_vmap
    def slope(x):
        return jnp.cos(x)

    slope.def_vmap(lambda axis_size, in_batched, x: (jnp.cos(x).mean() + 0 * x, True))
    fun = jax.custom_vjp(lambda x: jnp.sin(x).sum())
    fun.defvjp(lambda x: (fun(x), x), lambda x, u: (u * slope(x),))
    report = audit_gradient(fun, None, x)
    assert failed(report) == {"vmap = loop"}
    assert "under vmap" in report.hints[0]


def test_wrong_only_under_jit():
    def grad(x):
        return 3 * x if isinstance(x, jax.core.Tracer) else 2 * x

    report = audit_gradient(lambda x: (x**2).sum(), grad, x)
    assert "jit = eager" in failed(report)


@pytest.mark.usefixtures("x64_off")
def test_wrong_only_in_float32():
    z = jnp.array([14.0, 15.5, 17.0])

    def fun(z):  # −log σ(z)
        return jax.nn.softplus(-z).sum()

    report = audit_gradient(fun, lambda z: jax.nn.sigmoid(z) - 1, z)
    assert failed(report) == {"rounding"}
    assert "loses its digits in float32" in report.hints[0]
    assert audit_gradient(fun, lambda z: -jax.nn.sigmoid(-z), z).ok


def test_a_hessian_vector_product_is_the_gradient_of_a_gradient():
    def gradient(x):
        return jnp.cos(x) * jnp.sin(x[::-1])

    def transposed(x, u):
        return -jnp.sin(x) * jnp.sin(x[::-1]) * u + (jnp.cos(x) * u)[::-1] * jnp.cos(x)

    assert audit_gradient(gradient, transposed, x).ok
    assert not audit_gradient(gradient, lambda x, u: 2 * transposed(x, u), x).ok


def test_a_rule_whose_forward_pass_returns_another_value():
    fun = jax.custom_vjp(lambda x: (x**2).sum())
    fun.defvjp(lambda x: (2 * (x**2).sum(), x), lambda x, u: (2 * u * x,))
    report = audit_gradient(fun, None, x)
    assert failed(report) == {"value under grad"}
    assert "the value that comes with the gradient" in report.hints[0]
    forward = jax.custom_jvp(lambda x: (x**2).sum())
    forward.defjvp(lambda p, t: (1.01 * (p[0] ** 2).sum(), (2 * p[0] * t[0]).sum()))
    assert failed(audit_gradient(forward, None, x, order=1)) == {"value under grad"}


def test_a_solver_under_vmap_that_fixes_its_dtype():
    report = audit_gradient(newton(1.0), None, x)
    assert report.ok
    assert not any("own dtype" in note for note in report.notes)
    assert audit_gradient(newton(1.002), None, x).verdict == Verdict.DISAGREES


@pytest.mark.parametrize("b", [0.1, 0.3])
@pytest.mark.parametrize("last", [lambda c: jax.nn.softmax(c)[0], lambda c: jnp.sin(c).sum()])
def test_sums_that_cancel_are_no_failure_of_jit_or_vmap(b, last):
    def fun(b):  # b is taken out again with the mean: the derivative is rounding
        c = x + b - (x + b).mean()
        return last(c / jnp.sqrt((c**2).mean()))

    assert audit_gradient(fun, None, jnp.float32(b)).ok
