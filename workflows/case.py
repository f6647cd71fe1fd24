"""What every case shares: its reports and payments, waiting until a deadline, closing."""

from collections import deque
from typing import NoReturn

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.accounts import Accounts, ConfirmClosure, ShutDownAccount
    from activities.cases import Cases, CloseCase, JoinReport, OpenCase, Opening
    from activities.fines import Fines, ImposeFine, RecordPayment, VoidFine
    from activities.numbers import Numbers, ReclaimNumbers
    from activities.step import SYSTEM, Refused
    from rulebook.money import ZERO, Balance, yuan
    from rulebook.report import Report
    from rulebook.vocabulary import Awaiting, Business, NoticeKind, Stage, workflow_id
    from workflows.limits import Limited
    from workflows.messages import (
        AccountClosed,
        Answer,
        AppealReceived,
        CaseEnded,
        CaseStart,
        Decide,
        Dismiss,
        PaymentReceived,
        RestitutionStart,
    )
    from workflows.restitution import leave_to_officers


# Here the case only finishes what it has begun.
_NO_RETURN = {Stage.SHUTDOWN, Stage.TAKE_BACK}
# Their own notices were the last word.
_NO_CLOSING_LETTER = {Stage.SHUT_DOWN, Stage.TAKEN_BACK, Stage.CLOSED_FOR_GOOD}


class Dismissed(Exception):
    """An officer has dismissed the case: leave the clause, wherever it stands."""


class Overturned(Exception):
    """An officer has overturned the case on appeal (5.1): leave the clause, wherever it stands."""


class Overtaken(Exception):
    """The agent's account was closed by another case (7.2): leave the clause, wherever it stands."""


class ClosedOnRecord(Exception):
    """The case was closed already, by a decision that a crash kept out of the history: it stands."""


