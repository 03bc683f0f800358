"""Arrays over the devices of a mesh whose axes are Explicit, as `jax.make_mesh` makes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

Function = TypeVar("Function", bound=Callable[..., Any])


def with_auto_axes(fun: Function) -> Function:
    """Return fun so that the compiler lays out what is inside it, whatever the axes of a mesh are.

    With Explicit axes JAX asks the author of each operation how its result is to be laid out.
    Inside fun they are Auto, and the compiler decides. The results are whole on each device, but
    for the axes of a vmap around fun.

    Args:
        fun: a function of pytrees.

    >>> with_auto_axes(lambda a: 2 * a)(jax.numpy.ones(2)).tolist()
    [2.0, 2.0]
    """

    @functools.wraps(fun)
    def of(*args: Any, **options: Any) -> Any:
        mesh = _explicit_mesh((args, options))
        if mesh is None:
            return fun(*args, **options)
        whole = NamedSharding(mesh, PartitionSpec())
        auto = jax.sharding.auto_axes(lambda both: fun(*both[0], **both[1]), out_sharding=whole)
        return auto((args, options))

    return of  # pyright: ignore[reportReturnType]


def _explicit_mesh(tree: Any) -> Any:
    """Return the mesh of the first array whose mesh has Explicit axes, or of the context; None."""
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree)]
    for mesh in (*meshes, jax.sharding.get_abstract_mesh()):
        if AxisType.Explicit in mesh.axis_types:
            return mesh
    return None
