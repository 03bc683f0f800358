"""More features than examples: the fit is that of the features as they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr import Params
from jaxlr.solver.curvature import make_curvature
from jaxlr.solver.wide import _basis, _first_equal, _mixing, back, into, narrow
from tests.helpers import plain_loss, problem


@pytest.mark.quick("2")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_fit_is_at_the_optimum_of_all_features(x64, n_classes):
    _, batch = problem(60, 12, n_classes, weights=True, offset=True)
    solution = jaxlr.fit(batch, jaxlr.Penalty(0.05)).raise_if_failed()
    assert solution.params.w.shape[0] == 60
    value, grad = jax.value_and_grad(plain_loss)(solution.params, batch, jaxlr.Penalty(0.05))
    np.testing.assert_allclose(solution.loss, value, rtol=1e-13)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(grad)) < 1e-9
    assert 0 <= solution.suboptimality < 1e-15


def test_factors_are_kept(x64):
    _, batch = problem(30, 12)
    factors = jnp.linspace(0.5, 2, 30)
    solution = jaxlr.fit(batch, jaxlr.Penalty(0.05, factors)).raise_if_failed()
    grad = jax.grad(plain_loss)(solution.params, batch, jaxlr.Penalty(0.05, factors))
    assert np.abs(grad.w).max() < 1e-9


@pytest.mark.slow
def test_lanes_are_fits(x64):
    _, batch = problem(30, 12, 3)
    l2 = jnp.array([1.0, 0.1])
    swept = jaxlr.sweep(batch, jaxlr.Penalty(l2))
    folds = jnp.arange(12) % 3
    crossed = jaxlr.cross_validate(batch, jaxlr.Penalty(l2), folds=folds)
    lanes = jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 3, jax.random.key(0))
    for i in range(2):
        alone = jaxlr.fit(batch, jaxlr.Penalty(l2[i]))
        np.testing.assert_allclose(swept.params.w[i], alone.params.w, atol=1e-8)
        for f in range(3):
            out = jaxlr.Batch(batch.X[:, folds != f], batch.y[folds != f], n_classes=3)
            alone = jaxlr.fit(out, jaxlr.Penalty(l2[i]))
            np.testing.assert_allclose(crossed.solutions.params.w[i, f], alone.params.w, atol=1e-8)
    counts = jaxlr.multinomial_counts(jax.random.split(jax.random.key(0), 3)[2], 12)
    again = jaxlr.Batch(batch.X, batch.y, counts.astype(float), n_classes=3)
    alone = jaxlr.fit(again, jaxlr.Penalty(0.1))
    np.testing.assert_allclose(lanes.params.w[2], alone.params.w, atol=1e-8)


@pytest.mark.slow
def test_a_start_is_projected_and_back(x64):
    params, batch = problem(30, 12)
    small, Q = narrow(batch, jaxlr.Penalty())
    np.testing.assert_allclose(
        jaxlr.logits(into(Q, params), small.X), jaxlr.logits(params, batch.X), atol=1e-12
    )
    v = into(Q, params)
    np.testing.assert_allclose(into(Q, back(Q, v)).w, v.w, atol=1e-12)
    near = jaxlr.fit(batch, jaxlr.Penalty(0.1))
    again = jaxlr.fit(batch, jaxlr.Penalty(0.1), init=near.params)
    assert again.num_passes < near.num_passes
    np.testing.assert_allclose(again.params.w, near.params.w, atol=1e-8)


def columns(case, dtype, n=40, m=9):
    """Return X, and its Q from numpy in float64 with signs that make R's diagonal positive."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, m))
    if case == "nearly collinear":
        X = np.linalg.qr(X)[0] * np.logspace(0, -5, m) @ np.linalg.qr(rng.normal(size=(m, m)))[0]
    elif case == "alike":
        X += 20 * rng.normal(size=(n, 1))
    elif case == "twice the same":
        X[:, 5] = X[:, 2]
    elif case == "centred":
        X -= X.mean(axis=1, keepdims=True)
    elif case == "an example of zeros":
        X[:, 4] = 0
    elif case == "scales":
        X *= 10.0 ** np.linspace(-9, 9, m)
    elif case == "all the same":
        X = np.repeat(X[:, :1], m, axis=1)
    elif case == "zeros":
        X[:] = 0
    elif case == "far from zero":
        X += 1e4
    elif case == "squares overflow":
        X *= np.finfo(dtype).max ** 0.75
    X = X.astype(dtype)
    Q, R = np.linalg.qr(X.astype(np.float64))
    return jnp.asarray(X), Q * np.where(np.diag(R) < 0, -1, 1)


