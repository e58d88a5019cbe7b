"""Talking to another replica, when the talk is broken off."""

import asyncio
import gc
from typing import Any

import httpx
import pytest

from app.persistence.replicas import ClaimedElsewhere, LoneReplica
from app.routes.remote import Remote, ReplicaGone


class Breaking(httpx.AsyncBaseTransport):
    """A connection that breaks in the moment in which it is made, as anyio tells of it."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")


async def test_a_connection_that_breaks_while_it_is_made_has_sent_nothing() -> None:
    remote = Remote(LoneReplica())
    async with httpx.AsyncClient(transport=Breaking()) as remote._client:
        with pytest.raises(ReplicaGone) as caught:
            await remote.send(ClaimedElsewhere("s", "other", "http://other"), "GET", "/v1/sessions/s", {})
    assert not caught.value.was_sent


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
