"""By transform and by property: jit, vmap, derivatives, traces, dtypes, invariances, NaN."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxlr
from tests.helpers import (
    assert_close,
    equations,
    plain_derivatives,
    plain_loss,
    problem,
    quick,
    tiles_of,
)


@pytest.fixture(autouse=True, scope="module")
def tiles_of_eight():
    """Cut small problems into many tiles, the last of them ragged."""
    with tiles_of(8):
        yield


def example(n_classes, *, n=4, m=20, dtype="float64", **options) -> Any:
    """Arguments of `everything`."""
    params, batch = problem(n, m, n_classes, dtype=dtype, **options)
    penalty = jaxlr.Penalty(jnp.asarray(0.3, dtype), jnp.linspace(0, 2, n, dtype=dtype))
    return params, jax.tree.map(lambda a: jnp.cos(3 * a), params), batch, penalty


def _everything(params, v, batch, penalty):
    return (
        jaxlr.value_and_grad(params, batch, penalty),
        jaxlr.hvp(params, v, batch, penalty),
        jaxlr.hessian(params, batch, penalty),
    )


def _lean(params, v, batch, penalty):
    return (
        jax.value_and_grad(jaxlr.loss)(params, batch, penalty),
        jaxlr.hvp(params, v, batch, penalty),
    )


# Compiled once for each shape: the tiles of this file are always the same.
everything, lean = quick(_everything), quick(_lean)


# --- Transforms ---------------------------------------------------------------------------------


def test_jit_is_eager(x64):
    """Compiled as users compile; eager on arrays of NumPy and a penalty that is a number."""
    args = example(3, m=9, weights=True, offset=True)
    args = *args[:3], args[3]._replace(l2=0.25)
    expected = jax.jit(lambda *a: _everything(*a))(*args)
    args = jax.device_get(args)
    assert isinstance(args[2].X, np.ndarray)
    assert_close(_everything(*args), expected, "float64")
    assert_close(jax.grad(jaxlr.loss)(args[0], *args[2:]), expected[0][1], "float64")


@pytest.mark.parametrize(
    ("lanes_of", "n_classes"),
    [(name, 3) for name in ("params", "l2", "factors", "X", "y", "weights", "offset")]
    + [("l2", 2), ("y", 2), ("everything", 2), ("everything", 3)],
)
def test_vmap_is_a_loop(lanes_of, n_classes, x64):
    def draw(seed):
        params, v, batch, penalty = example(
            n_classes, m=17, seed=seed, weights=True, offset=True, soft=True
        )
        scale = 1 + seed
        return params, v, batch, jaxlr.Penalty(penalty.l2 * scale, penalty.factors**scale)

    def has_lanes(path):
        return lanes_of == "everything" or lanes_of in jax.tree_util.keystr(path) + names[path[0]]

    first, *others = (draw(seed) for seed in range(3))
    names = dict(
        zip(map(jax.tree_util.SequenceKey, range(4)), ("params", "v", "", ""), strict=True)
    )
    axes = jax.tree_util.tree_map_with_path(lambda p, _: 0 if has_lanes(p) else None, first)
    stacked = jax.tree.map(
        lambda axis, a, *rest: a if axis is None else jnp.stack([a, *rest]),
        axes, first, *others, is_leaf=lambda a: a is None,
    )  # fmt: skip
    lanes = quick(jax.vmap(_lean, in_axes=axes))(*stacked)
    for i in range(3):
        args = jax.tree.map(
            lambda axis, a, i=i: a if axis is None else a[i],
            axes, stacked, is_leaf=lambda a: a is None,
        )  # fmt: skip
        assert_close(jax.tree.map(lambda a, i=i: a[i], lanes), lean(*args), "float64")


def inner(a, b):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), a, b)))


TRANSFORMS = {  # name: (of f(params), params and v; which of the plain derivatives it gives)
    "grad": (lambda f, p, v: jax.grad(f)(p), "grad"),
    "value_and_grad": (lambda f, p, v: jax.value_and_grad(f)(p), "value grad"),
    "jvp": (lambda f, p, v: jax.jvp(f, (p,), (v,)), "value slope"),
    "vjp": (lambda f, p, v: jax.vjp(f, p)[1](jnp.ones(()))[0], "grad"),
    "linearize": (lambda f, p, v: jax.linearize(f, p)[1](v), "slope"),
    "jacfwd": (lambda f, p, v: jax.jacfwd(f)(p), "grad"),
    "checkpoint": (lambda f, p, v: jax.grad(jax.checkpoint(f))(p), "grad"),
    "forward over reverse": (lambda f, p, v: jax.jvp(jax.grad(f), (p,), (v,)), "grad hvp"),
    "reverse over forward": (
        lambda f, p, v: jax.grad(lambda p: jax.jvp(f, (p,), (v,))[1])(p),
        "hvp",
    ),
    "reverse over reverse": (
        lambda f, p, v: jax.grad(lambda p: inner(jax.grad(f)(p), v))(p),
        "hvp",
    ),
    "checkpoint twice": (
        lambda f, p, v: jax.jvp(jax.grad(jax.checkpoint(f)), (p,), (v,))[1],
        "hvp",
    ),
    "hessian": (lambda f, p, v: jax.hessian(f)(p), "hessian"),
    "jacfwd jacfwd": (lambda f, p, v: jax.jacfwd(jax.jacfwd(f))(p), "hessian"),
    "jacrev jacrev": (lambda f, p, v: jax.jacrev(jax.jacrev(f))(p), "hessian"),
    "jacrev jacfwd": (lambda f, p, v: jax.jacrev(jax.jacfwd(f))(p), "hessian"),
    "under cond": (
        lambda f, p, v: jax.grad(lambda p: lax.cond(p.b.sum() < 1e9, f, lambda p: 0.0, p))(p),
        "grad",
    ),
    "under while": (
        lambda f, p, v: jax.jvp(
            lambda p: lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, f(p)), (0, 0.0))[1],
            (p,),
            (v,),
        ),
        "value slope",
    ),
}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_derivatives_of_the_loss(name, n_classes, x64):
    args = _, v, *_ = example(n_classes, weights=True)
    (value, grad), Hv, H = plain_derivatives(*args)
    known = {"value": value, "grad": grad, "slope": inner(grad, v), "hvp": Hv, "hessian": H}
    transform, gives = TRANSFORMS[name]

    def run(params, v, batch, penalty):
        return transform(lambda p: jaxlr.loss(p, batch, penalty), params, v)

    assert_close(quick(run)(*args), [known[part] for part in gives.split()], "float64")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loop", ["scan", "fori_loop"])
def test_reverse_mode_through_a_loop_of_steps(loop, n_classes, x64):
    """Gradient descent's last loss, by the start, the step size, the penalty and the weights."""
    params, _, batch, penalty = example(n_classes, n=2, weights=True)

    def descend(steps, grad, loss):
        def last(params, rate, penalty, weights):
            data = dataclasses.replace(batch, weights=weights)

            def step(params):
                slope = grad(params, data, penalty)
                return jax.tree.map(lambda p, g: p - rate * g, params, slope)

            return loss(steps(step, params), data, penalty)

        return quick(jax.grad(last, argnums=(0, 1, 2, 3)))(params, 0.5, penalty, batch.weights)

    def compiled(step, params):
        if loop == "scan":
            return lax.scan(lambda p, _: (step(p), None), params, length=3)[0]
        return lax.fori_loop(0, 3, lambda _, p: step(p), params)

    actual = descend(compiled, jaxlr.gradient, jaxlr.loss)
    expected = descend(lambda step, p: step(step(step(p))), jax.grad(plain_loss), plain_loss)
    assert_close(actual, expected, "float64", factor=10)


