"""Pictures of models and of their making: coefficients with intervals, learning curves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxlr
from jaxlr import plots
from jaxlr.plots.style import COLORS
from tests.helpers import problem
from tests.pictures import SIZES, assert_clear, awkward_names, color_of, new_axes, points


def intervals(n, *classes, seed=0):
    rng = np.random.default_rng(seed)
    w, half = rng.normal(size=(n, *classes)), rng.gamma(2, 0.2, (n, *classes))
    return w, w - half, w + half


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def bars(ax):
    """Return the intervals that are drawn, by row: ends and colour."""
    certain, other = ax.collections[:2]
    found = {}
    for bar, is_certain in ((certain, True), (other, False)):
        for (x0, y), (x1, _) in bar.get_segments():
            found[round(y)] = x0, x1, is_certain
    return found


def test_the_largest_coefficients_are_at_the_top_with_their_intervals():
    w, low, high = intervals(200)
    names = [f"n{j}" for j in range(200)]
    ax = plots.coefficients(w, low, high, names)
    order = np.argsort(-np.abs(w))
    shown = len(labels(ax))
    assert 10 <= shown < 30
    assert labels(ax) == [names[j] for j in order[:shown]]
    for row, (x0, x1, certain) in bars(ax).items():
        j = order[row]
        np.testing.assert_allclose([x0, x1], [low[j], high[j]])
        assert certain == (low[j] * high[j] > 0)
    dots = {round(y): x for line in ax.lines[:2] for x, y in points(line)}
    np.testing.assert_allclose([dots[i] for i in range(shown)], w[order[:shown]])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # row 0 is at the top
    rest = np.abs(w[order[shown]])
    assert ax.get_title("right") == f"{shown} of 200; the others within ±{rest:.2g}"
    assert ax.get_xlabel() == "coefficient\n(log-odds per unit)"


def test_all_coefficients_are_shown_where_there_is_room():
    ax = plots.coefficients(jnp.array([1.0, -2.0]), [-1.0, -3.0], [3.0, -1.0])
    assert labels(ax) == ["feature 1", "feature 0"]
    assert bars(ax) == {0: (-3, -1, True), 1: (-1, 3, False)}
    assert ax.get_title("right") == ""


def test_coefficients_of_the_softmax_are_named_by_feature_and_class():
    w, low, high = intervals(2, 3)
    ax = plots.coefficients(w, low, high, ["a$", "b"], class_names=["x", "y", "z"])
    order = np.argsort(-np.abs(w.ravel()))
    every = [r"a\$: x", r"a\$: y", r"a\$: z", "b: x", "b: y", "b: z"]
    assert labels(ax) == [every[i] for i in order]
    assert labels(plots.coefficients(w))[0] == f"feature {order[0] // 3}: class {order[0] % 3}"


@pytest.mark.parametrize("n", [2, 200])
@pytest.mark.parametrize("K", [1, 3, 30])
@pytest.mark.parametrize("size", SIZES)
def test_no_text_overlaps_another_or_is_cut(n, K, size):
    w, low, high = intervals(n, *([K] if K > 1 else []))
    kinds = [f"class of long name {k}" for k in range(K)]
    ax = new_axes(*size)
    unit = "standard deviation"
    names = awkward_names(n)
    assert plots.coefficients(w, low, high, names, ax, class_names=kinds, unit=unit) is ax
    assert_clear(ax)


def descents(rates, steps=50):
    params, batch = problem(n=3, m=30)
    start, penalty = jax.tree.map(jnp.zeros_like, params), jaxlr.Penalty(0.1)

    def losses(rate):
        return jaxlr.gradient_descent(start, batch, optax.sgd(rate), steps, penalty).losses

    optimum = float(jaxlr.fit(batch, penalty).loss)
    return np.asarray(jax.jit(jax.vmap(losses))(jnp.asarray(rates))), optimum


RATES = np.array([1e-3, 1e-2, 0.1, 1.0, 1e4])


@pytest.fixture(scope="module")
def found():
    return descents(RATES)


def test_learning_curves_hold_the_losses_and_name_the_rates(found):
    losses, optimum = found
    ax = plots.learning_curves(losses, RATES)
    assert len(ax.lines) == 5
    for line, loss in zip(ax.lines[:4], losses, strict=False):
        np.testing.assert_allclose(points(line), np.column_stack([np.arange(1, 51), loss]))
    assert {text.get_text() for text in ax.texts} >= {"0.001", "1 best", "1e+04 ↑"}
    assert ax.get_xscale() == "log"
    assert ax.get_ylabel() == "objective"
    ax = plots.learning_curves(losses, RATES, optimum=optimum)
    np.testing.assert_allclose(points(ax.lines[0])[:, 1], losses[0] - optimum)
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "objective − optimum"


def test_a_descent_that_diverges_leaves_at_the_top(found):
    losses, _ = found
    assert losses[4, 1] > 2 * losses[4, 0]
    for last in (losses[4], [losses[4, 0], *[np.inf] * 49], [losses[4, 0], *[np.nan] * 49]):
        ax = plots.learning_curves([losses[0], last], RATES[[0, 4]])
        y = points(ax.lines[1])[:, 1]
        assert y[0] == losses[4, 0]
        assert y[1] > ax.get_ylim()[1]
        assert np.isnan(y[2:]).all()
        name: Any = ax.texts[-1]
        assert name.get_text() == "1e+04 ↑"
        assert name.xy[1] == ax.get_ylim()[1]


def test_learning_rates_in_any_order_go_from_dark_to_light(found):
    losses, _ = found
    a = plots.learning_curves(losses, RATES)
    b = plots.learning_curves(losses[::-1], RATES[::-1])
    for first, second in zip(a.lines, b.lines, strict=True):
        np.testing.assert_array_equal(points(first), points(second))
        assert color_of(first) == color_of(second)
    light = [np.dot([0.3, 0.6, 0.1], line.get_color()[:3]) for line in a.lines]
    assert (np.diff(light) > 0.05).all()
    assert not {color_of(line) for line in a.lines} & set(COLORS)


@pytest.mark.parametrize("R", [1, 2, 64])
@pytest.mark.parametrize("size", SIZES)
def test_no_text_of_learning_curves_overlaps_another_or_is_cut(R, size):
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-4, 1e3, R)
    losses = np.exp(-np.outer(rates, np.arange(40))) + rng.uniform(0, 1e-6, (R, 40))
    losses[-1, 1:] = np.nan if R > 1 else 0.5
    for optimum in (None, 0.0):
        ax = new_axes(*size)
        assert plots.learning_curves(losses, rates, ax, optimum=optimum) is ax
        assert_clear(ax)


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match=r"w, low and high have shapes \(2,\) and \(3,\) where"):
        plots.coefficients(np.ones(2), np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match=r"The coefficient at \(1,\), or its interval, is not"):
        plots.coefficients([1.0, np.nan])
    with pytest.raises(ValueError, match="names has 1 names, and there are 2 features"):
        plots.coefficients([1.0, 2.0], names=["a"])
    with pytest.raises(ValueError, match="class_names has 1 names, and there are 3 classes"):
        plots.coefficients(np.ones((2, 3)), class_names=["a"])
    with pytest.raises(ValueError, match=r"losses has shape \(3,\) where \(R, num_steps\) is due"):
        plots.learning_curves(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="must be finite and above the optimum 2"):
        plots.learning_curves(np.ones((1, 3)), [0.1], optimum=2.0)
    with pytest.raises(ValueError, match=r"before the first step must be finite\."):
        plots.learning_curves([[np.inf, 1.0]], [0.1])
