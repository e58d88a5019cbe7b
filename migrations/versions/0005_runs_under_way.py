"""Runs that are under way, by session: lists of those that run, and the search for those whose replica died."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    running = sa.text("status = 'running'")
    op.create_index("ix_runs_running", "runs", ["session_key"], postgresql_where=running, sqlite_where=running)
