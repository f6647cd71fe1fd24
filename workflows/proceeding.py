"""What every workflow about a case shares: steps done once, messages in, what people see."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.exceptions import TimeoutError as TimedOut

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from activities.cases import AddLine, CaseOpened, Cases, OthersOpen
    from activities.filings import Filings, MoveFiling
    from activities.notices import BounceNotice, Notices, NoticeServed, ServeByHand, ServeNotice
    from activities.step import SYSTEM, Refused, Step
    from registry.audit import Done
    from registry.shown import FilingShown, Line, NoticeShown, Story
    from rulebook.deadlines import Deadline
    from rulebook.money import Balance
    from rulebook.policy import Policy, in_force
    from rulebook.vocabulary import Awaiting, Kind, NoticeKind, Stage, faults
    from workflows import attributes, names
    from workflows.messages import (
        AccountClosed,
        Answer,
        FilingReported,
        Message,
        NoticeBounced,
        ServedByHand,
    )
    from workflows.story import brief, markdown

S = TypeVar("S", bound=Step)
D = TypeVar("D", bound=Done)

# A step is tried on the spot, as a local activity: one event, no way through the task queue. What fails there
# is handed to the server, which tries it again for as long as it takes, pending where everybody sees it.
_ON_THE_SPOT: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=5),
    "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=2),
}
# A letter has one attempt there, so that a mail server which hangs holds one thread for it and not two.
_AT_ONCE_OR_LATER = _ON_THE_SPOT | {"retry_policy": RetryPolicy(maximum_attempts=1)}
_PATIENTLY: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=1),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5)),
}


class Proceeding:
    """A workflow about one case. Steps go on record, each once; officers' commands and facts come in."""

    kind: Kind

    def __init__(self) -> None:
        self._signals: dict[str, tuple[type[Any], Callable[[Any], Awaitable[None]]]] = {
            "notice_bounced": (NoticeBounced, self._take_bounced)
        }
        self._opened: CaseOpened | None = None
        self._stage = Stage.OPENING
        self._limit: Deadline | None = None
        self._balance = Balance()
        self._offence: int | None = None
        self._awaiting: set[Awaiting] = set()
        self._unheard = 0
        self._steps: set[str] = set()
        self._lines: list[Line] = []
        self._notices: list[NoticeShown] = []
        self._filings: dict[str, FilingShown] = {}
        self._undelivered: ServeNotice | None = None
        self._by_hand: NoticeServed | None = None
        self._bounced: list[str] = []
        named = workflow.info().workflow_id.partition("-")[2]
        for kind in Kind:
            if named.startswith(f"{kind.prefix}-"):  # beside a case or after it: asked before it is found
                self.kind = kind
        seen = workflow.info().typed_search_attributes
        self._shown: dict[str, Any] = {key.name: seen.get(key) for key in attributes.ALL}

    @property
    def opened(self) -> CaseOpened:
        """The case as it was opened."""
        if self._opened is None:
            raise Refused("the case is not open yet: try again in a moment")
        return self._opened

    @property
    def policy(self) -> Policy:
        """The policy that was in force when the case was opened (5.4)."""
        return in_force(self.opened.policy)

    def left(self) -> Exception | None:
        """Why the workflow must leave what it is doing, if it must: an officer's decision, another case."""
        return None

    # Steps

    async def serve(
        self, kind: NoticeKind, within: int | None = None, nth: int = 1, **told: Any
    ) -> NoticeServed:
        """Serve a notice, the `nth` of its kind; with `within`, it sets a limit of so many working days.

        No clock starts before it is served (4.6): one that can't be delivered waits for an officer who has
        served it another way. `told` is what the letter says beyond the record.
        """
        step = f"notice-{kind}" + (f"-{nth}" if nth > 1 else "")
        order = ServeNotice(**self.step(step), kind=kind, working_days=within, **told)
        limit = f", limit of {within} working days" if within else ""
        served = await self.deliver(order, f"Serve the {kind.replace('-', ' ')} notice{limit}")
        self._lines.append(served.line)
        self._notices.append(
            NoticeShown(notice_no=served.notice_no, kind=kind, served_at=served.line.at, sha256=served.sha256)
        )
        return served

    async def deliver(self, order: ServeNotice, summary: str) -> NoticeServed:
        """Have a notice served, by an officer if it can't be delivered (4.6)."""
        self._undelivered, self._by_hand = order, None
        try:
            served: NoticeServed = await self.ask(Notices.serve_notice, order, summary, letter=True)
        finally:
            self._undelivered = None
        return served

    async def tell_other_cases(self, *, own: bool = False) -> None:
        """Let the agent's other open cases know that its account is closed (7.2); with `own`, this too."""
        asked = OthersOpen(case_no=self.opened.case_no, own=own)
        others: list[str] = await self.ask(Cases.others_open, asked, "Find the agent's other open cases")
        for other in others:
            await self.tell(other, "account_closed", AccountClosed(in_case=self.opened.case_no))

    async def tell(self, workflow_id: str, signal: str, message: Message | None = None) -> None:
        """Send a signal to another workflow, if it goes on."""
        other = workflow.get_external_workflow_handle(workflow_id)
        with suppress(FailureError):  # there is none, or it has ended
            await (other.signal(signal, message) if message else other.signal(signal))

    async def move_filing(self, report: FilingReported) -> None:
        """Put on record what became of a filing. Raises `Refused` where its status doesn't allow it."""
        order = MoveFiling(
            **self.step(self.asked("filing"), report.officer),
            filing_no=report.filing_no,
            status=report.status,
            reason=report.reason,
        )
        moved = await self.do(Filings.move_filing, order, f"Filing {report.filing_no} {report.status}")
        self._filings[report.filing_no] = moved.filing

    async def add_line(
        self,
        step: str,
        by: str,
        text: str,
        *,
        begins: Awaiting | None = None,
        ends: Awaiting | None = None,
    ) -> Line:
        """Put a fact of the story on record; with it, something begins or ends to wait for an officer.

        Returns the line that is on record: of two at once for one step, the first one's.
        """
        order = AddLine(**self.step(step, by), text=text, begins=begins, ends=ends)
        return (await self.do(Cases.add_line, order, text)).line

    def step(self, step: str, by: str = SYSTEM) -> dict[str, Any]:
        """What every step is told: which case it is, its own name, the time, and who does it."""
        self._steps.add(step)
        case = {"case_no": self.opened.case_no, "opened": self.opened.line.at}
        return {**case, "step": step, "at": workflow.now(), "by": by}

    @staticmethod
    def asked(step: str) -> str:
        """The key of a step that a command asks for, or else how the workflow was started: once for each."""
        update = workflow.current_update_info()
        return f"{step}-{update.id if update else workflow.info().run_id}"

    async def do(self, step: Callable[[Any, S], D], order: S, summary: str, *, decided: bool = False) -> D:
        """Do a step on record, and add its line to the story. Raises `Refused`.

        What is done on the spot takes effect before it is in the history: should the worker die in between,
        it is done over, with the messages that came meanwhile. A step that rests on a decision which these
        could turn, a penalty above all, is `decided`: the decision is in the history before anything happens.
        """
        if decided:
            done: D = await self._ask_patiently(step, order, brief(summary))
        else:
            done = await self.ask(step, order, summary)
        self._lines.append(done.line)
        return done

    async def ask(
        self, step: Callable[[Any, Any], Any], order: Any, summary: str, *, letter: bool = False
    ) -> Any:
        """Do a step, and leave its line to the caller. Raises `Refused`."""
        summary = brief(summary)
        how = _AT_ONCE_OR_LATER if letter else _ON_THE_SPOT
        try:
            return await workflow.execute_local_activity_method(step, order, summary=summary, **how)
        except (ActivityError, ApplicationError, TimedOut) as error:
            self._raise_if_refused(error)
        return await self._ask_patiently(step, order, summary, letter=letter)

    async def _ask_patiently(
        self, step: Callable[[Any, Any], Any], order: Any, summary: str, *, letter: bool = False
    ) -> Any:
        """A letter waits in a queue of its own; an officer is asked to help, and may end the case instead."""
        queue = workflow.info().task_queue
        where = names.deliveries(queue) if letter else queue
        doing = workflow.start_activity_method(step, order, task_queue=where, summary=summary, **_PATIENTLY)
        if letter:
            self._awaiting.add(Awaiting.DELIVERY)
        self._show()
        if letter:
            await workflow.wait_condition(
                lambda: self._is_done(doing) or self.left() is not None or self._by_hand is not None
            )
            self._delivered()
            if self._by_hand is not None:
                doing.cancel()
                return self._by_hand
            if not self._is_done(doing) and (why := self.left()):
                doing.cancel()
                raise why
        try:
            return await doing
        except ActivityError as error:
            self._raise_if_refused(error)
            raise

    @staticmethod
    def _is_done(doing: workflow.ActivityHandle[Any]) -> bool:
        """Whether it has come to an end other than that of a letter which nobody can deliver."""
        if not doing.done() or doing.cancelled():
            return doing.done()
        error = doing.exception()
        cause = error.cause if isinstance(error, ActivityError) else None
        return not (isinstance(cause, ApplicationError) and cause.type == "Undeliverable")

    @staticmethod
    def _raise_if_refused(error: ActivityError | ApplicationError | TimedOut) -> None:
        # A local activity's failure comes bare (on replay its time-out too), another's in an ActivityError.
        cause = error.cause if isinstance(error, ActivityError) else error
        if isinstance(cause, ApplicationError) and cause.type == "Refused":
            raise Refused(cause.message) from error

    # Facts from other systems: signals

    @workflow.signal(
        dynamic=True,
        description="report_received, payment_received, rectification_reported, customer_confirmed, "
        "notice_bounced; one JSON object each",
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
        await self.add_line(f"refused-{workflow.info().run_id}-{self._unheard}", SYSTEM, text)
        self._show()

    async def is_open(self) -> None:
        """Wait until the case has a number, so that what came in can be put on record."""
        await workflow.wait_condition(lambda: self._opened is not None)

    # Officers' commands

    def may_command(self, message: Message | None) -> None:
        """Refuse a command without content (a `null` decodes as None), or before the case is open."""
        if message is None:
            raise Refused("the command is empty: one JSON object is expected")
        _ = self.opened

    @workflow.update
    async def served(self, message: ServedByHand) -> Answer:
        """Record that an officer has served the notice that could not be delivered, or bounced (4.6)."""
        undelivered = self._undelivered
        bounced = "" if undelivered else self._bounced[0]
        how = self.step(undelivered.step if undelivered else f"again-{bounced}", message.officer)
        order = ServeByHand(
            **(how | {"case_no": undelivered.case_no, "opened": undelivered.opened} if undelivered else how),
            method=message.method,
            on=message.on,
            proof=message.proof,
            bounced=bounced,
        )
        how_served = f"Served by {message.officer}: {message.method}"
        served: NoticeServed = await self.ask(Notices.serve_by_hand, order, how_served)
        if undelivered:
            self._by_hand = served
        else:
            self.served_again(served)
        until = f"; the limit ends {served.deadline}" if served.deadline else ""
        return self.answer(f"notice {served.notice_no} is served{until}")

    @served.validator
    def _may_be_served(self, message: ServedByHand) -> None:
        self.may_command(message)
        if Awaiting.DELIVERY not in self._awaiting:
            raise Refused("every notice of the case has been delivered")
        if self._by_hand is not None:
            raise Refused(f"notice {self._by_hand.notice_no} was served already")

    @workflow.update
    async def bounced(self, message: NoticeBounced) -> Answer:
        """Record that a notice has bounced (4.6)."""
        await self._take_bounced(message)
        return self.answer(f"notice {message.notice_no} has bounced: it has to be served another way")

    @bounced.validator
    def _may_have_bounced(self, message: NoticeBounced) -> None:
        self.may_command(message)

    async def _take_bounced(self, message: NoticeBounced) -> None:
        """Wait for an officer who serves a notice that has bounced; of two reports, the first counts."""
        await self.is_open()
        order = BounceNotice(
            **self.step(f"bounced-{message.notice_no}", message.by),
            notice_no=message.notice_no,
            reason=message.reason,
        )
        before = len(self._lines)
        summary = f"Record that notice {message.notice_no} bounced: {message.reason}"
        done = await self.ask(Notices.bounce_notice, order, summary)
        if done.line in self._lines[:before]:
            return
        self._lines.append(done.line)
        self._bounced.append(message.notice_no)
        self._awaiting.add(Awaiting.DELIVERY)
        self._show()

    def served_again(self, served: NoticeServed) -> None:
        """An officer has served a notice that had bounced."""
        self._lines.append(served.line)
        self._bounced.remove(served.notice_no)
        self._delivered()
        self._show()

    def _delivered(self) -> None:
        """No letter waits for an officer any more but those that have bounced."""
        if not self._bounced:
            self._awaiting.discard(Awaiting.DELIVERY)

    @workflow.update(dynamic=True)
    async def command(self, name: str, args: Sequence[RawValue]) -> Answer:
        """What is no command here is refused in words, by the validator."""
        raise Refused(name[:100])

    @command.validator
    def _is_unknown(self, name: str, args: Sequence[RawValue]) -> None:
        raise Refused(f"{name[:100]!r} is no command for {workflow.info().workflow_type}")

    def answer(self, text: str) -> Answer:
        """The answer to an officer's command."""
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
            filings=tuple(self._filings.values()),
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
