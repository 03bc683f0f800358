"""Files on the command line: fit, sweep, predict and inspect against scikit-learn; refusals."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from typer.testing import CliRunner

from experiments.large_csv import run_all
from jaxlr.base.atomic import write_atomically
from jaxlr.cli import inspection, predicting, trained
from jaxlr.files.model_file import load_model
from jaxlr_command import app
from tests.helpers import ATTENTIVE, QUICK_FLAGS

pytestmark = pytest.mark.usefixtures("quick_programs")


def run(*args, **settings):
    return CliRunner().invoke(app.make_app(), [str(arg) for arg in args], **settings)


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    m = 120
    age = np.where(rng.random(m) < 0.1, np.nan, rng.normal(40, 12, m).round(1))
    sex = rng.choice(["male", "female"], m)
    sick = (rng.normal(size=m) + (sex == "female") + (np.nan_to_num(age, nan=40) - 40) / 12) > 0
    return pd.DataFrame(
        {"id": np.arange(m), "age": age, "sex": sex, "sick": np.where(sick, "yes", "no")}
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, people):
    """Fit once: the folder, the JSON of the fit, and scikit-learn's model with its features."""
    folder = tmp_path_factory.mktemp("files")
    people.to_csv(folder / "people.csv", index=False)
    options = ("--target", "sick", "--exclude", "id", "--impute", "mean", "--l2", "0.01")
    result = run("fit", folder / "people.csv", *options, "-o", folder / "model.npz", "--json")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(folder)) == ["model.npz", "people.csv"]
    X = features(people)
    model = LogisticRegression(C=1 / (0.01 * len(X)), tol=1e-9, max_iter=10_000)
    return folder, json.loads(result.stdout), model.fit(X, people["sick"])


def features(people):
    base = people["sex"].mode()[0]
    X = np.column_stack([people["age"].fillna(people["age"].mean()), people["sex"] != base])
    return (X - [people["age"].mean(), X[:, 1].mean()]) / [
        people["age"].std(ddof=0),
        X[:, 1].std(),
    ]


def test_a_fit_is_scikit_learns(fitted, people):
    _, content, model = fitted
    X = features(people)
    rows = content["coefficients"]
    names = ["(intercept)", "age", f"sex={people['sex'].value_counts().index[1]}"]
    assert [row["feature"] for row in rows] == names
    standardised = [row["standardised"] for row in rows]
    np.testing.assert_allclose(standardised[1:], model.coef_[0], rtol=1e-3)
    np.testing.assert_allclose(standardised[0], model.intercept_[0], atol=1e-4)
    unit = model.coef_[0, 0] / people["age"].std(ddof=0)
    assert rows[1]["coefficient"] == pytest.approx(unit, rel=1e-3)
    assert rows[1]["odds_ratio"] == pytest.approx(np.exp(unit), rel=1e-4)
    probability = model.predict_proba(X)
    data, labels = content["data"], people["sick"]
    assert data["log_loss"] == pytest.approx(log_loss(labels, probability), rel=1e-4)
    assert data["accuracy"] == pytest.approx(accuracy_score(labels, model.predict(X)))
    assert data["roc_auc"] == pytest.approx(roc_auc_score(labels, probability[:, 1]), rel=1e-5)
    assert data["missing"] == {"age": int(people["age"].isna().sum())}


def test_intervals_reach_as_far_as_the_normal_distribution_says(fitted):
    _, content, _ = fitted
    for row in content["coefficients"]:
        low, high = row["interval"]
        np.testing.assert_allclose((low + high) / 2, row["coefficient"], atol=1e-6)
        np.testing.assert_allclose((high - low) / row["standard_error"], 2 * 1.959964, rtol=1e-6)
        np.testing.assert_allclose(row["odds_ratio_interval"], np.exp([low, high]), rtol=1e-9)


