"""Rulebook 6.3: a payment for a case that has ended is recorded and lowers the debt; it undoes nothing."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.fines import Fines, RecordPayment
    from rulebook.money import Balance
    from workflows.messages import LatePaymentStart


@workflow.defn
class LatePayment:
    """One payment after the end of its case."""

    @workflow.run
    async def run(self, start: LatePaymentStart) -> Balance:
        """Record the payment; returns what the money stands at."""
        payment = start.payment
        done = await workflow.execute_activity_method(
            Fines.record_payment,
            RecordPayment(
                case_no=start.case_no,
                step=f"payment-{payment.reference}",
                at=workflow.now(),
                by=payment.by,
                reference=payment.reference,
                amount=payment.amount,
            ),
            summary=f"Payment {payment.reference}",
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=5)),
        )
        return done.balance
