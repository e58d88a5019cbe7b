"""Sessions that expire after a time without activity, and how far their history was trimmed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("ttl_s", sa.Double))
    op.add_column("sessions", sa.Column("trimmed_event_id", sa.BigInteger, nullable=False, server_default=sa.text("0")))
