"""Which runs go on beside a run that may be what has killed processes: after a crash, one such suspect at a time."""

import asyncio

__all__ = ["Trials"]

_PATIENCE_S = 10.0  # for which a run that nobody waits for leaves the suspects to themselves


class Trials:
    """Of one process. A suspect enlists when it is started, begins when it is admitted, and is discharged in any case.

    A run that dies with its process beside a suspect makes that one look guilty. So those that have died once, and those that
    come from the queue, begin after the suspects, unless that takes long.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._suspects: set[object] = set()
        self._admitted: object | None = None
        self._over = asyncio.Event()
        self._over.set()

    def enlist(self, run: object) -> None:
        """Count a run as a suspect from now on."""
        self._suspects.add(run)
        self._over.clear()

    async def admit(self, run: object) -> None:
        """Return when no other suspect is under way."""
        await self._turn.acquire()
        self._admitted = run

    def discharge(self, run: object) -> None:
        """Let the next suspect begin: this one has committed a step, or ended. Does nothing for others."""
        if run not in self._suspects:
            return
        self._suspects.discard(run)
        if self._admitted == run:
            self._admitted = None
            self._turn.release()
        if not self._suspects:
            self._over.set()

    async def over(self) -> None:
        """Return when there is no suspect, or when this has taken too long."""
        if self._over.is_set():
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._over.wait()
        except TimeoutError:
            return
