"""A request for a session that another replica has: it is sent there, and the answer is passed on.

Waiting, streaming, cancelling and `on_busy` then work from any replica, by the code of the one that has the session. When that
one goes away meanwhile, the request is sent to whoever has the session next, or carried out here: a run has its id before it
is sent, so that it is one run however often that happens. `docs/adr/0020` says more.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp

from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import ClaimLost, SessionNotFound, StoreUnavailable
from app.routes.event_stream import EventStreams
from app.routes.lean import Endpoint, Incoming, Reply
from app.routes.problems import problem_type
from app.routes.remote import FORWARDED_TO, Answer, OwnerLate, Remote, ReplicaGone
from app.sessions.errors import ShuttingDown
from app.sessions.host import SessionHost
from app.sessions.ids import new_id

__all__ = ["Forwarder", "Misdirected", "OwnerLost"]

_RUN_ID = b"stepwell-run-id"
_ATTEMPT = b"stepwell-attempt"
_OWN = frozenset({FORWARDED_TO, _RUN_ID, _ATTEMPT})
# what belongs to one connection, and what the other side works out for itself
_OF_THE_CONNECTION = frozenset(
    {b"connection", b"content-length", b"host", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"}
    | {b"upgrade", b"date", b"server", b"accept-encoding", b"content-encoding"}
)
_STARTS_A_RUN = ("/steps", "/runs")
_PATIENCE_S = 20.0  # until a dead replica is known to be dead, and its sessions can be had
_PAUSE_S = 0.1

logger = logging.getLogger(__name__)


class Misdirected(Exception):
    """Another replica has sent a request here that is for a third one: it has to look again."""

    def __init__(self) -> None:
        super().__init__("this replica does not have the session")


class OwnerLost(Exception):
    """The replica that had the session died over the request."""

    def __init__(self) -> None:
        super().__init__("the replica that had the session died over this request; whether it was carried out is not known")


class Forwarder:
    """Sends requests to other replicas, and owns the connections to them."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host
        self._remote = Remote(host.store.replicas)
        self.streams = EventStreams(host, self.open_stream)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """While this lasts: when this replica has drained, nobody waits any more for what another one may say."""
        leaving = asyncio.create_task(self._take_leave())
        try:
            yield
        finally:
            leaving.cancel()
            await self._remote.close()

    async def _take_leave(self) -> None:
        await self._host.has_drained.wait()
        self._remote.hang_up()

    def anywhere(self, endpoint: Endpoint) -> Endpoint:
        """Return `endpoint` for sessions wherever they are."""

        @wraps(endpoint)
        async def answered(incoming: Incoming) -> ASGIApp:
            forwarded_to = incoming.header(FORWARDED_TO)
            if forwarded_to is not None:
                return await self._answered_for_another(incoming, endpoint, forwarded_to)
            return await self._answered(incoming, endpoint)

        return answered

    async def open_stream(self, elsewhere: ClaimedElsewhere, target: str, headers: Mapping[str, str]) -> Answer | None:
        """Return an open stream of the replica that has the session, None if it does not answer."""
        try:
            return await self._remote.send(elsewhere, "GET", target, headers)
        except (ReplicaGone, OwnerLate, StoreUnavailable):
            return None

    async def _answered(self, incoming: Incoming, endpoint: Endpoint) -> ASGIApp:
        try:
            return await endpoint(incoming)
        except (ClaimedElsewhere, ClaimLost) as exc:
            return await self._elsewhere(incoming, endpoint, exc)

    async def _answered_for_another(self, incoming: Incoming, endpoint: Endpoint, forwarded_to: str) -> ASGIApp:
        """Answer a request that another replica has sent here. It is not sent on: two replicas must not play ping-pong."""
        if forwarded_to != self._host.store.replicas.id:
            raise Misdirected
        incoming.run_id = incoming.header(_RUN_ID)
        incoming.attempt = 1 if incoming.header(_ATTEMPT) in (None, "1") else 2
        try:
            return await endpoint(incoming)
        except (ClaimedElsewhere, ClaimLost):
            raise Misdirected from None

    async def _elsewhere(self, incoming: Incoming, endpoint: Endpoint, exc: ClaimedElsewhere | ClaimLost) -> ASGIApp:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _PATIENCE_S
        scope = incoming.scope
        if incoming.run_id is None and scope["method"] == "POST" and scope["path"].endswith(_STARTS_A_RUN):
            incoming.run_id = new_id()
        was_sent = False
        while True:
            try:
                if isinstance(exc, ClaimedElsewhere):
                    return await self._forwarded(incoming, endpoint, exc)
            except ReplicaGone as gone:
                was_sent = was_sent or gone.was_sent
            if was_sent and scope["method"] == "PATCH":
                raise OwnerLost
            if self._host.has_drained.is_set():
                raise ShuttingDown
            if loop.time() > until_s:
                raise StoreUnavailable("the replica that has the session does not answer") from None
            await asyncio.sleep(_PAUSE_S)
            incoming.attempt += 1
            try:
                return await endpoint(incoming)
            except (ClaimedElsewhere, ClaimLost) as again:
                exc = again
            except SessionNotFound:
                if was_sent and scope["method"] == "DELETE":
                    return Response(status_code=HTTPStatus.NO_CONTENT)
                raise

    async def _forwarded(self, incoming: Incoming, endpoint: Endpoint, elsewhere: ClaimedElsewhere) -> ASGIApp:
        """Return the answer of the replica that has the session. Raises ReplicaGone."""
        scope = incoming.scope
        query = scope["query_string"]
        target = scope["raw_path"].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
        headers = [
            *((name, value) for name, value in scope["headers"] if name not in _OF_THE_CONNECTION and name not in _OWN),
            (_ATTEMPT, str(incoming.attempt).encode()),
            *(() if incoming.run_id is None else ((_RUN_ID, incoming.run_id.encode()),)),
        ]
        body = await incoming.body()
        answer = await self._remote.send(elsewhere, scope["method"], target, headers, body or None)
        if answer.is_stream:
            location = answer.headers.get("location")
            # with a key it may be an earlier run than the one that we have asked for
            run_id = scope["path_params"].get("run_id") if location is None else location.rpartition("/")[2]

            async def again() -> ASGIApp:
                incoming.attempt += 1
                return await self._answered(incoming, endpoint)

            return self.streams.response(
                elsewhere.session_id,
                after=0,
                run_id=run_id,
                location=location,
                opened=answer,
                again=again if scope["method"] == "POST" else None,
            )
        try:
            content = await answer.content()
        finally:
            await answer.close()
        if _is_farewell(answer, content):
            raise ReplicaGone(was_sent=True)
        reply = Reply(content, answer.status)
        reply.raw_headers = list(_passed_on(answer.headers.raw, content))
        return reply


def _is_farewell(answer: Answer, content: bytes) -> bool:
    """Whether the replica says that it shuts down: then the next one that has the session answers."""
    return answer.status == HTTPStatus.SERVICE_UNAVAILABLE and problem_type("shutting-down").encode() in content


def _passed_on(headers: Iterable[tuple[bytes, bytes]], content: bytes) -> Iterable[tuple[bytes, bytes]]:
    yield from ((name.lower(), value) for name, value in headers if name.lower() not in _OF_THE_CONNECTION)
    yield b"content-length", b"%d" % len(content)
