"""Money that goes back is on record as a payment below zero; what ended cases owe back waits for officers.

What was owed back before waits since the case ended, or since a later payment or review brought it about.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_payments_amount"), "payments")
    op.create_check_constraint(op.f("ck_payments_amount"), "payments", "amount <> 0")
    op.execute("""
        insert into waits (case_no, what, since, raised)
        select cases.case_no, 'refund', greatest(cases.closed_at, paid.at, reviewed.at), 0
        from cases
        join (
            select case_no, sum(amount) as amount, max(received_at) as at
            from payments where refunded_at is null
            group by case_no having bool_and(refund_due_at is null)
        ) as paid using (case_no)
        left join (
            select case_no, sum(amount) as amount from fines where status <> 'void' group by case_no
        ) as fined using (case_no)
        left join (
            select case_no, max(at) as at from audit_trail where step like 'review-after-%' group by case_no
        ) as reviewed using (case_no)
        where cases.closed_at is not null and paid.amount > coalesce(fined.amount, 0)
        on conflict do nothing
    """)


def downgrade() -> None:
    op.drop_constraint(op.f("ck_payments_amount"), "payments")
    op.create_check_constraint(op.f("ck_payments_amount"), "payments", "amount > 0")
    op.execute("""
        delete from waits where what = 'refund' and not exists (
            select from payments where payments.case_no = waits.case_no and refund_due_at is not null
        )
    """)
