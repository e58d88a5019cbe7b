"""Whoever stops waiting for a read leaves nothing behind: no connection, no thread, no descriptor."""

import asyncio
import gc
import os
import threading

import pytest

from tests.persistence.making import new, opened

ROUNDS = 300


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql", "pgbouncer"], indirect=True)
async def test_cancelled_reads_leave_no_connection_behind(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.create_session(new("s"))
        await asyncio.gather(*(store.load_session("s") for _ in range(20)))  # every connection of the pool is open
        gc.collect()
        before = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for number in range(ROUNDS):
            reads = [asyncio.ensure_future(store.load_session("s")) for _ in range(3)]
            for _ in range(number % 7):
                await asyncio.sleep(0)
            for read in reads:
                read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
        assert (await store.load_session("s")).record.id == "s"
        gc.collect()
        after = threading.active_count(), len(os.listdir("/proc/self/fd"))
        assert after[0] <= before[0]
        assert after[1] <= before[1] + 1
