"""Derivatives of a fit, against differences of tight fits, pinv, and closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxlr
from jaxlr.audit import Verdict, audit_gradient
from jaxlr.model.solution import Status
from jaxlr.solver import curvature, implicit
from tests.helpers import assert_close, plain_loss, problem, quick

pytestmark = pytest.mark.usefixtures("x64")


def drawn(name):
    """Return a batch and a penalty, all of whose leaves are floating."""
    n, m, K = {
        "binary": (3, 20, 2),
        "softmax": (3, 20, 3),
        "wide": (9, 6, 2),
        "wide softmax": (7, 5, 3),
        "collinear": (4, 20, 2),
    }[name]
    _, batch = problem(n, m, K, weights=True, offset=True, soft=True)
    factors = jnp.linspace(0.5, 2.0, n)
    if name == "collinear":
        X = batch.X.at[3].set(batch.X[0] - 2 * batch.X[1]) * jnp.array([[1e-3], [1], [1], [1e3]])
        batch = dataclasses.replace(batch, X=X)
    return batch, jaxlr.Penalty(jnp.array(0.05), None if "wide" in name else factors)


def fitted(batch, penalty):
    return jaxlr.fit(batch, penalty).params


def difference(fun, u, du, h=1e-3):
    """Return the directional derivative by central differences, once extrapolated."""

    def at(t):
        return fun(*jax.tree.map(lambda a, b: a + t * b, u, du))

    def central(h):
        return jax.tree.map(lambda a, b: (a - b) / (2 * h), at(h), at(-h))

    return jax.tree.map(lambda a, b: (4 * a - b) / 3, central(h), central(2 * h))


def directions(u, rng):
    """Yield the name of each input, and a random change of it alone."""
    batch, penalty = jax.tree.map(jnp.zeros_like, u)
    for name in ("X", "y", "weights", "offset"):
        a = getattr(u[0], name)
        scale = jnp.abs(a).mean(axis=-1, keepdims=True) if name == "X" else 0.1
        change = jnp.asarray(rng.normal(size=a.shape)) * scale
        change = (
            change - change.mean(axis=0, keepdims=True) if name == "y" and a.ndim == 2 else change
        )
        yield name, (dataclasses.replace(batch, **{name: change}), penalty)
    yield "l2", (batch, penalty._replace(l2=u[1].l2))
    if u[1].factors is not None:
        yield (
            "factors",
            (batch, penalty._replace(factors=jnp.asarray(rng.normal(size=u[1].factors.shape)))),
        )


WIDE = [pytest.param(name, marks=pytest.mark.slow) for name in ("wide", "wide softmax")]


@pytest.mark.quick("softmax")
@pytest.mark.parametrize("name", ["binary", "softmax", *WIDE, "collinear"])
def test_every_input_by_differences_of_fits(quick_programs, name):
    u = drawn(name)
    rng = np.random.default_rng(0)
    fit = quick(fitted)
    forward = quick(lambda u, du: jax.jvp(fitted, u, du)[1])
    backward = quick(lambda u, ct: jax.vjp(fitted, *u)[1](ct))
    ct = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), fit(*u))
    cotangents = backward(u, ct)
    for what, du in directions(u, rng):
        if name == "collinear" and what == "X":
            continue  # a change of X takes it out of the plane; see the test of least norm
        actual = forward(u, du)
        expected = difference(fit, u, du)
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            limit = 1e-6 * float(jnp.abs(e).max())
            np.testing.assert_allclose(a, e, rtol=1e-6, atol=limit, err_msg=what)
        pulled = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, cotangents, du)))
        pushed = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, ct, actual)))
        np.testing.assert_allclose(pulled, pushed, rtol=1e-9, err_msg=what)


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_singular_systems_have_the_answer_of_least_norm(quick_programs, n_classes):
    # Two features of which one is penalised, one that repeats another, and a constant one.
    _, batch = problem(2, 25, n_classes, weights=True, soft=True)
    X = jnp.concatenate([batch.X, 3 * batch.X[:1], jnp.full((1, 25), 2.0)])
    batch = dataclasses.replace(batch, X=X)
    penalty = jaxlr.Penalty(jnp.array(0.3), jnp.array([0.0, 1.0, 0.0, 0.0]))
    du = jnp.asarray(np.random.default_rng(3).normal(size=25))

    def of_weights(c):
        return jaxlr.fit(dataclasses.replace(batch, weights=c), penalty)

    def both_ways(c, dc):
        (solution, pullback), dot = jax.vjp(of_weights, c), jax.jvp(of_weights, (c,), (dc,))[1]
        ones = jax.tree.map(lambda a: jnp.ones_like(a) * (a.dtype == c.dtype), solution)
        nothing = np.zeros((), jax.dtypes.float0)
        ones = ones._replace(status=nothing, num_passes=nothing)
        return solution, dot, pullback(ones)[0] @ dc

    solution, dot, pulled = quick(both_ways)(batch.weights, du)
    flat, unravel = ravel_pytree(solution.params)

    def gradient(theta, c):
        weighted = dataclasses.replace(batch, weights=c)
        return jax.grad(lambda theta: plain_loss(unravel(theta), weighted, penalty))(theta)

    H = np.asarray(jax.jacfwd(gradient)(flat, batch.weights))
    mixed = jax.jvp(lambda c: gradient(flat, c), (batch.weights,), (du,))[1]
    expected = -np.linalg.pinv(H, rcond=1e-10, hermitian=True) @ np.asarray(mixed)
    actual = ravel_pytree(dot.params)[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())
    # A vector of ones is not in the range of H.
    np.testing.assert_allclose(pulled, expected.sum() + dot.loss, rtol=1e-7)


@pytest.mark.quick("softmax", "unpenalised")
@pytest.mark.parametrize("case", ["invertible", "unpenalised", "softmax", "wide", "no intercept"])
def test_an_inverse_hvp_says_its_residual_and_the_nullity(quick_programs, case):
    """Against pinv and the rank of autodiff's Hessian of the plain loss."""
    K = 3 if case in ("softmax", "wide") else 2
    params, batch = problem(2, 3 if case == "wide" else 25, K, weights=True, soft=True)
    X = jnp.concatenate([batch.X, 3 * batch.X[:1], jnp.full((1, batch.m_examples), 2.0)])
    batch = dataclasses.replace(batch, X=X, intercept=case != "no intercept")
    params = params._replace(w=jnp.concatenate([params.w, params.w]))
    penalty = jaxlr.Penalty(jnp.array(0.3 if case in ("invertible", "no intercept") else 0.0))
    flat, unravel = ravel_pytree(params)

    def plain(theta):
        params = unravel(theta)
        b = params.b if batch.intercept else jnp.zeros_like(params.b)
        return plain_loss(params._replace(b=b), batch, penalty)

    H = np.asarray(quick(jax.hessian(plain))(flat))
    v = jnp.asarray(np.random.default_rng(2).normal(size=flat.shape))
    x, residual, nullity = jaxlr.inverse_hvp(params, unravel(v), batch, penalty)
    expected = np.linalg.pinv(H, rcond=1e-10, hermitian=True) @ np.asarray(v)
    actual = ravel_pytree(x)[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())
    assert residual < 1e-10
    assert nullity == len(H) - np.linalg.matrix_rank(H, tol=1e-9, hermitian=True)


