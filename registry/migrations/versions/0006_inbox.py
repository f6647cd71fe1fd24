"""The inbox of the monitor, and how far its files have been read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NOW = sa.text("clock_timestamp()")


def _instant(name: str, **kwargs: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), **kwargs)  # type: ignore[arg-type]


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("via", sa.Text(), nullable=False, server_default="sql"),
        _instant("received_at", nullable=False, server_default=_NOW),
        sa.Column("status", sa.String(40), nullable=False, server_default="waiting"),
        sa.Column("reason", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        _instant("try_at", nullable=False, server_default=_NOW),
        _instant("settled_at"),
        sa.Column("settled_by", sa.Text()),
        sa.Column("workflow_id", sa.Text()),
        sa.CheckConstraint(
            "status in ('waiting', 'handed', 'refused', 'parked', 'discarded')",
            name=op.f("ck_inbox_incomingstatus"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("source", "report_id", name=op.f("uq_inbox_source_report_id")),
    )
    op.create_index("ix_inbox_waiting", "inbox", ["id"], postgresql_where=sa.text("status = 'waiting'"))
    op.create_index("ix_inbox_settled_at", "inbox", ["settled_at"])
    op.execute(
        "create function wake_monitors() returns trigger language plpgsql as "
        "$$ begin notify inbox; return null; end $$"
    )
    op.execute(
        "create trigger wakes after insert on inbox for each statement execute function wake_monitors()"
    )
    op.create_table(
        "feeds",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        _instant("read_at", nullable=False),
        sa.PrimaryKeyConstraint("path", "identity", name=op.f("pk_feeds")),
    )


def downgrade() -> None:
    op.drop_table("feeds")
    op.drop_table("inbox")
    op.execute("drop function wake_monitors()")
