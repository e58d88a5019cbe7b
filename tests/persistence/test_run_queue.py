"""The queue of runs that wait: each is handed out, to one taker at a time, whatever becomes of the takers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from app.persistence.records import Key
from app.persistence.run_queue import Back
from app.persistence.store import KeyTaken, Store
from tests.persistence.making import new, opened, queried, started

LIMIT_S = 60.0
CUT_THE_QUEUE_OFF = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND query ILIKE '%stepwell_pgqueuer%' AND pid <> pg_backend_pid()
"""
JOBS = "SELECT count(*) FROM stepwell_pgqueuer"


class Taker:
    """Takes runs from a store's queue and holds them until they may go; `back` says how a run goes back."""

    def __init__(self, store: Store, back: Callable[[str], Back | None] = lambda _run_id: None) -> None:
        self.store = store
        self.taken: list[str] = []
        self.most_at_once = 0
        self.may_go = asyncio.Event()
        self._back = back
        self._holding = 0
        self._changed = asyncio.Event()

    async def take(self, run_id: str) -> Back | None:
        self.taken.append(run_id)
        self._holding += 1
        self.most_at_once = max(self.most_at_once, self._holding)
        self._changed.set()
        try:
            await self.may_go.wait()
        finally:
            self._holding -= 1
        return self._back(run_id)

    async def until(self, count: int, limit_s: float = LIMIT_S) -> None:
        async with asyncio.timeout(limit_s):
            while len(self.taken) < count:
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def taking(
    store: Store, *, is_open: bool = True, back: Callable[[str], Back | None] = lambda _: None
) -> AsyncIterator[Taker]:
    """Take runs from the queue of an open store, which joins the replicas for that."""
    taker = Taker(store, back)
    if is_open:
        taker.may_go.set()
    await store.replicas.join("http://nowhere")
    await store.queue.open(taker.take)
    try:
        yield taker
    finally:
        taker.may_go.set()
        store.queue.close()
        await store.queue.end()
        await store.replicas.leave()


async def put(store: Store, run_id: str, session_id: str = "s") -> None:
    await store.queue_run(session_id, started(run_id))
    store.queue.put(run_id)


async def until(url: str, query: str, wanted: object) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await queried(url, query) != wanted:  # noqa: ASYNC110  # the database gives no sign
            await asyncio.sleep(0.02)


async def until_no_job_is_left(url: str) -> None:
    await until(url, JOBS, 0)


async def test_every_run_is_handed_out_once(store: Store) -> None:
    await store.create_session(new())
    await put(store, "before")
    async with taking(store) as taker:
        for number in range(30):
            await put(store, f"r{number}")
        await taker.until(31)
    assert sorted(taker.taken) == sorted(["before", *(f"r{number}" for number in range(30))])


async def test_no_more_than_the_limit_are_out_at_once(store_url: str) -> None:
    async with opened(store_url, background_runs=4) as store:
        await store.create_session(new())
        async with taking(store, is_open=False) as taker:
            for number in range(12):
                await put(store, f"r{number}")
            await taker.until(4)
            with pytest.raises(TimeoutError):
                await taker.until(5, limit_s=0.5)
            taker.may_go.set()
            await taker.until(12)
        assert taker.most_at_once == 4


async def test_a_run_that_goes_back_is_handed_out_again(store: Store) -> None:
    await store.create_session(new())
    backs: list[Back | None] = [Back(0.01), Back(), None]
    async with taking(store, back=lambda _: backs.pop(0)) as taker:
        await put(store, "r")
        await taker.until(3)
    assert taker.taken == ["r"] * 3


async def test_two_replicas_share_the_runs(postgres_store_url: str) -> None:
    async with opened(postgres_store_url, background_runs=4) as one, opened(postgres_store_url, background_runs=4) as other:
        await one.create_session(new())
        async with taking(one, is_open=False) as first, taking(other, is_open=False) as second:
            for number in range(8):
                await put(one, f"r{number}")
            await first.until(4)
            await second.until(4)
            assert len({*first.taken, *second.taken}) == 8


