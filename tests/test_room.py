"""Little data in the room of a program: other data find it compiled, and no number changes."""

import logging
from typing import Any

import jax
import numpy as np
import pytest

from jaxlr import Batch, stratified_folds
from jaxlr.cli import fit, sweep, trained
from jaxlr.cli.data import Data
from jaxlr.model.padding import in_room

pytestmark = pytest.mark.usefixtures("quick_programs")


def data(m, dtype, classes=2, weighted=False):
    rng = np.random.default_rng(m)
    X = rng.normal(size=(m, 3))
    y = np.argmax(X[:, :classes] + rng.gumbel(size=(m, classes)), axis=1)
    weights = rng.integers(1, 4, m) if weighted else None
    batch = Batch.from_rows(X, y, weights=weights, n_classes=classes, dtype=np.dtype(dtype))
    names = [f"x{j}" for j in range(3)], [str(k) for k in range(classes)]
    return Data("some", batch, np.zeros(3), np.ones(3), *names)


def test_what_fills_the_room_has_no_weight(dtype):
    batch = data(300, dtype, 3, weighted=True).batch
    roomy = in_room(batch)
    assert (roomy.X.shape, roomy.y.shape, roomy.weights.shape) == ((3, 512), (512,), (512,))
    assert roomy.X.dtype == roomy.weights.dtype == dtype
    assert roomy.n_classes == 3
    for own, there in ((batch.X, roomy.X), (batch.y, roomy.y), (batch.weights, roomy.weights)):
        np.testing.assert_array_equal(there[..., :300], own)
        assert not there[..., 300:].any()


@pytest.mark.parametrize("shape", [(3, 512), (40, 30), (2, 200_000)])
def test_full_wide_and_large_data_stay_as_they_are(shape):
    batch = Batch(np.ones(shape, np.float32), np.ones(shape[1], np.float32))
    assert in_room(batch) is batch


@pytest.mark.quick("float32-2-False")
@pytest.mark.parametrize(("classes", "weighted"), [(2, False), (3, True)])
def test_the_room_changes_no_number(monkeypatch, dtype, classes, weighted):
    some = data(150, dtype, classes, weighted)

    def found():
        fitted, swept = fit.run(some, None), sweep.run(some, 2, 0.01, 1.0, 2, 5)
        errors = fitted.model.errors
        assert errors is not None
        told = fitted.model.metadata["data"]
        return fitted.l2, errors.w, errors.raw_b, fitted.solution.params, told, swept

    *roomy, told, swept = found()
    for module in (fit, sweep, trained):
        monkeypatch.setattr(module, "in_room", lambda batch: batch)
    *tight, alone, other = found()
    near: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10}
    if dtype == "float32":
        near = {"rtol": 1e-3, "atol": 1e-5}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **near), roomy, tight)
    assert told.keys() == alone.keys()
    for name, value in told.items():
        np.testing.assert_allclose(value, alone[name], **near, err_msg=name)
    assert told["m_examples"] == told.get("roc_auc_examples", 150) == 150
    expected = stratified_folds(some.batch, 2, jax.random.key(5))
    np.testing.assert_array_equal(swept.fold_of, expected)
    np.testing.assert_allclose(swept.result.scores.log_loss, other.result.scores.log_loss, **near)
    np.testing.assert_array_equal(swept.result.scores.accuracy, other.result.scores.accuracy)
    np.testing.assert_allclose(swept.path.params.w, other.path.params.w, **near)
    assert sweep.content(swept)["m_examples"] == 150


def test_another_number_of_examples_finds_the_programs(caplog):
    first, near, larger = (data(m, "float32") for m in (150, 231, 600))
    fit.run(first, 0.1)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        fit.run(near, 0.1)
        assert "Compiling" not in caplog.text
        fit.run(larger, 0.1)
    assert "Compiling" in caplog.text
