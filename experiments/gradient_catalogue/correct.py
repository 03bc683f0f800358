"""Right gradients of awkward functions, on which an auditor should not raise an alarm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.gradient_catalogue.cases import Case, by_hand, newton

_rng = np.random.default_rng(1)


def _normal(*shape):
    return jnp.asarray(_rng.normal(size=shape), jnp.float32)


x, X, A = _normal(6), _normal(5, 8), _normal(4, 4)
S = A @ A.T + 0.5 * jnp.eye(4)
HILBERT = jnp.asarray(1 / (np.arange(5)[:, None] + np.arange(5)[None] + 1.0), jnp.float32)

# --- Scale --------------------------------------------------------------------------------------

SCALES = (
    Case(
        "entries from 1e-6 to 1e6", lambda x: jnp.log(x).sum(), (jnp.array([1e-6, 1e-3, 1.0, 1e6]),)
    ),
    Case(
        "leaves at 1e-8 and 1e8",
        lambda p, q: jnp.sin(p * 1e8).sum() + jnp.cos(q * 1e-8).sum(),
        (x * 1e-8, x * 1e8),
    ),
    Case("large offset", lambda x: 1e6 + jnp.sin(x).sum(), (x,)),
    Case("values near 1e-20", lambda x: 1e-20 * jnp.sin(x).sum(), (x,)),
    Case("values near 1e20", lambda x: 1e20 * jnp.sin(x).sum(), (x,)),
    Case("rapidly oscillating", lambda x: jnp.sin(200 * x).sum(), (x,)),
    Case("sine at 1e4", lambda x: jnp.sin(x).sum(), (1e4 + x,)),
    Case("log near its end", lambda x: jnp.log(x).sum(), (jnp.array([1e-7, 2e-7]),)),
    Case("power 0.1 near zero", lambda x: (x**0.1).sum(), (jnp.array([1e-5, 1e-3, 1.0]),)),
    Case("sum of 20,000 squares", lambda x: (x**2).sum(), (_normal(20_000),)),
    Case("product of 40 factors", lambda x: jnp.prod(1 + x), (0.1 * _normal(40),)),
    Case("large cancelling sums", lambda x: ((x + 1e3) - 1e3).sum() + jnp.sin(x).sum(), (x,)),
)

# --- Flat, saturated, kinked --------------------------------------------------------------------


def _huber(x):
    size = jnp.abs(x)
    return jnp.where(size < 1, x**2 / 2, size - 0.5).sum()


def _guarded_root(x):
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0).sum()


SHAPES = (
    Case("constant", lambda x: 0.0 * x.sum() + 3.0, (x,)),
    Case("stationary point", lambda x: ((x - 1) ** 2).sum(), (jnp.ones(4),)),
    Case("nearly flat", lambda x: 1.0 + 1e-6 * jnp.sin(x).sum(), (x,)),
    Case("saturated sigmoid", lambda x: jax.nn.sigmoid(x).sum(), (jnp.array([30.0, -30.0, 50.0]),)),
    Case("saturated tanh", lambda x: jnp.tanh(x).sum(), (jnp.array([12.0, -20.0]),)),
    Case("dead units", lambda x: jax.nn.relu(x - 10).sum(), (x,)),
    Case("absolute values, away from zero", lambda x: jnp.abs(x).sum(), (x,)),
    Case("a kink 1e-4 away", lambda x: jnp.abs(x).sum(), (jnp.array([1e-4, -1e-4, 1.0]),)),
    Case("relu network", lambda W, V: (V @ jax.nn.relu(W @ X)).sum(), (_normal(7, 5), _normal(7))),
    Case("maximum", lambda x: jnp.max(x) ** 2, (x,)),
    Case("Huber", _huber, (2 * x,)),
    Case("guarded root", _guarded_root, (x,)),
    Case("floor and round beside", lambda x: (x * jnp.floor(3 * x)).sum(), (x,)),
    Case("clip", lambda x: (jnp.clip(x, -0.5, 0.5) * x).sum(), (x,)),
)

# --- Low precision ------------------------------------------------------------------------------


def _mixed(W, x):
    hidden = jnp.tanh(W.astype(jnp.bfloat16) @ x.astype(jnp.bfloat16))
    return (hidden.astype(jnp.float32) ** 2).sum()


PRECISION = (
    Case("float16", lambda x: jnp.sin(x).sum(), (x.astype(jnp.float16),)),
    Case("bfloat16", lambda x: jax.nn.logsumexp(x), (x.astype(jnp.bfloat16),)),
    Case("float16 sum of 500", lambda x: (x**2).mean(), (_normal(500).astype(jnp.float16),)),
    Case("bfloat16 inside float32", _mixed, (A, x[:4])),
    Case("float16 and float32 leaves", lambda p, q: (p * q).sum() ** 2, (x.astype(jnp.float16), x)),
)

# --- Numerics -----------------------------------------------------------------------------------


def _softmax_loss(Z):
    return (jax.nn.logsumexp(Z, axis=0) - Z[0]).mean()


@jax.custom_jvp
def _softplus(z):
    return jnp.log1p(jnp.exp(-jnp.abs(z))) + jnp.maximum(z, 0)


_softplus.defjvp(lambda p, t: (_softplus(*p), jax.nn.sigmoid(p[0]) * t[0]))

NUMERICS = (
    Case("ill-conditioned solve", lambda b: jnp.linalg.solve(HILBERT, b).sum(), (x[:5],)),
    Case(
        "ill-conditioned solve, the matrix",
        lambda M: jnp.linalg.solve(M, x[:5]).sum(),
        (HILBERT + 1e-3 * jnp.eye(5),),
    ),
    Case(
        "log-determinant by Cholesky",
        lambda M: jnp.log(jnp.diag(jnp.linalg.cholesky(M))).sum(),
        (S,),
    ),
    Case("eigenvalues", lambda M: jnp.sin(jnp.linalg.eigvalsh(M)).sum(), (S,)),
    Case("singular values", lambda M: jnp.linalg.svd(M, compute_uv=False).sum(), (A,)),
    Case("log-sum-exp at 1e4", jax.nn.logsumexp, (1e4 + x,)),
    Case("softmax loss at ±50", _softmax_loss, (50 * _normal(3, 4),)),
    Case("normal log-cdf at −6", lambda x: jax.scipy.stats.norm.logcdf(x).sum(), (x - 6,)),
    Case("log-gamma", lambda x: jax.scipy.special.gammaln(x).sum(), (jnp.abs(x) + 0.1,)),
    Case("spectrum", lambda x: (jnp.abs(jnp.fft.fft(x)) ** 2 * jnp.arange(6.0)).sum(), (x,)),
    Case("custom_jvp", lambda x: _softplus(x).sum(), (10 * x,)),
    Case(
        "custom_vjp",
        by_hand(lambda x: jnp.sin(x).sum(), lambda x: (jnp.cos(x),)),
        (x,),
        ("rev",),
    ),
)

# --- Control flow and structure -----------------------------------------------------------------


def _while(x):
    return lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1].sum()


def _rnn(W, h):
    return lax.scan(lambda h, a: (jnp.tanh(W @ h + a), None), h, _rnn_inputs)[0].sum()


_rnn_inputs = _normal(10, 4)


def _euler(x):
    return lax.fori_loop(0, 50, lambda i, u: u + 0.02 * jnp.stack([u[1], -jnp.sin(u[0])]), x).sum()


def _attention(Q, K):
    return (jax.nn.softmax(Q @ K.T / 2.0, axis=-1) @ X[:, :3]).sum() ** 2


def _dropout(x):
    keep = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
    return jnp.where(keep, 2 * x, 0.0).sum() ** 2


def _shift_invariant(b):
    c = x + b - (x + b).mean()
    return (c**2 / (c**2).mean() * jnp.arange(6.0)).sum()


@jax.custom_vjp
def _fixed_point(a):
    """The root of u = cos(a·u), by iteration; its derivative is implicit."""
    return lax.fori_loop(0, 200, lambda i, u: jnp.cos(a * u), jnp.full_like(a, 0.5))


def _fixed_point_bwd(residual, g):
    a, u = residual
    s = jnp.sin(a * u)
    return (-g * u * s / (1 + a * s),)


_fixed_point.defvjp(lambda a: (_fixed_point(a), (a, _fixed_point(a))), _fixed_point_bwd)

_pairs = jnp.array([0, 2, 2, 3, 0, 2])

STRUCTURE = (
    Case("while_loop", _while, (x,), ("fwd",)),
    Case("scan", _rnn, (0.5 * A, x[:4])),
    Case("fori_loop", _euler, (x[:2],)),
    Case("cond", lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x).sum(), (x,)),
    Case("sort", lambda x: (jnp.sort(x) * jnp.arange(6.0)).sum() ** 2, (x,)),
    Case("median", lambda x: jnp.median(x) ** 2, (x,)),
    Case("top 3", lambda x: jnp.sin(lax.top_k(x, 3)[0]).sum(), (x,)),
    Case("running products", lambda x: jnp.cumprod(x).sum(), (x,)),
    Case("rows taken twice", lambda x: jnp.sin(x[_pairs]).sum(), (x,)),
    Case("segment sums", lambda x: (jax.ops.segment_sum(x, _pairs, 4) ** 2).sum(), (x,)),
    Case("convolution", lambda x: jnp.sin(jnp.convolve(x, x[:3])).sum(), (x,)),
    Case("attention", _attention, (_normal(5, 4), _normal(5, 4))),
    Case("checkpoint", lambda x: jax.checkpoint(lambda u: jnp.sin(jnp.sin(u)))(x).sum(), (x,)),
    Case("random dropout", _dropout, (x,)),
    Case(
        "implicit derivative",
        lambda a: _fixed_point(a).sum(),
        (jnp.array([0.3, 0.6, 0.8]),),
        ("rev",),
    ),
    Case("array-valued", lambda x: jnp.outer(x, jnp.sin(x)), (x,)),
    Case("vmapped Newton in float32", newton(1.0), (x,)),
    Case("a shift that a mean takes out", _shift_invariant, (jnp.float32(0.3),)),
    Case("large constant beside it", lambda x: 1e15 + jnp.sin(x).sum(), (x,)),
    Case("a step beside the point", lambda x: (x > 0).sum() + (x**2).sum(), (x,)),
)

# --- Points without a derivative: the honest answer is that nothing can be told -----------------


def _counting(w):
    z = (w @ X) * jnp.sign(X[0])
    return jax.nn.softplus(-z).mean() + 0.01 * (z <= 0).mean()


OPEN = (
    Case(
        "relu at its kink",
        lambda x: jax.nn.relu(x).sum(),
        (jnp.array([0.0, 1.0]),),
        open="a kink at the point",
    ),
    Case(
        "a tie of the maximum", jnp.max, (jnp.array([1.0, 1.0, 0.0]),), open="a kink at the point"
    ),
    Case(
        "root at zero",
        lambda x: jnp.sqrt(x).sum(),
        (jnp.array([0.0, 1.0]),),
        open="an infinite slope",
    ),
    Case(
        "a step at its jump",
        lambda x: (x > 0).sum() + (x**2).sum(),
        (jnp.array([0.0, 1.0]),),
        open="a jump at the point",
    ),
    Case(
        "misclassified examples counted, at w = 0",
        _counting,
        (jnp.zeros(5),),
        open="a jump at the point",
    ),
)

CORRECT = (*SCALES, *SHAPES, *PRECISION, *NUMERICS, *STRUCTURE, *OPEN)
