"""What officers do after a case was undone (5.2): refunds, substitutes, withdrawals, reviews of fines."""

from contextlib import suppress
from decimal import Decimal

from temporalio import workflow
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.cases import Cases, FindCase
    from activities.fines import Fines, RefundPayments, ReviewFine
    from activities.notices import ServeNotice
    from activities.step import Refused
    from registry.shown import Raised
    from rulebook.money import yuan
    from rulebook.vocabulary import Awaiting, FilingStatus, NoticeKind, Stage, one_line, written
    from workflows.messages import (
        Answer,
        CaseEnded,
        FilingReported,
        FineReviewed,
        LookAgain,
        Refunded,
        RestitutionStart,
        Substituted,
    )
    from workflows.proceeding import Proceeding


async def leave_to_officers(start: RestitutionStart) -> None:
    """Begin what is left to officers after a case was undone, or add to it."""
    restitution = f"restitution-{start.case_no}"
    while True:
        try:
            await workflow.start_child_workflow(
                Restitution.run,
                start,
                id=restitution,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"返还 · restitution · {start.case_no}",
                static_details=_at_the_start(start),
            )
        except WorkflowAlreadyStartedError:
            with suppress(FailureError):  # it has ended in between: then it begins anew
                await workflow.get_external_workflow_handle(restitution).signal("more_is_left", start)
                return
        else:
            return


def _at_the_start(left: RestitutionStart) -> str:
    # Not more of each than the server takes in any case.
    facts = {
        "To refund": [yuan(left.refund)] if left.refund else [],
        "Numbers to replace": [written(number) for number in left.lost[:100]],
        "Filings to withdraw": [filing.filing_no for filing in left.filings[:100]],
        "Fines to review": [f"case {raised.case_no}" for raised in left.raised[:100]],
    }
    return "\n".join(f"- {name}: {', '.join(what)}" for name, what in facts.items() if what)


