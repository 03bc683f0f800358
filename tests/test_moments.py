"""Numbers near the ends of float64 and float32: moments, fits, predictions, weights."""

import json
from fractions import Fraction

import jax
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jaxlr.cli import inspection
from jaxlr.cli.data import Reading, read
from jaxlr.door.moments import Moments, add_numbers, deviation_of, mean_of, standardised
from jaxlr.files.model_file import load_model
from jaxlr.tables import TableError
from jaxlr_command import app
from tests.test_design import written

pytestmark = pytest.mark.usefixtures("quick_programs")
MAX = float(np.finfo(float).max)
UNIT = np.random.default_rng(0).normal(size=60)
SIGNS = np.where(UNIT > 0, 1.0, -1.0)
LABELS = np.random.default_rng(1).integers(0, 2, 60)


def run(*args):
    return CliRunner().invoke(app.make_app(), [str(arg) for arg in args])


COLUMNS = {
    "huge": UNIT * 1e200,
    "most": SIGNS * MAX,
    "tiny": UNIT * 1e-200,
    "least": np.arange(60) % 4 * 5e-324,
    "far": 1e200 + np.arange(60) * 1e190,
    "clock": 1.7e9 + np.arange(60) % 59,
    "mixed": np.where(np.arange(60) < 30, UNIT * 1e-200, UNIT * 1e200),
    "late": np.where(np.arange(60) < 30, 0.0, UNIT * 1e-200),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_moments_are_those_of_exact_arithmetic(name):
    """Of three chunks, one of the weights zero; as fractions have them."""
    values, weights = COLUMNS[name], np.arange(60) % 3 * 1e-300
    found = Moments()
    for part in (slice(0, 7), slice(7, 40), slice(40, None)):
        found = add_numbers(found, values[part], weights[part])
    exact, shares = list(map(Fraction, values.tolist())), np.arange(60) % 3
    total = int(shares.sum())
    mean = sum(x * int(c) for x, c in zip(exact, shares, strict=True)) / total
    variance = sum((x - mean) ** 2 * int(c) for x, c in zip(exact, shares, strict=True)) / total
    size = max(map(abs, exact))
    due = float(size) * float(variance / size**2) ** 0.5
    # The least float64 is a whole step: to one of them, its moments are right.
    assert deviation_of(found) == pytest.approx(due, rel=1e-11, abs=5e-324)
    assert abs(Fraction(mean_of(found)) - mean) <= max(
        abs(mean) * Fraction(1e-14), Fraction(5e-324)
    )


def test_a_constant_column_is_constant_whatever_its_size():
    for value in (MAX, -MAX, 1e-320, 0.0, 0.1):
        found = add_numbers(Moments(), np.full(9, value), np.linspace(0, 1, 9))
        assert (mean_of(found), deviation_of(found)) == (value, 0.0)


def test_standardised_numbers_do_not_overflow_on_the_way():
    X = np.array([[-MAX, MAX], [1.0, 3.0]])
    found = standardised(X, np.array([MAX / 2, 1.0]), np.array([MAX / 2, 2.0]))
    np.testing.assert_array_equal(found, [[-3, 1], [0, 1]])
    assert np.isinf(standardised(np.array([[MAX]]), np.zeros(1), np.full(1, 0.5))).all()


@pytest.mark.parametrize("impute", ["mean", "median"])
def test_columns_of_any_size_are_standardised(tmp_path, dtype, impute):
    frame = pd.DataFrame({name: COLUMNS[name] for name in COLUMNS if name != "least"})
    data = read(written(tmp_path, frame.assign(y=LABELS), "a.parquet"), Reading("y", impute=impute))
    for x, (name, column) in zip(np.asarray(data.batch.X), frame.items(), strict=True):
        shrunk = np.ldexp(column.to_numpy(), -np.frexp(column.abs().max())[1])
        shrunk = shrunk - shrunk[0]
        due = (shrunk - shrunk.mean()) / shrunk.std()
        np.testing.assert_allclose(x, due, rtol=1e-5, atol=2e-6, err_msg=str(name))
    assert not any("onstant" in note for note in data.notes)


def test_medians_keep_the_digits_of_the_column(tmp_path, dtype):
    times = 1.7e9 + np.r_[np.arange(40.0), np.full(19, 0.5), np.nan]
    most = np.r_[np.full(40, MAX), np.full(19, -MAX), np.nan]
    frame = pd.DataFrame({"t": times, "most": most, "y": LABELS})
    data = read(written(tmp_path, frame, "a.parquet"), Reading("y", impute="median"))
    assert data.design is not None
    fills = [column.fill for column in data.design.columns]
    assert fills == [np.nanmedian(times), pytest.approx(MAX, rel=1e-6)]


@pytest.mark.parametrize("classes", [2, 3])
def test_coefficients_follow_the_units(tmp_path, classes):
    """A column in units of 1e-200, 1e200 and 1: one fit, and the model files load."""
    label, rows = np.arange(60) % classes, []
    for unit in (1.0, 1e200, 1e-200):
        path, model = tmp_path / f"{unit:g}.csv", tmp_path / "m.npz"
        pd.DataFrame({"x": UNIT * unit, "y": label}).to_csv(path, index=False)
        result = run("fit", path, "--target", "y", "-o", model, "--json")
        assert result.exit_code == 0, result.output
        (found, *_) = (r for r in json.loads(result.stdout)["coefficients"] if r["feature"] == "x")
        rows.append([found["coefficient"] * unit, *np.array(found["interval"]) * unit])
        assert load_model(model).scale == pytest.approx(UNIT.std() * unit, rel=1e-12)
        assert run("inspect", model).exit_code == 0
    np.testing.assert_allclose(rows[1:], [rows[0]] * 2, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e200, 1e35, 1e160])
