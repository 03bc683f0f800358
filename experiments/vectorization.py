"""Vectorisation, the lecture as an experiment: from two explicit loops to 64 models at once.

Asks what each step away from explicit loops buys. Gradient descent on the mean logistic loss,

    Z = wᵀX + b,  A = σ(Z),  dZ = A − Y,  dw = X dZᵀ/m,  db = mean(dZ),
    w := w − α·dw,  b := b − α·db,

written in seven ways, all of which compute the loss as well and end at the same parameters:

    (a) two explicit loops, over the examples and over the features
    (b) one loop over the examples, with dw a vector
    (c) NumPy without loops
    (d) jax.jit of one step; Python goes from step to step
    (e) the whole loop of steps in lax.fori_loop: jaxlr.gradient_descent
    (f) 64 learning rates under jax.vmap of (e)
    (g) the lanes of (f) shared out over the cores, each of them a device of JAX

Run `python -m experiments.vectorization`. It prints a table for the breast cancer data
(30 features, 569 examples) and one for larger data drawn at random (100 features, 20,000
examples), each with the time of the matrix products alone, below which no way of writing it gets,
and saves figures and a picture under `experiments/results/`.
"""

from __future__ import annotations

import functools
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxlr
from experiments import record

ALPHA = 0.1
NUM_MODELS = 64
RATES = np.geomspace(ALPHA / 32, ALPHA * 32, NUM_MODELS + 1)[:-1]  # ALPHA is the one in the middle
LANE = int(np.argmin(np.abs(RATES - ALPHA)))
FEW, MANY = 2, 50  # steps: of (a) and (b), which are slow; of the others
BOUND = {"float64": 1e-12, "float32": 1e-5}


def two_loops(X, Y, num_steps):
    """(a) An example at a time, and in it a feature at a time."""
    n, m = X.shape
    X, Y = X.tolist(), Y.tolist()
    w, b, J = [0.0] * n, 0.0, 0.0
    for _ in range(num_steps):
        J, dw, db = 0.0, [0.0] * n, 0.0
        for i in range(m):
            z = b
            for j in range(n):
                z += w[j] * X[j][i]
            a = 1 / (1 + math.exp(-z))
            J -= Y[i] * math.log(a) + (1 - Y[i]) * math.log(1 - a)
            dz = a - Y[i]
            for j in range(n):
                dw[j] += X[j][i] * dz
            db += dz
        J /= m
        for j in range(n):
            w[j] -= ALPHA * dw[j] / m
        b -= ALPHA * db / m
    return np.array(w), b


def one_loop(X, Y, num_steps):
    """(b) An example at a time; its features are a vector."""
    n, m = X.shape
    columns = np.ascontiguousarray(X.T)
    w, b, J = np.zeros(n, X.dtype), X.dtype.type(0), 0.0
    for _ in range(num_steps):
        J, dw, db = 0.0, np.zeros(n, X.dtype), X.dtype.type(0)
        for x, y in zip(columns, Y, strict=True):
            a = 1 / (1 + np.exp(-(w @ x + b)))
            J -= y * np.log(a) + (1 - y) * np.log(1 - a)
            dz = a - y
            dw += x * dz
            db += dz
        J /= m
        w -= X.dtype.type(ALPHA) * dw / m
        b -= X.dtype.type(ALPHA) * db / m
    return w, b


def without_loops(X, Y, num_steps):
    """(c) All examples at once, in NumPy."""
    n, m = X.shape
    alpha = X.dtype.type(ALPHA)
    w, b = np.zeros(n, X.dtype), X.dtype.type(0)
    for _ in range(num_steps):
        # w @ X has an entry for each of the m examples and b is one number. NumPy broadcasts it:
        # b is added to every entry, as if it were a vector of m copies, and no copy is made.
        Z = w @ X + b
        A = 1 / (1 + np.exp(-Z))
        _ = -(Y * np.log(A) + (1 - Y) * np.log(1 - A)).mean()
        dZ = A - Y
        dw, db = X @ dZ / m, dZ.mean()
        w = w - alpha * dw
        b = b - alpha * db
    return w, b


@jax.jit
def _one_step(params, batch):
    value, grad = jaxlr.value_and_grad(params, batch)
    return value, jax.tree.map(lambda p, g: p - ALPHA * g, params, grad)


