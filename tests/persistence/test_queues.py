"""What waits for what in a store: slow work of one kind holds up nothing of another."""

import asyncio
import os
import threading

from app.engine.operations import Set
from app.persistence.sql_store import SqlStore
from tests.persistence.making import new, opened, step, step_commit

LIMIT_S = 30.0
LARGE = {"blob": os.urandom(80_000).hex()}


async def test_a_large_step_holds_up_its_own_session_and_no_other(database_url: str) -> None:
    async with opened(database_url) as store:
        assert isinstance(store, SqlStore)
        for session_id in ("large", "small"):
            await store.create_session(new(session_id))
        door = threading.Event()
        threads = store._committer._threads
        busy = [asyncio.ensure_future(threads.run(door.wait, LIMIT_S)) for _ in range(8)]  # none of them is free to deflate
        write = tuple(Set(key, value) for key, value in LARGE.items())
        stored: list[int] = []

        async def commit(seq: int, *, is_large: bool) -> None:
            made = step(seq, write, {"n": 0, **LARGE}) if is_large else step(seq, state={"n": 1, **LARGE})
            await store.commit(step_commit("large", made))
            stored.append(seq)

        commits = [asyncio.ensure_future(commit(seq, is_large=seq != 1)) for seq in range(3)]
        for seq in range(5):
            async with asyncio.timeout(LIMIT_S):
                await store.commit(step_commit("small", step(seq)))
        assert (await store.get_session("large")).seq == -1
        door.set()
        await asyncio.gather(*commits, *busy)
        assert stored == [0, 1, 2]
        assert (await store.load_session("large")).state == {"n": 1, **LARGE}


async def test_what_waits_to_be_deflated_is_stored_when_the_store_closes(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.create_session(new())
        write = tuple(Set(key, value) for key, value in LARGE.items())
        commits = [asyncio.ensure_future(store.commit(step_commit("s", step(seq, write, LARGE)))) for seq in range(3)]
        await asyncio.sleep(0)
    await asyncio.gather(*commits)
    async with opened(database_url) as store:
        assert (await store.get_session("s")).seq == 2


async def test_looks_at_histories_leave_connections_for_what_is_to_run(database_url: str) -> None:
    async with opened(database_url) as store:
        assert isinstance(store, SqlStore)
        await store.create_session(new())
        await store.commit(step_commit("s", step(0)))
        browsers = store._reader._browsers
        for _ in range(store._database.browsers):
            await browsers.acquire()
        looking = [asyncio.ensure_future(store.list_steps("s")) for _ in range(20)]
        async with asyncio.timeout(LIMIT_S):
            assert (await store.load_session("s")).state == {"n": 1}
            await store.ping()
        assert not any(each.done() for each in looking)
        for _ in range(store._database.browsers):
            browsers.release()
        assert all(len(steps) == 1 for steps in await asyncio.gather(*looking))
