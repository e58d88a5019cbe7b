"""A real uvicorn on a socket, in a thread of this process, for tests that speak HTTP to sessions they can also look into."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from app.engine.machine import Machine
from app.persistence.memory import MemoryStore
from app.persistence.store import Store
from app.routes.api import build_api
from app.sessions.host import SessionHost
from app.sessions.host_settings import HostSettings

__all__ = ["RunningServer", "running_server"]

T = TypeVar("T")

START_LIMIT_S = 60.0


class RunningServer:
    """A server that answers at `url`; `host` lives on the server's own loop: reach it through `call`."""

    def __init__(self, host: SessionHost, server: uvicorn.Server, thread: threading.Thread, url: str) -> None:
        self.host = host
        self.url = url
        self._server = server
        self._thread = thread
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = threading.Event()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, verify=False)  # there is no TLS here, and certificates load slowly

    def async_client(self, connections: int = 100) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx.AsyncClient(base_url=self.url, timeout=60, limits=limits, verify=False)

    def call(self, function: Callable[[SessionHost], Awaitable[T]]) -> T:
        """Return what `function` gives for the host, carried out on the server's loop."""
        assert self.loop is not None

        async def called() -> T:
            return await function(self.host)

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(START_LIMIT_S)

    def begin_drain(self) -> None:
        """Do what a signal does: tell the application, and tell the server."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.host.begin_drain)
        self._server.should_exit = True

    def stop(self) -> None:
        """Drain, and return when the server is gone."""
        self.begin_drain()
        self._thread.join(START_LIMIT_S)
        assert not self._thread.is_alive(), "the server did not come to its end"


@contextlib.contextmanager
def running_server(
    machines: Sequence[Machine],
    store: Store | None = None,
    settings: HostSettings | None = None,
    *,
    max_body_bytes: int = 4_000_000,
    host_name: str = "127.0.0.1",
) -> Iterator[RunningServer]:
    """Serve `machines` until the block ends. Other replicas reach it by `host_name`."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    own_url = url.replace("127.0.0.1", host_name)
    host = SessionHost(machines, store or MemoryStore(), replace(settings or HostSettings(), url=own_url))

    @contextlib.asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        running.loop = asyncio.get_running_loop()
        async with host:
            yield

    api = build_api(host, lifespan=lifespan, max_body_bytes=max_body_bytes)
    config = uvicorn.Config(
        api, log_config=None, access_log=False, ws="none", timeout_keep_alive=60, timeout_graceful_shutdown=15
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            running.started.set()

    server = Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="test-server", daemon=True)
    running = RunningServer(host, server, thread, url)
    thread.start()
    assert running.started.wait(START_LIMIT_S), "the server did not start"
    try:
        yield running
    finally:
        running.stop()
