"""Which sessions are in memory: they come when they are asked for, and leave when they have been idle for long or are too many.

Performs no I/O: the host loads, and hands over what it has loaded.
"""

from collections.abc import Callable, Iterator, Sequence

from app.sessions.live import LiveSession
from app.sessions.phases import Phase
from app.sessions.stream import EventStream

__all__ = ["Residents"]

_LOOKED_AT = 16  # busy sessions passed over, for each one that comes, in search of an idle one that can leave


class Residents:
    """The sessions of one process, least recently used first, and the event streams that outlive them while followed."""

    def __init__(
        self,
        *,
        limit: int,
        idle_ttl_s: float,
        event_capacity: int,
        on_leave: Callable[[str], None] = lambda _: None,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_leave` is told of each session that has left, or that nobody follows any more.

        `is_late` says whether another replica may have these sessions now.
        """
        self._is_late = is_late
        self._on_leave = on_leave
        self._limit = limit
        self._idle_ttl_s = idle_ttl_s
        self._event_capacity = event_capacity
        self._sessions: dict[str, LiveSession] = {}
        self._followed: dict[str, EventStream] = {}
        self._expected: dict[str, LiveSession] = {}  # they are being read
        self._has_ended = False

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._sessions.values()))

    @property
    def followers(self) -> int:
        """How many follow a session here."""
        return sum(stream.followers for stream in self._followed.values())

    def get(self, session_id: str) -> LiveSession | None:
        """Return the session if it is in memory; not one that has expired, or is stale and idle: of that the store knows."""
        live = self._sessions.get(session_id)
        return None if live is None or live.has_expired or (live.is_stale and not live.is_busy) else live

    def holds(self, live: LiveSession) -> bool:
        """Whether it is `live` that is in memory or expected there, and not the same session read later."""
        return self._sessions.get(live.id) is live or self._expected.get(live.id) is live

    def is_busy(self, session_id: str) -> bool:
        """Whether the session is in memory, and somebody has it."""
        live = self._sessions.get(session_id)
        return live is not None and live.is_busy

    def stream(self, session_id: str, last_event_id: int) -> EventStream:
        """Return the stream that the session's followers read, or a new one that begins after `last_event_id`."""
        return self.known_stream(session_id) or EventStream(last_event_id, self._event_capacity, self._is_late)

    def known_stream(self, session_id: str) -> EventStream | None:
        """Return the stream of a session that is in memory, or followed."""
        live = self._sessions.get(session_id) or self._expected.get(session_id)
        return self._followed.get(session_id) if live is None else live.stream

    def expect(self, live: LiveSession) -> None:
        """`live` has been read and will be in memory, when what was left of it in the store has been looked after."""
        self._expected[live.id] = live

    def expect_no_more(self, session_id: str) -> None:
        """The session has come into memory, or does not come."""
        self._expected.pop(session_id, None)

    def is_followed(self, session_id: str) -> bool:
        return session_id in self._followed

    def keep_followed(self, session_id: str, stream: EventStream) -> None:
        """`stream` has a follower: it is to outlive the session's stay in memory."""
        self._followed[session_id] = stream
        if self._has_ended:
            stream.close()

    def release_followed(self, session_id: str) -> None:
        """A follower has gone."""
        stream = self._followed.get(session_id)
        if stream is not None and not stream.followers:
            del self._followed[session_id]
            self._on_leave(session_id)

    def add(self, live: LiveSession, now_s: float) -> None:
        """Take `live` in, in place of what was read of it before; an idle session leaves if there are too many."""
        live.touched_s = now_s
        before = self._sessions.pop(live.id, None)
        if before is not None and before is not live:
            before.move(Phase.STALE)
        self._sessions[live.id] = live
        looked_at = 0
        while len(self._sessions) > self._limit and looked_at < _LOOKED_AT:
            oldest = next(iter(self._sessions.values()))
            if oldest.is_busy or oldest is live:
                self.touch(oldest, oldest.touched_s)
            else:
                self.remove(oldest)
            looked_at += 1

    def touch(self, live: LiveSession, now_s: float) -> None:
        """`live` has been used: it is the last one to leave now."""
        live.touched_s = now_s
        sessions = self._sessions
        if sessions.get(live.id) is live:
            del sessions[live.id]
            sessions[live.id] = live

    def remove(self, live: LiveSession) -> None:
        """Let `live` go, whatever it does: whoever still holds it may not begin anything on it."""
        live.move(Phase.STALE)
        if self._expected.get(live.id) is live:
            del self._expected[live.id]
        if self._sessions.get(live.id) is live:
            del self._sessions[live.id]
            self._on_leave(live.id)

    def expire(self, now_s: float) -> int:
        """Let every session go that has been idle for too long; return how many."""
        expired = []
        for live in self._sessions.values():
            if now_s - live.touched_s < self._idle_ttl_s:
                break
            if not live.is_busy:
                expired.append(live)
        for live in expired:
            self.remove(live)
        return len(expired)

    def close_session(self, session_id: str) -> None:
        """The session is no more: whoever follows it has seen the last of it."""
        for live in (self._sessions.pop(session_id, None), self._expected.pop(session_id, None)):
            if live is not None:
                live.move(Phase.STALE)
                live.stream.close()
        if (stream := self._followed.pop(session_id, None)) is not None:
            stream.close()

    def drop_all(self) -> Sequence[LiveSession]:
        """Nothing here is ours any more: whoever follows has to look for it elsewhere. Return what was in memory, or expected."""
        dropped = self._all()
        self.close_streams()
        for live in dropped:
            live.move(Phase.STALE)
        self._sessions.clear()
        self._expected.clear()
        self._followed.clear()
        return dropped

    def end(self) -> None:
        """Nothing will come any more, on any stream, nor on one that somebody comes to follow later."""
        self._has_ended = True
        self.close_streams()

    def close_streams(self) -> None:
        """Nothing will come any more, on any stream that there is."""
        for live in self._all():
            live.stream.close()
        for stream in self._followed.values():
            stream.close()

    def _all(self) -> list[LiveSession]:
        return [*self._sessions.values(), *self._expected.values()]
