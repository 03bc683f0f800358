"""How right, and how dear, is the derivative of a held-out loss with respect to the penalties?

The hypergradient: a fit to some examples with a penalty factor exp(uⱼ) for each feature, the loss
of others under it, and its gradient with respect to u. Three questions:

    accuracy   jaxlr's error against the tolerance of the fit, in both dtypes; beside it
               central differences of refits to the last digit;
    peers      error and time beside jaxopt's implicit differentiation, through its L-BFGS, and
               beside gradient descent with momentum that is differentiated step by step;
    jacobians  the derivatives of 100 fits with respect to their penalties, under vmap, against
               the fits alone, on 196,608 × 128.

Run `python -m experiments.hypergradient`. It prints two tables, and saves figures and a picture
under `experiments/results/`.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxlr
from experiments import record
from experiments.benchmarks.workloads import correlated

BUDGET = 1.0  # seconds of warm runs of a way
TIGHT = 1e-30  # of the refits: below what float64 resolves
STENCIL = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])  # of 8 points: the error falls as h⁸
SHORTER = np.array([3 / 4, -3 / 20, 1 / 60, 0.0])  # of 6 of them


class Problem(NamedTuple):
    """Examples to fit, `train`, examples to score, `held_out`, and the strength of the penalty."""

    train: jaxlr.Batch
    held_out: jaxlr.Batch
    l2: float


def drawn(m: int, n: int, dtype: str, C: float = 1.0) -> Problem:
    """Return m examples of correlated columns to fit and m to score; the same in each dtype."""
    X, y = correlated(2 * m, n, np.random.default_rng(0))
    X, y = jnp.asarray(X.T, dtype), jnp.asarray(y, dtype)
    halves = (jaxlr.Batch(X[:, half], y[half]) for half in (slice(m), slice(m, None)))
    return Problem(*halves, l2=1 / (C * m))


def held_out_loss(u: Any, problem: Problem, tol: Any = None) -> Any:
    """Return the loss of the held-out examples under the fit with penalty factors exp(u)."""
    penalty = jaxlr.Penalty(problem.l2, jnp.exp(u))
    return jaxlr.loss(jaxlr.fit(problem.train, penalty, tol=tol).params, problem.held_out)


def differences(problem: Problem, h: float = 0.05) -> tuple[np.ndarray, float]:
    """Return central differences of tight refits at u = 0, and how far two formulas differ.

    The distance is relative to the norm, of the formula of 8 points to that of 6. To be called in
    float64.
    """
    n = problem.train.n_features
    shifts = h * np.concatenate([np.arange(1, 5), -np.arange(1, 5)])

    @jax.jit
    def at(j):
        u = jnp.asarray(shifts)[:, None] * jax.nn.one_hot(j, n)[None]
        return jax.vmap(lambda u: held_out_loss(u, problem, tol=TIGHT))(u)

    values = np.asarray(lax.map(at, jnp.arange(n), batch_size=min(n, 16)))
    odd = (values[:, :4] - values[:, 4:]) / h
    best = odd @ STENCIL
    return best, float(np.linalg.norm(odd @ SHORTER - best) / np.linalg.norm(best))


def deviation(gradient: Any, reference: np.ndarray) -> float:
    """Return the error of a gradient, relative to the norm."""
    gap = np.asarray(gradient, np.float64) - reference
    return float(np.linalg.norm(gap) / np.linalg.norm(reference))


def accuracy(problem: Problem, tolerances: np.ndarray, reference: np.ndarray) -> list[float]:
    """Return the error of jaxlr's hypergradient for each tolerance of the fit."""
    gradient = jax.jit(jax.grad(held_out_loss))
    u = jnp.zeros(problem.train.n_features, problem.train.X.dtype)
    return [
        deviation(gradient(u, problem, jnp.asarray(tol, u.dtype)), reference) for tol in tolerances
    ]


# --- The ways ------------------------------------------------------------------------------------


def _plain(params: Any, batch: jaxlr.Batch) -> Any:
    w, b = params
    z = w @ batch.X + b
    return (jax.nn.softplus(z) - batch.y * z).mean()


def _objective(params: Any, u: Any, problem: Problem) -> Any:
    return _plain(params, problem.train) + problem.l2 / 2 * (jnp.exp(u) * params[0] ** 2).sum()


