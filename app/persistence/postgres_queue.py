"""The queue of replicas that share a PostgreSQL: PgQueuer, on one connection of the pool. `docs/adr/0024` says why so.

Whoever holds a job says twice in `_HELD_FOR` that it lives; a job of which nothing was heard for that long is handed out
again. A run may therefore be taken twice, by the same replica or by two: taking it is made for that.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types of its own
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.domain.types import Channel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.persistence.postgres_jobs import ANYBODY, QUEUE_NAMES, RETARGET, SEND_BACK, TRIM_LOG, entrypoint_of
from app.persistence.reader import answer, available
from app.persistence.replicas import Replicas
from app.persistence.run_queue import Back, Take

__all__ = ["PostgresQueue"]

_HELD_FOR = timedelta(seconds=6)
_LOOK_EVERY = timedelta(seconds=2)  # also without a notification: for jobs of the dead
_POLL_EVERY = timedelta(seconds=0.5)  # where there are no notifications
_BATCH = 10
_PAUSE_S = 1.0  # before a lost connection is made again
_LAST_WORDS_S = 5.0
_LOG_KEPT_S = 3600.0
_TRIM_EVERY = 600  # times that the queue is tended
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)  # the last from one that is being ended

logger = logging.getLogger(__name__)


class PostgresQueue:
    """Takes jobs while there is room for them. `is_listening` says whether notifications of the server come through."""

    def __init__(self, engine: AsyncEngine, replicas: Replicas, *, limit: int, is_listening: bool) -> None:
        self._engine = engine
        self._replicas = replicas
        self._limit = max(2, limit)
        self._is_listening = is_listening
        self._take: Take | None = None
        self._task: asyncio.Task[None] | None = None
        self._manager: QueueManager | None = None
        self._driver: AsyncpgDriver | None = None
        self._lost = asyncio.Event()
        self._is_closed = False
        self._tended = 0
        self._taking: dict[str, asyncio.Task[Back | None]] = {}

    async def open(self, take: Take) -> None:
        self._take = take
        self._task = asyncio.get_running_loop().create_task(self._main())

    def put(self, run_id: str) -> None:  # noqa: ARG002  # its job is stored with it
        if isinstance(self._driver, _PollingDriver):
            self._driver.wake()

    async def tend(self) -> None:
        """Let anybody take the jobs of a replica that is gone, or of this one when it is closed; forget old log entries."""
        self._know_own_jobs()
        async with available():
            leaving = entrypoint_of(self._replicas.id) if self._is_closed else ""
            await answer(self._engine, text(SEND_BACK), {"leaving": leaving})
            self._tended += 1
            if self._tended % _TRIM_EVERY == 1:
                await answer(self._engine, text(TRIM_LOG), {"age_s": _LOG_KEPT_S})

    def close(self) -> None:
        self._is_closed = True
        if self._manager is not None:
            self._manager.shutdown.set()

    async def end(self) -> None:
        self.close()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_LAST_WORDS_S)
            for task in (self._task, *self._taking.values()):
                task.cancel()
            await asyncio.wait([self._task, *self._taking.values()])

    async def _main(self) -> None:
        while not self._is_closed:
            try:
                await self._work()
            except (SQLAlchemyError, *_LOST, OSError, TimeoutError) as exc:
                logger.warning("the queue of runs has lost its connection", extra={"error": type(exc).__name__})
            except Exception:  # the border of a background task: nobody awaits it
                logger.exception("the queue of runs has failed")
            if not self._is_closed:
                await asyncio.sleep(_PAUSE_S)

    async def _work(self) -> None:
        """Hand out jobs until the queue is closed. Raises when the connection is lost."""
        async with contextlib.AsyncExitStack() as stack:
            connection = await self._engine.connect()
            stack.push_async_callback(connection.close)
            stack.push_async_callback(connection.invalidate)  # what listens must not come back into the pool
            raw: Any = (await connection.get_raw_connection()).driver_connection
            stack.callback(raw.terminate)
            self._lost = lost = asyncio.Event()
            raw.add_termination_listener(lambda _connection: lost.set())
            self._driver = AsyncpgDriver(raw) if self._is_listening else _PollingDriver(raw)
            self._manager = manager = QueueManager(_queries(self._driver), Channel(QUEUE_NAMES.channel))
            manager.entrypoint(ANYBODY)(self._begin)
            self._know_own_jobs()
            if self._is_closed:
                return
            await manager.run(
                dequeue_timeout=_LOOK_EVERY if self._is_listening else _POLL_EVERY,
                batch_size=min(_BATCH, self._limit // 2),
                max_concurrent_tasks=self._limit,
                heartbeat_timeout=_HELD_FOR,
                log_aggregation_interval=timedelta(0),
            )

    def _know_own_jobs(self) -> None:
        manager = self._manager
        name = entrypoint_of(self._replicas.id)
        if manager is not None and name not in manager.entrypoint_registry:
            manager.entrypoint(name)(self._begin)

    async def _begin(self, job: Job) -> None:
        """Return when the job is done. Raises RetryRequested if it is not, for another time or another replica."""
        run_id = (job.payload or b"").decode()
        taking = self._taking.get(run_id)
        if taking is None:
            if self._take is None:
                raise RetryRequested
            taking = self._taking[run_id] = asyncio.ensure_future(self._take(run_id))
            taking.add_done_callback(lambda _task: self._taking.pop(run_id))
        losing = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait([taking, losing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            losing.cancel()
        if not taking.done():
            return  # the job was lost with the connection: it will be handed out again
        back = taking.result()
        if back is not None:
            try:
                if self._driver is not None:
                    await self._driver.execute(RETARGET, job.id, entrypoint_of(back.to))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                return  # as above; and should it be lost for good, the run is found by its status
            raise RetryRequested(timedelta(seconds=back.after_s))


class _PollingDriver(AsyncpgDriver):
    """For a pooler in transaction mode: no session of the server is ours, so nothing is listened to.

    What this process notifies itself of is passed on within it.
    """

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._callbacks: list[Callable[[str], None]] = []

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        # in one transaction: the driver looks up types between the parts of a statement
        async with self._lock, self._connection.transaction():
            return [dict(row) for row in await self._connection.fetch(query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        async with self._lock, self._connection.transaction():
            return str(await self._connection.execute(query, *args))

    async def notify(self, channel: str, payload: str) -> None:  # noqa: ARG002
        for callback in self._callbacks:
            callback(payload)

    async def add_listener(self, channel: str, callback: Any) -> None:  # noqa: ARG002
        self._callbacks.append(callback)

    async def remove_listener(self, channel: str, callback: Any) -> None:  # noqa: ARG002
        self._callbacks.remove(callback)

    def wake(self) -> None:
        """Make the queue look for jobs."""
        event = {
            "channel": QUEUE_NAMES.channel,
            "operation": "insert",
            "sent_at": datetime.now(UTC).isoformat(),
            "table": QUEUE_NAMES.queue_table,
            "type": "table_changed_event",
        }
        for callback in self._callbacks:
            callback(json.dumps(event))


def _queries(driver: AsyncpgDriver) -> Queries:
    return Queries(
        driver, QueryBuilderEnvironment(QUEUE_NAMES), QueryQueueBuilder(QUEUE_NAMES), QuerySchedulerBuilder(QUEUE_NAMES)
    )
