"""The queue that dispatches background runs, how far each webhook has got, and schedules."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("delivery", sa.LargeBinary))
    # a webhook is due from the start on; it is looked for once its run has ended
    op.execute("UPDATE runs SET webhook_at = started_at WHERE webhook IS NOT NULL AND webhook_at IS NULL")
    op.drop_index("ix_runs_undelivered", "runs")
    undelivered = sa.text("webhook_at IS NOT NULL AND finished_at IS NOT NULL")
    op.create_index("ix_runs_undelivered", "runs", ["webhook_at"], postgresql_where=undelivered, sqlite_where=undelivered)
    op.create_table(
        "schedules",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text),
        sa.Column("machine", sa.Text),
        sa.Column("plan", sa.LargeBinary, nullable=False),
        sa.Column("is_paused", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("next_at", sa.Double),
        sa.Column("last_at", sa.Double),
        sa.Column("last_run_id", sa.Text),
        sa.Column("last_error", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
    )
    due = sa.text("next_at IS NOT NULL")
    op.create_index("ix_schedules_due", "schedules", ["next_at"], postgresql_where=due, sqlite_where=due)
    if op.get_context().dialect.name == "postgresql":
        _install_pgqueuer()


def _install_pgqueuer() -> None:
    """Create what PgQueuer works with, by its own statements: what is in there is its affair."""
    from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment

    from app.persistence.postgres_jobs import QUEUE_NAMES

    script = QueryBuilderEnvironment(QUEUE_NAMES).build_install_query(create_schema=False)
    # several statements at once: the driver takes them, within the transaction that is open, where SQLAlchemy does not
    op.get_bind().connection.dbapi_connection.run_async(lambda connection: connection.execute(script))
