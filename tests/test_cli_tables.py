"""Options and kinds of files on the command line: what is told, and refused before the work."""

import io
import json
import re
import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import jaxlr
from jaxlr import plots
from jaxlr.cli import data, fit, memory, predicting, sweep, work
from jaxlr.files.model_file import load_model
from jaxlr_command import app

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


def test_a_target_of_names_is_refused_before_the_work(people, tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    people.assign(code=[f"p{i // 2}" if i % 3 else f"q{i}" for i in range(120)]).to_csv(
        path, index=False
    )
    monkeypatch.setattr(data, "_fill", lambda *_: pytest.fail("work was begun"))
    for command in ("fit", "sweep"):
        for target, count, first in (("id", 120, "0"), ("code", 100, "q0")):
            result = run(command, path, "--target", target)
            assert result.exit_code == 2
            told = f"--target {target}: it holds {count} different values in 120 rows of "
            assert told in result.stderr
            assert f"such as '{first}': that is a name of the rows" in result.stderr


def test_a_class_of_too_few_examples_is_refused_before_features_are_made(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    pd.DataFrame({"x": range(40), "y": [1.0] * 36 + [0.0] * 4}).to_csv(path, index=False)
    monkeypatch.setattr(data, "_fill", lambda *_: pytest.fail("work was begun"))
    result = run("sweep", path, "--target", "y")
    assert result.exit_code == 2
    assert "--folds 5: class 0 has 4 examples, and every fold needs one." in result.stderr


@pytest.mark.parametrize(("terminal", "long"), [(True, False), (False, True), (False, False)])
def test_the_size_of_the_work_is_said_before_it(people, tmp_path, monkeypatch, terminal, long):
    path = tmp_path / "a.csv"
    people.to_csv(path, index=False)
    examples = data.read(path, data.Reading("sick", ("age",)))
    monkeypatch.setattr(work, "_LONG", 100 if long else 10**9)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)

    def begun(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "cross_validate_and_fit", begun)
    monkeypatch.setattr(jaxlr, "fit", begun)
    for words, command in (
        ("one penalty", lambda d: fit.run(d, None)),
        ("2 penalties × 3 folds and all, 8 lanes,", lambda d: sweep.run(d, 2, 0.1, 1.0, 3, 0)),
    ):
        with pytest.raises(KeyboardInterrupt):
            command(examples)
        end = ": this may take many minutes …" if long else " …"
        said = f"Fitting {words} to 120 examples × 1 features, 2 classes{end}\n"
        assert stream.getvalue().startswith(said if terminal or long else "")
        assert ("0:00:00" in stream.getvalue()) == terminal  # the time beside a bar that moves
        assert terminal or stream.getvalue() == (said if long else "")
        stream.seek(0)
        stream.truncate()
        with pytest.raises(KeyboardInterrupt):  # zeros that stand in for the data
            command(examples._replace(source={}))
        assert stream.getvalue() == ""


def test_words_that_are_no_choice_are_refused_in_a_sentence(people, tmp_path):
    people.to_csv(tmp_path / "a.csv", index=False)
    for command in ("fit", "sweep"):
        result = run(command, tmp_path / "a.csv", "--target", "sick", "--impute", "zero")
        assert result.exit_code == 2
        assert result.stderr == (
            "jaxlr: --impute zero: mean or median is due, of numbers; text gets its most frequent "
            "level.\n"
        )
    model = tmp_path / "m.npz"
    options = ("--target", "sick", "--features", "age")
    assert run("fit", tmp_path / "a.csv", *options, "-o", model).exit_code == 0
    result = run("predict", model, tmp_path / "a.csv", "--unseen", "drop")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "jaxlr: --unseen drop: refuse or base is due.\n"


def test_counts_of_gaps_and_what_fills_them_are_told_apart(people, tmp_path):
    frame = people[["age", "sick"]].copy()
    frame.loc[[3, 5], "age"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False)
    model = tmp_path / "m.npz"
    options = ("--target", "sick", "--impute", "median", "-o", model)
    told = " ".join(run("fit", tmp_path / "a.csv", *options).stdout.split())
    assert "Missing values imputed by the median, or the base level: age in 2 rows." in told
    told = " ".join(run("inspect", model).stdout.split())
    assert f"Missing values are imputed: age by {frame['age'].median():.6g}." in told


def fitted_with(path, model, *options):
    """Return the coefficients of a fit by feature, and the class that they are of."""
    result = run("fit", path, *options, "-o", model, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["coefficients"]
    return {row["feature"]: row["coefficient"] for row in rows}, rows[0]["class"]


def test_the_positive_class_is_whose_odds_are_told(people, tmp_path):
    path, model, out = tmp_path / "a.csv", tmp_path / "m.npz", tmp_path / "p.csv"
    people.to_csv(path, index=False)
    options = ("--target", "sick", "--features", "age")
    yes, of_yes = fitted_with(path, model, *options)
    same, of_same = fitted_with(path, model, *options, "--positive", "yes")
    no, of_no = fitted_with(path, model, *options, "--positive", "no")
    assert (of_yes, of_same, of_no) == ("yes", "yes", "no")
    assert same == yes
    for name, value in yes.items():
        assert no[name] == pytest.approx(-value, rel=1e-3)
    assert load_model(model).metadata["class_names"] == ["yes", "no"]
    assert "log odds of no against yes" in run("inspect", model).stdout
    assert run("predict", model, path, "-o", out).exit_code == 0
    found = pd.read_csv(out)
    assert list(found) == ["prediction", "probability_no"]
    x = people["age"].to_numpy()
    due = 1 / (1 + np.exp(yes["(intercept)"] + yes["age"] * x))
    np.testing.assert_allclose(found["probability_no"], due, atol=1e-4)
    assert found["prediction"].tolist() == np.where(due > 0.5, "no", "yes").tolist()


@pytest.mark.parametrize("words", [("no", "Yes"), ("FALSE", "true"), ("false", "True")])
def test_capitals_do_not_say_whose_odds_are_told(people, tmp_path, words):
    path = tmp_path / "a.csv"
    sick = (people["sick"] == "yes").to_numpy()
    city = np.where(np.arange(120) % 3 == 0, "aalen", np.where(sick, "Bern", "Ulm"))
    people.assign(sick=np.where(sick, words[1], words[0]), city=city).to_csv(path, index=False)
    found = data.read(path, data.Reading("sick", ("age", "city")))
    assert found.class_names == list(words)
    np.testing.assert_array_equal(found.batch.y, sick)
    base = max(("aalen", "Bern", "Ulm"), key=city.tolist().count)
    others = [level for level in ("aalen", "Bern", "Ulm") if level != base]
    assert found.feature_names == ["age", *(f"city={level}" for level in others)]


@pytest.mark.parametrize("command", ["fit", "sweep", "predict", "inspect", "audit"])
def test_help_is_no_wider_than_a_terminal(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run(command, "--help").stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", ["fit", "sweep", "predict"])
def test_a_refusal_leaves_no_file_open(people, tmp_path, monkeypatch, command):
    """Else pyarrow's threads may read ahead while the process ends, and abort it."""
    path, model = tmp_path / "a.csv", tmp_path / "m.npz"
    people.to_csv(path, index=False)
    options = ("--target", "sick", "--features", "age")
    assert run("fit", path, *options, "-o", model).exit_code == 0
    files, made = [], pa.OSFile
    monkeypatch.setattr(pa, "OSFile", lambda *args: files.append(made(*args)) or files[-1])
    monkeypatch.setattr(data, "rows_of_chunk", lambda _: 7)
    monkeypatch.setattr(predicting, "rows_of_chunk", lambda _: 7)
    people.assign(age=["40", "old", *["50"] * 118], w=-1.0).to_csv(path, index=False)
    args = (model, path) if command == "predict" else (path, *options, "--weights", "w")
    result = run(command, *args)
    assert result.exit_code == 2
    assert "line 3" in result.stderr if command == "predict" else "it is -1" in result.stderr
    assert result.exc_info is not None  # which holds the traceback
    assert len(files) == 1
    assert files[0].closed


def test_classes_that_the_model_does_not_have_are_told(people, tmp_path, monkeypatch):
    path, model, out = tmp_path / "a.csv", tmp_path / "m.npz", tmp_path / "p.csv"
    people.to_csv(path, index=False)
    assert run("fit", path, "--target", "sick", "--features", "age", "-o", model).exit_code == 0
    monkeypatch.setattr(predicting, "rows_of_chunk", lambda _: 7)
    assert "a class that" not in run("predict", model, path, "-o", out).stdout
    sick = people["sick"].to_numpy(object)
    for others, told in (
        (["maybe"], "1 row has a class that the model does not have: maybe."),
        (["maybe", "No", "maybe"], "3 rows have a class that the model does not have: maybe, No."),
        ([*"abcdefghijklmn"], "14 rows have a class .*: a, b, c, d, e, f, g, h, i, j, k, l, ….$"),
    ):
        people.assign(sick=[*others, None, *sick[len(others) + 1 :]]).to_csv(path, index=False)
        text = run("predict", model, path, "-o", out).stdout
        assert re.search(told, text, re.MULTILINE), text
        assert f"The {119 - len(others)} rows whose class is known" in text
        content = json.loads(run("predict", model, path, "-o", out, "--json").stdout)
        assert content["unknown"] == len(others)
        assert content["unknown_classes"] == list(dict.fromkeys(others))[:13]


@pytest.mark.parametrize("given", ["0", "0.0", "00"])
def test_the_positive_class_is_matched_by_value(people, tmp_path, given):
    path = tmp_path / "a.csv"
    people.assign(sick=(people["sick"] == "yes") * 1.0).to_csv(path, index=False)
    found = data.read(path, data.Reading("sick", ("age",), positive=given))
    assert found.class_names == ["1", "0"]
    np.testing.assert_array_equal(found.batch.y, people["sick"] == "no")


@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_a_positive_class_that_cannot_be_is_refused(people, tmp_path, command):
    path = tmp_path / "a.csv"
    people.assign(three=[*"abc"] * 40).to_csv(path, index=False)
    for options, told in (
        (("--target", "sick", "--positive", "maybe"),
         "--positive maybe: sick has no such class. It has no, yes."),
        (("--target", "three", "--positive", "a"),
         "--positive a: it says which of two classes the odds are of, and three has 3: a, b, c."),
    ):  # fmt: skip
        result = run(command, path, "--features", "age", *options)
        assert (result.exit_code, result.stderr) == (2, f"jaxlr: {told}\n")


@pytest.mark.slow
def test_a_sweep_tells_the_positive_class(people, tmp_path):
    path = tmp_path / "a.csv"
    people.to_csv(path, index=False)
    options = ("--target", "sick", "--positive", "no", "--folds", "2", "--penalties", "2")
    result = run("sweep", path, *options, "--features", "age", "-o", tmp_path / "m.npz")
    assert result.exit_code == 0, result.output
    assert load_model(tmp_path / "m.npz").metadata["class_names"] == ["yes", "no"]
