"""Fits against an independent Newton solve, scikit-learn, and what is known of the optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.linear_model import LogisticRegression

import jaxlr
from jaxlr.model.solution import Status
from tests.helpers import assert_close, in_float64, plain_loss, problem


def newton(batch, penalty, steps=60):
    """Return the optimum by damped Newton on the plain formula: float64, autodiff, dense."""
    classes = () if batch.n_classes == 2 else (batch.n_classes,)
    params = jaxlr.Params(jnp.zeros((batch.X.shape[0], *classes)), jnp.zeros(classes))
    x, unravel = ravel_pytree(params)

    @jax.jit
    def derivatives(x):
        def value(x):
            return plain_loss(unravel(x), batch, penalty)

        return value(x), jax.grad(value)(x), jax.hessian(value)(x)

    value, g, H = derivatives(x)
    for _ in range(steps):
        step = np.linalg.lstsq(H, g, rcond=1e-12)[0]
        t = 1.0
        while t > 1e-6 and not derivatives(x - t * step)[0] <= value:
            t /= 2
        x = x - t * step
        value, g, H = derivatives(x)
        if np.linalg.norm(g) < 1e-14:
            break
    return value, unravel(x)


CASES = [
    # n, m, n_classes, l2, factors, options
    (4, 30, 2, 0.1, False, {}),
    (3, 50, 2, 0.0, False, {"weights": True, "soft": True}),
    (4, 30, 3, 0.01, False, {"offset": True, "weights": True}),
    (3, 25, 3, 0.1, True, {"soft": True}),
    (30, 12, 2, 1e-3, False, {"offset": True}),
    (14, 11, 4, 1e-2, False, {}),
]


@pytest.mark.quick(
    "14-11-4-0.01-False-options5", "4-30-2-0.1-False-options0", "3-50-2-0.0-False-options1"
)
@pytest.mark.parametrize(("n", "m", "n_classes", "l2", "factors", "options"), CASES)
def test_reaches_the_optimum(x64, n, m, n_classes, l2, factors, options):
    _, batch = problem(n, m, n_classes, seed=3, **options)
    factors = jnp.array([0.0, *np.linspace(0.5, 2.0, n - 1)]) if factors else None
    penalty = jaxlr.Penalty(jnp.array(l2), factors)
    solution = jaxlr.fit(batch, penalty).raise_if_failed()
    value, params = newton(batch, penalty)
    assert solution.gradient_norm <= 1e-8
    np.testing.assert_allclose(solution.loss, value, rtol=1e-13)
    # A shift common to all classes of what is not penalised changes nothing.
    for a, b in zip(solution.params, params, strict=True):
        same = (lambda c: c) if n_classes == 2 else (lambda c: c - c.mean(axis=-1, keepdims=True))
        np.testing.assert_allclose(same(a), same(b), atol=1e-7)


@pytest.mark.slow
def test_bound_is_above_the_excess_and_near_it(x64):
    """At points along the way to the optimum, and at the optimum."""
    for n_classes in (2, 3):
        _, batch = problem(4, 30, n_classes, weights=True, offset=True, soft=n_classes == 3)
        penalty = jaxlr.Penalty(jnp.array(0.05), jnp.array([1.0, 2.0, 0.5, 1.0]))
        optimum, best = newton(batch, penalty)
        far = jax.tree.map(lambda a: a + 0.7, best)
        for t in (0.0, 1e-6, 1e-3, 0.1, 1.0, 30.0):
            params = jax.tree.map(lambda a, b, t=t: (1 - t) * a + t * b, best, far)
            value, grad = jax.value_and_grad(plain_loss)(params, batch, penalty)
            excess = float(value - optimum)
            bound = float(jaxlr.certify(params, batch, penalty, grad.b).suboptimality)
            assert bound >= excess * (1 - 1e-14) - 1e-15
            assert bound <= 300 * max(excess, 0) + 1e-14


@pytest.mark.parametrize("n_classes", [2, 3])
def test_bound_of_the_null_model_by_hand(x64, n_classes):
    # At w = 0 and the best b every p equals ȳ: the gap is ‖∇w‖²/(2·l2), without a mixture.
    _, batch = problem(3, 20, n_classes)
    y = np.eye(n_classes)[np.asarray(batch.y, int)].T
    b = np.log(y.mean(axis=1))
    b = jnp.array(b[1] - b[0]) if n_classes == 2 else jnp.asarray(b)
    params = jaxlr.init_params(3, n_classes)._replace(b=b)
    G = np.asarray(batch.X) @ (y.mean(axis=1)[:, None] - y).T / 20
    G = G[:, 1] if n_classes == 2 else G
    bound = jaxlr.certify(params, batch, jaxlr.Penalty(0.5), jnp.zeros_like(b)).suboptimality
    np.testing.assert_allclose(bound, (G**2).sum(), rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_bound_at_huge_logits(x64_off, n_classes):
    """In float32 the exponential of a logit is infinite, or 0, and p' may be all but q."""
    two = n_classes == 2
    X, y = jnp.array([[200.0, -150.0, 90.0, 3.0]]), [0, 1, 1, 0] if two else [0, 2, 1, 0]
    batch, penalty = jaxlr.Batch(X, jnp.array(y), n_classes=n_classes), jaxlr.Penalty(0.1)
    w = jnp.array([1.0]) if two else jnp.array([[0.0, 1.0, -1.0]])
    with jax.enable_x64(True):
        optimum = float(newton(*in_float64((batch, penalty)))[0])
    for b in (0.0, 400.0, -400.0):  # one class is sure of all examples, or none of them
        params = jaxlr.Params(w, jnp.array(b) if two else jnp.array([0.0, 0.0, b]))
        value, grad = jaxlr.value_and_grad(params, batch, penalty)
        found = jaxlr.certify(params, batch, penalty, grad.b)
        assert value - optimum <= found.suboptimality < 1e7
        assert not found.unbounded


