"""Chunks of work whose results are kept in a file, so that an interruption costs one chunk."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlr.base.atomic import write_atomically
from jaxlr.base.extras import require

_FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; nothing was changed."""


def fingerprint(tree: Any, words: str) -> str:
    """Return a hash of all arrays of a tree, their dtypes and shapes, and of some words.

    >>> one = fingerprint((np.zeros(3), None), "")
    >>> one == fingerprint((np.zeros(3), None), ""), one == fingerprint((np.ones(3), None), "")
    (True, False)
    """
    leaves, structure = jax.tree.flatten(tree)
    digest = hashlib.blake2b(f"{structure} {words}".encode(), digest_size=16)
    for leaf in leaves:
        keys = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.ascontiguousarray(jax.random.key_data(leaf) if keys else leaf)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # bfloat16 has no buffer of its own
    return digest.hexdigest()


def stable_name(name: str, fun: Callable) -> str:
    """Return the full name of a function, under which every process finds it.

    Args:
        name: of the argument.
        fun: what was given for it.

    Raises:
        ValueError: it is found under no name: a lambda, a function inside another one, a
            `functools.partial`, a method of an object, or an object that is called.

    >>> stable_name("counts", fingerprint)
    'jaxlr.lanes.checkpoint.fingerprint'
    >>> stable_name("counts", lambda key, m: key)
    Traceback (most recent call last):
    ...
    ValueError: counts is <lambda>, and a checkpoint knows a function by its name: define it with
    `def` at the top level of a module, or go without a checkpoint.
    """
    module, qualname = (getattr(fun, of, None) for of in ("__module__", "__qualname__"))
    found = sys.modules.get(str(module))
    for part in str(qualname).split("."):
        found = getattr(found, part, None)
    if found is not fun:
        said = qualname or f"a {type(fun).__name__}"
        raise ValueError(
            f"{name} is {said}, and a checkpoint knows a function by its name: define it with "
            "`def` at the top level of a module, or go without a checkpoint."
        )
    return f"{module}.{qualname}"


def run_chunks(
    run: Callable[[Any], Any],
    chunks: list[Any],
    structure: Any,
    *,
    checkpoint: str | os.PathLike | None,
    identity: str,
    progress: bool,
) -> list[Any]:
    """Return `[run(chunk) for chunk in chunks]`; finished chunks are taken from the file.

    Args:
        run: chunk → a tree of NumPy arrays.
        chunks: at least one.
        structure: of the tree that run returns.
        checkpoint: a file that is written anew, at one stroke, after each chunk; or None.
        identity: of the whole call: a file of another one is refused.
        progress: show a bar.

    Raises:
        CheckpointError: the file is damaged, or belongs to another call.
    """
    path = None if checkpoint is None else Path(checkpoint)
    kept = [] if path is None or not path.exists() else _read(path, identity)
    results = [jax.tree.unflatten(structure, leaves) for leaves in kept]
    for chunk in _shown(chunks[len(results) :], len(results), len(chunks), progress):
        results.append(run(chunk))
        if path is not None:
            _write(path, identity, results)
    return results


def _write(path: Path, identity: str, results: list[Any]) -> None:
    leaves = [jax.tree.leaves(result) for result in results]
    digest = fingerprint(leaves, "")
    header = {"format": _FORMAT, "identity": identity, "chunks": len(leaves), "digest": digest}
    arrays = {f"{i}.{j}": leaf for i, chunk in enumerate(leaves) for j, leaf in enumerate(chunk)}
    with write_atomically(path) as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)


def _read(path: Path, identity: str) -> list[list[np.ndarray]]:
    try:
        with open(path, "rb") as raw, np.load(raw) as file:
            header = json.loads(str(file["header"]))
            found = header["identity"], header["format"]
            arrays = {name: file[name] for name in file.files if name != "header"}
            chunks = [
                [arrays[f"{i}.{j}"] for j in range(len(arrays) // header["chunks"])]
                for i in range(header["chunks"])
            ]
            if fingerprint(chunks, "") != header["digest"]:
                raise ValueError("its arrays have changed")
    except Exception as error:  # a damaged archive raises nearly anything
        raise CheckpointError(
            f"{path} is no checkpoint, or a damaged one; remove it to begin anew."
        ) from error
    if found != (identity, _FORMAT):
        raise CheckpointError(
            f"{path} is the checkpoint of another call: other data, penalties, options or version."
        )
    return chunks


def _shown(chunks: list[Any], done: int, total: int, progress: bool) -> Iterable[Any]:
    """Yield chunks, under a bar of all of them where it is asked for."""
    if not progress:
        yield from chunks
        return
    rich = require("rich.progress", "cli")
    # In a notebook rich asks for ipywidgets, and warns without: then the bar is text.
    widgets = None if importlib.util.find_spec("ipywidgets") else False
    console = require("rich.console", "cli").Console(stderr=True, force_jupyter=widgets)
    with rich.Progress(*rich.Progress.get_default_columns(), console=console) as bar:
        task = bar.add_task("Fitting", total=total, completed=done)
        for chunk in chunks:
            yield chunk
            bar.advance(task)
