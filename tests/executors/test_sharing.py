"""Whatever an action does with what it got, only what it returns counts: on every executor, with every durability."""

import asyncio
import contextlib
import copy
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import sharing_machine
from dask_cluster import DaskCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine.operations import apply_all
from app.executors.ladder import ExecutorSettings
from app.persistence.factory import open_store
from app.sessions.events import Event, EventType
from app.sessions.host import SessionHost
from app.sessions.items import shown_item
from app.sessions.loading import load_machine
from app.sessions.requests import Durability, ForkRequest, NewSessionRequest, RunRequest
from tests.sessions.hosting import LIMIT_S, drop, events_until, hosting

Program = list[list[Any]]
Example = tuple[list[Program], Durability, bool, dict[str, Any]]

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=1), inner, max_size=3),
    max_leaves=6,
)
_CONTAINERS = _JSON.filter(lambda value: isinstance(value, list | dict))
_AT = st.integers(0, 7)
_KEY = st.sampled_from(sharing_machine.KEYS)
_KIND = st.sampled_from(["tuple", "box", "deque", "dict"])
_STEPS: st.SearchStrategy[list[Any]] = st.one_of(
    st.tuples(st.just("read"), _KEY).map(list),
    st.tuples(st.just("new"), _CONTAINERS).map(list),
    st.tuples(st.just("write"), _KEY, _AT).map(list),
    st.tuples(st.just("append"), _AT).map(list),
    st.tuples(st.just("change"), _AT).map(list),
    st.tuples(st.just("descend"), _AT, _AT).map(list),
    st.tuples(st.just("put"), _AT, _AT).map(list),
    st.tuples(st.just("copy"), _AT).map(list),
    st.tuples(st.just("wrap"), _AT, _KIND).map(list),
    st.tuples(st.just("give"), _AT).map(list),
)
_PROGRAMS: st.SearchStrategy[Program] = st.builds(
    lambda first, steps, fails: [["read", first], *steps, *([["fail"]] if fails else [])],
    _KEY,
    st.lists(_STEPS, max_size=12),
    st.sampled_from([False, False, False, True]),
)
_EXAMPLES: st.SearchStrategy[Example] = st.tuples(
    st.lists(_PROGRAMS, min_size=2, max_size=4),
    st.sampled_from(list(Durability)),
    st.booleans(),
    st.fixed_dictionaries(dict.fromkeys(sharing_machine.KEYS, _CONTAINERS)),
)


@dataclass
class Model:
    """What a state is to a program, made of plain deep copies."""

    committed: dict[str, Any]
    own: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    log: tuple[tuple[str, str, Any], ...] = ()

    def __getitem__(self, key: str) -> Any:
        if key in self.written:
            return self.written[key]
        if key not in self.own:
            self.own[key] = apart(self.committed[key])
        return self.own[key]

    def update(self, **updates: Any) -> "Model":
        changes = tuple(("set", key, value) for key, value in updates.items())
        return Model(self.committed, self.own, {**self.written, **updates}, self.log + changes)

    def append(self, **updates: Any) -> "Model":
        return Model(self.committed, self.own, self.written, self.log + tuple(("append", *each) for each in updates.items()))

    def after(self) -> dict[str, Any]:
        values = dict(self.committed)
        for kind, key, value in self.log:
            values[key] = apart(value) if kind == "set" else [*values[key], apart(value)]
        return values


@dataclass
class Expected:
    """What must come of the programs: the state after each step, its result, and the items that it gave."""

    states: list[dict[str, Any]]
    results: list[Any]
    items: list[Any]


def apart(value: Any) -> Any:
    """A deep copy in which no two places are the same object: what storing a value and reading it back makes of it."""
    match value:
        case list():
            return [apart(item) for item in value]
        case dict():
            return {key: apart(item) for key, item in value.items()}
        case tuple():
            return tuple(apart(item) for item in value)
        case deque():
            return deque(apart(item) for item in value)
        case sharing_machine.Box():
            return sharing_machine.Box(apart(value.content))
    return value


def shown(value: Any) -> Any:
    """The value with its types, so that 1 is not True; a Box of a module that was loaded by path is a Box, too."""
    match value:
        case list():
            return ["list", *map(shown, value)]
        case dict():
            return {key: shown(item) for key, item in value.items()}
        case tuple() | deque():
            return [type(value).__name__, *map(shown, value)]
    if type(value).__name__ == "Box":
        return ["Box", shown(value.content)]
    return type(value).__name__, value


