"""A small world to enforce the rules in: agents with numbers, cases whose time can be moved."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import count, cycle
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import uuid4

from sqlalchemy import inspect, select, text
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from registry.models import Account, Agent, Base, CalendarDay, Evidence, Number
from registry.session import Sessions
from registry.shown import Story
from rulebook.report import Report
from rulebook.vocabulary import SHANGHAI, Business, FilingStatus, Kind, Stage, workflow_id
from starter.reports import submit
from starter.virtual_time import VirtualTime
from workflows import attributes, names
from workflows.after_case import AfterCase, LatePayment
from workflows.appeal import Appeal, Dismissal
from workflows.daily import DailyRound
from workflows.messages import (
    Answer,
    AppealReceived,
    AppealStart,
    CaseEnded,
    CaseStart,
    Dismiss,
    DismissalStart,
    LatePaymentStart,
    OfficerAct,
    PaidLate,
    PaymentReceived,
    ReinstatementStart,
    SeriousEnded,
    SeriousProposed,
)
from workflows.reinstatement import Reinstatement
from workflows.serious import SeriousCircumstances

Row = TypeVar("Row", bound=Base)

# Ids of workflows are numbers: no two tests of a process may use the same one.
_serial = count(1)


def shanghai(day: str, at: str = "10:00") -> datetime:
    """A moment as people in China say it; `at` may be 24:00."""
    if at == "24:00":
        return datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(), SHANGHAI)
    return datetime.combine(date.fromisoformat(day), time.fromisoformat(at), SHANGHAI)


def an_agent(
    on_record: Sessions, numbers: int = 1, operators: tuple[str, ...] = ("中国电信",), **described: str
) -> list[str]:
    """Put an agent with some numbers on record, of these operators in turn; returns the numbers."""
    serial = next(_serial)
    agent = {
        "agent_id": f"A{serial:04}",
        "name": f"甲{serial}通信有限公司",
        "contact": "王芳",
        "email": f"a{serial}@agent.example",
        "phone": "13800000000",
    } | described
    held = [f"400{next(_serial):07}" for _ in range(numbers)]
    with on_record.begin() as session:
        session.add(Agent(**agent, account=Account()))
        session.flush()
        for number, operator in zip(held, cycle(operators), strict=False):
            session.add(
                Number(
                    number=number,
                    agent_id=agent["agent_id"],
                    customer=f"乙{number}商贸有限公司",
                    customer_email=f"office@{number}.example",
                    certificate="91310000MA1FL0000X",
                    renewal_due=date(2038, 12, 1),
                    operator=operator,
                )
            )
    return held


def a_report(
    number: str, business: Business = Business.REGULAR, kind: Kind = Kind.SECONDARY_SALE, **said: Any
) -> Report:
    """A report of a violation, a secondary sale if nothing else is said."""
    described = {
        "source": "monitor",
        "report_id": f"R{next(_serial)}",
        "facts": "登记客户与实际用户不一致",
    } | said
    return Report(kind=kind, number=number, business=business, **described)


class CaseInTime:
    """One case under test, with a clock of its own."""

    def __init__(self, world: "World", case_id: str) -> None:
        self.world, self.id = world, case_id
        self.handle: WorkflowHandle[Any, CaseEnded] = world.client.get_workflow_handle(
            case_id, result_type=CaseEnded
        )

    async def until(self, day: str, at: str = "10:00") -> Stage:
        """Let time pass until then; the stage in which the case is."""
        await self.world.time.until(self.id, shanghai(day, at))
        return (await self.story()).stage

    async def story(self) -> Story:
        story: Story = await self.handle.query("story", result_type=Story)
        return story

    async def stage(self) -> Stage:
        return (await self.story()).stage

    async def case_no(self) -> str:
        return (await self.story()).case_no

    async def once(self, holds: Callable[[Story], bool]) -> Story:
        """The story as soon as this holds of it; as it then is if it doesn't come to hold."""
        for _ in range(400):
            try:
                if holds(await self.story()):
                    break
            except RPCError as error:  # it may have been started without having done anything yet
                if error.status is not RPCStatusCode.FAILED_PRECONDITION:
                    raise
            await asyncio.sleep(0.05)  # signals and deliveries don't answer
        return await self.story()

    async def last_day(self) -> str | None:
        """The day at whose 24:00 the limit that runs ends."""
        limit = (await self.story()).deadline
        return str(limit.last_day) if limit else None

    async def attributes(self) -> dict[str, Any]:
        """What the Web UI can filter by, as it stands; what isn't set is left out."""
        names = {key.name for key in attributes.ALL}
        known = (await self.handle.describe()).typed_search_attributes
        return {pair.key.name: pair.value for pair in known if pair.key.name in names}

    async def told(self) -> list[str]:
        """The texts of the story so far."""
        return [line.text for line in (await self.story()).lines]

    async def rectified(self, **said: Any) -> str:
        return await self._update("rectified", said)

    async def verify(self, passed: bool, reason: str = "still in use", officer: str = "李敏") -> str:
        return await self._update("verify", {"officer": officer, "passed": passed, "reason": reason})

    async def paid(self, amount: str, reference: str) -> str:
        return await self._update("paid", {"amount": amount, "reference": reference})

    async def extend(self, working_days: int, officer: str = "李敏") -> str:
        extension = {"officer": officer, "working_days": working_days, "reason": "flood"}
        return await self._update("extend", extension)

    async def dismiss(self, reason: str = "wrong number", officer: str = "李敏") -> str:
        return await self._update("dismiss", {"officer": officer, "reason": reason})

    async def appeal(self, statement: str = "号码一直由登记客户使用", evidence: tuple[str, ...] = ()) -> str:
        message = {"by": "陈静", "statement": statement, "evidence": list(evidence)}
        return await self._update("appeal", message)

    async def decide(self, upheld: bool, officer: str = "张伟", reason: str = "已复核") -> str:
        return await self._update("decide", {"officer": officer, "upheld": upheld, "reason": reason})

    async def hold(self, reason: str = "等待反馈") -> str:
        return await self._update("hold", {"officer": "李敏", "reason": reason})

    async def resume(self) -> str:
        return await self._update("resume", {"officer": "李敏"})

    async def served(self, on: str, proof: str, method: str = "EMS 1234567890123") -> str:
        message = {"officer": "李敏", "method": method, "on": on, "proof": proof}
        return await self._update("served", message)

    async def _update(self, name: str, message: dict[str, Any]) -> str:
        """Command as the officers' desk does: again under the same id where a workflow task took it along."""
        command_id = f"{name}-{uuid4()}"
        while True:
            try:
                answer: Answer = await self.handle.execute_update(
                    name, message, id=command_id, result_type=Answer
                )
            except RPCError as error:
                if error.status is not RPCStatusCode.FAILED_PRECONDITION:
                    raise
                await asyncio.sleep(0.1)
            else:
                return answer.text

    async def signal(self, name: str, message: Any) -> None:
        """Send a signal as the Web UI does: plain JSON."""
        await self.handle.signal(name, message)

    async def ended(self) -> CaseEnded:
        """How it ended; it has to have ended by now."""
        return await asyncio.wait_for(self.handle.result(), 20)


