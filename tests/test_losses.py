"""The pointwise losses, against sixty decimal digits and against autodiff of the plain formula."""

import decimal
import functools
import math
from decimal import Decimal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlr.model import losses
from tests.helpers import assert_close, equations, quick

LOGITS = (0.0, 1e-8, -1e-8, 0.5, -0.5, 20.0, -20.0, 37.0, -37.0, 1e3, -1e3, 1e9, -1e9)
LABELS = (0.0, 1.0, 0.25, 0.3, 1e-3)
DIGITS = decimal.Context(prec=60, Emin=-(10**12), Emax=10**12)

# Columns of logits for three classes, and of probabilities that sum to one in every dtype.
COLUMNS = np.array(
    [[z, 0, 0] for z in LOGITS] + [[0, z, 1] for z in LOGITS] + [[0, 0, z] for z in LOGITS]
)
SHARES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.25, 0.25, 0.5], [0, 0.5, 0.5]])


def exact_binary(z, y):
    """Loss, residual, curvature, probability of floats z and y; infinite z by their limits."""
    z, y = float(z), float(y)
    if math.isinf(z):
        against = 1 - y if z > 0 else y
        a = float(z > 0)
        return (math.inf if against else 0.0), a - y, 0.0, a
    with decimal.localcontext(DIGITS):
        up, down = Decimal(z).exp(), (-Decimal(z)).exp()
        a, not_a = 1 / (1 + down), 1 / (1 + up)
        loss = Decimal(y) * (1 + down).ln() + (1 - Decimal(y)) * (1 + up).ln()
        residual = (1 - Decimal(y)) * a - Decimal(y) * not_a
        return tuple(map(float, (loss, residual, a * not_a, a)))


def exact_softmax(z, y):
    """Loss `()`, residual `(K,)`, curvature `(K, K)` and probability of finite columns z, y."""
    with decimal.localcontext(DIGITS):
        z, y = [Decimal(float(v)) for v in z], [Decimal(float(v)) for v in y]
        e = [v.exp() for v in z]
        a = [v / sum(e, Decimal()) for v in e]
        not_a = [sum(e[:k] + e[k + 1 :], Decimal()) / sum(e) for k in range(len(e))]
        log_a = [-sum(((w - v).exp() for w in z), Decimal()).ln() for v in z]
        loss = -sum((v * w for v, w in zip(y, log_a, strict=True)), Decimal())
        residual = [(1 - y[k]) * a[k] - y[k] * not_a[k] for k in range(len(z))]
        s = [[a[k] * not_a[k] if k == j else -a[k] * a[j] for j in range(3)] for k in range(3)]
        return float(loss), *(np.array(v, dtype=float) for v in (residual, s, a))


def few_ulp(actual, expected, dtype, ulp=4, scale: Any = 0.0):
    """Compare with a *relative* tolerance of a few ulp (and of what cancels, `scale`)."""
    eps = float(jnp.finfo(dtype).eps)
    assert np.asarray(actual).dtype == dtype
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    tiny = float(jnp.finfo(dtype).tiny)
    with np.errstate(invalid="ignore"):
        error = np.where(actual == expected, 0, np.abs(actual - expected))
    limit = ulp * eps * np.maximum(np.abs(expected), scale) + tiny
    wrong = ~(error <= limit)
    assert not wrong.any(), (actual[wrong], expected[wrong])


@jax.jit
def binary(z, y):
    """All that the binary loss offers, in one program."""
    loss = losses.BINARY
    one = jnp.ones_like(z)
    curvature = loss.curvature_product(z, one), loss.curvature(z)[0, 0]
    return *loss.value_and_residual(z, y), *curvature, loss.probability(z)


@jax.jit
def softmax(z, y, u):
    """All that the softmax loss offers, in one program."""
    loss = losses.SOFTMAX
    curvature = loss.curvature_product(z, u), loss.curvature(z)
    return *loss.value_and_residual(z, y), *curvature, loss.probability(z)


@pytest.mark.parametrize("y", LABELS)
def test_binary_is_right_to_a_few_ulp(y, dtype):
    z = np.array([*LOGITS, math.inf, -math.inf], dtype)
    label = np.full_like(z, y)
    expected = [exact_binary(*pair) for pair in zip(z, label, strict=True)]
    value, residual, curvature, probability = map(np.array, zip(*expected, strict=True))

    actual = binary(z, label)
    few_ulp(actual[0], value, dtype)
    few_ulp(actual[1], residual, dtype, scale=0.0 if y in (0, 1) else y)
    few_ulp(actual[2], curvature, dtype)
    few_ulp(actual[3], curvature, dtype)
    few_ulp(actual[4], probability, dtype)


