"""A replica whose event loop does not turn says so: it lives, and cannot answer."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replicas", sa.Column("late_since", sa.Double))
