"""JAX's strict settings: nothing promoted, no NaN, no tracer left, no transfer unasked for."""

import contextlib
import dataclasses
import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxlr
from jaxlr import metrics
from tests.helpers import problem

pytestmark = pytest.mark.usefixtures("quick_programs")

SETTINGS = {
    "promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "rank": lambda: jax.numpy_rank_promotion("raise"),
    "nans": lambda: jax.debug_nans(True),
    "leaks": jax.checking_leaks,
    "transfers": lambda: jax.transfer_guard("disallow"),
}
PENALTY = jaxlr.Penalty(0.1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Twice:
    """Lazy weights."""

    counts: Any

    def select(self, take):
        return 2.0 * take(self.counts)


def made(case):
    """Return what is made before a setting is strict: arrays on the device."""
    shape = {"wide": (24, 12)}.get(case, (3, 20))
    params, batch = problem(*shape, 3 if case == "softmax" else 2, weights=True, offset=True)
    m = batch.m_examples
    penalty = jaxlr.Penalty(jnp.array(0.1), jnp.arange(1.0, shape[0] + 1))
    penalties = jaxlr.Penalty(jnp.array([0.1, 1.0]))
    many = jaxlr.Penalty(jnp.geomspace(1e-2, 1, 33))
    return (
        params,
        batch,
        penalty,
        penalties,
        many,
        jnp.arange(m) % 3,
        jax.random.key(0),
        jnp.ones(m),
    )


def leave_out(params, batch, penalty):
    params = jaxlr.fit(batch, penalty).params
    return (
        jaxlr.leave_one_out(params, batch, penalty),
        jaxlr.leave_one_out_params(params, batch, penalty),
        jaxlr.influence(lambda p: p.w.sum(), params, batch, penalty),
    )


CALLS = {
    "fit": lambda p, b, l2, ls, many, folds, key, ones: (
        jaxlr.fit(b, PENALTY, init=p, tol=1e-6, max_passes=50),
        jaxlr.fit(b, l2),
        jaxlr.fit(dataclasses.replace(b, weights=Twice(ones))),
    ),
    "gradient of a fit": lambda p, b, l2, ls, many, folds, key, ones: jax.jit(
        jax.grad(lambda w: jaxlr.fit(dataclasses.replace(b, weights=w), l2).params.w.sum())
    )(ones),
    "sweep": lambda p, b, l2, ls, many, folds, key, ones: (
        jaxlr.sweep(b, ls, progress=True),
        jaxlr.sweep(b, many),
    ),
    "cross_validate": lambda p, b, l2, ls, many, folds, key, ones: (
        jaxlr.cross_validate(b, many, folds=3, key=key),
        jaxlr.cross_validate(b, ls, folds="loo"),
        jaxlr.cross_validate(b, ls, folds=jaxlr.repeated_folds(b, 2, 2, key)),
    ),
    "refits": lambda p, b, l2, ls, many, folds, key, ones: (
        jaxlr.bootstrap(b, l2, 3, key),
        jaxlr.permute(b, PENALTY, 3, key),
    ),
    "tune": lambda p, b, l2, ls, many, folds, key, ones: jaxlr.tune(
        b, PENALTY, folds=folds, num_steps=2
    ),
    "leave one out": lambda p, b, l2, ls, many, folds, key, ones: leave_out(p, b, l2),
    "polish": lambda p, b, l2, ls, many, folds, key, ones: jaxlr.polish(
        jaxlr.fit(b, PENALTY), b, PENALTY
    ),
    "descent": lambda p, b, l2, ls, many, folds, key, ones: (
        jaxlr.gradient_descent(p, b, optax.sgd(0.1), 2, PENALTY),
        jaxlr.minibatch_descent(p, b, optax.adam(0.1), 2, 5, key, PENALTY),
    ),
    "objective": lambda p, b, l2, ls, many, folds, key, ones: (
        jaxlr.loss(p, b, l2),
        jaxlr.value_and_grad(p, b, l2),
        jaxlr.hvp(p, p, b, l2),
        jaxlr.hessian(p, b, l2),
        jaxlr.certify(p, b, l2, p.b),
        jaxlr.make_curvature(p, b),
        jaxlr.inverse_hvp(p, p, b, l2),
        jaxlr.score(p, b),
    ),
    "metrics": lambda p, b, l2, ls, many, folds, key, ones: [
        jax.jit(f)(jaxlr.predict_proba(p, b.X, b.offset), b.y, b.weights)
        for f in (metrics.log_loss, metrics.accuracy, metrics.roc_auc, metrics.calibration_error)
    ],
    "from_rows": lambda p, b, l2, ls, many, folds, key, ones: jaxlr.Batch.from_rows(
        np.arange(12.0).reshape(6, 2), [0, 1, 0, 1, 1, 0], weights=np.ones(6), offset=np.ones(6)
    ),
    "folds": lambda p, b, l2, ls, many, folds, key, ones: (
        jaxlr.stratified_folds(b, 3, key),
        jaxlr.group_folds(np.arange(6), 2, key),
        jaxlr.poisson_counts(key, 5),
    ),
}


ALL = SETTINGS.keys() - {"leaks"}
PARTS = [name for name in CALLS if name != "tune"]  # which is made of the others, and takes long


def call(name, case, settings):
    args = made(case)
    with contextlib.ExitStack() as stack:
        for setting in settings:
            stack.enter_context(SETTINGS[setting]())
        CALLS[name](*args)


@pytest.mark.quick(
    "fit", "gradient of a fit", "leave one out", "descent", "metrics", "folds", "from_rows"
)
@pytest.mark.parametrize("name", CALLS)
def test_all_strict_settings_at_once(name):
    call(name, "binary", ALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_all_strict_settings_at_once_of_wide_data(name):
    call(name, "wide", ALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_all_strict_settings_at_once_of_classes_in_float64(name, x64):
    call(name, "softmax", ALL)


# The others are made of these; under this setting JAX is a hundred times as slow, the more so the
# more objects its search for what refers to a tracer has to visit.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "sweep", "cross_validate", "gradient of a fit"])
def test_no_tracer_is_left(name):
    gc.collect()
    gc.freeze()
    call(name, "binary", ["leaks"])
    gc.unfreeze()
