"""Arrays over several devices, and several Python threads: programs that end, with their results.

Each process has a time limit: where devices or threads wait for each other it never ends.
"""

import os
import subprocess
import sys

import pytest

from tests.helpers import QUICK_FLAGS

SECONDS = 240

BEGIN = """
import warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp, numpy as np, optax, jaxlr
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(30, 80)), jnp.float32)
batch = jaxlr.Batch(X, jnp.asarray(X[0] + rng.normal(size=80) > 0, jnp.int32))
l2, one, key = jnp.logspace(-3, 0, 20), jaxlr.Penalty(jnp.float32(0.1)), jax.random.key(0)
start, optimum = jaxlr.init_params(30), jaxlr.fit(batch, one).params

@jax.jit
def recipe(batch, l2):
    return jax.vmap(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2)))(l2).params

def sweep(batch, l2):
    return jaxlr.sweep(batch, jaxlr.Penalty(l2)).params

def cross_validate(batch, l2):
    found = jaxlr.cross_validate(batch, jaxlr.Penalty(l2), folds=2, key=key)
    return found.solutions.params, found.scores.log_loss

def bootstrap(batch, l2):
    return jaxlr.bootstrap(batch, one, 8, key).params

def fit(batch, l2):
    return jaxlr.fit(batch, one).params

def value_and_grad(batch, l2):
    return jaxlr.value_and_grad(start, batch, one)

def leave_one_out(batch, l2):
    return jaxlr.leave_one_out(optimum, batch, one).logits

def descend(batch, l2):
    return jaxlr.gradient_descent(start, batch, optax.adam(0.1), 5, one)

def descend_on_some(batch, l2):
    return jaxlr.minibatch_descent(start, batch, optax.sgd(0.1), 5, 8, key)

@jax.jit
def slope(batch, l2):
    return jax.grad(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2)).params.w.sum())(one.l2)
"""

MESHES = """
assert jax.device_count() == 2
count = jax.device_count(),
mesh = {
    "as it comes": lambda: jax.make_mesh(count, ("d",)),
    "Mesh": lambda: Mesh(np.array(jax.devices()), ("d",)),
    "Explicit": lambda: jax.make_mesh(count, ("d",), axis_types=(AxisType.Explicit,)),
}[axes]()

def over(*axes):
    return NamedSharding(mesh, PartitionSpec(*axes))

def check(fun, batch, l2):
    print(fun.__name__, flush=True)
    actual, expected = jax.device_get((fun(batch, l2), alone[fun.__name__]))
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)

alone = {fun.__name__: fun(batch, l2) for fun in functions}
everywhere, lanes = jax.device_put(batch, over()), jax.device_put(l2, over("d"))
examples = jax.device_put(batch, jaxlr.Batch(over(None, "d"), over("d")))
for fun in functions:
    if fun in (recipe, sweep, cross_validate):
        check(fun, everywhere, lanes)
    if fun is not recipe:
        check(fun, examples, l2)
if sweep in functions:
    alone["<lambda>"] = alone["sweep"]
    check(jax.jit(lambda batch, l2: sweep(batch, l2)), everywhere, lanes)
if recipe in functions:
    assert recipe(everywhere, lanes).w.sharding.is_equivalent_to(over("d", None), 2)
"""


def run(code, devices):
    """Run the code in a process of its own, with so many devices."""
    flags = f"{QUICK_FLAGS} --xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("axes", "functions"),
    [
        ("Mesh", "[recipe, sweep, fit]"),
        pytest.param("as it comes", "[recipe, sweep]", marks=pytest.mark.slow),
        ("Explicit", "[descend, descend_on_some]"),
        pytest.param(
            "Explicit",
            "[cross_validate, bootstrap, fit, value_and_grad, leave_one_out, slope]",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_over_two_devices_is_as_on_one(axes, functions):
    run(f"axes, functions = {axes!r}, {functions}\n{MESHES}", 2)


@pytest.mark.slow
def test_as_many_devices_as_cores():
    """No device has a thread of its own to spare."""
    cores = max(2, os.cpu_count() or 1)
    code = """
mesh = Mesh(np.array(jax.devices()), ("d",))
everywhere = jax.device_put(batch, NamedSharding(mesh, PartitionSpec()))
expected = np.asarray(sweep(batch, l2).w)
for _ in range(10):
    np.testing.assert_allclose(sweep(everywhere, l2).w, expected, rtol=1e-4, atol=1e-4)
"""
    run(code, cores)


def test_more_python_threads_than_cores():
    code = """
import os
from concurrent.futures import ThreadPoolExecutor
expected = np.asarray(sweep(batch, l2).w)
with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as threads:
    for found in threads.map(lambda _: np.asarray(sweep(batch, l2).w), range(200)):
        assert (found == expected).all()
"""
    run(code, 1)
