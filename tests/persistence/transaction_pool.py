"""What PgBouncer does in transaction mode, made worse: every transaction of a client goes to another server connection.

It understands as much of PostgreSQL's protocol as that takes: where messages begin, and when a server is between transactions.
"""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["transaction_pool"]

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_IDLE = b"Z\x00\x00\x00\x05I"
_SPARE_SERVERS = 2


class _Server:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer


class _Pool:
    def __init__(self, target: str) -> None:
        self._target = target
        self._free: deque[_Server] = deque()
        self._released = asyncio.Event()
        self.transactions = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._greet(reader, writer)
                while True:
                    await self._transaction(reader, writer)
        finally:
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect more servers, as the client wants them to be, and let one of them answer."""
        startup = await self._startup(reader)
        if startup == _SSL_REQUEST:
            writer.write(b"N")
            startup = await self._startup(reader)
        for _ in range(1 + _SPARE_SERVERS):
            server = _Server(*await asyncio.open_unix_connection(self._target))
            server.writer.write(startup)
            answer = await _until_idle(server)
            self._release(server)
        writer.write(answer)

    async def _transaction(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await _message(reader)
        if first[:1] == b"X":
            raise ConnectionResetError
        while not self._free:
            self._released.clear()
            await self._released.wait()
        server = self._free.popleft()  # the one that was longest without work: never the same twice in a row
        self.transactions += 1
        server.writer.write(first)

        async def forth() -> None:
            while True:
                server.writer.write(await _message(reader))

        forwarding = asyncio.create_task(forth())
        while True:
            answer = await _message(server.reader)
            writer.write(answer)
            if answer == _IDLE:
                break
        # what the client says from now on belongs to its next transaction: it has not said it before it was answered
        forwarding.cancel()
        await asyncio.gather(forwarding, return_exceptions=True)
        self._release(server)

    def _release(self, server: _Server) -> None:
        self._free.append(server)
        self._released.set()

    async def _startup(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(4)
        return head + await reader.readexactly(struct.unpack("!i", head)[0] - 4)

    def close(self) -> None:
        for server in self._free:
            server.writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


async def _until_idle(server: _Server) -> bytes:
    answer = b""
    while not answer.endswith(_IDLE):
        answer += await _message(server.reader)
    return answer


@asynccontextmanager
async def transaction_pool(postgres_url: str, folder: Path) -> AsyncIterator[tuple[str, _Pool]]:
    """A pooler in front of the server of `postgres_url`, and the url through it."""
    socket_folder = postgres_url.split("host=")[1]
    pool = _Pool(f"{socket_folder}/.s.PGSQL.5432")
    server = await asyncio.start_unix_server(pool.serve, folder / ".s.PGSQL.5432")
    try:
        yield postgres_url.replace(socket_folder, str(folder)), pool
    finally:
        server.close()
        pool.close()
        await server.wait_closed()
