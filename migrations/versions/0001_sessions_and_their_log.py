"""Sessions, the log of their steps, snapshots, failures and runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("key", BIG().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("machine_version", sa.Text, nullable=False),
        sa.Column("partition_key", sa.Text),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("prior_action", sa.Text),
        sa.Column("next_action", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("parent_session_id", sa.Text),
        sa.Column("parent_seq", BIG),
        sa.Column("last_event_id", BIG, nullable=False),
        sa.Column("base_seq", BIG, nullable=False),
        sa.Column("snapshot_seq", BIG, nullable=False),
        sa.Column("log_bytes", BIG, nullable=False),
        sa.Column("snapshot_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_sessions"),
        sa.UniqueConstraint("id", name="uq_sessions_id"),
        sqlite_autoincrement=True,
        postgresql_with={"fillfactor": 80},
    )
    op.create_index("ix_sessions_machine_key", "sessions", ["machine", "key"])
    op.create_index("ix_sessions_partition_key_key", "sessions", ["partition_key", "key"])
    op.create_index("ix_sessions_status_key", "sessions", ["status", "key"])
    op.create_table(
        "labels",
        sa.Column("label", sa.LargeBinary, nullable=False),
        sa.Column("session_key", BIG, nullable=False),
        sa.PrimaryKeyConstraint("label", "session_key", name="pk_labels"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_labels_session_key", "labels", ["session_key"])
    op.create_table(
        "steps",
        sa.Column("session_key", BIG, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("next_action", sa.Text),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double, nullable=False),
        sa.Column("first_event_id", BIG, nullable=False),
        sa.Column("event_id", BIG, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("session_key", "seq", name="uq_steps_session_key_seq"),
    )
    op.create_table(
        "snapshots",
        sa.Column("session_key", BIG, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("session_key", "seq", name="uq_snapshots_session_key_seq"),
    )
    op.create_table(
        "failures",
        sa.Column("session_key", BIG, nullable=False),
        sa.Column("event_id", BIG, nullable=False),
        sa.Column("first_event_id", BIG, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double, nullable=False),
        sa.Column("error", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("session_key", "event_id", name="uq_failures_session_key_event_id"),
    )
    _create_runs()
    if op.get_context().dialect.name == "postgresql":
        # what is stored is deflated already: do not try again
        for table, column in (("steps", "payload"), ("snapshots", "state")):
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("session_key", BIG, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("parameters", sa.LargeBinary, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("steps", BIG, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("error", sa.LargeBinary),
        sa.Column("started_event_id", BIG, nullable=False),
        sa.Column("finished_event_id", BIG),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_session_key_finished_event_id", "runs", ["session_key", "finished_event_id"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index("ix_runs_unfinished", "runs", ["started_at"], postgresql_where=unfinished, sqlite_where=unfinished)
