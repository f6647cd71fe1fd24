"""What every case shares: its reports and payments, waiting until a deadline, closing."""

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn
from zlib import crc32

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.accounts import Accounts, ConfirmClosure, ShutDownAccount
    from activities.cases import Cases, CloseCase, JoinReport, OpenCase, Opening
    from activities.fines import Fines, ImposeFine, RecordPayment, VoidFine
    from activities.notices import (
        ExtendLimit,
        Notices,
        NoticeServed,
        ReckonDeadline,
        RestartClock,
        StopClock,
    )
    from activities.numbers import Numbers, ReclaimNumbers
    from activities.step import SYSTEM, Refused
    from rulebook.money import ZERO, Balance, yuan
    from rulebook.report import Report
    from rulebook.vocabulary import Awaiting, Business, NoticeKind, Stage, workflow_id
    from rulebook.working_days import Deadline, later
    from workflows.messages import (
        AccountClosed,
        Answer,
        AppealReceived,
        CaseEnded,
        CaseStart,
        Decide,
        Dismiss,
        Extend,
        HoldCase,
        LookAgain,
        PaymentReceived,
        ResumeCase,
    )
    from workflows.undo import Undoable


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


class Case(Undoable):
    """One violation. A subclass is one clause of the rulebook, and reads like it."""

    def __init__(self) -> None:
        super().__init__()
        self._signals |= {
            "report_received": (Report, self._take_report),
            "payment_received": (PaymentReceived, self._take_payment),
            "account_closed": (AccountClosed, self._take_closure),
            "calendar_changed": (LookAgain, self._take_look_again),
            "fine_reviewed": (LookAgain, self._take_look_again),
        }
        self._reports: deque[Report] = deque()
        self._seen: set[str] = set()
        self.business = Business.REGULAR
        self._limit_notice = ""
        self._moved = self._look_again = False
        self._restated: tuple[str, str] | None = None
        self._restatements = 0
        self._stops: dict[str, str] = {}
        self._stopped: Deadline | None = None
        self._clock_moves = 0
        self._decisions = 0
        self._dismissal: Dismiss | None = None
        self._closure: AccountClosed | None = None
        self._on_record: Stage | None = None
        self._closed = False

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
        if outcome is not Stage.DISMISSED:
            await self._appeal_decided()
        if self._overturned:
            outcome, by, reason = Stage.OVERTURNED, self._overturned.officer, self._overturned.reason
        elif outcome is Stage.DISMISSED and self._dismissal:
            by, reason = self._dismissal.officer, self._dismissal.reason
            if not workflow.patched("undone-newest-first"):
                outcome, reason = await self._void_fine(reason)
        self._stage = outcome  # from here on, no officer's command comes in between
        self._limit = None
        self._awaiting -= {Awaiting.VERIFICATION, Awaiting.APPEAL}
        await self._join_reports()
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
        if self._stage.ended or self._stage in _NO_RETURN:
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

    # Waiting

    async def in_time(
        self,
        what: str,
        met: Callable[[], bool],
        checking: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait until it is met or the limit has ended, however often the limit moves (4.3 to 4.5).

        `checking` tells that the agent has done its part and an officer hasn't looked at it yet: that holds
        the penalty back. Whatever comes in before the penalty counts as in time. When the timer fires:

        1. every message that has arrived is dealt with;
        2. the deadline is computed anew, and if it has moved, the wait goes on; what the registry knows of
           payments and of the case's end counts, even if a crash kept it out of the history;
        3. what came in meanwhile is dealt with too; only then, in the same breath, is the limit over.
        """
        spread = timedelta(
            seconds=crc32(self.opened.case_no.encode()) % (60 * self.policy.clock.spread_minutes)
        )
        reckoned = False
        while True:
            await self._join_reports()
            if why := self.left():
                raise why
            if met():
                self._limit = None
                return True
            if self._stops or self._stopped:
                await self._stand_still(met)
                reckoned = False
                continue
            if self._look_again:
                self._look_again = False
                await self._reckon()
                continue
            if self._restated:
                await self._restate()
                continue
            assert self._limit
            left = self._limit.at + spread - workflow.now()
            self._moved = False
            if checking():
                reckoned = False
                self._show()
                await workflow.wait_condition(lambda: self._news() or met() or not checking())
            elif left > timedelta():
                reckoned = False
                self._show()
                summary = f"{what} until {self._limit}"
                await self._wait(left, summary, lambda: self._news() or met() or checking())
            elif not workflow.all_handlers_finished():
                await workflow.wait_condition(lambda: workflow.all_handlers_finished() or self._news())
            elif not reckoned:
                await self._reckon()
                reckoned = True
            else:
                self._limit = None
                return False

    async def _stand_still(self, met: Callable[[], bool]) -> None:
        """The clock stands still while an appeal is pending or an officer holds the case (4.4)."""
        if self._stopped is None and self._limit:
            self._clock_moves += 1
            cause, why = next(iter(self._stops.items()))
            stop = StopClock(
                **self.step(f"clock-{self._clock_moves}"), notice_step=self._limit_notice, why=why
            )
            await self.do(Notices.stop_clock, stop, f"Stop the clock: {why}")
            self._stopped, self._limit = self._limit, None
            self._restated = cause, why
            await self._restate()
        self._show()
        await workflow.wait_condition(lambda: bool(self.left() or self._reports or met() or not self._stops))
        if self.left() or self._reports or met():
            return
        self._clock_moves += 1
        why = self._upheld.reason if self._upheld else "resumed by an officer"
        restart = RestartClock(
            **self.step(f"clock-{self._clock_moves}"), notice_step=self._limit_notice, why=why
        )
        done = await self.do(Notices.restart_clock, restart, f"The clock goes on: {why}")
        self._stopped, self._limit = None, done.deadline
        if self._upheld:
            await self._tell_decision()
        else:
            self._restated = "resumed", ""
            await self._restate()

    async def _restate(self) -> None:
        """Restate the deadline to the agent: it has moved, or its clock stands still."""
        assert self._restated
        (cause, reason), self._restated = self._restated, None
        self._restatements += 1
        await self.serve(
            NoticeKind.DEADLINE, nth=self._restatements, cause=cause, reason=reason, limit=self._limit
        )

    def _news(self) -> bool:
        return bool(self.left() or self._reports or self._moved or self._look_again or self._stops)

    async def _wait(self, time: timedelta, summary: str, until: Callable[[], bool]) -> None:
        try:
            await workflow.wait_condition(until, timeout=time, timeout_summary=summary)
        except TimeoutError:
            return

    async def _reckon(self) -> None:
        order = ReckonDeadline(**self.step(self._limit_notice))
        reckoned = await self.ask(Notices.reckon_deadline, order, "Compute the deadline anew")
        self._on_record = reckoned.outcome
        self._balance = Balance(
            fine=reckoned.balance.fine, paid=max(self._balance.paid, reckoned.balance.paid)
        )
        if self._offence:
            self._offence = reckoned.offence or self._offence
        self._lines += [line for line in reckoned.reviewed if line not in self._lines]
        if self._limit and reckoned.deadline != self._limit:
            before, self._limit = self._limit, later(self._limit, reckoned.deadline)
            self._lines.append(reckoned.line)
            moved = before.last_day != self._limit.last_day
            if moved and workflow.patched("deadlines-are-restated"):
                self._restated = "calendar", ""

    # Steps

    async def serve(
        self, kind: NoticeKind, within: int | None = None, nth: int = 1, **told: Any
    ) -> NoticeServed:
        """Serve a notice; the limit that it sets is the one that runs."""
        served = await super().serve(kind, within, nth, **told)
        if served.deadline:
            self._limit, self._limit_notice = served.deadline, f"notice-{kind}"
        return served

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

    async def _join_reports(self) -> None:
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

    async def _take_look_again(self, _: LookAgain) -> None:
        self._look_again = True

    async def _record_payment(self, payment: PaymentReceived) -> str:
        order = RecordPayment(
            **self.step(f"payment-{payment.reference}", payment.by),
            reference=payment.reference,
            amount=payment.amount,
        )
        done = await self.ask(Fines.record_payment, order, f"Payment {payment.reference}")
        self._balance = Balance(fine=self._balance.fine, paid=max(self._balance.paid, done.balance.paid))
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
    async def extend(self, extension: Extend) -> Answer:
        """Extend the limit that runs by working days (4.4)."""
        update = workflow.current_update_info()
        assert update
        order = ExtendLimit(
            **self.step(f"extend-{update.id}", extension.officer),
            notice_step=self._limit_notice,
            working_days=extension.working_days,
            reason=extension.reason,
        )
        done = await self.do(Notices.extend_limit, order, f"Extend by {extension.working_days} working days")
        self._limit, self._moved = done.deadline, True
        if workflow.patched("deadlines-are-restated"):
            self._restated = "extended", extension.reason
        return self.answer(f"The limit now ends {done.deadline}")

    @extend.validator
    def _may_extend(self, extension: Extend) -> None:
        self.may_command(extension)
        self._refuse_if_over()
        if self._stopped:
            raise Refused("the clock stands still: what is left of the limit is kept")
        if self._limit is None:
            raise Refused(f"no limit is running: the case is in stage {self._stage}")

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
        self._refuse_if_over()
        if self._dismissal:
            raise Refused(f"{self._dismissal.officer} has dismissed the case already")
        if self._stage in _NO_RETURN:
            raise Refused(f"too late to dismiss: the case is in stage {self._stage}")

    @workflow.update
    async def hold(self, message: HoldCase) -> Answer:
        """Stop the clock of the limit that runs (4.4)."""
        update = workflow.current_update_info()
        assert update
        self._stops["held"] = message.reason
        await self.add_line(f"hold-{update.id}", message.officer, f"Case held: {message.reason}")
        return self.answer("held: the clock stands still until it is resumed")

    @hold.validator
    def _may_hold(self, message: HoldCase) -> None:
        self.may_command(message)
        self._refuse_if_over()
        if "held" in self._stops:
            raise Refused("the case is held already")
        if self._limit is None and not self._stopped:
            raise Refused(f"no limit is running: the case is in stage {self._stage}")

    @workflow.update
    async def resume(self, message: ResumeCase) -> Answer:
        """Let the clock go on, with what was left of the limit."""
        update = workflow.current_update_info()
        assert update
        text = "Case resumed" + (f": {message.reason}" if message.reason else "")
        await self.add_line(f"resume-{update.id}", message.officer, text)
        self._stops.pop("held", None)
        return self.answer("resumed" + ("; an appeal is still pending" if self._stops else ""))

    @resume.validator
    def _may_resume(self, message: ResumeCase) -> None:
        self.may_command(message)
        self._refuse_if_over()
        if "held" not in self._stops:
            raise Refused("the case is not held")

    @workflow.update
    async def appeal(self, message: AppealReceived) -> Answer:
        """Record the agent's appeal (5.1): the clock stops until another officer has decided."""
        filed = await self.file_appeal(message)
        self._stops["appeal"] = f"appeal {filed.appeal_no} is pending"
        return self.answer(f"appeal {filed.appeal_no} is recorded; another officer has to decide")

    @appeal.validator
    def _may_appeal(self, message: AppealReceived) -> None:
        self.may_file_appeal(message)
        self._refuse_if_over()

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

    async def _appeal_decided(self) -> None:
        """No case ends before an appeal against it is decided; the agent is told how."""
        if self.appealed:
            self._limit = None
            self._show()
            await workflow.wait_condition(lambda: not self.appealed)
        if self._upheld:
            await self._tell_decision()

    async def _tell_decision(self) -> None:
        assert self._upheld
        decision, self._upheld = self._upheld, None
        self._decisions += 1
        await self.serve(
            NoticeKind.APPEAL_DECISION,
            nth=self._decisions,
            upheld=True,
            reason=decision.reason,
            limit=self._limit,
        )

    def _refuse_if_over(self) -> None:
        if self._stage.ended:
            raise Refused(f"the case has ended: {self._stage}")
