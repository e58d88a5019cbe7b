"""The executor ladder: carries out sync code on the rung that its action, its machine or the service asks for.

`loop` (async actions, no concern of this file) → `thread` → `process` → `dask`. Every call is measured.
"""

import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from app.engine.ports import ActionOutcome, BlockingCall
from app.executors.errors import UnknownRung
from app.executors.notices import Notice, Notify
from app.executors.owner import CallOwner
from app.executors.threads import FairThreadPool, PoolStats

__all__ = ["ExecutorSettings", "Executors", "Rung"]

T = TypeVar("T")


class Rung(StrEnum):
    """Where a sync action can be carried out. `auto` starts in threads and moves what proves to be CPU-bound."""

    THREAD = "thread"
    PROCESS = "process"
    DASK = "dask"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How large the rungs are and which one is the default."""

    default: Rung = Rung.THREAD
    threads: int = 64
    thread_replacements: int = 64
    max_queued: int = 10_000
    processes: int = os.cpu_count() or 1


class Executors:
    """All rungs of one process. `async with`, or start and close it; one per event loop.

    `notify` is called on the loop, once per thing to tell.
    """

    def __init__(self, settings: ExecutorSettings | None = None, *, notify: Notify | None = None) -> None:
        self._settings = settings or ExecutorSettings()
        self._notify = notify or _ignore
        self._threads = FairThreadPool(
            "thread",
            size=self._settings.threads,
            replacements=self._settings.thread_replacements,
            max_queued=self._settings.max_queued,
        )

    async def start(self) -> None:
        """Open what has to be open before the first call."""

    async def close(self, grace_s: float = 5.0) -> None:
        """Refuse new calls, give running ones `grace_s` seconds, then leave them behind."""
        await self._threads.close(grace_s)

    async def __aenter__(self) -> "Executors":
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def call(self, call: BlockingCall, *, owner: CallOwner) -> ActionOutcome:
        """Return the outcome of a sync action. Cancelling frees the caller at once on every rung."""
        return await self._threads.run(call.perform, key=owner.session_id)

    async def stream(self, call: BlockingCall, *, owner: CallOwner) -> AsyncGenerator[Any, None]:
        """Yield the items of a sync streaming action and, last, its ActionOutcome."""
        items = self._threads.stream(call.stream, key=owner.session_id)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    async def call_plain(self, call: Callable[[], T], *, owner: CallOwner) -> T:
        """Return what a sync hook or persister returns, carried out in a thread."""
        return await self._threads.run(call, key=owner.session_id)

    def stats(self) -> tuple[PoolStats, ...]:
        """Every pool as it is now."""
        return (self._threads.stats(),)


def rung_named(name: str | None) -> Rung | None:
    """Return the rung called `name`; None for None. Raises UnknownRung."""
    if name is None:
        return None
    try:
        return Rung(name)
    except ValueError:
        known = ", ".join(rung.value for rung in Rung)
        raise UnknownRung(f"there is no executor {name!r}; there are {known}") from None


def _ignore(_notice: Notice) -> None:
    return None
