"""Replicas and their claims on PostgreSQL. All times are the server's: the replicas' own clocks may lie."""

import time
from collections.abc import Collection, Sequence
from typing import Any

import uuid_utils
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.persistence.reader import answer, available
from app.persistence.records import RunRecord
from app.persistence.replicas import Beat, ClaimedElsewhere
from app.persistence.rows import run_record
from app.persistence.store import SessionNotFound, StoreUnavailable
from app.persistence.writer import Writer

__all__ = ["PostgresReplicas"]

_JOIN = text("""
    INSERT INTO replicas (id, url, started_at, heartbeat_at)
    SELECT :id, :url, now, now FROM extract(epoch FROM clock_timestamp()) AS now
""")
_BEAT = text("""
    UPDATE replicas SET heartbeat_at = extract(epoch FROM clock_timestamp()) WHERE id = :id
    RETURNING (SELECT count(*) FROM replicas)
""")
_BURY = text("""
    DELETE FROM replicas WHERE id <> :id AND heartbeat_at < extract(epoch FROM clock_timestamp()) - :silent_s RETURNING id
""")
_LIVES = text("SELECT 1 FROM replicas WHERE id = :id")
_LEAVE = text("DELETE FROM replicas WHERE id = :id")
_RELEASE = text("UPDATE sessions SET claimed_by = NULL WHERE id = ANY(:ids) AND claimed_by = :id")
# it has not expired
_IS_THERE = """(s.ttl_s IS NULL OR s.updated_at + s.ttl_s > :now
                OR EXISTS (SELECT FROM runs WHERE session_key = s.key AND finished_event_id IS NULL))"""
_CLAIM = text(f"""
    WITH claimed AS (
        UPDATE sessions AS s SET claimed_by = :id
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
    SELECT s.claimed_by, r.url FROM sessions AS s LEFT JOIN replicas AS r ON r.id = s.claimed_by
    WHERE s.id = :session_id AND {_IS_THERE}
""")  # noqa: S608  # ours
_ORPHANS = text("""
    SELECT runs.*, s.id AS session_id FROM runs JOIN sessions AS s ON s.key = runs.session_key
    WHERE runs.finished_at IS NULL
        AND (runs.status <> 'queued' OR runs.started_at < :queued_before AND NOT EXISTS (
            SELECT FROM stepwell_pgqueuer AS j WHERE j.dedupe_key = runs.id AND j.status IN ('queued', 'picked')
        ))
        AND (
            s.claimed_by IS NULL
            OR s.claimed_by = :id AND runs.status = 'queued'
            OR NOT EXISTS (SELECT FROM replicas AS r WHERE r.id = s.claimed_by)
        )
    ORDER BY runs.started_at, runs.id LIMIT :limit
""")


class PostgresReplicas:
    """This process among the replicas of one PostgreSQL."""

    def __init__(self, engine: AsyncEngine, writer: Writer) -> None:
        """`engine` commits each statement by itself; `writer` is told under whose name to write."""
        self._engine = engine
        self._writer = writer
        self.id: str | None = None

    async def join(self, url: str) -> None:
        name = str(uuid_utils.uuid7())
        await self._do(_JOIN, id=name, url=url)
        self.id = self._writer.claimant = name

    async def beat(self) -> Beat:
        found = await self._do(_BEAT, id=self.id)
        return Beat(is_known=bool(found), living=found[0][0] if found else 0)

    async def lives(self, replica_id: str) -> bool:
        return bool(await self._do(_LIVES, id=replica_id))

    async def bury(self, silent_s: float) -> Sequence[str]:
        return [row.id for row in await self._do(_BURY, id=self.id, silent_s=silent_s)]

    async def leave(self) -> None:
        if self.id is not None:
            await self._do(_LEAVE, id=self.id)

    async def release(self, session_ids: Collection[str]) -> None:
        await self._do(_RELEASE, ids=list(session_ids), id=self.id)

    async def claim(self, session_id: str) -> Any:
        """Return the session's row with its newest snapshot, claimed by this replica.

        Raises SessionNotFound, ClaimedElsewhere, and StoreUnavailable also if the others have buried this replica.
        """
        while True:
            claimed = await self._do(_CLAIM, id=self.id, session_id=session_id, now=time.time())
            if claimed:
                return claimed[0]
            found = await self._do(_OWNER, session_id=session_id, now=time.time())
            if not found:
                raise SessionNotFound(session_id)
            if found[0].url is not None and found[0].claimed_by != self.id:
                raise ClaimedElsewhere(session_id, found[0].claimed_by, found[0].url)
            if not (await self.beat()).is_known:
                raise StoreUnavailable("this replica was taken for dead and has to join again")

    async def orphans(self, *, queued_before_s: float, limit: int) -> Sequence[RunRecord]:
        rows = await self._do(_ORPHANS, id=self.id, queued_before=queued_before_s, limit=limit)
        return [run_record(row) for row in rows]

    async def _do(self, statement: Any, **values: Any) -> Sequence[Any]:
        async with available():
            return await answer(self._engine, statement, values)
