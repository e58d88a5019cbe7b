"""A line to PostgreSQL that can be cut: `python line.py LISTEN TARGET`, both folders of a Unix socket.

A process of its own, so that it costs the clients nothing. It takes orders on its standard input, one a line, and says `ready`:

`cut`        every connection breaks now
`lose`       what the server says next on each connection does not arrive, and the connection breaks: was it carried out?
`hold`       nothing passes any more, in either direction, and nothing breaks
`release`    what was held goes on
"""

import asyncio
import sys
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


class Ends:
    """The two ends of one connection."""

    def __init__(self, line: "Line") -> None:
        self.line = line
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.early = b""
        self.loses_next = False

    def cut(self) -> None:
        self.line.connections.discard(self)
        for transport in (self.client, self.server):
            if transport is not None:
                transport.abort()

    def hold(self, is_held: bool) -> None:
        for transport in (self.client, self.server):
            if transport is not None and not transport.is_closing():
                (transport.pause_reading if is_held else transport.resume_reading)()


class FromClient(asyncio.Protocol):
    def __init__(self, ends: Ends) -> None:
        self.ends = ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ends = self.ends
        ends.client = transport
        ends.line.connections.add(ends)
        ends.line.connecting.add(task := asyncio.ensure_future(ends.line.connect(ends)))
        task.add_done_callback(ends.line.connecting.discard)

    def data_received(self, data: bytes) -> None:
        if self.ends.server is None:
            self.ends.early += data
        else:
            self.ends.server.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.cut()


class FromServer(asyncio.Protocol):
    def __init__(self, ends: Ends) -> None:
        self.ends = ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.ends.server = transport
        transport.write(self.ends.early)
        if self.ends not in self.ends.line.connections:  # cut meanwhile
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.ends.loses_next:
            self.ends.cut()
        elif self.ends.client is not None:
            self.ends.client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.cut()


class Line:
    def __init__(self, target: Path) -> None:
        self.target = target
        self.connections: set[Ends] = set()
        self.connecting: set[asyncio.Future[None]] = set()
        self.is_held = False

    async def connect(self, ends: Ends) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: FromServer(ends), str(self.target))
        except OSError:
            ends.cut()
        else:
            if self.is_held:
                ends.hold(True)

    def obey(self, order: str) -> None:
        match order:
            case "cut":
                for ends in list(self.connections):
                    ends.cut()
            case "lose":
                for ends in self.connections:
                    ends.loses_next = True
            case "hold" | "release":
                self.hold(order == "hold")

    def hold(self, is_held: bool) -> None:
        self.is_held = is_held
        for ends in self.connections:
            ends.hold(is_held)


async def main(listen: Path, target: Path) -> None:
    loop = asyncio.get_running_loop()
    line = Line(target / SOCKET)
    await loop.create_unix_server(lambda: FromClient(Ends(line)), str(listen / SOCKET), backlog=100)
    print("ready", flush=True)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        line.obey(order.decode().strip())
        print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