# --- Compilation, dtypes ------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
def test_new_values_are_not_traced_again(n_classes):
    traces = []

    @jax.jit
    def run(*args):
        traces.append(args)
        return _lean(*args)

    for seed in range(3):
        params, v, batch, _ = example(n_classes, dtype="float32", seed=seed, weights=True)
        run(params, v, batch, jaxlr.Penalty(0.1 * seed))
        run(*jax.device_get((params, v, batch)), jaxlr.Penalty(1.0 + seed))
    assert len(traces) == 1


@pytest.mark.parametrize(("n_classes", "l2"), [(2, 0.1), (2, np.float64(0.1)), (3, 1)])
def test_dtypes_are_those_of_the_input(n_classes, l2, dtype):
    params, v, batch, _ = example(n_classes, dtype=dtype, weights=True, offset=True)
    penalty = jaxlr.Penalty(l2)

    def all_of(*args):
        return _lean(*args), _everything(*args)

    out = jax.tree.leaves(jax.eval_shape(all_of, params, v, batch, penalty))
    assert {(leaf.dtype.name, leaf.weak_type) for leaf in out} == {(dtype, False)}
    counts = dataclasses.replace(batch, weights=jnp.ones(20, "uint8"), y=batch.y > 0.5)
    out = jax.tree.leaves(jax.eval_shape(all_of, params, v, counts, penalty))
    assert {(leaf.dtype.name, leaf.weak_type) for leaf in out} == {(dtype, False)}
    if n_classes == 2:
        params, v = params._replace(b=0.0), v._replace(b=1.0)
        out = jax.tree.leaves(jax.eval_shape(_everything, params, v, batch, penalty))
        assert not any(leaf.weak_type for leaf in out)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("lanes_of", ["params", "y", "weights"])
