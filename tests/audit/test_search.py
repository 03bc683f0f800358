"""One wrong entry among many is found, within a bounded number of evaluations."""

import jax
import jax.numpy as jnp
import pytest

from jaxlr.audit import Verdict, audit_gradient, lines

key = jax.random.key(0)


@pytest.fixture
def evaluations(monkeypatch):
    """Return a list with the number of evaluations in it."""
    count, right = [0], lines.in_chunks

    def counted(run, rows):
        count[0] += rows[-1].size if len(rows) == 2 else len(rows[0])
        return right(run, rows)

    monkeypatch.setattr(lines, "in_chunks", counted)
    return count


def test_one_entry_off_by_two_thousandths_among_five_thousand():
    w = jax.random.normal(key, (5000,))
    report = audit_gradient(
        lambda w: jnp.log1p(w**2).sum(), lambda w: (2 * w / (1 + w**2)).at[3210].mul(1.002), w
    )
    assert report.verdict == Verdict.DISAGREES
    assert any("[3210]" in hint for hint in report.hints), report.hints
    assert report.rows[0].relative == pytest.approx(2e-3, rel=1e-2)


def test_a_forgotten_entry_among_twenty_thousand():
    w = jax.random.normal(key, (20_000,)).at[11].set(0.03)
    report = audit_gradient(lambda w: (w**2).sum(), lambda w: (2 * w).at[11].set(0.0), w)
    assert report.verdict == Verdict.DISAGREES
    assert "only the entry [11] is wrong; there it is zero" in report.hints[0]


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [False, True])
def test_one_hundred_thousand_parameters(wrong, evaluations):
    keys = jax.random.split(key, 3)
    W, V = jax.random.normal(keys[0], (300, 300)) / 17, jax.random.normal(keys[1], (300, 40)) / 17
    inputs = jax.random.normal(keys[2], (8, 300))

    def fun(p):
        return (jnp.tanh(inputs @ p["W"]) @ p["V"] ** 2).sum()

    def grad(p):
        hidden = jnp.tanh(inputs @ p["W"])
        back = (1 - hidden**2) * (p["V"] ** 2).sum(axis=1)[None]
        dW, dV = inputs.T @ back, 2 * p["V"] * hidden.sum(axis=0)[:, None]
        return {"W": dW.at[250, 7].multiply(1.01) if wrong else dW, "V": dV}

    report = audit_gradient(fun, grad, {"W": W, "V": V})
    assert report.ok != wrong
    assert any("directions were compared" in note for note in report.notes)
    if wrong:
        assert any("[250,7]" in hint for hint in report.hints), report.hints
    # A search is three rounds of 55 directions with 13 points; a ladder is 13 points too.
    assert evaluations[0] < (9_000 if wrong else 2_500)