def _start(problem: Problem) -> tuple:
    dtype = problem.train.X.dtype
    return jnp.zeros(problem.train.n_features, dtype), jnp.zeros((), dtype)


def by_jaxopt(u: Any, problem: Problem, tol: float, system: float | None) -> Any:
    """Through jaxopt.LBFGS; `system` is the tolerance of its conjugate gradients.

    None leaves jaxopt's default for the linear system: conjugate gradients on the normal
    equations, to 1e-5.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is no longer maintained
        import jaxopt
        from jaxopt.linear_solve import solve_cg

    options: dict[str, Any] = {}
    if system is not None:
        solve = partial(solve_cg, tol=system, maxiter=2000)
        options["implicit_diff_solve"] = solve
    objective = partial(_objective, problem=problem)
    solver = jaxopt.LBFGS(objective, maxiter=5000, tol=tol, implicit_diff=True, **options)
    return _plain(solver.run(_start(problem), u).params, problem.held_out)


def unrolled(u: Any, problem: Problem, num_steps: int, momentum: float = 0.95) -> Any:
    """Through every step of Nesterov's descent; the steps are computed again on the way back.

    The rate is 1/L, with L the greatest curvature that the loss can have.
    """
    X = problem.train.X
    A = X @ X.T / X.shape[1]
    rate = 4 / lax.stop_gradient(jnp.linalg.norm(A, 2))
    optimizer = optax.sgd(rate, momentum=momentum, nesterov=True)

    @jax.checkpoint
    def step(state, _):
        params, moments = state
        slope = jax.grad(_objective)(params, u, problem)
        updates, moments = optimizer.update(slope, moments, params)
        return (optax.apply_updates(params, updates), moments), None

    start = _start(problem)
    (params, _), _ = lax.scan(step, (start, optimizer.init(start)), None, length=num_steps)
    return _plain(params, problem.held_out)


def ways(dtype: str) -> dict[str, Callable[..., Any]]:
    """Return the ways by name: each a function from u and a problem to the held-out loss."""
    tight = {"float64": (1e-6, 1e-9, 1e-12), "float32": (1e-4, 1e-5, 1e-6)}[dtype]
    found: dict[str, Callable[..., Any]] = {"jaxlr": held_out_loss}
    if importlib.util.find_spec("jaxopt") is None:
        print("jaxopt is missing: its rows are left out (pip install jaxopt).")
    else:
        found["jaxopt, defaults"] = partial(by_jaxopt, tol=1e-3, system=None)
        for tol in tight:
            found[f"jaxopt, tol {tol:.0e}"] = partial(by_jaxopt, tol=tol, system=tol)
    for steps in (100, 300, 1000):
        found[f"unrolled, {steps} steps"] = partial(unrolled, num_steps=steps)
    return found


def timed(run: Callable[[], Any], repeats: int = 7, budget: float = BUDGET) -> tuple[Any, float]:
    """Return the answer of the first run, and the median time of those after it."""
    answer, seconds = jax.block_until_ready(run()), []
    while not seconds or (len(seconds) < repeats and sum(seconds) < budget):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return answer, statistics.median(seconds)


def compare(problem: Problem, reference: np.ndarray) -> list[dict[str, Any]]:
    """Return error and time of each way, in the dtype of the problem."""
    dtype = problem.train.X.dtype
    u, rows = jnp.zeros(problem.train.n_features, dtype), []
    for name, way in ways(dtype.name).items():
        gradient = jax.jit(jax.value_and_grad(way))
        (_, answer), seconds = timed(lambda: gradient(u, problem))  # noqa: B023
        row = {"way": name, "dtype": dtype.name, "seconds": seconds}
        rows.append(row | {"error": deviation(answer, reference)})
    for row in rows:
        row["times"] = row["seconds"] / rows[0]["seconds"]
    return rows


def jacobians(batch: jaxlr.Batch, l2: Any) -> dict[str, Any]:
    """Return the time of fits under vmap over l2, and of the fits with their derivatives."""

    def params(l2):
        solution = jaxlr.fit(batch, jaxlr.Penalty(l2))
        return solution.params, solution

    fits = jax.jit(jax.vmap(lambda l2: params(l2)[1]))
    derived = jax.jit(jax.vmap(jax.jacfwd(params, has_aux=True)))
    solutions, alone = timed(lambda: fits(l2))
    (slopes, _), both = timed(lambda: derived(l2))
    solutions.raise_if_failed()
    assert all(bool(jnp.isfinite(a).all()) for a in slopes)
    return {"lanes": len(l2), "fits": alone, "fits and jacobians": both, "ratio": both / alone}


# --- What is shown -------------------------------------------------------------------------------


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table of the ways."""

    def cells(row):
        return {
            "way": row["way"],
            "dtype": row["dtype"],
            "error": f"{row['error']:.0e}",
            "ms": f"{row['seconds'] * 1e3:,.0f}",
            "times jaxlr": f"{row['times']:.1f}",
        }

    record.print_table([cells(row) for row in rows])


