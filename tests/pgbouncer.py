"""A real PgBouncer in transaction mode in front of a server of `tests/postgres.py`."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.programs import program

__all__ = ["is_pooled", "running_pgbouncer"]

_MARK = "stepwell-pgbouncer-"  # begins the folder of a pooler's socket, and so tells its urls from others
_PORT = 6432
_START_LIMIT_S = 60.0


def is_pooled(url: str) -> bool:
    """Whether `url` leads through a pooler of this module."""
    return _MARK in url


@contextlib.contextmanager
def running_pgbouncer(server_url: str, *, servers: int = 4) -> Iterator[str]:
    """A pooler that ends with the context; the value is `server_url` through it, as any other database of that server can be had.

    A client keeps one of at most `servers` connections to each database for no longer than a transaction.
    """
    split = urlsplit(server_url)
    target = parse_qs(split.query)["host"][0]
    folder = Path(tempfile.mkdtemp(prefix=_MARK))
    os.chmod(folder, 0o755)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        textwrap.dedent(f"""\
            [databases]
            * = host={target} port={split.port or 5432} user={split.username}
            [pgbouncer]
            pool_mode = transaction
            default_pool_size = {servers}
            max_client_conn = 500
            listen_addr =
            listen_port = {_PORT}
            unix_socket_dir = {folder}
            auth_type = any
            ignore_startup_parameters = extra_float_digits
            server_round_robin = 1
            logfile =
            """)
    )
    found = program("pgbouncer")
    who: dict[str, Any] = {}
    if os.getuid() == 0:  # it refuses to run as root, and the server's socket is for the server's own user
        owner = os.stat(target)
        os.chown(folder, owner.st_uid, owner.st_gid)
        who = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [found.path, settings],
            env={**os.environ, **found.variables},
            stdout=log,
            stderr=log,
            **who,
        )
    try:
        _wait_for(folder / f".s.PGSQL.{_PORT}", process, folder / "log")
        yield server_url.replace(target, str(folder)).replace(f":{split.port}", "") + f"&port={_PORT}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + _START_LIMIT_S
    while not socket.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until_s, log.read_text()
        time.sleep(0.02)