def test_no_bound_without_penalty():
    """But where the gradient is exactly 0, which a fit may reach."""
    _, batch = problem(3, 50, soft=True)
    some = jaxlr.Penalty(0.1, jnp.array([1.0, 0.0, 1.0]))
    for penalty in (jaxlr.Penalty(), some):
        assert jaxlr.fit(batch, penalty, max_passes=4).suboptimality == jnp.inf


def test_polish_ends_at_the_float64_optimum(x64_off):
    _, batch = problem(4, 30, seed=3, weights=True, dtype="float32")
    penalty = jaxlr.Penalty(jnp.float32(0.1))
    fine = jaxlr.polish(jaxlr.fit(batch, penalty), batch, penalty)
    assert not jax.config.read("jax_enable_x64")
    with jax.enable_x64(True):
        value, params = newton(*map(in_float64, (batch, penalty)))
        assert_close(fine.params, params, "float64", 1e3)
        np.testing.assert_allclose(fine.loss, value, rtol=1e-13)
    with pytest.raises(ValueError, match="not inside jit"):
        jax.jit(jaxlr.polish)(fine, batch, penalty)


def test_float32_is_near_the_float64_optimum():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 500))
    y = (rng.uniform(size=500) < 1 / (1 + np.exp(-X[0]))).astype(float)
    solution = jaxlr.fit(jaxlr.Batch(np.float32(X), np.float32(y)), jaxlr.Penalty(1e-3))
    assert solution.params.w.dtype == np.float32
    assert Status(int(solution.status)).ok
    with jax.enable_x64(True):
        batch, penalty = jaxlr.Batch(jnp.asarray(X), jnp.asarray(y)), jaxlr.Penalty(1e-3)
        exact = jax.tree.map(lambda a: jnp.asarray(a, "float64"), solution.params)
        excess = plain_loss(exact, batch, penalty) - newton(batch, penalty)[0]
    assert float(excess) <= min(1e-8, float(solution.suboptimality))


