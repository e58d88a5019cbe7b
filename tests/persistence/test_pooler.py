"""A pooler in transaction mode between the store and PostgreSQL: no statement may count on the connection of the one before."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from app.persistence.store import StepConflict, StoreError
from tests.persistence.making import new, opened, started, step, step_commit
from tests.persistence.transaction_pool import transaction_pool

IDS = [f"s{number}" for number in range(20)]


async def test_stores_share_a_pooler_in_transaction_mode(postgres_url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="stepwell-") as folder:
        async with (
            transaction_pool(postgres_url, Path(folder)) as (url, pool),
            opened(url, is_pgbouncer=True) as one,
            opened(url, is_pgbouncer=True) as other,
        ):
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
            assert pool.transactions > 100


async def ten_steps(url: str) -> None:
    async with opened(url, is_pgbouncer=False, patience_s=0.2) as store:
        await store.create_session(new())
        for seq in range(10):
            await store.commit(step_commit("s", step(seq)))


async def test_the_pooler_of_this_test_does_tell(postgres_url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="stepwell-") as folder:
        async with transaction_pool(postgres_url, Path(folder)) as (url, _):
            with pytest.raises(StoreError):
                await ten_steps(url)
