"""Sessions that expire, and histories that are cut short, under a host."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from app.engine.machine import MachineOptions
from app.persistence.records import History, StepKind
from app.persistence.store import SessionNotFound, StepTrimmed, Store
from app.sessions.errors import PositionTrimmed, SessionBusy
from app.sessions.events import EventType
from app.sessions.host import SessionHost
from app.sessions.housekeeping import Retention, cut_of
from app.sessions.requests import ForkRequest, NewSessionRequest, RunRequest, SessionEdit
from tests.machines import Gate, counter, gated
from tests.sessions.hosting import all_events, create, hosting, run, take_steps, types_of

SHORT_S = 1.0
LIMIT_S = 60.0


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Return when `condition` holds."""
    async with asyncio.timeout(LIMIT_S):
        while not await condition():  # noqa: ASYNC110  # what is waited for gives no sign
            await asyncio.sleep(0.01)


async def is_gone(host: SessionHost, session_id: str) -> bool:
    try:
        await host.get(session_id)
    except SessionNotFound:
        return True
    return False


async def mortal(host: SessionHost, ttl_s: float = SHORT_S, machine: str = "counter", **fields: Any) -> str:
    return (await host.create(NewSessionRequest(machine, ttl_s=ttl_s, **fields))).record.id


async def test_a_session_is_not_found_as_soon_as_it_has_expired(store: Store) -> None:
    async with hosting([counter()], store, housekeeping_s=60.0) as host:
        session = await mortal(host)
        record = await host.record(session)
        assert record.expires_at_s == record.created_at_s + SHORT_S
        await until(lambda: is_gone(host, session))
        for attempt in (
            host.step(session, {}),
            host.start(session, RunRequest()),
            host.queue(session, RunRequest()),
            host.edit(session, SessionEdit({"n": 1}, ttl_s=60)),
            host.fork(session, ForkRequest()),
            host.history.steps(session, after_seq=-1, limit=1),
            host.history.list_runs(session, limit=1),
            host.history.trim(session, 0),
            host.own(session),
            host.delete(session),
        ):
            with pytest.raises(SessionNotFound):
                await attempt


