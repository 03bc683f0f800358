"""The user's cache folder, where the command line keeps its compiled programs."""

import json
import os
import subprocess
import sys
import warnings

import jax
import pytest

from jaxlr.cli import programs
from jaxlr.cli.programs import _mending, _trim, use_cache
from tests.helpers import QUICK_FLAGS

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
DAMAGE = "Error reading persistent compilation cache entry for 'jit_fit': zlib.error: incomplete"


def setting(name):
    return getattr(jax.config, name)


@pytest.fixture
def nobody_told_jax(monkeypatch):
    """JAX without the folder of the tests; what is set is undone."""
    before = {name: setting(name) for name in SETTINGS}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        yield
    for name, value in before.items():
        jax.config.update(name, value)


def home(monkeypatch, folder):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, **_: str(folder / name))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_a_second_command_finds_the_programs_and_mends_what_is_damaged(tmp_path):
    rows = [f"{i},{i * i % 7},{'yes' if i * i % 7 + i % 5 > 4 else 'no'}" for i in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,y", *rows]))
    folder = tmp_path / "cache" / "jaxlr" / "programs"
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "XLA_FLAGS": QUICK_FLAGS}
    del env["JAX_COMPILATION_CACHE_DIR"]
    # A warning would be an error, and would end the command.
    command = [sys.executable, "-W", "error::UserWarning", "-m", "jaxlr"]

    def fit(*options):
        done = subprocess.run(
            [*command, "fit", "a.csv", "--target", "y", "--json", *options],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode == 0
        return {**json.loads(done.stdout), "seconds": None}

    def kept():
        return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    alone = fit("--no-cache")
    assert not (tmp_path / "cache").exists()
    assert fit() == alone
    programs = kept()
    assert any(name.startswith("jit_") for name in programs)
    assert fit() == alone
    assert kept() == programs
    sizes = {}
    for path in folder.iterdir():  # as of processes killed while they wrote
        sizes[path.name] = path.stat().st_size // 2
        os.truncate(path, sizes[path.name])
    assert fit() == alone
    assert kept().keys() == programs.keys()
    for path in folder.iterdir():
        assert path.stat().st_size > sizes[path.name]


def test_all_programs_of_a_command_are_kept(nobody_told_jax, monkeypatch, tmp_path):
    home(monkeypatch, tmp_path)
    use_cache(True)
    folder = tmp_path / "jaxlr" / "programs"
    assert [setting(name) for name in SETTINGS] == [str(folder), True, 0.0, 0]
    assert folder.is_dir()
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0  # what is there will be run


def test_the_users_word_to_jax_stands(nobody_told_jax, monkeypatch, tmp_path):
    home(monkeypatch, tmp_path)
    jax.config.update("jax_enable_compilation_cache", False)
    use_cache(True)
    jax.config.update("jax_enable_compilation_cache", True)
    for own in ("", str(tmp_path / "own")):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", own)
        use_cache(True)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    use_cache(True)
    assert setting("jax_compilation_cache_dir") == str(tmp_path / "own")
    use_cache(False)
    assert not setting("jax_enable_compilation_cache")


@pytest.mark.parametrize("told", [False, True])
def test_all_programs_are_kept_in_the_users_own_folder(nobody_told_jax, monkeypatch, told):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "own")
    names = SETTINGS[2:]
    for name in names:
        jax.config.update(name, 7)
        if told:
            monkeypatch.setenv(name.upper(), "7")
        else:
            monkeypatch.delenv(name.upper(), raising=False)
    use_cache(True)
    assert [setting(name) for name in names] == ([7, 7] if told else [0, 0])


@pytest.mark.parametrize("name", ["file", "none", "relative"])
def test_a_folder_that_cannot_be_made_is_none(nobody_told_jax, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    home(monkeypatch, tmp_path / "file" if name == "file" else programs.Path(name))
    if name == "none":
        monkeypatch.setitem(sys.modules, "platformdirs", None)
    use_cache(True)
    assert setting("jax_compilation_cache_dir") is None
    assert os.listdir(tmp_path) == ["file"]


def test_the_least_recently_used_go_first(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, used, size in (("a", 30, 5), ("b", 10, 7), ("sub/c", 20, 3), ("d", 40, 1)):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (used, 0))
    _trim(tmp_path, 16)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4
    _trim(tmp_path, 8)
    assert sorted(os.listdir(tmp_path)) == ["a", "d", "sub"]
    assert os.listdir(tmp_path / "sub") == []  # 9 bytes were left without b
    _trim(tmp_path / "nowhere", 0)


def test_only_jaxs_complaint_of_a_file_is_not_shown(tmp_path):
    for name in ("jit_fit-1-cache", "jit_fit-2-cache", "jit_fitted-3-cache"):
        (tmp_path / name).write_bytes(b"")
    shown = []
    show = _mending(tmp_path, lambda message, *_, **__: shown.append(str(message)))
    show(UserWarning(DAMAGE), UserWarning, "compiler.py", 1)
    show(UserWarning("Something else"), UserWarning, "compiler.py", 1)
    assert shown == ["Something else"]
    assert os.listdir(tmp_path) == ["jit_fitted-3-cache"]