def test_the_residual_of_a_system_that_is_not_solved(monkeypatch):
    # One product is not enough with the curvature of each class alone.
    monkeypatch.setattr(implicit, "_MOST", 1)
    monkeypatch.setattr(curvature, "_MOST_PARAMETERS", 1)
    params, batch = problem(6, 61, 4, seed=3)
    v = jax.tree.map(lambda a: jnp.cumsum(a, axis=-1), params)
    penalty = jaxlr.Penalty(jnp.array(1e-3))
    x, residual, _ = jaxlr.inverse_hvp(params, v, batch, penalty)
    left = jax.tree.map(lambda a, b: a - b, v, jaxlr.hvp(params, x, batch, penalty))
    assert 0.05 < residual < 1
    assert jnp.linalg.norm(left.w) > 0.05 * jnp.linalg.norm(v.w)


def test_an_inverse_hvp_of_another_shape_is_refused():
    params, batch = problem(3, 20)
    with pytest.raises(ValueError, match=r"v.w has shape \(2,\), params.w has \(3,\)"):
        jaxlr.inverse_hvp(params, params._replace(w=jnp.ones(2)), batch)


@pytest.mark.slow
def test_an_inverse_hvp_has_derivatives(quick_programs):
    params, batch = problem(3, 40, weights=True)
    jaxlr.inverse_hvp(params, params, batch, jaxlr.Penalty(0.1))

    def entry(params, l2):
        return jaxlr.inverse_hvp(params, params, batch, jaxlr.Penalty(l2)).product.w[0]

    def plain(params, l2):
        H = jaxlr.hessian(params, batch, jaxlr.Penalty(l2))
        rows = jnp.concatenate([H.w.w, H.w.b[:, None]], axis=1)
        H = jnp.concatenate([rows, jnp.append(H.b.w, H.b.b)[None]])
        return jnp.linalg.solve(H, jnp.append(params.w, params.b))[0]

    l2 = jnp.array(0.1)
    for mode in (jax.grad, jax.jacfwd):
        actual, expected = (mode(f, argnums=(0, 1))(params, l2) for f in (entry, plain))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), actual, expected)


