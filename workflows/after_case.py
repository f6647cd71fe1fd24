"""What is done on a case that has ended: a late payment (6.3), reopening the account, unfreezing (1.4)."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.accounts import Accounts, ReopenAccount
    from activities.fines import Fines, RecordPayment
    from activities.numbers import Numbers, UnfreezeNumber
    from rulebook.money import Balance
    from workflows.messages import (
        Answer,
        LatePaymentStart,
        OfficerAct,
        RefundDue,
        RestitutionStart,
    )
    from workflows.restitution import Restitution

_PATIENTLY: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=10),
    "retry_policy": RetryPolicy(maximum_interval=timedelta(minutes=5)),
}


@workflow.defn
class LatePayment:
    """One payment after the end of its case: it is recorded and lowers the debt; it undoes nothing."""

    @workflow.run
    async def run(self, start: LatePaymentStart) -> Balance:
        """Record the payment; returns what the money stands at."""
        payment = start.payment
        order = RecordPayment(
            case_no=start.case_no,
            step=f"payment-{payment.reference}",
            at=workflow.now(),
            by=payment.by,
            reference=payment.reference,
            amount=payment.amount,
        )
        summary = f"Payment {payment.reference}"[:120]
        done = await workflow.execute_activity_method(
            Fines.record_payment, order, summary=summary, **_PATIENTLY
        )
        if done.to_refund:
            await self._leave_to_an_officer(start.case_no, payment.amount)
        return done.balance

    async def _leave_to_an_officer(self, case_no: str, amount: Decimal) -> None:
        """The case was undone (5.2): an officer has to give the money back."""
        restitution = f"restitution-{case_no}"
        try:
            await workflow.start_child_workflow(
                Restitution.run,
                RestitutionStart(case_no=case_no, refund=amount),
                id=restitution,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"返还 · restitution · {case_no}",
            )
        except WorkflowAlreadyStartedError:
            handle = workflow.get_external_workflow_handle(restitution)
            await handle.signal("refund_due", RefundDue(amount=amount))


@workflow.defn
class AfterCase:
    """One act of an officer after the end of a case."""

    @workflow.run
    async def run(self, start: OfficerAct) -> Answer:
        """Reopen the account or unfreeze the number; returns what was done."""
        told = {"case_no": start.case_no, "at": workflow.now(), "by": start.officer}
        step = f"{start.act}-{workflow.info().run_id}"
        if start.act == "reopen":
            done = await workflow.execute_activity_method(
                Accounts.reopen_account,
                ReopenAccount(step=step, **told),
                summary="Reopen the account",
                **_PATIENTLY,
            )
            return Answer(text=done.line.text)
        unfrozen = await workflow.execute_activity_method(
            Numbers.unfreeze_number,
            UnfreezeNumber(step=step, **told),
            summary="Unfreeze the number",
            **_PATIENTLY,
        )
        return Answer(text=unfrozen.line.text)
