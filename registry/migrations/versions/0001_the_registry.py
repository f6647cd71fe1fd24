"""The registry: agents and numbers, cases with all that belongs to them, and the audit trail."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


LEGAL_MOVES = {
    "accounts": ["open>shut-down"],
    "numbers": ["active>quarantined"],
    "fines": ["due>settled", "due>void", "settled>void"],
}
REFUSE_ILLEGAL_MOVE = """
create function refuse_illegal_move() returns trigger language plpgsql as $$
begin
    if old.status <> new.status and not (old.status || '>' || new.status) = any (tg_argv) then
        raise exception '%: a status may not go from % to %', tg_table_name, old.status, new.status
            using errcode = 'check_violation';
    end if;
    return new;
end $$
"""
REFUSE_CHANGE = """
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '%: lines are only ever added', tg_table_name using errcode = 'check_violation';
end $$
"""


def upgrade() -> None:
    op.execute(REFUSE_ILLEGAL_MOVE)
    op.execute(REFUSE_CHANGE)
    op.execute("create sequence case_numbers")
    op.create_table(
        "agents",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("contact", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_agents")),
    )
    op.create_table(
        "calendar_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("closing", sa.Boolean(), nullable=False),
        sa.Column("works", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("not (closing and works)", name=op.f("ck_calendar_days_closing_days_are_off")),
        sa.PrimaryKeyConstraint("day", "closing", name=op.f("pk_calendar_days")),
    )
    op.create_table(
        "numbers",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "active",
                "quarantined",
                name="numberstatus",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("quarantined_until", sa.Date(), nullable=True),
        sa.Column("reclaimed_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(status = 'quarantined') = (quarantined_until is not null)",
            name=op.f("ck_numbers_quarantine_has_an_end"),
        ),
        sa.CheckConstraint("number ~ '^400[0-9]{7}$'", name=op.f("ck_numbers_ten_digits")),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name=op.f("fk_numbers_agent_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_numbers")),
    )
    op.create_index("ix_numbers_agent_id", "numbers", ["agent_id"], unique=False)
    op.create_table(
        "cases",
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column(
            "kind", sa.Enum("secondary-sale", name="kind", native_enum=False, length=40), nullable=False
        ),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("policy", sa.Date(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "opening",
                "rectification",
                "punishment",
                "payment",
                "shutdown",
                "rectified",
                "settled",
                "shut-down",
                "dismissed",
                "already-handled",
                name="stage",
                native_enum=False,
                length=40,
            ),
            nullable=True,
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(closed_at is null) = (outcome is null)", name=op.f("ck_cases_closed_with_an_outcome")
        ),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name=op.f("fk_cases_agent_id")),
        sa.ForeignKeyConstraint(["number"], ["numbers.number"], name=op.f("fk_cases_number")),
        sa.PrimaryKeyConstraint("case_no", name=op.f("pk_cases")),
    )
    op.create_index("ix_cases_agent_id", "cases", ["agent_id"], unique=False)
    op.create_index(
        "uq_cases_open",
        "cases",
        ["number", "kind"],
        unique=True,
        postgresql_where=sa.text("closed_at is null"),
    )
    op.create_table(
        "accounts",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "open",
                "shut-down",
                name="accountstatus",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("shut_down_by", sa.Text(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name=op.f("fk_accounts_agent_id")),
        sa.ForeignKeyConstraint(["shut_down_by"], ["cases.case_no"], name=op.f("fk_accounts_shut_down_by")),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "audit_trail",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=True),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_audit_trail_case_no")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_trail")),
        sa.UniqueConstraint("case_no", "step", name=op.f("uq_audit_trail_case_no_step")),
    )
    op.create_index("ix_audit_trail_at", "audit_trail", ["at"], unique=False)
    op.create_table(
        "fines",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column(
            "kind", sa.Enum("secondary-sale", name="kind", native_enum=False, length=40), nullable=False
        ),
        sa.Column("offence", sa.Integer(), nullable=False),
        sa.Column("amount", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "due",
                "settled",
                "void",
                name="finestatus",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_fines_amount")),
        sa.CheckConstraint("offence >= 1", name=op.f("ck_fines_offence")),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name=op.f("fk_fines_agent_id")),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_fines_case_no")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fines")),
        sa.UniqueConstraint("case_no", "step", name=op.f("uq_fines_case_no_step")),
    )
    op.create_index("ix_fines_agent_id", "fines", ["agent_id"], unique=False)
    op.create_table(
        "notices",
        sa.Column("notice_no", sa.Text(), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "rectification-order",
                "punishment",
                "shutdown",
                "closing",
                name="noticekind",
                native_enum=False,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("drafted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("served_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("working_days", sa.Integer(), nullable=True),
        sa.Column("last_day", sa.Date(), nullable=True),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "(working_days is null) = (last_day is null)", name=op.f("ck_notices_limit_has_a_deadline")
        ),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_notices_sha256")),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_notices_case_no")),
        sa.PrimaryKeyConstraint("notice_no", name=op.f("pk_notices")),
        sa.UniqueConstraint("case_no", "step", name=op.f("uq_notices_case_no_step")),
    )
    op.create_table(
        "payments",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column("amount", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payments_amount")),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_payments_case_no")),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_payments")),
    )
    op.create_index("ix_payments_case_no", "payments", ["case_no"], unique=False)
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_reports_case_no")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
        sa.UniqueConstraint("source", "report_id", name=op.f("uq_reports_source_report_id")),
    )
    op.create_index("ix_reports_case_no", "reports", ["case_no"], unique=False)
    op.create_foreign_key("fk_numbers_reclaimed_by", "numbers", "cases", ["reclaimed_by"], ["case_no"])
    for table, moves in LEGAL_MOVES.items():
        allowed = ", ".join(f"'{move}'" for move in moves)
        op.execute(
            f"create trigger legal_moves before update of status on {table} "
            f"for each row execute function refuse_illegal_move({allowed})"
        )
    op.execute(
        "create trigger only_added before update or delete on audit_trail "
        "for each row execute function refuse_change()"
    )
    op.execute("create trigger never_emptied before truncate on audit_trail execute function refuse_change()")


def downgrade() -> None:
    op.drop_constraint("fk_numbers_reclaimed_by", "numbers")
    op.drop_index("ix_reports_case_no", table_name="reports")
    op.drop_table("reports")
    op.drop_index("ix_payments_case_no", table_name="payments")
    op.drop_table("payments")
    op.drop_table("notices")
    op.drop_index("ix_fines_agent_id", table_name="fines")
    op.drop_table("fines")
    op.drop_index("ix_audit_trail_at", table_name="audit_trail")
    op.drop_table("audit_trail")
    op.drop_table("accounts")
    op.drop_index("uq_cases_open", table_name="cases", postgresql_where=sa.text("closed_at is null"))
    op.drop_index("ix_cases_agent_id", table_name="cases")
    op.drop_table("cases")
    op.drop_index("ix_numbers_agent_id", table_name="numbers")
    op.drop_table("numbers")
    op.drop_table("calendar_days")
    op.drop_table("agents")
    op.execute("drop function refuse_illegal_move")
    op.execute("drop function refuse_change")
    op.execute("drop sequence case_numbers")