@pytest.mark.slow
def test_the_intercept_alone_in_closed_form(quick_programs):
    # With w held at 0 by its penalty the fit is b = log ȳ/(1−ȳ).
    y, c = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0]), jnp.array([1.0, 2.0, 0.5, 1.0, 3.0])

    def b(c):
        return jaxlr.fit(jaxlr.Batch(jnp.zeros((1, 5)), y, c), jaxlr.Penalty(1.0)).params.b

    p = (c @ y) / c.sum()
    np.testing.assert_allclose(jax.grad(b)(c), (y - p) / c.sum() / (p * (1 - p)), rtol=1e-12)
    np.testing.assert_allclose(
        jax.jacfwd(jax.grad(b))(c),
        jax.hessian(lambda c: jax.scipy.special.logit((c @ y) / c.sum()))(c),
        rtol=1e-10, atol=1e-12,
    )  # fmt: skip


@pytest.mark.slow
def test_the_loss_by_the_envelope_theorem():
    batch, penalty = drawn("binary")

    def optimum(l2, offset):
        moved = dataclasses.replace(batch, offset=offset)
        return jaxlr.fit(moved, penalty._replace(l2=l2)).loss

    by_l2, by_offset = jax.grad(optimum, (0, 1))(penalty.l2, batch.offset)
    solution = jaxlr.fit(batch, penalty)
    np.testing.assert_allclose(by_l2, (penalty.factors * solution.params.w**2).sum() / 2)
    z = solution.params.w @ batch.X + solution.params.b + batch.offset
    expected = batch.weights * (jax.nn.sigmoid(z) - batch.y) / batch.weights.sum()
    np.testing.assert_allclose(by_offset, expected, rtol=1e-9, atol=1e-12)


def held_out_loss(batch, held_out, factors=None):
    def loss(log_l2):
        solution = jaxlr.fit(batch, jaxlr.Penalty(jnp.exp(log_l2), factors))
        return jaxlr.loss(solution.params, held_out)

    return loss


