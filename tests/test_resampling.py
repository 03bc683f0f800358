"""Folds: sizes, classes, and weights without an array of weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from tests.helpers import assert_close, problem


@pytest.mark.parametrize(("n_classes", "folds", "m"), [(2, 3, 20), (3, 5, 31), (4, 300, 700)])
def test_folds_and_classes_are_even(n_classes, folds, m):
    _, batch = problem(2, m, n_classes)
    fold_of = np.asarray(jaxlr.stratified_folds(batch, folds, jax.random.key(0)))
    assert fold_of.dtype == (np.uint8 if folds <= 256 else np.int32)
    sizes = np.bincount(fold_of, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for k in range(n_classes):
        of_class = np.bincount(fold_of[np.asarray(batch.y) == k], minlength=folds)
        assert of_class.max() - of_class.min() <= 1


def test_keys_draw_different_folds_and_jit_the_same():
    _, batch = problem(2, 40)
    draw = [np.asarray(jaxlr.stratified_folds(batch, 4, jax.random.key(i))) for i in (0, 1)]
    assert (draw[0] != draw[1]).any()
    jitted = jax.jit(lambda batch: jaxlr.stratified_folds(batch, 4, jax.random.key(0)))(batch)
    np.testing.assert_array_equal(jitted, draw[0])


def test_soft_labels_count_for_their_most_likely_class():
    for n_classes in (2, 3):
        _, batch = problem(2, 30, n_classes, soft=True)
        y = np.asarray(batch.y)
        label = y.argmax(axis=0) if n_classes > 2 else y > 0.5
        fold_of = np.asarray(jaxlr.stratified_folds(batch, 3, jax.random.key(0)))
        for k in range(n_classes):
            assert np.ptp(np.bincount(fold_of[label == k], minlength=3)) <= 1


@pytest.mark.parametrize("folds", [1, 21])
def test_number_of_folds_out_of_range(folds):
    _, batch = problem(2, 20)
    with pytest.raises(ValueError, match=f"folds is {folds}; it must be between 2 and the 20"):
        jaxlr.stratified_folds(batch, folds, jax.random.key(0))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("held_out", [False, True])
def test_fold_weights_are_the_batch_without_the_others(dtype, weights, held_out):
    params, batch = problem(3, 20, weights=weights, dtype=dtype)
    fold_of = jnp.arange(20) % 3
    lazy = jaxlr.FoldWeights(fold_of, jnp.array(1), batch.weights, held_out)
    kept = np.flatnonzero((np.arange(20) % 3 == 1) == held_out)
    fewer = batch.select(lambda a: a[..., kept])
    lazy_batch = jaxlr.Batch(batch.X, batch.y, lazy)
    assert_close(
        jaxlr.value_and_grad(params, lazy_batch), jaxlr.value_and_grad(params, fewer), dtype
    )


def test_fold_weights_nest(dtype):
    params, batch = problem(3, 20, dtype=dtype)
    inner = jaxlr.FoldWeights(jnp.arange(20) % 4, jnp.array(0))
    outer = jaxlr.FoldWeights(jnp.arange(20) % 3, jnp.array(1), inner)
    kept = np.flatnonzero((np.arange(20) % 4 != 0) & (np.arange(20) % 3 != 1))
    fewer = batch.select(lambda a: a[..., kept])
    assert_close(
        jaxlr.loss(params, jaxlr.Batch(batch.X, batch.y, outer)),
        jaxlr.loss(params, fewer),
        dtype,
    )


def test_counts_of_draws_have_their_distribution():
    m, keys = 200, jax.random.split(jax.random.key(0), 500)
    multinomial = np.asarray(jax.vmap(lambda k: jaxlr.multinomial_counts(k, m))(keys), int)
    poisson = np.asarray(jax.vmap(lambda k: jaxlr.poisson_counts(k, m))(keys), int)
    assert (multinomial.sum(axis=1) == m).all()
    assert np.ptp(poisson.sum(axis=1)) > 20
    for counts in (multinomial, poisson):  # nearly Poisson with mean 1: 1/e, 1/e, 1/2e, 1/6e
        shares = [(counts == k).mean() for k in range(4)]
        np.testing.assert_allclose(shares, np.exp(-1) / np.array([1, 1, 2, 6]), atol=0.005)
    np.testing.assert_allclose(multinomial.mean(axis=0), 1, atol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [jaxlr.multinomial_counts, jaxlr.poisson_counts])
def test_bootstrap_lanes_are_fits_to_repeated_examples(x64, counts):
    _, batch = problem(3, 60, weights=True, offset=True)
    penalty, key = jaxlr.Penalty(0.1), jax.random.key(3)
    lanes = jaxlr.bootstrap(batch, penalty, 4, key, counts=counts)
    for i, k in enumerate(jax.random.split(key, 4)):
        times = np.asarray(counts(k, 60))
        X, y, weights, offset = (
            np.repeat(np.asarray(a), times, axis=-1)
            for a in (batch.X, batch.y, batch.weights, batch.offset)
        )
        alone = jaxlr.fit(jaxlr.Batch(X, y, weights, offset), penalty)
        np.testing.assert_allclose(lanes.params.w[i], alone.params.w, atol=1e-8)
        np.testing.assert_allclose(lanes.loss[i], alone.loss, rtol=1e-12)


def test_bootstrap_refuses_no_resamples():
    _, batch = problem(3, 60)
    with pytest.raises(ValueError, match="num_resamples is 0"):
        jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 0, jax.random.key(0))


def test_repeated_folds_are_the_draws_of_each_key():
    _, batch = problem(2, 31)
    keys = jax.random.split(key := jax.random.key(4), 3)
    roles = np.asarray(jaxlr.repeated_folds(batch, 5, 3, key)).reshape(3, 5, 31)
    for r in range(3):
        fold_of = np.asarray(jaxlr.stratified_folds(batch, 5, keys[r]))
        np.testing.assert_array_equal((roles[r] == 2).argmax(axis=0), fold_of)
        assert (np.sort(roles[r], axis=0) == np.array([[1], [1], [1], [1], [2]])).all()


def test_groups_stay_together_and_folds_are_even():
    rng = np.random.default_rng(0)
    groups = rng.choice(list("abcdefghijklmnop"), 300)
    folds = jaxlr.group_folds(groups, 4, jax.random.key(0))
    for name in set(groups):
        assert len(set(folds[groups == name])) == 1
    sizes = np.bincount(folds)
    assert len(sizes) == 4
    # Largest first, as here: 4/3 of the mean at most (Graham, Bounds on multiprocessing, 1969).
    assert sizes.max() <= 4 / 3 * 75
    assert (folds != jaxlr.group_folds(groups, 4, jax.random.key(1))).any()


def test_groups_out_of_range():
    with pytest.raises(ValueError, match="folds is 3; it must be between 2 and the 2 groups"):
        jaxlr.group_folds([1, 1, 2], 3, jax.random.key(0))
    with pytest.raises(ValueError, match=r"groups has shape \(1, 2\)"):
        jaxlr.group_folds([[1, 2]], 2, jax.random.key(0))


def test_splits_of_indices_and_masks():
    mask = np.array([True, False, False, True])
    found = jaxlr.splits([([0, 1], [2, -1]), (mask, ~mask), ([0, 1, 2], [0, 1])], 4)
    np.testing.assert_array_equal(found, [[1, 1, 2, 2], [1, 2, 2, 1], [3, 3, 1, 0]])


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "There are no splits"),
        ([([0, 1], [])], r"Split 0 has a part of shape \(0,\)"),
        ([([0], [1]), ([0], [4])], "Split 1 names example 4 of 4"),
        ([([-5], [1])], "Split 0 names example -5 of 4"),
        ([([0.5], [1])], "type float64 where indices"),
        ([([True, False], [1])], r"a mask of 4 booleans"),
    ],
)
def test_splits_are_refused_in_words(pairs, words):
    with pytest.raises(ValueError, match=words):
        jaxlr.splits(pairs, 4)


@pytest.mark.parametrize("held_out", [False, True])
def test_split_weights_are_the_batch_of_their_examples(dtype, held_out):
    params, batch = problem(3, 20, weights=True, dtype=dtype)
    rng = np.random.default_rng(0)
    roles = jnp.asarray(rng.integers(0, 4, (3, 20)), jnp.uint8)
    lazy = jaxlr.SplitWeights(roles, jnp.array(2), batch.weights, held_out)
    kept = np.flatnonzero(np.isin(roles[2], [2, 3] if held_out else [1, 3]))
    fewer = batch.select(lambda a: a[..., kept])
    assert_close(
        jaxlr.value_and_grad(params, jaxlr.Batch(batch.X, batch.y, lazy)),
        jaxlr.value_and_grad(params, fewer),
        dtype,
    )


@pytest.mark.slow
def test_permuted_lanes_are_fits_to_permuted_labels(x64):
    _, batch = problem(3, 40, 3, weights=True)
    penalty, key = jaxlr.Penalty(0.1), jax.random.key(0)
    lanes = jaxlr.permute(batch, penalty, 3, key)
    for i, lane_key in enumerate(jax.random.split(key, 3)):
        y = batch.y[jax.random.permutation(lane_key, 40)]
        alone = jaxlr.fit(jaxlr.Batch(batch.X, y, batch.weights, n_classes=3), penalty)
        np.testing.assert_allclose(lanes.params.w[i], alone.params.w, atol=1e-9)
    with pytest.raises(ValueError, match="num_permutations is 0; it must be at least 1"):
        jaxlr.permute(batch, penalty, 0, key)
