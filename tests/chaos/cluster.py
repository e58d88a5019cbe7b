"""What is harmed: one real PostgreSQL, and real replicas as processes, each with a line of its own to the database."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

import asyncpg

from tests.postgres import DatabaseServer, running_server
from tests.service_process import ServiceProcess, running_service

__all__ = ["Cluster", "Replica", "running_cluster"]

_HERE = Path(__file__).parent
MACHINE = str(_HERE / "ledger.py")
STUBBORN = str(_HERE / "stubborn.py")
BLOCKING = tuple(f"{_HERE / 'blocking.py'}:{name}" for name in ("fills", "holds", "grows"))

_ORPHANS = """
    SELECT runs.id FROM runs JOIN sessions AS s ON s.key = runs.session_key JOIN replicas AS r ON r.id = s.claimed_by
    WHERE r.url = $1 AND runs.finished_at IS NULL AND runs.status = 'running'
"""
_CLAIM = """
    SELECT r.url, s.claimed_by, s.claim_no FROM sessions AS s LEFT JOIN replicas AS r ON r.id = s.claimed_by WHERE s.id = $1
"""
_UNFINISHED = "SELECT count(*) FROM runs WHERE finished_at IS NULL"


class Line:
    """The process of `line.py`: a socket between one replica and the database."""

    def __init__(self, listen: str, target: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "line.py"), listen, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._obeyed()

    def order(self, order: str) -> None:
        """Have the order carried out; returns when it is."""
        print(order, file=self._pipe(self._process.stdin), flush=True)
        self._obeyed()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _obeyed(self) -> None:
        assert self._pipe(self._process.stdout).readline() == "ready\n", "the line is broken for good"

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


class Replica:
    """One service, which can be started again at the same address after it was killed."""

    def __init__(self, arguments: tuple[str, ...], variables: dict[str, str], folder: Path, line: Line) -> None:
        self.line = line
        self._arguments = arguments
        self._variables = variables
        self._folder = folder
        self._running = contextlib.ExitStack()
        self._port = "0"
        self.service: ServiceProcess | None = None
        self.past: list[str] = []  # what services that were killed have printed
        self.start()
        self.url = self._service.url
        self._port = self.url.rpartition(":")[2]

    def start(self) -> None:
        options = ("--port", self._port, *self._arguments)
        self.service = self._running.enter_context(running_service(*options, cwd=self._folder, variables=self._variables))

    def kill(self) -> None:
        self._service.kill()
        self._close()

    def stop(self) -> int:
        """End the service as an operator does; return its exit code."""
        code = self._service.stop()
        self._close()
        return code

    def freeze(self, seconds: float) -> None:
        """Stop the process in the middle of whatever it does, and let it go on later as if nothing had been."""
        process = self._service.process
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.service is not None:
            self._close()

    def text(self) -> str:
        """Everything that it has ever printed."""
        return "".join([*self.past, "" if self.service is None else self.service.text()])

    @property
    def _service(self) -> ServiceProcess:
        assert self.service is not None, "it does not run"
        return self.service

    def _close(self) -> None:
        self._running.close()
        self.past.append(self._service.text())
        self.service = None


class Cluster:
    """The database and its replicas. `folder` is where the machine leaves its traces. Questions go past the lines."""

    def __init__(self, database: DatabaseServer, replicas: list[Replica], folder: Path) -> None:
        self.database = database
        self.url = database.url
        self.replicas = replicas
        self.folder = folder

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    async def runs_of(self, replica: Replica) -> list[str]:
        """The runs that were under way there, as far as the database knows."""
        return [row["id"] for row in await self.ask(_ORPHANS, replica.url)]

    async def claim_on(self, session: str) -> tuple[str | None, str | None, int]:
        """Who has the session: the replica's address, its id and the number of its claim."""
        row = (await self.ask(_CLAIM, session))[0]
        return row["url"], row["claimed_by"], row["claim_no"]

    def calls_of(self, session: str) -> list[tuple[int, int]]:
        """The calls of the actions in `blocking.py`: the step, and the process that called."""
        path = self.folder / "blocking-calls"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(seq), int(pid)) for name, seq, pid in lines if name == session]

    async def ids(self) -> list[str]:
        """The replicas that the database knows."""
        return [row["id"] for row in await self.ask("SELECT id FROM replicas ORDER BY id")]

    async def unfinished(self) -> int:
        """How many runs have not ended."""
        return int((await self.ask(_UNFINISHED))[0]["count"])

    async def ask(self, question: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            return list(await connection.fetch(question, *arguments))
        finally:
            await connection.close()


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="stepwell-chaos-") as folder:  # short: the path of a socket fits into 107 characters
        yield folder


@contextlib.asynccontextmanager
async def running_cluster(replicas: int = 2) -> AsyncIterator[Cluster]:
    """A cluster of its own database server, empty."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(_short_folder()))
        database = await asyncio.to_thread(stack.enter_context, running_server())
        target = database.url.rpartition("host=")[2]
        made: list[Replica] = []
        variables = {"LEDGER_FOLDER": str(folder), "STEPWELL_SSE_PING_S": "5"}
        for number in range(replicas):
            sockets = folder / str(number)
            sockets.mkdir()
            line = await asyncio.to_thread(Line, str(sockets), target)
            stack.callback(line.close)
            options = ("--database-url", database.url.replace(target, str(sockets)), "--log-format", "json")
            arguments = (*options, MACHINE, STUBBORN, *BLOCKING)
            replica = await asyncio.to_thread(Replica, arguments, variables, folder, line)
            stack.callback(replica.close)
            made.append(replica)
        yield Cluster(database, made, folder)
