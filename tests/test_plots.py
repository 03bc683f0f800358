"""Pictures: what the artists hold, and that no text runs into another."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxlr import CrossValidation, Params, Penalty, Scores, Solution, plots
from jaxlr.plots import style
from tests.pictures import SIZES, assert_clear, awkward_names, color_of, new_axes, points

L2 = np.geomspace(1e-4, 1.0, 9)


def cross_validation(best=3, best_one_se=5, l2=L2, slope=1.0, seed=0):
    rng = np.random.default_rng(seed)
    mean = 0.1 + 0.02 * (np.log10(l2 / l2[best]) * slope) ** 2
    losses = mean[:, None] + rng.uniform(0, 0.05, (len(l2), 5))
    fits: Solution = None  # type: ignore[assignment]
    return CrossValidation(
        Penalty(l2), fits, Scores(losses, 1 - losses), np.array(best), np.array(best_one_se)
    )


def solution(n=30, classes=(), l2=L2, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(n, *classes)) * rng.gamma(0.5, 2.0, n).reshape(n, *[1] * len(classes))
    lanes = w / (1 + 50 * l2.reshape(-1, 1, *[1] * len(classes)))
    return Solution(Params(lanes, np.zeros((len(l2), *classes))), *[np.zeros(len(l2))] * 6)


@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_validation_curve_holds_mean_band_and_marks(metric):
    result = cross_validation()
    scores = getattr(result.scores, metric)
    mean = scores.mean(axis=1)
    error = scores.std(axis=1, ddof=1) / np.sqrt(5)
    ax = plots.validation_curve(result, metric=metric)
    curve, best, one_se = ax.lines
    np.testing.assert_allclose(points(curve), np.column_stack([L2, mean]))
    (band,) = ax.collections
    vertices = np.asarray(band.get_paths()[0].vertices)
    for i, x in enumerate(L2):
        sides = vertices[np.isclose(vertices[:, 0], x), 1]
        ends = [mean[i] - error[i], mean[i] + error[i]]
        np.testing.assert_allclose([sides.min(), sides.max()], ends)
    for line, place, name in ((best, 3, "best"), (one_se, 5, "1 SE")):
        np.testing.assert_allclose(points(line), [[L2[place], mean[place]]])
        assert str(line.get_label()) == f"{name}: l2 = {L2[place]:.2g}"
    assert best.get_markersize() < one_se.get_markersize()  # both are seen if they are one
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "penalty l2"
    assert metric.replace("_", " ") in ax.get_ylabel()
    assert isinstance(ax.figure.canvas, FigureCanvasAgg)


def test_penalties_in_any_order_make_one_curve():
    result = cross_validation()
    order = np.random.default_rng(0).permutation(len(L2))
    place = np.argsort(order)
    shuffled = CrossValidation(
        Penalty(L2[order]),
        result.solutions,
        Scores(*(score[order] for score in result.scores)),
        place[3],
        place[5],
    )
    for a, b in zip(
        plots.validation_curve(result).lines, plots.validation_curve(shuffled).lines, strict=True
    ):
        np.testing.assert_array_equal(points(a), points(b))
    lanes = solution()
    mixed = lanes._replace(params=Params(*(a[order] for a in lanes.params)))
    for a, b in zip(
        plots.coefficient_path(L2, lanes).lines,
        plots.coefficient_path(L2[order], mixed).lines,
        strict=True,
    ):
        np.testing.assert_array_equal(points(a), points(b))


def test_losses_that_differ_much_are_on_a_log_axis():
    assert plots.validation_curve(cross_validation(slope=0.5)).get_yscale() == "linear"
    assert plots.validation_curve(cross_validation(slope=5)).get_yscale() == "log"
    ax = plots.validation_curve(cross_validation(slope=5), metric="accuracy")
    assert ax.get_yscale() == "linear"


def test_failed_lanes_leave_a_gap():
    result = cross_validation()
    result.scores.log_loss[0, 2] = np.nan
    result.scores.log_loss[1, 2] = np.inf
    ax = plots.validation_curve(result)
    ax.figure.canvas.draw()
    np.testing.assert_array_equal(np.isfinite(ax.lines[0].get_ydata()), [False] * 2 + [True] * 7)
    result.scores.log_loss[:] = np.nan
    plots.validation_curve(result).figure.canvas.draw()
    lanes = solution()
    lanes.params.w[0] = np.nan
    plots.coefficient_path(L2, lanes).figure.canvas.draw()


def test_coefficient_path_names_the_largest_and_draws_all():
    lanes = solution()
    w = lanes.params.w
    names = [f"name {j}" for j in range(30)]
    ax = plots.coefficient_path(L2, lanes, names)
    largest = np.argsort(-np.abs(w).max(axis=0))[:6]
    named = {str(line.get_label()): line for line in ax.lines if line.get_label() in names}
    assert set(named) == {names[j] for j in largest}
    assert {text.get_text() for text in ax.texts} == set(named)
    for j in largest:
        np.testing.assert_array_equal(points(named[names[j]]), np.column_stack([L2, w[:, j]]))
    assert len({color_of(line) for line in named.values()}) == 6
    drawn = [np.asarray(line.get_ydata()) for line in ax.lines]
    for j in range(30):
        assert any(np.array_equal(w[:, j], y) for y in drawn)
    grey = [line for line in ax.lines if color_of(line) == style.GREY]
    assert len(grey) == 24
    assert all(line.get_linewidth() < 1 for line in grey)
    assert ax.get_xscale() == "log"
    assert ax.get_ylabel() == "coefficient\n(log-odds per unit)"


def test_softmax_draws_the_norm_over_classes():
    lanes = solution(5, (4,))
    ax = plots.coefficient_path(L2, lanes, unit="standard deviation")
    norms = np.sqrt((lanes.params.w**2).sum(axis=2))
    drawn = [np.asarray(line.get_ydata()) for line in ax.lines]
    assert len(drawn) == 5
    for j in range(5):
        assert any(np.allclose(norms[:, j], y) for y in drawn)
    assert {text.get_text() for text in ax.texts} == {f"feature {j}" for j in range(5)}
    assert ax.get_ylabel() == "norm over classes\n(log-odds per standard deviation)"


def test_axes_that_are_given_are_used_and_returned():
    ax = new_axes()
    assert plots.validation_curve(cross_validation(), ax) is ax
    ax = new_axes()
    assert plots.coefficient_path(L2, solution(), ax=ax) is ax


def test_figure_has_both_side_by_side():
    result, lanes = cross_validation(), solution()
    figure = plots.sweep_figure(result, lanes, title="a title")
    left, right = figure.axes
    assert left.get_position().x1 < right.get_position().x0
    np.testing.assert_allclose(points(left.lines[0])[:, 1], result.scores.log_loss.mean(axis=1))
    assert [line for line in right.lines if np.all(np.asarray(line.get_xdata()) == L2[3])]
    assert figure.get_suptitle() == "a title"


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="metric is 'auc'; it must be one of log_loss, accuracy"):
        plots.validation_curve(cross_validation(), metric="auc")
    with pytest.raises(ValueError, match=r"l2 has shape \(8,\), and the solution has 9 lanes"):
        plots.coefficient_path(L2[1:], solution())
    with pytest.raises(ValueError, match="names has 1 names, and the solution 30 features"):
        plots.coefficient_path(L2, solution(), ["a"])


def test_names_are_shown_as_they_are():
    names = ["_private", "$a_b$ and $", "two\nlines", "x" * 100]
    ax = plots.coefficient_path(L2, solution(4), names)
    ax.figure.canvas.draw()
    told = {text.get_text() for text in ax.texts}
    assert told >= {"_private", r"\$a_b\$ and \$", "two lines"}
    (long,) = told - {"_private", r"\$a_b\$ and \$", "two lines"}
    assert set(long) == {"x", "…"}


@pytest.mark.quick("200-classes1-size1", "64-classes2-size0", "1-classes0-size2")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("n", "classes"), [(1, ()), (200, ()), (64, (10,))])
def test_no_text_overlaps_another_or_is_cut(size, n, classes):
    names = awkward_names(n)
    for seed in range(2):
        lanes = solution(n, classes, seed=seed)
        assert_clear(
            plots.coefficient_path(L2, lanes, names, new_axes(*size), "standard deviation")
        )
        assert_clear(plots.validation_curve(cross_validation(slope=5.0 * seed), new_axes(*size)))


def test_labels_are_moved_apart_and_stay_within():
    rng = np.random.default_rng(0)
    for _ in range(50):
        places = rng.uniform(0, 1, rng.integers(1, 8)).round(1)
        moved = style.apart(places, 0.1)
        order = np.argsort(places, kind="stable")
        assert (np.diff(moved[order]) >= 0.1 - 1e-9).all()
        assert moved.min() >= -1e-9
        assert moved.max() <= 1 + 1e-9
    far = np.array([0.9, 0.1, 0.5])
    np.testing.assert_allclose(style.apart(far, 0.1), far)


def test_nothing_optional_is_imported_and_no_state_of_matplotlib_is_touched():
    code = """
import sys
import jaxlr
optional = {"typer", "rich", "sklearn", "matplotlib", "jaxlr.plots", "jaxlr.cli",
            "jaxlr.files.model_file"}
assert not optional & set(sys.modules), optional & set(sys.modules)
import numpy as np
from jaxlr import cli, plots
assert not {"typer", "rich", "sklearn", "matplotlib"} & set(sys.modules)
l2 = np.array([0.1, 1.0])
lanes = jaxlr.Solution(jaxlr.Params(np.ones((2, 3)), np.ones(2)), *[None] * 6)
plots.coefficient_path(l2, lanes)
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
