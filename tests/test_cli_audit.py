"""`jaxlr audit` on the shell: verdicts as exit codes, and refusals in a sentence."""

import sys

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxlr import self_audit
from jaxlr.cli import audit
from jaxlr.model import objective
from jaxlr_command import app

pytestmark = pytest.mark.usefixtures("quick_programs")

MODEL = """
import jax, jax.numpy as jnp

def loss(w, X, y):
    return ((w @ X - y) ** 2).mean()

def gradient(w, X, y):
    return 2 * X @ (w @ X - y) / y.size

def half(w, X, y):
    return X @ (w @ X - y) / y.size

def kinked(w, X, y):
    return jnp.abs(w - jnp.array([1.0, 3.0])).sum()

def point():
    return jnp.array([1.0, -2.0]), jnp.arange(10.0).reshape(2, 5) / 5, jnp.ones(5)

def broken():
    raise RuntimeError("no data today")

def ends():
    raise SystemExit(0)

def listed():
    return [jnp.ones(2), jnp.ones((2, 5)), jnp.ones(5)]

def named():
    return {"y": jnp.ones(5), "w": jnp.ones(2), "X": jnp.ones((2, 5))}

def forgot():
    pass

def counted(w, X, y):
    return (w @ X > y).sum()

def scaled(w, X, y, l2=0.1, *, scale=1.0):
    return scale * loss(w, X, y) + l2 * (w**2).sum()

def rooted(w, X, y):
    return jnp.where(w > 0, jnp.sqrt(w), 0.0).sum()

class Nested:
    loss = staticmethod(loss)

three = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "themodel", raising=False)
    (tmp_path / "themodel.py").write_text(MODEL)
    yield tmp_path
    sys.modules.pop("themodel", None)


def run(*args):
    return CliRunner().invoke(app.make_app(), ["audit", *map(str, args)])


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["themodel:loss"], 0, "AGREES: the gradient of loss is right"),
        (["themodel:loss", "--grad", "themodel:gradient"], 0, "AGREES"),
        (["themodel:Nested.loss", "--reference", "themodel:loss"], 0, "reference"),
        (["themodel:loss", "--grad", "themodel:half"], 1, "a factor of 2 is missing"),
        (["themodel:kinked"], 2, "CANNOT TELL"),
    ],
)
def test_the_verdict_is_printed_and_is_the_exit_code(folder, args, code, words):
    result = run(*args, "--args", "themodel:point")
    assert result.exit_code == code, result.output
    assert words in result.output
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize("names", [("y", "X", "w"), ("a", "b", "c")])
def test_arrays_come_by_the_names_of_the_parameters_or_in_order(folder, names):
    arrays = {"w": np.array([1.0, 2.0]), "X": np.ones((2, 5)), "y": np.zeros(5)}
    order = names if names[0] == "y" else ("w", "X", "y")
    np.savez("at.npz", **{name: arrays[key] for name, key in zip(names, order, strict=True)})
    assert run("themodel:loss", "--args", "at.npz").exit_code == 0


def test_a_dict_and_a_default_come_by_name(folder):
    assert run("themodel:loss", "--args", "themodel:named").exit_code == 0
    np.savez("at.npz", y=np.zeros(5), X=np.ones((2, 5)), w=np.array([1.0, 2.0]))
    assert run("themodel:scaled", "--args", "at.npz").exit_code == 0


@pytest.mark.quick("rooted")
@pytest.mark.parametrize("function", ["loss", "rooted"])
def test_the_picture_is_written(folder, function):
    args = (f"themodel:{function}", "--args", "themodel:point", "--plot", "taylor.png")
    assert run(*args).exit_code == (0 if function == "loss" else 1)  # NaN: an empty picture
    assert (folder / "taylor.png").read_bytes().startswith(b"\x89PNG")


def test_help_is_no_failure():
    result = run("--help")
    assert result.exit_code == 0
    assert "module:function" in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["themodel:loss"], "themodel:loss: say where with --args"),
        (["themodel"], "FUNCTION themodel: write module:function, as in mymodel:loss."),
        (["nomodel:loss"], "there is no module nomodel in this folder"),
        (["themodel:lost"], "FUNCTION themodel:lost: themodel has no lost."),
        (["themodel:three"], "it is of type int, not a function."),
        (["themodel:loss", "--args", "gone.npz"], "--args gone.npz: there is no such file."),
        (["themodel:loss", "--args", "text.npz"], "it is not an .npz file of arrays."),
        (
            ["themodel:loss", "--args", "one.npz"],
            "--args one.npz: it has no array w, a parameter of loss (w, X, y).",
        ),
        (["themodel:loss", "--args", "odd.npz"], "cannot be audited at its arguments (float64[3]"),
        (["themodel:loss", "--args", "themodel:broken"], "RuntimeError: no data today"),
        (["themodel:loss", "--args", "themodel:ends"], "it ended the program, with exit code 0"),
        (["themodel:loss", "--args", "themodel:forgot"], "it returned None: a tuple"),
        (["themodel:loss", "--args", "themodel:listed"], "it returned a list: a tuple"),
        (["themodel:loss", "--args", "swap.npz"], "a is no parameter of loss (w, X, y)."),
        (["themodel:loss", "--args", "typo.npz"], "Y is no parameter of loss (w, X, y)."),
        (["themodel:loss", "--args", "two.npz"], "its arrays leave none for y."),
        (
            ["themodel:scaled", "--args", "scale.npz"],
            "scale is no parameter of scaled (w, X, y, l2",
        ),
        (["themodel:loss", "--args", "x.npy"], "--args x.npy: an .npz file is due"),
        (["themodel:counted", "--args", "themodel:point"], "returns no floating-point number"),
        (["ends:loss"], "importing ends failed: it ended the program, with exit code 0"),
        (["needs:loss"], "importing needs failed: it needs notthere_xyz, which is not installed."),
        (["themodel.py:loss"], "a module is due, not a path: write themodel:loss."),
        (["./themodel:loss"], "a module is due, not a path: write themodel:loss."),
        (["some/themodel.py:loss"], "write some.themodel:loss."),
        (["--reference", "themodel:half"], "--reference themodel:half: name the FUNCTION"),
        (["--grad", "themodel:half"], "--grad themodel:half: name the FUNCTION"),
        (["themodel:loss", "--plot", "no/a.png"], "there is no folder no."),
        (["--wrong"], "No such option"),
    ],
)
def test_what_cannot_be_audited_ends_with_a_sentence_and_no_verdict(folder, args, words):
    (folder / "text.npz").write_text("not arrays")
    np.savez("one.npz", X=np.ones((2, 5)))
    np.savez("odd.npz", w=np.ones(3), X=np.ones((2, 5)), y=np.ones(5))
    w, X, y = np.ones(2), np.ones((2, 5)), np.ones(5)
    np.savez("swap.npz", a=w, X=X, y=y)
    np.savez("typo.npz", w=w, X=X, Y=y)
    np.savez("two.npz", w, X)
    np.savez("scale.npz", w=w, X=X, y=y, scale=np.ones(()))
    (folder / "ends.py").write_text("import sys; sys.exit(0)")
    (folder / "needs.py").write_text("import notthere_xyz")
    if len(args) == 1 and args != ["themodel:loss"] and not args[0].startswith("--"):
        args = [*args, "--args", "themodel:point"]
    result = run(*args)
    assert result.exit_code == 3
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_jaxlrs_own_derivatives_are_a_table(monkeypatch):
    two = self_audit.cases()[:2]
    monkeypatch.setattr(audit, "cases", lambda: two)
    result = CliRunner().invoke(app.make_app(), ["audit"])
    assert result.exit_code == 0
    assert "8 of 8 audits agree." in result.output
    assert [line.split("  ")[0] for line in result.output.splitlines()[2:4]] == [
        c.name for c in two
    ]


@pytest.mark.slow
def test_a_wrong_derivative_of_jaxlrs_own_is_shown(monkeypatch):
    right = objective._gradient_sums

    def flipped(*args):
        value, grad, total = right(*args)
        return value, grad._replace(b=-grad.b), total

    monkeypatch.setattr(audit, "cases", lambda: self_audit.cases()[:1])
    monkeypatch.setattr(audit, "FUNCTIONS", ("gradient",))
    monkeypatch.setattr(objective, "_gradient_sums", flipped)
    jax.clear_caches()
    result = CliRunner().invoke(app.make_app(), ["audit"])
    monkeypatch.undo()
    jax.clear_caches()
    assert result.exit_code == 1
    assert "0 of 1 audits agree." in result.output
    assert "params.b: the sign is flipped" in result.output
