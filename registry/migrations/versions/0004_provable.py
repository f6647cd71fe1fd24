"""A record that proves itself: the lines of the audit trail are counted and chained by their hashes."""

import json
from decimal import Decimal

import sqlalchemy as sa
from alembic import op

from registry.audit import UTC_INSTANT, hashed

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_LINES = f"""
select id, case_no, step, to_char(at at time zone 'UTC', '{UTC_INSTANT}') as at, actor, text,
    result::text as result, to_char(recorded_at at time zone 'UTC', '{UTC_INSTANT}') as recorded_at
from audit_trail order by case_no, id
"""
_CHAIN = """
update audit_trail set serial = chained.serial, hash = chained.hash
from unnest(cast(:ids as int[]), cast(:serials as int[]), cast(:hashes as text[]))
    as chained (id, serial, hash)
where audit_trail.id = chained.id
"""
_COUNT = """
update cases set lines = counted.lines
from (select case_no, count(*) as lines from audit_trail group by case_no) as counted
where cases.case_no = counted.case_no
"""
_AT_ONCE = 1000  # lines


def upgrade() -> None:
    op.add_column("cases", sa.Column("lines", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("audit_trail", sa.Column("serial", sa.Integer()))
    op.add_column("audit_trail", sa.Column("hash", sa.Text()))
    op.execute("alter table audit_trail disable trigger only_added")
    _chain()
    op.execute("alter table audit_trail enable trigger only_added")
    op.execute(_COUNT)
    op.alter_column("audit_trail", "serial", nullable=False)
    op.alter_column("audit_trail", "hash", nullable=False)
    op.create_check_constraint(op.f("ck_cases_lines"), "cases", "lines >= 0")
    op.create_check_constraint(op.f("ck_audit_trail_serial"), "audit_trail", "serial >= 1")
    op.create_check_constraint(op.f("ck_audit_trail_hash"), "audit_trail", "length(hash) = 64")
    op.create_unique_constraint(
        op.f("uq_audit_trail_case_no_serial"),
        "audit_trail",
        ["case_no", "serial"],
        postgresql_nulls_not_distinct=True,
    )


def _chain() -> None:
    """Chain the lines that are on record, in the order in which they came."""
    connection = op.get_bind()
    case_no, serial, last = None, 0, ""
    found = connection.execute(sa.text(_LINES), execution_options={"yield_per": _AT_ONCE})
    for lines in found.mappings().partitions():
        ids, serials, hashes = [], [], []
        for line in lines:
            if line["case_no"] != case_no:
                case_no, serial, last = line["case_no"], 0, ""
            serial += 1
            says = dict(line) | {
                "serial": serial,
                "result": json.loads(line["result"], parse_float=Decimal, parse_int=Decimal),
            }
            ids.append(says.pop("id"))
            last = hashed(says, last)
            serials.append(serial)
            hashes.append(last)
        connection.execute(sa.text(_CHAIN), {"ids": ids, "serials": serials, "hashes": hashes})


def downgrade() -> None:
    op.drop_constraint("uq_audit_trail_case_no_serial", "audit_trail")
    op.drop_column("audit_trail", "hash")
    op.drop_column("audit_trail", "serial")
    op.drop_column("cases", "lines")
