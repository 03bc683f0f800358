"""Penalties by gradient, against refits, differences of refits, and a fine grid."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxlr
from jaxlr.model.solution import FitError
from tests.helpers import plain_loss, problem, quick

pytestmark = pytest.mark.usefixtures("x64", "quick_programs")

FOLDS = np.arange(30) % 3
ADAM = optax.adam(0.1)  # a line search takes longer to compile


def drawn(n=3, m=30, n_classes=2, seed=0):
    """Return a batch whose labels depend on the first feature, and little on the others."""
    _, batch = problem(n, m, n_classes, seed=seed, weights=True, offset=True)
    rng = np.random.default_rng(seed)
    z = np.asarray(batch.X[0]) + rng.logistic(size=m) / 2
    y = np.digitize(z, [0.0] if n_classes == 2 else [-0.6, 0.6])
    return jaxlr.Batch(batch.X, jnp.asarray(y), batch.weights, batch.offset, n_classes)


def refitted(batch):
    """Return the mean held-out loss of a penalty, from a fit to the examples of each part."""
    outside, inside = (
        jnp.stack([np.flatnonzero((k == FOLDS) == held) for k in range(3)])
        for held in (False, True)
    )

    def value(penalty):
        def of_fold(places):
            seen, scored = (batch.select(lambda a, i=i: a[..., i]) for i in places)
            return plain_loss(jaxlr.fit(seen, penalty).params, scored)

        return jax.lax.map(of_fold, (outside, inside)).mean()

    return quick(value)


def slope(value, log_l2, h=1e-3):
    def central(h):
        return (value(log_l2 + h) - value(log_l2 - h)) / (2 * h)

    return (4 * central(h) - central(2 * h)) / 3


def test_value_and_gradient_by_refits_outside_folds():
    batch, groups = drawn(4, 30, 3), jnp.array([0, 1, 1, 0])
    factors = jnp.array([1.0, 2.0, 0.5, 1.0])
    start = jaxlr.Penalty(0.3, factors)
    tuned = jaxlr.tune(batch, start, folds=FOLDS, groups=groups, optimizer=ADAM, num_steps=1)
    refits = refitted(batch)

    def value(log_l2):
        return refits(jaxlr.Penalty(jnp.array(1.0), factors * jnp.exp(log_l2)[groups]))

    here = jnp.log(jnp.array([0.3, 0.3]))
    np.testing.assert_allclose(tuned.value, value(here), rtol=1e-9)
    expected = [slope(lambda t, e=e: value(here + t * e), 0.0) for e in jnp.eye(2)]
    np.testing.assert_allclose(tuned.gradient, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(tuned.penalty.l2 * tuned.penalty.factors, 0.3 * factors)
    assert tuned.status == jaxlr.TuneStatus.OUT_OF_STEPS
    with pytest.raises(FitError, match="The search failed: num_steps points were tried"):
        tuned.raise_if_failed()


@pytest.mark.slow
def test_wide_data_on_a_validation_batch():
    batch, validation = drawn(40, 20), drawn(40, 25, seed=1)
    tuned = jaxlr.tune(
        batch, jaxlr.Penalty(0.3), validation=validation, optimizer=ADAM, num_steps=1
    )

    @quick
    def value(log_l2):
        return plain_loss(jaxlr.fit(batch, jaxlr.Penalty(jnp.exp(log_l2))).params, validation)

    np.testing.assert_allclose(tuned.value, value(jnp.log(0.3)), rtol=1e-9)
    np.testing.assert_allclose(tuned.gradient, slope(value, jnp.log(0.3)), rtol=1e-6)


@pytest.mark.slow
def test_one_penalty_is_the_best_of_a_fine_grid_from_each_start():
    batch, grid = drawn(), jnp.logspace(-3, 1, 41)

    def tune(l2):
        return jaxlr.tune(batch, jaxlr.Penalty(l2), folds=FOLDS, gtol=1e-8)

    # At 1e-7 the loss is flat: the slope by log l2 is below the tolerance.
    lanes = jax.vmap(tune)(jnp.array([1e-7, 3.0])).raise_if_failed()
    on_grid = jaxlr.cross_validate(batch, jaxlr.Penalty(grid), folds=FOLDS)
    losses = np.asarray(on_grid.scores.log_loss.mean(axis=1))
    best = losses.argmin()
    assert 0 < best < 40
    assert (lanes.value < losses[best]).all()
    assert (lanes.value > losses[best] - 1e-4).all()
    assert (grid[best - 1] < lanes.penalty.l2).all()
    assert (lanes.penalty.l2 < grid[best + 1]).all()
    np.testing.assert_allclose(lanes.penalty.l2[0], lanes.penalty.l2[1], rtol=1e-4)
    assert (jnp.abs(lanes.gradient) <= 1e-8).all()
    assert lanes.status.tolist() == [jaxlr.TuneStatus.CONVERGED] * 2
    for i in range(2):
        history, steps = np.asarray(lanes.history[i]), int(lanes.num_steps[i])
        assert history.shape == (50,)
        assert np.isfinite(history[:steps]).all()
        assert np.isnan(history[steps:]).all()
        np.testing.assert_allclose(history[steps - 1], lanes.value[i])
        whole = jaxlr.fit(batch, jaxlr.Penalty(lanes.penalty.l2[i]))
        np.testing.assert_allclose(lanes.solution.params.w[i], whole.params.w, atol=1e-9)


@pytest.mark.slow
def test_features_that_do_not_help_are_penalised_away():
    batch, validation = drawn(5, 80), drawn(5, 400, seed=2)
    groups = jnp.arange(5)
    start = jaxlr.Penalty(0.05)
    tuned = jaxlr.tune(
        batch, start, validation=validation, groups=groups, num_steps=100, bounds=(1e-4, 1e3)
    ).raise_if_failed()
    l2 = np.asarray(tuned.penalty.l2 * tuned.penalty.factors)
    assert (l2[1:] > 5 * l2[0]).all()
    assert (np.asarray(l2[1:]) > 100 * l2[0]).any()
    assert tuned.value < tuned.history[0]
    at_bound = (l2 < 1.001e-4) | (l2 > 999)
    assert tuned.status == (
        jaxlr.TuneStatus.AT_BOUND if at_bound.any() else jaxlr.TuneStatus.CONVERGED
    )
    assert (jnp.abs(tuned.gradient)[~at_bound] <= 1e-6).all()


@pytest.mark.slow
def test_another_optimizer_and_honest_ends():
    # Labels that have nothing to do with the features ask for an infinite penalty.
    rng, batch = np.random.default_rng(5), drawn()
    noise = jaxlr.Batch(batch.X, jnp.asarray(rng.integers(0, 2, 30)))

    def tune(batch, penalty, **options):
        return jaxlr.tune(batch, penalty, folds=FOLDS, optimizer=ADAM, num_steps=3, **options)

    tuned = tune(noise, jaxlr.Penalty(0.1))
    # Adam's first step is its learning rate, whatever the gradient.
    second = refitted(noise)(jaxlr.Penalty(jnp.array(0.1 * np.exp(0.1))))
    np.testing.assert_allclose(tuned.history[1], second, rtol=1e-7)
    assert (tuned.status, tuned.num_steps) == (jaxlr.TuneStatus.OUT_OF_STEPS, 3)
    np.testing.assert_allclose(tuned.penalty.l2, 0.1 * np.exp(0.2), rtol=0.01)
    assert tuned.value == tuned.history[2] == tuned.history.min()

    tuned = tune(noise, jaxlr.Penalty(0.1), bounds=(1e-3, 0.105)).raise_if_failed()
    assert (tuned.status, tuned.num_steps) == (jaxlr.TuneStatus.AT_BOUND, 2)
    np.testing.assert_allclose(tuned.penalty.l2, 0.105)
    assert tuned.gradient < -1e-5

    broken = tune(jaxlr.Batch(noise.X.at[0, 4].set(jnp.nan), noise.y), jaxlr.Penalty(0.1))
    assert (broken.status, broken.num_steps) == (jaxlr.TuneStatus.FAILED, 1)
    assert broken.value == jnp.inf
    with pytest.raises(FitError, match="a fit failed, or the held-out loss"):
        broken.raise_if_failed()


def test_complaints():
    batch = drawn()
    penalty, both = jaxlr.Penalty(0.1), {"validation": batch, "folds": FOLDS}
    refused = [
        ({}, "Give either validation=, a batch to score on, or folds="),
        (both, "Give either validation="),
        ({"folds": 5}, "Folds are drawn at random: give key="),
        ({"validation": drawn(4)}, r"differ in .*: \(4, 2, True\) and \(3, 2, True\)"),
        ({"folds": "loo"}, "folds is 'loo': tune scores fits to all examples but a fold's"),
        ({"folds": FOLDS, "groups": np.zeros(4, int)}, r"groups has shape \(4,\) and dtype int64"),
        ({"folds": FOLDS, "groups": np.ones(3)}, r"dtype float64 where \(3,\) integers are due"),
        ({"folds": FOLDS, "groups": [0, 2, 2]}, "groups are numbered 0 to 2 and 2 of them"),
        ({"folds": FOLDS, "num_steps": 0}, "num_steps is 0; it must be at least 1"),
        ({"folds": FOLDS, "bounds": 1.0}, "bounds are 1.0: two numbers are due"),
        ({"folds": FOLDS, "bounds": (0, 1)}, r"bounds are \(0, 1\): two numbers are due"),
    ]
    for options, words in refused:
        with pytest.raises(ValueError, match=words):
            jaxlr.tune(batch, penalty, **options)
    with pytest.raises(ValueError, match=r"penalty\.l2 is -1\.0: a search for l2 starts from"):
        jaxlr.tune(batch, jaxlr.Penalty(-1.0), folds=FOLDS)
    with pytest.raises(TypeError, match="optimizer is a str where a GradientTransformation is"):
        jaxlr.tune(batch, penalty, folds=FOLDS, optimizer="adam")  # pyright: ignore
    with pytest.raises(TypeError, match="validation is a tuple where a Batch is due"):
        jaxlr.tune(batch, penalty, validation=(1, 2))  # pyright: ignore
    with pytest.raises(TypeError, match=r"num_steps must be a Python integer, not 2\.5"):
        jaxlr.tune(batch, penalty, folds=FOLDS, num_steps=2.5)  # pyright: ignore
    with pytest.raises(ValueError, match=r"penalty\.l2 has shape \(2,\) where \(\) is due"):
        jaxlr.tune(batch, jaxlr.Penalty(jnp.ones(2)), folds=FOLDS)
