"""A function of pytrees as a function of one real vector, and back.

The rest of the kit knows only f: ℝⁿ → ℝᵐ. A complex leaf is two real blocks, its real and its
imaginary parts; a gradient g or a cotangent of a complex leaf, by JAX's convention the vector
with Re(g·v) the derivative along v, is the blocks Re g and −Im g.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxlr.audit.door import called, checked_output, function_name, gradient_leaves
from jaxlr.audit.wide import dtype_of, is_complex, is_float

Array = Any
Arrays = list[Any]


class Leaf(NamedTuple):
    """A leaf and its place in the real vector.

    Args:
        path: as a user would write it, `params.w`.
        shape: of the leaf.
        dtype: the one the function is called with.
        start, stop: its part of the vector.

    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    start: int
    stop: int

    @property
    def place(self) -> slice:
        """Its part of the vector."""
        return slice(self.start, self.stop)


class Problem(NamedTuple):
    """A function at a point, its floating-point leaves as lists.

    Args:
        name: of the function.
        leaves: those with respect to which the gradient is judged.
        x: the point, `(n,)` float64.
        xs: the judged leaves, arrays.
        side: the other floating-point leaves, arrays, and their paths.
        side_paths: the paths of side.
        skipped: what is not differentiable, in words.
        value: `(xs, side) → outputs`: the floating-point outputs.
        pull: `(xs, side, us) → gradients` of `Σ uᵢ·outputᵢ`.
        push: `(xs, side, vs) → tangents`, or None when a gradient was handed in.
        arrays: every array argument's path and shape, for the names of dimensions.

    """

    name: str
    leaves: tuple[Leaf, ...]
    x: np.ndarray
    xs: Arrays
    side: Arrays
    side_paths: tuple[str, ...]
    skipped: tuple[str, ...]
    value: Callable[[Arrays, Arrays], Arrays]
    pull: Callable[[Arrays, Arrays, Arrays], Arrays]
    push: Callable[[Arrays, Arrays, Arrays], Arrays]
    arrays: tuple[tuple[str, tuple[int, ...]], ...]


# --- Vectors ------------------------------------------------------------------------------------


def split(v: Array, leaves: Sequence[Leaf], dual: bool = False) -> Arrays:
    """Return the leaves of a vector, complex where they are complex.

    Args:
        v: `(n,)`.
        leaves: their places.
        dual: whether v is a gradient or a cotangent.

    """
    sign = -1 if dual else 1
    parts = []
    for leaf in leaves:
        part = v[leaf.place]
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            real, imag = part.reshape(2, -1)
            part = real + 1j * (sign * imag)
        parts.append(part.reshape(leaf.shape))
    return parts


def native(v: np.ndarray, leaves: Sequence[Leaf], dual: bool = False) -> Arrays:
    """Return the leaves of a vector in the dtypes that the function is called with."""
    parts = zip(split(v, leaves, dual), leaves, strict=True)
    return [jnp.asarray(part.astype(leaf.dtype)) for part, leaf in parts]


def ravel(arrays: Sequence[Array], dual: bool = False) -> Array:
    """Return the vector of leaves, on the device."""
    sign = -1 if dual else 1
    parts = []
    for a in map(jnp.asarray, arrays):
        parts += [a.real.ravel(), sign * a.imag.ravel()] if is_complex(a) else [a.ravel()]
    return jnp.concatenate(parts) if parts else jnp.zeros(0)


def to_numpy(arrays: Sequence[Array], dual: bool = False) -> np.ndarray:
    """Return the vector of leaves in float64, on the host."""
    sign = -1 if dual else 1
    parts = []
    for a in arrays:
        a: Any = np.asarray(a)
        if np.iscomplexobj(a):
            parts += [a.real.ravel(), sign * a.imag.ravel()]
        else:
            parts.append(a.ravel())
    return np.concatenate([part.astype(np.float64) for part in parts] or [np.zeros(0)])


def places(paths: Sequence[str], arrays: Sequence[Array]) -> tuple[Leaf, ...]:
    """Return where each of the arrays lies in their vector."""
    leaves, start = [], 0
    for path, a in zip(paths, arrays, strict=True):
        size = int(np.size(a)) * (2 if is_complex(a) else 1)
        leaves.append(Leaf(path, tuple(np.shape(a)), dtype_of(a), start, start + size))
        start += size
    return tuple(leaves)


def position(leaf: Leaf, index: int) -> str:
    """Return the index of an entry of a leaf, given its place in the leaf's part.

    >>> position(Leaf("w", (2, 3), np.float32, 0, 6), 4)
    '[1,1]'
    """
    size = max(1, int(np.prod(leaf.shape)))
    inner = np.unravel_index(index % size, leaf.shape or (1,))
    imaginary = "i" if index >= size else ""
    return f"[{','.join(map(str, inner))}]{imaginary}" if leaf.shape else imaginary or "[]"