def compiled_step(X, Y, num_steps):
    """(d) One step compiled; Python goes from step to step."""
    params, batch = jaxlr.init_params(X.shape[0], dtype=X.dtype), jaxlr.Batch(X, Y)
    for _ in range(num_steps):
        _, params = _one_step(params, batch)
    return jax.block_until_ready(params)


def _descend(X, Y, rate, num_steps):
    start = jaxlr.init_params(X.shape[0], dtype=X.dtype)
    return jaxlr.gradient_descent(start, jaxlr.Batch(X, Y), optax.sgd(rate), num_steps)


_descend_jit = jax.jit(_descend, static_argnums=3)
_descend_many = jax.jit(jax.vmap(_descend, in_axes=(None, None, 0, None)), static_argnums=3)


def compiled_loop(X, Y, num_steps):
    """(e) All steps in one compiled loop."""
    rate = jnp.asarray(ALPHA, X.dtype)
    return jax.block_until_ready(_descend_jit(X, Y, rate, num_steps)).params


def many_models(X, Y, num_steps):
    """(f) A model for each of 64 learning rates."""
    rates = jnp.asarray(RATES, X.dtype)
    return jax.block_until_ready(_descend_many(X, Y, rates, num_steps)).params


def _on_one_device(X, Y):
    return jnp.asarray(X), jnp.asarray(Y)


def _lanes_over_cores() -> NamedSharding:
    cores = math.gcd(NUM_MODELS, jax.local_device_count())  # that share the models evenly
    return NamedSharding(Mesh(np.array(jax.devices()[:cores]), ("lanes",)), PartitionSpec("lanes"))


def _on_all_devices(X, Y):
    return jax.device_put((X, Y), NamedSharding(_lanes_over_cores().mesh, PartitionSpec()))


def over_cores(X, Y, num_steps):
    """(g) As (f), each core with its share of the models; X and Y are on all of them."""
    rates = jax.device_put(RATES.astype(X.dtype), _lanes_over_cores())
    return jax.block_until_ready(_descend_many(X, Y, rates, num_steps)).params


@functools.partial(jax.jit, static_argnums=1)
def _multiply(X, num_steps):
    W = jnp.ones((NUM_MODELS, X.shape[0]), X.dtype)
    return jax.lax.fori_loop(0, num_steps, lambda _, W: 1e-6 * ((W @ X) @ X.T), W)


def products_alone(X, Y, num_steps):
    """The two products with X of each step of (f) and no more: what no way of writing it beats."""
    jax.block_until_ready(_multiply(X, num_steps))


class Way(NamedTuple):
    """One way to write gradient descent."""

    name: str
    run: Callable
    num_steps: int = MANY  # that are timed
    repeats: int = 9
    place: Callable = lambda X, Y: (X, Y)  # where the data are, before the clock starts
    models: int = 1


WAYS = [
    Way("(a) two loops", two_loops, FEW, 1),
    Way("(b) one loop", one_loop, FEW, 1),
    Way("(c) NumPy, no loops", without_loops),
    Way("(d) jit of a step", compiled_step, place=_on_one_device),
    Way("(e) fori_loop", compiled_loop, place=_on_one_device),
    Way(f"(f) vmap, {NUM_MODELS} models", many_models, place=_on_one_device, models=NUM_MODELS),
    Way("(g) (f) over the cores", over_cores, place=_on_all_devices, models=NUM_MODELS),
    Way("products of (f) alone", products_alone, place=_on_one_device, models=NUM_MODELS),
]


def deviation(params: Any, reference: Any) -> float:
    """Return the largest difference of two results, relative to the largest parameter."""
    a, b = (np.append(np.asarray(w, np.float64), float(b)) for w, b in (params, reference))
    return float(np.abs(a - b).max() / np.abs(b).max())


