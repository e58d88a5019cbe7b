"""A follower of a run does not trust silence: what nobody tells of is looked for."""

import asyncio
import time

import pytest

from app.persistence.memory import MemoryStore
from app.persistence.records import Commit, RunEnd, RunStatus, SessionStatus
from app.routes.event_stream import EventStreams
from tests.machines import counter
from tests.sessions.hosting import create, hosting, leave_a_run


async def test_who_follows_a_run_that_ends_elsewhere_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setattr("app.sessions.host._LOST_INTERVAL_S", 1000.0)  # or the run would go on here

    async def nowhere(*_: object) -> None:
        raise AssertionError("no other replica has it")

    async with hosting([counter()], store, ping_s=0.02) as host:
        session = await create(host)
        begun = await leave_a_run(store, session)
        await host.step(session, {})  # what is told of later is above the end that nobody has told of
        last = await host.history.position(session)
        frames: list[bytes] = []

        async def follow() -> None:
            streamed = EventStreams(host, nowhere).response(session, after=last, run_id="left").body_iterator
            frames.extend([frame async for frame in streamed])  # type: ignore[misc]  # bytes, as it is sent

        following = asyncio.create_task(follow())
        end = RunEnd("left", RunStatus.FAILED, last + 1, time.time(), 0)
        await store.commit(Commit(session, SessionStatus.IDLE, last + 1, run_end=end, run_id="left"))
        async with asyncio.timeout(60):
            await following
        assert begun < last
        assert b"event: run.failed" in frames[-1]
