"""Tasks that wait for one moment of a run."""

import asyncio

__all__ = ["turn_in", "wake"]


def turn_in(waiters: list[asyncio.Future[None]]) -> asyncio.Future[None]:
    """Return a future that `wake` settles. Each waiter has one of its own, or one that goes would take all along."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    return waiter


def wake(waiters: list[asyncio.Future[None]]) -> None:
    """Settle all futures in `waiters`, and empty it."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
