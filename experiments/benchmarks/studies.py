"""Two studies without fits by others: loss and gradient (W6), and how time grows (W10)."""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxlr
from experiments.benchmarks import workloads

_LANES = (1, 8, 64, 256)
_WAYS = ("jaxlr", "autodiff", "products")


def textbook(params: jaxlr.Params, batch: jaxlr.Batch) -> jax.Array:
    """Return the mean logistic loss as one writes it for autodiff."""
    z = params.w @ batch.X + params.b
    return (jax.nn.softplus(z) - batch.y * z).mean()


def products(params: jaxlr.Params, batch: jaxlr.Batch, r: jax.Array):
    """Return the two products with X that an evaluation cannot do without."""
    return params.w @ batch.X, batch.X @ r


def medians(ways: dict, repeats: int) -> dict[str, float]:
    """Return the median seconds of each way; they take turns, and so slow down together."""
    seconds = {name: [] for name in ways}
    for run in ways.values():
        jax.block_until_ready(run())
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def gradient(quick: bool) -> dict[str, Any]:
    """W6: one evaluation of loss and gradient, against autodiff and the two bare products."""
    n, m = 128, 196_608 // (8 if quick else 1)
    rng = np.random.default_rng(0)
    X = jnp.asarray(rng.standard_normal((n, m), dtype=np.float32))
    batch = jaxlr.Batch(X, jnp.asarray(rng.integers(0, 2, m).astype(np.float32)))
    ours_jit = jax.jit(jax.vmap(jaxlr.value_and_grad, in_axes=(0, None)))
    theirs_jit = jax.jit(jax.vmap(jax.value_and_grad(textbook), in_axes=(0, None)))
    bare_jit = jax.jit(jax.vmap(products, in_axes=(0, None, 0)))
    rows = []
    for lanes in _LANES:
        w = 0.1 * rng.standard_normal((lanes, n), dtype=np.float32)
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
    table = [
        {
            "lanes": f"{row['lanes']}",
            **{f"{way} ms": f"{row[way] * 1e3:.1f}" for way in _WAYS},
            "autodiff / jaxlr": f"{row['autodiff'] / row['jaxlr']:.2f}",
            "jaxlr / products": f"{row['jaxlr'] / row['products']:.2f}",
        }
        for row in rows
    ]
    title = f"loss and gradient, {m:,} × {n}, float32, {jax.devices()[0].device_kind}"
    return {"title": title, "rows": rows, "table": table, "more": {"examples": m, "features": n}}


def growth(quick: bool) -> dict[str, Any]:
    """W10: a sweep's warm time while examples, features or lanes double, and the exponents.

    The exponent of the time of a pass says how the code grows; that of the whole also has the
    passes, which the data decide.
    """
    base = {"m": 8_192, "n": 16, "lanes": 8} if quick else {"m": 49_152, "n": 32, "lanes": 16}
    doublings = 3 if quick else 4
    rows, exponents = [], {}
    for varied in base:
        ours = []
        for k in range(doublings + 1):
            size = {**base, varied: base[varied] * 2**k}
            ours.append({"varied": varied, **size, **_sweep_time(**size)})
        rows += ours
        sizes = np.log([row[varied] for row in ours])
        for kind in ("seconds", "pass_seconds"):
            times = np.log([row[kind] for row in ours])
            exponents[f"{varied} {kind}"] = float(np.polyfit(sizes, times, 1)[0])
    table = [
        {
            "varied": row["varied"],
            **{key: f"{row[key]:,}" for key in base},
            "ms": f"{row['seconds'] * 1e3:.1f}",
            "passes": f"{row['passes']}",
            "ms a pass": f"{row['pass_seconds'] * 1e3:.2f}",
            "exponent": f"{exponents[row['varied'] + ' seconds']:.2f}",
            "a pass": f"{exponents[row['varied'] + ' pass_seconds']:.2f}",
        }
        for row in rows
    ]
    title = "growth: a warm sweep while one size doubles, with fitted exponents"
    return {"title": title, "rows": rows, "table": table, "more": {"exponents": exponents}}


def _sweep_time(m: int, n: int, lanes: int) -> dict[str, Any]:
    X, y = workloads.correlated(m, n, np.random.default_rng(10))
    batch = jaxlr.Batch.from_rows(X, y)
    penalty = jaxlr.Penalty(jnp.logspace(-6, -1, lanes))
    passes = int(jaxlr.sweep(batch, penalty).num_passes.max())
    seconds = medians({"jaxlr": lambda: jaxlr.sweep(batch, penalty)}, 5)["jaxlr"]
    return {"seconds": seconds, "passes": passes, "pass_seconds": seconds / passes}
