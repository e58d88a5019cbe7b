"""HTTP/1.1 over one kept-alive socket, with as little Python as it takes: the client must not be what is measured.

Understands answers with a Content-Length, which is all that the measured routes send.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson

__all__ = ["Answer", "Wire", "connect", "request_bytes"]

Answer = tuple[int, bytes]  # status and body


def request_bytes(method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole request, ready to be sent any number of times. `body` goes as JSON, None as no body."""
    content = b"" if body is None else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Wire(asyncio.Protocol):
    """One connection. `on_answer` is called with each whole answer, and may send the next request at once."""

    def __init__(self, on_answer: Callable[[Answer], None], on_lost: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def send(self, request: bytes) -> None:
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        size = _content_length(head)
        if len(rest) < size:
            return
        self._received = rest[size:]  # empty, as the next request is sent only now
        self._on_answer((int(head[9:12]), rest[:size]))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def connect(host: str, port: int, on_answer: Callable[[Answer], None], on_lost: Callable[[], None]) -> Wire:
    """Return an open connection."""
    _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(on_answer, on_lost), host, port)
    return wire