# --- The problem --------------------------------------------------------------------------------


def _argument_names(fun: Callable, count: int) -> list[str]:
    try:
        names = [
            p.name if p.kind is not p.VAR_POSITIONAL else None
            for p in inspect.signature(fun).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
        ]
    except (TypeError, ValueError):
        names = []
    names += [None] * (count - len(names))
    return [name or f"args[{i}]" for i, name in enumerate(names[:count])]


def _is_array(leaf: Any, python_numbers: bool) -> bool:
    if isinstance(leaf, (float, complex)) and not isinstance(leaf, np.generic):
        return python_numbers
    return isinstance(leaf, (np.ndarray, np.generic, jax.Array)) and is_float(leaf)


def describe(
    fun: Callable,
    grad: Callable | None,
    args: tuple,
    argnums: tuple[int, ...] | int,
    has_aux: bool,
    python_numbers: bool = True,
) -> Problem:
    """Return the problem of judging grad (or what JAX derives) at args.

    Args:
        fun, grad, args, argnums, has_aux: as for `audit_gradient`.
        python_numbers: whether side inputs that are Python floats may be traced.

    """
    order = [argnums] if isinstance(argnums, int) else list(argnums)
    name, names = function_name(fun), _argument_names(fun, len(args))
    entries, treedef = jax.tree_util.tree_flatten_with_path(args)
    judged, side, skipped, arrays = [], [], [], []
    for i, (path, leaf) in enumerate(entries):
        where, shape = path[0].idx, tuple(np.shape(leaf))
        text = names[where] + jax.tree_util.keystr(path[1:])
        if hasattr(leaf, "shape"):
            arrays.append((text, shape))
        if where in order and _is_array(leaf, True):
            judged.append((i, text))
        elif where in order:
            kind = leaf.dtype.name if hasattr(leaf, "dtype") else type(leaf).__name__
            skipped.append(f"{text} ({kind})")
        elif _is_array(leaf, python_numbers):
            side.append((i, text))
    values = [leaf for _, leaf in entries]
    if not any(np.size(values[i]) for i, _ in judged):
        raise ValueError(
            f"No floating-point leaf among the judged arguments of {name}: "
            f"{', '.join(skipped) or 'they are empty'}."
        )
    xs = [jnp.asarray(values[i]) for i, _ in judged]
    sides = [jnp.asarray(values[i]) for i, _ in side]

    def call(xs: Arrays, side_values: Arrays) -> tuple:
        leaves = list(values)
        for (i, _), a in zip((*judged, *side), (*xs, *side_values), strict=True):
            # A function that donates its arguments may have a copy of them.
            leaves[i] = a if isinstance(a, core.Tracer) else jnp.array(a)
        return jax.tree.unflatten(treedef, leaves)

    def outputs(xs: Arrays, side_values: Arrays) -> Any:
        return checked_output(fun(*call(xs, side_values)), name, has_aux)

    def value(xs: Arrays, side_values: Arrays) -> Arrays:
        return [a for a in jax.tree.leaves(outputs(xs, side_values)) if is_float(a)]

    def derived(xs: Arrays, side_values: Arrays, us: Arrays) -> Arrays:
        _, vjp = jax.vjp(lambda xs: list(map(jnp.asarray, value(xs, side_values))), xs)
        return vjp(us)[0]

    def push(xs: Arrays, side_values: Arrays, vs: Arrays) -> Arrays:
        run = lambda xs: list(map(jnp.asarray, value(xs, side_values)))  # noqa: E731
        return jax.jvp(run, (xs,), (vs,))[1]

    example = outputs(xs, sides)
    is_scalar = jax.tree.structure(example) == jax.tree.structure(0) and np.shape(example) == ()

    def handed(xs: Arrays, side_values: Arrays, us: Arrays) -> Arrays:
        given = call(xs, side_values)
        tree = given[argnums] if isinstance(argnums, int) else tuple(given[i] for i in argnums)
        if is_scalar:
            g = grad(*given)  # type: ignore[misc]
        else:
            cotangents = iter(us)
            u = jax.tree.map(lambda a: next(cotangents) if is_float(a) else a, example)
            g = called(grad, given, u, name, example)  # type: ignore[arg-type]
        leaves = gradient_leaves(g, tree, name)
        found = iter(leaves)
        by_argument = {k: [next(found) for _ in jax.tree.leaves(given[k])] for k in order}
        flat = [by_argument[p[0].idx].pop(0) if p[0].idx in order else None for p, _ in entries]
        return [flat[i] for i, _ in judged]

    return Problem(
        name=name,
        leaves=places([text for _, text in judged], xs),
        x=to_numpy(xs),
        xs=xs,
        side=sides,
        side_paths=tuple(text for _, text in side),
        skipped=tuple(skipped),
        value=value,
        pull=derived if grad is None else handed,
        push=push,
        arrays=tuple(arrays),
    )
