"""Lanes of one program: as many at once as memory and speed ask for, the others in turn."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from jaxlr.base.atomic import write_atomically
from jaxlr.base.meshes import with_auto_axes
from jaxlr.base.pytrees import Array, common_dtype
from jaxlr.lanes.checkpoint import fingerprint, run_chunks
from jaxlr.model.batch import Batch
from jaxlr.model.passes import tile_size
from jaxlr.solver.compiling import is_little, jit_by_work
from jaxlr.solver.curvature import shape
from jaxlr.version import __version__

MEMORY = 2**30  # bytes that the lanes that run at once may need together
_LOGITS = 2**21  # of a tile, of all lanes that run: more at once is no faster
_FEWEST = 64  # lanes from which on a pass over X costs the same for each
_TEMPORARIES = 12  # copies of a lane's logits that a program holds
_MATRICES = 8  # and of its matrices
_VECTORS = 56  # copies of a lane's parameters
PIECE = 16  # times the lanes that run at once: how many one queue has at most
_STEP = 2  # the same between two steps of a bar, or entries of a checkpoint


def chunk_size(batch: Batch, lanes: int, memory: int = MEMORY, own: int = 0) -> int:
    """Return how many lanes to run at once.

    As many as share a pass over X well, and a tenth of them where they are many: when lanes are
    done others take their places (see `queue`), but for the last ones there are no others, and
    lanes that wait for others need no place yet.

    Args:
        batch: the examples.
        lanes: how many there are, at least 1.
        memory: bytes that they may need beyond X.
        own: bytes an example that each lane has for itself.

    >>> chunk_size(Batch(jnp.ones((30, 569)), jnp.ones(569)), 1000)
    100
    """
    n, K = batch.n_features, batch.n_classes if batch.n_classes > 2 else 1
    itemsize = common_dtype(batch.X, jnp.float32).itemsize
    examples = min(batch.m_examples, tile_size(n + batch.n_classes, itemsize))
    matrix, parameters = math.prod(shape(n, batch.n_classes)), (n + 1) * K
    values = _TEMPORARIES * examples * K + _MATRICES * matrix + _VECTORS * parameters
    most = max(_FEWEST, _LOGITS // (examples * K))
    most = max(1, min(most, memory // (values * itemsize + own * batch.m_examples)))
    return min(lanes, most, max(_FEWEST, lanes // 10))


def split(lanes: Any, size: int) -> Any:
    """Return a tree of lanes as `(chunks, size, …)`; the last one fills up the last chunk.

    >>> split(jnp.arange(5), 3).tolist()
    [[0, 1, 2], [3, 4, 4]]
    """
    count = len(jax.tree.leaves(lanes)[0])
    chunks = -(-count // size)
    place = jnp.minimum(jnp.arange(chunks * size), count - 1)
    return jax.tree.map(lambda a: a[place].reshape(chunks, size, *a.shape[1:]), lanes)


def run_lanes(fun: Callable[[Any], Any], lanes: Any, size: int) -> Any:
    """Return `jax.vmap(fun)(lanes)`, computed `size` lanes at a time.

    Args:
        fun: a function of one lane.
        lanes: a tree of arrays whose first axis is that of the lanes.
        size: from `chunk_size`.

    >>> run_lanes(lambda a: 2 * a, jnp.arange(5), 3).tolist()
    [0, 2, 4, 6, 8]
    """
    return in_chunks(jax.vmap(fun), lanes, size)


def in_chunks(fun: Callable[[Any], Any], lanes: Any, size: int) -> Any:
    """Return `fun(lanes)` of a function of many lanes, computed `size` lanes at a time.

    >>> in_chunks(jnp.cumsum, jnp.ones(5), 2).tolist()
    [1.0, 2.0, 1.0, 2.0, 1.0]
    """
    count = len(jax.tree.leaves(lanes)[0])
    if count <= size:
        return fun(lanes)
    out = lax.map(fun, split(lanes, size))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], out)


def lane_of(tree: Any, i: Array) -> Any:
    """Return lane i of a tree of lanes.

    >>> lane_of({"a": jnp.arange(3)}, 1)["a"].item()
    1
    """
    return jax.tree.map(lambda a: a[i], tree)


class Work(NamedTuple):
    """What to do, as functions that JAX can trace and compare.

    Args:
        name: the same in every process, for checkpoints.
        share: `(problem, static, size) → shared`: what is made once for all lanes.
        some: `(problem, shared, static, lanes, size) → results` of some lanes, size at a time.
        static: what is known when tracing.
    """

    name: str
    share: Callable[[Any, Any, int], Any]
    some: Callable[[Any, Any, Any, Any, int], Any]
    static: Hashable


def run(
    work: Work,
    problem: Any,
    lanes: Any,
    size: int,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> Any:
    """Return the results of all lanes, from one compiled program.

    Lanes, and examples, may lie over several devices: the results are whole on each of them. As
    lanes wait for others and take their places, each device runs all lanes.

    Args:
        work: what to do.
        problem: a tree of arrays, for `work`, with the `batch`.
        lanes: a tree of arrays whose first axis is that of the lanes.
        size: lanes that run at once, from `chunk_size`.
        checkpoint: a file for the finished chunks. With it, or with progress, chunks of some
            lanes are run one by one from Python.
        progress: show a bar.

    Raises:
        ValueError: inside jit, with a checkpoint or progress.
        WriteError: the checkpoint could not be written.
        CheckpointError: it is damaged, or belongs to another call.
    """
    if checkpoint is None and not progress:
        little = is_little(problem.batch, len(jax.tree.leaves(lanes)[0]))
        return with_auto_axes(functools.partial(_run, little, work, size))(problem, lanes)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((problem, lanes))):
        raise ValueError("checkpoint and progress need Python between chunks: not inside jit.")
    if checkpoint is not None:  # refused before the work
        with write_atomically(checkpoint, replace=False):
            pass
    count = len(jax.tree.leaves(lanes)[0])
    chunks = split(lanes, _STEP * size)
    identity = ""
    if checkpoint is not None:
        words = f"{__version__} {work.name} {_program(problem, chunks, work, size)}"
        identity = fingerprint((problem, chunks), words)
    shared = with_auto_axes(functools.partial(_share, work, size))(problem)
    some = with_auto_axes(functools.partial(_some, work, size))
    pieces = [lane_of(chunks, i) for i in range(-(-count // (_STEP * size)))]
    shapes = jax.eval_shape(some, problem, shared, pieces[0])
    results = run_chunks(
        lambda chunk: jax.device_get(some(problem, shared, chunk)),
        pieces,
        jax.tree.structure(shapes),
        checkpoint=checkpoint,
        identity=identity,
        progress=progress,
    )
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *results)


def _program(problem: Any, chunks: Any, work: Work, size: int) -> str:
    """Return the text of the programs, which differs if anything else is to be computed.

    Such as by other code of a function that the caller gave, or of `LazyWeights`, by constants
    that they close over, by x64, or by another kind of random numbers.
    """
    share = _share.lower(work, size, problem)
    some = _some.lower(work, size, problem, share.out_info, lane_of(chunks, 0))
    return f"{share.as_text()} {some.as_text()}"


@functools.partial(jit_by_work, static_argnames=("work", "size"))
def _run(work: Work, size: int, problem: Any, lanes: Any) -> Any:
    shared = work.share(problem, work.static, size)

    def some(lanes: Any) -> Any:
        return work.some(problem, shared, work.static, lanes, size)

    return in_chunks(some, lanes, PIECE * size)


@functools.partial(jax.jit, static_argnames=("work", "size"))
def _share(work: Work, size: int, problem: Any) -> Any:
    return work.share(problem, work.static, size)


@functools.partial(jax.jit, static_argnames=("work", "size"))
def _some(work: Work, size: int, problem: Any, shared: Any, lanes: Any) -> Any:
    return work.some(problem, shared, work.static, lanes, size)