@pytest.mark.parametrize("y", SHARES, ids=str)
def test_softmax_is_right_to_a_few_ulp(y, dtype):
    z = COLUMNS.T.astype(dtype)
    label = np.broadcast_to(y[:, None], z.shape).astype(dtype)
    expected = [exact_softmax(*pair) for pair in zip(z.T, label.T, strict=True)]
    value, residual, curvature, probability = (
        np.moveaxis(np.array(part), 0, -1) for part in zip(*expected, strict=True)
    )

    for k in range(3):
        unit = np.broadcast_to(np.eye(3, dtype=dtype)[:, k, None], z.shape)
        actual = softmax(z, label, unit)
        few_ulp(actual[2], curvature[:, k], dtype, ulp=8)
    few_ulp(actual[0], value, dtype)
    few_ulp(actual[1], residual, dtype, scale=np.where(label % 1 == 0, 0, label))
    few_ulp(actual[3], curvature, dtype, ulp=6)
    few_ulp(actual[4], probability, dtype)


def test_the_small_residual_of_a_sure_example_is_kept():
    value, residual, *_ = binary(np.array([20, -20], "float32"), np.array([1, 0], "float32"))
    np.testing.assert_allclose(value, [2.0611537e-9] * 2, rtol=1e-6)
    np.testing.assert_allclose(residual, [-2.0611537e-9, 2.0611537e-9], rtol=1e-6)
    label = np.array([[1], [0], [0]], "float32")
    value, residual, *_ = softmax(20 * label, label, label)
    np.testing.assert_allclose(value, [4.122307e-9], rtol=1e-6)
    np.testing.assert_allclose(residual[:, 0], [-4.122307e-9, *[2.0611537e-9] * 2], rtol=1e-6)


def test_softmax_at_infinite_logits(dtype):
    inf, one = math.inf, np.eye(3)
    cases = [  # logits, label, loss, probabilities
        ([inf, 0, 0], one[0], 0, [1, 0, 0]),
        ([inf, 0, 0], one[1], inf, [1, 0, 0]),
        ([-inf, 0, 0], one[0], inf, [0, 0.5, 0.5]),
        ([-inf, 0, 0], one[1], math.log(2), [0, 0.5, 0.5]),
        ([-inf, 0, 0], [0, 0.5, 0.5], math.log(2), [0, 0.5, 0.5]),
        ([-inf, -inf, 7], one[2], 0, [0, 0, 1]),
        ([inf, inf, 0], one[0], math.log(2), [0.5, 0.5, 0]),
        ([inf, -inf, 0], [0.5, 0, 0.5], inf, [1, 0, 0]),
        ([inf, 0, 0], [1 - jnp.finfo(dtype).eps, 0, 0], 0, [1, 0, 0]),  # sums to one, rounded
    ]
    z, y, value, a = (np.array(part, dtype).T for part in map(list, zip(*cases, strict=True)))
    u = np.broadcast_to(np.array([[1.0], [-2.0], [3.0]], dtype), z.shape)
    actual = softmax(z, y, u)
    few_ulp(actual[0], value, dtype)
    few_ulp(actual[1], a - y, dtype)
    few_ulp(actual[2], a * (u - (a * u).sum(axis=0)), dtype)
    few_ulp(actual[3], np.eye(3)[:, :, None] * a - a[:, None] * a[None], dtype)
    few_ulp(actual[4], a, dtype)


def test_nan_never_becomes_a_number():
    nan, inf = math.nan, math.inf
    z, y = np.array([(nan, 1), (nan, 0), (0, nan), (20, nan), (inf, nan)], "float32").T
    value, residual, product, curvature, probability = map(np.isnan, binary(z, y))
    assert (value & residual).all()
    np.testing.assert_array_equal([product, curvature, probability], [np.isnan(z)] * 3)

    # Columns: NaN in each logit in turn, then in each label in turn.
    none, each = np.zeros((3, 3), "float32"), np.diag([nan] * 3).astype("float32")
    z, y = np.hstack([each, none]), np.hstack([none + np.eye(3, 1), each]).astype("float32")
    value, residual, product, curvature, probability = map(np.isnan, softmax(z, y, none[:, :1]))
    assert value.all()
    assert residual[:, :3].all()
    assert np.diag(residual[:, 3:]).all()
    spoilt = np.isnan(z).any(axis=0)
    for each in (product, probability, curvature):
        np.testing.assert_array_equal(each, np.broadcast_to(spoilt, each.shape))


