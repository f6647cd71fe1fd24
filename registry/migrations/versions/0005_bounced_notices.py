"""Notices that come back after their channel had taken them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notices", sa.Column("bounced_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("notices", "bounced_at")
