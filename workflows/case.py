"""What every case shares: messages in, steps done once, waiting until a deadline, closing."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, TypeVar
from zlib import crc32

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from activities.accounts import Accounts, ShutDownAccount
    from activities.cases import AddLine, CaseOpened, Cases, CloseCase, JoinReport, OpenCase, Opening
    from activities.fines import Fines, ImposeFine, RecordPayment, VoidFine
    from activities.notices import ExtendLimit, Notices, NoticeServed, ReckonDeadline, ServeNotice
    from activities.numbers import Numbers, ReclaimNumbers
    from activities.step import SYSTEM, Refused, Step
    from registry.audit import Done, Line
    from rulebook.money import ZERO, Balance, yuan
    from rulebook.policy import Policy
    from rulebook.report import Report
    from rulebook.vocabulary import Awaiting, Business, Kind, NoticeKind, Stage, workflow_id
    from rulebook.working_days import Deadline, later
    from workflows import attributes
    from workflows.messages import (
        Answer,
        CaseEnded,
        CaseStart,
        Dismiss,
        Extend,
        Message,
        NoticeShown,
        PaymentReceived,
        Story,
        faults,
    )
    from workflows.story import markdown, plain

S = TypeVar("S", bound=Step)
D = TypeVar("D", bound=Done)

# A step is tried on the spot, as a local activity: one event, no way through the task queue. What fails there
# is handed to the server, which tries it again for as long as it takes, pending where everybody sees it.
_ON_THE_SPOT: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=5),
    "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=2),
}
_PATIENTLY: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=1),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5)),
}


_SUMMARY = 120  # characters: the server refuses a summary of more than 400 bytes


class Dismissed(Exception):
    """An officer has dismissed the case: leave the clause, wherever it stands."""


class Case:
    """One violation. A subclass is one clause of the rulebook, and reads like it."""

    kind: ClassVar[Kind]

    def __init__(self) -> None:
        self._signals: dict[str, tuple[type[Any], Callable[[Any], Awaitable[None]]]] = {
            "report_received": (Report, self._take_report),
            "payment_received": (PaymentReceived, self._take_payment),
        }
        self._reports: deque[Report] = deque()
        self._seen: set[str] = set()
        self._opened: CaseOpened | None = None
        self._stage = Stage.OPENING
        self.business = Business.REGULAR
        self._limit: Deadline | None = None
        self._limit_notice = ""
        self._balance = Balance()
        self._offence: int | None = None
        self._dismissal: Dismiss | None = None
        self._closed = False
        self._moved = False
        self._awaiting: set[Awaiting] = set()
        self._unheard = 0
        self._lines: list[Line] = []
        self._notices: list[NoticeShown] = []
        seen = workflow.info().typed_search_attributes
        self._shown: dict[str, Any] = {key.name: seen.get(key) for key in attributes.ALL}

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
        by, reason = SYSTEM, ""
        try:
            outcome = await self.clause()
        except Dismissed:
            assert self._dismissal
            outcome, by, reason = Stage.DISMISSED, self._dismissal.officer, self._dismissal.reason
            await self._void_fine()
        self._stage = outcome  # from here on, no officer's command comes in between
        self._limit = None
        self._awaiting -= {Awaiting.VERIFICATION}
        await self._join_reports()
        text = f"Case closed: {outcome}" + (f" ({reason})" if reason else "")
        close = CloseCase(**self._step("close", by), outcome=outcome, text=text)
        await self._do(Cases.close_case, close, text)
        self._closed = True
        if outcome is not Stage.SHUT_DOWN:  # its own notice was the last word
            await self.serve(NoticeKind.CLOSING, outcome=outcome, reason=reason)
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._show()
        if self._reports:
            workflow.continue_as_new(CaseStart(reports=tuple(self._reports)))
        return CaseEnded(case_no=self.opened.case_no, outcome=outcome, balance=self._balance)

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
                opening: Opening = await self._ask(Cases.open_case, order, summary)
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

    @property
    def opened(self) -> CaseOpened:
        """The case as it was opened."""
        if self._opened is None:
            raise Refused("the case is not open yet: try again in a moment")
        return self._opened

    @property
    def policy(self) -> Policy:
        """The policy that was in force when the case was opened (5.4)."""
        return self.opened.policy

    def enter(self, stage: Stage) -> None:
        """Go on to the next stage, unless the case has been dismissed."""
        if self._dismissal:
            raise Dismissed
        self._stage = stage

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
        2. the deadline is computed anew, and if it has moved, the wait goes on;
        3. what came in meanwhile is dealt with too; only then, in the same breath, is the limit over.
        """
        spread = timedelta(
            seconds=crc32(self.opened.case_no.encode()) % (60 * self.policy.clock.spread_minutes)
        )
        reckoned = False
        while True:
            await self._join_reports()
            if self._dismissal:
                raise Dismissed
            if met():
                self._limit = None
                return True
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

    def _news(self) -> bool:
        return bool(self._dismissal or self._reports or self._moved)

    async def _wait(self, time: timedelta, summary: str, until: Callable[[], bool]) -> None:
        try:
            await workflow.wait_condition(until, timeout=time, timeout_summary=summary)
        except TimeoutError:
            return

    async def _reckon(self) -> None:
        order = ReckonDeadline(**self._step(self._limit_notice))
        reckoned = await self._ask(Notices.reckon_deadline, order, "Compute the deadline anew")
        if self._limit and reckoned.deadline != self._limit:
            self._limit = later(self._limit, reckoned.deadline)
            self._lines.append(reckoned.line)

    # Steps

    async def serve(
        self,
        kind: NoticeKind,
        within: int | None = None,
        outcome: Stage | None = None,
        reason: str = "",
    ) -> None:
        """Serve a notice; with `within`, it sets a limit of so many working days.

        No clock starts before it is served (4.6).
        """
        order = ServeNotice(
            **self._step(f"notice-{kind}"), kind=kind, working_days=within, outcome=outcome, reason=reason
        )
        served: NoticeServed = await self._ask(
            Notices.serve_notice, order, f"Serve the {kind} notice", awaiting=Awaiting.DELIVERY
        )
        self._lines.append(served.line)
        self._notices.append(
            NoticeShown(notice_no=served.notice_no, kind=kind, served_at=served.line.at, sha256=served.sha256)
        )
        if served.deadline:
            self._limit, self._limit_notice = served.deadline, order.step

    def settled(self) -> bool:
        """Whether the payments have reached the fine (6.2)."""
        return self._balance.settled

    async def impose_fine(self) -> None:
        """Fine the agent by the case's policy and its earlier offences (7.3)."""
        done = await self._do(Fines.impose_fine, ImposeFine(**self._step("fine")), "Impose the fine")
        self._offence = done.offence
        self._balance = Balance(fine=done.balance.fine, paid=max(self._balance.paid, done.balance.paid))

    async def _void_fine(self) -> None:
        if self._balance.fine:
            assert self._dismissal
            order = VoidFine(**self._step("fine-void", self._dismissal.officer))
            await self._do(Fines.void_fine, order, "Void the fine")
            self._balance, self._offence = Balance(paid=self._balance.paid), None

    async def shut_down_account(self) -> None:
        """Shut the agent's account down (2.5)."""
        order = ShutDownAccount(**self._step("account-shutdown"))
        await self._do(Accounts.shut_down_account, order, "Shut the account down")

    async def reclaim_numbers(self) -> None:
        """Take back all the agent's numbers, into quarantine (2.5, 5.3)."""
        order = ReclaimNumbers(**self._step("reclaim"))
        await self._do(Numbers.reclaim_numbers, order, "Take all numbers back")

    async def _join_reports(self) -> None:
        while self._reports:
            report = self._reports.popleft()
            if report.key in self._seen:
                continue
            self._seen.add(report.key)
            order = JoinReport(**self._step(f"report-{report.key}", report.reported_by), report=report)
            try:
                await self._do(Cases.join_report, order, f"Join report {report.key}")
            except Refused as why:
                await self._refuse("report_received", why.message)

    async def add_line(self, step: str, by: str, text: str) -> None:
        """Put a fact of the story on record that changes nothing else."""
        await self._do(Cases.add_line, AddLine(**self._step(step, by), text=text), text)

    def _step(self, step: str, by: str = SYSTEM) -> dict[str, Any]:
        return {"case_no": self.opened.case_no, "step": step, "at": workflow.now(), "by": by}

    async def _do(self, step: Callable[[Any, S], D], order: S, summary: str) -> D:
        """Do a step on record, and add its line to the story."""
        done: D = await self._ask(step, order, summary)
        self._lines.append(done.line)
        return done

    async def _ask(
        self, step: Callable[[Any, Any], Any], order: Any, summary: str, awaiting: Awaiting | None = None
    ) -> Any:
        summary = plain(summary[:_SUMMARY])
        try:
            return await workflow.execute_local_activity_method(step, order, summary=summary, **_ON_THE_SPOT)
        except (ActivityError, ApplicationError) as error:
            self._raise_if_refused(error)
        return await self._ask_patiently(step, order, summary, awaiting)

    async def _ask_patiently(
        self, step: Callable[[Any, Any], Any], order: Any, summary: str, awaiting: Awaiting | None
    ) -> Any:
        """With `awaiting`, an officer is asked to help, and may dismiss the case instead of waiting."""
        doing = workflow.start_activity_method(step, order, summary=summary, **_PATIENTLY)
        if awaiting:
            self._awaiting.add(awaiting)
            self._show()
            await workflow.wait_condition(
                lambda: doing.done() or (bool(self._dismissal) and not self._closed)
            )
            self._awaiting.discard(awaiting)
            if not doing.done():
                doing.cancel()
                raise Dismissed
        try:
            return await doing
        except ActivityError as error:
            self._raise_if_refused(error)
            raise

    @staticmethod
    def _raise_if_refused(error: ActivityError | ApplicationError) -> None:
        # The failure of a local activity comes bare, that of another one inside an ActivityError.
        cause = error.cause if isinstance(error, ActivityError) else error
        if isinstance(cause, ApplicationError) and cause.type == "Refused":
            raise Refused(cause.message) from error

    # Facts from other systems: signals

    @workflow.signal(
        dynamic=True,
        description="report_received, payment_received, rectification_reported; one JSON object each",
    )
    async def signal(self, name: str, args: Sequence[RawValue]) -> None:
        """Every signal comes in by this one door, so that none is lost.

        A handler with a typed argument would drop a signal that doesn't decode, telling nobody, and one with
        an argument too many would stop the case. Here, what isn't understood ends in the story, awaiting an
        officer.
        """
        try:
            take, message = self._understood(name, args)
            await take(message)
        except ApplicationError as error:
            await self._refuse(name, error.message)
        else:
            self._heard()

    def _understood(
        self, name: str, args: Sequence[RawValue]
    ) -> tuple[Callable[[Any], Awaitable[None]], Any]:
        if name not in self._signals:
            raise Refused(f"no such signal here; known are {', '.join(self._signals)}")
        model, take = self._signals[name]
        if len(args) > 1:
            raise Refused("one JSON object is expected")
        try:
            content = workflow.payload_converter().from_payload(args[0].payload) if args else None
            return take, model.model_validate({} if content is None else content)
        except ValidationError as error:
            raise Refused(faults(error)) from error
        except (ValueError, RuntimeError, KeyError) as error:
            raise Refused(f"not readable: {error}") from error

    def _heard(self) -> None:
        """A message was understood: one that was refused before it needs no officer any more."""
        if Awaiting.REFUSED_MESSAGE in self._awaiting:
            self._awaiting.discard(Awaiting.REFUSED_MESSAGE)
            self._show()
        workflow.set_current_details(markdown(self.story()))

    async def _refuse(self, name: str, why: str) -> None:
        await self.is_open()
        self._unheard += 1
        self._awaiting.add(Awaiting.REFUSED_MESSAGE)
        text = f"Signal {name[:100]} refused: {why[:500]}"
        await self.add_line(f"refused-{self._unheard}", SYSTEM, text)
        self._show()

    async def _take_report(self, report: Report) -> None:
        mine = workflow.info().workflow_id
        if workflow_id(report.kind, report.number) != mine:
            raise Refused(f"report {report.key} is about {workflow_id(report.kind, report.number)}")
        self._reports.append(report)

    async def _take_payment(self, payment: PaymentReceived) -> None:
        await self.is_open()
        await self._record_payment(payment)

    async def is_open(self) -> None:
        """Wait until the case has a number, so that what came in can be put on record."""
        await workflow.wait_condition(lambda: self._opened is not None)

    async def _record_payment(self, payment: PaymentReceived) -> str:
        order = RecordPayment(
            **self._step(f"payment-{payment.reference}", payment.by),
            reference=payment.reference,
            amount=payment.amount,
        )
        done = await self._ask(Fines.record_payment, order, f"Payment {payment.reference}")
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
        return self._answer(await self._record_payment(payment))

    @paid.validator
    def _may_be_paid(self, payment: PaymentReceived) -> None:
        self.may_command(payment)

    @workflow.update
    async def extend(self, extension: Extend) -> Answer:
        """Extend the limit that runs by working days (4.4)."""
        update = workflow.current_update_info()
        assert update
        order = ExtendLimit(
            **self._step(f"extend-{update.id}", extension.officer),
            notice_step=self._limit_notice,
            working_days=extension.working_days,
            reason=extension.reason,
        )
        done = await self._do(Notices.extend_limit, order, f"Extend by {extension.working_days} working days")
        self._limit, self._moved = done.deadline, True
        return self._answer(f"The limit now ends {done.deadline}")

    @extend.validator
    def _may_extend(self, extension: Extend) -> None:
        self.may_command(extension)
        self._refuse_if_over()
        if self._limit is None:
            raise Refused(f"no limit is running: the case is in stage {self._stage}")

    @workflow.update
    async def dismiss(self, dismissal: Dismiss) -> Answer:
        """Dismiss the case (5.2): what it did is undone, it doesn't count as an offence."""
        self._dismissal = dismissal
        await workflow.wait_condition(lambda: self._closed)
        return self._answer("Case dismissed")

    @dismiss.validator
    def _may_dismiss(self, dismissal: Dismiss) -> None:
        self.may_command(dismissal)
        self._refuse_if_over()
        if self._dismissal:
            raise Refused(f"{self._dismissal.officer} has dismissed the case already")
        if self._stage is Stage.SHUTDOWN:
            raise Refused("the account is being shut down: too late to dismiss")

    def may_command(self, message: Message | None) -> None:
        """Refuse a command without content (a `null` decodes as None), or before the case is open."""
        if message is None:
            raise Refused("the command is empty: one JSON object is expected")
        _ = self.opened

    def _refuse_if_over(self) -> None:
        if self._stage.ended:
            raise Refused(f"the case has ended: {self._stage}")

    def _answer(self, text: str) -> Answer:
        self._heard()
        return Answer(text=f"{self.opened.case_no}: {text}")

    # What people see

    @workflow.query
    def story(self) -> Story:
        """All that can be said of the case."""
        info = workflow.info()
        opened = self._opened
        return Story(
            workflow_id=info.workflow_id,
            kind=self.kind,
            number=opened.number if opened else info.workflow_id.removeprefix(f"{self.kind}-"),
            case_no=opened.case_no if opened else "",
            customer=opened.customer if opened else "",
            agent_id=opened.agent_id if opened else "",
            agent_name=opened.agent_name if opened else "",
            stage=self._stage,
            deadline=self._limit,
            awaiting=tuple(sorted(self._awaiting)),
            offence=self._offence,
            balance=self._balance,
            notices=tuple(self._notices),
            lines=tuple(self._lines),
        )

    def _show(self) -> None:
        """Bring the search attributes and current details up to date; what is unchanged costs no event."""
        opened = self._opened
        now: dict[str, Any] = {
            attributes.CASE_NO.name: opened and opened.case_no,
            attributes.AGENT.name: opened and opened.agent_id,
            attributes.NUMBER.name: opened and opened.number,
            attributes.STAGE.name: self._stage.value if opened or self._stage.ended else None,
            attributes.DEADLINE.name: self._limit and self._limit.at,
            attributes.FINE_YUAN.name: int(self._balance.fine) if self._offence else None,
            attributes.OFFENCE.name: self._offence,
            attributes.AWAITING.name: sorted(a.value for a in self._awaiting) or None,
        }
        changed = [key for key in attributes.ALL if now[key.name] != self._shown[key.name]]
        if changed:
            workflow.upsert_search_attributes(
                [
                    key.value_unset() if now[key.name] is None else key.value_set(now[key.name])
                    for key in changed
                ]
            )
            self._shown = now
        workflow.set_current_details(markdown(self.story()))