@workflow.defn
class Restitution(Proceeding):
    """What is left to officers after one case was undone, until nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self._signals["more_is_left"] = (RestitutionStart, self._take_more)
        self._refund = Decimal(0)
        self._lost: set[str] = set()
        self._raised: dict[str, Raised] = {}

    @workflow.run
    async def run(self, start: RestitutionStart) -> CaseEnded:
        """Wait for the officers who do what is left."""
        found = await self.ask(
            Cases.find_any_case, FindCase(case_no=start.case_no), f"Find case {start.case_no}"
        )
        self.kind = found.kind
        self._stage = Stage.RESTITUTION
        self._opened = found.opened
        self._add(start)
        await workflow.wait_condition(lambda: not self._left() and workflow.all_handlers_finished())
        self._stage = Stage.RESTORED
        self._show()
        return CaseEnded(case_no=start.case_no, outcome=self._stage, balance=self._balance)

    async def _take_more(self, more: RestitutionStart) -> None:
        await self.is_open()
        self._add(more)

    def _add(self, more: RestitutionStart) -> None:
        self._refund += more.refund
        self._lost |= set(more.lost)
        self._filings |= {filing.filing_no: filing for filing in more.filings}
        self._raised |= {raised.case_no: raised for raised in more.raised}
        self._show_what_is_left()

    def _left(self) -> set[Awaiting]:
        filed = any(not filing.status.done for filing in self._filings.values())
        left = {
            Awaiting.REFUND: bool(self._refund),
            Awaiting.SUBSTITUTE: bool(self._lost),
            Awaiting.WITHDRAWAL: filed,
            Awaiting.REVIEW: bool(self._raised),
        }
        return {what for what, is_left in left.items() if is_left}

    def _show_what_is_left(self) -> None:
        self._awaiting = self._left() | (self._awaiting & {Awaiting.DELIVERY})
        self._show()

    @workflow.update
    async def refunded(self, message: Refunded) -> Answer:
        """Record that what was paid was given back."""
        order = RefundPayments(
            **self.step(self.asked("refund"), message.officer), reference=message.reference
        )
        due, self._refund = self._refund, Decimal(0)
        try:
            done = await self.do(
                Fines.refund_payments, order, f"Refund {yuan(due)}, reference {message.reference}"
            )
        finally:  # refused, it is known that nothing is due any more
            self._show_what_is_left()
        return self.answer(done.line.text)

    @refunded.validator
    def _may_be_refunded(self, message: Refunded) -> None:
        self.may_command(message)
        if not self._refund:
            raise Refused("nothing is to be refunded (any more)")

    @workflow.update
    async def substituted(self, message: Substituted) -> Answer:
        """Record what an officer offered for a number that can't be returned."""
        gone = written(message.number)
        what = f"replaced by {written(message.substitute)}" if message.substitute else "not replaced"
        why = f" ({message.reason})" if message.reason else ""
        ends = Awaiting.SUBSTITUTE if self._lost == {message.number} else None
        text = f"Number {gone} {what}{why}"
        line = await self.add_line(f"substitute-{message.number}", message.officer, text, ends=ends)
        self._lost.discard(message.number)
        self._show_what_is_left()
        return self.answer(line.text)

    @substituted.validator
    def _may_be_substituted(self, message: Substituted) -> None:
        self.may_command(message)
        if message.number not in self._lost:
            raise Refused(f"no substitute is wanted for {written(message.number)}")
        if message.substitute is None and not one_line(message.reason):
            raise Refused("a number that gets no substitute needs a reason")

    @workflow.update
    async def filing(self, report: FilingReported) -> Answer:
        """Say what became of the withdrawal of a filing."""
        await self.move_filing(report)
        self._show_what_is_left()
        return self.answer(f"filing {report.filing_no} is {report.status}")

    @filing.validator
    def _may_file(self, report: FilingReported) -> None:
        self.may_command(report)
        if report.filing_no not in self._filings:
            raise Refused(f"no filing {report.filing_no} is to be withdrawn")
        if report.status is not FilingStatus.WITHDRAWN:
            raise Refused("the case was undone: its filings can only be withdrawn")

    @workflow.update
    async def reviewed(self, message: FineReviewed) -> Answer:
        """Lower or keep a fine that the undone offence had raised; the agent is told of a lower one."""
        raised = self._raised[message.case_no]
        case = {"case_no": raised.case_no, "at": workflow.now(), "by": message.officer}
        review = ReviewFine(
            **case,
            step=f"review-after-{self.opened.case_no}",
            because_of=self.opened.case_no,
            lower=message.lower,
            last=set(self._raised) == {message.case_no},
            reason=message.reason,
        )
        ruling = "Lower" if message.lower else "Keep"
        try:
            done = await self.do(
                Fines.review_fine, review, f"{ruling} the fine of case {raised.case_no}", decided=True
            )
        finally:  # refused, it is known that there is nothing to review any more
            self._raised.pop(message.case_no, None)
            self._show_what_is_left()
        if done.lowered:
            await self._tell_of_lower_fine(raised, message)
        return self.answer(done.line.text)

    @reviewed.validator
    def _may_be_reviewed(self, message: FineReviewed) -> None:
        self.may_command(message)
        if message.case_no not in self._raised:
            raise Refused(f"no fine of case {message.case_no} is to be reviewed")

    async def _tell_of_lower_fine(self, raised: Raised, message: FineReviewed) -> None:
        await self.tell(raised.workflow_id, "fine_reviewed", LookAgain())
        order = ServeNotice(
            case_no=raised.case_no,
            step=f"notice-{NoticeKind.FINE_LOWERED}-{self.opened.case_no}",
            at=workflow.now(),
            kind=NoticeKind.FINE_LOWERED,
            because_of=self.opened.case_no,
            reason=message.reason,
        )
        await self.deliver(order, f"Serve the fine lowered notice of case {raised.case_no}")
        self._show_what_is_left()
