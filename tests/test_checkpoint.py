"""Checkpoints: killed anywhere and resumed, a sweep ends as if nothing had happened."""

import dataclasses
import functools
import importlib.util
import random
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlr
from jaxlr.lanes import chunks
from jaxlr.lanes.checkpoint import CheckpointError
from tests.helpers import problem

pytestmark = pytest.mark.usefixtures("quick_programs")

SCRIPT = """
import sys, numpy as np, jax, jax.numpy as jnp, jaxlr
rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(3, 400)), jnp.float32)
y = jnp.asarray(rng.integers(0, 2, 400), jnp.float32)
penalties = jaxlr.Penalty(jnp.geomspace(1e-3, 1, 40))
print("begun", flush=True)
result = jaxlr.cross_validate(
    jaxlr.Batch(X, y), penalties, folds=jnp.arange(400) % 5, memory=40_000, checkpoint=sys.argv[1]
)
np.savez(sys.argv[2], *jax.tree.leaves(result))
"""


def arguments(seed=0):
    _, batch = problem(3, 60, seed=seed)
    return batch, jaxlr.Penalty(jnp.geomspace(1e-3, 1, 7))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sweep.npz"


def interrupted(monkeypatch, after, call):
    """Run a call that is interrupted after some chunks."""
    from jaxlr.lanes import checkpoint

    write, count = checkpoint._write, iter(range(99))

    def write_and_stop(*args):
        write(*args)
        if next(count) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            call()


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.slow
def test_every_kind_of_sweep_resumes(path, monkeypatch, after):
    batch, penalties = arguments()
    key = jax.random.key(0)
    options = {"memory": 9_000, "checkpoint": path}
    calls = [
        lambda **o: jaxlr.sweep(batch, penalties, **o),
        lambda **o: jaxlr.cross_validate(batch, penalties, folds=3, key=key, **o),
        lambda **o: jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 9, key, **o),
    ]
    for call in calls:
        path.unlink(missing_ok=True)
        whole = call(**options)
        path.unlink()
        interrupted(monkeypatch, after, lambda call=call: call(**options))
        assert path.exists()
        equal(call(**options), whole)
        equal(call(**options), whole)  # from the file alone
        plain = call(memory=9_000)
        np.testing.assert_allclose(
            jax.tree.leaves(plain)[-1], jax.tree.leaves(whole)[-1], rtol=1e-5
        )


@pytest.mark.slow
def test_killed_at_five_random_moments_it_ends_equal(tmp_path):
    def start(name):
        command = [
            sys.executable,
            "-c",
            SCRIPT,
            str(tmp_path / name),
            str(tmp_path / f"{name}.out"),
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with start("whole") as process:
        assert process.wait(timeout=120) == 0
    rng = random.Random(0)
    for _ in range(5):
        with start("killed") as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 4))
            process.kill()
    with start("killed") as process:
        assert process.wait(timeout=120) == 0
    with np.load(tmp_path / "whole.out.npz") as a, np.load(tmp_path / "killed.out.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


def test_another_call_is_refused_and_its_file_kept(path):
    batch, penalties = arguments()
    jaxlr.sweep(batch, penalties, checkpoint=path)
    before = path.read_bytes()
    others = [
        lambda: jaxlr.sweep(arguments(1)[0], penalties, checkpoint=path),
        lambda: jaxlr.sweep(batch, jaxlr.Penalty(2 * penalties.l2), checkpoint=path),
        lambda: jaxlr.sweep(batch, penalties, tol=1e-3, checkpoint=path),
        lambda: jaxlr.cross_validate(batch, penalties, folds=jnp.arange(60) % 2, checkpoint=path),
    ]
    for other in others:
        with pytest.raises(CheckpointError, match="the checkpoint of another call"):
            other()
    assert path.read_bytes() == before


TIMES = 1


def some_counts(key, m):
    return TIMES * (jax.random.bits(key, (m,)) % 3)


class Counts:
    @staticmethod
    def fixed(key, m):
        return some_counts(key, m)

    def bound(self, key, m):
        return some_counts(key, m)

    __call__ = bound


def test_counts_without_a_name_are_refused_before_a_file_is_there(path, monkeypatch):
    batch, _ = arguments()

    def inside(key, m):
        return some_counts(key, m)

    wrapped = functools.wraps(some_counts)(functools.partial(some_counts))
    nameless = {
        ".*<lambda>": lambda key, m: some_counts(key, m),
        ".*<locals>.inside": inside,
        "a partial": functools.partial(some_counts),
        "some_counts": wrapped,
        "Counts.bound": Counts().bound,
        "a Counts": Counts(),
        "some_counts ": jax.jit(some_counts, static_argnums=1),
    }
    monkeypatch.setattr(chunks, "_share", lambda *_: pytest.fail("work was begun"))
    for said, counts in nameless.items():
        words = rf"counts is {said.strip()}, and a checkpoint knows a function by its name: define"
        with pytest.raises(ValueError, match=words):
            jaxlr.bootstrap(
                batch, jaxlr.Penalty(0.1), 2, jax.random.key(0), counts=counts, checkpoint=path
            )
        assert not path.exists()


@pytest.mark.slow
def test_counts_of_another_name_or_another_code_are_another_call(path, monkeypatch):
    batch, _ = arguments()

    def resampled(counts, key=jax.random.key(0)):  # noqa: B008
        return jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 3, key, counts=counts, checkpoint=path)

    first = resampled(some_counts)
    before = path.read_bytes()
    equal(resampled(some_counts), first)
    for other in (Counts.fixed, jaxlr.multinomial_counts, jaxlr.poisson_counts):
        with pytest.raises(CheckpointError, match="the checkpoint of another call"):
            resampled(other)
    with pytest.raises(CheckpointError, match="the checkpoint of another call"):
        resampled(some_counts, jax.random.key(0, impl="rbg"))
    monkeypatch.setattr(sys.modules[__name__], "TIMES", 2)
    jax.clear_caches()  # as in another process
    with pytest.raises(CheckpointError, match="the checkpoint of another call"):
        resampled(some_counts)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_released_counts_have_names(path):
    batch, _ = arguments()
    for counts in (jaxlr.multinomial_counts, jaxlr.poisson_counts):
        path.unlink(missing_ok=True)
        options = {"counts": counts, "checkpoint": path}
        first = jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 3, jax.random.key(0), **options)
        again = jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 3, jax.random.key(0), **options)
        equal(again, first)


