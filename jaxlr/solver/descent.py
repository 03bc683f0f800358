"""Gradient descent as in the lecture: `lax.fori_loop` around one optax update."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxlr.base.arguments import check_key, transfers
from jaxlr.base.meshes import with_auto_axes
from jaxlr.base.printing import Shown, array_of, shape_of, shown
from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch, Params
from jaxlr.model.objective import NO_PENALTY, loss, value_and_grad
from jaxlr.model.penalty import Penalty
from jaxlr.model.shapes import check_shapes, check_type


def _descent(descent: Any) -> Shown:
    rows = {name: shape_of(getattr(descent.params, name, None)) for name in ("w", "b")}
    losses = array_of(descent.losses)
    if losses is None or losses.ndim != 1 or not losses.size:
        return "Descent", rows | {"losses": shape_of(descent.losses)}
    return f"Descent of {losses.size} steps", rows | {
        "losses": f"{losses[0]:.6g} before the first step, {losses[-1]:.6g} before the last"
    }


@shown(_descent)
class Descent(NamedTuple):
    """What a descent returns.

    Args:
        params: the parameters after the last step.
        losses: the objective before each step, `(num_steps,)`; it costs nothing, since it comes
            with the gradient. For mini-batches it is the objective of the step's examples.
    """

    params: Params
    losses: Array


@transfers
def gradient_descent(
    params: Params,
    batch: Batch,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    penalty: Penalty = NO_PENALTY,
) -> Descent:
    """Take gradient steps on all examples: `w := w − α·dw`, `b := b − α·db` for `optax.sgd(α)`.

    For many runs, `jax.vmap` over learning rates, penalties or initial parameters; for speed,
    `jax.jit` the whole. `jax.grad` goes through the loop in both modes.

    Args:
        params: where to start.
        batch: the examples.
        optimizer: any optax transformation.
        num_steps: a Python integer: the loop's length is part of the compiled program.
        penalty: `Penalty(l2, factors)`.

    Returns:
        `Descent(params, losses)`.

    Raises:
        TypeError: num_steps is not a Python integer, or an argument is of another type.
        ValueError: num_steps is negative.

    >>> batch = Batch(jnp.array([[-1.0, 0.0, 1.0, 2.0]]), jnp.array([0, 0, 1, 1]))
    >>> start = Params(jnp.zeros(1), jnp.array(0.0))
    >>> def run(learning_rate):
    ...     return gradient_descent(start, batch, optax.sgd(learning_rate), 100)
    >>> jax.jit(jax.vmap(run))(jnp.array([0.1, 0.5, 1.0])).losses.shape
    (3, 100)
    """
    problem = _Problem(params, batch, penalty)
    return _descend(problem, lambda batch, i, memory: (batch, memory), None, optimizer, num_steps)


@transfers
def minibatch_descent(
    params: Params,
    batch: Batch,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    batch_size: int,
    key: Array,
    penalty: Penalty = NO_PENALTY,
) -> Descent:
    """Take gradient steps on mini-batches, drawn without replacement in each epoch.

    The examples are shuffled anew for each epoch of `m // batch_size` steps; the few that are
    left over at the end of an epoch sit it out.

    Args:
        params, batch, optimizer, num_steps, penalty: as for `gradient_descent`.
        batch_size: examples in a step, from 1 to m.
        key: a `jax.random.key`; `jax.vmap` over keys for many seeds.

    Returns:
        `Descent(params, losses)`.

    Raises:
        ValueError: batch_size is not between 1 and m.
        TypeError: num_steps or batch_size is not a Python integer, or an argument is of another
            type.

    >>> batch = Batch(jnp.array([[-1.0, 0.0, 1.0, 2.0]]), jnp.array([0, 0, 1, 1]))
    >>> start = Params(jnp.zeros(1), jnp.array(0.0))
    >>> minibatch_descent(start, batch, optax.adam(0.1), 10, 2, jax.random.key(0)).losses.shape
    (10,)
    """
    check_shapes(None, batch, penalty)
    check_key(key)
    m, batch_size = batch.m_examples, _static("batch_size", batch_size)
    if not 1 <= batch_size <= m:
        raise ValueError(f"batch_size is {batch_size}; the batch has {m} examples.")
    steps_per_epoch = m // batch_size

    def shuffled(epoch):
        return jax.random.permutation(jax.random.fold_in(key, epoch), m)

    def draw(batch, i, order):
        epoch, place = i // steps_per_epoch, i % steps_per_epoch
        order = lax.cond(place == 0, shuffled, lambda _: order, epoch)
        index = lax.dynamic_slice_in_dim(order, place * batch_size, batch_size)
        return batch.select(lambda a: jnp.take(a, index, axis=-1, mode="clip")), order

    return _descend(_Problem(params, batch, penalty), draw, jnp.arange(m), optimizer, num_steps)


class _Problem(NamedTuple):
    params: Params
    batch: Batch
    penalty: Penalty


def _descend(
    problem: _Problem,
    draw: Callable[[Batch, Array, Any], tuple[Batch, Any]],
    memory: Any,
    optimizer: optax.GradientTransformation,
    num_steps: int,
) -> Descent:
    check_type("params", problem.params, Params)
    check_type("optimizer", optimizer, optax.GradientTransformation)
    num_steps = _static("num_steps", num_steps)
    if num_steps < 0:
        raise ValueError(f"num_steps is {num_steps}; it must not be negative.")
    check_shapes(*problem)
    optimizer = optax.with_extra_args_support(optimizer)
    steps = functools.partial(_steps, draw=draw, optimizer=optimizer, num_steps=num_steps)
    return with_auto_axes(steps)(problem, memory)


def _steps(problem: _Problem, memory: Any, *, draw, optimizer, num_steps: int) -> Descent:
    params, batch, penalty = problem
    params = Params(*map(jnp.asarray, params))
    dtype = jax.eval_shape(
        lambda: loss(params, draw(batch, jnp.int32(0), memory)[0], penalty)
    ).dtype

    def step(i, carry):
        params, state, losses, memory = carry
        drawn, memory = draw(batch, i, memory)
        value, grad = value_and_grad(params, drawn, penalty)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, state = optimizer.update(
                grad, state, params, value=value, grad=grad,
                value_fn=lambda p: loss(p, drawn, penalty),
            )  # fmt: skip
        losses = lax.dynamic_update_index_in_dim(losses, value, i, axis=0)
        return optax.apply_updates(params, updates), state, losses, memory

    if num_steps == 0:
        return Descent(params, jnp.zeros(0, dtype))
    start = (params, optimizer.init(params), jnp.zeros(num_steps, dtype), memory)
    params, _, losses, _ = lax.fori_loop(0, num_steps, step, start)
    return Descent(Params(*params), losses)


def _static(name: str, number: int) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(
            f"{name} must be a Python integer, not {number!r}: under jit, mark it static."
        ) from None
