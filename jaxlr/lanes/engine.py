"""The lanes of a sweep, as many at a time as pay: a lane that is done makes room for the next.

All lanes that run share each pass over X. When a quarter of them are done their results are put
aside, and lanes that wait take their places: no pass is spent on a lane that is done, and the
shapes stay those of one compiled program.

Where there are several lanes to a start, and no sample to begin with, one lane of each is solved
first, a pilot: the others of that start wait until it has ended, and begin there. Meanwhile those
of other starts run beside it. Lanes of a path wait for those that lead them, and begin between
their ends, with the P of one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch, Params
from jaxlr.model.penalty import Penalty
from jaxlr.model.solution import Status
from jaxlr.solver import minimize, solve
from jaxlr.solver.curvature import Curvature, factorise
from jaxlr.solver.pilot import Starts
from jaxlr.solver.solve import End, State, Task

_TOL, _PASSES = 1e-5, 40  # of a pilot that is to be no more
_SAVED = 5  # passes that a lane saves where the curvature is that of where its pilot ended
_SMALL = 2**15  # numbers in an L of which many are copied at once
_LEFT = 2**24  # numbers in all L that leaders may leave
_IDLE = -2  # the status of a place for which no lane is left
_ITS = Task(None, 0, 0)  # the axes of lanes of a task that tells pilots from others


class Path(NamedTuple):
    """Lanes that begin between the ends of others, which lead them.

    Args:
        leaders: of each family of lanes, which lanes lead, one for each start in their order,
            `(families, starts)` integers; they are of no family.
        family: of each lane, `(lanes,)` integers; −1 of one that waits for nobody.
        weights: of each lane for the leaders of its family, `(lanes, starts)`: it begins at their
            sum, or at its start where one whose weight is not 0 has not found its optimum.
    """

    leaders: Array
    family: Array
    weights: Array


class _Room(NamedTuple):
    lane: Array  # which lane is in each place, `(size,)`; where none is, how many there are
    begun: Array  # whether a lane has been in a place, `(lanes,)`
    ended: Array  # and is done
    state: State
    L: Array
    ends: End  # of all lanes, parameters and gradients flat
    x: Array  # where lanes start: flat parameters, L, whether it is blind, and whether to wait
    first_L: Array  # and those that leaders leave
    blind: Array
    closed: Array
    last: Array  # whether no lane waits: those that are in a place run to their ends


def solve_lanes(
    objective: Callable[[Any], tuple[Batch, Penalty]],
    lanes: Any,
    starts: Starts,
    which: Array,
    far: Array,
    rank: Array,
    task: Task,
    size: int,
    pilots: int = 0,
    first: Task | None = None,
    curvature: Curvature | None = None,
    path: Path | None = None,
) -> End:
    """Minimise the objectives of all lanes; return their ends, leaves with a first axis of lanes.

    Args:
        objective: `lane → (batch, penalty)`; batches of all lanes have the same X.
        lanes: a tree of arrays whose first axis is that of the lanes.
        starts: where they start.
        which: the start of each lane, `(lanes,)` integers.
        far: whether its P is not for that lane, which is to make one of its own, `(lanes,)`.
        rank: of the lanes, those with less begin before the others, `(lanes,)` int32.
        task: what lanes have in common.
        size: how many lanes run at once.
        pilots: how many lanes, the first ones, are solved before the others: 0, or one for each
            start, lane i for start i. Where it ends the others of that start begin.
        first: the task of the pilots; None for that of all.
        curvature: what a lane makes P of that begins at a start without one; None where starts
            have one, and lanes for which it is blind make one of their own curvature.
        path: lanes that wait for others, or None.
    """
    count = len(which)
    size, first = min(size, count), task if first is None else first
    tol, most = _select(jnp.arange(count + 1) < pilots, first[1:], task[1:])  # of each lane
    batch, _ = jax.eval_shape(lambda: objective(jax.tree.map(lambda a: a[0], lanes)))
    followers = (count - pilots) / max(pilots, 1)
    there = pilots and solve.renewal_price(batch, starts.L[0]) <= _SAVED * followers

    # Lanes that take the L of the leader of their start: where those that are left need not much.
    heirs, numbers = path, starts.L[0].size
    if heirs is not None and (numbers > _SMALL or numbers * heirs.leaders.size > _LEFT):
        heirs = None
    if heirs is not None:
        place = len(starts.L) + jnp.arange(heirs.leaders.size).reshape(heirs.leaders.shape)
        left = jnp.full(count + 1, len(starts.L) + place.size).at[heirs.leaders].set(place)

    def its(lane: Array) -> Task:
        return Task(task.centre, tol[lane], most[lane])

    def fill(room: _Room) -> _Room:
        """Put lanes that wait into the places of those that are done."""
        done, place = ~solve.unfinished(room.state), jnp.arange(size)
        may = ~room.begun & ((jnp.arange(count) < pilots) | ~room.closed[which])
        if path is not None:
            ready = room.ended[path.leaders[path.family]] | (path.weights == 0)
            may &= (path.family < 0) | ready.all(axis=1)
        first_come = jnp.argsort(jnp.where(may, rank, jnp.iinfo(jnp.int32).max)).astype(jnp.int32)
        before = (done[None] & (place[None] < place[:, None])).sum(axis=1)  # places that are free
        lane = jnp.where(before < may.sum(), first_come[before], count)
        lane = jnp.where(done, lane, room.lane)
        row = jnp.minimum(lane, count - 1)
        stale, x = room.blind[which[row]] | far[row], room.x[which[row]]
        if path is not None:
            x = _between(path, _led(path, room.ends, row), room.ends, row, x)
        state = jax.vmap(solve.restarted, (0, 0, 0, 0, _ITS))(room.state, done, x, stale, its(lane))
        status = jnp.where(lane < count, state.search.status, _IDLE)
        state = state._replace(search=state.search._replace(status=status))
        return room._replace(
            lane=lane, begun=room.begun.at[lane].set(True, mode="drop"), state=state
        )

    def run(room: _Room) -> _Room:
        room = fill(room)
        task, row = its(room.lane), jnp.minimum(room.lane, count - 1)
        mine, start = jax.tree.map(lambda a: a[row], lanes), which[row]
        many, last = solve.unfinished(room.state).sum(), room.begun.all()
        fewest = jnp.where(last, 0, jnp.maximum(many - jnp.maximum(1, many // 4), 0))
        new = ~jnp.isfinite(room.state.search.value) & solve.unfinished(room.state)
        source = start
        if heirs is not None:
            leader = heirs.leaders[heirs.family[row], start]
            there_is = room.ended[leader] & _found(room.ends.status[leader])
            there_is &= _led(heirs, room.ends, row)
            source = jnp.where(there_is, left[leader], start)
        L = _begun(new & ~room.state.stale, room.L, room.first_L, source)

        def step(carry):
            state, L = carry
            new = ~jnp.isfinite(state.search.value)
            own = ~(new & room.blind[start]) | jnp.array(curvature is None)

            def make(i: Array, old: tuple[Array, Array]) -> tuple[Array, Array]:
                one, lane = jax.tree.map(lambda a: a[i], (state, mine))
                batch, penalty = objective(lane)

                def its_own() -> Curvature:
                    return solve.own_curvature(one, old[0], batch, task)

                H = its_own() if curvature is None else lax.cond(own[i], its_own, lambda: curvature)
                L = factorise(H, penalty).L
                return L, solve.functions(L, batch, penalty, task)[1](one.search.grad)

            L, Pg = _made(state.stale & solve.unfinished(state), (L, state.search.grad), make)
            state = jax.vmap(solve.renewed, (0, 0, 0, _ITS))(state, own, Pg, task)
            state = jax.vmap(
                lambda state, L, lane, task: solve.advance(state, L, *objective(lane), task),
                in_axes=(0, 0, 0, _ITS),
            )(state, L, mine, task)
            return (_with_curvature_there(state, room.lane < pilots, task) if there else state), L

        def busy(carry):
            return solve.unfinished(carry[0]).sum() > fewest

        state, L = lax.while_loop(busy, step, (room.state, L))
        # The ends of the lanes that are in a place; of one that still runs it is written again.
        ends = jax.tree.map(
            lambda all, some: all.at[room.lane].set(some, mode="drop"),
            room.ends,
            solve.ended(state),
        )
        ended = jnp.where(solve.unfinished(state), count, room.lane)
        ended = room.ended.at[ended].set(True, mode="drop")
        room = room._replace(state=state, L=L, ends=ends, ended=ended, last=last)
        if heirs is not None:
            first_L = room.first_L.at[left[room.lane]].set(L, mode="drop")
            room = room._replace(first_L=first_L)
        if not pilots:
            return room
        # Where pilot i has ended those of start i may begin: there, if it has found the optimum.
        ended = (room.lane < pilots) & ~solve.unfinished(state)
        found = ended & _found(state.search.status)
        of_ended, of_found = (jnp.where(a, room.lane, len(room.first_L)) for a in (ended, found))
        return room._replace(
            x=room.x.at[of_found].set(state.search.x, mode="drop"),
            first_L=room.first_L.at[of_found].set(L, mode="drop"),
            blind=room.blind.at[of_found].set(False, mode="drop"),
            closed=room.closed.at[of_ended].set(False, mode="drop"),
        )

    x = _flat(starts.params)
    nothing = jnp.zeros((size, x.shape[1]), x.dtype)
    nobody = jax.vmap(solve.begin, (0, 0, None))(nothing, jnp.zeros(size, bool), task)
    nobody = nobody._replace(search=nobody.search._replace(status=jnp.full(size, _IDLE, jnp.int32)))
    L = jnp.zeros((size, *starts.L.shape[1:]), starts.L.dtype)
    ends = solve.ended(nobody)
    ends = jax.tree.map(lambda a: jnp.zeros((count, *a.shape[1:]), a.dtype), ends)
    lane, begun = jnp.full(size, count, jnp.int32), jnp.zeros(count, bool)
    closed, first_L = jnp.full(len(starts.L), pilots > 0), starts.L
    if heirs is not None:
        nothing = jnp.zeros((heirs.leaders.size, *L.shape[1:]), L.dtype)
        first_L = jnp.concatenate([first_L, nothing])
    room = _Room(
        lane, begun, begun, nobody, L, ends, x, first_L, starts.blind, closed, jnp.array(False)
    )
    ends = lax.while_loop(lambda room: ~room.last, run, room).ends
    return jax.vmap(lambda end: solve.unflattened(end, batch))(ends)


def _led(path: Path, ends: End, lane: Array) -> Array:
    """Return whether lanes begin between others, all of which have found their optimum."""
    found = _found(ends.status[path.leaders[path.family[lane]]]) | (path.weights[lane] == 0)
    return found.all(axis=1) & (path.family[lane] >= 0)


def _between(path: Path, led: Array, ends: End, lane: Array, x: Array) -> Array:
    """Return where lanes begin between others, and x where they do not."""
    weights = jnp.where(led[:, None], path.weights[lane], 0)
    leaders = path.leaders[path.family[lane]]  # (places, leaders)
    there = jnp.einsum("pl,pld->pd", weights, ends.params[leaders], precision="highest")
    led &= jnp.isfinite(there).all(axis=1)
    return jnp.where(led[:, None], there, x)


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
    near = jnp.maximum(1e-6 * jnp.abs(search.value), 10 * task.tol)
    there = jnp.abs(state.value - search.value) <= near
    allowed = search.num_passes + 2 <= task.max_passes  # a curvature and a pass
    again = pilot & (search.status == Status.CONVERGED) & ~there & allowed
    status = jnp.where(again, minimize.RUNNING, search.status)
    return state._replace(search=search._replace(status=status), stale=state.stale | again)


def _begun(new: Array, L: Array, first_L: Array, start: Array) -> Array:
    """Return L with that of their start in the places that are new."""
    if L[0].size <= _SMALL:
        return _select(new, first_L[start], L)
    return _made(new, L, lambda i, _: first_L[start[i]])


def _made(todo: Array, all: Any, make: Callable[[Array, Any], Any]) -> Any:
    """Return all with `make(i, allᵢ)` in the places that are to do, one by one: it may be large."""
    place = jnp.arange(len(todo))

    def after(i: Array | int) -> Array:
        return jnp.min(place, initial=len(todo), where=todo & (place > i))

    def one(carry):
        i, all = carry
        made = make(i, jax.tree.map(lambda a: a[i], all))
        put = lax.dynamic_update_index_in_dim
        return after(i), jax.tree.map(lambda a, b: put(a, b, i, 0), all, made)

    return lax.while_loop(lambda carry: carry[0] < len(todo), one, (after(-1), all))[1]


def _select(here: Array, a: Any, b: Any) -> Any:
    """Return a where here, `(lanes,)` or `()`, else b."""
    return jax.tree.map(
        lambda a, b: jnp.where(here.reshape(*here.shape, *[1] * (a.ndim - here.ndim)), a, b), a, b
    )
