"""SQLite after a crash that has left a damaged file: it recovers, or one line says what to do."""

import random
import shutil
from pathlib import Path

import pytest

from app.persistence.store import StoreUnavailable
from tests.persistence.making import new, opened, step, step_commit

STEPS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "before"
    folder.mkdir()
    return folder


async def crashed(folder: Path) -> Path:
    """A database whose process was killed: its last commits are in the write-ahead log."""
    async with opened(f"sqlite:///{folder}/s.db") as store:
        await store.create_session(new())
        for seq in range(STEPS):
            await store.commit(step_commit("s", step(seq)))
        left = folder.with_name(f"{folder.name}-left")
        shutil.copytree(folder, left)
    return left / "s.db"


def garble(path: Path) -> None:
    """Write noise over all pages but the first one."""
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(random.Random(page).randbytes(4096))


@pytest.mark.parametrize("kind", ["garbage", "zeros", "half a frame", "no index", "a damaged index"])
async def test_what_follows_the_last_commit_in_the_log_is_passed_over(folder: Path, kind: str) -> None:
    path = await crashed(folder)
    wal, index = path.with_name("s.db-wal"), path.with_name("s.db-shm")
    noise = {
        "garbage": random.Random(18).randbytes(5_000),
        "zeros": bytes(12_360),
        "half a frame": random.Random(1).randbytes(2_000),
    }
    with wal.open("ab") as file:
        file.write(noise.get(kind, b""))
    if kind == "no index":
        index.unlink()
    elif kind == "a damaged index":
        index.write_bytes(random.Random(2).randbytes(index.stat().st_size))
    async with opened(f"sqlite:///{path}") as store:
        assert (await store.get_session("s")).seq == STEPS - 1
        await store.commit(step_commit("s", step(STEPS)))


async def test_a_damaged_database_is_told_of_with_what_to_do(folder: Path) -> None:
    path = await crashed(folder)
    async with opened(f"sqlite:///{path}") as store:  # brings the log into the file
        await store.ping()
    garble(path)
    with pytest.raises(StoreUnavailable, match=r"damaged \(SQLITE_CORRUPT.*\): stop the service, .* restore a backup"):
        async with opened(f"sqlite:///{path}") as store:
            await store.unfinished_runs()
