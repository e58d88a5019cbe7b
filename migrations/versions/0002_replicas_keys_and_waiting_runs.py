"""Replicas and what they have claimed; idempotency keys; runs that wait, are recovered, and tell others of their end."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger


def upgrade() -> None:
    op.add_column("sessions", sa.Column("claimed_by", sa.Text))
    op.add_column("sessions", sa.Column("expires_at", sa.Double))
    expiring = sa.text("expires_at IS NOT NULL")
    op.create_index("ix_sessions_expiring", "sessions", ["expires_at"], postgresql_where=expiring, sqlite_where=expiring)
    op.add_column("runs", sa.Column("attempts", BIG, nullable=False, server_default=sa.text("0")))
    op.add_column("runs", sa.Column("webhook", sa.LargeBinary))
    op.add_column("runs", sa.Column("webhook_at", sa.Double))
    undelivered = sa.text("webhook IS NOT NULL AND finished_at IS NOT NULL")
    op.create_index("ix_runs_undelivered", "runs", ["webhook_at"], postgresql_where=undelivered, sqlite_where=undelivered)
    op.create_table(
        "replicas",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("heartbeat_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )
    op.create_table(
        "keys",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("session_key", BIG, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_keys"),
    )
    op.create_index("ix_keys_session_key", "keys", ["session_key"])
    op.create_index("ix_keys_created_at", "keys", ["created_at"])
