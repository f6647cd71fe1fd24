"""The day on which the bank had a payment, where it is known.

Of payments from before it isn't: they count as had on the day on which they were recorded.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("had_on", sa.Date(), nullable=True))


def downgrade() -> None:
    op.drop_column("payments", "had_on")
