"""Claims are numbered: what was handed in under an older one is refused, whenever it arrives."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("claim_no", sa.BigInteger, nullable=False, server_default=sa.text("0")))
