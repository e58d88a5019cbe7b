"""A database that goes away and comes back: nothing is lost, nothing is stored twice, and the error says what to do."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from app.persistence.records import RunStart, RunStatus, SessionFilter
from app.persistence.store import SessionNotFound, StepConflict, Store, StoreUnavailable
from tests.persistence.making import new, opened, step, step_commit

IDS = [f"s{number}" for number in range(20)]


async def take_step(store: Store, seq: int) -> list[BaseException | None]:
    return await asyncio.gather(*(store.commit(step_commit(one, step(seq))) for one in IDS), return_exceptions=True)


async def everyone_stands_at(store: Store, seq: int) -> None:
    for session_id in IDS:
        loaded = await store.load_session(session_id)
        assert (loaded.record.seq, loaded.state) == (seq, {"n": seq + 1})
        assert [found.seq for found in await store.list_steps(session_id)] == list(range(seq + 1))


async def test_a_locked_sqlite_is_unavailable_until_the_lock_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(f"sqlite:///{path}", patience_s=0.1, lock_patience_s=0.1) as store:
        await asyncio.gather(*map(store.create_session, map(new, IDS)))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        outcomes = await take_step(store, 0)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 20
        with pytest.raises(StoreUnavailable):
            await store.create_session(new("more"))
        with pytest.raises(StoreUnavailable):
            await store.delete_session("s0")
        await store.ping()  # reading is possible
        other.execute("ROLLBACK")
        other.close()
        await everyone_stands_at(store, -1)
        assert await take_step(store, 0) == [None] * 20
        await everyone_stands_at(store, 0)


async def test_a_lock_that_is_gone_soon_is_not_noticed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(f"sqlite:///{path}", patience_s=30.0) as store:
        await asyncio.gather(*map(store.create_session, map(new, IDS)))
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(take_step(store, 0))
        await asyncio.sleep(0.05)
        other.execute("ROLLBACK")
        other.close()
        assert await waiting == [None] * 20


async def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and no database\n" * 100)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt"):
        async with opened(f"sqlite:///{path}"):
            pass
    with pytest.raises(StoreUnavailable, match="nowhere"):
        async with opened(f"sqlite:///{tmp_path}/nowhere/sessions.db"):
            pass


async def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(StoreUnavailable, match="PostgreSQL"):
        async with opened("postgresql://user:secret@127.0.0.1:1/x"):
            pass


async def test_a_closed_store_takes_no_commits(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.create_session(new())
    if store_url != "memory:":
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.commit(step_commit("s", step(0)))


async def test_closing_flushes_what_waits(database_url: str) -> None:
    async with opened(database_url) as store:
        await asyncio.gather(*map(store.create_session, map(new, IDS)))
        waiting = [asyncio.create_task(store.commit(step_commit(one, step(0)))) for one in IDS]
        await asyncio.sleep(0)  # now each of them has been called
    assert await asyncio.gather(*waiting) == [None] * 20
    async with opened(database_url) as store:
        await everyone_stands_at(store, 0)


class Server:
    """What an administrator does to the database of a test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = url.partition("?")[0].rpartition("/")[2]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        administrator = await asyncpg.connect(self.url.replace(f"/{self.name}?", "/postgres?"))
        try:
            yield administrator
        finally:
            await administrator.close()

    async def disconnect_all(self) -> None:
        async with self.connection() as administrator:
            await administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", self.name)

    async def let_in(self, is_open: bool) -> None:
        async with self.connection() as administrator:
            await administrator.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS {is_open}")


@pytest.fixture
def server(postgres_url: str) -> Server:
    return Server(postgres_url)


async def test_connections_that_are_cut_are_replaced_unnoticed(server: Server) -> None:
    async with opened(server.url, patience_s=60.0) as store:
        await asyncio.gather(*map(store.create_session, map(new, IDS)))
        for seq in range(5):
            await server.disconnect_all()
            assert await take_step(store, seq) == [None] * 20
        await everyone_stands_at(store, 4)


async def test_a_change_of_its_own_is_made_once_though_every_connection_has_died(server: Server) -> None:
    async with opened(server.url) as store:
        await asyncio.gather(*map(store.create_session, map(new, IDS)))
        await store.commit(step_commit("s0", step(0)))
        start = RunStart("r", 1_000, 1_700_000_000.0, {})
        for change in (
            lambda: store.queue_run("s0", start),
            lambda: store.begin_attempt("r", 0),
            lambda: store.purge_keys(0.0),
            lambda: store.trim("s0", before_seq=1),
            lambda: store.delete_session("s1"),
        ):
            await asyncio.gather(*(store.get_session(one) for one in IDS))  # there are several in the pool
            await server.disconnect_all()
            await change()
        run = await store.get_run("r")
        assert (run.status, run.session_id) == (RunStatus.QUEUED, "s0")
        assert [found.seq for found in await store.list_steps("s0")] == []
        with pytest.raises(SessionNotFound):
            await store.get_session("s1")


async def test_connections_cut_during_commits_lose_and_double_nothing(server: Server) -> None:
    async with opened(server.url, patience_s=60.0) as store:
        await asyncio.gather(*map(store.create_session, map(new, IDS)))
        is_over = asyncio.Event()

        async def client(session_id: str) -> int:
            seq = 0
            while not is_over.is_set():
                await store.commit(step_commit(session_id, step(seq)))
                seq += 1
            return seq

        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(client(session_id)) for session_id in IDS]
            for _ in range(10):
                await server.disconnect_all()
            is_over.set()
        for session_id, done in zip(IDS, clients, strict=True):
            seqs = [found.seq for found in await store.list_steps(session_id, limit=100_000)]
            assert seqs == list(range(done.result()))


async def test_while_the_server_is_away_commits_fail_and_afterwards_all_is_well(server: Server) -> None:
    async with opened(server.url, patience_s=0.1) as store:
        await asyncio.gather(*map(store.create_session, map(new, IDS)))
        assert await take_step(store, 0) == [None] * 20
        await server.let_in(False)
        await server.disconnect_all()
        outcomes = await take_step(store, 1)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 20
        assert all(outcome.retry_after_s > 0 for outcome in outcomes if isinstance(outcome, StoreUnavailable))
        for read in (store.ping(), store.get_session("s0"), store.list_sessions(SessionFilter(), 5, None)):
            with pytest.raises(StoreUnavailable):
                await read
        await server.let_in(True)
        assert await take_step(store, 1) == [None] * 20
        await everyone_stands_at(store, 1)
        with pytest.raises(StepConflict):
            await store.commit(step_commit("s0", step(1)))
