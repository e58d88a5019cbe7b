"""The process around the application: its socket, its server, its signals.

Uvicorn's own handling of SIGTERM waits for open responses before the application hears of the end; an event stream never
ends by itself. `told_of_signals` tells the application before that, under this server and under `uvicorn app.main:app` alike.
"""

import asyncio
import contextlib
import math
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from app.executors.guarding import guard_callbacks
from app.routes.fast_lane import Api
from app.routes.http.connections import LimitedH11Protocol, LimitedHttpToolsProtocol, with_limits
from app.routes.http.limits import ConnectionLimits
from app.settings import HttpParser

__all__ = [
    "KEEP_ALIVE_S",
    "AddressUnavailable",
    "address_for_others",
    "address_of",
    "listen",
    "most_connections",
    "serve",
    "told_of_signals",
]

_PROTOCOLS: dict[HttpParser, type[LimitedHttpToolsProtocol] | type[LimitedH11Protocol]] = {
    "httptools": LimitedHttpToolsProtocol,
    "h11": LimitedH11Protocol,
}

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than clients keep idle connections, or their next request could meet the closing
_UNTIL_CLOSED_S = 0.25  # uvicorn looks every 0.1 s whether it should end; then it closes its sockets
_OTHER_DESCRIPTORS = 256  # for databases, worker processes, replicas, webhooks and what users' actions open
_LEAST_CONNECTIONS = 64
_MOST_CONNECTIONS = 100_000
_AFTER_GRACE_S = 2.0  # for the answers that the drain has let go


class AddressUnavailable(Exception):
    """The host and port cannot be listened on."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {reason}")
        self.host = host
        self.port = port


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises AddressUnavailable."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((address[0], port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        is_of_the_resolver = exc.errno is None or exc.errno < 0
        reason = exc.strerror or str(exc) if is_of_the_resolver else os.strerror(exc.errno or 0)
        raise AddressUnavailable(host, port, reason.lower()) from exc


def address_of(listener: socket.socket) -> str:
    """The URL under which a client on this machine reaches `listener`."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def address_for_others(listener: socket.socket) -> str:
    """The URL under which other machines reach `listener`, as far as this one knows."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: Api,
    listener: socket.socket,
    *,
    grace_s: float,
    ready: Callable[[], None],
    limits: ConnectionLimits | None = None,
    parser: HttpParser = "httptools",
) -> None:
    """Serve `app` until SIGINT or SIGTERM, and return when it is drained. Calls `ready` once, after the application's start.

    A second SIGINT ends the process at once. What the application raises at its start is raised here.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",  # entered below, so that its errors are ours to tell
        loop="auto",
        http=with_limits(_PROTOCOLS[parser], limits or ConnectionLimits(), app.connections),
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(_UNTIL_CLOSED_S + grace_s + _AFTER_GRACE_S),
    )
    server = _Server(config)

    def handle(number: int, frame: FrameType | None) -> None:
        if server.should_exit and number == signal.SIGINT:  # somebody does not want to wait for the drain
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        server.handle_exit(number, frame)

    new_loop = config.get_loop_factory() or asyncio.new_event_loop
    with _handlers(handle), asyncio.Runner(loop_factory=lambda: guard_callbacks(new_loop())) as runner:
        runner.run(_serve(app, server, listener, ready))


def most_connections() -> int:
    """Return how many connections this process may have open, by its limit of file descriptors, and still do its work."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(_LEAST_CONNECTIONS, min(_MOST_CONNECTIONS, limit - _OTHER_DESCRIPTORS))


async def _serve(app: Api, server: "_Server", listener: socket.socket, ready: Callable[[], None]) -> None:
    async with app.router.lifespan_context(app):
        ready()
        await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `serve` has the handlers, from before the application's start until after its end


@contextlib.contextmanager
def told_of_signals(callback: Callable[[], None], at_once: Callable[[int], None] = lambda _: None) -> Iterator[None]:
    """While this lasts, SIGINT and SIGTERM also call `callback`, in the running loop. Does nothing outside the main thread.

    `at_once` is called in the signal handler, with the number of the signal, also when the loop is blocked.

    It is called when the server has closed its sockets. Who comes before that is served; who comes after it finds nobody there,
    and a proxy can turn to the next replica, which it could not do after an answer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def tell(number: int, frame: FrameType | None) -> None:
        at_once(number)
        loop.call_soon_threadsafe(loop.call_later, _UNTIL_CLOSED_S, callback)
        before = previous[number]
        if callable(before):
            before(number, frame)

    with _handlers(tell):
        yield


@contextlib.contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
