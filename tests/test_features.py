"""Features that are no array: eight bits a number, and a scale for each feature."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.model import features
from tests.helpers import assert_close


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Scaled:
    """`X = scale ⊙ numbers`, numbers of eight bits: as small as a quarter of float32."""

    numbers: jax.Array  # (n, m) int8
    scale: jax.Array  # (n,)

    @property
    def shape(self):
        return self.numbers.shape

    @property
    def dtype(self):
        return self.scale.dtype

    def _of(self, power=1):
        return self.numbers.astype(self.dtype) ** power

    def products(self, w):
        scaled = w * self.scale.reshape(-1, *[1] * (w.ndim - 1))
        return jnp.tensordot(scaled, self._of(), (0, 0), precision="highest")

    def sums(self, r):
        total = jnp.tensordot(self._of(), r, (-1, -1), precision="highest")
        return total * self.scale.reshape(-1, *[1] * (r.ndim - 1))

    def squares(self, s):
        total = jnp.tensordot(self._of(2), s, (-1, -1), precision="highest")
        return total * self.scale.reshape(-1, *[1] * (s.ndim - 1)) ** 2

    def gram(self, S):
        X = self.dense()
        return jnp.einsum("im,klm,jm->kilj", X, S, X, precision="highest")

    def extremes(self):
        return jnp.abs(self._of()).max(axis=1) * jnp.abs(self.scale)

    def magnitudes(self):
        return Scaled(jnp.abs(self.numbers), jnp.abs(self.scale))

    def take(self, take):
        return Scaled(take(self.numbers), self.scale)

    def astype(self, dtype):
        return Scaled(self.numbers, self.scale.astype(dtype))

    def dense(self):
        return self.scale[:, None] * self._of()


def both(dtype, n=5, m=70, n_classes=2, seed=0, **more):
    """Return the same examples twice: scaled, and as an array."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-100, 101, (n, m)).astype(np.int8)
    scale = np.geomspace(0.01, 0.1, n)
    Z = rng.normal(size=(n_classes, n)) @ (numbers * scale[:, None]) / 5
    y = (Z + rng.gumbel(size=Z.shape)).argmax(axis=0)
    X = Scaled(jnp.asarray(numbers), jnp.asarray(scale, dtype))
    more |= {"weights": jnp.asarray(rng.uniform(0.5, 2, m), dtype), "n_classes": n_classes}
    more |= {"y": jnp.asarray(y, dtype if n_classes == 2 else jnp.int32)}
    return jaxlr.Batch(X, **more), jaxlr.Batch(X.dense(), **more)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_objective_and_derivatives_are_those_of_the_array(n_classes, dtype):
    scaled, array = both(dtype, n_classes=n_classes)
    penalty = jaxlr.Penalty(0.1)
    rng = np.random.default_rng(1)
    start = jaxlr.init_params(5, n_classes, dtype)
    params, v = (
        jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), dtype), start)
        for _ in range(2)
    )
    assert_close(jaxlr.value_and_grad(params, scaled, penalty),
         jaxlr.value_and_grad(params, array, penalty), dtype, 10)  # fmt: skip
    assert_close(
        jaxlr.hvp(params, v, scaled, penalty), jaxlr.hvp(params, v, array, penalty), dtype, 10
    )
    assert_close(
        jaxlr.hessian(params, scaled, penalty), jaxlr.hessian(params, array, penalty), dtype, 100
    )
    assert_close(jax.grad(jaxlr.loss)(params, scaled, penalty),
         jax.grad(jaxlr.loss)(params, array, penalty), dtype, 10)  # fmt: skip
    assert_close(
        jaxlr.predict_proba(params, scaled.X), jaxlr.predict_proba(params, array.X), dtype, 10
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fits_sweeps_and_certificates(n_classes, x64):
    scaled, array = both("float64", n_classes=n_classes)
    penalties = jaxlr.Penalty(jnp.logspace(-3, 0, 4))
    found, expected = jaxlr.fit(scaled, jaxlr.Penalty(1e-2)), jaxlr.fit(array, jaxlr.Penalty(1e-2))
    found.raise_if_failed()
    assert_close(found.params, expected.params, "float64", 1e6)
    assert found.suboptimality < 1e-15
    found, expected = jaxlr.sweep(scaled, penalties), jaxlr.sweep(array, penalties)
    found.raise_if_failed()
    assert_close(found.params, expected.params, "float64", 1e6)
    folds = jnp.arange(70) % 3
    found = jaxlr.cross_validate(scaled, penalties, folds=folds)
    expected = jaxlr.cross_validate(array, penalties, folds=folds)
    found.solutions.raise_if_failed()
    assert_close(found.scores.log_loss, expected.scores.log_loss, "float64", 1e6)


def test_a_fit_in_float32_and_one_without_a_penalty_is_judged(x64_off):
    scaled, array = both("float32")
    found = jaxlr.fit(scaled, jaxlr.Penalty(0.0)).raise_if_failed()
    assert_close(found.loss, jaxlr.fit(array, jaxlr.Penalty(0.0)).loss, "float32", 10)
    separated = dataclasses.replace(scaled, y=(scaled.X.numbers[0] > 0).astype("float32"))
    assert jaxlr.fit(separated).status == jaxlr.Status.NO_FINITE_OPTIMUM


def test_derivatives_of_a_fit(x64):
    scaled, array = both("float64")

    def held(l2, weights, batch):
        batch = dataclasses.replace(batch, weights=weights)
        return jaxlr.fit(batch, jaxlr.Penalty(l2)).params.w.sum()

    slope = jax.grad(held, (0, 1))
    given = jnp.array(0.1), scaled.weights
    assert_close(slope(*given, scaled), slope(*given, array), "float64", 1e5)

    def of_scale(scale):
        X = dataclasses.replace(scaled.X, scale=scale)
        return jaxlr.fit(dataclasses.replace(scaled, X=X), jaxlr.Penalty(0.1)).loss

    step = jnp.array([1e-5, 0, 0, 0, 0])
    scale = scaled.X.scale
    difference = (of_scale(scale + step) - of_scale(scale - step)) / 2e-5
    np.testing.assert_allclose(jax.grad(of_scale)(scale)[0], difference, rtol=1e-6)


def test_wide_data_and_leave_one_out(x64):
    scaled, array = both("float64", n=40, m=20)
    penalty = jaxlr.Penalty(0.1)
    found = jaxlr.fit(scaled, penalty).raise_if_failed()
    assert_close(found.params, jaxlr.fit(array, penalty).params, "float64", 1e7)
    scaled, array = both("float64")
    params = jaxlr.fit(array, penalty).params
    assert_close(jaxlr.leave_one_out(params, scaled, penalty),
         jaxlr.leave_one_out(params, array, penalty), "float64", 1e4)  # fmt: skip
    assert_close(jaxlr.leave_one_out_params(params, scaled, penalty),
         jaxlr.leave_one_out_params(params, array, penalty), "float64", 1e4)  # fmt: skip


def test_features_about_a_centre_are_those_of_the_array(x64):
    scaled, array = both("float64")
    rng = np.random.default_rng(2)
    centre, w, r = (jnp.asarray(rng.normal(size=shape)) for shape in ((5,), (5, 2), (3, 70)))
    X, expected = features.centred(scaled.X, centre), features.centred(array.X, centre)
    assert isinstance(X, features.Centred)
    assert_close(features.products(w, X), features.products(w, expected), "float64", 10)
    assert_close(features.feature_sums(X, r), features.feature_sums(expected, r), "float64", 100)
    assert_close(features.squares(X, r), features.squares(expected, r), "float64", 100)
    assert_close(
        features.gram(X, r[None], 1.0), features.gram(expected, r[None], 1.0), "float64", 1000
    )
    assert_close(features.dense(X), expected, "float64", 10)
    some = features.taken(X, lambda a: a[..., 3:9])
    assert_close(features.dense(some), expected[:, 3:9], "float64", 10)
    assert (features.extremes(X) >= features.extremes(expected)).all()
    assert (features.magnitudes(X).dense() >= jnp.abs(expected)).all()
    assert features.without_features(X).shape == (0, 70)