def measure(X: np.ndarray, Y: np.ndarray) -> list[dict[str, Any]]:
    """Time each way on rows of NumPy's and of JAX's arrays, and compare where they end."""
    dtype = X.dtype.name
    exact = {
        num_steps: without_loops(X.astype("float64"), Y.astype("float64"), num_steps)
        for num_steps in (FEW, MANY)
    }
    rows = []
    for way in WAYS:
        data = way.place(X, Y)
        params = way.run(*data, way.num_steps)  # compiles, and warms the caches
        if way.models > 1:  # of all models the one with rate α
            params = jax.tree.map(lambda a: a[LANE], params)
        off = None if params is None else deviation(params, exact[way.num_steps])
        if off is not None and not off <= BOUND[dtype]:
            raise AssertionError(f"{way.name} ends {off:.1e} away in {dtype}")
        seconds = []
        for _ in range(way.repeats):
            start = time.perf_counter()
            way.run(*data, way.num_steps)
            seconds.append(time.perf_counter() - start)
        step = statistics.median(seconds) / way.num_steps
        rows.append(
            {"way": way.name, "dtype": dtype, "step": step, "model": step / way.models, "off": off}
        )
    reference = next(row for row in rows if row["way"].startswith("(c)"))
    for row in rows:
        row["speed"] = reference["model"] / row["model"]
    return rows


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's breast cancer data, standardised: `(30, 569)` and `(569,)`."""
    from sklearn.datasets import load_breast_cancer

    X, y = map(np.asarray, load_breast_cancer(return_X_y=True))
    return np.ascontiguousarray(((X - X.mean(0)) / X.std(0)).T), y.astype("float64")


def drawn(n: int = 100, m: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return normal features and labels drawn from a logistic model: `(n, m)` and `(m,)`."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, m)) / math.sqrt(n)
    y = rng.uniform(size=m) < 1 / (1 + np.exp(-(3 * rng.normal(size=n)) @ X))
    return X, y.astype("float64")


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table of one data set."""

    def cells(row):
        speed = row["speed"]
        return {
            "way": row["way"],
            "dtype": row["dtype"],
            "µs per step": f"{row['step'] * 1e6:,.1f}",
            "µs per step and model": f"{row['model'] * 1e6:,.2f}",
            "speed": f"{speed:.1f}×" if speed >= 0.1 else f"1/{1 / speed:,.0f}",
            "deviation": "" if row["off"] is None else f"{row['off']:.0e}",
        }

    record.print_table([cells(row) for row in rows])


def draw(results: dict[str, list[dict[str, Any]]]) -> None:
    """Save a bar for each way: time per step and model, both data sets side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (title, rows) in zip(figure.subplots(1, 2, sharey=True), results.items(), strict=True):
        for shift, dtype, colour in ((-0.2, "float64", "#0072B2"), (0.2, "float32", "#E69F00")):
            chosen = [row for row in rows if row["dtype"] == dtype]
            places = np.arange(len(chosen)) + shift
            times = [row["model"] * 1e6 for row in chosen]
            ax.barh(places, times, 0.38, label=dtype, color=colour)
            for place, t in zip(places, times, strict=True):
                ax.text(t * 1.2, place, f"{t:,.3g}", va="center", fontsize=7)
        ax.set(title=title, xscale="log", xlabel="µs per step and model (log scale)")
        ax.set_xlim(right=ax.get_xlim()[1] * 6)
        ax.set_yticks(range(len(WAYS)), [way.name for way in WAYS])
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    figure.axes[1].legend(frameon=False, loc="lower right")
    record.RESULTS.mkdir(exist_ok=True)
    figure.savefig(record.RESULTS / "vectorization.png", dpi=150)


def main() -> None:
    """Run both data sets in both dtypes; print, save and draw."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    data = {
        "breast cancer, 30 × 569": breast_cancer(),
        "drawn at random, 100 × 20,000": drawn(),
    }
    results: dict[str, list[dict[str, Any]]] = {}
    with jax.enable_x64(True):
        for title, (X, Y) in data.items():
            results[title] = []
            for dtype in ("float64", "float32"):
                results[title] += measure(X.astype(dtype), Y.astype(dtype))
            print(f"\nGradient descent on {title} (features × examples)")
            show(results[title])
    print(
        "\nEach step computes the loss, its gradient and the update. Medians of 9 runs of 50"
        "\nsteps after a warm-up; (a) and (b): one run of 2. Compiling is not counted. Speed: per"
        "\nmodel, against (c) in the same dtype. Deviation: largest difference of the parameters"
        "\nfrom (c) in float64 after the same steps, relative to the largest parameter."
    )
    rows = [{"data": title, **row} for title, rows in results.items() for row in rows]
    path = record.save("vectorization", rows, models=NUM_MODELS, steps=MANY)
    draw(results)
    print(f"\nSaved {path.relative_to(record.RESULTS.parents[1])} and vectorization.png beside it.")


if __name__ == "__main__":
    main()
