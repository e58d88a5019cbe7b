"""Small tasks that nobody awaits: they are owned here, and what goes wrong with them is logged here."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from app.persistence.store import StoreUnavailable

__all__ = ["Errands"]

logger = logging.getLogger(__name__)


class Errands:
    """The owner of tasks that end by themselves."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._done(errand))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Break off what is being done, and return when nothing is."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def _done(self, errand: Coroutine[Any, Any, None]) -> None:
        try:
            await errand
        except StoreUnavailable as exc:
            logger.warning("a background errand came to nothing without the database", extra={"error": str(exc)})
        except Exception:  # the border of a task that nobody awaits
            logger.exception("a background errand failed")
