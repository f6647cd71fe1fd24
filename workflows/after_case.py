"""What is done on a case that has ended: late payments (6.3), reopening, unfreezing (1.4), giving back."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.accounts import Accounts, ReopenAccount
    from activities.fines import Fines, RecordPayment, ReturnOwedBack
    from activities.numbers import Numbers, UnfreezeNumber
    from activities.step import Refused
    from rulebook.money import yuan
    from workflows.messages import (
        Answer,
        LatePaymentStart,
        OfficerAct,
        PaidLate,
        RestitutionStart,
    )
    from workflows.restitution import leave_to_officers
    from workflows.story import brief

_PATIENTLY: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=10),
    "retry_policy": RetryPolicy(maximum_interval=timedelta(minutes=5)),
}


@workflow.defn
class LatePayment:
    """One payment after the end of its case: it is recorded and lowers the debt; it undoes nothing."""

    @workflow.run
    async def run(self, start: LatePaymentStart) -> PaidLate:
        """Record the payment; returns what the money stands at."""
        payment = start.payment
        order = RecordPayment(
            case_no=start.case_no,
            step=f"payment-{payment.reference}",
            at=workflow.now(),
            by=payment.by,
            reference=payment.reference,
            amount=payment.amount,
            on=payment.on,
        )
        summary = brief(f"Record {yuan(payment.amount)} paid, reference {payment.reference}")
        done = await workflow.execute_activity_method(
            Fines.record_payment, order, summary=summary, **_PATIENTLY
        )
        if done.to_refund:
            await leave_to_officers(RestitutionStart(case_no=start.case_no, refund=payment.amount))
        return PaidLate(**done.balance.model_dump(), in_time=done.in_time)


@workflow.defn
class AfterCase:
    """One act of an officer after the end of a case."""

    @workflow.run
    async def run(self, start: OfficerAct) -> Answer:
        """Reopen the account, unfreeze the number or record what was given back; returns what was done."""
        told = {"case_no": start.case_no, "at": workflow.now(), "by": start.officer}
        if start.act == "refunded":
            if not start.reference:
                raise Refused("what was given back bears the bank's reference")
            returned = await workflow.execute_activity_method(
                Fines.return_owed_back,
                ReturnOwedBack(step=f"returned-{start.reference}", reference=start.reference, **told),
                summary=brief(f"Record what was given back, reference {start.reference}"),
                **_PATIENTLY,
            )
            return Answer(text=returned.line.text)
        step = f"{start.act}-{workflow.info().run_id}"
        if start.act == "reopen":
            done = await workflow.execute_activity_method(
                Accounts.reopen_account,
                ReopenAccount(step=step, **told),
                summary=brief(f"Reopen the account, as {start.officer} decided"),
                **_PATIENTLY,
            )
            return Answer(text=done.line.text)
        unfrozen = await workflow.execute_activity_method(
            Numbers.unfreeze_number,
            UnfreezeNumber(step=step, **told),
            summary=brief(f"Unfreeze the number, as {start.officer} decided"),
            **_PATIENTLY,
        )
        return Answer(text=unfrozen.line.text)
