"""Says that this replica lives, from a thread with an event loop and a connection of its own. See docs/adr/0039.

A task of the service's loop could not say so while an action holds that loop, and others would take the replica for dead. The
thread also tells for how long the loop has not turned. While all of the process stands still, the thread does, too.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from sqlalchemy.ext.asyncio import AsyncEngine

from app.persistence.replicas import Beat, BeatSettings
from app.persistence.store import StoreError
from app.system.clocks import since_boot_s

__all__ = ["Heartbeat", "Say"]

Say = Callable[[AsyncEngine, float | None], Awaitable[Beat]]
"""Tells the database that this replica lives, and for how many seconds its loop has not turned if that is long."""

_STOP_LIMIT_S = 5.0  # for a beat that is under way when the service ends

logger = logging.getLogger(__name__)


class Heartbeat:
    """Start it on the loop for which it speaks, and stop it there."""

    def __init__(self, engine: AsyncEngine, say: Say, settings: BeatSettings) -> None:
        """`engine` is used in the thread alone."""
        self._engine = engine
        self._say = say
        self._settings = settings
        self._thread = threading.Thread(target=self._main, name="stepwell-heartbeat", daemon=True)
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._ended: Future[None] = Future()
        self._watched: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._lock = asyncio.Lock()
        self._asked_s: float | None = None  # when the loop was asked to turn, if it has not yet
        self._began_s = 0.0
        self._reported_s = 0.0  # the lateness that is in the log
        self.heard_s = since_boot_s()
        """When the last beat began that the database has taken from a replica that it knows."""

    async def start(self) -> None:
        self._watched = asyncio.get_running_loop()
        self._thread.start()
        await asyncio.wrap_future(self._started)

    async def stop(self) -> None:
        """Return when the thread has closed its connection, or soon if the database does not answer."""
        loop = await asyncio.wrap_future(self._started)
        if not self._ended.done():
            loop.call_soon_threadsafe(self._stop.set)
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=_STOP_LIMIT_S)

    async def beat(self) -> Beat:
        """Beat now. Raises StoreUnavailable."""
        loop = await asyncio.wrap_future(self._started)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._beat(), loop))

    # in the thread

    def _main(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._beat_for_ever())
        finally:
            self._ended.set_result(None)

    async def _beat_for_ever(self) -> None:
        self._began_s = since_boot_s()
        self._started.set_result(asyncio.get_running_loop())
        try:
            while not self._stop.is_set():
                self._ask_the_loop()
                if since_boot_s() - self._began_s >= self._settings.beat_s:
                    await self._beat_or_not()
                try:
                    async with asyncio.timeout(self._settings.beat_s / 4):
                        await self._stop.wait()
                except TimeoutError:
                    continue
        finally:
            await self._engine.dispose()

    def _ask_the_loop(self) -> None:
        if self._asked_s is None and self._watched is not None:
            self._asked_s = since_boot_s()
            try:
                self._watched.call_soon_threadsafe(self._turned)
            except RuntimeError:  # it is closed, and with it the service
                self._stop.set()
        self._report()

    def _turned(self) -> None:
        """Called on the loop for which this speaks."""
        self._asked_s = None

    def _late_s(self) -> float | None:
        asked_s = self._asked_s
        late_s = 0.0 if asked_s is None else since_boot_s() - asked_s
        return late_s if late_s >= self._settings.late_after_s else None

    async def _beat_or_not(self) -> None:
        try:
            await self._beat()
        except StoreError:
            pass  # the service's own beats tell of it in the log
        except Exception:  # the border of the thread: nobody sees what becomes of it
            logger.exception("a heartbeat failed")

    async def _beat(self) -> Beat:
        async with self._lock:
            self._began_s = began_s = since_boot_s()
            beat = await self._say(self._engine, self._late_s())
            if beat.is_known:
                self.heard_s = began_s
            return beat

    def _report(self) -> None:
        """Log when the loop becomes late, and when it is stuck: each time that it has taken twice as long."""
        late_s, settings = self._late_s(), self._settings
        if late_s is None:
            if self._reported_s:
                logger.warning("the event loop turns again", extra={"late_s": round(self._reported_s, 1)})
            self._reported_s = 0.0
        elif not self._reported_s:
            self._reported_s = late_s
            logger.warning("the event loop does not turn; this replica lives and keeps its sessions", extra={"late_s": late_s})
        elif late_s >= max(settings.stuck_after_s, 2 * self._reported_s):
            self._reported_s = late_s
            logger.error("the event loop is stuck: end this process to free its sessions", extra={"late_s": round(late_s, 1)})
