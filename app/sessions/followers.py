"""A follower is a position in a session's events. It has no queue of its own, so a slow one holds nothing and nobody up.

What is no longer in memory comes from the store. No database connection is held between two reads.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.persistence.store import Store
from app.sessions.events import Event, ends_run
from app.sessions.replay import replay
from app.sessions.residents import Residents
from app.sessions.stream import EventStream

__all__ = ["follow", "follow_past", "follow_run", "follow_session"]


async def follow_session(
    residents: Residents, store: Store, session_id: str, *, after: int, run_id: str | None, ping_s: float
) -> AsyncGenerator[Event | None, None]:
    """Follow a session wherever it is, in memory or not, or one run of it. Raises SessionNotFound."""
    live = residents.get(session_id)
    last_event_id = (await store.get_session(session_id)).last_event_id if live is None else live.stream.last_id
    stream = residents.stream(session_id, last_event_id)
    residents.keep_followed(session_id, stream)
    if run_id is None:
        events = follow(stream, store, session_id, after=after, ping_s=ping_s)
    else:
        events = follow_run(stream, store, session_id, run_id, after=after, ping_s=ping_s)
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    finally:
        residents.release_followed(session_id)


async def follow(
    stream: EventStream, store: Store, session_id: str, *, after: int, ping_s: float, run_id: str | None = None
) -> AsyncGenerator[Event | None, None]:
    """Yield every event above `after`, in order and once; None after each `ping_s` seconds of silence.

    Ends when the stream closes, or the run vanishes, and everything in it has been given. Raises PositionTrimmed to one so slow
    that what comes next was trimmed meanwhile.
    """
    stream.followers += 1
    try:
        position = after
        while True:
            # no await between a look into the buffer and `changed`: an event in between would wake nobody
            if position < stream.floor:
                through = stream.floor
                async with aclosing(_stored(stream, store, session_id, position, through)) as events:
                    async for event in events:
                        yield event
                position = through
            elif batch := stream.after(position):
                for event in batch:
                    yield event
                position = batch[-1].id
            elif stream.closed or run_id in stream.vanished:
                return
            elif not await stream.changed(ping_s):
                yield None
    finally:
        stream.followers -= 1
        if not stream.followers:
            stream.vanished.clear()


async def follow_run(
    stream: EventStream, store: Store, session_id: str, run_id: str, *, after: int, ping_s: float
) -> AsyncGenerator[Event | None, None]:
    """Yield the events of one run above `after`, and None as `follow` does; ends after the run's last event, or as `follow`."""
    async with aclosing(follow(stream, store, session_id, after=after, ping_s=ping_s, run_id=run_id)) as events:
        async for event in events:
            if event is None or event.run_id == run_id:
                yield event
            if event is not None and ends_run(event, run_id):
                return


async def follow_past(
    store: Store, session_id: str, run_id: str, *, after: int, ended: int
) -> AsyncGenerator[Event | None, None]:
    """Yield the stored events of a run above `after`, up to `ended`, which was its last one. Raises PositionTrimmed."""
    async with aclosing(replay(store, session_id, after, ended)) as events:
        async for event in events:
            if event.run_id == run_id:
                yield event


async def _stored(stream: EventStream, store: Store, session_id: str, after: int, through: int) -> AsyncGenerator[Event, None]:
    """The stored events of a span that has left memory, and those of it that could not be stored yet."""
    # taken before the read: what is committed in between is then in both, and is given once
    undurable = {event.id: event for event in stream.undurable if after < event.id <= through}
    async with aclosing(replay(store, session_id, after, through)) as events:
        async for event in events:
            for earlier in [each for each in undurable if each < event.id]:
                yield undurable.pop(earlier)
            undurable.pop(event.id, None)
            yield event
    for event in undurable.values():
        yield event
