"""The schema, as SQLAlchemy Core tables. `migrations/` creates it; a test compares the two. Rows never leave this package.

Everything that belongs to a session points to `sessions.key`, a number: it is small in the many rows of `steps`, never used
twice, and grows with time, so that "newest first" is its order. There are no foreign keys: every step would pay for checking
one, and the only writer of these rows holds the lock of the session's row.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = [
    "ACCEPTED",
    "HEAD_REVISION",
    "METADATA",
    "failures",
    "keys",
    "labels",
    "replicas",
    "runs",
    "schedules",
    "sessions",
    "snapshots",
    "steps",
]

HEAD_REVISION = "0010"

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives a rowid only to INTEGER
_KEY = BigInteger().with_variant(Integer(), "sqlite")

sessions = Table(
    "sessions",
    METADATA,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("machine", Text, nullable=False),
    Column("machine_version", Text, nullable=False),
    Column("partition_key", Text),
    Column("metadata", LargeBinary, nullable=False),  # packed JSON; what a list filters by is in `labels`
    Column("status", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("prior_action", Text),
    Column("next_action", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("parent_session_id", Text),
    Column("parent_seq", BigInteger),
    Column("last_event_id", BigInteger, nullable=False),
    Column("base_seq", BigInteger, nullable=False),  # the oldest seq of which the state is known
    Column("snapshot_seq", BigInteger, nullable=False),  # the newest snapshot
    Column("log_bytes", BigInteger, nullable=False),  # what was logged since then
    Column("snapshot_at", BigInteger, nullable=False),  # the log_bytes at which a new one is considered
    Column("claimed_by", Text),  # the replica that has the session in memory; means nothing once that is not in `replicas`
    Column("claim_no", BigInteger, nullable=False, server_default=text("0")),  # one more with every claim
    Column("ttl_s", Double),  # expires so long after updated_at
    Column("expires_at", Double),  # when to look whether it has: not later than that
    Column("trimmed_event_id", BigInteger, nullable=False, server_default=text("0")),  # nothing is known up to there
    Index(
        "ix_sessions_expiring",
        "expires_at",
        postgresql_where=text("expires_at IS NOT NULL"),
        sqlite_where=text("expires_at IS NOT NULL"),
    ),
    Index(None, "machine", "key"),
    Index(None, "partition_key", "key"),
    Index(None, "status", "key"),
    sqlite_autoincrement=True,
    postgresql_with={"fillfactor": 80},  # room beside a row for its next version: no index is touched by a step
)

labels = Table(
    "labels",
    METADATA,
    Column("label", LargeBinary, nullable=False),  # digest of one name and value of a session's metadata
    Column("session_key", BigInteger, nullable=False),
    PrimaryKeyConstraint("label", "session_key"),
    Index(None, "session_key"),
    sqlite_with_rowid=False,
)

steps = Table(
    "steps",
    METADATA,
    Column("session_key", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("run_id", Text),
    Column("ended_run", LargeBinary),  # instead of run_id: the run that ended with this step, and is stored in its payload
    Column("action", Text, nullable=False),
    Column("next_action", Text),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double, nullable=False),
    Column("first_event_id", BigInteger, nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    # not a primary key: SQLite then appends rows and keeps only this index in order
    UniqueConstraint("session_key", "seq"),
    Index(
        "ix_steps_ended_run",
        "ended_run",
        postgresql_where=text("ended_run IS NOT NULL"),
        sqlite_where=text("ended_run IS NOT NULL"),
    ),
    Index(
        "ix_steps_ending_runs",
        "session_key",
        "event_id",
        postgresql_where=text("ended_run IS NOT NULL"),
        sqlite_where=text("ended_run IS NOT NULL"),
    ),
)

snapshots = Table(
    "snapshots",
    METADATA,
    Column("session_key", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
    UniqueConstraint("session_key", "seq"),
)

failures = Table(
    "failures",
    METADATA,
    Column("session_key", BigInteger, nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("first_event_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("run_id", Text),
    Column("action", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double, nullable=False),
    Column("error", LargeBinary, nullable=False),  # packed [type, message, traceback]: may hold any character
    UniqueConstraint("session_key", "event_id"),
)

runs = Table(
    "runs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("session_key", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("parameters", LargeBinary, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("steps", BigInteger, nullable=False),
    Column("reason", Text),
    Column("error", LargeBinary),
    Column("started_event_id", BigInteger, nullable=False),
    Column("finished_event_id", BigInteger),
    Column("attempts", BigInteger, nullable=False, server_default=text("0")),  # to go on with it after its replica died
    Column("webhook", LargeBinary),  # packed; whom to tell of its end
    Column("webhook_at", Double),  # when to try, once it has ended; null when that is over
    Column("accepted_no", BigInteger),  # of a run that waits, or has waited: a session's begin in this order; null comes first
    Column("delivery", LargeBinary),  # packed; what came of the attempts so far
    Index(
        "ix_runs_undelivered",
        "webhook_at",
        postgresql_where=text("webhook_at IS NOT NULL AND finished_at IS NOT NULL"),
        sqlite_where=text("webhook_at IS NOT NULL AND finished_at IS NOT NULL"),
    ),
    Index(None, "session_key", "finished_event_id"),
    Index(
        "ix_runs_unfinished",
        "started_at",
        postgresql_where=text("finished_at IS NULL"),
        sqlite_where=text("finished_at IS NULL"),
    ),
    Index(
        "ix_runs_running",
        "session_key",
        postgresql_where=text("status = 'running'"),
        sqlite_where=text("status = 'running'"),
    ),
)

ACCEPTED = Sequence("runs_accepted", metadata=METADATA)  # PostgreSQL only: SQLite has one writer, who counts

replicas = Table(
    "replicas",
    METADATA,
    Column("id", Text, primary_key=True),  # of one process: it gets a new one when it was taken for dead
    Column("url", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("heartbeat_at", Double, nullable=False),  # by the database's clock
    Column("ids_ahead_s", Double),  # of that clock, since it was set back
    Column("late_since", Double),  # the same: since when its event loop has not turned, if that is long
)

keys = Table(
    "keys",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),  # of the route and the Idempotency-Key
    Column("request", LargeBinary, nullable=False),  # digest of what was asked for
    Column("session_key", BigInteger, nullable=False),
    Column("run_id", Text),  # the answer is what this run gave
    Column("answer", LargeBinary),  # or this, packed
    Column("created_at", Double, nullable=False),
    Index(None, "session_key"),
    Index(None, "created_at"),
)

schedules = Table(
    "schedules",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("session_id", Text),  # of the session that the runs are for; or
    Column("machine", Text),  # of the new session that each run gets
    Column("plan", LargeBinary, nullable=False),  # packed; when, and what is to run
    Column("is_paused", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double),  # null while it is paused, and when nothing is to come any more
    Column("last_at", Double),
    Column("last_run_id", Text),
    Column("last_error", LargeBinary),  # packed; why the last time there was no run
    Index(
        "ix_schedules_due",
        "next_at",
        postgresql_where=text("next_at IS NOT NULL"),
        sqlite_where=text("next_at IS NOT NULL"),
    ),
)
