"""SQLite beside other processes: one that holds the write lock, and readers that keep the write-ahead log from shrinking."""

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.persistence.engines import WAL_KEPT_BYTES
from app.persistence.store import StoreUnavailable
from tests.persistence.making import new, opened, step, step_commit

HOLDER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute(sys.argv[2])
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""


@contextlib.contextmanager
def held(path: Path, how: str, for_s: float) -> Iterator[int]:
    """Another process that holds the lock; its id."""
    command = [sys.executable, "-c", HOLDER, str(path), how, str(for_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
async def test_commits_wait_for_a_process_that_holds_the_lock(tmp_path: Path, how: str) -> None:
    path = tmp_path / "sessions.db"
    async with opened(f"sqlite:///{path}", patience_s=0.1) as store:
        await store.create_session(new())
        with held(path, how, 1.5):
            await asyncio.gather(store.commit(step_commit("s", step(0))), store.create_session(new("other")), store.purge_keys(0))
            await store.delete_session("other")
        assert (await store.get_session("s")).seq == 0


async def test_a_lock_that_is_held_for_long_is_told_of_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(f"sqlite:///{path}", patience_s=0.1, lock_patience_s=0.3) as store:
        await store.create_session(new())
        with held(path, "BEGIN IMMEDIATE", 60.0) as pid:
            holder = rf"another process holds the database's write lock: python\S* \(pid {pid}\)"
            with pytest.raises(StoreUnavailable, match=holder if sys.platform == "linux" else "another process"):
                await store.commit(step_commit("s", step(0)))
            with pytest.raises(StoreUnavailable, match="another process holds"):
                await store.delete_session("s")
        await store.commit(step_commit("s", step(0)))


async def test_a_write_ahead_log_that_has_grown_is_made_small_when_nobody_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    wal = tmp_path / "sessions.db-wal"
    async with opened(f"sqlite:///{path}") as store:
        await store.create_session(new())
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sessions").fetchall()
        count = 0
        while wal.stat().st_size <= WAL_KEPT_BYTES:
            count += 1
            await store.create_session(new(f"n{count}", state={"noise": random.Random(count).randbytes(1_000_000).hex()}))
        grown = wal.stat().st_size
        await store.tend()  # a reader needs the log: nothing is lost, and nobody waits
        assert wal.stat().st_size >= grown
        await store.commit(step_commit("s", step(0)))
        reader.close()
        await store.tend()
        assert wal.stat().st_size == 0
        assert store.stats().wal_bytes == 0
        await store.commit(step_commit("s", step(1)))
        assert (await store.get_session("s")).seq == 1
