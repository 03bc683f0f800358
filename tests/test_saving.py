"""Fits as files, from Python: read by NumPy, by `jaxlr.load` and by the command line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import jaxlr
from jaxlr_command import app
from tests.helpers import problem

PENALTY = jaxlr.Penalty(0.1)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_fit_comes_back_as_it_was(n_classes, dtype, tmp_path):
    _, batch = problem(4, 60, n_classes, dtype=dtype)
    solution = jaxlr.fit(batch, PENALTY)
    names = {"feature_names": list("abcd"), "class_names": ["x", "y", "z"][:n_classes]}
    mean, scale = np.arange(4.0), np.array([1.0, 2.0, 3.0, 4.0])
    path = tmp_path / "model.npz"
    jaxlr.save(path, solution, PENALTY, mean=mean, scale=scale, **names)
    with np.load(path) as content:
        np.testing.assert_array_equal(content["w"], solution.params.w)
        np.testing.assert_array_equal(content["scale"], scale)
    model = jaxlr.load(path)
    assert model.params.w.dtype == dtype
    np.testing.assert_array_equal(model.params.b, solution.params.b)
    np.testing.assert_array_equal(model.mean, mean)
    assert {name: model.metadata[name] for name in names} == names
    told = model.metadata["objective"]
    assert (told["l2"], told["loss"]) == (0.1, float(solution.loss))
    assert told["status"] == jaxlr.Status(int(solution.status)).name.lower()
    np.testing.assert_array_equal(
        jaxlr.predict(model.params, batch.X), jaxlr.predict(solution.params, batch.X)
    )


@pytest.mark.parametrize("penalty", [PENALTY, None])
def test_the_command_line_tells_of_it(penalty, tmp_path):
    _, batch = problem(2, 40)
    path = tmp_path / "model.npz"
    jaxlr.save(path, jaxlr.fit(batch, PENALTY), penalty, feature_names=["age", "dose"])
    found = CliRunner().invoke(app.make_app(), ["inspect", str(path)])
    assert found.exit_code == 0, found.output
    assert "dose" in found.output
    assert f"l2 = {'0.1' if penalty else 'unknown'}, gradient" in found.output


def test_what_is_no_fit_is_refused_and_the_file_stays(tmp_path):
    _, batch = problem(2, 40)
    solution, path = jaxlr.fit(batch, PENALTY), tmp_path / "model.npz"
    jaxlr.save(path, solution)
    before = path.read_bytes()
    lanes = jax.tree.map(lambda a: jnp.stack([a, a]), solution)
    with pytest.raises(ValueError, match=r"lanes of shape \(2,\).*lambda a: a\[0\], solution\)"):
        jaxlr.save(path, lanes)
    with pytest.raises(jaxlr.FitError, match="max_passes was reached"):
        jaxlr.save(path, jaxlr.fit(batch, PENALTY, max_passes=1))
    with pytest.raises(TypeError, match="solution is a Params where a Solution is due"):
        jaxlr.save(path, solution.params)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="feature_names has 3 names where 2 are due"):
        jaxlr.save(path, solution, feature_names=["a", "b", "c"])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]
    path.write_bytes(before[:100])
    with pytest.raises(ValueError, match="is not a model of jaxlr"):
        jaxlr.load(path)
