"""Times loss and gradient of many lanes: `python -m experiments.benchmarks [--quick]`.

Asks how fast one evaluation of the loss and its gradient is for 1, 8, 64 and 256 lanes that share
X, 196,608 × 128 in float32:

    jaxlr      jax.vmap of jaxlr.value_and_grad
    autodiff   jax.vmap of jax.value_and_grad of the textbook loss, softplus(z) − y·z
    products   the two matrix products alone, wᵀX and X rᵀ, which any way needs

The ways take turns, so that a machine that slows down slows all of them. Times are medians after
a warm-up; compiling is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxlr
from experiments import record

FEATURES, EXAMPLES = 128, 196_608
LANES = (1, 8, 64, 256)


def textbook(params: jaxlr.Params, batch: jaxlr.Batch) -> jax.Array:
    """Return the mean logistic loss as one writes it for autodiff."""
    z = params.w @ batch.X + params.b
    return (jax.nn.softplus(z) - batch.y * z).mean()


def products(params: jaxlr.Params, batch: jaxlr.Batch, r: jax.Array):
    """Return the two products with X that an evaluation cannot do without."""
    return params.w @ batch.X, batch.X @ r


def medians(ways: dict, repeats: int) -> dict[str, float]:
    """Return the median seconds of each way; they take turns."""
    seconds = {name: [] for name in ways}
    for run in ways.values():
        jax.block_until_ready(run())
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description="Times loss and gradient of many lanes.")
    parser.add_argument("--quick", action="store_true", help="an eighth of the examples")
    m = EXAMPLES // (8 if parser.parse_args().quick else 1)
    rng = np.random.default_rng(0)
    X = jnp.asarray(rng.standard_normal((FEATURES, m), dtype=np.float32))
    batch = jaxlr.Batch(X, jnp.asarray(rng.integers(0, 2, m).astype(np.float32)))
    ours_jit = jax.jit(jax.vmap(jaxlr.value_and_grad, in_axes=(0, None)))
    theirs_jit = jax.jit(jax.vmap(jax.value_and_grad(textbook), in_axes=(0, None)))
    bare_jit = jax.jit(jax.vmap(products, in_axes=(0, None, 0)))
    rows = []
    for lanes in LANES:
        w = 0.1 * rng.standard_normal((lanes, FEATURES), dtype=np.float32)
        params = jaxlr.Params(jnp.asarray(w), jnp.zeros(lanes))
        r = jnp.asarray(rng.standard_normal((lanes, m), dtype=np.float32))
        ways = {
            "jaxlr": lambda p=params: ours_jit(p, batch),
            "autodiff": lambda p=params: theirs_jit(p, batch),
            "products": lambda p=params, r=r: bare_jit(p, batch, r),
        }
        ours, theirs = ways["jaxlr"](), ways["autodiff"]()
        off = max(
            float(jnp.abs(a - b).max() / jnp.abs(b).max())
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
        )
        if not off < 1e-4:
            raise AssertionError(f"the ways disagree by {off:.1e}")
        rows.append({"lanes": lanes, **medians(ways, 31 if lanes < 64 else 11)})
    print(f"Loss and gradient, {m:,} × {FEATURES}, float32, {jax.devices()[0].device_kind}")
    record.print_table(
        [
            {
                "lanes": f"{row['lanes']}",
                **{
                    f"{way} ms": f"{row[way] * 1e3:.1f}"
                    for way in ("jaxlr", "autodiff", "products")
                },
                "autodiff / jaxlr": f"{row['autodiff'] / row['jaxlr']:.2f}",
                "jaxlr / products": f"{row['jaxlr'] / row['products']:.2f}",
            }
            for row in rows
        ]
    )
    path = record.save("benchmark_gradient", rows, features=FEATURES, examples=m)
    print(f"Saved {path.relative_to(record.RESULTS.parents[1])}.")


if __name__ == "__main__":
    main()