@pytest.mark.parametrize("ending", ["csv", "parquet", "feather"])
def test_predictions_are_scikit_learns(fitted, people, ending):
    folder, _, model = fitted
    new, out = folder / f"new.{ending}", folder / f"scored.{ending}"
    frame = people[["sick", "sex", "id", "age"]]  # in another order
    getattr(frame, f"to_{ending}")(new, **({"index": False} if ending == "csv" else {}))
    result = run("predict", folder / "model.npz", new, "-o", out, "--keep", "id", "--json")
    assert result.exit_code == 0, result.output
    scored = getattr(pd, f"read_{ending}")(out)
    new.unlink()
    out.unlink()
    assert list(scored) == ["id", "prediction", "probability_yes"]
    assert scored["id"].tolist() == people["id"].tolist()
    probability = model.predict_proba(features(people))
    np.testing.assert_allclose(scored["probability_yes"], probability[:, 1], atol=1e-4)
    assert (scored["prediction"] == model.predict(features(people))).all()
    content = json.loads(result.stdout)
    assert content["rows"] == content["labelled"] == len(people)
    assert content["log_loss"] == pytest.approx(log_loss(people["sick"], probability), rel=1e-4)
    assert content["counts"] == scored["prediction"].value_counts().to_dict()


def test_predictions_on_standard_output(fitted):
    folder, _, _ = fitted
    result = run("predict", folder / "model.npz", folder / "people.csv")
    lines = result.stdout.splitlines()
    assert len(lines) == 121
    assert lines[0] == '"prediction","probability_yes"'
    assert "120 rows; predicted: no" in result.stderr


def test_inspect_tells_what_fit_told(fitted, people):
    folder, content, _ = fitted
    result = run("inspect", folder / "model.npz", "--json")
    found = json.loads(result.stdout)
    assert found["coefficients"] == content["coefficients"]
    text = run("inspect", folder / "model.npz").stdout
    assert max(map(len, text.splitlines())) <= 80
    for words in ("odds ratio", "95 % interval", "log odds of yes against no", "penalty taken as",
                  "ROC AUC", "people.csv (120 rows, 2 columns",
                  f"Encoded by level: sex (2 levels, base {people['sex'].mode()[0]}).",
                  f"Missing values are imputed: age by {people['age'].mean():.6g}"):  # fmt: skip
        assert words in " ".join(text.split())


def test_the_roc_auc_of_some_examples_says_so(fitted, people, monkeypatch):
    folder, _, model = fitted
    monkeypatch.setattr(trained, "_RANKED", 50)
    options = ("--target", "sick", "--exclude", "id", "--impute", "mean", "--l2", "0.01")
    data = json.loads(run("fit", folder / "people.csv", *options, "--json").stdout)["data"]
    P = model.predict_proba(features(people))[::3, 1]
    assert data["roc_auc"] == pytest.approx(roc_auc_score(people["sick"][::3], P), rel=1e-5)
    assert data["roc_auc_examples"] == 40
    assert inspection._fit_quality(data).endswith(f"{data['roc_auc']:.3f} (of 40 of them).")


def test_a_model_without_a_design_is_inspected_but_does_not_predict(fitted, tmp_path):
    old = Path(__file__).parent / "models" / "format_1.npz"
    text = " ".join(run("inspect", old).stdout.split())
    assert "There are no intervals" in text
    assert "petal width (cm)" in text
    rows = inspection.coefficients(load_model(old), 0.95)
    assert sum(row["standardised"] for row in rows[:3]) == pytest.approx(0, abs=1e-6)
    result = run("predict", old, fitted[0] / "people.csv")
    assert result.exit_code == 2
    assert "does not say what its columns are" in result.stderr


