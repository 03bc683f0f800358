"""`jaxlr audit` on the shell: verdicts as exit codes, and refusals in a sentence."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxlr import self_audit
from jaxlr.cli import app, audit

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


def test_the_picture_is_written(folder):
    args = ("themodel:loss", "--args", "themodel:point", "--plot", "taylor.png")
    assert run(*args).exit_code == 0
    assert (folder / "taylor.png").read_bytes().startswith(b"\x89PNG")


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
        (["themodel:loss", "--args", "one.npz"], "--args one.npz: it has no array w."),
        (["themodel:loss", "--args", "odd.npz"], "cannot be audited at its arguments (float64[3]"),
        (["themodel:loss", "--args", "themodel:broken"], "RuntimeError: no data today"),
        (["--grad", "themodel:half"], "--grad themodel:half: name the FUNCTION"),
        (["themodel:loss", "--plot", "no/a.png"], "there is no folder no."),
        (["--wrong"], "No such option"),
    ],
)
def test_what_cannot_be_audited_ends_with_a_sentence_and_no_verdict(folder, args, words):
    (folder / "text.npz").write_text("not arrays")
    np.savez("one.npz", X=np.ones((2, 5)))
    np.savez("odd.npz", w=np.ones(3), X=np.ones((2, 5)), y=np.ones(5))
    if "--args" not in args and args[0] in ("themodel", "nomodel:loss", "themodel:lost"):
        args = [*args, "--args", "themodel:point"]
    if args[0] == "themodel:three":
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


def test_a_wrong_derivative_of_jaxlrs_own_is_shown(monkeypatch):
    monkeypatch.setattr(audit, "cases", lambda: self_audit.cases()[:1])

    def wrong(function, case):
        return audit.audit_gradient(jnp.sin, lambda x: -jnp.cos(x), jnp.float32(0.5))

    monkeypatch.setattr(audit, "audit_case", wrong)
    result = CliRunner().invoke(app.make_app(), ["audit"])
    assert result.exit_code == 1
    assert "0 of 4 audits agree." in result.output
    assert "the sign is flipped" in result.output
