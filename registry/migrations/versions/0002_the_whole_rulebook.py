"""Fraud, service failure and serious circumstances: suspended accounts, frozen numbers, holders, filings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _status(column: str, name: str, *words: str) -> None:
    table = {"accountstatus": "accounts", "numberstatus": "numbers"}[name]
    listed = ", ".join(f"'{word}'" for word in words)
    op.execute(f"alter table {table} drop constraint ck_{table}_{name}")
    op.execute(f"alter table {table} add constraint ck_{table}_{name} check ({column} in ({listed}))")


def _moves(table: str, *moves: str) -> None:
    allowed = ", ".join(f"'{move}'" for move in moves)
    op.execute(f"drop trigger if exists legal_moves on {table}")
    op.execute(
        f"create trigger legal_moves before update of status on {table} "
        f"for each row execute function refuse_illegal_move({allowed})"
    )


def upgrade() -> None:
    _status("status", "accountstatus", "open", "suspended", "shut-down", "closed")
    _status("status", "numberstatus", "active", "frozen", "quarantined", "free")
    op.add_column("agents", sa.Column("disqualified_at", sa.DateTime(timezone=True)))
    for column in ("suspended_by", "closed_by"):
        op.add_column("accounts", sa.Column(column, sa.Text()))
        op.create_foreign_key(f"fk_accounts_{column}", "accounts", "cases", [column], ["case_no"])
    op.add_column("numbers", sa.Column("holder", sa.String(40), nullable=False, server_default="agent"))
    op.add_column("numbers", sa.Column("customer_email", sa.Text(), nullable=False, server_default=""))
    next_year = sa.text("current_date + 365")
    op.add_column("numbers", sa.Column("renewal_due", sa.Date(), nullable=False, server_default=next_year))
    op.execute("update numbers set holder = 'platform' where status = 'quarantined'")
    for column in ("holder", "customer_email", "renewal_due"):
        op.alter_column("numbers", column, server_default=None)
    op.add_column("numbers", sa.Column("frozen_by", sa.Text()))
    op.create_foreign_key("fk_numbers_frozen_by", "numbers", "cases", ["frozen_by"], ["case_no"])
    op.create_check_constraint(
        op.f("ck_numbers_holder"), "numbers", "holder in ('agent', 'platform', 'nobody')"
    )
    op.create_check_constraint(
        op.f("ck_numbers_frozen_by_a_case"), "numbers", "(status = 'frozen') = (frozen_by is not null)"
    )
    op.create_check_constraint(
        op.f("ck_numbers_one_holder"),
        "numbers",
        "case status when 'quarantined' then holder = 'platform' when 'free' then holder = 'nobody' "
        "else holder <> 'nobody' end",
    )
    op.create_table(
        "filings",
        sa.Column("filing_no", sa.Text(), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("attachment", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status in ('prepared', 'submitted', 'acknowledged', 'refused', 'waived')",
            name=op.f("ck_filings_filingstatus"),
        ),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_filings_case_no")),
        sa.PrimaryKeyConstraint("filing_no", name=op.f("pk_filings")),
        sa.UniqueConstraint("case_no", "recipient", name=op.f("uq_filings_case_no_recipient")),
    )
    _moves(
        "accounts",
        *("open>suspended", "suspended>open", "open>shut-down", "suspended>shut-down"),
        *("suspended>closed", "shut-down>closed"),
    )
    _moves(
        "numbers",
        *("active>frozen", "frozen>active", "active>quarantined", "frozen>quarantined", "quarantined>free"),
    )
    _moves(
        "filings",
        *("prepared>submitted", "submitted>acknowledged", "submitted>refused", "refused>submitted"),
        *("prepared>waived", "submitted>waived", "refused>waived"),
    )


def downgrade() -> None:
    op.drop_table("filings")
    for constraint in ("one_holder", "frozen_by_a_case", "holder"):
        op.drop_constraint(op.f(f"ck_numbers_{constraint}"), "numbers")
    for column in ("frozen_by", "renewal_due", "customer_email", "holder"):
        op.drop_column("numbers", column)
    for column in ("suspended_by", "closed_by"):
        op.drop_column("accounts", column)
    op.drop_column("agents", "disqualified_at")
    _moves("accounts", "open>shut-down")
    _moves("numbers", "active>quarantined")
    _status("status", "accountstatus", "open", "shut-down")
    _status("status", "numberstatus", "active", "quarantined")
