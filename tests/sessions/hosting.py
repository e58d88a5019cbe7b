"""What tests of the host share: a host over a store, and the reading of its events."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from app.engine.machine import Machine
from app.persistence.records import Commit, RunStart, SessionStatus
from app.persistence.store import Store
from app.sessions.events import Event, EventType
from app.sessions.followers import follow_session
from app.sessions.host import SessionHost
from app.sessions.host_settings import HostSettings
from app.sessions.requests import NewSessionRequest, RunRequest

__all__ = [
    "all_events",
    "caught_up",
    "create",
    "drop",
    "events_until",
    "followed",
    "hosting",
    "leave_a_run",
    "take_steps",
    "types_of",
]

QUICK = HostSettings(shutdown_grace_s=0.2)
LIMIT_S = 60.0
LAST = (EventType.RUN_FINISHED, EventType.RUN_FAILED, EventType.RUN_CANCELLED)


@contextlib.asynccontextmanager
async def hosting(machines: Iterable[Machine], store: Store, **settings: object) -> AsyncIterator[SessionHost]:
    async with SessionHost(tuple(machines), store, replace(QUICK, **settings)) as host:  # type: ignore[arg-type]  # by name
        yield host


async def create(host: SessionHost, machine: str = "counter", session_id: str | None = None) -> str:
    """Create a session and return its id."""
    return (await host.create(NewSessionRequest(machine, session_id))).record.id


async def take_steps(host: SessionHost, session_id: str, count: int) -> None:
    for _ in range(count):
        await host.step(session_id, {})


def drop(host: SessionHost, session_id: str) -> None:
    """Let the session leave memory."""
    live = host.residents.get(session_id)
    assert live is not None
    host.residents.remove(live)


async def leave_a_run(store: Store, session_id: str, run_id: str = "left", age_s: float = 0.0, **parameters: Any) -> int:
    """What a crash leaves: the start of a run that nobody goes on with. Return the id of its event."""
    event_id = (await store.get_session(session_id)).last_event_id + 1
    start = RunStart(run_id, event_id, time.time() - age_s, parameters)
    await store.commit(Commit(session_id, SessionStatus.IDLE, event_id, run_start=start, run_id=run_id))
    return event_id


async def run(host: SessionHost, session_id: str, max_steps: int) -> None:
    """One run of so many steps."""
    await (await host.start(session_id, RunRequest(max_steps=max_steps))).outcome()


async def events_until(host: SessionHost, session_id: str, last: Sequence[EventType] = LAST, after: int = 0) -> list[Event]:
    """The events above `after`, up to the first of one of the types in `last`."""
    seen: list[Event] = []
    async with aclosing(host.follow(session_id, after=after)) as events:
        async for event in events:
            if event is not None:
                seen.append(event)
                if event.type in last:
                    break
    return seen


async def all_events(host: SessionHost, session_id: str, after: int = 0) -> list[Event]:
    """The events above `after` that there are now."""
    now = follow_session(host.residents, host.store, session_id, after=after, run_id=None, ping_s=0.01)
    seen: list[Event] = []
    async with aclosing(now) as events:
        async for event in events:
            if event is None:  # silence
                break
            seen.append(event)
    return seen


@contextlib.asynccontextmanager
async def followed(host: SessionHost, session_id: str) -> AsyncIterator[list[Event]]:
    """What happens in the session meanwhile, told to a follower as it happens. It is complete when the context ends."""
    seen: list[Event] = []

    async def follow() -> None:
        async with aclosing(host.follow(session_id, after=0)) as events:
            async for event in events:
                if event is not None:
                    seen.append(event)  # noqa: PERF401  # each is wanted as it comes

    following = asyncio.create_task(follow())
    while not (host.residents.is_followed(session_id) or following.done()):  # noqa: ASYNC110  # the table gives no sign
        await asyncio.sleep(0)
    try:
        yield seen
        await caught_up(host, session_id, seen)
    finally:
        following.cancel()
        await asyncio.wait([following])


async def caught_up(host: SessionHost, session_id: str, seen: Sequence[Event]) -> None:
    """Return when a follower has seen what has happened so far."""
    last = await host.history.position(session_id)
    async with asyncio.timeout(LIMIT_S):
        while not seen or seen[-1].id < last:  # noqa: ASYNC110  # a list gives no sign
            await asyncio.sleep(0.002)


def types_of(events: Iterable[Event]) -> list[str]:
    return [event.type.value for event in events]
