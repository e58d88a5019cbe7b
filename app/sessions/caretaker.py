"""The one background task of a host: what has to be done from time to time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from app.persistence.store import StoreUnavailable

__all__ = ["Caretaker"]

logger = logging.getLogger(__name__)


class Caretaker:
    """Does each of `chores` every `interval_s` seconds. A chore that fails is logged and done again next time."""

    def __init__(self, interval_s: float, chores: Sequence[Callable[[], Awaitable[None]]]) -> None:
        self._interval_s = interval_s
        self._chores = chores
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._main())

    async def stop(self) -> None:
        """Break off what is being done, and return when it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _main(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            for chore in self._chores:
                try:
                    await chore()
                except StoreUnavailable as exc:
                    logger.warning("a background chore has to wait for the database", extra={"error": str(exc)})
                except Exception:  # the border of a background task: nobody awaits it
                    logger.exception("a background chore failed")
