"""Cases that officers hold wait for a resumption, also those that were held before that was put on record."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        insert into waits (case_no, what, since, raised)
        select distinct on (held.case_no) held.case_no, 'resumption', held.at, 0
        from audit_trail held join cases on cases.case_no = held.case_no and cases.closed_at is null
        where held.step like 'hold-%' and not exists (
            select from audit_trail resumed
            where resumed.case_no = held.case_no
                and resumed.step like 'resume-%' and resumed.serial > held.serial
        )
        order by held.case_no, held.serial desc
        on conflict do nothing
    """)


def downgrade() -> None:
    op.execute("delete from waits where what = 'resumption'")
