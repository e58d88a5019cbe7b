"""A value that cannot be stored fails its own step when that is handed in, in all durabilities: nothing hangs or is lost."""

import asyncio
import datetime
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
import pydantic
import pytest

from app.engine import ApplicationBuilder, State, action, default, on_error, streaming_action
from app.engine.machine import Machine
from app.engine.serde import UnserializableValue
from app.persistence.factory import open_store
from app.persistence.records import RunStatus, SessionStatus
from app.sessions.errors import ActionFailed, RunCancelled
from app.sessions.events import EventType
from app.sessions.host import SessionHost
from app.sessions.requests import Durability, NewSessionRequest, RunRequest, SessionEdit
from tests.sessions.hosting import all_events, create, hosting, types_of

LIMIT_S = 30.0
SECRET = "hunter2-and-more"
DURABILITIES = pytest.mark.parametrize("durability", list(Durability), ids=str)


class Secret:
    def __repr__(self) -> str:
        return SECRET


class Report(pydantic.BaseModel):
    title: str = ""


class Proxy:
    @property  # type: ignore[misc]  # as lazy proxies have it
    def __class__(self) -> Any:
        raise RuntimeError(SECRET)


class Guarded:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(SECRET)


def nested(depth: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {"name": SECRET}
    value["again"] = value
    return value


KINDS: dict[str, tuple[Any, str]] = {
    "func": (open, "builtin_function_or_method"),
    "obj": ({"inner": [Secret()]}, f"['v']['inner'][0], a {__name__}.Secret"),
    "deep": (nested(3_000), "nested too deeply"),
    "cycle": (cycle(), "contains itself"),
    "half": ([Report.__new__(Report)], f"['v'][0], a {__name__}.Report"),
    "proxy": (Proxy(), f"['v'], a {__name__}.Proxy"),
    "guarded": ({"by": Guarded()}, f"['v']['by'], a {__name__}.Guarded"),
}


@action(reads=["n", "kind"], writes=["n", "v"])
async def step(state: State[Any]) -> State[Any]:
    n = state["n"] + 1
    return state.update(n=n, v=KINDS[state["kind"]][0] if n == 3 else n)


@action(reads=["n", "kind"], writes=["n"])
def sync_result(state: State[Any]) -> tuple[dict[str, Any], State[Any]]:
    n = state["n"] + 1
    return {"v": KINDS[state["kind"]][0] if n == 3 else n}, state.update(n=n)


@action(reads=["n"], writes=["n", "v"])
async def mended(state: State[Any]) -> State[Any]:
    return state.update(n=100, v="mended")


@streaming_action(reads=["n", "kind"], writes=["n"])
async def stream(state: State[Any]) -> AsyncGenerator[tuple[dict[str, Any], State[Any] | None], None]:
    shared = {"parts": [1]}
    yield shared, None
    shared["parts"].append(2)
    yield {"v": KINDS[state["kind"]][0]} if state["n"] == 2 else shared, None
    yield {"last": 1}, state.update(n=state["n"] + 1)


def machines() -> list[Machine]:
    start = {"n": 0, "kind": "func"}
    rescued = (
        ApplicationBuilder()
        .with_actions(step, mended)
        .with_transitions(("step", "mended", on_error(UnserializableValue)), ("step", "step", default))
        .with_entrypoint("step")
        .with_state(**start)
    )
    return [looping_of(each, start) for each in (step, sync_result, stream)] + [Machine("rescued", lambda: rescued)]


def looping_of(one: Any, start: dict[str, Any]) -> Machine:
    builder = ApplicationBuilder().with_actions(one).with_transitions((one.__name__, one.__name__)).with_entrypoint(one.__name__)
    return Machine(one.__name__, lambda: builder.with_state(**start))


@pytest.fixture
async def host(store_url: str) -> AsyncIterator[SessionHost]:
    async with hosting(machines(), open_store(store_url, migrate=True)) as made:
        yield made


async def failed(host: SessionHost, session_id: str, request: RunRequest) -> ActionFailed:
    run = await host.start(session_id, request)
    with pytest.raises(ActionFailed) as caught:
        async with asyncio.timeout(LIMIT_S):
            await run.outcome()
    return caught.value


@DURABILITIES
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("machine", ["step", "sync_result", "stream"])
async def test_a_value_that_cannot_be_stored_fails_its_own_step(
    host: SessionHost, durability: Durability, kind: str, machine: str
) -> None:
    session_id = (await host.create(NewSessionRequest(machine, state={"kind": kind}))).record.id
    error = await failed(host, session_id, RunRequest(max_steps=9, durability=durability))

    assert (error.seq, error.action, error.steps) == (2, machine, 2)
    assert error.error_type == "app.engine.serde_codec.UnserializableValue"
    place = {"step": "state", "sync_result": "result", "stream": "item 1"}[machine]
    assert error.message.startswith(f"action '{machine}' cannot store {place}")
    assert KINDS[kind][1] in error.message
    assert SECRET not in error.message

    record = await host.record(session_id)
    assert (record.seq, record.status) == (1, SessionStatus.FAILED)
    run = await host.history.get_run(error.run_id)
    assert (run.status, run.steps) == (RunStatus.FAILED, 2)
    [failure] = await host.store.list_failures(session_id)
    assert (failure.seq, failure.action) == (2, machine)
    # a busy machine may warn of its loop in between
    told = [each for each in types_of(await all_events(host, session_id)) if each != "warning"]
    assert told.count("step.finished") == 2
    assert told[-2:] == ["step.failed", "run.failed"]


@DURABILITIES
async def test_the_session_goes_on_where_it_stood_after_a_step_that_could_not_be_stored(
    host: SessionHost, durability: Durability
) -> None:
    session_id = await create(host, "step")
    await failed(host, session_id, RunRequest(max_steps=9, durability=durability))
    await host.edit(session_id, SessionEdit(set={"n": 10}))
    outcome = await (await host.start(session_id, RunRequest(max_steps=2, durability=durability))).outcome()
    assert (outcome.seq, outcome.state["n"]) == (4, 12)


@DURABILITIES
async def test_on_error_takes_a_value_that_cannot_be_stored_as_an_error_of_its_action(
    host: SessionHost, durability: Durability
) -> None:
    session_id = await create(host, "rescued")
    outcome = await (await host.start(session_id, RunRequest(max_steps=3, durability=durability))).outcome()
    assert (outcome.seq, outcome.state["v"]) == (2, "mended")
    [failure] = await host.store.list_failures(session_id)
    assert (failure.seq, failure.action) == (2, "step")


@pytest.mark.parametrize("kind", list(KINDS))
async def test_an_input_that_cannot_be_stored_is_refused_before_anything_of_the_run_is(host: SessionHost, kind: str) -> None:
    session_id = await create(host, "step")
    request = RunRequest({"given": KINDS[kind][0]}, max_steps=1)
    for refuse in (host.start(session_id, request), host.queue(session_id, request)):
        with pytest.raises(UnserializableValue, match=r"cannot store inputs\['given'\]") as caught:
            await refuse
        assert SECRET not in str(caught.value)
    assert await all_events(host, session_id) == []
    assert (await host.record(session_id)).status is SessionStatus.IDLE


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_new_session_and_an_edit_are_refused_with_the_key_and_change_nothing(host: SessionHost, kind: str) -> None:
    value = KINDS[kind][0]
    with pytest.raises(UnserializableValue, match=r"\['v'\]"):
        await host.create(NewSessionRequest("step", "a", state={"v": value}))
    session_id = await create(host, "step", "a")
    with pytest.raises(UnserializableValue, match=r"state\['v'\]"):
        await host.edit(session_id, SessionEdit(set={"v": value}))
    assert (await host.record(session_id)).seq == -1
    assert (await host.step(session_id, {})).seq == 0


async def test_items_are_shown_as_they_were_given(host: SessionHost) -> None:
    session_id = await create(host, "stream")
    await host.step(session_id, {})
    events = [event for event in await all_events(host, session_id) if event.type is EventType.STEP_ITEM]
    assert [shown(event.body.item) for event in events] == [{"parts": [1]}, {"parts": [1, 2]}]  # type: ignore[union-attr]


def shown(item: Any) -> Any:
    return orjson.loads(orjson.dumps(item))


@action(reads=[], writes=["when"])
async def takes(state: State[Any], at: datetime.datetime, words: list[str]) -> State[Any]:
    words.append(SECRET)
    await asyncio.sleep(0)
    return state.update(when=at)


async def test_inputs_are_stored_and_told_as_they_were_given_whatever_the_action_does_to_them(store_url: str) -> None:
    at = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    async with hosting([looping_of(takes, {})], open_store(store_url, migrate=True)) as host:
        session_id = await create(host, "takes")
        outcome = await (await host.start(session_id, RunRequest({"at": at, "words": ["a"]}, max_steps=1))).outcome()
        run = await host.history.get_run(outcome.run_id)
        assert run.parameters["inputs"] == {"at": at, "words": ["a"]}
        [told] = [event for event in await all_events(host, session_id) if event.type is EventType.RUN_STARTED]
        assert told.body.parameters["inputs"] == {"at": at, "words": ["a"]}  # type: ignore[union-attr]


@action(reads=["n"], writes=["n", "v"])
async def waits(state: State[Any]) -> State[Any]:
    if state["n"] == 2:
        await asyncio.sleep(60)
    return state.update(n=state["n"] + 1, v=state["n"])


@DURABILITIES
async def test_sessions_that_met_such_a_value_can_be_deleted_and_runs_cancelled(store_url: str, durability: Durability) -> None:
    async with hosting([*machines(), looping_of(waits, {"n": 0})], open_store(store_url, migrate=True)) as host:
        session_id = await create(host, "step")
        await failed(host, session_id, RunRequest(max_steps=9, durability=durability))
        other = await create(host, "waits")
        run = await host.start(other, RunRequest(max_steps=9, durability=durability))
        await run.begun()
        ended = await host.cancel_run(run.id)
        assert ended.status is RunStatus.CANCELLED
        with pytest.raises(RunCancelled):
            await run.outcome()
        await host.delete(session_id)
        await host.delete(other)


def doubled(levels: int) -> Any:
    """A small object that stands for 2**levels values."""
    value: Any = 1
    for _ in range(levels):
        value = [value, value]
    return value


@action(reads=[], writes=["v"])
async def doubles(state: State[Any]) -> State[Any]:
    return state.update(v=doubled(100))


@streaming_action(reads=[], writes=["v"])
async def doubled_item(state: State[Any]) -> AsyncGenerator[tuple[dict[str, Any], State[Any] | None], None]:
    yield {"v": doubled(100)}, None
    yield {}, state.update(v=1)


@pytest.mark.parametrize("one", [doubles, doubled_item], ids=["state", "item"])
async def test_a_small_object_that_stands_for_more_values_than_can_be_written_fails_its_step(store_url: str, one: Any) -> None:
    async with hosting([looping_of(one, {})], open_store(store_url, migrate=True)) as host:
        error = await failed(host, await create(host, one.__name__), RunRequest(max_steps=1))
    assert "it holds more than" in error.message
    assert error.error_type.endswith("UnserializableValue")
