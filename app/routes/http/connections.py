"""Uvicorn's two HTTP/1.1 protocols, with limits, and without what the parsers do on their own with an upgrade or a trailer.

Both answer what they refuse with a problem document and close the connection. What a request says once it is complete is
checked in `app.routes.http.checks`.
"""

import asyncio
import sys
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import h11
import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.routes.http.limits import ConnectionLimits, ConnectionStats, ConnectionSweeper
from app.routes.problems import problem

__all__ = ["LimitedH11Protocol", "LimitedHttpToolsProtocol", "with_limits"]

_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}
_UPGRADE = frozenset({b"upgrade", b"http2-settings"})
_SWEEPERS: "WeakKeyDictionary[ServerState, ConnectionSweeper]" = WeakKeyDictionary()


class Refusal(Exception):
    """A request that the protocol itself refuses. `reason` counts it."""

    def __init__(self, status: int, slug: str, title: str, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.reason = reason


_MALFORMED = Refusal(
    400,
    "request-malformed",
    "The request is not HTTP",
    "the request line or a header cannot be understood; in a path, everything but plain letters is percent-encoded",
    "malformed",
)
_INCOMPLETE = Refusal(
    400,
    "request-incomplete",
    "The request is incomplete",
    "the client stopped sending before the request was complete",
    "incomplete",
)
_NO_TUNNEL = Refusal(501, "method-unsupported", "The method is not supported", "CONNECT is not supported", "malformed")
_TOO_MANY = Refusal(
    503, "too-many-connections", "Too many connections", "the service has as many connections as it takes", "connections"
)


class _Limited(asyncio.Protocol):
    """What the two protocols share: when a request began, how much of it has come, and how it is refused."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    stats: ClassVar[ConnectionStats] = ConnectionStats()

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    connections: set[Any]
    server_state: ServerState
    cycle: Any
    flow: FlowControl

    _began_s: float | None = None  # when the first byte of the request that is being received came
    _has_sent = False  # anything at all
    _has_head = False  # the head of that request is complete
    _received_bytes = 0  # of its body
    _discarded_bytes = 0
    _is_refused = False
    _is_surplus = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's signature
        super().connection_made(transport)
        self._began_s = self.loop.time()
        self.stats.open = len(self.connections)
        limit = self.limits.connections
        self._is_surplus = limit is not None and len(self.connections) > limit
        sweeper = _SWEEPERS.get(self.server_state)
        if sweeper is None:
            sweeper = _SWEEPERS[self.server_state] = ConnectionSweeper(self.loop, self.connections)
        sweeper.start()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.stats.open = len(self.connections)

    def eof_received(self) -> None:
        """Refuse a request of which the client does not send the rest."""
        if self._began_s is not None and self._has_sent:
            self._refuse(_INCOMPLETE)

    def close_if_late(self, now_s: float) -> None:
        """Close the connection if it has begun a request and takes too long to complete it."""
        if self._began_s is None or self._is_refused or self.transport.is_closing():
            return
        if self.flow.read_paused:  # the service does not read: the client cannot be late
            self._began_s = now_s
            return
        allowed_s = self.limits.head_timeout_s
        if self._has_head:
            allowed_s += self._received_bytes / self.limits.body_bytes_per_s
        if now_s - self._began_s <= allowed_s:
            return
        part = "the body" if self._has_head else "the request line and the headers"
        detail = f"{part} did not come within the time limit"
        self._refuse(Refusal(408, "request-timeout", "The request took too long", detail, "timeout"))

    def _accepts_data(self) -> bool:
        """Return whether what has come is to be read. Refuses a connection beyond the limit, now that its client listens."""
        if self._is_refused:
            return False
        self._has_sent = True
        if self._is_surplus:
            self._refuse(_TOO_MANY)
        return not self._is_surplus

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with a problem if no answer has begun, and close the connection."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self.stats.refuse(refusal.reason, self.loop.time())
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        if is_answering and not cycle.more_body:
            cycle.keep_alive = False  # the answer to the request before comes first; then the connection is closed
            return
        if is_answering:
            cycle.disconnected = True
            cycle.message_event.set()
        if self._has_sent and not (is_answering and cycle.response_started):
            self.transport.write(_answer(refusal))
        self.transport.close()

    def _discard(self, size: int) -> None:
        """Count what comes of a body whose request was answered; beyond the limit the connection is closed."""
        self._discarded_bytes += size
        if self._discarded_bytes > self.limits.discard_bytes:
            self.transport.close()


class LimitedHttpToolsProtocol(_Limited, HttpToolsProtocol):
    """HTTP/1.1 by httptools: what `stepwell serve` uses."""

    _head_bytes = 0  # that have come of a head that is not complete
    _parsed_bytes = 0  # of it that the parser has told of
    _fields = 0
    _idle_bytes = 0  # that have come since the last byte of the body
    _begins_here = False

    def data_received(self, data: bytes) -> None:
        if not self._accepts_data():
            return
        self._unset_keepalive_if_required()
        if self._began_s is None:
            self._began_s = self.loop.time()
        elif self._has_head and self.cycle is not None and self.cycle.response_complete:
            self._discard(len(data))
        self._begins_here = False
        had_head = self._has_head
        self._idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._ignore_upgrade(data[exc.args[0] :])
            return
        except httptools.HttpParserCallbackError as exc:
            cause = exc.__context__
            self._refuse(cause if isinstance(cause, Refusal) else _MALFORMED)
            return
        except httptools.HttpParserError:
            self._refuse(_MALFORMED)
            return
        if self._began_s is not None:
            self._look_at_size(len(data), had_head)

    def _look_at_size(self, size: int, had_head: bool) -> None:
        limit = self.limits.head_bytes
        if not self._has_head:
            self._head_bytes += 0 if self._begins_here else size
            if self._head_bytes + self._parsed_bytes > limit:
                self._refuse(_too_long(limit, is_url=self._fields == 0))
        elif had_head and self._idle_bytes > limit:
            self._refuse(_too_long(limit, is_url=False))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the request again without its wish for another protocol, which a server may ignore (RFC 9110, 7.8)."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(_NO_TUNNEL)
            return
        version = self.parser.get_http_version().encode()
        kept = [b"%b: %b\r\n" % field for field in self.headers if field[0] not in _UPGRADE]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, b"".join(kept), rest))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._began_s is None:  # the end of the request before came with the beginning of this one
            self._began_s = self.loop.time()
        self._begins_here = True
        self._has_head = False
        self._head_bytes = self._parsed_bytes = self._fields = self._received_bytes = self._idle_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url), is_url=True)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:  # a trailer: it is no header, and nothing here needs one
            return
        self._fields += 1
        self._count(len(name) + len(value) + 4, is_url=False)
        super().on_header(name, value.strip(b" \t"))

    def _count(self, size: int, *, is_url: bool) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > self.limits.head_bytes:
            raise _too_long(self.limits.head_bytes, is_url=is_url)
        if self._fields > self.limits.head_fields:
            raise _too_many_fields(self.limits.head_fields)

    def on_headers_complete(self) -> None:
        self._has_head = True
        self._idle_bytes = 0
        if self.parser.should_upgrade():
            return  # `_ignore_upgrade` comes next
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise _unknown_version(version)
        self._discarded_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._received_bytes += len(body)
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._began_s = None
        super().on_message_complete()


class LimitedH11Protocol(_Limited, H11Protocol):
    """HTTP/1.1 by h11, in Python alone. It bounds heads and trailers itself."""

    def data_received(self, data: bytes) -> None:
        if not self._accepts_data():
            return
        if self._began_s is None:
            self._began_s = self.loop.time()
            self._received_bytes = self._discarded_bytes = 0
        elif self._has_head:
            self._received_bytes += len(data)
            if self.cycle is not None and self.cycle.response_complete:
                self._discard(len(data))
        super().data_received(data)

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:
            self.transport.close()
            return
        state = self.conn.their_state
        self._has_head = state is h11.SEND_BODY
        is_between = state is h11.IDLE and not self.conn.trailing_data[0]
        if is_between or state not in (h11.IDLE, h11.SEND_BODY):
            self._began_s = None

    def _should_upgrade(self) -> bool:
        return False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the parser's error says more
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400)
        match status:
            case 431:
                self._refuse(_too_long(self.limits.head_bytes, is_url=False))
            case 501:
                self._refuse(_NO_CODING)
            case _:
                self._refuse(_MALFORMED)


_NO_CODING = Refusal(
    501, "transfer-coding-unsupported", "The transfer coding is not supported", "Transfer-Encoding must be chunked", "malformed"
)


def with_limits(
    protocol: type[LimitedHttpToolsProtocol] | type[LimitedH11Protocol], limits: ConnectionLimits, stats: ConnectionStats
) -> type[asyncio.Protocol]:
    """Return `protocol` with limits of its own, counting into `stats`."""
    stats.limit = limits.connections
    return type(protocol.__name__, (protocol,), {"limits": limits, "stats": stats})


def _answer(refusal: Refusal) -> bytes:
    headers = {"Connection": "close"}
    if refusal.status == 503:
        headers["Retry-After"] = "1"
    answer = problem(refusal.status, refusal.slug, refusal.title, refusal.detail, headers=headers)
    head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (refusal.status, _PHRASES[refusal.status], head, bytes(answer.body))


def _too_long(limit: int, *, is_url: bool) -> Refusal:
    if is_url:
        return Refusal(414, "url-too-long", "The URL is too long", f"the request line is longer than {limit} bytes", "head-size")
    detail = f"the headers are longer than {limit} bytes"
    return Refusal(431, "headers-too-large", "The headers are too large", detail, "head-size")


def _too_many_fields(limit: int) -> Refusal:
    return Refusal(431, "headers-too-large", "The headers are too large", f"there are more than {limit} headers", "head-size")


def _unknown_version(version: str) -> Refusal:
    detail = f"HTTP/{version[:8]} is not supported; the service speaks HTTP/1.1"
    return Refusal(505, "http-version-unsupported", "The HTTP version is not supported", detail, "malformed")
