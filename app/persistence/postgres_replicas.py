"""Replicas and their claims on PostgreSQL. All times are the server's: the replicas' own clocks may lie."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import uuid_utils
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.persistence.heartbeat import Heartbeat
from app.persistence.reader import answer, available
from app.persistence.records import RunRecord
from app.persistence.replicas import Beat, BeatSettings, ClaimedElsewhere, ReplicaState
from app.persistence.rows import run_record
from app.persistence.store import SessionNotFound, StoreUnavailable
from app.persistence.writer import Writer
from app.system.clocks import current_time_s, ids_ahead_s, keep_ids_ahead, since_boot_s, tell_time

__all__ = ["PostgresReplicas"]

_LOOKED_AT = 1_000  # queued runs, at a time

_JOIN = text("""
    INSERT INTO replicas (id, url, started_at, heartbeat_at, ids_ahead_s)
    SELECT :id, :url, now, now, (SELECT max(ids_ahead_s) FROM replicas) FROM extract(epoch FROM clock_timestamp()) AS now
    RETURNING heartbeat_at, ids_ahead_s
""")
_BEAT = text("""
    UPDATE replicas SET heartbeat_at = now, late_since = now - CAST(:late_s AS double precision), ids_ahead_s = :ids_ahead_s
    FROM extract(epoch FROM clock_timestamp()) AS now WHERE id = :id
    RETURNING heartbeat_at, (SELECT count(*) FROM replicas) AS living,
        ARRAY(SELECT r.url FROM replicas AS r WHERE r.id <> :id AND r.late_since IS NOT NULL ORDER BY r.url) AS late
""")
_BURY = text("""
    DELETE FROM replicas WHERE id <> :id AND heartbeat_at < extract(epoch FROM clock_timestamp()) - :silent_s RETURNING id
""")
_BURY_PREDECESSORS = text("""
    DELETE FROM replicas WHERE id <> :id AND heartbeat_at < extract(epoch FROM clock_timestamp()) - :silent_s
        AND url = (SELECT url FROM replicas WHERE id = :id) AND url <> ''
    RETURNING id
""")
_STATE = text("SELECT late_since IS NOT NULL AS is_late FROM replicas WHERE id = :id")
_LEAVE = text("DELETE FROM replicas WHERE id = :id")
_RELEASE = text("UPDATE sessions SET claimed_by = NULL WHERE id = ANY(:ids) AND claimed_by = :id")
# it has not expired
_IS_THERE = """(s.ttl_s IS NULL OR s.updated_at + s.ttl_s > :now
                OR EXISTS (SELECT FROM runs WHERE session_key = s.key AND finished_event_id IS NULL))"""
_CLAIM = text(f"""
    WITH claimed AS (
        UPDATE sessions AS s SET claimed_by = :id, claim_no = s.claim_no + 1
        WHERE s.id = :session_id
            AND (s.claimed_by IS NULL OR s.claimed_by = :id OR NOT EXISTS (SELECT FROM replicas AS r WHERE r.id = s.claimed_by))
            AND EXISTS (SELECT FROM replicas AS r WHERE r.id = :id)
            AND {_IS_THERE}
        RETURNING s.*
    )
    SELECT claimed.*, snapshots.state, EXISTS (
        SELECT FROM runs WHERE session_key = claimed.key AND finished_event_id IS NULL AND status = 'running'
    ) AS has_run
    FROM claimed LEFT JOIN snapshots ON snapshots.session_key = claimed.key AND snapshots.seq = claimed.snapshot_seq
""")  # noqa: S608  # ours
_OWNER = text(f"""
    SELECT s.claimed_by, r.url, r.late_since IS NOT NULL AS is_late
    FROM sessions AS s LEFT JOIN replicas AS r ON r.id = s.claimed_by
    WHERE s.id = :session_id AND {_IS_THERE}
""")  # noqa: S608  # ours
_ABANDONED = text("""
    SELECT runs.*, s.id AS session_id FROM runs JOIN sessions AS s ON s.key = runs.session_key
    WHERE runs.status = 'running'
        AND (s.claimed_by IS NULL OR NOT EXISTS (SELECT FROM replicas AS r WHERE r.id = s.claimed_by))
    ORDER BY runs.started_at, runs.id LIMIT :limit
""")
_QUEUED = """runs.finished_at IS NULL AND runs.status = 'queued' AND runs.started_at < :queued_before
        AND (runs.started_at, runs.id) > (:after_s, :after_id)"""
_LAST_LOOKED_AT = text(f"""
    SELECT started_at, id FROM runs WHERE {_QUEUED} ORDER BY started_at, id LIMIT 1 OFFSET {_LOOKED_AT - 1}
""")  # noqa: S608  # ours
# a scalar subquery: with NOT EXISTS the whole queue is read
_FORGOTTEN = text(f"""
    SELECT runs.*, s.id AS session_id FROM runs JOIN sessions AS s ON s.key = runs.session_key
    WHERE {_QUEUED}
        AND (runs.started_at, runs.id) <= (:until_s, :until_id)
        AND (
            SELECT 1 FROM stepwell_pgqueuer AS j WHERE j.dedupe_key = runs.id AND j.status IN ('queued', 'picked')
        ) IS NULL
        AND (s.claimed_by IS NULL OR s.claimed_by = :id OR NOT EXISTS (SELECT FROM replicas AS r WHERE r.id = s.claimed_by))
    ORDER BY runs.started_at, runs.id LIMIT :limit