@pytest.mark.slow
def test_transforms(quick_programs):
    batch, _ = drawn("binary")
    _, held_out = problem(3, 15, seed=5)
    loss = held_out_loss(batch, held_out)
    lanes, h = jnp.linspace(-5.0, 1.0, 4), 1e-4
    slopes = quick(jax.vmap(jax.grad(loss)))
    slope = slopes(lanes)
    np.testing.assert_allclose(slope[2], jax.grad(loss)(lanes[2]), rtol=1e-9)
    np.testing.assert_allclose(slope, quick(jax.vmap(jax.jacfwd(loss)))(lanes), rtol=1e-9)
    second = quick(jax.vmap(jax.hessian(loss)))(lanes)
    expected = (slopes(lanes + h) - slopes(lanes - h)) / (2 * h)
    np.testing.assert_allclose(second, expected, rtol=1e-6)


def test_one_factorisation_for_all_directions():
    batch, penalty = drawn("binary")
    for jacobian in (jax.jacfwd, jax.jacrev):

        def of_weights(c):
            return fitted(dataclasses.replace(batch, weights=c), penalty).w

        text = jax.jit(jacobian(of_weights)).lower(batch.weights).as_text()
        factored = [line for line in text.splitlines() if "cholesky" in line or "potrf" in line]
        assert factored
        assert not any("tensor<20x" in line or "tensor<3x4x4" in line for line in factored)


@pytest.mark.slow
def test_the_audit_agrees(quick_programs):
    batch, penalty = drawn("softmax")

    def fun(X, z, weights, offset, penalty):
        # Labels that sum to one: else there is no optimum.
        y = jax.nn.softmax(z, axis=0)
        moved = dataclasses.replace(batch, X=X, y=y, weights=weights, offset=offset)
        w, b = jaxlr.fit(moved, penalty).params
        return (w**3).sum() + jnp.sin(b).sum()

    at = batch.X, jnp.log(batch.y), batch.weights, batch.offset, penalty
    report = audit_gradient(fun, None, *at, order=1)
    assert report.verdict == Verdict.AGREES, str(report)


def test_a_failed_lane_has_no_derivatives_and_its_neighbours_have():
    _, batch = problem(2, 20)
    ys = jnp.stack([batch.y, batch.y.at[3].set(jnp.nan), (batch.X[0] > 0) + 0.0, 1 - batch.y])

    def w(l2, y):
        solution = jaxlr.fit(jaxlr.Batch(batch.X, y), jaxlr.Penalty(l2))
        return solution.params.w.sum(), solution.status

    slopes, status = jax.vmap(jax.grad(w, has_aux=True))(jnp.array([0.1, 0.1, 0.0, 0.1]), ys)
    assert status.tolist() == [0, Status.NOT_FINITE, Status.NO_FINITE_OPTIMUM, 0]
    assert jnp.isfinite(slopes).tolist() == [True, False, False, True]
    np.testing.assert_allclose(slopes[0], -slopes[3], rtol=1e-9)


@pytest.mark.slow
def test_a_warning_where_a_failed_fit_is_differentiated(quick_programs):
    _, batch = problem(2, 20)
    batch = dataclasses.replace(batch, y=(batch.X[0] > 0) + 0.0)

    def w(l2):
        return jaxlr.fit(batch, jaxlr.Penalty(l2)).params.w.sum()

    def of_lanes(l2):
        return jaxlr.sweep(batch, jaxlr.Penalty(l2)).params.w.sum()

    words = r"The fit failed: there is no finite optimum.*\(status 3\)\. Its derivatives are NaN\."
    with pytest.warns(RuntimeWarning, match=words) as seen:
        assert jnp.isnan(jax.grad(w)(jnp.array(0.0)))
    assert seen[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="1 of 2 lanes failed; the first is lane 1"):
        slopes = jax.grad(of_lanes)(jnp.array([0.1, 0.0]))
    assert jnp.isfinite(slopes).tolist() == [True, False]