class SeriousInTime(CaseInTime):
    """The proceeding about the serious circumstances of one fraud case, with a clock of its own."""

    async def approve(self, officer: str = "张伟") -> str:
        return await self._update("approve", {"officer": officer})

    async def reject(self, reason: str = "证据不足", officer: str = "张伟") -> str:
        return await self._update("reject", {"officer": officer, "reason": reason})

    async def filing(self, filing_no: str, status: FilingStatus, reason: str = "") -> str:
        report = {"officer": "陈静", "filing_no": filing_no, "status": status, "reason": reason}
        return await self._update("filing", report)

    async def outcome(self) -> Stage:
        """How it ended; it has to have ended by now. Raises what it failed with."""
        handle = self.world.client.get_workflow_handle(self.id, result_type=SeriousEnded)
        ended: SeriousEnded = await asyncio.wait_for(handle.result(), 20)
        return ended.outcome


class RestitutionInTime(CaseInTime):
    """What is left to officers after one case was undone."""

    async def refunded(self, reference: str = "refund-1") -> str:
        return await self._update("refunded", {"officer": "李敏", "reference": reference})

    async def substituted(self, number: str, substitute: str | None = None, reason: str = "") -> str:
        message = {"officer": "李敏", "number": number, "substitute": substitute, "reason": reason}
        return await self._update("substituted", message)

    async def withdrawn(self, filing_no: str) -> str:
        message = {"officer": "李敏", "filing_no": filing_no, "status": FilingStatus.WITHDRAWN}
        return await self._update("filing", message)

    async def reviewed(self, case_no: str, lower: bool, reason: str = "前案已撤销") -> str:
        message = {"officer": "李敏", "case_no": case_no, "lower": lower, "reason": reason}
        return await self._update("reviewed", message)