ODD = [
    "nearly collinear",
    "far from zero",
    "twice the same",
    "centred",
    "an example of zeros",
    "squares overflow",
]


def q_and_r(X):
    """Return Q, multiplied out, and R."""
    Q, R = _basis(X)
    return Q.left @ Q.right, R


@pytest.mark.parametrize("case", ["friendly", "scales", "alike", *ODD])
def test_q_is_orthonormal_and_qr_is_x(dtype, case):
    X, Q = columns(case, dtype)
    mine = jax.jit(q_and_r)(X)
    assert [a.dtype for a in mine] == [X.dtype] * 2
    # Only where the examples are far from collinear is Q not formed.
    assert (jax.jit(_basis)(X)[0].left == X).all() == (case in ("friendly", "scales"))
    rounding = 20 * np.finfo(dtype).eps
    largest = np.abs(np.asarray(X)).max(axis=0)
    product = np.asarray(mine[0], np.float64) @ np.asarray(mine[1], np.float64)
    assert (np.abs(product - np.asarray(X)) <= rounding * np.maximum(largest, 1e-30)).all()
    few = case in ("twice the same", "centred", "an example of zeros")
    square = np.asarray(mine[0].T @ mine[0])
    assert (np.diag(square) > 0.5).sum() == (8 if few else 9)
    np.testing.assert_allclose(square, np.diag(np.diag(square) > 0.5), atol=rounding)
    if case in ("friendly", "scales", "alike"):
        np.testing.assert_allclose(mine[0], Q, atol=rounding)
        # That of reflections has other signs: Cholesky factors have made this one.
        assert (np.diag(mine[1]) > 0).all()
        assert (np.diag(np.linalg.qr(X)[1]) < 0).any()


@pytest.mark.quick("float32-7-7", "float64-2-3", "float64-1-1")
@pytest.mark.parametrize(("k", "m"), [(1, 1), (2, 3), (7, 7), (1500, 1501)])
def test_features_are_mixed_by_a_full_orthogonal_matrix(k, m, dtype):
    mix = np.asarray(_mixing(jnp.array(k), m, jnp.dtype(dtype)), np.float64)
    i = np.arange(k) + 0.5
    wanted = np.sqrt(2 / k) * np.cos(np.pi / k * np.outer(i, i))
    np.testing.assert_allclose(mix[:k, :k], wanted, atol=4 * np.finfo(dtype).eps * k**0.5)
    np.testing.assert_allclose(mix @ mix, np.diag(np.arange(m) < k), atol=20 * np.finfo(dtype).eps)
    assert np.abs(mix[:k, :k]).min() > 0.9 / k**1.5


