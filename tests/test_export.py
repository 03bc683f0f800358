"""The programs as the compiler sees them: for other platforms, and the memory they need."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxlr
from tests.helpers import problem

PROGRAMS = {
    "loss": jaxlr.loss,
    "gradient": jaxlr.gradient,
    "grad of loss": jax.grad(jaxlr.loss),
    "hvp": lambda params, batch, penalty: jaxlr.hvp(params, params, batch, penalty),
    "hessian": jaxlr.hessian,
}


def array(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def arguments(n, m, n_classes=2, *, x_dtype="float32", lanes=()):
    """Shapes only: nothing is allocated."""
    classes = () if n_classes == 2 else (n_classes,)
    params = jaxlr.Params(array(*lanes, n, *classes), array(*lanes, *classes))
    y = array(m, dtype="float32" if n_classes == 2 else "int32")
    batch = jaxlr.Batch(array(n, m, dtype=x_dtype), y, None, None, n_classes)
    return params, batch, jaxlr.Penalty(array(*lanes))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_lowered_for_every_platform(name, n_classes, platform):
    args = arguments(5, 40_001, n_classes)  # whole tiles and a ragged one
    program = jax.jit(lambda *a: PROGRAMS[name](*a))
    exported = export.export(program, platforms=[platform])(*args)
    assert exported.platforms == (platform,)
    expected = jax.tree.leaves(jax.eval_shape(program, *args))
    assert [(a.shape, a.dtype) for a in exported.out_avals] == [
        (a.shape, a.dtype) for a in expected
    ]
    assert "stablehlo.while" in exported.mlir_module()  # the tiles are a loop


@pytest.mark.quick("cuda-sizes1", "tpu-sizes0")
@pytest.mark.parametrize("sizes", [(5, 40_001, 3), (4_200, 4_300, 2), (60, 20, 2)])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_derivatives_of_a_fit_are_lowered_for_every_platform(platform, sizes):
    """With a matrix for a curvature, one of low rank, and more features than examples."""

    def outer(params, batch, penalty):
        return jaxlr.loss(jaxlr.fit(batch, penalty).params, batch)

    program = jax.jit(jax.grad(outer, 2))
    exported = export.export(program, platforms=[platform])(*arguments(*sizes))
    assert exported.platforms == (platform,)
    assert "callback" not in exported.mlir_module()


def test_the_number_of_lanes_may_be_left_open():
    _, batch = problem(16, 40)
    (lanes,) = export.symbolic_shape("lanes")

    def losses(l2):
        return jax.vmap(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2)).loss)(l2)

    exported = export.export(jax.jit(losses))(jax.ShapeDtypeStruct((lanes,), jnp.float32))
    l2 = jnp.array([0.01, 0.1, 1.0], jnp.float32)
    alone = [float(jaxlr.fit(batch, jaxlr.Penalty(one)).loss) for one in l2]
    np.testing.assert_allclose(exported.call(l2), alone, rtol=1e-5)


# --- Memory -------------------------------------------------------------------------------------


def memory(fun, *args):
    """Bytes that the compiled program needs beyond its arguments."""
    analysis = jax.jit(lambda *a: fun(*a)).lower(*args).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def memory_of(name, m, x_dtype="float32"):
    """For 64 features: of 256 lanes, or of one for a whole Hessian."""
    if name in ONE_LANE:
        return memory(ONE_LANE[name], *arguments(64, m, x_dtype=x_dtype))
    args = arguments(64, m, x_dtype=x_dtype, lanes=(256,))
    return memory(jax.vmap(LANES[name], (0, None, 0)), *args)


LANES = {"value_and_grad": jaxlr.value_and_grad, **PROGRAMS}
ONE_LANE = {"hessian": LANES.pop("hessian"), "jax.hessian of loss": jax.hessian(jaxlr.loss)}


@pytest.mark.parametrize("name", [*LANES, *ONE_LANE])
def test_a_million_examples_need_little_memory(name):
    assert memory_of(name, 1_000_000) < 256e6


@pytest.mark.parametrize("name", ["value_and_grad", "hvp", "jax.hessian of loss"])
def test_memory_does_not_grow_with_the_examples(name):
    assert memory_of(name, 2**20) <= memory_of(name, 2**19) + 2**16


@pytest.mark.parametrize("x_dtype", ["float16", "int8"])
def test_a_narrow_X_is_not_widened_as_a_whole(x_dtype):
    few, many = (memory_of("value_and_grad", m, x_dtype) for m in (2**19, 2**20))
    assert many <= few + 2**16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeldOut:
    """All folds but one."""

    folds: Any  # (m,) uint8
    fold: Any

    def select(self, take):
        return jnp.where(take(self.folds) == self.fold, 0, 1)


def test_folds_cost_no_weights_for_each_lane():
    m, lanes = 1_000_000, 256
    params, batch, _ = arguments(64, m, lanes=(lanes,))
    folds = HeldOut(array(m, dtype="uint8"), array(lanes, dtype="uint8"))
    axes = jaxlr.Batch(None, None, HeldOut(None, 0))
    fun = jax.vmap(jaxlr.value_and_grad, (0, axes))
    assert memory(fun, params, dataclasses.replace(batch, weights=folds)) < 256e6