def draw(curves: dict[str, tuple[np.ndarray, list[float]]], rows: list[dict[str, Any]]) -> None:
    """Draw the error against the tolerance, and against the time of each way."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    colours = {"float64": "#0072B2", "float32": "#E69F00"}
    for dtype, (tolerances, errors) in curves.items():
        left.loglog(tolerances, errors, "o-", ms=4, color=colours[dtype], label=dtype)
    ends = np.array([1e-20, 1e-2])
    left.loglog(ends, ends**0.5, ":", color="grey", label="√tolerance", zorder=0)
    left.set(
        title="jaxlr: error against the tolerance of the fit",
        xlabel="tolerance", ylabel="relative error of the hypergradient",
    )  # fmt: skip
    left.invert_xaxis()
    left.legend(frameon=False)
    markers = {"jaxlr": "*", "jaxopt": "o", "unrolled": "s"}
    for dtype, colour in colours.items():
        for kind, marker in markers.items():
            mine = [r for r in rows if r["way"].startswith(kind) and r["dtype"] == dtype]
            places = [r["seconds"] * 1e3 for r in mine], [r["error"] for r in mine]
            size = 13 if kind == "jaxlr" else 6
            right.loglog(*places, marker, ls="-", lw=0.7, ms=size, color=colour, label=kind)
    handles = [h for h in right.get_lines() if h.get_color() == colours["float64"]]
    right.legend(handles=handles, frameon=False)
    right.set(title="each way: error against time", xlabel="ms", ylabel="relative error")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    record.RESULTS.mkdir(exist_ok=True)
    figure.savefig(record.RESULTS / "hypergradient.png", dpi=150)


def main() -> None:
    """Answer the three questions; print, save and draw."""
    m, n = 40_000, 32
    curves: dict[str, tuple[np.ndarray, list[float]]] = {}
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        reference, doubt = differences(drawn(m, n, "float64"))
    for dtype, least in (("float64", -20), ("float32", -10)):
        with jax.enable_x64(dtype == "float64"):
            problem = drawn(m, n, dtype)
            tolerances = 10.0 ** np.arange(-2, least - 1, -1)
            curves[dtype] = tolerances, accuracy(problem, tolerances, reference)
            rows += compare(problem, reference)
    print(f"Hypergradient, {m:,} examples × {n} features, against differences of tight refits")
    print(f"(formulas of 8 and 6 points differ by {doubt:.0e})")
    show(rows)
    X, y = correlated(196_608, 128, np.random.default_rng(1))
    batch = jaxlr.Batch(jnp.asarray(X.T), jnp.asarray(y, jnp.float32))
    cost = jacobians(batch, jnp.asarray(np.logspace(4, -4, 100) / len(y), jnp.float32))
    print(
        f"\n{cost['lanes']} fits of 196,608 × 128 in float32: {cost['fits']:.2f} s; with the "
        f"derivatives of all parameters with respect to l2: {cost['fits and jacobians']:.2f} s, "
        f"{cost['ratio']:.2f} times as long."
    )
    errors = {name: dict(zip(*map(list, curve), strict=True)) for name, curve in curves.items()}
    path = record.save("hypergradient", rows, doubt=doubt, errors=errors, jacobians=cost)
    draw(curves, rows)
    print(f"Saved {path.relative_to(record.RESULTS.parents[1])} and hypergradient.png beside it.")


if __name__ == "__main__":
    main()