@pytest.mark.quick("alike", "scales", "nearly collinear")
@pytest.mark.parametrize("case", ["friendly", "scales", "alike", "nearly collinear"])
def test_derivatives_of_q_and_r(x64, case):
    """Those of any Q and R that stay a factorisation: Q orthonormal, their product X."""
    X, _ = columns(case, "float64")
    rng = np.random.default_rng(4)
    dX, ddX = rng.normal(size=(2, *X.shape)) * np.abs(np.asarray(X)).max(axis=0)

    def product(X):
        Q, R = q_and_r(X)
        return Q @ R

    def square(X):
        Q, _ = q_and_r(X)
        return Q.T @ Q

    def along(fun, *directions):
        for v in directions:
            fun = functools.partial(lambda f, v, X: jax.jvp(f, (X,), (jnp.asarray(v),))[1], fun, v)
        return fun(X)

    near = 1e-4 if case == "nearly collinear" else 1e-9
    unit = np.abs(dX).max(axis=0)
    np.testing.assert_allclose(np.asarray(along(product, dX)) / unit, dX / unit, atol=near)
    np.testing.assert_allclose(along(square, dX), 0, atol=near)
    if case != "nearly collinear":
        np.testing.assert_allclose(np.asarray(along(product, dX, ddX)) / unit, 0, atol=near)
        np.testing.assert_allclose(along(square, dX, ddX), 0, atol=near)


@pytest.mark.slow
@pytest.mark.parametrize("case", ODD[:-1])
def test_lanes_of_X_are_fits(x64, case):
    """Under vmap both ways run for all, and the one that fails must not spoil the other."""
    y = jnp.arange(9) % 2
    easy, hard = columns("friendly", "float64")[0], columns(case, "float64")[0]

    def fitted(X):
        return jaxlr.fit(jaxlr.Batch(X, y), jaxlr.Penalty(0.1)).params.w

    def slope(X):
        return jax.grad(lambda X: (fitted(X) ** 2).sum())(X)

    both = jnp.stack([easy, hard])
    for f in (fitted, slope):
        alone = np.stack([f(easy), f(hard)])
        np.testing.assert_allclose(jax.vmap(f)(both), alone, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_sweep_of_wide_data_has_derivatives_by_X(x64):
    X, _ = columns("friendly", "float64")
    y = jnp.arange(9) % 2

    def total(X):
        return jaxlr.sweep(jaxlr.Batch(X, y), jaxlr.Penalty(jnp.array([1.0, 0.1]))).loss.sum()

    def plain(X):  # the optimum moves too, but there the derivative by it is zero
        lanes = jaxlr.sweep(jaxlr.Batch(X, y), jaxlr.Penalty(jnp.array([1.0, 0.1])))
        w = jax.lax.stop_gradient(lanes.params)
        losses = [
            plain_loss(jax.tree.map(lambda a, i=i: a[i], w), jaxlr.Batch(X, y), jaxlr.Penalty(l2))
            for i, l2 in enumerate((1.0, 0.1))
        ]
        return sum(losses)

    np.testing.assert_allclose(jax.grad(total)(X), jax.grad(plain)(X), atol=1e-9)


@pytest.mark.quick("float64-10-100-40-5", "float32-0-301-300-20")
@pytest.mark.parametrize(("n", "m", "rank"), [(100, 40, 5), (301, 300, 20)])
@pytest.mark.parametrize("mean", [0, 10])
def test_features_are_as_many_as_the_rank(dtype, n, m, rank, mean):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, m)) + mean
    Q, R = q_and_r(jnp.asarray(X.astype(dtype)))
    for seen in (np.abs(Q).max(axis=0), np.abs(R).max(axis=1)):
        assert (seen > 0).sum() == rank + (mean > 0)


