"""How far a replica's event ids are ahead of the database's clock, since that was set back."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replicas", sa.Column("ids_ahead_s", sa.Double))
