"""A PgBouncer in transaction mode between stores and PostgreSQL; the contract tests run behind one too."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.persistence.store import StepConflict, StoreUnavailable
from tests.persistence.making import new, opened, started, step, step_commit

IDS = [f"s{number}" for number in range(20)]


async def test_stores_share_a_pooler_in_transaction_mode(pgbouncer_url: str) -> None:
    async with opened(pgbouncer_url) as one, opened(pgbouncer_url) as other:
        stores = dict(zip(IDS, [one, other] * 10, strict=True))
        await asyncio.gather(*(store.create_session(new(session_id)) for session_id, store in stores.items()))
        for seq in range(10):
            runs = {session_id: started(f"{session_id} {seq}") for session_id in IDS}
            commits = (store.commit(step_commit(one, step(seq), run_start=runs[one])) for one, store in stores.items())
            await asyncio.gather(*commits, *(store.load_session(one) for one, store in stores.items()))
        for session_id in IDS:
            assert (await other.load_session(session_id)).state == {"n": 10}
        with pytest.raises(StepConflict):
            await other.commit(step_commit("s0", step(9)))
        await other.delete_session("s0")


async def write(url: str, name: str) -> None:
    async with opened(url, is_pgbouncer=False, patience_s=0.2) as store:
        await store.create_session(new(name))
        for seq in range(20):
            await store.commit(step_commit(name, step(seq)))


async def read(url: str, name: str) -> None:
    async with opened(url, is_pgbouncer=False, patience_s=0.2) as store:
        for _ in range(20):
            await store.load_session(name)


@pytest.mark.parametrize("use", [write, read])
async def test_a_store_that_is_not_told_of_the_pooler_says_what_to_set(
    pgbouncer_url: str, use: Callable[[str, str], Awaitable[None]]
) -> None:
    names = [f"{use.__name__} {number}" for number in range(4)]
    async with opened(pgbouncer_url) as told:
        if use is read:
            await asyncio.gather(*(told.create_session(new(name)) for name in names))
        outcomes = await asyncio.gather(*(use(pgbouncer_url, name) for name in names), return_exceptions=True)
    errors = [outcome for outcome in outcomes if outcome is not None]
    assert errors
    for error in errors:
        assert isinstance(error, StoreUnavailable)
        assert "set STEPWELL_PGBOUNCER" in str(error)