def expected_of(programs: list[Program], first: dict[str, Any]) -> Expected:
    """Play the programs on the model."""
    expected = Expected([first], [], [])
    for program in programs:
        model = Model(expected.states[-1])
        result: Any = {}
        try:
            for each in sharing_machine.play(model, apart(program)):
                if isinstance(each, tuple):
                    result, model = each
                else:
                    expected.items.append(apart(each))
        except sharing_machine.Unwilling:
            result, model = {}, Model(expected.states[-1]).update(turn=expected.states[-1]["turn"] + 1)
        expected.states.append(model.after())
        expected.results.append(apart(result))
    sharing_machine.KEPT.clear()
    return expected


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    found: str = request.getfixturevalue("postgres_store_url")
    return found


@pytest.mark.parametrize("rung", ["loop", "thread", "process", "dask"])
async def test_what_is_live_stored_restarted_forked_and_told_is_what_the_actions_returned(
    rung: str, url: str, request: pytest.FixtureRequest
) -> None:
    cluster: DaskCluster | None = request.getfixturevalue("dask_cluster") if rung == "dask" else None
    executors = ExecutorSettings(processes=1, dask=None if cluster is None else cluster.address, loop_lag_budget_s=None)
    machines = [load_machine(f"{sharing_machine.__file__}:{name}") for name in (rung, f"{rung}_stream")]
    checked: list[tuple[str, Expected]] = []
    async with hosting(machines, open_store(url), executors=executors) as host:

        @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.data())
        def hold(data: st.DataObject) -> None:
            with paused(loop):
                example = data.draw(_EXAMPLES)
            checked.append(asyncio.run_coroutine_threadsafe(check(host, rung, *example), loop).result(LIMIT_S))

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(hold)
        for session, expected in checked:  # what came later has changed nothing
            assert shown((await host.get(session)).state) == shown(expected.states[-1])
    async with hosting(machines, open_store(url), executors=executors) as host:
        for session, expected in checked:
            assert shown((await host.get(session)).state) == shown(expected.states[-1])


@contextlib.contextmanager
def paused(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let nothing happen in the loop: Hypothesis objects if somebody asks for random numbers while it draws."""
    has_paused, goes_on = threading.Event(), threading.Event()

    def pause() -> None:
        has_paused.set()
        goes_on.wait(LIMIT_S)

    loop.call_soon_threadsafe(pause)
    assert has_paused.wait(LIMIT_S)
    try:
        yield
    finally:
        goes_on.set()


async def check(
    host: SessionHost, rung: str, programs: list[Program], durability: Durability, streams: bool, values: dict[str, Any]
) -> tuple[str, Expected]:
    """Let a session play the programs in one run, and compare all that can be seen of it with the model."""
    machine = f"{rung}_stream" if streams else rung
    values = {**values, "programs": programs}
    created = await host.create(NewSessionRequest(machine, state=copy.deepcopy(values)))
    session = created.record.id
    first = {"untouched": [["whole"]], "turn": 0, "log": [], **values}
    assert shown(created.state) == shown(first)
    expected = expected_of(programs, copy.deepcopy(first))
    following = asyncio.create_task(events_until(host, session))
    await (await host.start(session, RunRequest(max_steps=len(programs), durability=durability))).outcome()
    async with asyncio.timeout(LIMIT_S):
        events = await following

    assert shown((await host.get(session)).state) == shown(expected.states[-1])
    _compare_events(events, expected, streams=streams)
    await _compare_history(host, session, expected)
    drop(host, session)
    assert shown((await host.get(session)).state) == shown(expected.states[-1])
    again = await events_until(host, session)
    assert [shown(each.body) for each in _finished(again)] == [shown(each.body) for each in _finished(events)]
    middle = len(programs) // 2
    fork = (await host.fork(session, ForkRequest(seq=middle - 1))).record.id
    await (await host.start(fork, RunRequest(max_steps=1))).outcome()
    assert shown((await host.get(fork)).state) == shown(expected.states[middle + 1])
    assert shown((await host.get(session)).state) == shown(expected.states[-1])
    return session, expected


async def _compare_history(host: SessionHost, session: str, expected: Expected) -> None:
    for seq, (state, result) in enumerate(zip(expected.states[1:], expected.results, strict=True)):
        assert shown(await host.store.state_at(session, seq)) == shown(state)
        assert shown((await host.store.get_step(session, seq)).result) == shown(result)


def _compare_events(events: list[Event], expected: Expected, *, streams: bool) -> None:
    given = [orjson.dumps(event.body.item) for event in events if event.type is EventType.STEP_ITEM]  # what clients get
    assert given == [orjson.dumps(shown_item("act", 0, item)) for item in expected.items if streams]
    values: dict[str, Any] = expected.states[0]
    for event, state, result in zip(_finished(events), expected.states[1:], expected.results, strict=True):
        values = apply_all(values, event.body.operations)
        assert shown(values) == shown(state)
        assert shown(event.body.result) == shown(result)


def _finished(events: list[Event]) -> list[Any]:
    return [event for event in events if event.type is EventType.STEP_FINISHED]
