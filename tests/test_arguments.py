"""What cannot be used is refused at the door, in one sentence with the remedy."""

# pyright: reportArgumentType=false, reportCallIssue=false

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pyarrow as pa
import pytest

import jaxlr
from jaxlr import plots
from tests.helpers import problem

pytestmark = pytest.mark.usefixtures("quick_programs")

PENALTY = jaxlr.Penalty(0.1)
PENALTIES = jaxlr.Penalty(jnp.array([0.1, 1.0]))
KEY = jax.random.key(0)


def refused(error, words, call):
    """Check that a call is refused in one line, with these words at its beginning."""
    with pytest.raises(error) as seen:
        call()
    said = str(seen.value)
    assert said.startswith(words), said
    assert "\n" not in said


@pytest.mark.parametrize("predict", [jaxlr.predict, jaxlr.predict_proba, jaxlr.logits])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_predictions(predict, n_classes):
    params, batch = problem(3, 5, n_classes, offset=True)
    solution = jaxlr.Solution(params, *[jnp.array(0.0)] * 6)
    rows = np.asarray(batch.X).T
    for call in (predict, jax.jit(predict)):
        words = "params is a Solution where a Params is due: give its `params`."
        refused(TypeError, words, lambda: call(solution, batch.X))  # noqa: B023
        words = "X has shape (5, 3) where (3, m_examples) is due: an example is a column. Give X.T."
        refused(ValueError, words, lambda: call(params, rows))  # noqa: B023
        words = "X has shape (4, 5) where (3, m_examples) is due: an example is a column."
        refused(ValueError, words, lambda: call(params, jnp.ones((4, 5))))  # noqa: B023
        words = "X is a Batch where an array is due: give batch.X, and batch.offset if there is one"
        refused(TypeError, words, lambda: call(params, batch))  # noqa: B023
        words = "X is a list where an array is due: use Batch.from_rows or Batch.from_columns, or "
        refused(TypeError, words, lambda: call(params, rows.tolist()))  # noqa: B023
    right = np.asarray(params.w).T @ np.asarray(batch.X) + np.asarray(params.b)[..., None]
    np.testing.assert_allclose(jaxlr.logits(params, batch.X), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("predict", [jaxlr.predict, jaxlr.predict_proba, jaxlr.logits])
def test_predictions_of_a_table(predict):
    params, batch = problem(3, 5, 2)
    table = pd.DataFrame(np.asarray(batch.X).T, columns=[*"abc"])
    fix = "jnp.asarray(np.asarray(X, float).T)"
    for X in (table, table.convert_dtypes(), pa.table(dict(table))):
        words = f"X is a {type(X).__name__} where an array is due, whose columns are the examples: "
        refused(TypeError, f"{words}give {fix}.", lambda: predict(params, X))  # noqa: B023
        refused(TypeError, words, lambda: predict(params, X=X))  # noqa: B023
        given = eval(fix, {"jnp": jnp, "np": np, "X": X})
        right = predict(params, batch.X)
        np.testing.assert_allclose(predict(params, given), right, rtol=1e-5)
        np.testing.assert_allclose(jax.jit(predict)(params, given), right, rtol=1e-5)


def test_metrics_of_a_column():
    Z, y = jnp.array([1.0, -1.0, 2.0]), pd.Series([1.0, 0.0, 1.0])
    for name in ("log_loss", "accuracy", "roc_auc", "brier_score", "calibration_error"):
        words = "y is a Series where an array is due: give jnp.asarray(np.asarray(y))."
        refused(TypeError, words, lambda: getattr(jaxlr.metrics, name)(Z, y))  # noqa: B023
    assert jaxlr.metrics.accuracy(Z, jnp.asarray(np.asarray(y))) == 1


DRAWS = {
    "cross_validate": lambda b, k: jaxlr.cross_validate(b, PENALTIES, folds=2, key=k),
    "bootstrap": lambda b, k: jaxlr.bootstrap(b, PENALTY, 2, k),
    "permute": lambda b, k: jaxlr.permute(b, PENALTY, 2, k),
    "tune": lambda b, k: jaxlr.tune(b, PENALTY, folds=2, key=k, num_steps=1),
    "stratified_folds": lambda b, k: jaxlr.stratified_folds(b, 2, k),
    "repeated_folds": lambda b, k: jaxlr.repeated_folds(b, 2, 2, k),
    "group_folds": lambda b, k: jaxlr.group_folds(np.arange(b.m_examples), 2, k),
    "multinomial_counts": lambda b, k: jaxlr.multinomial_counts(k, b.m_examples),
    "poisson_counts": lambda b, k: jaxlr.poisson_counts(k, b.m_examples),
    "minibatch_descent": lambda b, k: jaxlr.minibatch_descent(
        jaxlr.init_params(3), b, optax.sgd(0.1), 2, 5, k
    ),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_keys(draw):
    _, batch = problem(3, 20)
    for key in (0, np.int32(0), jax.random.split(KEY, 3), jnp.zeros(3, jnp.uint32)):
        with pytest.raises(TypeError, match=r"^key is .* where a random key is due: give jax\.r"):
            draw(batch, key)


def test_a_seed_is_named_in_the_remedy():
    _, batch = problem(3, 20)
    words = "key is 7 where a random key is due: give jax.random.key(7)."
    refused(TypeError, words, lambda: jaxlr.bootstrap(batch, PENALTY, 2, 7))


@pytest.mark.parametrize("name", ["stratified_folds", "multinomial_counts", "minibatch_descent"])
def test_keys_of_the_old_style_draw_the_same(name):
    _, batch = problem(3, 20)
    new, old = (DRAWS[name](batch, key) for key in (KEY, jax.random.PRNGKey(0)))
    jax.tree.map(np.testing.assert_array_equal, new, old)


@pytest.mark.parametrize(
    "call",
    [
        lambda b: jaxlr.fit(b, PENALTY),
        lambda b: jaxlr.sweep(b, PENALTIES),
        lambda b: jaxlr.cross_validate(b, PENALTIES, folds=2, key=KEY),
        lambda b: jaxlr.cross_validate(b, PENALTIES, folds="loo"),
        lambda b: jaxlr.bootstrap(b, PENALTY, 2, KEY),
        lambda b: jaxlr.permute(b, PENALTY, 2, KEY),
        lambda b: jaxlr.tune(b, PENALTY, folds=2, key=KEY),
        lambda b: jaxlr.loss(jaxlr.init_params(2), b),
        lambda b: jaxlr.score(jaxlr.init_params(2), b),
        lambda b: jaxlr.stratified_folds(b, 2, KEY),
        lambda b: jaxlr.repeated_folds(b, 2, 2, KEY),
        lambda b: jaxlr.leave_one_out(jaxlr.init_params(2), b),
        lambda b: jaxlr.certify(jaxlr.init_params(2), b, PENALTY, jnp.array(0.0)),
        lambda b: jaxlr.make_curvature(jaxlr.init_params(2), b),
        lambda b: jaxlr.gradient_descent(jaxlr.init_params(2), b, optax.sgd(0.1), 2),
        lambda b: jaxlr.minibatch_descent(jaxlr.init_params(2), b, optax.sgd(0.1), 2, 2, KEY),
        lambda b: jaxlr.polish(
            jaxlr.Solution(jaxlr.init_params(2), *[jnp.array(0.0)] * 6), b, PENALTY
        ),
    ],
)
def test_lists_in_a_batch(call):
    X, y = [[1.0, 2.0, 3.0], [1.0, 0.0, 1.0]], [0, 1, 0]
    fix = "where an array is due: use Batch.from_rows or Batch.from_columns, or give jnp.asarray"
    refused(TypeError, f"X is a list {fix}(X).", lambda: call(jaxlr.Batch(X, y)))
    refused(TypeError, f"y is a list {fix}(y).", lambda: call(jaxlr.Batch(jnp.array(X), y)))
    one = jaxlr.Batch(jnp.array(X), jnp.array(y), weights=[1.0, 1.0, 1.0])
    refused(TypeError, f"weights is a list {fix}(weights).", lambda: call(one))
    rows = jaxlr.Batch(jnp.array(X).T, jnp.array(y))
    refused(ValueError, "y has shape (3,) where (2,) is due", lambda: call(rows))


def test_other_types():
    params, batch = problem(3, 20)
    words = "batch is a ndarray where a Batch is due: give Batch.from_rows(X, y), or "
    refused(TypeError, words, lambda: jaxlr.fit(np.ones((20, 3)), np.ones(20)))
    words = "penalty is a float where a Penalty is due: give Penalty(0.1)."
    refused(TypeError, words, lambda: jaxlr.fit(batch, 0.1))
    words = "penalties is a list where a Penalty is due: give Penalty(jnp.asarray(penalties))."
    refused(TypeError, words, lambda: jaxlr.sweep(batch, [0.1, 1.0]))
    words = "optimizer is a float where a GradientTransformation is due: give one of optax, such "
    refused(TypeError, words, lambda: jaxlr.gradient_descent(params, batch, 0.1, 100))
    refused(TypeError, words, lambda: jaxlr.minibatch_descent(params, batch, 0.1, 9, 5, KEY))
    words = "num_resamples is 2.5: an integer is due."
    refused(TypeError, words, lambda: jaxlr.bootstrap(batch, PENALTY, 2.5, KEY))


CALLS = {
    "fit": lambda b, **o: jaxlr.fit(b, **{"penalty": PENALTY} | o),
    "sweep": lambda b, **o: jaxlr.sweep(b, **{"penalties": PENALTIES} | o),
    "cross_validate": lambda b, **o: jaxlr.cross_validate(
        b, **{"penalties": PENALTIES, "folds": 2, "key": KEY} | o
    ),
    "bootstrap": lambda b, **o: jaxlr.bootstrap(
        b, **{"penalty": PENALTY, "num_resamples": 2, "key": KEY} | o
    ),
    "permute": lambda b, **o: jaxlr.permute(
        b, **{"penalty": PENALTY, "num_permutations": 2, "key": KEY} | o
    ),
    "tune": lambda b, **o: jaxlr.tune(b, **{"penalty": PENALTY, "folds": 2, "key": KEY} | o),
}


@pytest.mark.parametrize("name", CALLS)
def test_names_of_other_packages(name):
    _, batch = problem(3, 20)
    call = CALLS[name]
    words = f"{name} has no argument l2: give Penalty(l2=0.1)."
    refused(TypeError, words, lambda: call(batch, l2=0.1))
    words = f"{name} has no argument C: give Penalty(l2=1/(C·Σ weights))."
    refused(TypeError, words, lambda: call(batch, C=1.0))
    words = f"{name} has no argument max_iter: give max_passes=9."
    refused(TypeError, words, lambda: call(batch, max_iter=9))
    if name not in ("fit", "sweep"):
        words = f"{name} has no argument random_state: give key=jax.random.key(3)."
        refused(TypeError, words, lambda: call(batch, random_state=3))
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'colour'"):
        call(batch, colour="red")


@pytest.mark.parametrize("name", CALLS)
def test_a_function_is_seen_as_it_was_written(name):
    fun = getattr(jaxlr, name)
    assert next(iter(inspect.signature(fun).parameters)) == "batch"
    assert "kwargs" not in inspect.signature(fun).parameters
    assert fun.__doc__.partition(" ")[0] in ("Fit", "Search")
    assert pickle.loads(pickle.dumps(fun)) is fun


@pytest.mark.parametrize("name", CALLS)
def test_options(name):
    _, batch = problem(3, 20)
    call = CALLS[name]
    due = "where a number that is not negative is due: leave it out for"
    refused(ValueError, f"tol is -1.0 {due}", lambda: call(batch, tol=-1.0))
    refused(ValueError, f"tol is nan {due}", lambda: call(batch, tol=jnp.nan))
    refused(ValueError, f"max_passes is -1 {due} 500", lambda: call(batch, max_passes=-1))
    refused(TypeError, "tol is '1e-3' where a number is due", lambda: call(batch, tol="1e-3"))
    refused(ValueError, "tol has shape (2,) where one number", lambda: call(batch, tol=jnp.ones(2)))


def test_a_penalty_that_is_none():
    _, batch = problem(3, 20)
    for l2 in ("a", True):
        due = f"penalty.l2 is {l2!r} where a number is due"
        refused(TypeError, due, lambda l2=l2: jaxlr.fit(batch, jaxlr.Penalty(l2)))
    assert jaxlr.fit(batch, jaxlr.Penalty(jnp.bfloat16(0.1))).status == 0
    words = "penalty.l2 is -1.0 where a number that is not negative is due: 0 is no penalty."
    for l2 in (-1.0, np.float64(-1), jnp.array(-1.0)):
        penalty = jaxlr.Penalty(l2)
        refused(ValueError, words, lambda: jaxlr.fit(batch, penalty))  # noqa: B023
        refused(ValueError, words, lambda: jaxlr.bootstrap(batch, penalty, 2, KEY))  # noqa: B023
        refused(ValueError, words, lambda: jaxlr.permute(batch, penalty, 2, KEY))  # noqa: B023
    lanes = jaxlr.Penalty(jnp.array([0.1, -1.0]))
    of_lanes = [
        jaxlr.sweep(batch, lanes).status,
        jax.vmap(lambda l2: jaxlr.fit(batch, jaxlr.Penalty(l2)).status)(lanes.l2),
    ]
    for status in of_lanes:
        assert status.tolist() == [0, jaxlr.Status.NO_FINITE_OPTIMUM]
    traced = jax.jit(lambda tol, most: jaxlr.fit(batch, PENALTY, tol=tol, max_passes=most).status)
    assert jaxlr.Status(int(traced(-1.0, 500))).ok  # to the precision
    assert traced(1e-9, -1) == jaxlr.Status.OUT_OF_PASSES


def test_plots():
    _, batch = problem(3, 20)
    solution = jaxlr.sweep(batch, PENALTIES)
    words = "result is a Solution where a CrossValidation is due: `cross_validate` returns it."
    refused(TypeError, words, lambda: plots.validation_curve(solution))
    refused(TypeError, words, lambda: plots.sweep_figure(solution, solution))
    words = "solution is a Params where a Solution is due"
    refused(TypeError, words, lambda: plots.coefficient_path([0.1, 1.0], solution.params))
    words = "w is a Solution where an array is due, such as solution.params.w."
    refused(TypeError, words, lambda: plots.coefficients(solution))
    words = "w is a Params where an array is due, such as solution.params.w."
    refused(TypeError, words, lambda: plots.coefficients(solution.params))
    words = "losses is a Descent where an array is due, such as descent.losses."
    descent = jaxlr.Descent(solution.params, jnp.ones((2, 3)))
    refused(TypeError, words, lambda: plots.learning_curves(descent, [0.1, 1.0]))
    functions = (plots.roc_curve, plots.precision_recall_curve, plots.reliability_diagram)
    for function in (*functions, jaxlr.metrics.log_loss, jaxlr.metrics.roc_auc):
        words = "Z is a Params where an array is due, such as jaxlr.logits(params, batch.X)."
        refused(TypeError, words, lambda: function(solution.params, batch))  # noqa: B023
        words = "y is a Batch where an array is due, such as batch.y."
        refused(TypeError, words, lambda: function(jnp.ones(20), batch))  # noqa: B023
    words = "key is 0 where a random key is due"
    refused(TypeError, words, lambda: plots.roc_curve(jnp.ones(20), batch.y, key=0))