@dataclass(frozen=True)
class World:
    """A Temporal server, a registry, a worker between them, and the folder where letters arrive."""

    client: Client
    time: VirtualTime
    on_record: Sessions
    task_queue: str
    outbox: Path

    async def open(self, report: Report, on: str | None = None, at: str = "10:00") -> CaseInTime:
        """Report a violation, on a day to come if one is given; the case is open when this returns."""
        case = CaseInTime(self, workflow_id(report.kind, report.number))
        if on:
            await self.client.start_workflow(
                names.CLAUSES[report.kind], CaseStart(), id=case.id, task_queue=self.task_queue
            )
            assert shanghai(on, at) > datetime.now(UTC), f"{on} is past"
            await self.time.until(case.id, shanghai(on, at))
        await self.report(report)
        await case.once(lambda told: bool(told.notices or told.awaiting or told.stage.ended))
        return case

    async def report(self, report: Report) -> None:
        await submit(self.client, self.on_record, self.task_queue, report)

    async def propose(self, case_no: str, on: str, at: str = "10:00", officer: str = "李敏") -> SeriousInTime:
        """Find the circumstances of a case serious; it awaits approval, or has failed, when this returns."""
        # A finding after a rejected one starts at the time of the server, not where the first one stood.
        world = replace(self, time=VirtualTime(self.client))
        serious = SeriousInTime(world, f"serious-{case_no}")
        proposed = SeriousProposed(
            case_no=case_no, officer=officer, reasons="涉案金额特别巨大", evidence=("报案回执-2038-17",)
        )
        if await world._start(SeriousCircumstances.run, [proposed], serious.id, on, at):
            await serious.once(lambda told: bool(told.awaiting))
        return serious

    async def act(
        self,
        case_no: str,
        act: Literal["reopen", "unfreeze", "refunded"],
        on: str,
        reference: str | None = None,
    ) -> str:
        """Have an officer act on a case that has ended; returns the answer. Raises what it failed with."""
        told = OfficerAct(case_no=case_no, act=act, officer="李敏", reference=reference)
        named = f"{act}-{case_no}-{next(_serial)}"
        await self._start(AfterCase.run, [told], named, on)
        handle = self.client.get_workflow_handle(named, result_type=Answer)
        answer: Answer = await asyncio.wait_for(handle.result(), 10)
        return answer.text

    async def appeal_after(self, case_no: str, on: str) -> CaseInTime:
        """Have the agent appeal against a case that has ended; it awaits a decision, or has failed."""
        appeal = CaseInTime(replace(self, time=VirtualTime(self.client)), f"appeal-{case_no}")
        said = AppealReceived(by="陈静", statement="号码一直由登记客户使用")
        start = AppealStart(case_no=case_no, appeal=said)
        if await appeal.world._start(Appeal.run, [start], appeal.id, on):
            await appeal.once(lambda told: bool(told.awaiting))
        return appeal

    async def dismiss_after(self, case_no: str, on: str, officer: str = "张伟") -> Stage:
        """Have an officer dismiss a case that has ended. Raises what it failed with."""
        said = Dismiss(officer=officer, reason="号码登记有误")
        named = f"dismissal-{case_no}"
        await self._start(Dismissal.run, [DismissalStart(case_no=case_no, dismissal=said)], named, on)
        handle = self.client.get_workflow_handle(named, result_type=CaseEnded)
        ended: CaseEnded = await asyncio.wait_for(handle.result(), 20)
        return ended.outcome

    async def pay_after(
        self, case_no: str, amount: str, reference: str, known: str, had_on: str | None = None
    ) -> PaidLate:
        """Record a payment for a case that has ended, on the day on which it is known."""
        payment = PaymentReceived(
            reference=reference, amount=Decimal(amount), by="李敏", on=had_on and date.fromisoformat(had_on)
        )
        named = f"late-payment-{self.task_queue}-{reference}-{next(_serial)}"
        await self._start(LatePayment.run, [LatePaymentStart(case_no=case_no, payment=payment)], named, known)
        handle = self.client.get_workflow_handle(named, result_type=PaidLate)
        paid: PaidLate = await asyncio.wait_for(handle.result(), 20)
        return paid

    async def reinstate(
        self, case_no: str, on: str, *, reason: str = "银行已于期限内入账", keep: bool = False
    ) -> CaseInTime:
        """Have an officer take the shutdown of a case back; it has done so, or failed, when this returns."""
        one = CaseInTime(replace(self, time=VirtualTime(self.client)), f"reinstatement-{case_no}")
        start = ReinstatementStart(case_no=case_no, officer="李敏", reason=reason, keep=keep)
        await one.world._start(Reinstatement.run, [start], one.id, on)
        return one

    def restitution(self, case_no: str) -> RestitutionInTime:
        """What is left to officers after that case was undone."""
        return RestitutionInTime(self, f"restitution-{case_no}")

    def evidence(self, content: bytes = b"receipt") -> str:
        """Put a file on record; its hash."""
        sha256 = hashlib.sha256(content).hexdigest()
        with self.on_record.begin() as session:
            session.add(
                Evidence(
                    sha256=sha256,
                    name="回执.jpg",
                    content=content,
                    added_at=shanghai("2038-01-04"),
                    added_by="李敏",
                )
            )
        return sha256

    async def round(self, on: str) -> None:
        """Have the daily round of a day run."""
        named = f"daily-round-{self.task_queue}-{next(_serial)}"
        await self._start(DailyRound.run, [], named, on, "06:00")
        await asyncio.wait_for(self.client.get_workflow_handle(named).result(), 20)

    async def _start(self, run: Any, told: list[Any], named: str, on: str, at: str = "10:00") -> bool:
        """Start a workflow at a moment to come; False if it ended at once."""
        delay = shanghai(on, at) - self.time.now(named)
        await self.client.start_workflow(
            run, args=told, id=named, task_queue=self.task_queue, start_delay=delay
        )
        return await self.time.forward(named, delay + timedelta(seconds=1))

    async def held_up(self, steps: int) -> None:
        """Let the cases go on until so many of their steps wait for a lock that somebody holds."""
        waiting = text("select count(distinct pid) from pg_locks where not granted")
        for _ in range(80):
            with self.on_record() as session:
                if session.execute(waiting).scalar_one() >= steps:
                    return
            await asyncio.sleep(0.05)  # nothing tells when they wait
        raise TimeoutError(f"less than {steps} steps wait for a lock")

    def arrange(self, days: dict[str, bool], *, closing: bool = False) -> None:
        """Put a published arrangement, or closing days, on record: which days are worked."""
        with self.on_record.begin() as session:
            session.add_all(
                CalendarDay(day=date.fromisoformat(day), closing=closing, works=works, reason="arranged")
                for day, works in days.items()
            )

    def rows(self, table: type[Row]) -> list[Row]:
        """All rows of a table of the registry, in the order of their keys."""
        with self.on_record() as session:
            return list(session.scalars(select(table).order_by(*inspect(table).primary_key)))

    async def found(self, query: str, expected: int = 1) -> list[str]:
        """The ids of the cases that the Web UI lists for a query, once there are as many as expected."""
        found: list[str] = []
        for _ in range(400):
            found = sorted([case.id async for case in self.client.list_workflows(query)])
            if len(found) == expected:
                break
            await asyncio.sleep(0.05)  # the list follows the cases a moment later
        return found

    @contextmanager
    def undeliverable(self) -> Iterator[None]:
        """No letter can be delivered until the context ends: a file stands where their folder was."""
        aside = self.outbox.with_name("aside")
        if self.outbox.exists():
            self.outbox.rename(aside)
        self.outbox.touch()
        try:
            yield
        finally:
            self.outbox.unlink()
            if aside.exists():
                aside.rename(self.outbox)

    def letters(self) -> list[EmailMessage]:
        """The letters that were delivered, in the order of their numbers."""
        return [
            message_from_bytes(file.read_bytes(), policy=policy.default)
            for file in sorted(self.outbox.glob("*.eml"))
        ]


def wording(letter: EmailMessage) -> str:
    """The plain text of a letter."""
    body = letter.get_body(("plain",))
    assert body is not None
    text: str = body.get_content()
    return text.replace("\r\n", "\n")


async def unschedule(client: Client) -> None:
    """Delete the schedules, also those that an earlier test's worker process has left in the server."""
    for scheduled in ("daily-round", "detection"):
        with suppress(RPCError):
            await client.get_schedule_handle(scheduled).delete()
