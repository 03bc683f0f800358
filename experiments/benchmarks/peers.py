"""How the other libraries run the workloads: each as its manual says, on the layout it likes.

Every way keeps the library's own default tolerance, or where it asks for one 1e-4 on the
gradient of the mean loss, as scikit-learn's; the table prints what that gives. A label with
a tolerance asks for more than that. Times of like excess compare like with like.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from experiments.benchmarks.timing import Fits, Ready
from experiments.benchmarks.workloads import Problem

_TOLERANCE = 1e-4
_MOST = 10_000  # iterations: a fit should end by its tolerance


def sklearn_cv(problem: Problem, solver: str, n_jobs: int, tol: float = _TOLERANCE) -> Ready:
    """scikit-learn's LogisticRegressionCV, from the weakest C on, without the last refit."""
    from sklearn.linear_model import LogisticRegressionCV

    X, y, m = _rows(problem), problem.y, problem.m_train
    assert problem.folds is not None
    splits = [(np.flatnonzero(problem.folds != f), np.flatnonzero(problem.folds == f))
              for f in problem.columns]  # fmt: skip
    C = 1 / (problem.l2 * m)
    known = LogisticRegressionCV().get_params()
    newer = {"l1_ratios": (0,), "use_legacy_attributes": True}  # in later versions only
    newer = newer if "use_legacy_attributes" in known else {}

    def run() -> Any:
        model = LogisticRegressionCV(solver=solver, n_jobs=n_jobs, refit=False, tol=tol)
        model.set_params(Cs=C, cv=splits, max_iter=_MOST, scoring="neg_log_loss", **newer)
        return _quiet(model.fit, X, y)

    def fits(model: Any) -> Fits:
        (path,) = model.coefs_paths_.values()
        path = np.asarray(path).reshape(len(splits), len(C), X.shape[1] + 1)
        sizes = np.array([len(train) for train, _ in splits])
        return Fits(
            path[..., :-1].reshape(-1, X.shape[1]),
            path[..., -1].ravel(),
            (1 / (C[None] * sizes[:, None])).ravel(),
            np.repeat(problem.columns, len(C)),
        )

    return Ready(run, fits)


