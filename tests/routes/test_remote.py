"""Talking to another replica, when the talk is broken off."""

import asyncio
import gc
from typing import Any

from app.persistence.replicas import LoneReplica
from app.routes.remote import Remote


async def test_a_talk_that_ends_while_it_is_broken_off_leaves_nothing_unseen() -> None:
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    begun = asyncio.Event()

    async def talk() -> bytes:
        begun.set()
        try:
            return await asyncio.Future[bytes]()
        except asyncio.CancelledError:
            raise StopAsyncIteration from None  # as the end of a stream that comes in the same moment

    waiting = asyncio.create_task(Remote(LoneReplica()).awaited(talk(), "other"))
    await begun.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    del waiting
    gc.collect()
    assert unseen == []