@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_is_finite_and_of_the_right_sign(name, y):
    low = jnp.dtype(name)
    z = np.array([v for v in LOGITS if abs(v) < float(jnp.finfo(low).max)]).astype(low)
    y = np.full_like(z, y)
    value, residual, *_ = np.array([exact_binary(*pair) for pair in zip(z, y, strict=True)]).T
    by_binary = binary(z, y)
    none = np.zeros_like(z)
    columns, labels = np.stack([none, z, np.full_like(z, -np.inf)]), np.stack([1 - y, y, none])
    by_softmax = softmax(columns, labels, labels)
    few_ulp(by_binary[0], value, low)
    few_ulp(by_softmax[0], value, low)
    few_ulp(by_binary[1], residual, low, scale=np.float32(y) % 1)
    few_ulp(by_softmax[1], [-residual, residual, 0 * residual], low, scale=np.float32(y) % 1)
    for actual in (np.asarray(by_binary[1], float), np.asarray(by_softmax[1][1], float)):
        assert np.isfinite(actual).all()
        assert (actual * residual >= 0).all()


# --- Derivatives --------------------------------------------------------------------------------


def plain_binary(z, y):
    return jax.nn.softplus(z) - y * z


def plain_softmax(z, y):
    return jax.nn.logsumexp(z, axis=0) - (y * z).sum(axis=0)


