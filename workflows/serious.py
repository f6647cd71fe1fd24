"""Rulebook 1.6: serious circumstances (情节严重) of a fraud, an officer's finding that another one approves.

A proceeding of its own beside the case: it can come while the case is open, and until the account has been
reopened after it.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.accounts import Accounts, CloseAccount
    from activities.cases import Cases, FindCase
    from activities.filings import Filings, PrepareFilings
    from activities.numbers import Numbers, ReclaimNumbers
    from activities.step import Refused, Serious
    from rulebook.vocabulary import Awaiting, FilingStatus, Kind, NoticeKind, Stage, one_line
    from workflows.messages import (
        Answer,
        Approve,
        CaseUndone,
        FilingReported,
        Message,
        Reject,
        SeriousEnded,
        SeriousProposed,
    )
    from workflows.proceeding import Proceeding


@workflow.defn
class SeriousCircumstances(Proceeding):
    """The finding that the circumstances of one fraud case are serious, to the last filing."""

    kind = Kind.FRAUD

    def __init__(self) -> None:
        super().__init__()
        self._serious: Serious | None = None
        self._rejected = self._deciding = self._undone = False
        self._signals["case_undone"] = (CaseUndone, self._take_undone)

    @workflow.run
    async def run(self, proposed: SeriousProposed) -> SeriousEnded:
        """Clause 1.6, top to bottom. Raises `Refused` where the case can't be found serious (any more)."""
        self._proposed = proposed
        case_no = proposed.case_no
        self._opened = await self.ask(Cases.find_case, FindCase(case_no=case_no), f"Find case {case_no}")
        text = f"Circumstances found serious: {proposed.reasons}"
        if proposed.evidence:
            text += f"; evidence: {', '.join(proposed.evidence)}"
        await self.add_line(self._own("proposed"), proposed.officer, text, begins=Awaiting.APPROVAL)

        # A second officer approves, or rejects.
        self._stage = Stage.APPROVAL
        self._awaiting.add(Awaiting.APPROVAL)
        self._show()
        await workflow.wait_condition(lambda: bool(self._serious or self._rejected or self._undone))
        self._awaiting.discard(Awaiting.APPROVAL)
        if self._serious is None:
            return await self._end(Stage.OVERTURNED if self._undone else Stage.REJECTED)
        try:
            return await self._end(await self._carry_out(self._serious))
        except Refused:
            # The case was undone under way: what was done is undone there (5.2).
            return await self._end(Stage.OVERTURNED)

    async def _carry_out(self, serious: Serious) -> Stage:
        # The account is permanently closed, the qualification cancelled (on approval, see `approve`);
        # every number under the account is reclaimed; the agent's open cases know.
        self._stage = Stage.CLOSURE
        reclaim = ReclaimNumbers(**self.step(self._own("reclaim"), serious.approved_by))
        await self.do(Numbers.reclaim_numbers, reclaim, "Reclaim every number")
        await self.tell_other_cases(own=True)
        if self._undone:
            return Stage.OVERTURNED
        await self.serve(NoticeKind.PERMANENT_CLOSURE, serious=serious)

        # Put on record with the operators and MIIT, announced, submitted to the judicial organs.
        self._stage = Stage.FILING
        prepare = PrepareFilings(**self.step("filings"), serious=serious)
        prepared = await self.do(Filings.prepare_filings, prepare, "Prepare the filings")
        self._filings = {filing.filing_no: filing for filing in prepared.filings}
        self._awaiting.add(Awaiting.FILING)
        self._show()
        await workflow.wait_condition(
            lambda: self._undone or all(f.status.done for f in self._filings.values())
        )
        self._awaiting.discard(Awaiting.FILING)
        return Stage.OVERTURNED if self._undone else Stage.CLOSED_FOR_GOOD

    async def _end(self, outcome: Stage) -> SeriousEnded:
        self._stage = outcome
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._show()
        return SeriousEnded(case_no=self.opened.case_no, outcome=outcome)

    async def _take_undone(self, message: CaseUndone) -> None:
        self._undone = True

    def left(self) -> Exception | None:
        """Once the case is undone, nothing of the finding is worth waiting for."""
        return Refused("the case was undone") if self._undone and not self._stage.ended else None

    def _own(self, step: str) -> str:
        """The key of a step that a case may have to take again: a finding may come after a rejected one."""
        return f"serious-{workflow.info().run_id}-{step}"

    @workflow.update
    async def approve(self, approval: Approve) -> Answer:
        """Approve the finding: the account is closed for good, its qualification cancelled."""
        self._deciding = True
        try:
            close = CloseAccount(**self.step(self._own("close"), approval.officer))
            await self.do(Accounts.close_account, close, "Close the account for good", decided=True)
        finally:
            self._deciding = False
        self._serious = Serious(
            reasons=self._proposed.reasons,
            evidence=self._proposed.evidence,
            proposed_by=self._proposed.officer,
            approved_by=approval.officer,
        )
        return self.answer("approved: the account is closed for good")

    @approve.validator
    def _may_approve(self, approval: Approve) -> None:
        self._may_decide(approval)
        if approval.officer == self._proposed.officer:
            raise Refused(f"{approval.officer} proposed it: another officer has to approve")

    @workflow.update
    async def reject(self, rejection: Reject) -> Answer:
        """Reject the finding: the case goes on as if it had not been made."""
        self._deciding = True
        text = f"Serious circumstances rejected: {rejection.reason}"
        await self.add_line(self._own("rejected"), rejection.officer, text, ends=Awaiting.APPROVAL)
        self._deciding, self._rejected = False, True
        return self.answer("rejected: the case goes on as before")

    @reject.validator
    def _may_reject(self, rejection: Reject) -> None:
        self._may_decide(rejection)
        if rejection.officer == self._proposed.officer:
            raise Refused(f"{rejection.officer} proposed it: another officer has to decide")

    def _may_decide(self, message: Message) -> None:
        self.may_command(message)
        if self._stage is not Stage.APPROVAL or self._serious or self._rejected or self._undone:
            raise Refused("it is decided already")
        if self._deciding:
            raise Refused("another officer is deciding at this moment")

    @workflow.update
    async def filing(self, report: FilingReported) -> Answer:
        """Say what became of a filing; one that was refused comes back to be submitted again."""
        await self.move_filing(report)
        left = sum(not filing.status.done for filing in self._filings.values())
        return self.answer(f"filing {report.filing_no} is {report.status}; {left} left to do")

    @filing.validator
    def _may_file(self, report: FilingReported) -> None:
        self.may_command(report)
        if self._stage is not Stage.FILING:
            raise Refused(f"there are no filings to move: the case is in stage {self._stage}")
        if report.status in (FilingStatus.WITHDRAWING, FilingStatus.WITHDRAWN):
            raise Refused("the case stands: its filings can't be withdrawn")
        if report.status in (FilingStatus.REFUSED, FilingStatus.WAIVED) and not one_line(report.reason):
            raise Refused(f"a filing that is {report.status} needs a reason")
