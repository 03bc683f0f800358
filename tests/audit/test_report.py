"""What a report shows, and what it raises."""

import ast
import pathlib

import jax.numpy as jnp
import pytest

import jaxlr.audit
from jaxlr.audit import GradientError, Verdict, assert_gradient, audit_gradient

x = jnp.array([0.8, -1.3, 0.4])


def fun(parameters_of_the_model, x):
    return (jnp.sin(parameters_of_the_model["a_long_name_of_a_leaf"]) * x).sum() ** 2


def wrong(p, x):
    a = p["a_long_name_of_a_leaf"]
    return {"a_long_name_of_a_leaf": -2 * (jnp.sin(a) * x).sum() * jnp.cos(a) * x}


POINT = ({"a_long_name_of_a_leaf": x}, x)


def test_text_fits_80_columns_and_starts_with_the_verdict():
    report = audit_gradient(fun, wrong, *POINT)
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert repr(report) == str(report)  # what a notebook shows
    assert lines[0].startswith("DISAGREES")
    assert "sign is flipped" in " ".join(lines[1].split() + lines[2].split())
    assert report.rows[0].verdict == Verdict.DISAGREES  # the worst comes first


def test_raise_if_failed_shows_the_report():
    with pytest.raises(GradientError) as caught:
        assert_gradient(fun, wrong, *POINT)
    assert "sign is flipped" in str(caught.value)
    assert assert_gradient(fun, None, *POINT).ok
    with pytest.raises(GradientError, match="CANNOT TELL"):
        assert_gradient(jnp.abs, None, jnp.array(0.0))


def test_verdicts_are_exit_codes():
    assert [int(v) for v in Verdict] == [0, 1, 2]
    assert [v.words for v in Verdict] == ["agrees", "disagrees", "cannot tell"]


def test_taylor_orders_tell_right_from_wrong():
    good = audit_gradient(fun, None, *POINT)
    bad = audit_gradient(fun, wrong, *POINT)
    assert all(abs(r.order - 2) < 0.1 for r in good.remainders)
    assert all(abs(r.order - 1) < 0.1 for r in bad.remainders)
    assert bad.remainders[0].label == "the deviation"


def test_plot_draws_the_remainders():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    report = audit_gradient(fun, wrong, *POINT)
    ax = report.plot()
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert len(ax.get_legend().get_texts()) == len(report.remainders)
    plt.close("all")


@pytest.mark.parametrize(
    ("f", "grad"),
    [
        (lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0).sum(), None),
        (lambda x: (x**2).sum(), lambda x: 2.0),
    ],
)
def test_a_picture_without_remainders_says_why(f, grad):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ax = audit_gradient(f, grad, x, order=1).plot()
    assert "no remainder" in ax.texts[0].get_text()
    ax.figure.canvas.draw()
    plt.close("all")


def test_a_picture_of_nothing_but_rounding():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ax = audit_gradient(lambda x: (3 * x).sum(), None, x, order=1).plot()
    assert {t.get_text().split(": ")[1] for t in ax.get_legend().get_texts()} == {"below the noise"}
    low, high = ax.get_ylim()
    for line in ax.get_lines():  # the slopes too are in sight
        assert (line.get_ydata() <= high).any()
        assert (line.get_ydata() > 0.99 * low).all()
    plt.close("all")


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "jaxlr\[plots\]"'):
        audit_gradient(jnp.sum, None, x).plot()


def test_the_kit_imports_nothing_of_the_rest():
    for path in pathlib.Path(jaxlr.audit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                module = node.module or ""
                assert not module.startswith("jaxlr") or module.startswith("jaxlr.audit"), path
            if isinstance(node, ast.Import):
                assert not any(a.name.startswith("jaxlr") for a in node.names), path
