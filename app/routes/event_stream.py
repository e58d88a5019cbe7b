"""Events as server-sent events, wherever the session is.

Where another replica has it, that one's stream is passed on, event by event. When it breaks off, or the session is lost to
another replica, the stream goes on from there after the last event that was passed on: no gap, and nothing twice. A run that
has vanished with its replica, before anything of it was stored, is started again.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, TypeAlias

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import ASGIApp

from app.persistence.records import SessionRecord
from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import RunNotFound, SessionNotFound, StoreError, StoreUnavailable
from app.routes.json_text import dump_anywhere
from app.routes.remote import Answer, ReplicaGone
from app.sessions.errors import PositionTrimmed, SessionsError, ShuttingDown
from app.sessions.events import describe, ends_run
from app.sessions.host import SessionHost

__all__ = ["EventStreams"]

logger = logging.getLogger(__name__)

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_RETRY_MS = 1_000
_PAUSE_S = 0.1
_SAME_S = 1e-3
_GREETING = b": following"
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
_LAST = re.compile(rb"^event: run\.(?:finished|failed|cancelled)$", re.MULTILINE)


Again: TypeAlias = Callable[[], Awaitable[ASGIApp]]


class Opener(Protocol):
    """Opens a stream at the replica that has a session; None if that does not answer now."""

    async def __call__(self, elsewhere: ClaimedElsewhere, target: str, headers: Mapping[str, str]) -> Answer | None: ...


@dataclass(slots=True)
class _Follower:
    """How far one follower has got. It is over when the last event of its run was given, lost when nobody knows its run.

    It follows the session that was created at `created_at_s`, and no later one of the same id.
    """

    session_id: str
    run_id: str | None
    position: int
    created_at_s: float | None = None
    is_over: bool = False
    is_lost: bool = False


class EventStreams:
    """Makes the streams of one host; `remote` reaches the others."""

    def __init__(self, host: SessionHost, remote: Opener) -> None:
        self._host = host
        self._remote = remote

    def response(
        self,
        session_id: str,
        *,
        after: int,
        run_id: str | None = None,
        tells_position: bool = False,
        location: str | None = None,
        opened: Answer | None = None,
        again: Again | None = None,
    ) -> EventSourceResponse:
        """Return the events above `after` of a session, or of one run, as a response that goes on until they end.

        With `tells_position` the client learns at once from where it could resume. `opened` is where the stream begins if
        another replica has sent its beginning already; `again` asks for the run once more.
        """
        headers = _HEADERS if location is None else {**_HEADERS, "Location": location}
        follower = _Follower(session_id, run_id, after)
        return EventSourceResponse(self._frames(follower, tells_position, opened, again), headers=headers)

    async def _frames(
        self,
        follower: _Follower,
        tells_position: bool,
        opened: Answer | None,
        again: Again | None,
    ) -> AsyncGenerator[bytes, None]:
        position = str(follower.position) if tells_position else None
        yield format_sse_event(comment="following", retry=_RETRY_MS, id=position)
        is_known = opened is None
        while True:
            frames = self._here(follower, is_known) if opened is None else self._passed_on(follower, opened)
            is_known = False
            elsewhere = None
            try:
                async with aclosing(frames):
                    async for frame in frames:
                        yield frame
            except ClaimedElsewhere as exc:
                elsewhere = exc
            except (SessionNotFound, PositionTrimmed, ShuttingDown):  # who comes back is told which
                return
            except RunNotFound:
                follower.is_lost = True
            except StoreUnavailable:
                pass  # the database is away: when it is back, nothing will have been missed
            if follower.is_over or self._host.is_draining:
                return
            opened = None if elsewhere is None else await self._opened(follower, elsewhere)
            if follower.is_lost:
                if again is not None:
                    async for frame in self._started_again(again):
                        yield frame
                return
            if opened is None and not follower.is_over:
                yield KEEPALIVE_COMMENT
                await asyncio.sleep(_PAUSE_S)

    async def _started_again(self, again: Again) -> AsyncGenerator[bytes, None]:
        """Yield the stream of a run that is asked for once more; nothing if it is refused now."""
        while not self._host.is_draining:
            try:
                restarted = await again()
            except StoreUnavailable:
                yield KEEPALIVE_COMMENT
                await asyncio.sleep(_PAUSE_S)
            except (SessionsError, StoreError) as exc:
                logger.warning("a run that had vanished is refused when it is asked for again", extra={"error": str(exc)})
                return
            else:
                if isinstance(restarted, EventSourceResponse):
                    async for part in restarted.body_iterator:
                        yield part if isinstance(part, bytes) else str(part).encode()
                return

    async def _here(self, follower: _Follower, is_known: bool) -> AsyncGenerator[bytes, None]:
        """Follow in this process. Raises ClaimedElsewhere, SessionNotFound, RunNotFound, PositionTrimmed, StoreUnavailable."""
        session_id, run_id = follower.session_id, follower.run_id
        if not self._is_the_same(follower, await self._host.own(session_id)):
            follower.is_over = True
            return
        ended = None if run_id is None or is_known else await self._looked_for(session_id, run_id)
        if ended is not None and ended <= follower.position:
            follower.is_over = True
            return
        async with aclosing(self._host.follow(session_id, after=follower.position, run_id=run_id, ended=ended)) as events:
            async for event in events:
                if event is None:
                    if run_id is not None and not self._host.desk.has(run_id):
                        return  # nobody would tell of its end, if it has ended elsewhere: it is looked for
                    yield KEEPALIVE_COMMENT
                else:
                    data = (await dump_anywhere(describe(event, session_id))).decode()
                    yield format_sse_event(event=event.type.value, data_str=data, id=str(event.id))
                    follower.position = event.id
                    follower.is_over = run_id is not None and ends_run(event, run_id)

    def _is_the_same(self, follower: _Follower, session: SessionRecord) -> bool:
        """Whether the session is the one that the follower began with. A run has an id of its own, so that it is found or not."""
        if follower.run_id is not None:
            return True
        if follower.created_at_s is None:
            follower.created_at_s = session.created_at_s
        return abs(session.created_at_s - follower.created_at_s) < _SAME_S  # as the store rounds it

    async def _looked_for(self, session_id: str, run_id: str) -> int | None:
        """Return the id of the event with which the run has ended. Raises RunNotFound, ClaimedElsewhere, StoreUnavailable."""
        run = await self._host.history.get_run(run_id)
        await self._host.own(session_id)  # or it may have gone meanwhile, and nobody would close what is followed then
        return run.finished_event_id

    async def _opened(self, follower: _Follower, elsewhere: ClaimedElsewhere) -> Answer | None:
        if follower.run_id is None:
            try:
                session = await self._host.store.get_session(follower.session_id)
            except StoreUnavailable:
                return None
            except SessionNotFound:
                follower.is_over = True
                return None
            if not self._is_the_same(follower, session):
                follower.is_over = True
                return None
        of = f"sessions/{follower.session_id}" if follower.run_id is None else f"runs/{follower.run_id}"
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(follower.position)}
        answer = await self._remote(elsewhere, f"/v1/{of}/events", headers)
        if answer is None or answer.status == HTTPStatus.OK:
            return answer
        follower.is_over = answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.GONE)
        follower.is_lost = answer.status == HTTPStatus.NOT_FOUND and follower.run_id is not None
        await answer.close()
        return None

    async def _passed_on(self, follower: _Follower, opened: Answer) -> AsyncGenerator[bytes, None]:
        """Pass on what another replica sends, in whole events, until it ends or breaks off."""
        rest = b""
        try:
            async for chunk in opened.chunks():
                *frames, rest = (rest + chunk).split(b"\n\n")
                for frame in frames:
                    found = _ID.search(frame)
                    if frame.startswith(_GREETING) or (found and int(found[1]) <= follower.position):
                        continue
                    yield frame + b"\n\n"
                    if found:
                        follower.position = int(found[1])
                        follower.is_over = follower.run_id is not None and _LAST.search(frame) is not None
        except ReplicaGone:
            return
        finally:
            await opened.close()
