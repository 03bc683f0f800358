"""Model files: what is saved is read back, whole or not at all, and nothing else is taken."""

import io
import json
import os
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris

import jaxlr
from jaxlr.base.atomic import WriteError, write_atomically
from jaxlr.door.design import Column, Design
from jaxlr.files.model_file import load_model, save_model
from jaxlr.inference.intervals import StandardErrors
from jaxlr.model.batch import Params
from tests.helpers import problem


def saved(path, n_classes=3, n=4, **changes):
    rng = np.random.default_rng(0)
    classes = () if n_classes == 2 else (n_classes,)
    params = Params(rng.normal(size=(n, *classes)), rng.normal(size=classes))
    content = {
        "mean": rng.normal(size=n),
        "scale": rng.uniform(1, 2, n),
        "feature_names": [f"x{j}" for j in range(n)],
        "class_names": [f"k{k}" for k in range(n_classes)],
        "objective": {"l2": 0.1, "suboptimality": None, "status": "converged"},
        "training": {"dataset": "ünïcode", "seed": 3},
    }
    content |= changes
    save_model(path, params, **content)
    return params, content


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_saved_is_loaded(tmp_path, n_classes, dtype):
    path = tmp_path / "a.npz"
    params, content = saved(path, n_classes)
    params = Params(*(np.asarray(a, dtype) for a in params))
    save_model(path, params, **content)
    model = load_model(path)
    for a, b in zip(model.params, params, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model.mean, content["mean"])
    np.testing.assert_array_equal(model.scale, content["scale"])
    for name in ("feature_names", "class_names", "objective", "training"):
        assert model.metadata[name] == content[name]
    assert model.metadata["n_classes"] == n_classes
    assert model.metadata["jaxlr_version"] == jaxlr.__version__
    assert os.listdir(tmp_path) == ["a.npz"]


def test_parameters_of_jax_and_in_half_precision(tmp_path):
    params, _ = problem(3, 5, 3, dtype=jnp.bfloat16)
    save_model(tmp_path / "a.npz", params)
    model = load_model(tmp_path / "a.npz")
    np.testing.assert_array_equal(model.params.w, np.asarray(params.w, np.float32))
    np.testing.assert_array_equal(model.mean, np.zeros(3))
    np.testing.assert_array_equal(model.scale, np.ones(3))


def test_numpy_and_json_alone_predict_with_it(tmp_path):
    path = tmp_path / "a.npz"
    params, content = saved(path)
    X = np.random.default_rng(1).normal(size=(4, 6))
    with np.load(path, allow_pickle=False) as file:
        Z = file["w"].T @ ((X - file["mean"][:, None]) / file["scale"][:, None])
        Z += file["b"][:, None]
        assert json.loads(str(file["metadata"]))["class_names"] == content["class_names"]
    standardised = (X - content["mean"][:, None]) / content["scale"][:, None]
    with jax.enable_x64(True):
        expected = jaxlr.logits(Params(*map(jnp.asarray, params)), jnp.asarray(standardised))
    np.testing.assert_allclose(Z, expected, rtol=1e-12)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    saved(tmp_path / "a.npz")
    saved(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:  # no date either
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": np.zeros(3)}, r"mean has shape \(3,\) where \(4,\) is due"),
        ({"scale": np.zeros(4)}, "scale must be positive"),
        ({"feature_names": ["a"]}, "feature_names has 1 names where 4 are due"),
        ({"class_names": ["a", "b"]}, "class_names has 2 names where 3 are due"),
        ({"objective": {"loss": float("nan")}}, "JSON cannot hold"),
        ({"training": {"key": object()}}, "JSON cannot hold"),
    ],
)
def test_parts_that_do_not_fit_are_not_saved(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        saved(tmp_path / "a.npz", **changes)
    assert not os.listdir(tmp_path)


def test_lanes_are_not_one_model(tmp_path):
    with pytest.raises(ValueError, match=r"b has shape \(2,\) where \(3,\) is due"):
        save_model(tmp_path / "a.npz", Params(np.zeros((2, 3)), np.zeros(2)))
    with pytest.raises(ValueError, match="w has shape"):
        save_model(tmp_path / "a.npz", Params(np.zeros((2, 3, 4)), np.zeros((2, 4))))


# --- Files that are refused ---------------------------------------------------------------------


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def pickled():
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **dict.fromkeys(("w", "b", "mean"), np.array([object()])))
    return file.getvalue()


FOREIGN = {
    "nothing": b"",
    "text": b"w,b\n1,2\n",
    "array": (lambda file: (np.save(file, np.ones(3)), file.getvalue())[1])(io.BytesIO()),
    "npz": npz(a=np.ones(3)),
    "no metadata": npz(w=np.ones(3), b=np.ones(()), mean=np.zeros(3), scale=np.ones(3)),
    "metadata no JSON": npz(**dict.fromkeys(("w", "b", "mean", "scale", "metadata"), np.ones(3))),
    "another format": npz(
        **dict.fromkeys(("w", "b", "mean", "scale"), np.ones(3)), metadata=np.array('{"a": 1}')
    ),
    "metadata a list": npz(
        **dict.fromkeys(("w", "b", "mean", "scale"), np.ones(3)), metadata=np.array("[1]")
    ),
    "pickle": pickled(),
}


