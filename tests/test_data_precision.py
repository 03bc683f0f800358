"""What a narrower dtype would hide, and features out of its scale, are refused at the door."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxlr

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(60, 2))
Y = (Z[:, 0] + RNG.normal(size=60) > 0).astype(int)
K = np.digitize(Z[:, 0] + RNG.normal(size=60), [-0.5, 0.5])
TIME = 1.7e9 + np.arange(60.0)
X = np.stack([Z[:, 0], TIME], axis=1)

pytestmark = pytest.mark.usefixtures("x64_off")


def rows(X, y=Y, **options):
    return jaxlr.Batch.from_rows(X, y, **options)


def columns(X, y=Y, **options):
    return jaxlr.Batch.from_columns(np.asarray(X).T, y, **options)


# --- What rounding hides ------------------------------------------------------------------------


@pytest.mark.parametrize("y", [Y, K])
@pytest.mark.parametrize("given_as", [np.asarray, np.asfortranarray, np.ndarray.tolist, np.int64])
def test_a_feature_that_float32_does_not_tell_apart_is_refused(given_as, y):
    # float32 has steps of 128 there: all 60 become one, and their standard deviation is rounding.
    sd = np.sqrt((60**2 - 1) / 12)
    words = rf"float32 rounds such values by {sd:.2g}, but their standard deviation is {sd:.2g}\. "
    words += r"Subtract the mean in float64 first, as in X - X\.mean\({}\), or turn x64 on with "
    where = r"X\[{}\] is 1700000000[.0]* \(example 0, feature 1\): "
    given_X = given_as(X * [1e6, 1])
    with pytest.raises(ValueError, match=where.format("0, 1") + words.format("0")):
        rows(given_X, y)
    with pytest.raises(ValueError, match=where.format("1, 0") + words.format("1, keepdims=True")):
        columns(given_X, y)


@pytest.mark.parametrize("make", [rows, columns])
def test_the_remedies_work(make):
    np.testing.assert_array_equal(make(X - X.mean(0)).X[1], np.arange(60) - 29.5)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(make(X).X, X.T)
        with pytest.raises(ValueError, match=r"float32 rounds .*, or ask for a wider dtype"):
            make(X, dtype="float32")


def test_features_are_called_by_their_names_and_counted():
    frame = pd.DataFrame({"age": Z[:, 0], "time": TIME, "later": TIME + 9, "one": 1.7e9})
    with pytest.raises(ValueError, match=r"feature 1 'time'\).* is 17, and 1 other feature is hid"):
        rows(frame)
    frame["time"] = np.arange(60)
    frame["even later"] = frame["end"] = frame["later"]
    with pytest.raises(ValueError, match=r"feature 2 'later'\).*, and 2 other features are hidden"):
        rows(frame.convert_dtypes())


@pytest.mark.parametrize("m", [60, 5000])  # fewer and more than are looked at together
@pytest.mark.parametrize(
    ("dtype", "passes", "fails"),
    [("float32", 2e4, 1e5), ("bfloat16", 10, 40), ("float16", 10, 40)],
)
def test_only_means_far_beyond_the_spread_hide(dtype, passes, fails, m):
    """In standard deviations: 2^-10 of one is the rounding of float32 at 4e4, or 2^-5 at 20."""
    far = np.random.default_rng(1).normal(size=(m, 20))
    y = np.arange(m) % 2
    for scale in (1e-3, 1.0, 100.0):
        for mean in (0, passes, -passes):
            batch = rows((far + mean) * scale, y, dtype=dtype)
            np.testing.assert_array_equal(batch.X, ((far + mean) * scale).T.astype(batch.X.dtype))
        for mean in (fails, -fails):
            with pytest.raises(ValueError, match=f"{dtype} rounds such values by"):
                rows((far + mean) * scale, y, dtype=dtype)


def test_values_that_are_exact_or_constant_or_far_apart_pass():
    one = np.eye(60)[:, 0]
    exact = [one, 1.7e9 + 256 * np.arange(60), np.zeros(60), np.full(60, 0.1), np.full(60, 1.7e9)]
    wild = [1e12 * one, TIME * np.sign(Z[:, 0]), np.exp(10 * Z[:, 0]), -1e-9 * np.arange(60)]
    given_X = np.stack(exact + wild, axis=1)
    np.testing.assert_array_equal(rows(given_X).X, given_X.T.astype(np.float32))
    integers = np.stack([np.full(60, 2**59), np.arange(60), 2**59 * (-1) ** np.arange(60)], axis=1)
    np.testing.assert_array_equal(rows(integers).X, integers.T.astype(np.float32))
    np.testing.assert_array_equal(rows(integers[:, :2].astype(np.uint64)).X[1], np.arange(60))


def test_what_is_in_the_dtype_already_is_not_looked_at():
    narrow = X.astype(np.float32)
    np.testing.assert_array_equal(rows(narrow).X, narrow.T)
    np.testing.assert_array_equal(rows(jnp.asarray(narrow)).X, narrow.T)


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_integers_that_float64_does_not_tell_apart_are_refused(kind):
    ids = (10**18 + np.arange(60)).astype(kind)
    fix = r"Subtract the least of them first, as in X - X\.min\(0\)\."
    with jax.enable_x64(True):
        for given_X in (ids[:, None], pd.DataFrame({"id": ids, "z": Z[:, 0]})):
            with pytest.raises(ValueError, match=f"float64 rounds such values by 17.*{fix}"):
                rows(given_X)
        np.testing.assert_array_equal(rows((ids - ids.min())[:, None]).X[0], np.arange(60))
    with pytest.raises(ValueError, match=r"X\[0, 0\] is 1000000000000000000 .*float64 rounds"):
        rows(pd.DataFrame({"id": ids, "z": Z[:, 0]}))


def test_an_offset_is_not_hidden_either():
    offset = np.stack([Z[:, 0], 1e9 + Z[:, 0], np.zeros(60)], axis=1)
    with pytest.raises(ValueError, match=r"offset\[0\] is .*as in offset - offset\.mean\(\), or"):
        rows(Z, offset=offset[:, 1])
    with pytest.raises(ValueError, match=r"offset\[0, 1\] is .*float32 rounds such values by"):
        rows(Z, K, offset=offset)
    with pytest.raises(ValueError, match=r"offset\[1, 0\] is .*float32 rounds such values by"):
        columns(Z, K, offset=offset.T)
    assert rows(Z, offset=np.full(60, 0.1), weights=1e9 + Z[:, 0]).offset is not None


# --- What is out of scale -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "large", "small"), [("float32", 1e30, 1e-30), ("float64", 1e200, 1e-200)]
)
@pytest.mark.parametrize("make", [rows, columns])
def test_features_whose_squares_leave_the_dtype_are_refused(make, dtype, large, small):
    place = "12, 1" if make is rows else "1, 12"
    given_X = np.clip(Z, -1, 1)
    given_X[12, 1] = -2.0
    with jax.enable_x64(dtype == "float64"):
        for scale, verb in ((large, "overflow"), (small, "vanish")):
            words = f"X[{place}] is {np.dtype(dtype).type(-2 * scale)!s} (example 12, feature 1): "
            words += f"sums of the squares of this feature {verb} in {dtype}. Rescale it, as in X /"
            for y in (Y, K):
                with pytest.raises(ValueError, match=re.escape(words)):
                    make((given_X * [1, scale]).astype(dtype), y)
        scaled = (Z * large) / abs(Z * large).max(0)
        np.testing.assert_allclose(make(scaled).X, (Z / abs(Z).max(0)).T, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-42, 1e-60, 1e-200, 1e-310])
def test_features_that_vanish_in_a_narrower_dtype_are_refused(scale):
    with pytest.raises(ValueError, match=r"X\[\d+, 1\] is .*feature vanish in float32"):
        rows(Z * [1, scale])
    rare = np.where(np.arange(5000)[:, None] == 7, scale, [[0.0, 1.0]])
    with pytest.raises(ValueError, match=r"X\[7, 0\] is .*feature vanish in float32"):
        rows(rare, np.arange(5000) % 2)


def test_raw_scales_pass_and_are_fitted():
    raw = Z * [1e15, 1e-15]
    for y in (Y, K):
        losses = [jaxlr.fit(rows(A, y), jaxlr.Penalty(0.0)).loss for A in (Z, raw)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
    constant = np.stack([np.zeros(60), np.full(60, 1e-30), Z[:, 0]], axis=1)
    assert rows(constant, dtype="float32").X.shape == (3, 60)
    halves = np.where(Z > 0, 6e4, 1e-4)  # summed in float32
    assert rows(halves, dtype="float16").X.dtype == jnp.float16
