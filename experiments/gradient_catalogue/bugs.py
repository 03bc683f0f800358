"""Planted bugs: gradients that are wrong by 1e-3 of a leaf's norm or more, as people write them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import custom_batching, lax

from experiments.gradient_catalogue.cases import Case, by_hand, forward_by_hand, ruled

_rng = np.random.default_rng(0)


def _normal(*shape):
    return jnp.asarray(_rng.normal(size=shape), jnp.float32)


X, y, w, b = _normal(3, 20), jnp.arange(20) % 2, _normal(3), jnp.float32(0.3)
c = jnp.asarray(_rng.uniform(0.2, 2.0, 20), jnp.float32)
A, B, v = _normal(4, 4), _normal(4, 4), _normal(4)
x = jnp.array([0.8, -1.3, 0.4, -0.2, 1.7, -0.9])
W, Y = _normal(3, 4), jax.nn.one_hot(jnp.arange(20) % 4, 4, axis=0)
L2 = 0.3

# --- Logistic regression, the gradient by hand --------------------------------------------------


def _loss(w, b):
    z = w @ X + b
    return (c * (jax.nn.softplus(z) - y * z)).sum() / c.sum() + L2 / 2 * (w**2).sum()


def _dz(w, b):
    return c * (jax.nn.sigmoid(w @ X + b) - y) / c.sum()


def _grad(w, b, change=lambda dz: dz, l2=L2, of_b=0.0):
    dz = change(_dz(w, b))
    return X @ dz + l2 * w, dz.sum() + of_b


def _logistic(name, **options):
    return Case(name, by_hand(_loss, lambda w, b: _grad(w, b, **options)), (w, b), ("rev",))


def _changed(name, change):
    return Case(name, by_hand(_loss, lambda w, b: change(*_grad(w, b))), (w, b), ("rev",))


def _softmax_loss(W):
    Z = W.T @ X
    return (jax.nn.logsumexp(Z, axis=0) - (Y * Z).sum(axis=0)).mean()


def _softmax(name, change):
    def grad(W):
        return (X @ change(jax.nn.softmax(W.T @ X, axis=0) - Y).T / 20,)

    return Case(name, by_hand(_softmax_loss, grad), (W,), ("rev",))


_one_class = jnp.array([1.0, 1.0, 2.0, 1.0])[:, None]

LOGISTIC = (
    _changed("sign of one leaf", lambda dw, db: (-dw, db)),
    _changed("sign of the intercept", lambda dw, db: (dw, -db)),
    _logistic("1/m missing", change=lambda dz: dz * 20),
    _logistic("1/m twice", change=lambda dz: dz / 20),
    _logistic("weights dropped", change=lambda dz: dz / c),
    _logistic("weights squared", change=lambda dz: dz * c),
    _logistic("labels' sign", change=lambda dz: dz + 2 * y * c / c.sum()),
    _logistic("penalty's term missing", l2=0.0),
    _logistic("penalty's factor 2", l2=2 * L2),
    _logistic("penalty's sign", l2=-L2),
    _logistic("penalty on the intercept", of_b=L2 * b),
    _logistic("first example left out", change=lambda dz: dz.at[0].set(0.0)),
    _changed("slip of 1e-3", lambda dw, db: (1.001 * dw, 1.001 * db)),
    _changed("slip of 1e-3 in one leaf", lambda dw, db: (dw, 1.001 * db)),
    _changed("one entry off by 1 %", lambda dw, db: (dw.at[1].multiply(1.01), db)),
    _changed("leaf left at zero", lambda dw, db: (dw, 0.0 * db)),
    _changed("features in reverse order", lambda dw, db: (dw[::-1], db)),
    _softmax("one class wrong", lambda dZ: dZ * _one_class),
    _softmax("classes off by one", lambda dZ: jnp.roll(dZ, 1, axis=0)),
    _softmax("unnormalised softmax", lambda dZ: (dZ + Y) * 1.2 - Y),
)

# --- Linear algebra -----------------------------------------------------------------------------


def _bilinear(M):
    return v @ M @ x[:4]


def _log_det(M):
    return jnp.linalg.slogdet(M)[1]


def _solve(M):
    return (v * jnp.linalg.solve(M, x[:4])).sum()


def _solve_grad(M, flip):
    forth, back = jnp.linalg.solve(M, x[:4]), jnp.linalg.solve(M.T, v)
    return (-jnp.outer(forth, back) if flip else jnp.outer(back, forth),)


def _norm(x):
    return jnp.sqrt((x**2).sum())


ALGEBRA = (
    Case("transposed", by_hand(_bilinear, lambda M: (jnp.outer(x[:4], v),)), (A,), ("rev",)),
    Case(
        "product's factor not transposed",
        by_hand(lambda M: (M @ B * A).sum(), lambda M: (A @ B,)),
        (A,),
        ("rev",),
    ),
    Case(
        "log-determinant: inverse, not its transpose",
        by_hand(_log_det, lambda M: (jnp.linalg.inv(M),)),
        (A,),
        ("rev",),
    ),
    Case("solve: transposed", by_hand(_solve, lambda M: _solve_grad(M, True)), (A,), ("rev",)),
    Case("solve: sign", by_hand(_solve, lambda M: _solve_grad(M, False)), (A,), ("rev",)),
    Case("norm: not divided by itself", by_hand(_norm, lambda x: (x,)), (x,), ("rev",)),
    Case(
        "quadratic form: half of the symmetric part",
        by_hand(lambda x: x @ A @ x, lambda x: (A @ x,)),
        (v,),
        ("rev",),
    ),
    Case(
        "squares: the 2 forgotten", by_hand(lambda x: (x**2).sum(), lambda x: (x,)), (x,), ("rev",)
    ),
)

# --- Broadcasting, indexing, order --------------------------------------------------------------

_rows = jnp.array([0, 2, 2, 3, 0, 2])


def _plus(p):
    return jnp.sin(A + p[None]).sum()


def _smooth(fun, backward, **options):
    rule = ruled(lambda x: fun(x), backward, **options)
    return lambda x: jnp.sin(rule(x)).sum()


INDEXING = (
    Case(
        "broadcast axis averaged, not summed",
        by_hand(_plus, lambda p: (jnp.cos(A + p[None]).mean(axis=0),)),
        (v,),
        ("rev",),
    ),
    Case(
        "broadcast axis: first slice only",
        by_hand(_plus, lambda p: (jnp.cos(A + p[None])[0],)),
        (v,),
        ("rev",),
    ),
    Case(
        "sum over the wrong axis",
        by_hand(_plus, lambda p: (jnp.cos(A + p[None]).sum(axis=1),)),
        (v,),
        ("rev",),
    ),
    Case(
        "difference: off by one",
        _smooth(jnp.diff, lambda x, u: jnp.pad(u, (1, 0)) - jnp.pad(jnp.roll(u, 1), (0, 1))),
        (x,),
        ("rev",),
    ),
    Case(
        "running sum: not reversed", _smooth(jnp.cumsum, lambda x, u: jnp.cumsum(u)), (x,), ("rev",)
    ),
    Case(
        "sort: not put back",
        _smooth(lambda x: jnp.sort(x) * jnp.arange(6.0), lambda x, u: u * jnp.arange(6.0)),
        (x,),
        ("rev",),
    ),
    Case(
        "rows taken twice: set, not added",
        _smooth(lambda x: x[_rows], lambda x, u: jnp.zeros(6).at[_rows].set(u)),
        (x,),
        ("rev",),
    ),
    Case(
        "maximum: shared by all",
        by_hand(lambda x: jnp.max(x) ** 2, lambda x: (jnp.full(6, 2 * jnp.max(x) / 6),)),
        (x,),
        ("rev",),
    ),
    Case(
        "masked mean: divided by all",
        by_hand(lambda x: (y[:6] * x**2).sum() / 3, lambda x: (y[:6] * 2 * x / 6,)),
        (x,),
        ("rev",),
    ),
    Case(
        "convolution: kernel not flipped",
        _smooth(
            lambda x: jnp.convolve(x, w, mode="valid"),
            lambda x, u: jnp.convolve(u, w, mode="full"),
        ),
        (x,),
        ("rev",),
    ),
)

# --- Rules of elementwise functions: residuals, branches, cotangents ----------------------------


def _layer_norm(x):
    centred = x - x.mean()
    return centred / jnp.sqrt((centred**2).mean())


def _huber(x):
    size = jnp.abs(x)
    return jnp.where(size < 1, x**2 / 2, size - 0.5).sum()


def _sigmoid_slope(z):
    a = jax.nn.sigmoid(jnp.abs(z))
    return jnp.where(z > 0, a * (1 - a), a)  # (1 − a)·a was meant for z < 0 too


ELEMENTWISE = (
    Case(
        "stale residual: input for output",
        _smooth(jnp.tanh, lambda x, u: u * (1 - x**2)),
        (x,),
        ("rev",),
    ),
    Case(
        "tanh: the square forgotten",
        _smooth(jnp.tanh, lambda out, u: u * (1 - out), residual=lambda x, out: out),
        (x,),
        ("rev",),
    ),
    Case(
        "softmax: diagonal of the Jacobian only",
        _smooth(jax.nn.softmax, lambda a, u: a * (1 - a) * u, residual=lambda x, out: out),
        (x,),
        ("rev",),
    ),
    Case(
        "normalisation: the mean held fixed",
        _smooth(_layer_norm, lambda x, u: u / jnp.std(x)),
        (x,),
        ("rev",),
    ),
    Case("cotangent ignored", _smooth(jnp.sin, lambda x, u: jnp.cos(x)), (x,), ("rev",)),
    Case(
        "cotangent of a scalar ignored",
        ruled(lambda x: jnp.sin(x).sum(), lambda x, u: jnp.cos(x)),
        (x,),
        ("rev",),
    ),
    Case(
        "chain rule: inner derivative",
        forward_by_hand(lambda x: jnp.sin(3 * x), lambda x: jnp.cos(3 * x)),
        (x,),
    ),
    Case("product rule: one term", forward_by_hand(lambda x: x * jnp.exp(x), jnp.exp), (x,)),
    Case("wrong branch at z < 0", forward_by_hand(jax.nn.sigmoid, _sigmoid_slope), (x,)),
    Case(
        "leak of the negative side",
        forward_by_hand(lambda x: jax.nn.leaky_relu(x, 0.1), lambda x: jnp.where(x > 0, 1.0, 0.01)),
        (x,),
    ),
    Case("wrong only for large inputs", by_hand(_huber, lambda x: (x,)), (3 * x,), ("rev",)),
    Case(
        "clipped for large inputs",
        forward_by_hand(jnp.sinh, lambda x: jnp.minimum(jnp.cosh(x), 5.0)),
        (2 * x,),
    ),
    Case("stop_gradient on a path", lambda x: (lax.stop_gradient(jnp.tanh(x)) * x).sum(), (x,)),
    Case(
        "float32 cancellation",
        by_hand(lambda z: jax.nn.softplus(-z).sum(), lambda z: (jax.nn.sigmoid(z) - 1.0,)),
        (jnp.array([14.0, 15.5, 17.0]),),
        ("rev",),
    ),
    Case(
        "float16: 2 % off",
        forward_by_hand(jnp.sin, lambda x: 1.02 * jnp.cos(x)),
        (x.astype(jnp.float16),),
    ),
    Case(
        "bfloat16: factor 2",
        forward_by_hand(jnp.exp, lambda x: 2 * jnp.exp(x)),
        (x.astype(jnp.bfloat16),),
    ),
    Case(
        "small slope of a large function",
        by_hand(lambda x: 1e4 + jnp.sin(x).sum(), lambda x: (1.5 * jnp.cos(x),)),
        (x,),
        ("rev",),
    ),
    Case(
        "badly scaled: the small leaf",
        by_hand(
            lambda p, q: (p**2).sum() + 1e-4 * jnp.sin(q).sum(),
            lambda p, q: (2 * p, -1e-4 * jnp.cos(q)),
        ),
        (x, v),
        ("rev",),
    ),
)

# --- Wrong only in a transformation -------------------------------------------------------------


@custom_batching.custom_vmap
def _pull_back(x, u):
    return u * jnp.cos(x)


@_pull_back.def_vmap
def _pull_back_rule(axis_size, in_batched, x, u):
    return jnp.mean(u) * jnp.cos(x), True


def _second(fun, slope):
    """Right at first order: the slope's own derivative is not the second derivative."""
    return lambda x: forward_by_hand(fun, slope)(x).sum()


