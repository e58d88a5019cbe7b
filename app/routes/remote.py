"""Talking to another replica, which may die in the middle of it, or go silent without closing anything."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import httpcore
import httpx

from app.persistence.replicas import ClaimedElsewhere, Replicas, ReplicaState
from app.system.names import Names

__all__ = ["FORWARDED_TO", "Answer", "OwnerLate", "Remote", "ReplicaGone"]

T = TypeVar("T")

FORWARDED_TO = b"stepwell-forwarded-to"  # the id of the replica that a request is for
_LOOK_AFTER_S = 2.0  # of silence: whether the replica is still there
_CONNECT_TIMEOUT_S = 2.0
_WRITE_TIMEOUT_S = 10.0


class ReplicaGone(Exception):
    """The replica that has a session does not answer, or has it no more. `was_sent` says whether it may have begun."""

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__("the replica that has the session has gone")
        self.was_sent = was_sent


class OwnerLate(Exception):
    """The replica that has a session lives, and cannot answer: something holds its event loop."""

    retry_after_s = 5.0

    def __init__(self, *, was_sent: bool) -> None:
        doubt = "; whether the request will be carried out is not known" if was_sent else ""
        super().__init__(f"the replica that has the session cannot answer now, its event loop is held up{doubt}")


class Answer:
    """What a replica answers: the head has come, the rest comes as it is read. Must be closed."""

    def __init__(self, response: httpx.Response, replica_id: str, remote: "Remote") -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response
        self._replica_id = replica_id
        self._remote = remote

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of events."""
        return bool(self.headers.get("content-type", "").startswith("text/event-stream"))

    async def content(self) -> bytes:
        """Return the whole body. Raises ReplicaGone."""
        return await self._remote.awaited(self._response.aread(), self._replica_id)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes. Raises ReplicaGone."""
        chunks = self._response.aiter_bytes()
        while True:
            try:
                yield await self._remote.awaited(_next(chunks), self._replica_id)
            except StopAsyncIteration:
                return

    async def close(self) -> None:
        await self._response.aclose()


class Remote:
    """The connections to the other replicas, made when they are needed."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._names = Names("replicas")
        self._client: httpx.AsyncClient | None = None
        self._talks: set[asyncio.Future[Any]] = set()
        self._is_over = False

    def hang_up(self) -> None:
        """Break off every talk, and begin none any more: each raises ReplicaGone."""
        self._is_over = True
        for talking in self._talks:
            talking.cancel()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
        self._names.close()

    async def send(
        self,
        elsewhere: ClaimedElsewhere,
        method: str,
        target: str,
        headers: "Mapping[str, str] | list[tuple[bytes, bytes]]",
        content: bytes | None = None,
    ) -> Answer:
        """Send a request to the replica that has a session. Raises ReplicaGone, OwnerLate, StoreUnavailable."""
        if elsewhere.is_late:
            raise OwnerLate(was_sent=False)
        if self._client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self._client = httpx.AsyncClient(
                transport=_Transport(self._names, limits=limits, trust_env=False),
                timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S, write=_WRITE_TIMEOUT_S),
                follow_redirects=False,
                trust_env=False,
            )
        request = self._client.build_request(method, elsewhere.url + target, headers=headers, content=content)
        request.headers[FORWARDED_TO.decode()] = elsewhere.replica_id
        response = await self.awaited(_begun(self._client, request), elsewhere.replica_id, is_patient=False)
        if response.status_code == HTTPStatus.MISDIRECTED_REQUEST:
            await response.aclose()
            raise ReplicaGone(was_sent=False)
        return Answer(response, elsewhere.replica_id, self)

    async def awaited(self, talk: Coroutine[Any, Any, T], replica_id: str, *, is_patient: bool = True) -> T:
        """Return what `talk` gives; give it up when the replica is taken for dead, or late if this one is not `is_patient`.

        Raises ReplicaGone, OwnerLate, StoreUnavailable.
        """
        if self._is_over:
            talk.close()
            raise ReplicaGone(was_sent=False)
        talking = asyncio.ensure_future(talk)
        self._talks.add(talking)
        try:
            while True:
                await asyncio.wait([talking], timeout=_LOOK_AFTER_S)
                if talking.cancelled():  # by `hang_up`
                    raise ReplicaGone(was_sent=True)
                if talking.done():
                    return talking.result()
                state = await self._replicas.state_of(replica_id)
                if state is ReplicaState.DEAD:  # one without power does not even close its connections
                    raise ReplicaGone(was_sent=True)
                if state is ReplicaState.LATE and not is_patient:
                    raise OwnerLate(was_sent=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise ReplicaGone(was_sent=False) from None
        except httpx.TransportError:
            raise ReplicaGone(was_sent=True) from None
        finally:
            self._talks.discard(talking)
            if not talking.done():
                talking.cancel()
                await asyncio.wait([talking])
            if not talking.cancelled():
                talking.exception()  # seen: who waited may be cancelled in the same moment in which the talk ends


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self, names: Names, **options: Any) -> None:
        super().__init__(**options)
        pool: Any = self._pool
        pool._network_backend = _Network(names, pool._network_backend)  # httpx passes none on to httpcore


class _Network(httpcore.AsyncNetworkBackend):
    """Connects as httpcore does by itself, except for the look-ups of names."""

    def __init__(self, names: Names, network: httpcore.AsyncNetworkBackend) -> None:
        self._names = names
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in await self._addresses(host, port, timeout):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failed = exc
        raise failed or httpcore.ConnectError(f"the host {host!r} has no address")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _addresses(self, host: str, port: int, limit_s: float | None) -> Sequence[str]:
        try:
            async with asyncio.timeout(limit_s):
                return await self._names.addresses(host, port)
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout(f"the name {host!r} was not found in time") from exc
        except OSError as exc:
            raise httpcore.ConnectError(f"the name {host!r} is not known") from exc


async def _begun(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        return await client.send(request, stream=True)
    except AttributeError as exc:  # of anyio 4, which asks a connection that broke while it was made for the name of its peer
        raise httpx.ConnectError("the connection broke while it was made", request=request) from exc


async def _next(chunks: Any) -> bytes:
    chunk: bytes = await anext(chunks)
    return chunk
