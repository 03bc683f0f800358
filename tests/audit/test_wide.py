"""A trace evaluated in float64 is the function in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlr.audit.lifted import lift

x = jnp.array([0.8, 1.3, 0.4])
A = jnp.array([[2.0, 0.3, 0.1], [0.2, 1.5, 0.4], [0.1, 0.2, 1.8]])


@jax.custom_jvp
def ruled(x):
    return jnp.exp(x)


ruled.defjvp(lambda p, t: (ruled(*p), ruled(*p) * t[0]))

FUNCTIONS = {
    "elementwise": lambda x: jnp.log1p(x) * jnp.tanh(x) ** 2 / (1 + x**0.5),
    "products": lambda x: jnp.dot(A, x, precision="highest") @ x,
    "scan": lambda x: lax.scan(lambda c, a: (c * a + 1, jnp.sin(c)), x[0], x),
    "while": lambda x: lax.while_loop(lambda c: c.sum() < 50, lambda c: c * x + 1, x),
    "while of a batch": lambda x: jax.vmap(
        lambda a: lax.while_loop(lambda c: c < 50, lambda c: c * a.astype(jnp.float32) + 1, a)
    )(x + 1),
    "fori": lambda x: lax.fori_loop(0, 4, lambda i, c: c + x[i % 3] * i, jnp.zeros(3)),
    "cond": lambda x: lax.cond(x[0] > 0.5, jnp.sin, jnp.cos, x),
    "solve": lambda x: jnp.linalg.solve(A, x),
    "scatter": lambda x: jnp.zeros(4).at[jnp.array([1, 1, 3])].add(x),
    "sort": lambda x: jnp.sort(x)[::-1] + jnp.argsort(x),
    "logsumexp": lambda x: jax.nn.logsumexp(10 * x),
    "remat": lambda x: jax.checkpoint(jnp.sin)(x),
    "rule": lambda x: jax.jit(ruled)(x),
    "fixed randomness": lambda x: x * jax.random.normal(jax.random.key(0), (3,)),
    "gradient": jax.grad(lambda x: (ruled(x) * jnp.sin(x)).sum()),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_has_sixteen_digits_and_its_complex_step_the_derivative(name):
    fun = FUNCTIONS[name]
    lifted = lift(lambda xs: jax.tree.leaves(fun(xs[0])), [x])
    native = jax.tree.leaves(fun(x))
    v = jnp.array([1.0, -2.0, 0.5])
    tangents = jax.tree.leaves(jax.jvp(fun, (x,), (v,))[1])
    with jax.enable_x64(True):
        wide = lifted.run(lifted.consts, [x])
        step = lifted.complex_run(lifted.consts, [x.astype(jnp.float64) + 1e-20j * v])
    assert lifted.x64
    for w, n, s, t in zip(wide, native, step, tangents, strict=True):
        assert w.dtype == jnp.float64
        np.testing.assert_allclose(w, n, rtol=2e-5, atol=1e-6)
        step_slope = np.imag(np.asarray(s, np.complex128))
        np.testing.assert_allclose(step_slope / 1e-20, t, rtol=2e-4, atol=1e-5)


def test_casts_do_not_round():
    lifted = lift(lambda xs: [xs[0].astype(jnp.float16).astype(jnp.bfloat16)], [x])
    with jax.enable_x64(True):
        fine = jnp.array([1.0 + 1e-12])
        assert lifted.run(lifted.consts, [jnp.tile(fine, 3)])[0][0] == fine[0]


def test_a_black_box_keeps_its_dtype_and_says_so():
    def boxed(xs):
        shape = jax.ShapeDtypeStruct((3,), jnp.float32)
        return [jax.pure_callback(np.sin, shape, xs[0], vmap_method="sequential")]

    narrow = x.astype(jnp.float32)
    lifted = lift(boxed, [narrow])
    assert lifted.x64
    assert lifted.eps == float(jnp.finfo(jnp.float32).eps)
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            lifted.run(lifted.consts, [narrow])[0], np.sin(narrow), rtol=1e-6
        )


def test_what_is_printed_is_printed_once(capfd):
    def fun(xs):
        jax.debug.print("here {}", xs[0][0])
        return [xs[0] ** 2]

    lifted = lift(fun, [x])
    with jax.enable_x64(True):
        jax.block_until_ready(lifted.run(lifted.consts, [x]))
    jax.effects_barrier()
    assert "here" not in capfd.readouterr().out
