"""The objective and its derivatives against autodiff of the plain loss, in tiles of eight."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.base.pytrees import LazyWeights
from jaxlr.model import passes
from tests.helpers import (
    assert_close,
    in_float64,
    plain_derivatives,
    plain_loss,
    problem,
    quick,
    tiles_of,
)

SHAPES = {  # n features, m examples, in tiles of eight
    "ragged": (4, 20),
    "one_over": (2, 9),
    "whole_tiles": (3, 16),
    "less_than_a_tile": (3, 5),
    "one_feature": (1, 20),
    "one_example": (3, 1),
}


@pytest.fixture(autouse=True, scope="module")
def tiles_of_eight():
    """Cut small problems into many tiles, the last of them ragged."""
    with tiles_of(8):
        yield


def _derivatives(params, v, batch, penalty):
    """What `plain_derivatives` gives, by jaxlr."""
    return (
        jaxlr.value_and_grad(params, batch, penalty),
        jaxlr.hvp(params, v, batch, penalty),
        jaxlr.hessian(params, batch, penalty),
    )


# Compiled once for each shape: the tiles of this file are always the same.
derivatives = quick(_derivatives)


def penalty_of(n, dtype, factors=False):
    return jaxlr.Penalty(
        jnp.asarray(0.3, dtype), jnp.asarray(np.linspace(0, 2, n), dtype) if factors else None
    )


def check(params, batch, penalty, dtype, factor=1.0):
    v = jax.tree.map(lambda a: jnp.cos(3 * a), params)
    actual = derivatives(params, v, batch, penalty)
    assert_close(actual, plain_derivatives(params, v, batch, penalty), dtype, factor)


# --- Against autodiff ---------------------------------------------------------------------------


@pytest.mark.quick(
    "(True, True, True, True)-3", "(False, False, False, False)-2", "(True, False, False, True)-2"
)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("options", list(itertools.product([False, True], repeat=4)), ids=str)
def test_every_combination_of_options(n_classes, options, x64):
    weights, offset, soft, factors = options
    params, batch = problem(4, 20, n_classes, weights=weights, offset=offset, soft=soft)
    check(params, batch, penalty_of(4, "float64", factors), "float64")


@pytest.mark.quick(
    "ragged-float32-3", "one_over-float64-2", "less_than_a_tile-float64-3", "one_example-float32-2"
)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(shape, "float64") for shape in SHAPES] + [("ragged", "float32"), ("one_feature", "float32")],
    indirect=["dtype"],
)
def test_every_shape(n_classes, shape, dtype):
    n, m = SHAPES[shape]
    params, batch = problem(n, m, n_classes, weights=True, offset=True, soft=True, dtype=dtype)
    check(params, batch, penalty_of(n, dtype, factors=True), dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("shape", list(SHAPES)[1:])
def test_every_shape_without_options(n_classes, shape, x64):
    n, m = SHAPES[shape]
    params, batch = problem(n, m, n_classes)
    check(params, batch, penalty_of(n, "float64"), "float64")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_parts_are_those_of_value_and_grad(n_classes, x64):
    args = *problem(4, 20, n_classes, weights=True), penalty_of(4, "float64")
    value, grad = quick(jaxlr.value_and_grad)(*args)
    assert_close(quick(jaxlr.loss)(*args), value, "float64")
    assert_close(quick(jaxlr.gradient)(*args), grad, "float64")
    assert jax.tree.structure(grad) == jax.tree.structure(args[0])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_finite_differences_and_taylor_remainders(n_classes, x64):
    params, batch = problem(4, 20, n_classes, weights=True, soft=True)
    penalty = penalty_of(4, "float64", factors=True)
    v = jax.tree.map(lambda a: jnp.sin(2 + a), params)
    value, grad = quick(jaxlr.value_and_grad)(params, batch, penalty)
    Hv = quick(jaxlr.hvp)(params, v, batch, penalty)

    def at(h):
        return jaxlr.value_and_grad(jax.tree.map(lambda p, u: p + h * u, params, v), batch, penalty)

    steps = np.array([1e-4, -1e-4, 1e-1, 5e-2, 2.5e-2])
    values, grads = quick(lambda steps: jax.lax.map(at, steps))(steps)
    slope = sum(float((g * u).sum()) for g, u in zip(grad, v, strict=True))
    bend = sum(float((g * u).sum()) for g, u in zip(Hv, v, strict=True))
    np.testing.assert_allclose((values[0] - values[1]) / 2e-4, slope, rtol=1e-7)
    for g, u in zip(grads, Hv, strict=True):
        np.testing.assert_allclose((g[0] - g[1]) / 2e-4, u, atol=1e-7)

    # The remainder without the last term is of second order, with it of third: halving the
    # step divides by 4, by 8.
    h = steps[2:]
    first = values[2:] - value - h * slope
    second = first - h**2 / 2 * bend
    np.testing.assert_allclose(first[:-1] / first[1:], 4, rtol=0.05)
    np.testing.assert_allclose(second[:-1] / second[1:], 8, rtol=0.1)


def _orders(fun):
    grad = jax.grad(fun, argnums=(0, 1, 2))

    def derive(args, u):
        first, forward = jax.jvp(lambda a: grad(*a), (args,), (u,))
        _, pull = jax.vjp(lambda a: grad(*a), args)
        return fun(*args), first, forward, pull(u)[0]

    return quick(derive)


orders, plain_orders = _orders(jaxlr.loss), _orders(plain_loss)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_derivatives_by_everything(n_classes, dtype):
    """First and second order, by X, soft labels, weights, offset, l2 and factors."""
    params, batch = problem(2, 20, n_classes, weights=True, offset=True, soft=True, dtype=dtype)
    args = params, batch, penalty_of(2, dtype, factors=True)
    direction = jax.tree.map(lambda a: 0.1 * jnp.cos(5 * a), args)

    actual = orders(args, direction)
    with jax.enable_x64(True):
        expected = jax.device_get(plain_orders(*in_float64((args, direction))))
    assert_close(actual, expected, dtype, factor=2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_third_derivatives(n_classes, x64):
    """A derivative of hvp and of hessian; at zero, where fits start, all logits are equal."""
    params, batch = problem(2, 20, n_classes)
    v = jax.tree.map(jnp.cos, params)

    def ours(params):
        return jaxlr.hvp(params, v, batch), jaxlr.hessian(params, batch)

    def plain(params):
        grad = jax.grad(plain_loss)
        Hv = jax.jvp(lambda p: grad(p, batch), (params,), (v,))[1]
        return Hv, jax.hessian(plain_loss)(params, batch)

    actual, expected = (quick(lambda p, f=f: jax.jvp(f, (p,), (params,))) for f in (ours, plain))
    for point in (params, jaxlr.init_params(2, n_classes)):
        assert_close(actual(point), expected(point), "float64")


# --- Hard cases ---------------------------------------------------------------------------------


def test_saturated_binary_labels(dtype):
    X = jnp.asarray([[1, -1, 1, -1, 1, 1, 1, 1, 1, -1]], dtype)  # a whole tile, and two
    params = jaxlr.Params(jnp.asarray([1e3], dtype), jnp.zeros((), dtype))
    right = (X[0] > 0).astype(dtype)
    run = quick(lambda y: _derivatives(params, params, jaxlr.Batch(X, y), jaxlr.Penalty()))
    zeros = jax.tree.map(jnp.zeros_like, run(right))
    jax.tree.map(np.testing.assert_array_equal, run(right), zeros)
    (value, grad), *curvature = run(1 - right)
    assert_close((value, grad), (1000, jaxlr.Params(np.ones(1), 4 / 10)), dtype)
    jax.tree.map(np.testing.assert_array_equal, curvature, list(zeros[1:]))


def test_saturated_classes(dtype):
    X = jnp.asarray(np.eye(3)[:, np.arange(10) % 3], dtype)
    params = jaxlr.Params(jnp.asarray(1e3 * np.eye(3), dtype), jnp.zeros(3, dtype))
    right = jnp.arange(10) % 3
    run = quick(
        lambda y: _derivatives(params, params, jaxlr.Batch(X, y, n_classes=3), jaxlr.Penalty())
    )
    zeros = jax.tree.map(jnp.zeros_like, run(right))
    jax.tree.map(np.testing.assert_array_equal, run(right), zeros)
    (value, grad), *curvature = run((right + 1) % 3)
    counts = np.array([4, 3, 3]) / 10
    dw = np.diag(counts) - np.roll(np.diag(counts), 1, axis=1)
    assert_close((value, grad), (1000, jaxlr.Params(dw, dw.sum(axis=0))), dtype)
    jax.tree.map(np.testing.assert_array_equal, curvature, list(zeros[1:]))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_class_without_examples(n_classes, x64):
    params, batch = problem(4, 20, n_classes)
    batch = dataclasses.replace(batch, y=batch.y % (n_classes - 1))
    check(params, batch, penalty_of(4, "float64"), "float64")


@pytest.mark.parametrize("m", [2**8, 2**12, 2**18])
def test_rounding_does_not_grow_with_the_number_of_tiles(m):
    """Up to 32,768 tiles in float32: their plain running sum is off by hundreds of ulp."""
    rng = np.random.default_rng(m)
    X, y = rng.uniform(0, 1, (1, m)).astype("float32"), rng.uniform(0, 1, m).astype("float32")
    ones = jnp.ones(1, "float32")

    # Compiled as users compile: an optimisation must not cancel the compensation.
    def products(tile):
        return passes.weighted(tile.weights, tile.X[0] * tile.y).sum()

    total = jax.jit(lambda *a: passes.sum_over_tiles(products, jaxlr.Batch(*a)))
    limit = 4 * float(np.finfo("float32").eps)
    np.testing.assert_allclose(total(X, y), (X.astype(float) * y).sum(), rtol=limit)

    params = jaxlr.Params(ones, jnp.float32(0))
    batch = jaxlr.Batch(X, y, weights=y)
    value, grad = jax.jit(lambda *a: jaxlr.value_and_grad(*a))(params, batch)
    z, c = X[0].astype(float), y.astype(float)
    dz = c * (1 / (1 + np.exp(-z)) - c) / c.sum()
    np.testing.assert_allclose(value, (c * np.logaddexp(0, z) - c * c * z).sum() / c.sum(), limit)
    np.testing.assert_allclose(grad.w, [(z * dz).sum()], atol=limit)
    np.testing.assert_allclose(grad.b, dz.sum(), atol=limit)


@pytest.mark.parametrize("m", [5, 20], ids=["one_tile", "many_tiles"])
def test_an_infinite_loss_is_not_finite(m):
    offset = jnp.zeros(m).at[3].set(-jnp.inf)
    batch = jaxlr.Batch(jnp.zeros((1, m)), jnp.ones(m), None, offset)
    value, grad = quick(jaxlr.value_and_grad)(jaxlr.init_params(1), batch)
    assert not np.isfinite(value)
    np.testing.assert_allclose(grad.b, -(0.5 * (m - 1) + 1) / m, rtol=1e-6)


# --- Weights that are computed a tile at a time -------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fading:
    """All folds but one, less the older an example is."""

    folds: jax.Array  # (m,) uint8
    held_out: jax.Array
    rate: jax.Array
    age: jax.Array  # (m,)

    def select(self, take):
        return (take(self.folds) != self.held_out) * jnp.exp(-self.rate * take(self.age))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_lazy_weights_are_the_weights_they_compute(n_classes, x64):
    params, bare = problem(4, 20, n_classes)
    rng = np.random.default_rng(1)
    folds = jnp.asarray(rng.integers(0, 3, 20), jnp.uint8)
    age = jnp.asarray(rng.uniform(size=20), "float64")
    penalty, v = penalty_of(4, "float64"), jax.tree.map(jnp.cos, params)

    def lazy(held_out, rate):
        return Fading(folds, held_out, rate, age)

    def dense(held_out, rate):
        return (np.asarray(folds) != held_out) * jnp.exp(-rate * age)

    assert isinstance(lazy(0, 0), LazyWeights)

    def lanes(weights):
        def lane(held_out, rate):
            batch = dataclasses.replace(bare, weights=weights(held_out, rate))
            by_rate = jax.grad(
                lambda r: jaxlr.loss(
                    params, dataclasses.replace(bare, weights=weights(held_out, r)), penalty
                )
            )
            return _derivatives(params, v, batch, penalty), by_rate(rate)

        return quick(jax.vmap(lane))(jnp.arange(3, dtype=jnp.uint8), jnp.full(3, 0.5, "float64"))

    assert_close(lanes(lazy), lanes(dense), "float64")


# --- Dtypes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x_dtype", "n_classes"),
    [("bfloat16", 2), ("float16", 3), ("int8", 3), ("uint8", 2), ("bool", 2)],
)
def test_narrow_features_are_computed_with_in_float32(n_classes, x_dtype):
    params, batch = problem(4, 20, n_classes, dtype="float32", soft=True)
    X = jnp.abs(3 * batch.X).astype(x_dtype)
    narrow, wide = (dataclasses.replace(batch, X=a) for a in (X, X.astype("float32")))
    actual = derivatives(params, params, narrow, penalty_of(4, "float32"))
    assert {a.dtype for a in jax.tree.leaves(actual)} == {jnp.dtype("float32")}
    assert_close(actual, derivatives(params, params, wide, penalty_of(4, "float32")), "float32")


@pytest.mark.parametrize("low", ["float16", "bfloat16"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scale", [1, 100])
def test_half_precision_throughout(n_classes, low, scale):
    """The arithmetic, penalty included, is in float32; the derivatives are rounded at its end."""
    params, batch = problem(40, 20, n_classes, weights=True, soft=True, dtype=low)
    params = jax.tree.map(lambda a: a * scale, params)
    penalty = penalty_of(40, low)
    v = jax.tree.map(jnp.cos, params)
    (value, grad), Hv, _ = derivatives(params, v, batch, penalty)
    (true_value, true_grad), true_Hv, _ = plain_derivatives(params, v, batch, penalty)
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, true_value, rtol=1e-5)
    for actual, expected in zip((*grad, *Hv), (*true_grad, *true_Hv), strict=True):
        assert actual.dtype == low
        eps = float(jnp.finfo(low).eps)
        limits = {"rtol": 2 * eps, "atol": eps * np.abs(expected).max() + 1e-6}
        np.testing.assert_allclose(np.asarray(actual, float), expected, **limits)


def test_large_weights_without_a_penalty_in_half_precision():
    params = jaxlr.Params(jnp.full(2, 300, "float16"), jnp.zeros((), "float16"))
    batch = jaxlr.Batch(jnp.ones((2, 3), "float16"), jnp.ones(3, "float16"))
    assert quick(jaxlr.loss)(params, batch) == 0
    assert quick(jaxlr.value_and_grad)(params, batch)[0] == 0


def test_integers_do_not_truncate_a_gradient():
    params, batch = problem(3, 20)
    whole = jaxlr.Params(np.array([1, 0, -1]), 0)
    expected = quick(jaxlr.gradient)(jaxlr.Params(jnp.array([1.0, 0, -1]), jnp.array(0.0)), batch)
    for params in (whole, whole._replace(w=jnp.asarray([1.0, 0, -1]))):
        actual = quick(jaxlr.gradient)(params, batch)
        np.testing.assert_allclose(actual.w, expected.w, rtol=1e-5)
        np.testing.assert_allclose(actual.b, expected.b, rtol=1e-5)


# --- Shapes -------------------------------------------------------------------------------------


def test_wrong_shapes_are_named():
    params, batch = problem(3, 5)
    many, classes = problem(3, 5, 4)
    zeros = jnp.zeros
    cases = [
        (params, {"X": zeros(5)}, None, r"X has shape \(5,\) where \(n_features, m_examples\)"),
        (params, {"y": zeros(4)}, None, r"y has shape \(4,\) where \(5,\) is due.*5 examples"),
        (params, {"y": zeros(3)}, None, r"y has shape \(3,\).*Batch\.from_rows"),
        (params, {"y": zeros((2, 5))}, None, r"y has shape \(2, 5\) where \(5,\) is due"),
        (params, {"weights": zeros(3)}, None, r"weights has shape \(3,\) where \(5,\) is due"),
        (params, {"offset": zeros((1, 5))}, None, r"offset has shape \(1, 5\) where \(5,\)"),
        (many, {}, None, r"w has shape \(3, 4\) where \(3,\).*n_classes is 2"),
        (params._replace(b=zeros(1)), {}, None, r"b has shape \(1,\) where \(\) is due"),
        (params, {}, jaxlr.Penalty(zeros(2)), r"penalty.l2 has shape \(2,\) where \(\)"),
        (params, {}, jaxlr.Penalty(1.0, zeros(5)), r"penalty.factors has shape \(5,\).*\(3,\)"),
    ]
    checks = [(p, dataclasses.replace(batch, **new), *rest) for p, new, *rest in cases]
    swapped = dataclasses.replace(classes, y=zeros((5, 4)))
    checks.append((many, swapped, None, r"y has shape \(5, 4\) where \(5,\) or \(4, 5\)"))
    short = dataclasses.replace(classes, offset=zeros(5))
    checks.append((many, short, None, r"offset has shape \(5,\) where \(4, 5\) is due"))
    checks.append((params, classes, None, r"w has shape \(3,\) where \(3, 4\) is due"))
    for p, bad, penalty, message in checks:
        penalty = penalty or jaxlr.Penalty()
        for fun in (jaxlr.loss, jaxlr.value_and_grad, jaxlr.gradient, jaxlr.hessian):
            with pytest.raises(ValueError, match=message):
                jax.eval_shape(fun, p, bad, penalty)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(jaxlr.hvp, p, p, bad, penalty)
    with pytest.raises(ValueError, match=r"v.w has shape \(2,\), params.w has \(3,\)"):
        jax.eval_shape(jaxlr.hvp, params, params._replace(w=zeros(2)), batch)