def points(n_classes, dtype, m=7):
    """Logits and soft labels drawn at random; the last logits are zero, all classes alike."""
    rng = np.random.default_rng(n_classes)
    z = rng.normal(size=(n_classes, m)) * 3
    z[:, -1] = 0
    z[:2, -2] = 4
    y = rng.dirichlet(np.ones(n_classes), m).T
    z, y = (z[0], y[0]) if n_classes == 2 else (z, y)
    return jnp.asarray(z, dtype), jnp.asarray(y, dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_of_each_order_are_those_of_the_plain_formula(n_classes, order, dtype):
    plain = plain_binary if n_classes == 2 else plain_softmax
    loss = losses.pointwise_loss(n_classes)
    z, y = points(n_classes, dtype)
    rng = np.random.default_rng(0)
    directions = [jnp.asarray(rng.normal(size=z.shape), dtype) for _ in range(order)]

    def along(fun):
        def derive(fun, u):
            return lambda z: jax.jvp(fun, (z,), (u,))[1]

        return quick(functools.reduce(derive, directions, fun))(z)

    actual = along(lambda z: loss.value_and_residual(z, y))
    expected = along(lambda z: (plain(z, y), jax.grad(lambda z: plain(z, y).sum())(z)))
    assert_close(actual, expected, dtype, factor=1 if order == 1 else 10)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_derivatives_of_the_probability(n_classes, dtype):
    loss = losses.pointwise_loss(n_classes)
    z, _ = points(n_classes, dtype)
    u = jnp.asarray(np.random.default_rng(1).normal(size=z.shape), dtype)
    plain = jax.nn.sigmoid if n_classes == 2 else lambda z: jax.nn.softmax(z, axis=0)

    def both_modes(fun):
        return quick(lambda z: (jax.jvp(fun, (z,), (u,)), jax.vjp(fun, z)[1](u)))(z)

    assert_close(both_modes(loss.probability), both_modes(plain), dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_derivatives_by_logits_and_labels_together(n_classes, dtype):
    plain = plain_binary if n_classes == 2 else plain_softmax
    loss = losses.pointwise_loss(n_classes)
    z, y = points(n_classes, dtype)
    rng = np.random.default_rng(2)
    u, v = (jnp.asarray(rng.normal(size=z.shape), dtype) for _ in range(2))

    def ours(z, y):
        return loss.value_and_residual(z, y)

    def theirs(z, y):
        return plain(z, y), jax.grad(lambda z: plain(z, y).sum())(z)

    def derive(fun):
        out, forward = jax.jvp(fun, (z, y), (u, v))
        by_label = jax.jvp(lambda y: fun(z, y), (y,), (v,))[1]
        return forward, by_label, jax.vjp(fun, z, y)[1](jax.tree.map(jnp.sin, out))

    actual = quick(lambda: derive(ours))()
    assert_close(actual, quick(lambda: derive(theirs))(), dtype)
    assert_close(actual[1], (-(z * v) if n_classes == 2 else -(z * v).sum(axis=0), -v), dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_finite_differences(n_classes, x64):
    loss = losses.pointwise_loss(n_classes)
    z, y = points(n_classes, "float64")
    u, h = jnp.cos(jnp.arange(z.size, dtype=float)).reshape(z.shape), 1e-5
    of = quick(loss.value_and_residual)
    (up, dz_up), (down, dz_down), (_, dz) = (of(z + s * h * u, y) for s in (1, -1, 0))
    slope = dz * u if n_classes == 2 else (dz * u).sum(axis=0)
    np.testing.assert_allclose((up - down) / (2 * h), slope, atol=1e-9)
    product = quick(loss.curvature_product)(z, u)
    np.testing.assert_allclose((dz_up - dz_down) / (2 * h), product, atol=1e-9)


def test_gradient_at_infinite_logits_with_fixed_labels(dtype):
    z = jnp.array([math.inf, math.inf, -math.inf, -math.inf], dtype)
    y = jnp.array([1, 0, 1, 0], dtype)
    columns, labels = jnp.stack([z, y * 0, y * 0]), jnp.stack([y, 1 - y, y * 0])

    def derivatives(loss, z, y):
        grad = jax.grad(lambda z: loss.value_and_residual(z, y)[0].sum())
        return jax.jvp(grad, (z,), (jnp.ones_like(z),))

    actual = quick(lambda *args: derivatives(losses.BINARY, *args))(z, y)
    np.testing.assert_array_equal(actual, [[0, 1, -1, 0], [0, 0, 0, 0]])
    actual = quick(lambda *args: derivatives(losses.SOFTMAX, *args))(columns, labels)
    expected = [[0, 1, -1, 0], [0, -1, 0.5, -0.5], [0, 0, 0.5, 0.5]]
    np.testing.assert_array_equal(actual, [expected, np.zeros((3, 4))])


# --- Properties ---------------------------------------------------------------------------------


def test_softmax_of_two_classes_is_the_binary_loss(dtype):
    z, y = map(np.asarray, points(2, dtype))
    value, residual, curvature, _, a = map(np.asarray, binary(z, y))
    none, one = np.zeros_like(z), np.ones_like(z)
    for extra in ([], [none]):  # two classes; then a third that is impossible
        columns = np.stack([none, z, *(v - np.inf for v in extra)])
        labels, u = np.stack([1 - y, y, *extra]), np.stack([none, one, *extra])
        actual = softmax(columns, labels, u)
        assert_close(actual[0], value, dtype)
        assert_close(actual[1], np.stack([-residual, residual, *extra]), dtype)
        assert_close(actual[2], np.stack([-curvature, curvature, *extra]), dtype)
        assert_close(actual[4], np.stack([1 - a, a, *extra]), dtype)


def test_the_softmax_does_not_see_a_shift(dtype):
    rng = np.random.default_rng(3)
    z = (rng.integers(-20, 20, (4, 9)) / 4).astype(dtype)
    y = np.eye(4, dtype=dtype)[np.arange(9) % 4].T
    u = rng.normal(size=z.shape).astype(dtype)
    expected = softmax(z, y, u)
    for shift in (0.5, -64.0, 1024.0):
        assert_close(softmax(z + np.asarray(shift, dtype), y, u), expected, dtype)
    assert_close(softmax(z, y, u + 1)[2], expected[2], dtype)
    assert_close(softmax(z, y, np.ones_like(z))[2], 0 * z, dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_exponential_an_element(n_classes):
    z, y = points(n_classes, "float32")
    jaxpr = jax.make_jaxpr(losses.pointwise_loss(n_classes).value_and_residual)(z, y)
    found = [e for e in equations(jaxpr.jaxpr) if "exp" in e.primitive.name or "tanh" in str(e)]
    assert [e.primitive.name for e in found] == ["exp"]
    assert found[0].outvars[0].aval.size == z.size


def test_label_probabilities(dtype):
    y = losses.label_probabilities(jnp.array([2, 0, 1, 2], jnp.uint8), 3, dtype)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]])
    soft = np.array([[0.25, 1], [0.5, 0], [0.25, 0]])
    np.testing.assert_array_equal(losses.label_probabilities(soft, 3, dtype), soft)
    binary = losses.label_probabilities(jnp.array([True, False]), 2, dtype)
    assert binary.dtype == dtype
    np.testing.assert_array_equal(binary, [1, 0])
