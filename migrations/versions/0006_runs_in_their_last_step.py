"""Runs that have finished with a step are stored in it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ENDS_A_RUN = sa.text("ended_run IS NOT NULL")


def upgrade() -> None:
    op.add_column("steps", sa.Column("ended_run", sa.LargeBinary))
    for name, columns in (("ix_steps_ended_run", ["ended_run"]), ("ix_steps_ending_runs", ["session_key", "event_id"])):
        op.create_index(name, "steps", columns, postgresql_where=_ENDS_A_RUN, sqlite_where=_ENDS_A_RUN)
