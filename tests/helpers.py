"""What the tests share: tolerances by dtype, the plain formulas, problems drawn at random."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxlr
from jaxlr.objective import NO_PENALTY


def tolerance(dtype, factor=1.0):
    """Return `{rtol, atol}`: 1e-12 in float64, near 1e-5 in float32, times a factor."""
    rtol = {"float64": 1e-12, "float32": 1e-5}[np.dtype(dtype).name]
    return {"rtol": rtol * factor, "atol": rtol * factor / 10}


def assert_close(actual, expected, dtype, factor=1.0):
    """Compare trees of arrays leaf by leaf, an entry's error relative to the leaf's largest."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    limits = tolerance(dtype, factor)
    for a, e in zip(actual, expected, strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert a.shape == e.shape
        scale = max(1.0, np.abs(e).max(initial=0.0))
        np.testing.assert_allclose(a, e, rtol=limits["rtol"], atol=limits["atol"] * scale)


def plain_loss(params, batch, penalty=NO_PENALTY):
    """Return the objective as a textbook has it, untiled: the oracle, for autodiff to derive."""
    weights = jnp.ones(batch.X.shape[1], batch.X.dtype) if batch.weights is None else batch.weights
    if batch.n_classes == 2:
        z = params.w @ batch.X + params.b
        z = z if batch.offset is None else z + batch.offset
        each = jax.nn.softplus(z) - batch.y * z
    else:
        z = params.w.T @ batch.X + params.b[:, None]
        z = z if batch.offset is None else z + batch.offset
        y = batch.y if batch.y.ndim == 2 else jax.nn.one_hot(batch.y, batch.n_classes, axis=0)
        each = jax.nn.logsumexp(z, axis=0) - (y * z).sum(axis=0)
    squares = params.w**2 if batch.n_classes == 2 else (params.w**2).sum(axis=1)
    factors = jnp.ones_like(squares) if penalty.factors is None else penalty.factors
    ridge = penalty.l2 / 2 * (factors * squares).sum()
    return (weights * each).sum() / weights.sum() + ridge


def problem(n=3, m=20, n_classes=2, *, seed=0, weights=False, offset=False, soft=False, dtype=None):
    """Return random `(params, batch)`; hard labels are integers for more than two classes."""
    rng = np.random.default_rng(seed)
    dtype = dtype or jnp.zeros(()).dtype
    classes = () if n_classes == 2 else (n_classes,)

    def array(a):
        return jnp.asarray(np.asarray(a), dtype)

    if n_classes == 2:
        y = array(rng.uniform(size=m) if soft else rng.integers(0, 2, m))
    elif soft:
        y = array(rng.dirichlet(np.ones(n_classes), m).T)
    else:
        y = jnp.asarray(rng.integers(0, n_classes, m), jnp.int32)
    batch = jaxlr.Batch(
        array(rng.normal(size=(n, m))),
        y,
        array(rng.uniform(0.1, 3.0, m)) if weights else None,
        array(rng.normal(size=(*classes, m))) if offset else None,
        n_classes,
    )
    params = jaxlr.Params(array(rng.normal(size=(n, *classes))), array(rng.normal(size=classes)))
    return params, batch
