"""The PostgreSQL of the tests: patient when it starts, gone when it ends."""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.postgres import running_server
from tests.service_process import ROOT, clean_environment


def processes_in(folder: Path) -> list[str]:
    """The command lines that name something below `folder`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            line = file.read_bytes().decode(errors="replace")
            if f"{folder}/" in line:
                found.append(line.replace("\0", " "))
    return found


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made in this test, and nothing else is."""
    with tempfile.TemporaryDirectory(prefix="stepwell-") as own:  # short, as a socket's path has to be
        Path(own).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", own)
        yield Path(own)


def test_a_server_that_takes_too_long_to_start_is_not_left_behind(folder: Path) -> None:
    with pytest.raises(AssertionError), running_server(start_limit_s=0.0):
        pass
    assert processes_in(folder) == []
    assert list(folder.iterdir()) == []


def test_a_server_that_crashed_starts_where_it_was_and_ends_with_its_context(folder: Path) -> None:
    async def ask(question: str) -> object:
        connection = await asyncpg.connect(server.url)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    with running_server() as server:
        assert processes_in(folder) != []
        asyncio.run(ask("CREATE TABLE kept AS SELECT 1 AS number"))
        server.stop("immediate")
        assert processes_in(folder) == []
        server.start()
        server.start()
        assert asyncio.run(ask("SELECT number FROM kept")) == 1
    assert processes_in(folder) == []
    assert list(folder.iterdir()) == []


def test_a_server_ends_with_the_process_that_began_it_however_that_ends(folder: Path) -> None:
    code = "from tests.postgres import running_server\nwith running_server(): print('there', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(TMPDIR=str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as began:
        assert began.stdout is not None
        assert began.stdout.readline() == "there\n"
        assert processes_in(folder) != []
        began.kill()
    until_s = time.monotonic() + 60
    while processes_in(folder) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert processes_in(folder) == []