@pytest.mark.slow
def test_a_function_of_a_script_is_known_by_what_it_computes(tmp_path):
    script = """
import sys, jax, jax.numpy as jnp, jaxlr
def counts(key, m):
    return jax.random.bits(key, (m,)) % {modulus}
batch = jaxlr.Batch(jnp.arange(9.0)[None], jnp.arange(9) % 2)
key = jax.random.key(0)
jaxlr.bootstrap(batch, jaxlr.Penalty(0.1), 2, key, counts=counts, checkpoint=sys.argv[1])
"""
    seen = []
    for modulus in (3, 3, 4):
        (tmp_path / "script.py").write_text(script.format(modulus=modulus))
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "kept.npz")]
        seen.append(subprocess.run(command, capture_output=True, text=True))
    assert [done.returncode for done in seen] == [0, 0, 1], [done.stderr for done in seen]
    assert "the checkpoint of another call" in seen[2].stderr


def lazy(times):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Lazy:
        a: Any

        def select(self, take):
            return times * take(self.a)

    return Lazy(jnp.arange(1.0, 61.0))


@pytest.mark.slow
def test_lazy_weights_of_other_code_are_another_call(path):
    batch, penalties = arguments()
    one, two = (dataclasses.replace(batch, weights=lazy(times)) for times in (1, jnp.arange(60)))
    jaxlr.sweep(one, penalties, checkpoint=path)
    with pytest.raises(CheckpointError, match="the checkpoint of another call"):
        jaxlr.sweep(two, penalties, checkpoint=path)


@pytest.mark.slow
def test_other_settings_are_another_call(path):
    _, batch = problem(3, 60, dtype="float32")
    penalty = jaxlr.Penalty(jnp.float32(0.1))
    key, counts = jax.random.key(0), jaxlr.poisson_counts  # whose draws are of another dtype
    with jax.enable_x64(False):
        first = jaxlr.bootstrap(batch, penalty, 3, key, counts=counts, checkpoint=path)
    with jax.enable_x64(True), pytest.raises(CheckpointError, match="another call"):
        jaxlr.bootstrap(batch, penalty, 3, key, counts=counts, checkpoint=path)
    with jax.enable_x64(False):
        equal(jaxlr.bootstrap(batch, penalty, 3, key, counts=counts, checkpoint=path), first)


def test_half_precision_is_kept(path):
    _, batch = problem(3, 60)
    batch = dataclasses.replace(batch, X=batch.X.astype(jnp.bfloat16))
    penalties = jaxlr.Penalty(jnp.array([0.1, 1.0]))
    first = jaxlr.sweep(batch, penalties, checkpoint=path)
    equal(jaxlr.sweep(batch, penalties, checkpoint=path), first)


def test_a_damaged_file_is_refused(path):
    batch, penalties = arguments()
    jaxlr.sweep(batch, penalties, checkpoint=path)
    whole = path.read_bytes()
    no_header = path.with_name("other.npz")
    np.savez(no_header, a=np.zeros(3))
    damaged = [b"", b"not a checkpoint", whole[: len(whole) // 2], no_header.read_bytes()]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"sweep\.npz is no checkpoint, or a damaged one"):
            jaxlr.sweep(batch, penalties, checkpoint=path)


def test_no_flipped_byte_changes_a_result(path, monkeypatch):
    monkeypatch.setattr(chunks, "_program", lambda *_: "")  # that of all calls here is the same
    batch, penalties = arguments()
    right = jaxlr.sweep(batch, penalties, checkpoint=path)
    whole, refused = path.read_bytes(), 0
    for place in np.linspace(0, len(whole) - 1, 60).astype(int):
        flipped = bytearray(whole)
        flipped[place] ^= 255
        path.write_bytes(bytes(flipped))
        try:
            equal(jaxlr.sweep(batch, penalties, checkpoint=path), right)
        except CheckpointError:
            refused += 1
    assert refused > 10


def test_what_cannot_be_kept_is_refused_before_the_work(tmp_path, monkeypatch):
    batch, penalties = arguments()
    monkeypatch.setattr(chunks, "_share", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(OSError, match=r"cannot be written: No such file or directory\."):
        jaxlr.sweep(batch, penalties, checkpoint=tmp_path / "no" / "sweep.npz")
    with pytest.raises(ValueError, match="not inside jit"):
        jax.jit(lambda b: jaxlr.sweep(b, penalties, checkpoint=tmp_path / "a.npz"))(batch)


def test_a_bar_is_shown(capsys):
    batch, penalties = arguments()
    swept = jaxlr.sweep(batch, penalties, progress=True)
    assert "Fitting" in capsys.readouterr().err
    equal(swept.status, np.zeros(7))


@pytest.mark.skipif(importlib.util.find_spec("ipywidgets") is not None, reason="it has widgets")
def test_a_bar_in_a_notebook_is_text_where_it_has_no_widgets(capsys, monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    batch, penalties = arguments()
    jaxlr.sweep(batch, penalties, progress=True)  # a warning would be an error
    assert "Fitting" in capsys.readouterr().err