@pytest.mark.slow
def test_a_sweep_of_a_file_with_three_classes(tmp_path):
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 3, 90)
    frame = pd.DataFrame({"a": rng.normal(size=90) + kind, "b": rng.normal(size=90), "kind": kind})
    frame.to_csv(tmp_path / "a.csv", index=False)
    options = ("--folds", "2", "--penalties", "2", "--l2-min", "0.01", "--json")
    model = tmp_path / "m.npz"
    result = run("sweep", tmp_path / "a.csv", "--target", "kind", *options, "--output", model)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["m_examples"], content["n_features"], content["n_classes"]) == (90, 2, 3)
    result = run("predict", model, tmp_path / "a.csv", "-o", tmp_path / "s.csv")
    assert result.exit_code == 0, result.output
    scored = pd.read_csv(tmp_path / "s.csv")
    expected = LogisticRegression(C=1 / (content["model"]["l2"] * 90), tol=1e-9, max_iter=10_000)
    X = frame[["a", "b"]]
    X = (X - X.mean()) / X.std(ddof=0)
    expected.fit(X, kind)
    P = scored[[f"probability_{k}" for k in range(3)]]
    np.testing.assert_allclose(P, expected.predict_proba(X), atol=1e-3)
    assert scored["prediction"].dtype == np.int64


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "none.csv", "--target", "y"], "none.csv: there is no such file."),
        (["fit", ".", "--target", "y"], ". is a folder: a file is due."),
        (["fit", "people.csv"], "--target is not given"),
        (["fit", "people.csv", "--target", "id", "--weights", "id"], "--weights id: that is the"),
        (["sweep", "people.csv", "--target", "sick", "--dataset", "iris"], "give one of them"),
        (["sweep", "--target", "y"], "Give DATA, the file that"),
        (["fit", "people.csv", "--target", "sick"], "missing values, of 120 rows: age"),
        (["fit", "people.csv", "--target", "sick", "--l2", "-1", "--exclude", "age"], "--l2 -1: a"),
        (["fit", "people.csv", "--target", "sick", "-o", "m.txt"], "does not end in .npz"),
        (["predict", "none.npz", "people.csv"], "none.npz: there is no such file."),
        (["predict", "people.csv", "people.csv"], "is not a model of jaxlr, or is damaged"),
        (["predict", "model.npz", "people.csv", "-o", "people.csv"], "that is the file of the"),
        (["predict", "model.npz", "people.csv", "-o", "a.txt"], "does not end in .csv or .parquet"),
        (["predict", "model.npz", "people.csv", "--json"], "say with --output where"),
        (["predict", "model.npz", "new.csv", "-o", "s.csv"], "sex is 'x' in line 3 of new.csv"),
        (["predict", "model.npz", "few.csv", "-o", "s.csv"], "few.csv lacks columns of the model"),
        (["predict", "model.npz", "empty.csv", "-o", "s.csv"], "empty.csv has no rows"),
        (["inspect", "people.csv"], "is not a model of jaxlr, or is damaged: it is no .npz"),
        (["inspect", "."], ". cannot be read: Is a directory."),
        (["sweep", "one.csv", "--target", "y"], "class b has 1 example, and every fold needs one."),
    ],
)
def test_refused_with_exit_code_2_and_nothing_written(fitted, monkeypatch, args, message):
    folder, _, _ = fitted
    monkeypatch.chdir(folder)
    (folder / "new.csv").write_text("age,sex\n1,male\n2,x\n")
    (folder / "few.csv").write_text("age\n1\n")
    (folder / "one.csv").write_text("x,y\n1,a\n2,b\n3,a\n")
    (folder / "empty.csv").write_text("age,sex\n")
    before = sorted(os.listdir())
    result = run(*args)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stderr.startswith("jaxlr: ")
    assert sorted(os.listdir()) == before