async def test_a_run_goes_to_the_replica_that_has_its_session(postgres_store_url: str) -> None:
    async with opened(postgres_store_url) as one, opened(postgres_store_url) as other:
        await one.create_session(new())
        async with taking(one) as first, taking(other) as second:
            await other.claim_session("s")
            for number in range(10):
                await put(one, f"r{number}")
            await second.until(10)
            assert first.taken == []


async def test_a_run_is_sent_on_to_the_replica_that_is_named(postgres_store_url: str) -> None:
    async with opened(postgres_store_url) as one, opened(postgres_store_url) as other:
        await one.create_session(new())
        async with taking(other) as second:
            name = second.store.replicas.id
            other.queue.close()
            async with taking(one, back=lambda _: Back(to=name)) as first:
                await put(one, "r")
                await first.until(1)
                await until(postgres_store_url, "SELECT entrypoint FROM stepwell_pgqueuer WHERE status = 'queued'", f"run@{name}")
        await one.replicas.join("http://nowhere")
        await one.queue.tend()  # that replica has left: anybody may take it
        assert await queried(postgres_store_url, "SELECT entrypoint FROM stepwell_pgqueuer") == "run"


async def test_what_a_dead_replica_held_is_handed_out_again(postgres_store_url: str) -> None:
    async with opened(postgres_store_url) as store:
        await store.create_session(new())
        await put(store, "r")
        held = "UPDATE stepwell_pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(), heartbeat = {} RETURNING id"
        await queried(postgres_store_url, held.format("now()"))
        async with taking(store) as heir:
            with pytest.raises(TimeoutError):
                await heir.until(1, limit_s=1.0)
            await queried(postgres_store_url, held.format("now() - interval '5 seconds'"))
            await heir.until(1, limit_s=LIMIT_S)
            await until_no_job_is_left(postgres_store_url)


async def test_the_queue_goes_on_after_its_connection_was_lost(postgres_store_url: str) -> None:
    async with opened(postgres_store_url) as store:
        await store.create_session(new())
        async with taking(store, is_open=False) as taker:
            await put(store, "held")
            await taker.until(1)
            assert await queried(postgres_store_url, CUT_THE_QUEUE_OFF) == 1
            await put(store, "next")
            await taker.until(2)
            assert taker.taken == ["held", "next"], "what is held was not broken off, and is not taken twice"
            taker.may_go.set()
            await until_no_job_is_left(postgres_store_url)


async def test_behind_a_pooler_in_transaction_mode_the_queue_is_polled(pgbouncer_url: str) -> None:
    async with opened(pgbouncer_url) as one, opened(pgbouncer_url, background_runs=2) as other:
        await one.create_session(new())
        async with taking(other) as taker:
            await put(one, "by another")
            await taker.until(1)
            await put(other, "by itself")
            await taker.until(2)
            await until_no_job_is_left(pgbouncer_url)


async def test_a_run_that_is_refused_has_no_job(postgres_store_url: str) -> None:
    async with opened(postgres_store_url) as store:
        await store.create_session(new())
        key = Key(b"k", b"r", 1.0)
        await store.queue_run("s", started("first", key=key))
        with pytest.raises(KeyTaken):
            await store.queue_run("s", replace(started("second"), key=key))
        assert await queried(postgres_store_url, JOBS) == 1


async def test_a_run_whose_job_waits_is_no_orphan(postgres_store_url: str) -> None:
    async with opened(postgres_store_url) as store:
        await store.create_session(new())
        await store.queue_run("s", started("waits"))
        await store.queue_run("s", started("forgotten"))
        await queried(postgres_store_url, "DELETE FROM stepwell_pgqueuer WHERE dedupe_key = 'forgotten' RETURNING id")
        found = await store.replicas.orphans(queued_before_s=2e9, limit=10)
        assert [run.id for run in found] == ["forgotten"]
