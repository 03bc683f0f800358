"""Mistakes are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlr.audit import audit_gradient
from jaxlr.audit.flat import Leaf
from jaxlr.audit.patterns import Case, name_pattern

rng = np.random.default_rng(0)
T = rng.normal(size=(4, 4))
P = rng.normal(size=(4, 4))


def named(judged, truth=T, x=P, dimensions=(), scalars=()):
    leaf = Leaf("w", truth.shape, np.float32, 0, truth.size)
    j, t, v = (a.ravel() for a in (judged, truth, x))
    return name_pattern(Case(leaf, np.arange(truth.size), j, t, 0 * t, v, dimensions, scalars))


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (-T, "the sign is flipped"),
        (2 * T, "a factor of 2 too many"),
        (T / 2, "a factor of 2 is missing"),
        (-20 * T, "the sign is flipped, and a factor of 20, the length of axis 1 of X, too many"),
        (T / 7, "a factor of 7 is missing"),
        (0 * T, "it is zero"),
        (T.T, "it is transposed"),
        (-T.T, "it is transposed, and the sign is flipped"),
        (T[::-1], "it is reversed along axis 0"),
        (np.roll(T, 1, axis=1), "an index is off by one"),
        (np.broadcast_to(T.sum(0, keepdims=True), T.shape), "summed over axis 0"),
        (T * np.array([1, 1, 2, 1])[None], "only [:, 2] is wrong"),
        (T * np.array([1, 0, 1, 1])[:, None], "only [1, :] is wrong"),
        (T + (np.arange(16) == 6).reshape(4, 4), "only the entry [1,2] is wrong"),
        (np.where(P < 0, 3 * T, T), "it is wrong where w is negative"),
        (np.where(abs(P) > 1, 0, T), "it is wrong only where |w| >"),
        (T - 0.3 * P, "the term penalty.l2·w is missing"),
        (T + 0.3 * P, "the term penalty.l2·w too many"),
        (0.3 * P - (T - 0.3 * P), "but for a term in w, the sign is flipped"),
        (0.3 * P + 20 * (T - 0.3 * P), "but for a term in w, it is 20 times the right one"),
        (T + 5.0, "off by 5"),
        (T * (1 + 0.01 * np.sin(P)), "a small slip"),
        (np.where(P > 1.0, np.nan, T), "NaN at"),
        (np.sin(9 * T), ""),
    ],
)
def test_a_deviation_is_named(judged, words):
    text = named(judged, dimensions=((20, "axis 1 of X"),), scalars=((0.3, "penalty.l2"),))
    assert words in text
    assert bool(words) == bool(text)


def test_an_argument_that_is_not_felt_is_named():
    X, y = jnp.asarray(rng.normal(size=(3, 20)), jnp.float32), jnp.arange(20) % 2
    c, w = jnp.linspace(0.5, 2.0, 20), jnp.ones(3)

    def loss(w, X, weights):
        z = w @ X
        return (weights * (jax.nn.softplus(z) - y * z)).sum() / weights.sum()

    def dropped(w, X, weights):  # from the numerator: the total is still there
        return X @ (jax.nn.sigmoid(w @ X) - y) / weights.sum()

    report = audit_gradient(loss, dropped, w, X, c)
    assert any("does not feel weights" in hint for hint in report.hints)


def test_a_missing_sum_over_a_broadcast_axis_is_named():
    X = jnp.asarray(rng.normal(size=(3, 20)), jnp.float32)
    report = audit_gradient(
        lambda b: jnp.sin(X + b[:, None]).sum(), lambda b: jnp.cos(X + b[:, None]), jnp.ones(3)
    )
    assert "the sum over the broadcast axis 1 is missing" in report.hints[0]


def test_few_wrong_signs_are_chance():
    three, seven = (np.linspace(0.5, 2.0, n) for n in (3, 7))
    assert named(-(three**3), three, three) == ""
    assert named(-(seven**3), seven, seven) == "every entry has the wrong sign"


def test_a_wrong_shape_of_a_long_leaf_is_named_too():
    X = jnp.asarray(rng.normal(size=(2, 3000)), jnp.float32)
    report = audit_gradient(lambda b: (X * b[None]).sum(), lambda b: X, jnp.ones(3000))
    assert "the sum over the broadcast axis 0 is missing" in report.hints[0]


x = jnp.array([0.8, -1.3, 0.4])


def test_a_cotangent_that_is_not_felt_is_named():
    fun = jax.custom_vjp(lambda x: ((x**2).sum(), jnp.sin(x)))
    fun.defvjp(lambda x: (fun(x), x), lambda x, u: (2 * u[0] * x,))
    report = audit_gradient(fun, None, x, order=1)
    assert any("does not feel u of output 1" in hint for hint in report.hints)


@pytest.mark.parametrize(
    ("fun", "grad", "words"),
    [
        (lambda x: (x**2).sum(), lambda x: (2 * x).astype(int), "it is int32 where float32 is due"),
        (lambda x: jnp.outer(x, x), lambda x, u: u @ x, "where the differences give"),
    ],
)
def test_every_disagreement_has_a_hint(fun, grad, words):
    report = audit_gradient(fun, grad, x.astype(jnp.float32))
    assert words in report.hints[0].replace("int64", "int32")


def test_an_argument_of_one_number_in_an_array_is_no_obstacle():
    def fun(w, l2):
        return (jnp.sin(w) ** 2).sum() + (l2 * w**2).sum() / 2

    report = audit_gradient(fun, lambda w, l2: jnp.sin(2 * w), x, jnp.full((1,), 0.3))
    assert "w: the term l2·w is missing" in report.hints
