"""A request for a session that another replica has: it is sent there, and the answer is passed on.

Waiting, streaming, cancelling and `on_busy` then work from any replica, by the code of the one that has the session. When that
one goes away meanwhile, the request is sent to whoever has the session next, or carried out here: a run has its id before it
is sent, so that it is one run however often that happens. `docs/adr/0020` says more.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import wraps
from http import HTTPStatus

import httpx
from starlette.responses import Response
from starlette.types import ASGIApp

from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import ClaimLost, SessionNotFound, StoreUnavailable
from app.routes.event_stream import EventStreams
from app.routes.lean import Endpoint, Incoming, Reply
from app.routes.problems import problem_type
from app.sessions.host import SessionHost
from app.sessions.ids import new_id

__all__ = ["FORWARDED_TO", "Forwarder", "Misdirected", "OwnerLost", "ReplicaGone"]

FORWARDED_TO = b"stepwell-forwarded-to"
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
_LOOK_AFTER_S = 2.0  # whether a replica that has not answered yet is still there

logger = logging.getLogger(__name__)


class ReplicaGone(Exception):
    """The replica that has a session does not answer, or has it no more. `was_sent` says whether it may have begun."""

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__("the replica that has the session has gone")
        self.was_sent = was_sent


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
        self._client: httpx.AsyncClient | None = None
        self.streams = EventStreams(host, self.open_stream)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def anywhere(self, endpoint: Endpoint) -> Endpoint:
        """Return `endpoint` for sessions wherever they are."""

        @wraps(endpoint)
        async def answered(incoming: Incoming) -> ASGIApp:
            forwarded_to = incoming.header(FORWARDED_TO)
            if forwarded_to is not None:
                return await self._answered_for_another(incoming, endpoint, forwarded_to)
            try:
                return await endpoint(incoming)
            except (ClaimedElsewhere, ClaimLost) as exc:
                return await self._elsewhere(incoming, endpoint, exc)

        return answered

    async def open_stream(self, elsewhere: ClaimedElsewhere, target: str, headers: Mapping[str, str]) -> httpx.Response | None:
        """Return an open stream of the replica that has the session, None if it does not answer. Raises StoreUnavailable."""
        own = {FORWARDED_TO.decode(): elsewhere.replica_id}
        # a replica that lives says something at least each `ping_s`
        timeout = httpx.Timeout(None, connect=2.0, read=2 * self._host.settings.ping_s + _PATIENCE_S)
        request = self._http.build_request("GET", elsewhere.url + target, headers={**headers, **own}, timeout=timeout)
        try:
            return await self._send(elsewhere, request)
        except ReplicaGone:
            return None

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
                    return await self._forwarded(incoming, exc)
            except ReplicaGone as gone:
                was_sent = was_sent or gone.was_sent
            if was_sent and scope["method"] == "PATCH":
                raise OwnerLost
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

    async def _forwarded(self, incoming: Incoming, elsewhere: ClaimedElsewhere) -> ASGIApp:
        """Return the answer of the replica that has the session. Raises ReplicaGone."""
        scope = incoming.scope
        query = scope["query_string"]
        target = scope["raw_path"].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
        headers = [
            *((name, value) for name, value in scope["headers"] if name not in _OF_THE_CONNECTION and name not in _OWN),
            (FORWARDED_TO, elsewhere.replica_id.encode()),
            (_ATTEMPT, str(incoming.attempt).encode()),
            *(() if incoming.run_id is None else ((_RUN_ID, incoming.run_id.encode()),)),
        ]
        body = await incoming.body()
        request = self._http.build_request(scope["method"], elsewhere.url + target, headers=headers, content=body or None)
        answer = await self._send(elsewhere, request)
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            run_id = incoming.run_id or scope["path_params"].get("run_id")
            location = answer.headers.get("location")
            session_id = elsewhere.session_id
            return self.streams.response(session_id, after=0, run_id=run_id, location=location, opened=answer)
        try:
            content = await answer.aread()
        except httpx.TransportError:
            raise ReplicaGone(was_sent=True) from None
        finally:
            await answer.aclose()
        if _is_farewell(answer, content):
            raise ReplicaGone(was_sent=True)
        reply = Reply(content, answer.status_code)
        reply.raw_headers = list(_passed_on(answer.headers.raw, content))
        return reply

    async def _send(self, elsewhere: ClaimedElsewhere, request: httpx.Request) -> httpx.Response:
        """Send `request`; give it up when the replica is taken for dead, for one that has lost power closes no connection."""
        sending = asyncio.ensure_future(self._http.send(request, stream=True))
        try:
            while True:
                await asyncio.wait([sending], timeout=_LOOK_AFTER_S)
                if sending.done():
                    break
                if not await self._host.store.replicas.lives(elsewhere.replica_id):
                    raise ReplicaGone(was_sent=True)
            answer = sending.result()
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise ReplicaGone(was_sent=False) from None
        except httpx.TransportError:
            raise ReplicaGone(was_sent=True) from None
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait([sending])
        if answer.status_code == HTTPStatus.MISDIRECTED_REQUEST:
            await answer.aclose()
            raise ReplicaGone(was_sent=False)
        return answer

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(None, connect=2.0, write=10.0),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client


def _is_farewell(answer: httpx.Response, content: bytes) -> bool:
    """Whether the replica says that it shuts down: then the next one that has the session answers."""
    return answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and problem_type("shutting-down").encode() in content


def _passed_on(headers: Iterable[tuple[bytes, bytes]], content: bytes) -> Iterable[tuple[bytes, bytes]]:
    yield from ((name.lower(), value) for name, value in headers if name.lower() not in _OF_THE_CONNECTION)
    yield b"content-length", b"%d" % len(content)