def test_a_scale_whose_square_overflows_is_not_kept(tmp_path, unit):
    path = tmp_path / "a.csv"
    unit = unit if unit > 1e100 or not jax.config.read("jax_enable_x64") else 1e200
    pd.DataFrame({"x": UNIT * unit, "y": LABELS}).to_csv(path, index=False)
    result = run("fit", path, "--target", "y", "--no-standardize")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"column x of {path} has a standard deviation of {UNIT.std() * unit:.3g}, whose" in (
        result.stderr
    )


def test_a_fit_without_finite_numbers_is_told(models, capsys):
    model = load_model(models / "two.npz")
    lost = {**model.metadata["objective"], "loss": None, "gradient_norm": None}
    data = {**model.metadata["data"], "log_loss": None, "accuracy": None}
    inspection.show(
        model._replace(metadata=model.metadata | {"objective": lost, "data": data}), 0.9
    )
    told = " ".join(capsys.readouterr().out.split())
    assert "Objective unknown, l2 = " in told
    assert "fitted to: log loss unknown (" in told


def test_a_unit_beyond_float64_is_told_as_unknown(tmp_path):
    path, model = tmp_path / "a.csv", tmp_path / "m.npz"
    pd.DataFrame({"x": COLUMNS["least"], "y": LABELS}).to_csv(path, index=False)
    assert run("fit", path, "--target", "y", "-o", model).exit_code == 0
    result = run("inspect", model)
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("x "))
    assert line.split()[2:] == ["–", "–", "–"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of two classes and of three, and how their predictions grow with a and b."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60)})
    frame["two"] = np.where(frame["a"] - frame["b"] + rng.normal(size=60) > 0, "yes", "no")
    frame["three"] = np.digitize(frame["a"] + rng.normal(size=60), [-0.5, 0.5])
    frame.to_csv(folder / "a.csv", index=False)
    for target in ("two", "three"):
        options = ("--target", target, "--features", "a,b", "-o", folder / f"{target}.npz")
        assert run("fit", folder / "a.csv", *options).exit_code == 0
    return folder


@pytest.mark.parametrize("large", [1e39, 1e300])
def test_predictions_of_huge_rows_are_zero_or_one(models, tmp_path, dtype, large):
    path, out = tmp_path / "new.csv", tmp_path / "p.csv"
    rows = {"a": [large, -large, large], "b": [0, 0, large]}
    pd.DataFrame({**rows, "two": ["yes", "no", "yes"]}).to_csv(path, index=False)
    result = run("predict", models / "two.npz", path, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    found = pd.read_csv(out)
    w, scale = load_model(models / "two.npz").params.w, load_model(models / "two.npz").scale
    third = float(w @ (1 / scale) > 0)
    assert found["probability_yes"].tolist() == [1, 0, third]
    assert found["prediction"].tolist() == ["yes", "no", "yes" if third else "no"]
    assert run("predict", models / "three.npz", path, "-o", out).exit_code == 0
    P = pd.read_csv(out).filter(like="probability").to_numpy()
    np.testing.assert_array_equal(P[:2], [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(P.sum(axis=1), 1)


@pytest.mark.parametrize("target", ["two", "three"])
def test_a_prediction_that_is_not_finite_is_refused(models, tmp_path, target):
    path, out = tmp_path / "new.csv", tmp_path / "p.csv"
    model = load_model(models / f"{target}.npz")
    far = model._replace(scale=model.scale * 1e-3)
    from jaxlr.cli import predicting

    pd.DataFrame({"a": [0, 1e308], "b": [0, 0]}).to_csv(path, index=False)
    with pytest.raises(TableError, match=r"column a is 1e\+308 in line 3 of .*correct it"):
        predicting.run(far, path, out, predicting.Options())
    steep = model._replace(params=model.params._replace(w=model.params.w * 1e10))
    pd.DataFrame({"a": [0, 0], "b": [0, 1e300]}).to_csv(path, index=False)
    with pytest.raises(TableError, match=r"logit of line 3 .* column b is 1e\+300, far beyond"):
        predicting.run(steep, path, out, predicting.Options())
    assert not out.exists()


def test_weights_near_the_ends(tmp_path, x64_off):
    frame = pd.DataFrame({"x": UNIT, "y": LABELS})

    def mean(weights):
        path = written(tmp_path, frame.assign(w=weights), "w.csv")
        return read(path, Reading("y", weights="w")).mean

    share = np.arange(60) % 3
    due = np.average(UNIT, weights=share)
    for unit in (1e-25, 1e25):
        np.testing.assert_allclose(mean(share * unit), due, rtol=1e-9)
    for unit, told in ((1e-40, r"sum to 6e-39, and float32 takes sums from 1e-31 to 1e\+31"),
                       (1e38, r"sum to 6e\+39, and float32"), (1e307, "sum to more than 1.8e308"),
                       ):  # fmt: skip
        with pytest.raises(TableError, match=f"--weights w: .* {told}.*divide them by their mean"):
            mean(share * unit)


def test_a_constant_of_any_size_counts_no_rows(tmp_path):
    frame = pd.DataFrame({"c": np.full(60, MAX), "x": UNIT, "y": LABELS})
    data = read(written(tmp_path, frame), Reading("y"))
    assert data.notes == ("Constant, and so of no effect: c.",)
    np.testing.assert_array_equal(data.batch.X[0], 0)