""")  # noqa: S608
_START, _END = (-math.inf, ""), (math.inf, "")  # of the queue


class PostgresReplicas:
    """This process among the replicas of one PostgreSQL."""

    def __init__(self, engine: AsyncEngine, writer: Writer, open_engine: Callable[[], AsyncEngine]) -> None:
        """`engine` commits each statement by itself; `writer` is told under whose name to write.

        `open_engine` gives another engine like `engine`, with one connection, for heartbeats.
        """
        self._engine = engine
        self._writer = writer
        self._open_engine = open_engine
        self._heartbeat: Heartbeat | None = None
        self._heard_s = -math.inf
        self.id: str | None = None
        self._looked_at = _START

    async def join(self, url: str) -> None:
        name = str(uuid_utils.uuid7())
        began_s = since_boot_s()
        (row,) = await self._do(_JOIN, id=name, url=url)
        tell_time(row.heartbeat_at, began_s, since_boot_s())
        keep_ids_ahead(row.ids_ahead_s or 0.0)
        self.id = self._writer.claimant = name
        self._heard_s = began_s

    @property
    def heard_s(self) -> float:
        return self._heard_s if self._heartbeat is None else max(self._heard_s, self._heartbeat.heard_s)

    async def keep_beating(self, settings: BeatSettings) -> None:
        self._heartbeat = Heartbeat(self._open_engine(), self._say, settings)
        await self._heartbeat.start()

    async def beat(self) -> Beat:
        if self._heartbeat is not None:
            return await self._heartbeat.beat()
        began_s = since_boot_s()
        beat = await self._say(self._engine, None)
        if beat.is_known:
            self._heard_s = began_s
        return beat

    async def _say(self, engine: AsyncEngine, late_s: float | None) -> Beat:
        asked_s = since_boot_s()
        async with available():
            found = await answer(engine, _BEAT, {"id": self.id, "late_s": late_s, "ids_ahead_s": ids_ahead_s()})
        if found:
            tell_time(found[0].heartbeat_at, asked_s, since_boot_s())
        return Beat(bool(found), found[0].living, found[0].late) if found else Beat(is_known=False, living=0)

    async def reserve_ids(self) -> None:
        """Done by each beat."""

    async def state_of(self, replica_id: str) -> ReplicaState:
        found = await self._do(_STATE, id=replica_id)
        if not found:
            return ReplicaState.DEAD
        return ReplicaState.LATE if found[0].is_late else ReplicaState.ALIVE

    async def bury(self, silent_s: float) -> Sequence[str]:
        return [row.id for row in await self._do(_BURY, id=self.id, silent_s=silent_s)]

    async def bury_predecessors(self, silent_s: float) -> Sequence[str]:
        return [row.id for row in await self._do(_BURY_PREDECESSORS, id=self.id, silent_s=silent_s)]

    async def leave(self) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            await heartbeat.stop()
        if self.id is not None:
            await self._do(_LEAVE, id=self.id)

    async def release(self, session_ids: Collection[str]) -> None:
        await self._do(_RELEASE, ids=list(session_ids), id=self.id)

    async def claim(self, session_id: str) -> Any:
        """Return the session's row with its newest snapshot, claimed by this replica.

        Raises SessionNotFound, ClaimedElsewhere, and StoreUnavailable also if the others have buried this replica.
        """
        while True:
            claimed = await self._do(_CLAIM, id=self.id, session_id=session_id, now=current_time_s())
            if claimed:
                return claimed[0]
            found = await self._do(_OWNER, session_id=session_id, now=current_time_s())
            if not found:
                raise SessionNotFound(session_id)
            if found[0].url is not None and found[0].claimed_by != self.id:
                raise ClaimedElsewhere(session_id, found[0].claimed_by, found[0].url, is_late=found[0].is_late)
            if not (await self.beat()).is_known:
                raise StoreUnavailable("this replica was taken for dead and has to join again")

    async def orphans(self, *, queued_before_s: float, limit: int) -> Sequence[RunRecord]:
        rows = [*await self._do(_ABANDONED, limit=limit), *await self._forgotten(queued_before_s, limit)]
        return [run_record(row) for row in rows[:limit]]

    async def _forgotten(self, queued_before_s: float, limit: int) -> Sequence[Any]:
        """Return rows of queued runs without a job. A call looks at some that wait, the next one at those behind them."""
        after_s, after_id = self._looked_at
        window = {"queued_before": queued_before_s, "after_s": after_s, "after_id": after_id}
        last = await self._do(_LAST_LOOKED_AT, **window)
        until_s, until_id = last[0] if last else _END
        found = await self._do(_FORGOTTEN, **window, until_s=until_s, until_id=until_id, id=self.id, limit=limit)
        self._looked_at = (until_s, until_id) if last else _START
        return found

    async def _do(self, statement: Any, **values: Any) -> Sequence[Any]:
        async with available():
            return await answer(self._engine, statement, values)
