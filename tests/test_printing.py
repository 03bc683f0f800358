"""What `print` and notebooks show: words and numbers that were put in, whatever the leaves are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr import Batch, CrossValidation, Descent, Params, Penalty, Scores, Solution, Tuned

ONE = Solution(
    params=Params(jnp.zeros(3, jnp.float32), jnp.zeros((), jnp.float32)),
    loss=jnp.float32(0.25),
    gradient_norm=jnp.float32(1e-7),
    suboptimality=jnp.float32(2e-12),
    num_passes=jnp.int32(14),
    status=jnp.int32(1),
    estimate=jnp.float32(3e-13),
)
LANES = jax.tree.map(lambda a: jnp.stack([a, a, a]), ONE)._replace(
    loss=np.array([0.5, np.nan, 0.125], np.float32), status=np.array([0, 4, 0])
)
FOUND = CrossValidation(
    Penalty(np.array([0.01, 0.1])),
    jax.tree.map(lambda a: jnp.stack([jnp.stack([a] * 3)] * 2), ONE),
    Scores(np.array([[0.5, 0.6, 0.7], [0.7, 0.8, 0.9]]), np.full((2, 3), 0.75)),
    np.array(0), np.array(1),
)  # fmt: skip
BATCH = Batch(jnp.ones((30, 569), jnp.float32), jnp.ones(569, jnp.float32), intercept=False)
TUNED = Tuned(Penalty(0.5), 0.25, np.zeros(2), ONE, np.zeros(9), np.int32(9), np.int32(1))
TEXTS = {
    "batch": (BATCH, "Batch of 569 examples × 30 features, 2 classes, no intercept\n"
              "  X  f32[30,569]\n  y  f32[569]"),
    "penalty": (Penalty(np.array([1e-3, 10.0])), "Penalty\n  l2  f64[2] from 0.001 to 10"),
    "factors": (Penalty(0.5, jnp.ones(3, jnp.bfloat16)),
                "Penalty\n  l2       0.5\n  factors  bf16[3] from 1 to 1"),
    "one": (ONE, "Solution: precision reached\n  w              f32[3]\n  b              f32[]\n"
            "  loss           0.25\n  gradient_norm  1e-07\n  suboptimality  2e-12\n"
            "  estimate       3e-13\n  num_passes     14"),
    "lanes": (LANES, "Solution of 3 lanes: 2 converged, 1 not finite\n"),
    "found": (FOUND, "CrossValidation of 2 × 3 lanes: precision reached\n"
              "  log_loss     f64[2,3] from 0.5 to 0.9\n  accuracy     f64[2,3] from 0.75 to 0.75\n"
              "  best         0, l2 = 0.01, mean log loss 0.6000\n  best_one_se  1, l2 = 0.1"),
    "descent": (Descent(ONE.params, np.array([0.75, 0.5])), "Descent of 2 steps\n"),
    "tuned": (TUNED, "Tuned: at bound\n  l2         0.5\n  value      0.25\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_text_and_table(name):
    value, text = TEXTS[name]
    assert repr(value).startswith(text)
    table = value._repr_html_()
    assert table.startswith(f"<table><caption>{text.splitlines()[0]}</caption><tr><th>")
    assert table.count("<tr>") == len(repr(value).splitlines()) - 1


def test_numbers_that_are_lost_are_told():
    assert "loss           f32[3] from 0.125 to 0.5, 1 of them NaN" in repr(LANES)
    assert "none" in repr(FOUND._replace(best=np.array(-1)))


@pytest.mark.parametrize("name", TEXTS)
def test_whatever_the_leaves_are(name):
    value, _ = TEXTS[name]
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, value))
    odd = (
        shapes,
        jax.tree.map(lambda _: None, value),
        jax.tree.map(lambda _: "<a>", value),
        jax.tree.map(lambda _: 0, value),
        jax.tree.map(lambda a: jnp.asarray(a).sharding, value),
    )
    for tree in odd:
        assert type(value).__name__ in repr(tree)
        assert "<a>" not in tree._repr_html_()
    jax.jit(lambda tree: repr(tree) and tree)(jax.tree.map(jnp.asarray, value))
    assert jax.tree.structure(value) == jax.tree.structure(shapes)


def test_arrays_that_are_gone():
    gone = jnp.arange(3.0)
    penalty = Penalty(gone)
    gone.delete()
    assert repr(penalty) == "Penalty\n  l2  f32[3]"


def test_under_a_guard_of_transfers():
    with jax.transfer_guard("disallow"):
        assert "precision reached" in repr(ONE)


def test_public_names_are_shown():
    assert {"fit", "Batch", "sweep"} <= set(dir(jaxlr))
