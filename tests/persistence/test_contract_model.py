"""Whatever is done to a store: what it gives back is what a dict would."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set, apply_all
from app.persistence.store import SessionExists, SessionNotFound, StepConflict, Store
from tests.persistence.making import new, step, step_commit

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.binary(max_size=20)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)
_LARGE = st.integers(0, 9).map(lambda digit: str(digit) * 3000)
_OPERATIONS = st.lists(
    st.one_of(
        st.builds(Set, st.sampled_from(["value", "other", "$", "ü\0"]), _VALUES | _LARGE),
        st.builds(Append, st.just("log"), _VALUES | _LARGE),
        st.builds(Extend, st.just("log"), st.lists(_VALUES, max_size=3).map(tuple)),
        st.builds(Increment, st.just("n"), st.integers(-9, 2**70)),
        st.builds(Delete, st.sampled_from(["value", "other", "log", "n"])),
    ),
    max_size=4,
).map(tuple)

_WHICH = st.integers(0, 2)
_COMMANDS = st.one_of(
    st.tuples(st.just("create"), _WHICH, st.dictionaries(st.sampled_from(["value", "other"]), _VALUES, max_size=2)),
    st.tuples(st.just("take"), _WHICH, _OPERATIONS),
    st.tuples(st.just("take"), _WHICH, _OPERATIONS),
    st.tuples(st.just("take many"), _WHICH, st.tuples(st.integers(1, 80), _OPERATIONS)),
    st.tuples(st.just("stale"), _WHICH, st.integers(-3, 3).filter(lambda offset: offset != 1)),
    st.tuples(st.just("fork"), _WHICH, st.floats(0, 1)),
    st.tuples(st.just("delete"), _WHICH, st.none()),
)


@dataclass
class Model:
    """What the sessions should hold."""

    prefix: str = field(default_factory=lambda: uuid.uuid4().hex)
    states: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)

    def name(self, which: int) -> str:
        return f"{self.prefix} {which}"


async def carry_out(store: Store, model: Model, command: str, which: int, argument: Any) -> None:
    name = model.name(which)
    states = model.states.get(name)
    if command == "create":
        if states is None:
            await store.create_session(new(name, state=argument))
            model.states[name] = {-1: dict(argument)}
        else:
            with pytest.raises(SessionExists):
                await store.create_session(new(name, state=argument))
    elif states is None:
        with pytest.raises(SessionNotFound):
            await store.commit(step_commit(name, step(0)))
    elif command == "take":
        await take(store, states, name, argument)
    elif command == "take many":
        times, operations = argument
        for _ in range(times):
            await take(store, states, name, operations)
    elif command == "stale":
        with pytest.raises(StepConflict):
            await store.commit(step_commit(name, step(max(states) + argument)))
    elif command == "fork":
        seq = min(states) + round(argument * (max(states) - min(states)))
        copy = model.name(which + 10)
        if copy in model.states:
            await store.delete_session(copy)
        await store.create_session(new(copy, seq=seq, state=await store.state_at(name, seq)))
        model.states[copy] = {seq: states[seq]}
    else:
        await store.delete_session(name)
        del model.states[name]


async def take(store: Store, states: dict[int, dict[str, Any]], name: str, operations: tuple[Operation, ...]) -> None:
    seq = max(states)
    state = apply_all(states[seq], operations)
    await store.commit(step_commit(name, step(seq + 1, operations, state, result={"after": list(state)})))
    states[seq + 1] = state


# the store is shared by the examples: each of them has its own ids
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=st.lists(_COMMANDS, min_size=3, max_size=25))
async def test_a_store_gives_back_what_a_dict_would(store: Store, commands: list[tuple[str, int, Any]]) -> None:
    model = Model()
    for command in (("create", 0, {}), *commands):
        await carry_out(store, model, *command)
    for name, states in model.states.items():
        loaded = await store.load_session(name)
        assert loaded.record.seq == max(states)
        assert loaded.state == states[max(states)]
        for seq in sorted({min(states), max(states), *list(states)[::7]}):
            assert await store.state_at(name, seq) == states[seq]
        assert [found.seq for found in await store.list_steps(name, limit=10_000)] == sorted(states)[1:]