@pytest.mark.quick("no intercept")
@pytest.mark.parametrize("case", ["no intercept", "sampled"])
def test_other_batches(case):
    # 40,000 are so many that the fit starts from a sample, whose curvature is not that of all.
    _, batch = problem(3, 20 if case == "no intercept" else 40_000, seed=1)
    batch = dataclasses.replace(batch, intercept=case == "sampled")
    l2 = jnp.array(0.1)

    def fit(l2):
        return fitted(batch, jaxlr.Penalty(l2))

    dot, expected = jax.jacfwd(fit)(l2), difference(fit, (l2,), (l2,))
    np.testing.assert_allclose(dot.w * 0.1, expected.w, rtol=1e-7)
    np.testing.assert_allclose(dot.b * 0.1, expected.b, rtol=1e-7, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_penalty_and_columns_of_wild_scales_of_which_a_sample_misses_one(n_classes):
    """What is returned solves the system, of autodiff of the plain loss, and is of least norm."""
    _, batch = problem(4, 40_000, n_classes, weights=True, soft=True)
    X = np.array(batch.X) * np.array([[1e-5], [1.0], [1e7], [1.0]])
    X[3] = np.where(np.arange(40_000) % 5_000 == 7, X[3], 0)
    X = jnp.asarray(np.vstack([X, 2e5 * X[:1] + 1, np.full((1, 40_000), 7.3)]))
    unseen = [jnp.array([2e5, 0, 0, 0, -1, 0, 1.0]), jnp.array([0, 0, 0, 0, 0, 1, -7.3])]
    batch = dataclasses.replace(batch, X=X, y=0.2 / n_classes + 0.8 * batch.y)
    dc = jnp.asarray(np.random.default_rng(1).normal(size=40_000))

    def solution(c):
        return jaxlr.fit(dataclasses.replace(batch, weights=c))

    def slope(params, c):
        return jax.grad(plain_loss)(params, dataclasses.replace(batch, weights=c))

    found, dot = quick(lambda c: jax.jvp(solution, (c,), (dc,)))(batch.weights)
    assert Status(int(found.status)).ok
    mixed = jax.jvp(lambda c: slope(found.params, c), (batch.weights,), (dc,))[1]
    product = jax.jvp(lambda p: slope(p, batch.weights), (found.params,), (dot.params,))[1]
    for a, b in zip(product, mixed, strict=True):
        np.testing.assert_allclose(a, -b, rtol=1e-9)
    both = jnp.concatenate([dot.params.w, dot.params.b[None]])
    for direction in unseen:
        part = direction @ both / jnp.linalg.norm(direction) / jnp.linalg.norm(both)
        np.testing.assert_allclose(part, 0, atol=1e-7)


def test_what_does_not_move_the_optimum_has_no_derivative():
    params, batch = problem(3, 20)

    def w(init, tol):
        return jaxlr.fit(batch, jaxlr.Penalty(0.1), init=init, tol=tol).params.w.sum()

    by_init, by_tol = jax.grad(w, (0, 1))(params, jnp.array(1e-20))
    assert not by_tol
    assert not by_init.w.any()
    with pytest.raises(TypeError, match="grad requires real- or complex-valued inputs"):
        jax.grad(lambda y: fitted(jaxlr.Batch(batch.X, y), jaxlr.Penalty(0.1)).b)(
            batch.y.astype(int)
        )


@pytest.mark.slow
def test_float32_and_sweeps():
    with jax.enable_x64(False):
        _, batch = problem(3, 20, seed=2)
        penalties = jnp.array([0.3, 0.03])

        def w(l2):
            return jaxlr.sweep(batch, jaxlr.Penalty(l2)).params.w

        jacobian = jax.jacrev(w)(penalties)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), batch)
        for i, l2 in enumerate([0.3, 0.03]):
            slope = jax.jacfwd(lambda l2: fitted(wide, jaxlr.Penalty(l2)).w)(jnp.array(l2))
            assert_close(jacobian[i, :, i], slope, "float32", 100)
    assert not jacobian[0, :, 1].any()
