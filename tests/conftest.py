"""What every test runs under: no silent rank promotion, both dtypes, how programs are compiled.

Tests have little data: their programs are compiled quickly, without most optimisations. With
JAXLR_TEST_PROGRAMS=optimised all programs are compiled as those of users with much data.
"""

import gc
import os
from pathlib import Path

import jax
import pytest
from jax._src import compiler

from jaxlr.solver import compiling

jax.config.update("jax_numpy_rank_promotion", "raise")

# A program that one process has compiled serves the others, and the next run of the tests.
_PROGRAMS = {
    "jax_compilation_cache_dir": str(Path(__file__).parents[1] / ".pytest_cache" / "programs"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
}
for _name, _value in _PROGRAMS.items():
    os.environ.setdefault(_name.upper(), str(_value))
    jax.config.update(_name, type(_value)(os.environ[_name.upper()]))

# In the environment, for the processes that a test starts.
OPTIMISED = os.environ.get("JAXLR_TEST_PROGRAMS") == "optimised"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not OPTIMISED))
jax.config.update("jax_disable_most_optimizations", not OPTIMISED)
if OPTIMISED:
    compiling._LITTLE = -1
elif jax.__version_info__ < (0, 11):  # an older part of XLA, which later ones no longer know
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


@pytest.hookimpl(tryfirst=True)  # before those with the marker `slow` are left out
def pytest_collection_modifyitems(items):
    """Of a test marked `quick`, those of other parameters are slow."""
    marked = [item for item in items if item.get_closest_marker("quick")]
    for item in marked:
        if item.callspec.id not in item.get_closest_marker("quick").args:
            item.add_marker(pytest.mark.slow)
    kept = {item.function for item in marked if not item.get_closest_marker("slow")}
    stale = {item.originalname for item in marked if item.function not in kept}
    if stale and len(items) > 1:
        raise pytest.UsageError(f"{sorted(stale)} have none of the parameters that `quick` names")


def pytest_collection_finish():
    """All modules are there: the collector of garbage need not look at them, nor often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each dtype in turn; x64 is on for the test only when it needs it."""
    with jax.enable_x64(request.param == "float64" or jax.config.read("jax_enable_x64")):
        yield request.param


@pytest.fixture
def x64():
    """Turn x64 on for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def x64_off():
    """Turn x64 off for a test of what happens without it."""
    with jax.enable_x64(False):
        yield


@pytest.fixture
def quick_programs():
    """Compile all as `helpers.quick` does, for tests of many shapes on little data."""
    # Here, as a program compiled before the settings above would leave the disk unused.
    from tests.helpers import QUICK

    right = compiler.get_compile_options

    def options(*args, env_options_overrides=None, **kwargs):
        overrides = QUICK | (env_options_overrides or {})
        return right(*args, env_options_overrides=overrides, **kwargs)

    with pytest.MonkeyPatch.context() as patch:  # one that no test undoes
        patch.setattr(compiler, "get_compile_options", options)
        yield
