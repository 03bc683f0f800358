"""What the command line imports, and where it keeps its programs."""

import subprocess
import sys

import pytest

import jaxlr

HEAVY = ("jax", "jaxlr", "numpy", "optax", "pyarrow", "rich", "sklearn", "scipy", "pandas")


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
    return done.stdout, set(done.stderr.split())


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
