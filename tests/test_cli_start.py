"""What the command line imports, and where it keeps its programs."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

import jaxlr
from jaxlr.cli.data import load
from jaxlr.cli.datasets import dataset
from jaxlr_command.sweep import Dataset

HEAVY = (
    "jax",
    "jaxlr",
    "numpy",
    "optax",
    "pyarrow",
    "rich",
    "sklearn",
    "scipy",
    "pandas",
    "matplotlib",
)


def imported(*args, **settings):
    """Run a command in a process of its own: its output, and which heavy packages it imported."""
    code = f"""
import atexit, sys
import jaxlr_command
atexit.register(lambda: print(*({set(HEAVY)!r} & set(sys.modules)), file=sys.stderr))
jaxlr_command.main()
"""
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, **settings
    )
    assert done.returncode == settings.get("returncode", 0), done.stderr
    return done.stdout, set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "sweep"),
        (["--help"], "sweep"),
        (["sweep", "--help"], "--penalties"),
        (["fit", "--help"], "--impute"),
        (["--version"], f"jaxlr {jaxlr.__version__}\n"),
    ],
)
def test_help_and_version_import_nothing_of_jax(args, words):
    text, packages = imported(*args)
    assert words in text
    assert not packages


@pytest.mark.slow
def test_a_fit_and_its_predictions_import_no_pandas_and_nothing_for_pictures(tmp_path):
    rows = [f"{i},{i % 3 - 1 if i % 5 else ''},{' b' if i % 4 else 'a'},{i % 2}" for i in range(40)]
    (tmp_path / "some.csv").write_text("\n".join(["x,z,city,y", *rows]))
    unwanted = {"pandas", "sklearn", "matplotlib"}
    fit = ["fit", "some.csv", "--target", "y", "--impute", "mean", "-o", "model.npz"]
    text, packages = imported(*fit, cwd=tmp_path)
    assert "city" in text
    assert not packages & unwanted
    text, packages = imported("predict", "model.npz", "some.csv", cwd=tmp_path)
    assert text.startswith('"prediction","probability_1"\n')
    assert not packages & unwanted
    _, packages = imported("sweep", "--folds", "2", "--penalties", "2", "--json", cwd=tmp_path)
    assert not packages & (unwanted | {"pyarrow"})


@pytest.mark.parametrize("name", list(Dataset))
def test_data_sets_are_scikit_learns_without_importing_it(name):
    found, bunch = dataset(name), getattr(datasets, f"load_{name}")()
    np.testing.assert_array_equal(found.rows, bunch.data)
    np.testing.assert_array_equal(found.labels, bunch.target)
    assert found.labels.dtype == bunch.target.dtype
    assert found.feature_names == list(bunch.feature_names)
    assert found.class_names == [str(name) for name in bunch.target_names]
    data = load(name)
    mean, deviation = bunch.data.mean(axis=0), bunch.data.std(axis=0)
    rows = (bunch.data - mean) / np.where(deviation > 0, deviation, 1)
    np.testing.assert_allclose(data.batch.X, rows.T, rtol=1e-6)
