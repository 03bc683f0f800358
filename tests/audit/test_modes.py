"""Forward and reverse, jit, vmap, second order: what must hold of a right gradient besides."""

import jax
import jax.core
import jax.numpy as jnp
import pytest
from jax import custom_batching, lax

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


@pytest.mark.parametrize("wrong", [False, True])
def test_one_hundred_thousand_parameters(wrong):
    keys = jax.random.split(jax.random.key(0), 3)
    W, V = jax.random.normal(keys[0], (300, 300)) / 17, jax.random.normal(keys[1], (300, 40)) / 17
    inputs = jax.random.normal(keys[2], (8, 300))

    def fun(p):
        return (jnp.tanh(inputs @ p["W"]) @ p["V"] ** 2).sum()

    def grad(p):
        hidden = jnp.tanh(inputs @ p["W"])
        back = (1 - hidden**2) * (p["V"] ** 2).sum(axis=1)[None]
        dW, dV = inputs.T @ back, 2 * p["V"] * hidden.sum(axis=0)[:, None]
        return {"W": dW.at[:, 7].multiply(2.0) if wrong else dW, "V": dV}

    report = audit_gradient(fun, grad, {"W": W, "V": V})
    assert report.ok != wrong
    assert any("directions were compared" in note for note in report.notes)