@pytest.mark.parametrize("values", ["binary", "rare", "normal"])
def test_each_example_has_the_column_of_the_first_that_is_equal(dtype, values):
    """Features of few values have few bits: what tells columns apart must not rest on those."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(300, 120))
    if values != "normal":
        limit = 0 if values == "binary" else 2.3
        X = limit < X
    X = np.concatenate([X, -X.astype(dtype), X], axis=1).astype(dtype)  # with 0 and -0
    equal = (X[:, :, None] == X[:, None]).all(axis=0)
    np.testing.assert_array_equal(_first_equal(jnp.asarray(X)), equal.argmax(axis=1))


def shifted(offset, m=50, n=200):
    """Return a batch in float32 with features about an offset, its X in float64, and labels."""
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(n, m)) + offset).astype(np.float32)
    y = (rng.random(m) < 0.5).astype(np.float32)
    return jaxlr.Batch(jnp.asarray(X), jnp.asarray(y)), X.astype(np.float64), y.astype(np.float64)


def exact_loss(params, X, y, l2):
    w, b = (np.asarray(a, np.float64) for a in params)
    Z = w @ X + b
    return np.mean(np.logaddexp(0, Z) - y * Z) + l2 / 2 * (w @ w)


@pytest.mark.quick("float32-fit")
@pytest.mark.parametrize("function", ["fit", pytest.param("sweep", marks=pytest.mark.slow)])
def test_repeated_examples_without_penalty_have_the_optimum_of_their_mean_labels(dtype, function):
    rng = np.random.default_rng(0)
    X, y = np.tile(rng.normal(size=(40, 6)), 2).astype(dtype), rng.random(12).astype(dtype)
    batch = jaxlr.Batch(jnp.asarray(X), jnp.asarray(y))
    if function == "fit":
        solution = jaxlr.fit(batch).raise_if_failed()
    else:
        lanes = jaxlr.sweep(batch, jaxlr.Penalty(jnp.array([0.0, 1.0])))
        solution = jax.tree.map(lambda a: a[0], lanes).raise_if_failed()
    mean = (y[:6] + y[6:]).astype(np.float64) / 2
    optimum = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).mean()
    assert jnp.linalg.norm(solution.params.w) < 100
    excess = exact_loss(solution.params, X.astype(np.float64), y.astype(np.float64), 0) - optimum
    assert abs(excess) < 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(solution.loss, optimum, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.slow
def test_repeated_examples_with_weights_have_the_optimum_of_their_mean_labels(dtype):
    """Of features more than examples that count, none may be their rounding alone."""
    fit = jax.jit(lambda batch: jaxlr.fit(batch))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, c = np.tile(rng.normal(size=(30, 6)), 2), np.append(1, rng.integers(0, 2, 11))
        y = rng.integers(1, 1000, 12) / 1024
        data, labels, weights = (jnp.asarray(a.astype(dtype)) for a in (X, y, c))
        solution = fit(jaxlr.Batch(data, labels, weights))
        total = np.maximum(c[:6] + c[6:], 1)
        mean = np.clip((c * y)[:6] + (c * y)[6:], 1e-300, None) / total
        entropy = -(mean * np.log(mean) + (1 - mean) * np.log1p(-mean))
        optimum = ((c[:6] + c[6:]) * entropy).sum() / c.sum()
        assert solution.status <= jaxlr.Status.PRECISION_REACHED
        assert abs(solution.loss - optimum) < 20 * np.finfo(dtype).eps
        assert np.linalg.norm(solution.params.w) < 1000


@pytest.mark.slow
def test_examples_of_low_rank_without_penalty_have_the_optimum_of_their_few_features(dtype):
    """Rounding makes a dozen features of three; taken for features they lead far away."""
    fit = jax.jit(lambda batch: jaxlr.fit(batch))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        A, B = rng.normal(size=(30, 3)), rng.normal(size=(3, 12))
        rng.integers(0, 2, 12)
        y = rng.integers(1, 1000, 12) / 1024
        solution = fit(jaxlr.Batch(jnp.asarray((A @ B).astype(dtype)), jnp.asarray(y, dtype)))
        v = np.zeros(4)  # Newton's method with the three features
        F = np.vstack([B, np.ones(12)])
        for _ in range(20):
            p = 1 / (1 + np.exp(-v @ F))
            v -= np.linalg.solve((F * p * (1 - p)) @ F.T, F @ (p - y))
        found = exact_loss(solution.params, (A @ B).astype(dtype).astype(np.float64), y, 0)
        excess = found - exact_loss((v[:3], v[3]), B, y, 0)
        assert excess < (1e-9 if dtype == "float64" else 1e-7)
        assert solution.num_passes < 30
        logits = np.linalg.norm(solution.params.w) * np.linalg.norm(A @ B, axis=0).max()
        assert abs(solution.loss - found) < 2 * np.finfo(dtype).eps * (1 + logits)


@pytest.mark.slow
def test_a_large_mean_costs_few_digits():
    batch, X, y = shifted(3e4, 400, 420)
    rough = jaxlr.fit(batch, jaxlr.Penalty(1.0))
    optimum = exact_loss(jaxlr.polish(rough, batch, jaxlr.Penalty(1.0)).params, X, y, 1.0)
    excess = exact_loss(rough.params, X, y, 1.0) - optimum
    assert excess < 2e-5
    assert excess <= rough.estimate


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, 5, 1e3, 1e4])
def test_the_bound_is_that_of_x_and_polish_ends_at_the_float64_optimum(offset):
    batch, X, y = shifted(offset)
    penalty = jaxlr.Penalty(1.0)
    rough = jaxlr.fit(batch, penalty)
    swept = jaxlr.sweep(batch, jaxlr.Penalty(jnp.array([1.0, 2.0])))
    fine = jaxlr.polish(rough, batch, penalty).raise_if_failed()
    assert {a.dtype for a in fine.params} == {np.dtype("float64")}
    # The gradient in w is flat along the mean of the features: judged about it, where it is not.
    w, Z = np.asarray(fine.params.w), np.asarray(fine.params.w) @ X + float(fine.params.b)
    residual = 1 / (1 + np.exp(-Z)) - y
    assert abs(residual.mean()) < 1e-9
    G = (X - X.mean(axis=1, keepdims=True)) @ residual / len(y) + w
    assert np.abs(G).max() < 1e-9
    optimum = exact_loss(fine.params, X, y, 1.0)
    for params, bound in (
        (rough.params, rough.suboptimality),
        (jax.tree.map(lambda a: a[0], swept.params), swept.suboptimality[0]),
    ):
        excess = exact_loss(params, X, y, 1.0) - optimum
        assert -1e-15 < excess <= bound


@pytest.mark.slow
def test_a_given_curvature_leaves_the_derivative_as_it_is(x64):
    _, batch = problem(30, 12)
    H = make_curvature(Params(jnp.zeros(30), jnp.array(0.0)), batch)

    def total(l2, **options):
        return jaxlr.fit(batch, jaxlr.Penalty(l2), **options).params.w.sum()

    wanted = (total(0.1 + 1e-5) - total(0.1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(lambda l2: total(l2, curvature=H))(0.1), wanted, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["twice the same", "an example of zeros", "centred", "all the same", "zeros"]
)
def test_a_sweep_of_collinear_examples_has_the_derivatives_of_fits(x64, case):
    X, _ = columns(case, "float64")
    y, v = jnp.arange(9) % 2, jnp.asarray(np.random.default_rng(5).normal(size=40))
    dX = np.random.default_rng(6).normal(size=X.shape)

    def along(X):
        lanes = jaxlr.sweep(jaxlr.Batch(X, y), jaxlr.Penalty(jnp.array([0.1, 1.0])))
        return (lanes.params.w @ v).sum()

    wanted = (along(X + 1e-5 * dX) - along(X - 1e-5 * dX)) / 2e-5
    np.testing.assert_allclose((jax.grad(along)(X) * dX).sum(), wanted, rtol=1e-5)

    def left_out(X):
        batch, penalty = jaxlr.Batch(X, y), jaxlr.Penalty(0.1)
        return jaxlr.leave_one_out(jaxlr.fit(batch, penalty).params, batch, penalty).logits.sum()

    wanted = (left_out(X + 1e-5 * dX) - left_out(X - 1e-5 * dX)) / 2e-5  # 0 where all are the same
    got = (jax.grad(left_out)(X) * dX).sum()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-12)
