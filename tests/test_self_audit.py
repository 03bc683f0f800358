"""jaxlr's own derivatives under the audit kit; and errors planted in them, found and named."""

import jax
import jax.numpy as jnp
import pytest

import jaxlr
from jaxlr.audit import Verdict, audit_gradient
from jaxlr.model import objective
from jaxlr.self_audit import FUNCTIONS, Case, arguments, audit_case, cases

pytestmark = pytest.mark.usefixtures("quick_programs")

GRID = cases()


@pytest.mark.parametrize("case", GRID, ids=[case.name for case in GRID])
@pytest.mark.slow
def test_every_derivative_agrees(case):
    for function in FUNCTIONS:
        report = audit_case(function, case)
        assert report.verdict == Verdict.AGREES, str(report)


def test_the_grid_has_every_part_both_losses_and_ragged_tiles():
    assert {case.n_classes for case in GRID} == {2, 3}
    for K in (2, 3):
        of_K = [case for case in GRID if case.n_classes == K]
        for part in ("weights", "offset", "soft labels", "factors"):
            assert any(case.parts == {part} for case in of_K)
        assert any(case.n == 1 for case in of_K)
        assert any(case.m == 1 for case in of_K)
        assert any(case.m > 30_000 for case in of_K)
        assert any(case.data for case in of_K)


@pytest.fixture
def plant(monkeypatch):
    """Return a way to put an error into a function of the objective."""

    def put(name, wrong):
        right = getattr(objective, name)
        monkeypatch.setattr(objective, name, lambda *args: wrong(right, *args))
        jax.clear_caches()

    yield put
    monkeypatch.undo()
    jax.clear_caches()


def _of_gradient(change):
    """Change the sums `(Σ cᵢℓᵢ, (dw, db), Σ cᵢ)` of a tile; the loss and its tile are kept."""

    def wrong(right, params, tile, *rest):
        value, grad, total = right(params, tile, *rest)
        return value, change(grad, params, tile, total), total

    return wrong


def _unweighted(grad, params, tile, total):
    plain = jaxlr.Batch(tile.X, tile.y, None, tile.offset, tile.n_classes)
    Z = jaxlr.logits(params, tile.X, tile.offset)
    dZ = jax.nn.sigmoid(Z) - plain.y
    return jaxlr.Params(tile.X @ dZ, dZ.sum())


ERRORS = {
    "the sign of dw": (
        "_gradient_sums",
        _of_gradient(lambda g, *_: jaxlr.Params(-g.w, g.b)),
        Case("", 3, 7, 2),
        0.0,
        "params.w: the sign is flipped",
    ),
    "the division by m": (
        "_gradient_sums",
        _of_gradient(lambda g, p, t, total: jaxlr.Params(g.w * total, g.b * total)),
        Case("", 3, 7, 2),
        0.0,
        "a factor of 7",
    ),
    "a factor of db": (
        "_gradient_sums",
        _of_gradient(lambda g, *_: jaxlr.Params(g.w, g.b / 2)),
        Case("", 3, 7, 2),
        0.3,
        "params.b: it is 0.5 times the right one: a factor of 2 is missing",
    ),
    "the weights": (
        "_gradient_sums",
        _of_gradient(_unweighted),
        Case("", 3, 7, 2, frozenset({"weights"})),
        0.3,
        "it does not feel batch.weights, and should",
    ),
}


@pytest.mark.quick("the sign of dw")
@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_is_found_and_named(plant, error):
    name, wrong, case, l2, words = ERRORS[error]
    plant(name, wrong)

    params, batch, penalty = arguments(case)
    penalty = penalty._replace(l2=jnp.float32(l2))
    report = audit_gradient(jaxlr.loss, jaxlr.gradient, params, batch, penalty)
    assert report.verdict == Verdict.DISAGREES
    assert any(words in hint for hint in report.hints), report.hints


def test_a_missing_penalty_is_found_and_named(plant):
    def without(right, params, batch, penalty):
        value, grad = right(params, batch, penalty)
        return value, jaxlr.Params(grad.w - penalty.l2 * params.w, grad.b)

    plant("value_and_grad", without)
    report = audit_gradient(jaxlr.loss, jaxlr.gradient, *arguments(Case("", 3, 7, 2)))
    assert report.verdict == Verdict.DISAGREES
    assert "params.w: the term penalty.l2·params.w is missing" in report.hints


def test_a_factor_of_the_hvp_is_found_and_named(plant):
    def double(right, params, v, tile, dtype):
        Hv, total = right(params, v, tile, dtype)
        return jax.tree.map(lambda a: 2 * a, Hv), total

    plant("_curvature_sums", double)
    case = Case("", 3, 7, 2)

    params, batch, penalty = arguments(case)
    penalty = penalty._replace(l2=jnp.float32(0))
    report = audit_gradient(
        jaxlr.gradient, lambda p, b, q, u: jaxlr.hvp(p, u, b, q), params, batch, penalty
    )
    assert report.verdict == Verdict.DISAGREES
    assert any("a factor of 2 too many" in hint for hint in report.hints), report.hints
    # And as JAX derives it from the loss, to the second order.
    assert audit_case("loss", case).verdict == Verdict.DISAGREES
