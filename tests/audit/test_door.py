"""What cannot be audited is refused in a sentence, and nothing is called right unjudged."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlr.audit import audit_gradient

x: Any = jnp.array([0.8, -1.3, 0.4], jnp.float32)
three: Any = 3


def squares(x):
    return (x**2).sum()


def pair(x):
    return squares(x), x


def by_numpy(x):
    return float(np.sin(np.asarray(x)).sum())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: audit_gradient(squares, x), "grad is float32[3]: a function is due, or None"),
        (lambda: audit_gradient(squares, 2 * x, x), "as in audit_gradient(fun, None, x)"),
        (lambda: audit_gradient(three, None, x), "fun is an int: a function is due"),
        (lambda: audit_gradient(squares), "There are no arguments at which to judge squares"),
        (lambda: audit_gradient(squares, None, x, argnums=3), "argnums is 3: there is 1 argument"),
        (lambda: audit_gradient(squares, None, x, argnums=()), "argnums is empty"),
        (lambda: audit_gradient(squares, None, x, order=0), "order is 0: 1 or 2 is due"),
        (lambda: audit_gradient(squares, None, x, key=3), "key is an int: a jax.random.key"),
        (lambda: audit_gradient(squares, None, jnp.zeros((0, 3))), "they are empty"),
        (lambda: audit_gradient(squares, None, x, has_aux=True), "returns no pair: it returns f"),
        (lambda: audit_gradient(pair, lambda x: 2 * x, x), "say has_aux=True"),
        (lambda: audit_gradient(jnp.sin, jnp.cos, x), "grad(*args, u)"),
        (
            lambda: audit_gradient(squares, None, x, reference=lambda x: x**2),
            "reference returns an output of shape (3,) where squares returns ()",
        ),
        (lambda: audit_gradient(by_numpy, None, x), "Hand its gradient in as grad"),
    ],
)
def test_a_slip_of_the_call_is_a_sentence(call, words):
    with pytest.raises(ValueError, match=r"[a-z]") as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fun", [lambda x: (x > 0).sum(), lambda x: x.astype(int).sum(), lambda x: None, lambda x: x[:0]]
)
def test_without_a_floating_point_output_there_is_nothing_to_judge(fun):
    with pytest.raises(ValueError, match="returns no floating-point number"):
        audit_gradient(fun, None, x)


@pytest.mark.parametrize(
    ("grad", "words"),
    [
        (jax.value_and_grad(squares), "Is it a value and a gradient?"),
        (lambda x: None, "is None where float32[3] is due. Has it no return?"),
        (lambda x: "abc", "is a str where float32[3] is due"),
        (lambda x: (2 * x,), "Is it the array, in a tuple?"),
    ],
)
def test_a_gradient_that_is_no_array_is_refused(grad, words):
    with pytest.raises(ValueError, match="The gradient of squares") as caught:
        audit_gradient(squares, grad, x)
    assert words in str(caught.value)


def test_a_complex_gradient_of_a_real_leaf_is_wrong_and_a_real_one_is_judged_by_its_values():
    report = audit_gradient(squares, lambda x: 2 * x + 1j, x)
    assert "it is complex64 where float32 is due" in report.hints[0]
    z = x + 1j
    assert audit_gradient(lambda z: 3 * z.real.sum(), lambda z: jnp.full(3, 3.0), z, order=1).ok
    half = audit_gradient(lambda z: (z**2).real.sum(), lambda z: 2 * z.real, z)
    assert any("is due" in hint for hint in half.hints)


def test_an_array_that_the_gradient_donates_is_still_there():
    point = x + 0
    report = audit_gradient(squares, jax.jit(lambda x: 2 * x, donate_argnums=0), point)
    assert report.ok
    assert not point.is_deleted()


def test_negative_argnums_count_from_the_end():
    fun = lambda a, b: (a * b**2).sum()  # noqa: E731
    assert audit_gradient(fun, lambda a, b: 2 * a * b, x, x, argnums=-1).ok
    assert not audit_gradient(fun, lambda a, b: b**2, x, x, argnums=-1).ok
