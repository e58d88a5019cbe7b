"""Jobs of PgQueuer for runs that wait: their tables' names, and the SQL that is ours. Slow to import: only PostgreSQL needs it.

The job of a run that waits is stored in the transaction that stores the run. Its entrypoint says who may take it: anybody, or
the replica that has the session.
"""

from datetime import timedelta

from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from pgqueuer.domain.settings import DBSettings, Durability
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from sqlalchemy import Connection, text

__all__ = ["ANYBODY", "QUEUE_NAMES", "RETARGET", "SEND_BACK", "TRIM_LOG", "enqueue", "entrypoint_of"]

ANYBODY = "run"
_OWNER = "run@"


class _Names(DBSettings):
    """PgQueuer reads its names from the environment, too: those of a database must not depend on that."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the others are not looked at
        cls, _class: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_others: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


# its log need not survive a crash of the server, its jobs do
QUEUE_NAMES = _Names(prefix="stepwell_", durability=Durability.balanced)

_ENQUEUE = QueryQueueBuilder(QUEUE_NAMES).build_enqueue_query("raise")
_TARGET = text("""
    SELECT r.id FROM sessions AS s JOIN replicas AS r ON r.id = s.claimed_by WHERE s.id = :session_id
""")
RETARGET = f"UPDATE {QUEUE_NAMES.queue_table} SET entrypoint = $2 WHERE id = $1"  # noqa: S608  # our own names
# a longer entrypoint sorts after a shorter one that it begins with: PgQueuer's partial indexes lead past the backlog
SEND_BACK = f"""
    UPDATE {QUEUE_NAMES.queue_table} AS j SET entrypoint = '{ANYBODY}'
    FROM (
        SELECT id FROM {QUEUE_NAMES.queue_table} WHERE status = 'queued' AND entrypoint > '{ANYBODY}'
        UNION ALL
        SELECT id FROM {QUEUE_NAMES.queue_table} WHERE status = 'picked' AND entrypoint > '{ANYBODY}'
    ) AS owned
    WHERE j.id = owned.id
        AND (j.entrypoint = :leaving OR NOT EXISTS (SELECT FROM replicas AS r WHERE j.entrypoint = '{_OWNER}' || r.id))
"""  # noqa: S608
TRIM_LOG = f"DELETE FROM {QUEUE_NAMES.queue_table_log} WHERE created < now() - make_interval(secs => :age_s)"  # noqa: S608


def entrypoint_of(replica_id: str | None) -> str:
    """Return the entrypoint of the jobs that only this replica takes, or that anybody takes."""
    return ANYBODY if replica_id is None else f"{_OWNER}{replica_id}"


def enqueue(connection: Connection, session_id: str, run_id: str) -> None:
    """Store the job of a run in the transaction that is open: for the replica that has the session, if one has it."""
    owner = connection.execute(_TARGET, {"session_id": session_id}).scalar_one_or_none()
    values = ([0], [entrypoint_of(owner)], [run_id.encode()], [timedelta(0)], [run_id], [None])
    connection.exec_driver_sql(_ENQUEUE, values)
