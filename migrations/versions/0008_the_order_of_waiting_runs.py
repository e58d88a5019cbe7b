"""Runs that wait are numbered when they are accepted: per session they begin in that order."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # null for runs of before: they were accepted earlier than any that has a number
    op.add_column("runs", sa.Column("accepted_no", sa.BigInteger))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE runs_accepted")