def test_weights_are_repeated_rows_and_a_constant_column_is_nothing(tmp_path):
    rng = np.random.default_rng(1)
    x, flag, times = rng.normal(size=90), rng.random(90) < 0.5, rng.integers(0, 3, 90)
    sick = np.where(x + flag + rng.normal(size=90) > 0.5, "yes", "no")
    gaps = np.where(rng.random(90) < 0.1, np.nan, x)
    table = pd.DataFrame({"x": gaps, "flag": flag, "times": times, "sick": sick})
    table.to_csv(tmp_path / "weighted.csv", index=False)
    repeated = table.loc[table.index.repeat(times.tolist())].drop(columns="times")
    repeated.assign(constant=1e6).to_csv(tmp_path / "repeated.csv", index=False)
    options = ("--target", "sick", "--impute", "median", "--l2", "0.01", "--json")
    weighted = ("--weights", "times", "-o", tmp_path / "m.npz")
    a = run("fit", tmp_path / "weighted.csv", *options, *weighted)
    b = run("fit", tmp_path / "repeated.csv", *options)
    assert a.exit_code == b.exit_code == 0, a.output + b.output
    a, b = (json.loads(result.stdout)["coefficients"] for result in (a, b))
    found, expected = ({row["feature"]: row for row in rows} for rows in (a, b))
    constant = expected.pop("constant")
    assert (constant["coefficient"], constant["interval"]) == (0, [None, None])
    assert found.keys() == expected.keys()
    for name, row in found.items():
        assert row["coefficient"] == pytest.approx(expected[name]["coefficient"], rel=1e-3)
        assert row["interval"] == pytest.approx(expected[name]["interval"], rel=1e-3)
    # As Arrow has booleans, and scored with the weights.
    table.to_parquet(tmp_path / "weighted.parquet", index=False)
    out = tmp_path / "p.csv"
    scores = run("predict", tmp_path / "m.npz", tmp_path / "weighted.parquet", "-o", out, "--json")
    P = pd.read_csv(out)["probability_yes"]
    due = log_loss(sick == "yes", P, sample_weight=times)
    assert json.loads(scores.stdout)["log_loss"] == pytest.approx(due, rel=1e-5)


def test_gaps_are_counted_where_the_model_was_fitted_without(people, tmp_path):
    people.dropna().to_csv(tmp_path / "whole.csv", index=False)
    people.to_csv(tmp_path / "gaps.csv", index=False)
    model, out = tmp_path / "m.npz", tmp_path / "s.csv"
    options = ("--target", "sick", "--features", "age,sex", "-o", model)
    assert run("fit", tmp_path / "whole.csv", *options).exit_code == 0
    result = run("predict", model, tmp_path / "gaps.csv", "-o", out)
    assert result.exit_code == 2
    count = people["age"].isna().sum()
    assert f"missing values, of 120 rows: age {count}." in result.stderr
    assert "fitted without --impute" in result.stderr
    assert not out.exists()


def test_what_is_filled_in_is_counted_by_column(fitted, people, tmp_path):
    folder, _, _ = fitted
    new = people.drop(columns="id")
    new.loc[[0, 3], "sex"], new.loc[[1, 2, 7], "sex"] = None, ["other", "none said", "other"]
    new["sick"] = "unknown"
    new.to_csv(tmp_path / "new.csv", index=False)
    args = ("predict", folder / "model.npz", tmp_path / "new.csv", "--unseen", "base", "-o")
    content = json.loads(run(*args, tmp_path / "a.csv", "--json").stdout)
    assert content["imputed"] == {"age": int(new["age"].isna().sum()), "sex": 2}
    assert content["unseen"] == {"sex": 3}
    assert (content["labelled"], content["log_loss"]) == (0, None)
    text = run(*args, tmp_path / "a.csv").stdout
    assert f"Missing values imputed: age {new['age'].isna().sum()}, sex 2.\n" in text
    assert "Levels not seen, counted as the base: sex 3.\n" in text
    assert "Column sick holds none of the model's classes (no, yes)" in text


