"""Fairness: what each case holds, appeals and their evidence, clocks that stop, refunds, officers' waits."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What cases hold, from the steps that are on record. A case that was dismissed holds nothing any more, nor
# does one whose account was reopened or number unfrozen since.
_HOLDS = """
with step as (
    select audit_trail.*, cases.agent_id, cases.number, cases.outcome
    from audit_trail join cases using (case_no)
), placed as (
    select id, case_no, step, 'suspension' as kind, agent_id, null as number, null::date as until, at, outcome
    from step where step = 'account-suspend'
    union all select id, case_no, step, 'shutdown', agent_id, null, null, at, outcome
    from step where step = 'account-shutdown'
    union all select id, case_no, step, 'closure', agent_id, null, null, at, outcome
    from step where step like 'serious-%-close'
    union all select id, case_no, step, 'freeze', agent_id, number, null, at, outcome
    from step where step = 'freeze'
    union all select id, case_no, step, 'take-back', agent_id, number, null, at, outcome
    from step where step = 'take-back' and (result ->> 'direct')::boolean
    union all select id, case_no, step, 'reclaim', agent_id, taken.number,
        (result ->> 'quarantined_until')::date, at, outcome
    from step cross join jsonb_array_elements_text(result -> 'numbers') as taken(number)
    where step = 'reclaim' or step like 'serious-%-reclaim'
)
insert into holds (case_no, step, kind, agent_id, number, quarantined_until, since, lifted_at, lifted_by)
select placed.case_no, placed.step, placed.kind, placed.agent_id, placed.number, placed.until, placed.at,
    lifted.at, lifted.case_no
from placed left join lateral (
    select step.at, step.case_no from step
    where step.agent_id = placed.agent_id and step.id > placed.id and (
        placed.outcome = 'dismissed' and step.case_no = placed.case_no and step.step = 'close'
        or placed.kind = 'suspension' and (step.step like 'reopen-%' or step.step = 'account-reopen')
            and step.result ->> 'already_by' is null
        or placed.kind = 'freeze' and (step.step like 'unfreeze-%' or step.step = 'unfreeze')
            and step.number = placed.number
        or placed.number is not null and step.step like 'quarantine-' || placed.number || '-%'
    )
    order by step.id limit 1
) as lifted on true
order by placed.id
"""


def _status(table: str, name: str, *words: str) -> None:
    listed = ", ".join(f"'{word}'" for word in words)
    op.execute(f"alter table {table} drop constraint ck_{table}_{name}")
    op.execute(f"alter table {table} add constraint ck_{table}_{name} check (status in ({listed}))")


def _moves(table: str, *moves: str) -> None:
    allowed = ", ".join(f"'{move}'" for move in moves)
    op.execute(f"drop trigger if exists legal_moves on {table}")
    op.execute(
        f"create trigger legal_moves before update of status on {table} "
        f"for each row execute function refuse_illegal_move({allowed})"
    )


_ACCOUNTS = (
    *("open>suspended", "suspended>open", "open>shut-down", "suspended>shut-down"),
    *("suspended>closed", "shut-down>closed"),
)
_NUMBERS = ("active>frozen", "frozen>active", "active>quarantined", "frozen>quarantined", "quarantined>free")
_FILINGS = (
    *("prepared>submitted", "submitted>acknowledged", "submitted>refused", "refused>submitted"),
    *("prepared>waived", "submitted>waived", "refused>waived"),
)
_FILING_STATUSES = ("prepared", "submitted", "acknowledged", "refused", "waived")


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("quarantined_until", sa.Date(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind in ('suspension', 'shutdown', 'closure', 'freeze', 'take-back', 'reclaim')",
            name=op.f("ck_holds_hold"),
        ),
        sa.CheckConstraint(
            "(kind = 'reclaim') = (quarantined_until is not null)",
            name=op.f("ck_holds_quarantine_has_an_end"),
        ),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_holds_case_no")),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name=op.f("fk_holds_agent_id")),
        sa.ForeignKeyConstraint(["number"], ["numbers.number"], name=op.f("fk_holds_number")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        sa.UniqueConstraint(
            *("case_no", "step", "kind", "number"),
            name=op.f("uq_holds_case_no_step_kind_number"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index("ix_holds_standing", "holds", ["agent_id"], postgresql_where=sa.text("lifted_at is null"))
    op.execute(_HOLDS)
    op.create_table(
        "evidence",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_evidence_sha256")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_evidence")),
    )
    op.create_table(
        "appeals",
        sa.Column("appeal_no", sa.Text(), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("filed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("filed_by", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("upheld", sa.Boolean(), nullable=True),
        sa.Column("reasons", sa.Text(), nullable=True),
        sa.CheckConstraint("(decided_at is null) = (upheld is null)", name=op.f("ck_appeals_decided")),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_appeals_case_no")),
        sa.PrimaryKeyConstraint("appeal_no", name=op.f("pk_appeals")),
    )
    op.create_index(
        "uq_appeals_pending",
        "appeals",
        ["case_no"],
        unique=True,
        postgresql_where=sa.text("decided_at is null"),
    )
    op.create_table(
        "waits",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("raised", sa.Integer(), nullable=False),
        sa.Column("raised_on", sa.Date(), nullable=True),
        sa.Column("escalated_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(["case_no"], ["cases.case_no"], name=op.f("fk_waits_case_no")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waits")),
    )
    op.create_index(
        "uq_waits_unended",
        "waits",
        ["case_no", "what"],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
    )
    for column in ("counted_from", "stopped_at"):
        op.add_column("notices", sa.Column(column, sa.DateTime(timezone=True)))
    op.execute("update notices set counted_from = served_at where working_days is not null")
    for column in ("refund_due_at", "refunded_at"):
        op.add_column("payments", sa.Column(column, sa.DateTime(timezone=True)))
    op.add_column("payments", sa.Column("refund_reference", sa.Text()))
    op.add_column("filings", sa.Column("withdrawal", sa.Text()))
    _status("filings", "filingstatus", *_FILING_STATUSES, "withdrawing", "withdrawn")
    _moves(
        "filings",
        *_FILINGS,
        *("prepared>withdrawn", "refused>withdrawn", "submitted>withdrawing", "acknowledged>withdrawing"),
        "withdrawing>withdrawn",
    )
    _moves(
        "accounts",
        *_ACCOUNTS,
        *("shut-down>suspended", "shut-down>open", "closed>shut-down", "closed>suspended", "closed>open"),
    )
    _moves("numbers", *_NUMBERS, "quarantined>active", "quarantined>frozen")


def downgrade() -> None:
    _moves("numbers", *_NUMBERS)
    _moves("accounts", *_ACCOUNTS)
    _moves("filings", *_FILINGS)
    _status("filings", "filingstatus", *_FILING_STATUSES)
    op.drop_column("filings", "withdrawal")
    for column in ("refund_reference", "refunded_at", "refund_due_at"):
        op.drop_column("payments", column)
    for column in ("stopped_at", "counted_from"):
        op.drop_column("notices", column)
    for table in ("waits", "appeals", "evidence", "holds"):
        op.drop_table(table)