def test_lanes_are_a_free_dimension_of_the_products_with_X(n_classes, lanes_of):
    """X stays unbatched: a product for each lane becomes one product of matrices."""
    n, lanes = 5, 6
    params, v, batch, penalty = example(n_classes, n=n, weights=True, dtype="float32")

    p, y, c = (0 if lanes_of == name else None for name in ("params", "y", "weights"))

    def stack(tree, axis):
        return tree if axis is None else jax.tree.map(lambda a: jnp.stack([a] * lanes), tree)

    new = dataclasses.replace(batch, y=stack(batch.y, y), weights=stack(batch.weights, c))
    args = stack(params, p), stack(v, p), new, penalty
    in_axes = p, p, jaxlr.Batch(None, y, c, None, n_classes), None
    jaxpr = jax.make_jaxpr(jax.vmap(_lean, in_axes))(*args)
    products, with_lanes = 0, 0
    for dot in (e for e in equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"):
        shapes = [a.aval.shape for a in dot.invars]
        of_X = [i for i, shape in enumerate(shapes) if n in shape and 7 in shape]
        if not of_X:
            continue  # a sum over the examples
        assert len(of_X) == 1, shapes
        assert shapes[of_X[0]] == (n, 7)  # a tile of X as it is: no copies of it
        contracted, batched = dot.params["dimension_numbers"]
        assert batched == ((), ()), shapes
        other = 1 - of_X[0]
        free = [d for i, d in enumerate(shapes[other]) if i not in contracted[other]]
        products, with_lanes = products + 1, with_lanes + (lanes in free)
    # In the tiles, all of one size: logits and sums of the gradient, and of hvp the logits, their
    # tangents and the sums. Lanes of y change the gradient's sums alone.
    assert products == 5
    assert with_lanes == {"params": 5, "weights": 2, "y": 1}[lanes_of]


def test_import_changes_no_global():
    """Neither settings, environment, logging nor warnings; and nothing optional is imported."""
    code = """
import json, logging, os, sys, warnings
import jax, optax
import numpy as np

def state():
    logs = [logging.getLogger(name) for name in [None, *logging.root.manager.loggerDict]]
    return {
        "config": {k: repr(v) for k, v in jax.config.values.items()},
        "environment": dict(os.environ),
        "logging": {log.name: [repr(log.handlers), log.level, log.disabled] for log in logs},
        "warnings": repr(warnings.filters),
        "numpy": [repr(np.geterr()), repr(np.get_printoptions())],
        "x64": str(jax.numpy.zeros(()).dtype),
        "path": list(sys.path),
    }

modules = set(sys.modules)
before = state()
import jaxlr
print(json.dumps([before, state(), sorted(set(sys.modules) - modules)]))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, modules = json.loads(done.stdout)
    known = {name: after["logging"].get(name) for name in before["logging"]}
    assert {**after, "logging": known} == before
    optional = {"sklearn", "matplotlib", "typer", "rich", "pyarrow", "pandas", "scipy"}
    assert not {name.partition(".")[0] for name in modules} & optional


# --- Invariances --------------------------------------------------------------------------------


def take(batch, columns):
    return jax.tree.map(lambda a: a[..., columns], batch)


def weigh(batch, weights):
    return dataclasses.replace(batch, weights=weights)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_weight_counts_copies(n_classes, dtype):
    """Weight 2 is a repeated example, weight 0 a removed one; only ratios matter."""
    params, v, batch, penalty = example(n_classes, weights=True, offset=True, dtype=dtype)
    counts = np.array([0, 1, 2, 1] * 5)
    copies = take(weigh(batch, jnp.ones(20, dtype)), np.repeat(np.arange(20), counts))
    assert copies.X.shape == batch.X.shape
    expected = everything(params, v, copies, penalty)
    for weights in (counts.astype(dtype), counts.astype("uint8"), (counts * 1e-3).astype(dtype)):
        actual = everything(params, v, weigh(batch, jnp.asarray(weights)), penalty)
        assert_close(actual, expected, dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_order_of_examples_and_features_does_not_matter(n_classes, dtype):
    params, v, batch, penalty = example(n_classes, weights=True, offset=True, dtype=dtype)
    rng = np.random.default_rng(0)
    expected = everything(params, v, batch, penalty)
    assert_close(everything(params, v, take(batch, rng.permutation(20)), penalty), expected, dtype)

    p = np.array([2, 0, 3, 1])
    params, v = (tree._replace(w=tree.w[p]) for tree in (params, v))
    batch = dataclasses.replace(batch, X=batch.X[p])
    penalty = penalty._replace(factors=penalty.factors[p])
    (value, grad), Hv, H = expected
    grad, Hv = (tree._replace(w=tree.w[p]) for tree in (grad, Hv))
    ww = jnp.take(H.w.w[p], p, axis=1 if n_classes == 2 else 2)
    bw = jnp.take(H.b.w, p, axis=0 if n_classes == 2 else 1)
    H = jaxlr.Params(jaxlr.Params(ww, H.w.b[p]), jaxlr.Params(bw, H.b.b))
    assert_close(everything(params, v, batch, penalty), ((value, grad), Hv, H), dtype)


@pytest.mark.parametrize("soft", [False, True])
def test_flipped_labels_negate_the_parameters(soft, dtype):
    params, v, batch, penalty = example(2, weights=True, soft=soft, offset=True, dtype=dtype)
    flipped = dataclasses.replace(batch, y=1 - batch.y, offset=-batch.offset)
    (value, grad), Hv, H = everything(jax.tree.map(jnp.negative, params), v, flipped, penalty)
    actual = (value, jax.tree.map(jnp.negative, grad)), Hv, H
    assert_close(actual, everything(params, v, batch, penalty), dtype)


@pytest.mark.parametrize("soft", [False, True])
def test_relabelled_classes_permute_the_parameters(soft, dtype):
    params, v, batch, penalty = example(3, weights=True, soft=soft, offset=True, dtype=dtype)
    p = np.array([2, 0, 1])  # class k of the new problem is class p[k] of the old one

    def relabel(tree):
        return jax.tree.map(lambda a: a[..., p], tree)

    y = batch.y[p] if soft else jnp.asarray(np.argsort(p))[batch.y]
    new = dataclasses.replace(batch, y=y, offset=batch.offset[p])
    (value, grad), Hv, H = everything(params, v, batch, penalty)
    ww, wb = H.w.w[:, p][..., p], H.w.b[:, p][..., p]
    H = jaxlr.Params(jaxlr.Params(ww, wb), jaxlr.Params(H.b.w[p][..., p], H.b.b[p][:, p]))
    expected = (value, relabel(grad)), relabel(Hv), H
    assert_close(everything(relabel(params), relabel(v), new, penalty), expected, dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_an_offset_is_a_feature_of_weight_one(n_classes, x64):
    params, _, batch, _ = example(n_classes, weights=True)
    w = params.w.at[0].set(1)
    value, grad = quick(jaxlr.value_and_grad)(params._replace(w=w), batch)
    offset = jnp.broadcast_to(batch.X[0], (*w.shape[1:], 20))
    less = dataclasses.replace(batch, X=batch.X[1:], offset=offset)
    actual, slope = quick(jaxlr.value_and_grad)(params._replace(w=w[1:]), less)
    assert_close((actual, slope), (value, grad._replace(w=grad.w[1:])), "float64")


# --- NaN ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("where", ["X", "y", "w", "b", "weights", "offset"])
@pytest.mark.parametrize("example_", [2, 19], ids=["whole tile", "ragged tile"])
def test_nan_is_never_finite(n_classes, where, example_, x64):
    params, v, batch, penalty = example(n_classes, weights=True, offset=True, soft=True)
    if where in ("w", "b"):
        name = getattr(params, where)
        params = params._replace(**{where: name.at[(0,) * name.ndim].set(jnp.nan)})
    else:
        spoilt = getattr(batch, where).at[..., example_].set(jnp.nan)
        batch = dataclasses.replace(batch, **{where: spoilt})
    (value, grad), Hv = lean(params, v, batch, penalty)
    for leaf in jax.tree.leaves((value, grad, Hv if where != "y" else value)):
        assert np.isnan(leaf).all()