async def test_what_happens_in_a_session_puts_its_end_off(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await mortal(host, 60.0)
        ends = [(await host.record(session)).expires_at_s or 0.0]
        await host.step(session, {})
        ends.append((await host.record(session)).expires_at_s or 0.0)
        await host.edit(session, SessionEdit({"n": 1}))
        ends.append((await host.record(session)).expires_at_s or 0.0)
        assert ends == sorted(set(ends))
        assert (await store.get_session(session)).expires_at_s == ends[-1]


async def test_what_has_expired_is_deleted_in_the_background_and_its_followers_go(store: Store) -> None:
    async with hosting([counter()], store, housekeeping_s=0.02) as host:
        kept = await create(host)
        await asyncio.gather(*(mortal(host) for _ in range(20)))
        followed = await mortal(host)
        async with aclosing(host.follow(followed, after=0)) as events:
            follower = asyncio.ensure_future(anext(events, None))
            async with asyncio.timeout(LIMIT_S):
                assert await follower is None
        page: list[str] = []

        async def are_deleted() -> bool:
            page[:] = [history.session_id for history in await store.histories(0, 100)]
            return page == [kept]

        await until(are_deleted)
        assert len(host.residents) <= 1


async def test_a_run_under_way_keeps_its_session_and_its_end_begins_the_time_anew(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store, housekeeping_s=0.02) as host:
        session = await mortal(host, machine="gated")
        started = await host.start(session, RunRequest(max_steps=2))
        await gate.until_reached()
        await asyncio.sleep(1.5 * SHORT_S)
        assert (await host.get(session)).record.seq == 0
        gate.open()
        await started.outcome()
        assert not await is_gone(host, session)
        await until(lambda: is_gone(host, session))


async def test_an_id_is_free_again_before_the_background_has_seen_it(store: Store) -> None:
    async with hosting([counter()], store, housekeeping_s=60.0) as host:
        first = await mortal(host, id="again")
        await host.step(first, {})
        await until(lambda: is_gone(host, first))
        second = await host.create(NewSessionRequest("counter", "again"))
        assert (second.record.seq, second.record.ttl_s) == (-1, None)
        assert (await host.step("again", {})).seq == 0


async def test_the_time_to_live_is_that_of_the_request_or_of_the_machine_or_of_the_service(store: Store) -> None:
    own = replace(counter("own"), options=MachineOptions(ttl_s=30))
    never = replace(counter("never"), options=MachineOptions(ttl_s=math.inf))
    async with hosting([counter(), own, never], store, session_ttl_s=20.0) as host:
        made = [
            (await host.create(NewSessionRequest(machine, ttl_s=ttl_s))).record
            for machine, ttl_s in (("counter", None), ("own", None), ("own", 10), ("own", math.inf), ("never", None))
        ]
        assert [record.ttl_s for record in made] == [20.0, 30, 10, None, None]
        forks = [(await host.fork(made[1].id, ForkRequest(ttl_s=ttl_s))).record.ttl_s for ttl_s in (None, 5, math.inf)]
        assert forks == [30, 5, None]


async def test_the_time_to_live_can_be_set_and_removed(store: Store) -> None:
    async with hosting([counter()], store, housekeeping_s=0.02) as host:
        session = await create(host)
        edited = (await host.edit(session, SessionEdit(ttl_s=60))).record
        assert edited.expires_at_s == edited.updated_at_s + 60
        await host.edit(session, SessionEdit(ttl_s=math.inf))
        assert (await host.record(session)).ttl_s is (await store.get_session(session)).ttl_s is None
        await host.edit(session, SessionEdit(ttl_s=SHORT_S))
        await until(lambda: is_gone(host, session))


async def test_an_edit_changes_what_it_names_and_is_a_step_that_says_so(store: Store) -> None:
    async with hosting([counter()], store) as host:
        request = NewSessionRequest("counter", metadata={"env": "test", "deep": {"a": 1, "b": [2]}}, partition_key="p")
        session = (await host.create(request)).record.id
        await host.step(session, {})
        patch = {"env": None, "deep": {"a": None, "c": {"d": None}}, "owner": "ann"}
        edited = await host.edit(session, SessionEdit(metadata=patch))
        record = edited.record
        assert record.metadata == {"deep": {"b": [2], "c": {}}, "owner": "ann"}
        assert (edited.state, record.partition_key, record.seq, record.next_action) == ({"n": 1}, "p", 1, "count")
        edited = await host.edit(session, SessionEdit({"n": 5}, partition_key=None))
        assert (edited.state, edited.record.partition_key, edited.record.metadata) == ({"n": 5}, None, record.metadata)
        assert await store.get_session(session) == edited.record
        assert (await host.step(session, {})).state == {"n": 6}
        steps = await host.history.steps(session, after_seq=0, limit=2)
        assert [(step.kind, step.result) for step in steps] == [
            (StepKind.EDIT, {"metadata": patch}),
            (StepKind.EDIT, {"partition_key": None}),
        ]
        told = [event.body for event in await all_events(host, session) if event.type is EventType.STEP_FINISHED]
        assert [getattr(body, "result", None) for body in told][1:3] == [{"metadata": patch}, {"partition_key": None}]


async def test_an_edit_waits_for_nobody(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        started = await host.start(session, RunRequest(max_steps=2))
        await gate.until_reached()
        with pytest.raises(SessionBusy):
            await host.edit(session, SessionEdit(metadata={"a": "b"}))
        gate.open()
        await started.outcome()
        assert (await host.record(session)).metadata == {}


async def test_a_session_with_a_short_history_goes_on_and_can_be_forked_and_followed(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        await take_steps(host, session, 20)
        events = await all_events(host, session)
        assert await host.history.trim(session, 15) == 15
        assert (await host.get(session)).state == {"n": 20}
        assert (await host.step(session, {})).state == {"n": 21}
        assert (await host.fork(session, ForkRequest(seq=15))).state == {"n": 16}
        for call in (host.fork(session, ForkRequest(seq=14)), host.history.step_with_state(session, 3)):
            with pytest.raises(StepTrimmed):
                await call
        first_kept = next(event.id for event in events if event.run_id == events[-20].run_id)
        live = host.residents.get(session)
        assert live is not None
        host.residents.remove(live)
        assert [event.id for event in await all_events(host, session)][:20] == [event.id for event in events[-20:]]
        await host.history.require_kept(session, 0)
        await host.history.require_kept(session, first_kept - 1)
        with pytest.raises(PositionTrimmed):
            await host.history.require_kept(session, events[3].id)


async def test_long_histories_are_cut_by_themselves(store: Store) -> None:
    short = replace(counter("short"), options=MachineOptions(history_steps=10))
    async with hosting([short, counter()], store, housekeeping_s=0.02) as host:
        session, other = await create(host, "short"), await create(host)
        for each in (session, other):
            await run(host, each, 100)

        async def is_cut() -> bool:
            return len(await host.history.steps(session, after_seq=-1, limit=1000)) < 10 + 17

        await until(is_cut)
        kept = [step.seq for step in await host.history.steps(session, after_seq=-1, limit=1000)]
        assert kept == list(range(kept[0], 100))
        # it may have been cut while it was shorter; then a few steps more are no reason to cut it again
        assert 100 - 10 - 17 < kept[0] <= 100 - 10
        assert (await host.step(session, {})).state == {"n": 101}
        assert len(await host.history.steps(other, after_seq=-1, limit=1000)) == 100
        assert "step.finished" in types_of(await all_events(host, session))


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(), (0, None)),
        (Retention(steps=100), (0, None)),
        (Retention(steps=60), (0, None)),
        (Retention(steps=50), (50, None)),
        (Retention(days=9.0), (0, None)),
        (Retention(days=2.0), (0, 8 * 86_400.0)),
        (Retention(steps=1, days=2.0), (99, 8 * 86_400.0)),
    ],
    ids=str,
)
def test_a_cut_is_made_where_it_pays(retention: Retention, expected: tuple[int, float | None]) -> None:
    history = History("s", "m", 1, seq=99, base_seq=29, oldest_s=86_400.0)
    assert cut_of(history, retention, 10 * 86_400.0) == expected
