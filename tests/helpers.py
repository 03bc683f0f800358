"""What the tests share: tolerances by dtype, the plain formulas, problems drawn at random."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.model import passes
from jaxlr.model.objective import NO_PENALTY

# A process begins with this to hear Ctrl-C: what a shell starts in the background ignores it.
ATTENTIVE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


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


def _quick_options():
    """Compiler options for programs that run once on little data: those that this JAX knows.

    None where all programs are to be compiled as users' are (see conftest.py).
    """
    if not jax.config.read("jax_disable_most_optimizations"):
        return {}
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_parallel_codegen_split_count": 1,
    }
    known = {}
    for name, value in options.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0, compiler_options={name: value})()
            known[name] = value
    return known


QUICK = _quick_options()
# The same, for the processes that a test starts: an unknown option would end them.
QUICK_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())


def quick(fun):
    """Return a jitted `fun` that is cheap to compile."""
    return jax.jit(lambda *args: fun(*args), compiler_options=QUICK)


def _everything(params, v, batch, penalty):
    grad = jax.grad(plain_loss)
    return (
        (plain_loss(params, batch, penalty), grad(params, batch, penalty)),
        jax.jvp(lambda p: grad(p, batch, penalty), (params,), (v,))[1],
        jax.hessian(plain_loss)(params, batch, penalty),
    )


_everything = quick(_everything)


@contextlib.contextmanager
def tiles_of(examples):
    """Cut the examples into tiles of this size; no program compiled for another size is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_TILE_EXAMPLES", (examples, examples))
        jax.clear_caches()
        yield
    jax.clear_caches()


def in_float64(tree):
    """Return the tree with its floating-point leaves as NumPy's float64."""

    def widen(a):
        floating = jnp.issubdtype(jnp.result_type(a), jnp.floating)
        return np.asarray(a, np.float64) if floating else np.asarray(a)

    return jax.tree.map(widen, tree)


def plain_derivatives(params, v, batch, penalty=NO_PENALTY):
    """Return `((loss, gradient), hvp, hessian)` of the plain loss by autodiff, in float64.

    What is absent is filled in with what it stands for, so that few shapes are compiled.
    """
    n, m = batch.X.shape
    K = batch.n_classes
    y = np.asarray(batch.y, np.float64)
    y = y if K == 2 or y.ndim == 2 else np.eye(K)[np.asarray(batch.y)].T
    weights = np.ones(m) if batch.weights is None else batch.weights
    offset = np.zeros(y.shape) if batch.offset is None else batch.offset
    factors = np.ones(n) if penalty.factors is None else penalty.factors
    filled = jaxlr.Batch(batch.X, y, weights, offset, K), jaxlr.Penalty(penalty.l2, factors)
    with jax.enable_x64(True):
        return jax.device_get(_everything(*in_float64((params, v, *filled))))


def equations(jaxpr):
    """Yield every equation of a jaxpr, those of the jaxprs inside it too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from equations(getattr(value, "jaxpr", value))


def _is_jaxpr(value):
    return hasattr(getattr(value, "jaxpr", value), "eqns")


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
