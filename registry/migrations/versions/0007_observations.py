"""What the platform's own checks look at: complaints, observed uses, alerts of operators."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _said(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _evidence(table: str, at: str, key: list[str], *columns: "sa.Column[object] | sa.Column[str]") -> None:
    op.create_table(
        table,
        *(_said(name) for name in key),
        _said("number"),
        _instant(at),
        *columns,
        _said("reported_in", nullable=True),
        sa.CheckConstraint("number ~ '^400[0-9]{7}$'", name=op.f(f"ck_{table}_ten_digits")),
        sa.ForeignKeyConstraint(
            ["reported_in"], ["detections.report_id"], name=op.f(f"fk_{table}_reported_in")
        ),
        sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{table}")),
    )
    op.create_index(f"ix_{table}_unreported", table, [at], postgresql_where=sa.text("reported_in is null"))


def upgrade() -> None:
    op.create_table(
        "detections",
        _said("report_id"),
        sa.Column("kind", sa.String(40), nullable=False),
        _said("number"),
        _instant("detected_at"),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_detections")),
    )
    op.create_index("ix_detections_number", "detections", ["number"])
    _evidence(
        "complaints",
        "received_at",
        ["channel", "complaint_id"],
        sa.Column("kind", sa.String(40), nullable=False),
        _said("text"),
        _instant("answered_at", nullable=True),
    )
    _evidence(
        "observed_uses",
        "observed_at",
        ["observation_id"],
        *(_said("user"), _said("how"), _said("customer", nullable=True)),
    )
    _evidence("operator_alerts", "raised_at", ["operator", "alert_id"], _said("text"))


def downgrade() -> None:
    for table in ("operator_alerts", "observed_uses", "complaints", "detections"):
        op.drop_table(table)