@pytest.mark.parametrize("x64_on", [False, True])
def test_columns_of_wild_scales_constant_and_repeated(x64_on):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(5, 300)) + 1
    y = (X[0] + X[1] - X[2] + rng.normal(size=300) > 1).astype(float)
    scales = np.array([1e-5, 1.0, 1e3, 1e6, 1e2])
    raw = np.vstack([X * scales[:, None], np.full(300, 7.0), X[1]])
    with jax.enable_x64(x64_on):
        batch = jaxlr.Batch(jnp.asarray(raw), jnp.asarray(y))
        solution = jaxlr.fit(batch).raise_if_failed()
    sklearn = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(X.T, y)
    p = np.clip(sklearn.predict_proba(X.T)[:, 1], 1e-300, 1)
    optimum = -(y * np.log(p) + (1 - y) * np.log1p(-p)).mean()
    np.testing.assert_allclose(solution.loss, optimum, rtol=1e-10 if x64_on else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("m", [1_000, 40_000])
def test_a_constant_column_is_nothing_beside_the_intercept(dtype, m):
    """Though its mean is not a number of the dtype, and a plain sum of it is not m times it."""
    _, batch = problem(2, m, weights=True, dtype=dtype)
    for weights in (batch.weights, None):
        alone = jaxlr.Batch(batch.X, batch.y, weights)
        X = jnp.concatenate([batch.X, jnp.full((1, m), 7.3, dtype)])
        solution = jaxlr.fit(jaxlr.Batch(X, batch.y, weights)).raise_if_failed()
        assert_close(solution.loss, jaxlr.fit(alone).loss, dtype)
        assert solution.gradient_norm < 1e-4


def test_statuses():
    _, batch = problem(2, 20)
    separable = jaxlr.Batch(batch.X, (batch.X[0] > 0).astype(float))
    single = jaxlr.Batch(batch.X, jnp.zeros(20))
    no_class = jaxlr.Batch(batch.X, jnp.arange(20) % 2, n_classes=3)
    nan = jaxlr.Batch(batch.X.at[1, 7].set(jnp.nan), batch.y)
    l2 = jaxlr.Penalty(0.1)
    one_sided = jaxlr.Penalty(0.1, jnp.array([1.0, -1.0]))
    indebted = jaxlr.Batch(batch.X, batch.y, jnp.ones(20).at[3].set(-1.0))
    expected = [
        (batch, l2, 500, Status.CONVERGED),
        (separable, jaxlr.Penalty(), 500, Status.NO_FINITE_OPTIMUM),
        (separable, l2, 500, Status.CONVERGED),
        (single, l2, 500, Status.NO_FINITE_OPTIMUM),
        (no_class, l2, 500, Status.NO_FINITE_OPTIMUM),
        (nan, l2, 500, Status.NOT_FINITE),
        (batch, l2, 2, Status.OUT_OF_PASSES),
        (jaxlr.Batch(batch.X, batch.y, jnp.zeros(20)), l2, 500, Status.NOT_FINITE),
        (batch, jaxlr.Penalty(jnp.nan), 500, Status.NOT_FINITE),
        (batch, one_sided, 500, Status.NO_FINITE_OPTIMUM),
        (indebted, l2, 500, Status.NO_FINITE_OPTIMUM),
    ]
    for case, penalty, max_passes, status in expected:
        solution = jaxlr.fit(case, penalty, max_passes=max_passes)
        assert int(solution.status) == status, status.message
        if not status.ok:
            with pytest.raises(jaxlr.FitError, match=status.message):
                solution.raise_if_failed()


@pytest.mark.slow
def test_bad_lanes_do_not_change_their_neighbours():
    _, batch = problem(3, 40)
    ys = jnp.stack([batch.y, batch.y.at[3].set(jnp.nan), 1 - batch.y, (batch.X[0] > 0) + 0.0])
    l2 = jnp.array([0.1, 0.1, 0.01, 0.0])

    def lane(y, l2):
        return jaxlr.fit(jaxlr.Batch(batch.X, y), jaxlr.Penalty(l2))

    lanes = jax.jit(jax.vmap(lane))(ys, l2)
    good = jax.jit(jax.vmap(lane))(ys[::2], l2[::2])
    assert lanes.status.tolist() == [0, Status.NOT_FINITE, 0, Status.NO_FINITE_OPTIMUM]
    assert_close(jax.tree.map(lambda a: a[::2], lanes.params), good.params, "float32")
    with pytest.raises(jaxlr.FitError, match="2 of 4 lanes failed; the first is lane 1"):
        lanes.raise_if_failed()
    assert_close(lane(ys[0], l2[0]).params, jax.tree.map(lambda a: a[0], lanes.params), "float32")


def test_start_and_curvature_do_not_move_the_optimum(x64):
    params, batch = problem(4, 30, 3)
    penalty = jaxlr.Penalty(0.1)
    expected = jaxlr.fit(batch, penalty)
    for init in (params, jax.tree.map(lambda a: 50 * a, params)):
        curvature = jaxlr.make_curvature(init, batch)
        solution = jaxlr.fit(batch, penalty, init=init, curvature=curvature)
        np.testing.assert_allclose(solution.params.w, expected.params.w, atol=1e-8)


@pytest.mark.quick("3")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_from_where_all_examples_are_saturated_it_finds_the_optimum(n_classes, x64_off):
    """Where the intercept has no curvature in float32, which says nothing of its gradient."""
    params, batch = problem(4, 60, n_classes)
    batch = jax.tree.map(lambda a: a.astype("float32"), batch)
    penalty = jaxlr.Penalty(1e-2)
    optimum = jaxlr.fit(batch, penalty).params.w
    for scale in (1e3, 1e5):
        init = jaxlr.Params((scale * params.w).astype("float32"), jnp.zeros_like(params.b))
        solution = jaxlr.fit(batch, penalty, init=init).raise_if_failed()
        np.testing.assert_allclose(solution.params.w, optimum, atol=1e-3)


@pytest.mark.slow
def test_warm_start_at_the_optimum_takes_a_pass(x64):
    _, batch = problem(4, 30)
    penalty = jaxlr.Penalty(0.1)
    optimum = jaxlr.fit(batch, penalty)
    again = jaxlr.fit(batch, penalty, init=optimum.params)
    assert int(again.num_passes) <= 2


def test_one_compilation_for_new_values():
    from jaxlr.solver.fit import _fit

    _, batch = problem(3, 33)
    jaxlr.fit(batch, jaxlr.Penalty(0.1))
    before = _fit._cache_size()  # pyright: ignore
    for seed in (1, 2):
        _, batch = problem(3, 33, seed=seed)
        jaxlr.fit(batch, jaxlr.Penalty(0.1 + seed))
    assert _fit._cache_size() == before  # pyright: ignore


@pytest.mark.slow
def test_invariances_of_the_optimum(x64):
    _, batch = problem(3, 20, weights=True)
    penalty = jaxlr.Penalty(0.1)
    expected = jaxlr.fit(batch, penalty).params
    counts = np.arange(20) % 3
    repeated = batch.select(lambda a: jnp.repeat(a, counts, axis=-1))
    counted = jaxlr.Batch(batch.X, batch.y, batch.weights * counts)
    assert_close(
        jaxlr.fit(repeated, penalty).params, jaxlr.fit(counted, penalty).params, "float64", 1e4
    )
    flipped = jaxlr.fit(jaxlr.Batch(batch.X, 1 - batch.y, batch.weights), penalty).params
    assert_close(flipped, jax.tree.map(jnp.negative, expected), "float64", 1e4)


def test_shapes_are_checked_before_the_work():
    _, batch = problem(3, 20)
    with pytest.raises(ValueError, match=r"penalty\.l2 has shape \(2,\)"):
        jaxlr.fit(batch, jaxlr.Penalty(jnp.ones(2)))
    with pytest.raises(TypeError, match="params is a Solution where a Params is due"):
        jaxlr.fit(batch, init=jaxlr.fit(batch))  # pyright: ignore
    with pytest.raises(TypeError, match="penalty is a float where a Penalty is due"):
        jaxlr.fit(batch, 0.1)  # pyright: ignore
    with pytest.raises(TypeError, match="batch is a tuple where a Batch is due"):
        jaxlr.fit((batch.X, batch.y))  # pyright: ignore
    with pytest.raises(ValueError, match=r"w has shape \(4,\) where \(3,\) is due"):
        jaxlr.fit(batch, init=jaxlr.init_params(4))