def _last_step(x):
    return lax.scan(lambda h, a: (jnp.tanh(h + a), None), jnp.float32(0.0), x)[0]


TRANSFORMED = (
    Case(
        "wrong only under vmap",
        ruled(lambda x: jnp.sin(x).sum(), lambda x, u: _pull_back(x, jnp.broadcast_to(u, x.shape))),
        (x,),
        ("rev",),
    ),
    Case(
        "second order: slope held fixed",
        _second(jnp.sin, lambda x: lax.stop_gradient(jnp.cos(x))),
        (x,),
    ),
    Case(
        "second order: factor 2",
        _second(jnp.sin, forward_by_hand(jnp.cos, lambda x: -2 * jnp.sin(x))),
        (x,),
    ),
    Case(
        "second order: sign where x < 0",
        _second(lambda x: x**3, forward_by_hand(lambda x: 3 * x**2, lambda x: 6 * jnp.abs(x))),
        (x,),
    ),
    Case(
        "recurrence: last step only",
        by_hand(_last_step, lambda x: (jnp.zeros(6).at[5].set(1 - _last_step(x) ** 2),)),
        (x,),
        ("rev",),
    ),
)

PLAIN = (*LOGISTIC, *ALGEBRA, *INDEXING, *ELEMENTWISE, *TRANSFORMED)
