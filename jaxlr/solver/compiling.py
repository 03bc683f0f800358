"""How programs are compiled: for little work quickly, for much work to run fast.

XLA takes seconds to make a program fast, and little data are fitted in a millisecond. So programs
for little work are compiled without most optimisations, where it is known how to ask for that: on
CPUs. What is little is told from static shapes, in this place alone. Inside the caller's own
`jax.jit` everything is compiled as the caller's program is: whoever fits little data again and
again in one process puts `jax.jit` around it.

The order of sums differs between the two, so results differ by rounding.

Measured with JAX 0.10 on two cores, 569 × 30: a first fit compiles in 0.5 s instead of 2.7 and runs
in 1.2 ms instead of 0.4; a cross-validation of 100 lanes in 0.9 s instead of 5.4, and runs in 67 ms
instead of 13. With JAX 0.12, which knows less of it, in 1.4 s instead of 2.4 and 3.1 instead of 6.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxlr.model.batch import Batch

# Up to here a run is slower by 0.2 s at most, and compiling by 2 to 5 s quicker: a few calls in a
# process, and it has paid.
_LITTLE = 2**19
_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,  # older ones of JAX 0.10's XLA, three times as quick
}


def is_little(batch: Batch, lanes: int = 1) -> bool:
    """Whether fits to a batch are so little work that compiling takes much longer.

    Counts the values of X, the logits of all lanes, and the squares of their parameters.

    Args:
        batch: the examples.
        lanes: how many fits there are.

    >>> is_little(Batch(jnp.ones((30, 569)), jnp.ones(569)), lanes=100)
    True
    >>> is_little(Batch(jnp.ones((30, 569)), jnp.ones(569)), lanes=1000)
    False
    """
    n, m = batch.X.shape
    K = batch.n_classes if batch.n_classes > 2 else 1
    return m * (n + lanes * K) + lanes * ((n + 1) * K) ** 2 <= _LITTLE


def jit_by_work(fun: Callable[..., Any], static_argnames: tuple[str, ...] = ()) -> Callable:
    """Return `(little, *args) → fun(*args)`, jitted: compiled quickly if it is little work.

    Args:
        fun: as for `jax.jit`.
        static_argnames: as for `jax.jit`.

    >>> double = jit_by_work(lambda a: 2 * a)
    >>> float(double(True, 3.0)), float(jax.jit(lambda a: double(True, a))(3.0))
    (6.0, 6.0)
    """
    full = jax.jit(fun, static_argnames=static_argnames)

    @functools.cache
    def quick() -> Callable:
        return jax.jit(fun, static_argnames=static_argnames, compiler_options=_quick_options())

    def run(little: bool, *args: Any) -> Any:
        compiled = (
            quick() if little and jax.default_backend() == "cpu" and not _traced(args) else full
        )
        return compiled(*args)

    run._cache_size = lambda: full._cache_size() + quick()._cache_size()  # pyright: ignore
    return run


def _traced(args: Any) -> bool:
    """Whether these are values of a transformation, or this is inside a program being traced.

    JAX takes compiler options at the top level only. Inside `jax.jit` constants are traced, too.
    """
    leaves = jax.tree.leaves(args)
    return any(isinstance(leaf, Tracer) for leaf in leaves) or isinstance(jnp.asarray(0.0), Tracer)


@functools.cache
def _quick_options() -> dict[str, Any]:
    """Return the options that this JAX knows: each is tried once."""
    known = {}
    for name, value in _QUICK.items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value})()
            known[name] = value
        except jax.errors.JaxRuntimeError:  # no such option
            continue
    return known