def test_separated_classes_without_a_penalty_fail_with_exit_code_1(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i},{int(i > 3)}\n" for i in range(8)))
    options = ("--target", "y", "--l2", "0", "--output", tmp_path / "model.npz")
    result = run("fit", tmp_path / "a.csv", *options)
    assert result.exit_code == 1
    assert (
        "there is no finite optimum, since the classes are separated by x: no row" in result.stderr
    )
    assert "--l2 0.001; or leave such columns out with --exclude. No model" in result.stderr
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_dummy_that_one_class_has_alone_is_named(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{rng.integers(20, 80)},{i % 7 == 0},{rng.choice(['A', 'B'])}" for i in range(70)]
    sick = ["yes" if i % 7 == 0 or i % 2 else "no" for i in range(70)]
    table = "age,rare,city,sick\n" + "".join(f"{a},{b}\n" for a, b in zip(rows, sick, strict=True))
    (tmp_path / "a.csv").write_text(table)
    options = ("--target", "sick", "--output", tmp_path / "model.npz")
    result = run("fit", tmp_path / "a.csv", *options, "--l2", "0")
    assert result.exit_code == 1
    assert "the classes are separated by rare=True: no row" in result.stderr
    assert os.listdir(tmp_path) == ["a.csv"]
    assert run("fit", tmp_path / "a.csv", *options).exit_code == 0


def test_libsvm_text_has_no_columns_with_names(fitted, tmp_path):
    (tmp_path / "a.svm").write_text("1 1:2.5\n0 2:1\n")
    result = run("predict", fitted[0] / "model.npz", tmp_path / "a.svm")
    assert result.exit_code == 2
    assert "a.svm has features by number only, and the model has columns with names: age, sex" in (
        result.stderr
    )


def test_a_column_that_is_new_in_every_row_is_marked(fitted, tmp_path):
    folder, *_ = fitted
    pd.DataFrame({"age": [31.0, 40.0], "sex": ["x", "y"]}).to_csv(tmp_path / "a.csv", index=False)
    result = run("predict", folder / "model.npz", tmp_path / "a.csv", "-o", tmp_path / "b.csv",
                 "--unseen", "base")  # fmt: skip
    assert "counted as the base: sex 2 (every row)." in result.stdout


def test_dates_are_not_offered_as_levels(tmp_path):
    rows = {"y": [0, 1] * 5, "x": range(10), "day": pd.date_range("2026-01-01", periods=10)}
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    result = run("fit", tmp_path / "a.parquet", "--target", "y")
    assert "--exclude day; or make numbers or text of what is neither." in result.stderr
    (tmp_path / "b.csv").write_text("y,x\n" + "0,1\n1,2\n" * 5 + "1,foo\n")
    result = run("fit", tmp_path / "b.csv", "--target", "y")
    assert "x holds numbers and text, as 'foo' in line 12" in result.stderr


def test_help_has_examples_and_exit_codes():
    for command in ("fit", "predict", "inspect", "sweep"):
        text = run(command, "--help").stdout
        assert f"\n    jaxlr {command} " in text
        assert "Exit code: 0;" in text


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_predicting_leaves_no_file(fitted, tmp_path, number):
    folder, _, _ = fitted
    lines = (folder / "people.csv").read_text().splitlines(keepends=True)
    path = tmp_path / "many.csv"
    path.write_text(lines[0] + "".join(lines[1:]) * 20_000)
    program = f"{ATTENTIVE}; import jaxlr_command; jaxlr_command.main()"
    command = [sys.executable, "-c", program, "predict", folder / "model.npz", path, "-o"]
    process = subprocess.Popen([*command, tmp_path / "scored.csv"], stderr=subprocess.PIPE)
    while process.poll() is None and len(os.listdir(tmp_path)) < 2:
        time.sleep(0.01)
    if process.poll() is not None:
        pytest.fail(f"it ended by itself: {process.returncode} {process.communicate()[1]}")
    process.send_signal(number)  # while the temporary file is there
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (-number, b"")
    assert os.listdir(tmp_path) == ["many.csv"]


def test_an_error_while_writing_leaves_no_file(fitted, monkeypatch):
    folder, _, _ = fitted
    before = sorted(os.listdir(folder))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predicting, "_record", interrupted)
    result = run("predict", folder / "model.npz", folder / "people.csv", "-o", folder / "s.csv")
    assert result.exit_code == 130
    assert sorted(os.listdir(folder)) == before
    with write_atomically(folder / "s.csv", replace=False):
        pass


@pytest.mark.slow
def test_the_large_file_in_small(monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("XLA_FLAGS", QUICK_FLAGS)
    with tempfile.TemporaryDirectory() as folder:
        runs, size, floats = run_all(Path(folder), 3_000, 4)
        assert len((Path(folder) / "scored.csv").read_text().splitlines()) == 3_001
    assert [made.command for made in runs] == ["sweep", "fit", "predict"]
    assert floats == 3_000 * 6 * 4
    assert size > floats
    assert "3000 rows, written to scored.csv" in runs[2].output