class Case(Limited):
    """One violation. A subclass is one clause of the rulebook, and reads like it."""

    def __init__(self) -> None:
        super().__init__()
        self._signals |= {
            "report_received": (Report, self._take_report),
            "payment_received": (PaymentReceived, self._take_payment),
            "account_closed": (AccountClosed, self._take_closure),
        }
        self._reports: deque[Report] = deque()
        self._seen: set[str] = set()
        self.business = Business.REGULAR
        self._dismissal: Dismiss | None = None
        self._closure: AccountClosed | None = None
        self._clause_over = self._closed = False

    # The life of a case

    async def clause(self) -> Stage:
        """What the rulebook says, top to bottom; returns how the case ended."""
        raise NotImplementedError

    async def conduct(self, start: CaseStart) -> CaseEnded:
        """Open the case, carry out its clause unless it is dismissed, close it."""
        self._reports.extend(start.reports)
        handled_in = await self._open()
        if handled_in:
            self._stage = Stage.ALREADY_HANDLED
            self._show()
            if not workflow.all_handlers_finished():
                raise Refused(f"messages came in for a case that had ended as {handled_in}: send them again")
            return CaseEnded(case_no=handled_in, outcome=self._stage, balance=self._balance)
        by, reason, overtaken_by = SYSTEM, "", ""
        try:
            outcome = await self.clause()
        except (Dismissed, Overturned):
            outcome = Stage.DISMISSED
        except Overtaken:
            assert self._closure
            overtaken_by = self._closure.in_case
            own = overtaken_by == self.opened.case_no
            outcome = Stage.CLOSED_FOR_GOOD if own else Stage.OVERTAKEN
        except ClosedOnRecord:
            assert self._on_record
            outcome = self._on_record
        self._clause_over = True
        if outcome is not Stage.DISMISSED and not await self._appeal_decided():
            outcome = Stage.DISMISSED
        if self._overturned:
            outcome, by, reason = Stage.OVERTURNED, self._overturned.officer, self._overturned.reason
        elif outcome is Stage.DISMISSED and self._dismissal:
            by, reason = self._dismissal.officer, self._dismissal.reason
            if not workflow.patched("undone-newest-first"):
                outcome, reason = await self._void_fine(reason)
        self._stage = outcome  # from here on, no officer's command comes in between
        self._limit = None
        self._awaiting -= {Awaiting.VERIFICATION, Awaiting.APPEAL, Awaiting.RESUMPTION}
        await self.take_up()
        if outcome.undone and workflow.patched("undone-newest-first"):
            outcome = await self._undone(outcome, by, reason)
        else:
            await self._close(outcome, by, reason, overtaken_by)
            outcome = self._stage
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._show()
        if self._reports:
            workflow.continue_as_new(CaseStart(reports=tuple(self._reports)))
        return CaseEnded(case_no=self.opened.case_no, outcome=outcome, balance=self._balance)

    async def _close(self, outcome: Stage, by: str, reason: str, overtaken_by: str = "") -> None:
        text = f"Case closed: {outcome}" + (f" ({reason})" if reason else "")
        close = CloseCase(**self.step("close", by), outcome=outcome, text=text)
        closed = await self.do(Cases.close_case, close, text)
        self._stage = closed.outcome
        self._closed = True
        if self._stage is Stage.DISMISSED:
            await self.release()
        if outcome not in _NO_CLOSING_LETTER:
            await self.serve(NoticeKind.CLOSING, outcome=outcome, reason=reason, overtaken_by=overtaken_by)

    async def _undone(self, outcome: Stage, officer: str, reason: str) -> Stage:
        """Undo all that the case did (5.2), unless it has closed the account for good meanwhile."""
        try:
            found = await self.find_undone(outcome, officer, reason)
        except Refused:
            await self._close(Stage.CLOSED_FOR_GOOD, SYSTEM, "")
            return self._stage
        self._closed = True
        await self.undo(found, outcome, officer, reason)
        return outcome

    async def release(self) -> None:
        """Give back what the case holds besides its fine: as dismissed cases did before they were undone."""

    async def _open(self) -> str | None:
        """Open the case on the first report that isn't handled yet; else the case that handled it.

        Raises `Refused`, which fails the workflow where everybody sees it, if no report can open a case.
        """
        handled_in, refused = None, None
        while self._opened is None:
            if not self._reports and handled_in:
                return handled_in
            if not self._reports and refused:
                raise refused
            self._show()
            await workflow.wait_condition(lambda: bool(self._reports))
            report = self._reports.popleft()
            info = workflow.info()
            order = OpenCase(
                workflow_id=info.workflow_id, run_id=info.run_id, at=workflow.now(), report=report
            )
            summary = f"Open a case on report {report.key}"
            try:
                opening: Opening = await self.ask(Cases.open_case, order, summary)
            except Refused as why:
                refused = why
                continue
            if opening.already:
                handled_in = opening.already.handled_in
            if opening.opened:
                self._seen.add(report.key)
                self._lines.append(opening.opened.line)
                self._opened = opening.opened
                self.business = report.business
        return None

    def enter(self, stage: Stage) -> None:
        """Go on to the next stage, unless the case has been dismissed or overtaken."""
        if why := self.left():
            raise why
        self._stage = stage

    def left(self) -> Exception | None:
        """Why the clause must be left, if it must."""
        if self._clause_over or self._stage.ended or (self._stage in _NO_RETURN and not self._overturned):
            return None
        if self._on_record:
            return ClosedOnRecord()
        if self._overturned:
            return Overturned()
        if self._dismissal:
            return Dismissed()
        return Overtaken() if self._closure else None

    def overtaken(self, by_case: str) -> NoReturn:
        """Leave the clause: another case has done already what this one was about to do (7.2)."""
        self._closure = AccountClosed(in_case=by_case)
        raise Overtaken

    # Steps

    def settled(self) -> bool:
        """Whether the payments have reached the fine (6.2)."""
        return self._balance.settled

    async def impose_fine(self) -> None:
        """Fine the agent by the case's policy and its earlier offences (7.3)."""
        order = ImposeFine(**self.step("fine"))
        done = await self.do(Fines.impose_fine, order, "Impose the fine", decided=True)
        self._offence = done.offence
        self._balance = Balance(fine=done.balance.fine, paid=max(self._balance.paid, done.balance.paid))

    async def _void_fine(self, reason: str) -> tuple[Stage, str]:
        # As dismissed cases did before they were undone; the histories that are still open follow it.
        if self._balance.fine:
            assert self._dismissal
            order = VoidFine(**self.step("fine-void", self._dismissal.officer))
            try:
                await self.do(Fines.void_fine, order, "Void the fine", decided=True)
            except Refused:
                return Stage.CLOSED_FOR_GOOD, ""
            self._balance, self._offence = Balance(paid=self._balance.paid), None
        return Stage.DISMISSED, reason

    async def shut_down(self, clause: str) -> Stage:
        """Shut the account down, take back all its numbers (1.5, 2.5), and let its other cases know (7.2)."""
        self.enter(Stage.SHUTDOWN)
        order = ShutDownAccount(**self.step("account-shutdown"))
        await self.do(Accounts.shut_down_account, order, "Shut the account down", decided=True)
        reclaim = ReclaimNumbers(**self.step("reclaim"))
        await self.do(Numbers.reclaim_numbers, reclaim, "Take all numbers back")
        await self.tell_other_cases()
        await self.serve(NoticeKind.SHUTDOWN, clause=clause)
        return Stage.SHUT_DOWN

    def has_come_in(self) -> bool:
        """Whether reports wait to be joined to the case."""
        return bool(self._reports)

    async def take_up(self) -> None:
        """Join the reports that came in to the case, as evidence."""
        while self._reports:
            report = self._reports.popleft()
            if report.key in self._seen:
                continue
            self._seen.add(report.key)
            order = JoinReport(**self.step(f"report-{report.key}", report.reported_by), report=report)
            try:
                await self.do(Cases.join_report, order, f"Join report {report.key}")
            except Refused as why:
                await self._refuse("report_received", why.message)

    # Facts from other systems: signals

    async def _take_report(self, report: Report) -> None:
        mine = workflow.info().workflow_id
        if workflow_id(report.kind, report.number) != mine:
            raise Refused(f"report {report.key} is about {workflow_id(report.kind, report.number)}")
        self._reports.append(report)

    async def _take_payment(self, payment: PaymentReceived) -> None:
        await self.is_open()
        await self._record_payment(payment)

    async def _take_closure(self, closure: AccountClosed) -> None:
        await self.is_open()
        if self._closure or self._stage.ended or self._stage in _NO_RETURN:
            return
        if not workflow.patched("closures-are-confirmed"):
            self._closure = closure
            text = f"The account was closed in case {closure.in_case}"
            await self.add_line("account-closed", SYSTEM, text)
            return
        order = ConfirmClosure(**self.step("account-closed"), in_case=closure.in_case)
        done = await self.ask(Accounts.confirm_closure, order, f"Account closed in case {closure.in_case}")
        if self._closure is None:
            self._lines.append(done.line)
            self._closure = closure

    async def _record_payment(self, payment: PaymentReceived) -> str:
        order = RecordPayment(
            **self.step(f"payment-{payment.reference}", payment.by),
            reference=payment.reference,
            amount=payment.amount,
            on=payment.on,
        )
        summary = f"Record {yuan(payment.amount)} paid, reference {payment.reference}"
        done = await self.ask(Fines.record_payment, order, summary)
        self._balance = Balance(fine=self._balance.fine, paid=max(self._balance.paid, done.balance.paid))
        if done.to_refund:
            await leave_to_officers(RestitutionStart(case_no=self.opened.case_no, refund=payment.amount))
        if done.line in self._lines:
            return f"reference {payment.reference} was counted already; {self._money()}"
        self._lines.append(done.line)
        return f"{yuan(payment.amount)} counted; {self._money()}"

    def _money(self) -> str:
        if self._balance.fine == ZERO:
            return "no fine is set, so it counts towards one or is owed back"
        if self._balance.due:
            return f"{yuan(self._balance.due)} still due"
        return f"the fine is settled, {yuan(self._balance.owed_back)} owed back"

    # Officers' commands: updates

    @workflow.update
    async def paid(self, payment: PaymentReceived) -> Answer:
        """Record a payment that came in."""
        return self.answer(await self._record_payment(payment))

    @paid.validator
    def _may_be_paid(self, payment: PaymentReceived) -> None:
        self.may_command(payment)

    @workflow.update
    async def dismiss(self, dismissal: Dismiss) -> Answer:
        """Dismiss the case (5.2): what it did is undone, it doesn't count as an offence."""
        self._dismissal = dismissal
        await workflow.wait_condition(lambda: self._closed)
        if not self._stage.undone:
            raise Refused(f"the case had been closed before: {self._stage}")
        return self.answer("Case dismissed")

    @dismiss.validator
    def _may_dismiss(self, dismissal: Dismiss) -> None:
        self.may_command(dismissal)
        self.refuse_if_over()
        if self._dismissal:
            raise Refused(f"{self._dismissal.officer} has dismissed the case already")
        if self._stage in _NO_RETURN:
            raise Refused(f"too late to dismiss: the case is in stage {self._stage}")

    @workflow.update
    async def appeal(self, message: AppealReceived) -> Answer:
        """Record the agent's appeal (5.1): the clock stops until another officer has decided."""
        filed = await self.file_appeal(message)
        self._stops["appeal"] = f"appeal {filed.appeal_no} is pending"
        return self.answer(f"appeal {filed.appeal_no} is recorded; another officer has to decide")

    @appeal.validator
    def _may_appeal(self, message: AppealReceived) -> None:
        self.may_file_appeal(message)
        self.refuse_if_over()

    @workflow.update
    async def decide(self, decision: Decide) -> Answer:
        """Decide the appeal (5.1): the clock goes on, or everything is undone."""
        await self.decide_appeal(decision)
        if decision.upheld:
            self._stops.pop("appeal", None)
            return self.answer("the case stands; its clock goes on")
        await workflow.wait_condition(lambda: self._closed)
        return self.answer("the case is overturned: what it did is undone")

    @decide.validator
    def _may_decide(self, decision: Decide) -> None:
        self.may_decide_appeal(decision)

    async def _appeal_decided(self) -> bool:
        """No case ends before an appeal against it is decided; False if it was dismissed instead."""
        if self.appealed:
            self._limit = None
            self._show()
            await workflow.wait_condition(lambda: not self.appealed or self._dismissal is not None)
            if self.appealed:
                return False
        if self._upheld:
            await self.tell_decision()
        return True
