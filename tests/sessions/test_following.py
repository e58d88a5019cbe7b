"""Followers: every event once and in order, live or later, wherever they come in and however slow they are."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from app.persistence.memory import MemoryStore
from app.persistence.records import RunRecord
from app.persistence.store import Store
from app.sessions.errors import PositionTrimmed
from app.sessions.events import Event, EventType, describe
from app.sessions.host import SessionHost
from app.sessions.live import LiveSession
from app.sessions.requests import RunRequest, SessionEdit
from tests.machines import Gate, counter, failing, gated, streamer, turns
from tests.sessions.hosting import (
    all_events,
    caught_up,
    create,
    drop,
    events_until,
    followed,
    hosting,
    leave_a_run,
    run,
    take_steps,
    types_of,
)

EPHEMERAL = (EventType.STEP_ITEM, EventType.WARNING)


def told(events: list[Event]) -> list[tuple[int, str, object]]:
    return [(event.id, event.type.value, describe(event, "s")) for event in events]


def durable(events: list[Event]) -> list[Event]:
    return [event for event in events if event.type not in EPHEMERAL]


async def test_a_run_is_told_from_its_start_to_its_end(store: Store) -> None:
    async with hosting([streamer(items=2)], store) as host:
        session = await create(host, "streamer")
        await run(host, session, 1)
        events = await all_events(host, session)
        assert types_of(events) == ["run.started", "step.started", "step.item", "step.item", "step.finished", "run.finished"]
        finished = describe(events[4], session)
        assert (finished["seq"], finished["action"], finished["result"]) == (0, "tell", {"items": 2})
        assert finished["operations"] == [{"op": "increment", "key": "told", "by": 1}]
        assert (describe(events[5], session)["reason"], describe(events[5], session)["steps"]) == ("max_steps", 1)
        assert [event.id for event in events] == sorted({event.id for event in events})


@pytest.mark.parametrize("buffer", [1, 4, 512])
async def test_one_who_comes_back_at_any_event_misses_none_and_sees_none_twice(store: Store, buffer: int) -> None:
    async with hosting([turns(), failing()], store, event_buffer=buffer) as host:
        session = await create(host, "turns")
        async with followed(host, session) as whole:
            await run(host, session, 3)
            await host.edit(session, SessionEdit({"words": []}))
            await take_steps(host, session, 2)
            await caught_up(host, session, whole)
            assert told(await all_events(host, session)) == told(whole)
            assert len(whole) == 2 + 2 * 3 + 1 + 2 * 4
            for cut, event in enumerate(whole):
                assert told(await all_events(host, session, after=event.id)) == told(whole[cut + 1 :])


async def test_what_is_told_later_is_what_was_told_live(store: Store) -> None:
    async with hosting([failing()], store, event_buffer=100) as host:
        session = await create(host, "failing")
        async with followed(host, session) as live:
            with pytest.raises(Exception, match="failed"):
                await (await host.start(session, RunRequest())).outcome()
            await host.edit(session, SessionEdit({"broken": False}, ("begun",)))
            await run(host, session, 1)
        host.residents.remove(next(iter(host.residents)))
        assert host.residents.get(session) is None
        assert told(await all_events(host, session)) == told(live)


async def test_what_nobody_follows_leaves_memory_once_it_is_durable(store: Store) -> None:
    async with hosting([turns()], store) as host:
        session = await create(host, "turns")
        await run(host, session, 3)
        [live] = host.residents
        assert (live.stream.after(0), live.stream.floor) == ([], live.stream.last_id)
        assert types_of(await all_events(host, session)) == [
            *("run.started", "step.started", "step.finished", "step.started", "step.finished"),
            *("step.started", "step.finished", "run.finished"),
        ]
        async with followed(host, session):
            await run(host, session, 1)
            assert types_of(live.stream.after(0))[-1:] == ["run.finished"], "somebody follows"


async def test_what_is_in_no_store_stays_in_memory_while_there_is_room(store: Store) -> None:
    async with hosting([streamer(items=2)], store) as host:
        session = await create(host, "streamer")
        for _ in range(2):
            await run(host, session, 1)
        assert types_of(await all_events(host, session)).count("step.item") == 4


async def test_a_follower_that_does_not_read_slows_nobody_and_misses_no_durable_event(store: Store) -> None:
    async with hosting([turns()], store, event_buffer=8) as host:
        session = await create(host, "turns")
        async with aclosing(host.follow(session, after=0)) as slow:
            first_run = asyncio.create_task(run(host, session, 50))
            seen = [await anext(slow)]
            await first_run
            await run(host, session, 50)
            last = await host.history.position(session)
            async for event in slow:
                seen.append(event)
                if event is not None and event.id == last:
                    break
        events = [event for event in seen if event is not None]
        assert types_of(events) == [
            *(["run.started"] + ["step.started", "step.finished"] * 50 + ["run.finished"]),
            *(["run.started"] + ["step.started", "step.finished"] * 50 + ["run.finished"]),
        ]
        assert [event.id for event in events] == sorted({event.id for event in events})


async def test_a_follower_that_is_slower_than_the_trimming_is_told_of_the_gap(store: Store) -> None:
    async with hosting([turns()], store, event_buffer=8) as host:
        session = await create(host, "turns")
        await run(host, session, 3)
        async with aclosing(host.follow(session, after=0)) as slow:
            first = await anext(slow)
            await run(host, session, 200)
            await host.history.trim(session, before_seq=150)
            with pytest.raises(PositionTrimmed):
                async for _ in slow:
                    pass
        assert first is not None
        with pytest.raises(PositionTrimmed):
            await all_events(host, session, after=first.id)


class TrimsMeanwhile(MemoryStore):
    """Somebody trims a session between two reads of its history."""

    async def list_runs(self, session_id: str, *, after_event_id: int = 0, limit: int = 100) -> Sequence[RunRecord]:
        found = await super().list_runs(session_id, after_event_id=after_event_id, limit=limit)
        await self.trim(session_id, before_seq=3)
        return found


async def test_what_was_trimmed_amid_a_read_from_the_beginning_is_left_out_as_a_whole() -> None:
    async with hosting([turns()], TrimsMeanwhile()) as host:
        session = await create(host, "turns")
        for _ in range(2):
            await run(host, session, 3)
        assert types_of(await all_events(host, session)) == [
            "run.started",
            *["step.started", "step.finished"] * 3,
            "run.finished",
        ]


@pytest.mark.parametrize("seed", range(5))
async def test_followers_of_any_pace_see_the_same(store: Store, seed: int) -> None:
    chance = random.Random(seed)

    async def follower(host: SessionHost, session: str) -> list[Event]:
        seen: list[Event] = []
        async with aclosing(host.follow(session, after=0)) as events:
            async for event in events:
                if event is None:
                    continue
                seen.append(event)
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() * 0.01)
                if event.type is EventType.RUN_FINISHED and len([e for e in seen if e.type is EventType.RUN_FINISHED]) == 10:
                    return seen
        return seen

    async with hosting([streamer(items=2)], store, event_buffer=5) as host:
        session = await create(host, "streamer")
        followers = [asyncio.create_task(follower(host, session)) for _ in range(5)]
        for _ in range(10):
            await run(host, session, chance.randint(1, 4))
            await asyncio.sleep(chance.random() * 0.005)
        results = await asyncio.gather(*followers)
        stored = told(durable(await all_events(host, session)))
        for seen in results:
            assert told(durable(seen)) == stored
            assert [event.id for event in seen] == sorted({event.id for event in seen})


async def test_a_follower_comes_in_while_a_step_is_under_way(store: Store) -> None:
    gate = Gate()
    async with hosting([streamer(12, gate)], store, event_buffer=2) as host:
        session = await create(host, "streamer")
        following = asyncio.create_task(events_until(host, session))
        started = await host.start(session, RunRequest(max_steps=1))
        await gate.until_reached()
        now = await events_until(host, session, last=(EventType.STEP_STARTED,))
        assert types_of(now) == ["run.started", "step.started"], "neither is stored yet"
        gate.open()
        await started.outcome()
        assert types_of(durable(await following)) == ["run.started", "step.started", "step.finished", "run.finished"]


async def test_silence_is_filled_with_pings(store: Store) -> None:
    async with hosting([counter()], store, ping_s=0.01) as host:
        session = await create(host)
        async with aclosing(host.follow(session, after=0)) as events:
            assert await anext(events) is None
            await host.step(session, {})
            assert await anext(events) is not None


async def test_a_deleted_session_ends_its_run_and_its_followers(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        following = asyncio.create_task(_collect(host, session))
        started = await host.start(session, RunRequest())
        await gate.until_reached()
        await host.delete(session)
        assert types_of(await following)[-1] == "run.cancelled"
        with pytest.raises(Exception, match="deleted"):
            await started.outcome()


async def _collect(host: SessionHost, session: str) -> list[Event]:
    async with aclosing(host.follow(session, after=0)) as events:
        return [event async for event in events if event is not None]


async def test_who_comes_after_the_service_has_drained_reads_what_is_there_and_goes(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        await take_steps(host, session, 1)
        drop(host, session)
        await host.drain()
        async with asyncio.timeout(30):
            seen = [event async for event in host.follow(session, after=0) if event is not None]
        assert types_of(seen) == ["run.started", "step.started", "step.finished", "run.finished"]


async def test_who_comes_while_the_session_is_being_read_misses_nothing(store: Store) -> None:
    gate = Gate()

    async def held(_: LiveSession) -> None:
        await gate.wait()

    async with hosting([counter()], store) as host:
        session = await create(host)
        await leave_a_run(host.store, session, max_steps=1)
        drop(host, session)
        host.registry._resume = held
        reading = asyncio.create_task(host.registry.alive(session))
        await gate.until_reached()
        async with followed(host, session) as seen:
            async with asyncio.timeout(30):
                while not seen:  # noqa: ASYNC110  # a list gives no sign
                    await asyncio.sleep(0.002)
            gate.open()
            assert (await reading).stream is host.residents.stream(session, 0)
            await take_steps(host, session, 1)
            async with asyncio.timeout(30):
                await caught_up(host, session, seen)
        assert types_of(seen) == ["run.started", "run.started", "step.started", "step.finished", "run.finished"]
