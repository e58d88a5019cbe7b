"""Events as server-sent events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from app.routes.json_text import dump
from app.sessions.events import Event, describe

__all__ = ["event_stream"]

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_RETRY_MS = 1_000


def event_stream(
    session_id: str, events: AsyncGenerator[Event | None, None], *, position: int | None = None, location: str | None = None
) -> EventSourceResponse:
    """Return `events` as a response that goes on until they end.

    With `position` the client learns at once from where it could resume, before the first event.
    """
    headers = _HEADERS if location is None else {**_HEADERS, "Location": location}
    return EventSourceResponse(_frames(session_id, events, position), headers=headers)


async def _frames(
    session_id: str, events: AsyncGenerator[Event | None, None], position: int | None
) -> AsyncGenerator[bytes, None]:
    yield format_sse_event(comment="following", retry=_RETRY_MS, id=None if position is None else str(position))
    async with aclosing(events):
        async for event in events:
            if event is None:
                yield KEEPALIVE_COMMENT
            else:
                data = dump(describe(event, session_id)).decode()
                yield format_sse_event(event=event.type.value, data_str=data, id=str(event.id))
