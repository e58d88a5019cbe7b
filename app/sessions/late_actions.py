"""Code of a user that went on although its run was cancelled, or its time was up: owned here until it ends, if it ever does."""

import asyncio
import logging
from typing import Any

__all__ = ["LateActions"]

logger = logging.getLogger(__name__)


class LateActions:
    """The tasks of one host that nobody waits for. `left_behind` counts all of them, `ended` those that have ended since."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._named: set[tuple[str, str | None]] = set()
        self.left_behind = 0
        self.ended = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: "asyncio.Task[Any]", machine: str, action: str | None) -> None:
        """Own `task`. An action is named once in the log, however often it does this."""
        self._tasks.add(task)
        self.left_behind += 1
        task.add_done_callback(self._ended)
        if (machine, action) not in self._named:
            self._named.add((machine, action))
            logger.warning(
                "an action goes on although it was cancelled; its run is over, and what it gives is dropped",
                extra={"machine": machine, "action": action},
            )

    def cancel(self) -> None:
        """Cancel all of them once more. Does not wait."""
        for task in self._tasks:
            task.cancel()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        self.ended += 1
        if not task.cancelled():
            task.exception()  # seen: nobody wants it any more