def sklearn_loop(problem: Problem, solver: str, n_jobs: int = 1, tol: float = _TOLERANCE) -> Ready:
    """scikit-learn's LogisticRegression, once a lane, and the log loss of held-out rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    X = _rows(problem)

    def one(l2: float, c: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        total = len(X) if c is None else c.sum()
        model = LogisticRegression(C=1 / (l2 * total), solver=solver, tol=tol, max_iter=_MOST)
        _quiet(model.fit, X, problem.y, sample_weight=c)
        if problem.X_val is not None:
            log_loss(problem.y_val, model.predict_proba(problem.X_val))
        return model.coef_, np.asarray(model.intercept_)

    return Ready(lambda: _loop(problem, one, n_jobs), lambda found: _collect(problem, found))


def glum_loop(problem: Problem, n_jobs: int = 1) -> Ready:
    """Glum's GeneralizedLinearRegressor, once a lane."""
    from glum import GeneralizedLinearRegressor

    X, y = _rows(problem), problem.y.astype(np.float64)

    def one(l2: float, c: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        model = GeneralizedLinearRegressor(
            family="binomial", alpha=l2, l1_ratio=0, max_iter=_MOST, gradient_tol=_TOLERANCE
        )
        _quiet(model.fit, X, y, sample_weight=None if c is None else c.astype(np.float64))
        return model.coef_[None], np.atleast_1d(model.intercept_)

    return Ready(lambda: _loop(problem, one, n_jobs), lambda found: _collect(problem, found))


def statsmodels_fit(problem: Problem) -> Ready:
    """Statsmodels' Logit by Newton's method: it has no l2, so it fits without."""
    from statsmodels.api import Logit, add_constant

    X = np.asarray(add_constant(problem.X.astype(np.float64), has_constant="add"))

    def fits(found: Any) -> Fits:
        params = np.asarray(found.params)
        return Fits(params[None, 1:], params[:1], np.zeros(1), problem.columns)

    return Ready(lambda: _quiet(Logit(problem.y, X).fit, disp=0, maxiter=100), fits)


def jaxopt_lanes(problem: Problem, tol: float = _TOLERANCE) -> Ready:
    """`jax.vmap` of jaxopt.LBFGS on the plain loss."""
    import jaxopt

    def minimise(loss, start):
        solver = jaxopt.LBFGS(loss, maxiter=_MOST, tol=tol)
        return solver.run(start).params

    return _jax_lanes(problem, minimise)


def optax_lanes(problem: Problem, tol: float = _TOLERANCE) -> Ready:
    """`jax.vmap` of optax.lbfgs on the plain loss, to the same gradient."""
    import jax
    import optax

    def minimise(loss, start):
        solver = optax.lbfgs()
        value_and_grad = optax.value_and_grad_from_state(loss)

        def unfinished(carry):
            _, state = carry
            grad, count = (optax.tree.get(state, name) for name in ("grad", "count"))
            return (count == 0) | ((optax.tree.norm(grad) > tol) & (count < _MOST))

        def step(carry):
            params, state = carry
            value, grad = value_and_grad(params, state=state)
            updates, state = solver.update(
                grad, state, params, value=value, grad=grad, value_fn=loss
            )
            return optax.apply_updates(params, updates), state

        return jax.lax.while_loop(unfinished, step, (start, solver.init(start)))[0]

    return _jax_lanes(problem, minimise)


def _jax_lanes(problem: Problem, minimise) -> Ready:
    """Lanes of a general minimiser; X by columns, where JAX's products are fastest."""
    import jax
    import jax.numpy as jnp

    X, K = jax.block_until_ready(jnp.asarray(problem.X.T)), problem.n_classes
    y, l2, column = jnp.asarray(problem.y), *_lanes(problem)
    stored = None if problem.folds is None else jnp.asarray(problem.folds)
    shape = () if K == 2 else (K,)

    def lane(l2, column):
        c = jnp.ones(len(y)) if stored is None else (stored != column).astype(jnp.float32)

        def loss(params):
            w, b = params
            if K == 2:
                z = w @ X + b
                losses = jax.nn.softplus(z) - y * z
            else:
                Z = w.T @ X + b[:, None]
                losses = jax.nn.logsumexp(Z, axis=0) - jnp.take_along_axis(Z, y[None], axis=0)[0]
            return (c * losses).sum() / c.sum() + l2 / 2 * (w**2).sum()

        return minimise(loss, (jnp.zeros((X.shape[0], *shape)), jnp.zeros(shape)))

    run = jax.jit(jax.vmap(lane))
    penalties, columns = jnp.asarray(l2, jnp.float32), jnp.asarray(column)

    def fits(params: Any) -> Fits:
        used = np.asarray(penalties).astype(np.float64)
        return Fits(np.asarray(params[0]), np.asarray(params[1]), used, column)

    return Ready(lambda: run(penalties, columns), fits)


def _rows(problem: Problem) -> np.ndarray:
    """Return X as scikit-learn and glum are fastest with: in float64, row by row.

    On 32,768 × 128, against columns and float32: lbfgs 1.2 to 3 times, newton-cholesky 1.1 to 3
    times, glum 1.1 to 1.9 times.
    """
    return np.ascontiguousarray(problem.X, np.float64)


def _lanes(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    F = len(problem.columns)
    return np.repeat(problem.l2, F), np.tile(problem.columns, len(problem.l2))


def _loop(problem: Problem, one, n_jobs: int) -> list:
    plain = problem.folds is None and problem.counts is None
    lanes = [
        (l2, None if plain else problem.weights(f)) for l2, f in zip(*_lanes(problem), strict=True)
    ]
    if n_jobs == 1:
        return [one(*lane) for lane in lanes]
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=n_jobs)(delayed(one)(*lane) for lane in lanes))


def _collect(problem: Problem, found: list) -> Fits:
    w, b = (np.stack(leaves) for leaves in zip(*found, strict=True))
    l2, column = _lanes(problem)
    if problem.n_classes == 2:
        return Fits(w[:, 0], b[:, 0], l2, column)
    return Fits(np.swapaxes(w, 1, 2), b, l2, column)


def _quiet(function, *args, **options):
    """Call without warnings: what they say of the quality, the table says in numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)
