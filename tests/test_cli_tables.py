"""Options and kinds of files on the command line: what is told, and refused before the work."""

import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from jaxlr import plots
from jaxlr.cli import app, data, memory
from jaxlr.model_file import load_model

pytestmark = pytest.mark.usefixtures("quick_programs")


def run(*args, **settings):
    return CliRunner().invoke(app.make_app(), [str(arg) for arg in args], **settings)


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    age = rng.normal(40, 12, 120).round(1)
    sick = np.where(rng.normal(40, 12, 120) < age, "yes", "no")
    return pd.DataFrame({"id": np.arange(120), "age": age, "sick": sick})


def test_hashed_indices_fit_and_predict(tmp_path):
    rows = [f"{i % 2} {1 + i % 3}:{i} {30_000_000 + i % 2}:{i % 5}\n" for i in range(40)]
    (tmp_path / "a.svm").write_text("".join(rows))
    model, out = tmp_path / "m.npz", tmp_path / "p.csv"
    result = run("fit", tmp_path / "a.svm", "-o", model, "--json")
    assert result.exit_code == 0, result.output
    names = [row["feature"] for row in json.loads(result.stdout)["coefficients"]]
    assert names == ["(intercept)", "1", "2", "3", "30000000", "30000001"]
    (tmp_path / "b.svm").write_text("0 1:3 29999999:5 30000001:2\n")
    assert run("predict", model, tmp_path / "b.svm", "-o", out).exit_code == 0
    w, b = load_model(model).params
    x = (np.array([3, 0, 0, 0, 2]) - load_model(model).mean) / load_model(model).scale
    due = 1 / (1 + np.exp(-(w @ x + b)))
    found = pd.read_csv(out)["probability_1"].to_numpy()
    np.testing.assert_allclose(found, [due], rtol=1e-5)


@pytest.mark.parametrize("ending", ["csv", "parquet", "svm"])
@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_what_does_not_fit_memory_is_refused_before_the_work(
    people, tmp_path, monkeypatch, ending, command
):
    path = tmp_path / f"a.{ending}"
    if ending == "svm":
        path.write_text("".join(f"{i % 2} 3:1 9:{i}\n" for i in range(120)))
    else:
        frame = people[["id", "sick"]].assign(twice=2 * people["id"])
        getattr(frame, f"to_{ending}")(path, index=False)
    monkeypatch.setattr(data, "_fill", lambda *_: pytest.fail("work was begun"))
    monkeypatch.setattr(data, "total_memory", lambda: 1000)
    if ending != "csv":  # whose rows have to be counted
        monkeypatch.setattr(data, "survey", lambda *_: pytest.fail("work was begun"))
    target = () if ending == "svm" else ("--target", "sick")
    result = run(command, path, *target)
    assert result.exit_code == 2
    told = f"a.{ending}: 2 features × 120 examples, dense in float"
    assert told in result.stderr
    need = jnp.zeros(()).dtype.itemsize * 2 * 120 / 1e9
    assert f"need {need:.2g} GB, and 80 % of this machine's memory is 8e-07 GB" in result.stderr


def test_memory_is_that_of_the_machine():
    total = memory.total_memory()
    assert total is None or 2**28 < total < 2**50


@pytest.mark.parametrize("classes", [2, 3])
def test_features_that_keep_their_scale_are_centred_before_they_are_narrowed(tmp_path, classes):
    """Seconds since 1970 are one number in float32: 1.7e9 + 0 … 59."""
    rng = np.random.default_rng(3)
    seconds = 1.7e9 + np.arange(60.0)
    label = np.digitize(seconds - 1.7e9 + 15 * rng.normal(size=60), [[30], [20, 40]][classes - 2])
    path, model, out = tmp_path / "a.csv", tmp_path / "m.npz", tmp_path / "p.csv"
    pd.DataFrame({"t": seconds.astype(int), "y": label}).to_csv(path, index=False)
    options = ("--target", "y", "--no-standardize", "--l2", "0.01")
    result = run("fit", path, *options, "-o", model, "--json")
    assert result.exit_code == 0, result.output
    expected = LogisticRegression(C=1 / 0.6, tol=1e-10, max_iter=10_000)
    expected.fit((seconds - seconds.mean())[:, None], label)
    rows = [r for r in json.loads(result.stdout)["coefficients"] if r["feature"] == "t"]
    due = expected.coef_[-len(rows) :, 0]
    np.testing.assert_allclose([row["coefficient"] for row in rows], due, rtol=2e-3)
    assert run("predict", model, path, "-o", out).exit_code == 0
    P = pd.read_csv(out).filter(like="probability").to_numpy()
    proba = expected.predict_proba((seconds - seconds.mean())[:, None])
    np.testing.assert_allclose(P, proba[:, -P.shape[1] :], atol=2e-3)
    assert json.loads(result.stdout)["training"]["standardised"] is False
    text = run("inspect", model).stdout
    assert "standardised" not in text
    assert load_model(model).mean.tolist() == [1.7e9 + 29.5]


@pytest.mark.slow
def test_a_sweep_says_that_columns_are_centred(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    pd.DataFrame({"t": 1.7e9 + np.arange(60.0), "y": np.arange(60) // 3 % 2}).to_csv(path)
    options = ("--target", "y", "--folds", "2", "--penalties", "2", "--no-standardize")
    units = []
    monkeypatch.setattr(plots, "sweep_figure", lambda *a: units.append(a[-1]) or Figure())
    result = run(
        "sweep", path, *options, "--plot", tmp_path / "a.png", "--report", tmp_path / "a.html"
    )
    assert result.exit_code == 0, result.output
    assert "columns centred, of the scale that they came in" in " ".join(result.stdout.split())
    assert units == ["unit"]
    page = (tmp_path / "a.html").read_text()
    assert "the columns kept their scale, and were centred." in page
    assert "standardised" not in page