OWN_WORDS = (
    "it is no .npz archive, or not all of one.",
    "it lacks the array '",
    "its metadata are no JSON.",
    "its format is not 'jaxlr model'.",
    "its content cannot be read.",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused_in_one_sentence(tmp_path, name):
    path = tmp_path / "a.npz"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(ValueError, match="not a model of jaxlr, or is damaged") as error:
        load_model(path)
    assert str(path) in str(error.value)
    words = str(error.value).partition("damaged: ")[2]
    assert any(words.startswith(own) for own in OWN_WORDS), words


def test_a_newer_format_and_parts_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    saved(path)
    with np.load(path) as file:
        arrays = dict(file)
    metadata = json.loads(str(arrays["metadata"]))
    newer = json.dumps(metadata | {"format_version": 9})
    for changes, message in (
        (
            {"metadata": np.array(newer)},
            "its format version is 9, and this jaxlr reads those up to 2",
        ),
        ({"b": np.zeros(2)}, r"b has shape \(2,\)"),
        ({"w": np.zeros((4, 5))}, r"b has shape \(3,\)"),
        ({"w": np.zeros((4, 3), int)}, "floating-point"),
        ({"scale": np.full(4, np.nan)}, "scale must be positive"),
        ({"mean": np.full(4, np.nan)}, "must be finite"),
    ):
        path.write_bytes(npz(**(arrays | changes)))
        with pytest.raises(ValueError, match=message):
            load_model(path)


def test_a_model_of_every_format_loads():
    """Files of earlier formats are kept; what each holds is written down here."""
    model = load_model(Path(__file__).parent / "models" / "format_1.npz")
    assert model.metadata["format_version"] == 1
    assert model.metadata["class_names"] == ["setosa", "versicolor", "virginica"]
    assert model.metadata["objective"]["l2"] == pytest.approx(1e-3)
    assert model.design is None
    assert model.errors is None
    X, y = load_iris(return_X_y=True)
    np.testing.assert_allclose(model.mean, X.mean(axis=0), rtol=1e-6)
    Z = (X - model.mean) / model.scale @ model.params.w + model.params.b
    assert (Z.argmax(axis=1) == y).mean() > 0.95


def test_design_and_errors_are_loaded(tmp_path):
    columns = Column("age", None, 38.5), Column("city", ("Bern", "Ulm"), None)
    design = Design(columns, "sick", ("no", "yes"), "count", ("?",))
    errors = StandardErrors(np.array([0.1, np.inf]), np.array(0.3), np.array(0.4))
    path = tmp_path / "a.npz"
    save_model(
        path, Params(np.ones(2), np.zeros(())), design=design, errors=errors, data={"rows": 9}
    )
    model = load_model(path)
    assert model.design == design
    assert model.metadata["feature_names"] == ["age", "city=Ulm"]
    assert model.metadata["data"] == {"rows": 9}
    assert model.errors is not None
    for a, b in zip(model.errors, errors, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="standard errors have other shapes"):
        save_model(path, Params(np.ones(3), np.zeros(())), errors=errors)
    assert load_model(path).design == design


def test_damage_is_refused_or_harmless(tmp_path):
    path = tmp_path / "a.npz"
    params, content = saved(path)
    whole = path.read_bytes()

    def check(damaged):
        path.write_bytes(damaged)
        try:
            model = load_model(path)
        except ValueError:
            return
        np.testing.assert_array_equal(model.params.w, params.w)
        np.testing.assert_array_equal(model.params.b, params.b)
        np.testing.assert_array_equal(model.mean, content["mean"])
        np.testing.assert_array_equal(model.scale, content["scale"])
        assert model.metadata["objective"] == content["objective"]

    for length in range(0, len(whole), 97):
        check(whole[:length])
    for place in range(0, len(whole), 11):
        check(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.npz")


# --- Writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_the_old_file_whole(tmp_path, monkeypatch, interruption):
    path = tmp_path / "a.npz"
    saved(path)
    before = path.read_bytes()

    def half(file, **arrays):
        file.write(before[: len(before) // 2])
        raise interruption

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(interruption):
        saved(path, n=7)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_full_disk_is_told_in_a_sentence(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    message = f"{path} cannot be written: No space left on device."
    with pytest.raises(WriteError) as error, write_atomically(path):
        raise OSError(28, "No space left on device")
    assert str(error.value) == message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.npz"]


def test_folders_and_missing_folders_are_refused(tmp_path):
    for path, message in (
        (tmp_path, "is not a file"),
        (tmp_path / "none" / "a", "No such file"),
    ):
        with pytest.raises(WriteError, match=message), write_atomically(path):
            pass
    assert not os.listdir(tmp_path)


def test_links_are_followed_and_the_file_is_readable_by_others(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "real" / "a.npz")
    saved(link)
    assert link.is_symlink()
    load_model(tmp_path / "real" / "a.npz")
    plain = tmp_path / "plain"
    plain.touch()
    assert link.stat().st_mode == plain.stat().st_mode


def test_trying_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.npz"
    with write_atomically(path, replace=False):
        pass
    assert not os.listdir(tmp_path)
    path.write_bytes(b"old")
    with write_atomically(path, replace=False):
        pass
    assert path.read_bytes() == b"old"
