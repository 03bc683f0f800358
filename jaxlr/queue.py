"""The lanes of a sweep, as many at a time as pay: a lane that is done makes room for the next.

All lanes that run share each pass over X. When a quarter of them are done their results are put
aside, and lanes that wait take their places: no pass is spent on a lane that is done, and the
shapes stay those of one compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr import solve
from jaxlr.pilot import Starts
from jaxlr.solve import End, State, Task
from jaxlr.types import Array, Batch, Penalty

_IDLE = -2  # the status of a place for which no lane is left


class _Room(NamedTuple):
    lane: Array  # which lane is in each place, `(size,)`
    waiting: Array  # the first lane that waits
    state: State
    L: Array
    ends: End  # of all lanes


def solve_lanes(
    objective: Callable[[Any], tuple[Batch, Penalty]],
    lanes: Any,
    starts: Starts,
    which: Array,
    order: Array,
    task: Task,
    size: int,
) -> End:
    """Minimise the objectives of all lanes; return their ends, leaves with a first axis of lanes.

    Args:
        objective: `lane → (batch, penalty)`; batches of all lanes have the same X.
        lanes: a tree of arrays whose first axis is that of the lanes.
        starts: where they start.
        which: the start of each lane, `(lanes,)` integers.
        order: the lanes in the order in which they are begun, `(lanes,)` integers.
        task: what lanes have in common.
        size: how many lanes run at once.
    """
    count, order = len(which), jnp.asarray(order, jnp.int32)
    size = min(size, count)
    x = jax.vmap(lambda params: ravel_pytree(params)[0])(starts.params)
    batch, _ = jax.eval_shape(lambda: objective(jax.tree.map(lambda a: a[0], lanes)))

    def running(state: State) -> Array:
        return solve.unfinished(state, task)

    def fill(room: _Room) -> tuple[_Room, Array]:
        """Put lanes that wait into the places of those that are done."""
        done = ~running(room.state)
        turn = room.waiting + jnp.cumsum(done, dtype=jnp.int32) - 1
        lane = jnp.where(done, order.at[turn].get(mode="fill", fill_value=count), room.lane)
        row = jnp.minimum(lane, count - 1)
        first = which[row]
        state = jax.vmap(solve.restarted)(room.state, done, x[first], starts.blind[first])
        status = jnp.where(lane < count, state.search.status, _IDLE)
        state = state._replace(search=state.search._replace(status=status))

        def load(carry):  # only the places that are filled: a factor may be large
            todo, L = carry
            i = jnp.argmax(todo)
            return todo.at[i].set(False), L.at[i].set(starts.L[first[i]])

        _, L = lax.while_loop(lambda carry: carry[0].any(), load, (done & (lane < count), room.L))
        waiting = room.waiting + done.sum(dtype=jnp.int32)
        return room._replace(lane=lane, waiting=waiting, state=state, L=L), row

    def run(room: _Room) -> _Room:
        room, row = fill(room)
        mine = jax.tree.map(lambda a: a[row], lanes)
        fewest = jnp.where(room.waiting < count, size - max(1, size // 4), 0)

        def step(carry):
            state, L = carry

            def make(carry):
                todo, L = carry
                i = jnp.argmax(todo)
                one, lane = jax.tree.map(lambda a: a[i], (state, mine))
                L_i = solve.renew(one, L[i], *objective(lane), task)
                return todo.at[i].set(False), L.at[i].set(L_i)

            _, L = lax.while_loop(
                lambda carry: carry[0].any(), make, (state.stale & running(state), L)
            )
            state = jax.vmap(solve.renewed)(state)
            return jax.vmap(lambda s, L, a: solve.advance(s, L, *objective(a), task))(
                state, L, mine
            ), L

        def busy(carry):
            return running(carry[0]).sum() > fewest

        state, L = lax.while_loop(busy, step, (room.state, room.L))
        # The ends of the lanes that are in a place; of one that still runs it is written again.
        here = jnp.arange(count)[:, None] == room.lane[None]
        now = jax.tree.map(lambda a: a[here.argmax(axis=1)], ends(state))
        return room._replace(state=state, L=L, ends=_select(here.any(axis=1), now, room.ends))

    def ends(state: State) -> End:
        return jax.vmap(lambda state: solve.ended(state, batch))(state)

    nobody = jax.vmap(solve.begin)(jnp.zeros((size, x.shape[1]), x.dtype), jnp.zeros(size, bool))
    nobody = nobody._replace(search=nobody.search._replace(status=jnp.full(size, _IDLE, jnp.int32)))
    L = jnp.zeros((size, *starts.L.shape[1:]), starts.L.dtype)
    shapes = jax.eval_shape(ends, nobody)
    nowhere = jax.tree.map(lambda a: jnp.zeros((count, *a.shape[1:]), a.dtype), shapes)
    room = _Room(jnp.full(size, count, jnp.int32), jnp.int32(0), nobody, L, nowhere)
    return lax.while_loop(
        lambda room: (room.waiting < count) | running(room.state).any(), run, room
    ).ends


def _select(here: Array, a: Any, b: Any) -> Any:
    """Return a where here, `(lanes,)`, else b."""
    return jax.tree.map(lambda a, b: jnp.where(here.reshape(-1, *[1] * (a.ndim - 1)), a, b), a, b)
