"""The lanes of a sweep, as many at a time as pay: a lane that is done makes room for the next.

All lanes that run share each pass over X. When a quarter of them are done their results are put
aside, and lanes that wait take their places: no pass is spent on a lane that is done, and the
shapes stay those of one compiled program.

Where there are several lanes to a start, and no sample to begin with, one lane of each is solved
first, a pilot: the others begin where it ends. That is a turn of the same loop, no other program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr import minimize, solve
from jaxlr.pilot import Starts
from jaxlr.solve import End, State, Task
from jaxlr.types import Array, Batch, Params, Penalty, Status

_TOL, _PASSES = 1e-5, 40  # of a pilot that is to be no more
_SAVED = 5  # passes that a lane saves where the curvature is that of where its pilot ended
_IDLE = -2  # the status of a place for which no lane is left


class _Room(NamedTuple):
    lane: Array  # which lane is in each place, `(size,)`
    begun: Array  # how many lanes have been
    state: State
    L: Array
    ends: End  # of all lanes
    x: Array  # where lanes start: flat parameters, L, and whether it is blind
    first_L: Array
    blind: Array


def solve_lanes(
    objective: Callable[[Any], tuple[Batch, Penalty]],
    lanes: Any,
    starts: Starts,
    which: Array,
    far: Array,
    order: Array,
    task: Task,
    size: int,
    pilots: int = 0,
    first: Task | None = None,
) -> End:
    """Minimise the objectives of all lanes; return their ends, leaves with a first axis of lanes.

    Args:
        objective: `lane → (batch, penalty)`; batches of all lanes have the same X.
        lanes: a tree of arrays whose first axis is that of the lanes.
        starts: where they start.
        which: the start of each lane, `(lanes,)` integers.
        far: whether its P is not for that lane, which is to make one of its own, `(lanes,)`.
        order: the lanes in the order in which they are begun, `(lanes,)` integers; pilots first.
        task: what lanes have in common.
        size: how many lanes run at once.
        pilots: how many lanes, the first ones, are solved before the others: 0, or one for each
            start, lane i for start i. Where it ends the others of that start begin.
        first: the task of the pilots; None for that of all.
    """
    count, order = len(which), jnp.asarray(order, jnp.int32)
    size = min(size, count)
    batch, _ = jax.eval_shape(lambda: objective(jax.tree.map(lambda a: a[0], lanes)))
    followers = (count - pilots) / max(pilots, 1)
    there = pilots and solve.renewal_price(batch, starts.L[0]) <= _SAVED * followers

    def ends(state: State) -> End:
        return jax.vmap(lambda state: solve.ended(state, batch))(state)

    def fill(room: _Room, limit: Array, task: Task) -> tuple[_Room, Array]:
        """Put lanes that wait into the places of those that are done."""
        done = ~solve.unfinished(room.state, task)
        turn = room.begun + jnp.cumsum(done, dtype=jnp.int32) - 1
        lane = jnp.where(turn < limit, order[jnp.minimum(turn, count - 1)], count)
        lane = jnp.where(done, lane, room.lane)
        row = jnp.minimum(lane, count - 1)
        start = which[row]
        blind = room.blind[start] | far[row]
        state = jax.vmap(solve.restarted)(room.state, done, room.x[start], blind)
        status = jnp.where(lane < count, state.search.status, _IDLE)
        state = state._replace(search=state.search._replace(status=status))

        L = _made(done & (lane < count), room.L, lambda i, _: room.first_L[start[i]])
        begun = jnp.minimum(room.begun + done.sum(dtype=jnp.int32), limit)
        return room._replace(lane=lane, begun=begun, state=state, L=L), row

    def run(room: _Room, limit: Array, task: Task) -> _Room:
        room, row = fill(room, limit, task)
        mine = jax.tree.map(lambda a: a[row], lanes)
        fewest = jnp.where(room.begun < limit, size - max(1, size // 4), 0)

        def step(carry):
            state, L = carry

            def renew(i: Array, L: Array) -> Array:
                one, lane = jax.tree.map(lambda a: a[i], (state, mine))
                return solve.renew(one, L, *objective(lane), task)

            L = _made(state.stale & solve.unfinished(state, task), L, renew)
            state = jax.vmap(solve.renewed)(state)
            state = jax.vmap(lambda s, L, a: solve.advance(s, L, *objective(a), task))(
                state, L, mine
            )
            return (_with_curvature_there(state, room.lane < pilots, task) if there else state), L

        def busy(carry):
            return solve.unfinished(carry[0], task).sum() > fewest

        state, L = lax.while_loop(busy, step, (room.state, room.L))
        # The ends of the lanes that are in a place; of one that still runs it is written again.
        here = jnp.arange(count)[:, None] == room.lane[None]
        now = jax.tree.map(lambda a: a[here.argmax(axis=1)], ends(state))
        room = room._replace(state=state, L=L, ends=_select(here.any(axis=1), now, room.ends))
        if not pilots:
            return room
        found = (room.lane < pilots) & _found(state.search.status)
        start = jnp.where(found, which[row], len(starts.L))
        return room._replace(first_L=room.first_L.at[start].set(L, mode="drop"))

    def follow(room: _Room, due: Array) -> _Room:
        """Once it is due, start lanes where the pilots ended."""
        end = jax.tree.map(lambda a: a[:pilots], room.ends)
        found = due & _found(end.status)
        x = jnp.where(found[:, None], _flat(end.params), room.x)
        return room._replace(x=x, blind=room.blind & ~found)

    def turn(k: Array, room: _Room) -> _Room:
        limit, its = jnp.int32(count), task
        if pilots:
            limit = jnp.where(k == 0, pilots, count)
            its = task if first is None else _select(k == 0, first, task)
            room = follow(room, k == 1)
        return lax.while_loop(
            lambda room: (room.begun < limit) | solve.unfinished(room.state, its).any(),
            lambda room: run(room, limit, its),
            room,
        )

    x = _flat(starts.params)
    nobody = jax.vmap(solve.begin)(jnp.zeros((size, x.shape[1]), x.dtype), jnp.zeros(size, bool))
    nobody = nobody._replace(search=nobody.search._replace(status=jnp.full(size, _IDLE, jnp.int32)))
    L = jnp.zeros((size, *starts.L.shape[1:]), starts.L.dtype)
    shapes = jax.eval_shape(ends, nobody)
    nowhere = jax.tree.map(lambda a: jnp.zeros((count, *a.shape[1:]), a.dtype), shapes)
    lane = jnp.full(size, count, jnp.int32)
    room = _Room(lane, jnp.int32(0), nobody, L, nowhere, x, starts.L, starts.blind)
    return (lax.fori_loop(0, 2, turn, room) if pilots else turn(0, room)).ends


def rough(task: Task) -> Task:
    """Return the task of pilots whose own optimum nobody asks for."""
    tol, most = jnp.maximum(task.tol, _TOL), jnp.minimum(task.max_passes, _PASSES)
    return Task(task.centre, tol, most)


def _flat(params: Params) -> Array:
    return jax.vmap(lambda params: ravel_pytree(params)[0])(params)


def _found(status: Array) -> Array:
    return (status >= 0) & (status <= Status.PRECISION_REACHED)


def _with_curvature_there(state: State, pilot: Array, task: Task) -> State:
    """Let the pilots that have just found the optimum go on until L was made there."""
    search = state.search
    there = jnp.isclose(state.value, search.value, rtol=1e-6, atol=0)
    allowed = search.num_passes + 2 <= task.max_passes  # a curvature and a pass
    again = pilot & (search.status == Status.CONVERGED) & ~there & allowed
    status = jnp.where(again, minimize.RUNNING, search.status)
    return state._replace(search=search._replace(status=status), stale=state.stale | again)


def _made(todo: Array, L: Array, make: Callable[[Array, Array], Array]) -> Array:
    """Return L with `make(i, Lᵢ)` in the places that are to do, one by one: it may be large."""
    place = jnp.arange(len(todo))

    def after(i: Array | int) -> Array:
        return jnp.min(place, initial=len(todo), where=todo & (place > i))

    def one(carry):
        i, L = carry
        return after(i), lax.dynamic_update_index_in_dim(L, make(i, L[i]), i, 0)

    return lax.while_loop(lambda carry: carry[0] < len(todo), one, (after(-1), L))[1]


def _select(here: Array, a: Any, b: Any) -> Any:
    """Return a where here, `(lanes,)` or `()`, else b."""
    return jax.tree.map(
        lambda a, b: jnp.where(here.reshape(*here.shape, *[1] * (a.ndim - here.ndim)), a, b), a, b
    )
