"""The command line: numbers against scikit-learn's, what is printed, refused and written."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import jaxlr
from jaxlr import Status, cli
from jaxlr.cli import sweep
from jaxlr.cli.data import load
from jaxlr.files.model_file import load_model
from jaxlr_command import app
from tests.helpers import ATTENTIVE, QUICK_FLAGS

# One size for all in this process: it is compiled once.
SMALL = ["sweep", "--folds", "3", "--penalties", "4", "--l2-min", "1e-3", "--seed", "7"]


def run(*args, **settings):
    return CliRunner().invoke(app.make_app(), [str(arg) for arg in args], **settings)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Run the command once: its JSON, its picture and its model."""
    folder = tmp_path_factory.mktemp("empty")
    plot, output = folder / "sweep.png", folder / "model.npz"
    result = run(*SMALL, "--json", "--plot", plot, "--output", output)
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(folder)) == ["model.npz", "sweep.png"]
    return json.loads(result.stdout), plot, output


@pytest.fixture(scope="module")
def found():
    """What the same command finds: nothing is compiled anew."""
    return sweep.run(load("breast_cancer"), 4, 1e-3, 1.0, 3, 7)


def check_against_scikit_learn(content, rtol):
    X, y = getattr(datasets, f"load_{content['dataset']}")(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    fold_of = np.array(content["fold_of"])
    classes = np.arange(content["n_classes"])
    losses, accuracies = np.zeros((2, len(content["l2"]), content["folds"]))
    for i, l2 in enumerate(content["l2"]):
        for k in range(content["folds"]):
            fit, held_out = fold_of != k, fold_of == k
            model = LogisticRegression(C=1 / (l2 * fit.sum()), tol=1e-8, max_iter=10_000)
            probability = model.fit(X[fit], y[fit]).predict_proba(X[held_out])
            losses[i, k] = log_loss(y[held_out], probability, labels=classes)
            accuracies[i, k] = accuracy_score(y[held_out], probability.argmax(axis=1))
    np.testing.assert_allclose(content["log_loss"], losses, rtol=rtol)
    np.testing.assert_allclose(content["mean_log_loss"], losses.mean(axis=1), rtol=rtol)
    np.testing.assert_allclose(content["accuracy"], accuracies, rtol=1e-6)
    errors = losses.std(axis=1, ddof=1) / content["folds"] ** 0.5
    np.testing.assert_allclose(content["standard_error_log_loss"], errors, rtol=100 * rtol)
    best = losses.mean(axis=1).argmin()
    assert content["best"] == best
    near = losses.mean(axis=1) <= losses.mean(axis=1)[best] + errors[best]
    assert content["best_one_se"] == np.flatnonzero(near).max()


def test_numbers_are_scikit_learns(files):
    content, _, _ = files
    check_against_scikit_learn(content, rtol=1e-4)
    assert [content[key] for key in ("m_examples", "n_features", "folds")] == [569, 30, 3]
    np.testing.assert_allclose(content["l2"], [1e-3, 1e-2, 1e-1, 1], rtol=1e-6)
    assert content["seed"] == 7
    for name in ("gradient_norm", "suboptimality", "num_passes", "status"):
        assert np.shape(content[name]) == (4, 3)


@pytest.mark.slow
def test_softmax_in_a_process_of_its_own_in_an_empty_folder(tmp_path):
    command = [sys.executable, "-m", "jaxlr", "sweep", "--dataset", "iris", "--json"]
    options = ["--folds", "2", "--penalties", "2", "--l2-min", "0.001"]
    done = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        env={**os.environ, "XLA_FLAGS": QUICK_FLAGS},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not os.listdir(tmp_path)
    content = json.loads(done.stdout)
    assert content["n_classes"] == 3
    check_against_scikit_learn(content, rtol=1e-4)


def test_model_is_the_best_penalty_fitted_to_all_data(files):
    content, _, output = files
    model = load_model(output)
    bunch: Any = datasets.load_breast_cancer()
    l2 = content["l2"][content["best"]]
    assert model.metadata["objective"] == content["model"]
    assert model.metadata["objective"]["l2"] == l2
    assert model.metadata["feature_names"] == list(bunch.feature_names)
    assert model.metadata["class_names"] == ["malignant", "benign"]
    training = model.metadata["training"]
    assert [training[key] for key in ("dataset", "folds", "seed")] == ["breast_cancer", 3, 7]
    X = (bunch.data - model.mean) / model.scale
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(X.std(axis=0), 1, rtol=1e-6)
    expected = LogisticRegression(C=1 / (l2 * len(X)), tol=1e-8, max_iter=10_000)
    expected.fit(X, bunch.target)
    np.testing.assert_allclose(model.params.w, np.ravel(expected.coef_), atol=5e-4)
    np.testing.assert_allclose([model.params.b], expected.intercept_, atol=5e-4)


def test_picture_is_a_picture(files):
    _, plot, _ = files
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_another_picture(found, tmp_path):
    sweep.write(found, tmp_path / "sweep.PDF", None)
    assert (tmp_path / "sweep.PDF").read_bytes().startswith(b"%PDF")


# --- What is printed ----------------------------------------------------------------------------


def test_table_fits_80_columns_and_marks_the_chosen_rows(files):
    content, _, _ = files
    result = run(*SMALL, env={"COLUMNS": "60"})
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in result.stdout
    assert lines[0].split() == ["l2", "log", "loss", "accuracy", "gradient", "gap", "status"]
    (best,) = (line for line in lines if line.startswith(("best ", "both ")))
    l2 = content["l2"][content["best"]]
    loss = content["mean_log_loss"][content["best"]]
    error = content["standard_error_log_loss"][content["best"]]
    assert f"{l2:.2e}" in best
    assert f"{loss:.4f} ± {error:.4f}" in best
    if content["best_one_se"] != content["best"]:
        (one_se,) = (line for line in lines if line.startswith("1 SE "))
        assert f"{content['l2'][content['best_one_se']]:.2e}" in one_se
    told = " ".join(result.stdout.split())
    for words in (
        "breast_cancer: 569 examples × 30 features",
        "columns standardised (mean and standard deviation of all examples)",
        "3 folds × 4 penalties = 12 lanes",
        content["dtype"],
        f"Best, fitted to all examples: l2 = {l2:.2e}, objective {content['model']['loss']:.6f}",
    ):
        assert words in told


def changed(found, code, lane=1, fold=2):
    status = found.result.solutions.status.copy()
    status[lane, fold] = code
    result = found.result
    return found._replace(
        result=result._replace(solutions=result.solutions._replace(status=status))
    )


@pytest.mark.parametrize("code", list(Status))
def test_every_status_is_told_in_the_table(found, code):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    console.print(sweep._table(changed(found, code)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert all(word in text for word in code.name.lower().split("_"))


def test_both_marks_on_one_row_and_an_edge_are_told(found, capsys):
    zero = np.array(0)
    same = found._replace(result=found.result._replace(best=zero, best_one_se=zero))
    sweep.show(same)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("both  1.00e-03")
    assert lines[2].startswith("      ")
    assert lines[6].startswith("both: best and 1 SE. best: the least mean log loss. 1 SE: the")
    assert "lower --l2-min" in sweep._closing(same)[-1]
    last = found._replace(result=found.result._replace(best=np.array(3)))
    assert "raise --l2-max" in sweep._closing(last)[-1]


def test_a_failed_fit_ends_with_exit_code_1_and_a_sentence(found, monkeypatch):
    bad = changed(found, Status.OUT_OF_PASSES)
    monkeypatch.setattr(sweep, "run", lambda *_: bad)
    result = run("sweep")
    assert result.exit_code == 1
    assert result.stderr == (
        "jaxlr: 1 of 16 fits failed; the first is l2 = 1.00e-02 on those outside fold 2: "
        "max_passes was reached before the tolerance.\n"
    )
    assert "best" in result.stdout
    result = run("sweep", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"][1][2] == "out_of_passes"
    path = found.path._replace(status=np.array([0, 0, 0, Status.NOT_FINITE]))
    assert "l2 = 1.00e+00 on all examples" in str(sweep.failure(found._replace(path=path)))


def test_what_is_not_finite_is_null_in_json(found):
    bound = np.full((4, 3), np.inf)
    bound[0, 0] = 0.5
    fits = found.result.solutions._replace(suboptimality=bound)
    content = sweep.content(found._replace(result=found.result._replace(solutions=fits)))
    assert content["suboptimality"][0] == [0.5, None, None]
    json.dumps(content, allow_nan=False)


def test_a_terminal_without_the_signs_shows_others(found, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sweep, "run", lambda *_: found)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["jaxlr", "sweep"])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 0
    stream.flush()
    assert b" ? " in stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_help_and_version():
    bare, asked = run(), run("--help")
    assert bare.exit_code == asked.exit_code == 0
    assert bare.stdout.strip() == asked.stdout.strip()
    assert "sweep" in bare.stdout
    assert run("--version").stdout == f"jaxlr {jaxlr.__version__}\n"
    text = run("sweep", "--help").stdout
    assert "\n    jaxlr sweep --dataset digits --plot digits.png --output digits.npz\n" in text
    for option in ("--folds", "--penalties", "--l2-min", "--l2-max", "--seed", "--json"):
        assert option in text


# --- What is refused ----------------------------------------------------------------------------


def begun(*_, **__):
    pytest.fail("work was begun")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dataset", "titanic"], "'breast_cancer', 'digits', 'iris'"),
        (["--folds", "1"], "--folds"),
        (["--folds", "49", "--dataset", "wine"], "class class_2 has 48 examples, and every fold"),
        (["--penalties", "1"], "--penalties"),
        (["--seed", "-1"], "--seed"),
        (["--l2-min", "0"], "--l2-min 0 --l2-max 1: they must be positive and finite"),
        (["--l2-min", "nan"], "--l2-min nan --l2-max 1: they must be positive and finite"),
        (["--l2-min", "2"], "the first below the second"),
        (["--l2-max", "inf"], "--l2-min 0.0001 --l2-max inf: they must be positive and finite"),
        (["--l2-min", "1e-320"], "they must be positive"),
        (["--plot", "a.gif"], "a.gif is a name that does not end in .png or .svg or .pdf."),
        (["--plot", "none/a.png"], "none/a.png cannot be written: there is no folder none."),
        (["--output", "model"], "model is a name that does not end in .npz."),
        (["--output", "none/a.npz"], "none/a.npz cannot be written: there is no folder none."),
        (["--output", "folder.npz"], "folder.npz cannot be written: it is there already, and is"),
    ],
)
def test_refused_before_the_work_with_exit_code_2(tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    monkeypatch.setattr(sweep, "cross_validate_and_fit", begun)
    result = run("sweep", *args)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert os.listdir(tmp_path) == ["folder.npz"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that takes no files")
def test_an_unwritable_folder_is_refused():
    result = run("sweep", "--output", "/proc/self/a.npz")
    assert result.exit_code == 2
    assert result.stderr.startswith("jaxlr: /proc/self/a.npz cannot be written: ")


@pytest.mark.parametrize(
    ("module", "package", "extra", "args"),
    [
        ("typer", "typer", "cli", ["sweep"]),
        ("rich.console", "rich", "cli", ["sweep"]),
        ("sklearn", "sklearn", "cli", ["sweep"]),
        ("matplotlib.figure", "matplotlib", "plots", ["sweep", "--plot", "a.png"]),
    ],
)
def test_missing_packages_are_named(tmp_path, monkeypatch, capsys, module, package, extra, args):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sweep, "cross_validate_and_fit", begun)
    monkeypatch.setattr(sys, "argv", ["jaxlr", *args])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 2
    message = f'This needs {package}, which is not installed: pip install "jaxlr[{extra}]"'
    assert capsys.readouterr().err == f"jaxlr: {message}\n"


def test_an_interruption_leaves_the_old_picture_whole(found, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def half(self, file, **settings):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", half)
    monkeypatch.setattr(sweep, "run", lambda *_: found)
    assert run("sweep", "--plot", path).exit_code != 0
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_ends_the_work_at_once(tmp_path):
    code = f"""
{ATTENTIVE}
import os
import jaxlr_command
from jaxlr.cli import sweep
sweep.cross_validate_and_fit = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
jaxlr_command.main()
"""
    command = [sys.executable, "-c", code, "sweep", "--output", "a.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGINT
    assert (done.stdout, done.stderr, os.listdir(tmp_path)) == (b"", b"", [])


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_while_importing_is_no_traceback(tmp_path):
    (tmp_path / "jax.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"
    )
    code = f"{ATTENTIVE}; import jaxlr_command; jaxlr_command.main()"
    command = [sys.executable, "-c", code, "sweep"]
    paths = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[2])])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_standard_output_is_said_in_a_sentence(monkeypatch, capsys):
    for args in (["--version"], ["sweep", "--help"]):
        with open("/dev/full", "w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            monkeypatch.setattr(sys, "argv", ["jaxlr", *args])
            with pytest.raises(SystemExit) as end:
                app.main()
            assert end.value.code == 2
            message = "jaxlr: standard output cannot be written: No space left on device.\n"
            assert capsys.readouterr().err == message
            assert stream.closed  # or Python tries again at its exit


def test_what_was_found_is_told_although_the_disk_is_full(found, tmp_path, monkeypatch):
    def full(self, file, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    monkeypatch.setattr(sweep, "run", lambda *_: found)
    path = tmp_path / "a.png"
    result = run("sweep", "--plot", path)
    assert result.exit_code == 2
    assert result.stderr == f"jaxlr: {path} cannot be written: No space left on device.\n"
    assert "Best, fitted to all examples" in " ".join(result.stdout.split())
    assert not os.listdir(tmp_path)
