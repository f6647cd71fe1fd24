"""Whatever happens to cases, in any order and at any time: a model of the rulebook foretells what stands."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import chain, count, permutations
from typing import Any, NamedTuple, TypeVar

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, inspect, select, text
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import (
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from registry.models import Account, AuditLine, CalendarDay, Case, Fine, Notice, Number, Payment, ReportRow
from rulebook.report import Report
from rulebook.vocabulary import (
    SHANGHAI,
    AccountStatus,
    Awaiting,
    Business,
    FineStatus,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
    workflow_id,
)
from rulebook.working_days import Calendar, Deadline, deadline
from starter.settings import Refused
from tests.world import CaseInTime, World, a_report, an_agent, shanghai
from worker import WORKFLOWS
from workflows.after_case import LatePayment
from workflows.messages import CaseEnded, CaseStart, LatePaymentStart, PaymentReceived, Story

T = TypeVar("T")

# Monday; before Spring Festival; before the May holiday; at the end of a year.
DAYS = ("2038-03-01", "2038-02-03", "2038-04-30", "2038-12-29")
TEXTS = ("号码已恢复由登记客户使用", "𠮷😀 \u202e反", "第一行\r\nBcc: all@agent.example", "a\x00b")
GARBAGE: tuple[tuple[str, str, Any], ...] = (
    ("signal", "payment_received", {"reference": "G1", "amount": "-5"}),
    ("signal", "payment_received", {"reference": "G1", "amount": "0.001"}),
    ("signal", "payment_received", {"reference": "G1", "amount": "NaN"}),
    ("signal", "payment_received", {"reference": " \x00", "amount": 1}),
    ("signal", "payment_received", ["G1", 1000]),
    ("signal", "payment_received", None),
    ("signal", "rectification_reported", {"by": "代理商", "整改": True}),
    ("signal", "rectification_reported", "done"),
    ("signal", "report_received", {"source": "monitor"}),
    ("signal", "report_received", a_report("4009999999").model_dump(mode="json")),
    ("signal", "付款", {"reference": "G1", "amount": 1}),
    ("update", "paid", {"reference": "G1", "amount": True}),
    ("update", "paid", None),
    ("update", "verify", {"officer": "", "passed": True}),
    ("update", "verify", None),
    ("update", "extend", {"officer": "李敏", "working_days": 0, "reason": "x"}),
    ("update", "extend", None),
    ("update", "dismiss", {"officer": "李敏", "reason": ""}),
    ("update", "dismiss", None),
    ("update", "rectified", None),
    ("update", "撤销", {}),
)

_serial = count(1)


# What may happen, each to the case of one number; numbers are named by their place in the plan


@dataclass(frozen=True)
class Reported:
    number: int
    irregular: bool
    facts: str
    by_signal: bool = False


@dataclass(frozen=True)
class ReportedAgain:
    number: int
    by_signal: bool


@dataclass(frozen=True)
class Rectified:
    number: int
    statement: str = ""
    by_signal: bool = False


@dataclass(frozen=True)
class Verified:
    number: int
    passed: bool


@dataclass(frozen=True)
class Paid:
    """A third of what is due, all of it, or a fen more; before a fine is set, of the first fine."""

    number: int
    share: str
    by_signal: bool = False


@dataclass(frozen=True)
class PaidAgain:
    """A bank reference comes a second time: with the same amount, another one, or for another case."""

    number: int
    like: str
    by_signal: bool = False


@dataclass(frozen=True)
class Extended:
    number: int
    working_days: int


@dataclass(frozen=True)
class Dismissed:
    number: int
    reason: str


@dataclass(frozen=True)
class TimePasses:
    """Until just before the limit ends, just after, or some days on."""

    number: int
    until: str | int


@dataclass(frozen=True)
class ClosingDay:
    """The platform closes on the last day of the limit that runs."""

    number: int


@dataclass(frozen=True)
class Garbage:
    number: int
    which: int


Happening = (
    Reported
    | ReportedAgain
    | Rectified
    | Verified
    | Paid
    | PaidAgain
    | Extended
    | Dismissed
    | TimePasses
    | ClosingDay
    | Garbage
)


@dataclass(frozen=True)
class AtOnce:
    first: Happening
    second: Happening


@dataclass(frozen=True)
class Violation:
    agent: int
    irregular: bool
    day: str


@dataclass(frozen=True)
class Plan:
    violations: tuple[Violation, ...]
    happenings: tuple[Happening | AtOnce, ...]


def _any_of(number: st.SearchStrategy[int]) -> list[st.SearchStrategy[Happening]]:
    flag, words = st.booleans(), st.sampled_from(TEXTS)
    return [
        st.builds(TimePasses, number, st.sampled_from(["over", "eve", 1, 9])),
        st.builds(Rectified, number, words, flag),
        st.builds(Verified, number, flag),
        st.builds(Paid, number, st.sampled_from(["all", "part", "more"]), flag),
        st.builds(Extended, number, st.integers(1, 3)),
        st.builds(Reported, number, flag, words, flag),
        st.builds(ReportedAgain, number, flag),
        st.builds(PaidAgain, number, st.sampled_from(["same", "amount", "case"]), flag),
        st.builds(Dismissed, number, words),
        st.builds(ClosingDay, number),
        st.builds(Garbage, number, st.integers(0, len(GARBAGE) - 1)),
    ]


def _at_once(number: int) -> st.SearchStrategy[AtOnce]:
    """Something else, mostly to the same case, while the case takes a turn: there most harm is done."""
    turns = [
        TimePasses(number, "over"),
        Verified(number, True),
        Verified(number, False),
        Paid(number, "all"),
        Dismissed(number, TEXTS[0]),
    ]
    either = st.one_of(*_any_of(st.just(number))), st.one_of(*_any_of(NUMBERS))
    return st.builds(AtOnce, st.sampled_from(turns) | either[1], st.one_of(*either))


# One number gets most of it: a case must come far before it can go wrong.
NUMBERS = st.sampled_from([0, 0, 0, 1, 2])
ONE = _any_of(NUMBERS)
AT_ONCE = NUMBERS.flatmap(_at_once)
# Time, rectification and payment more often than the rest: without them no case gets anywhere.
HAPPENINGS: st.SearchStrategy[Happening | AtOnce] = st.one_of(*ONE, *ONE[:4] * 2, ONE[0], *[AT_ONCE] * 5)
VIOLATIONS = st.builds(Violation, st.integers(0, 1), st.booleans(), st.sampled_from(DAYS))
# Three short lists on end are longer on the average than one long list.
PLANS = st.builds(
    Plan,
    st.lists(VIOLATIONS, min_size=1, max_size=3).map(tuple),
    st.tuples(*[st.lists(HAPPENINGS, max_size=5)] * 3).map(lambda lists: tuple(chain(*lists))),
)


# The same with amounts, moments and reports filled in: what is really sent


@dataclass(frozen=True)
class Handed:
    number: int
    report: Report
    by_signal: bool


@dataclass(frozen=True)
class Money:
    number: int
    reference: str
    amount: Decimal
    by_signal: bool


@dataclass(frozen=True)
class Until:
    number: int
    moment: datetime


@dataclass(frozen=True)
class Closed:
    number: int
    day: date


Act = Handed | Rectified | Verified | Money | Extended | Dismissed | Until | Closed | Garbage


# What must come of it: the rulebook without Temporal, without a database


@dataclass
class Conducted:
    """A case in the model. `now` is its own time, true to some minutes."""

    number: int
    now: datetime
    served: datetime
    within: int
    last_day: date
    stage: Stage = Stage.RECTIFICATION
    waiting: bool = False
    offence: int | None = None
    fine: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    refused: int = 0
    notices: list[NoticeKind] = field(default_factory=lambda: [NoticeKind.RECTIFICATION_ORDER])

    @property
    def midnight(self) -> datetime:
        return Deadline(last_day=self.last_day).at


class CaseStands(NamedTuple):
    stage: Stage
    waiting: bool
    last_day: date | None
    offence: int | None
    fine: Decimal
    fine_status: FineStatus | None
    paid: Decimal
    refused: int
    notices: tuple[NoticeKind, ...]


CaseKey = tuple[int, int]
"""The number's place in the plan, and which of its cases."""


class Standing(NamedTuple):
    """All that the model foretells and the registry tells."""

    cases: dict[CaseKey, CaseStands]
    numbers: tuple[tuple[NumberStatus, AccountStatus], ...]
    reports: dict[str, CaseKey]


class Model:
    """The cases of some numbers; `opened` tells when a case came to be opened."""

    def __init__(self, agents: tuple[int, ...]) -> None:
        self.agents = agents
        self.cases: dict[CaseKey, Conducted] = {}
        self.shut: set[int] = set()
        self.references: dict[str, tuple[CaseKey, Decimal]] = {}
        self.reports: dict[str, CaseKey] = {}
        self.closing: frozenset[date] = frozenset()
        self.opened: Mapping[CaseKey, datetime] = {}
        self.turns: list[Callable[[], object]] = []

    def newest(self, number: int) -> tuple[CaseKey, Conducted] | None:
        return max((found for found in self.cases.items() if found[0][0] == number), default=None)

    def open_case(self, number: int) -> Conducted | None:
        found = self.newest(number)
        return found[1] if found and not found[1].stage.ended else None

    def opens(self, act: Act, amid: bool = False) -> bool:
        """Whether it is a report that opens a case; a workflow that is closing still takes one by signal."""
        return (
            isinstance(act, Handed)
            and (amid or not act.by_signal)
            and act.report.key not in self.reports
            and self.open_case(act.number) is None
            and self.agents[act.number] not in self.shut
        )

    def happens_amid(self, first: Act, second: Act, turn: int) -> tuple[bool, bool] | None:
        """What comes of an act amid another one's nth turn, if there is such a turn."""
        said: list[bool] = []
        before: list[Callable[[], object]] = [lambda: None] * turn
        self.turns = [*before, lambda: said.append(self.happens(second, amid=True))]
        taken = self.happens(first)
        self.turns = []
        return (taken, said[0]) if said else None

    def happens(self, act: Act, amid: bool = False) -> bool:
        """What comes of an act; returns whether it is taken."""
        case = self.open_case(act.number)
        match act:
            case Closed():
                self.closing |= {act.day}
                return True
            case Until():
                if case:
                    self._passes(case, act.moment)
                return True
            case Money():
                return self._paid(act, amid)
            case Handed() if self.opens(act, amid):
                self._open(act)
                return True
            case Handed() if not act.by_signal and act.report.key in self.reports:
                return True
        if case is None and amid and self.newest(act.number):
            case = self.cases[self._key(act.number)]
        if case is None:
            return False
        match act:
            case Handed() if case.stage.ended:
                return True  # taken by a workflow that ends, as there is nothing left to open a case about
            case Handed():
                self.reports.setdefault(act.report.key, self._key(act.number))
            case Garbage():
                return self._refuse(case, GARBAGE[act.which][0] == "signal")
            case Rectified():
                if case.stage is not Stage.RECTIFICATION:
                    return self._refuse(case, act.by_signal)
                case.waiting = True
            case Verified():
                if not case.waiting:
                    return False
                case.waiting = False
                if act.passed:
                    self._close(case, Stage.RECTIFIED)
                self._passes(case, case.now)
            case Extended():
                if case.stage not in (Stage.RECTIFICATION, Stage.PAYMENT):
                    return False
                case.within += act.working_days
                self._reckon(case)
            case Dismissed():
                if case.stage is Stage.SHUTDOWN or case.stage.ended:
                    return False
                self._close(case, Stage.DISMISSED)
        return True

    def _refuse(self, case: Conducted, signal: bool) -> bool:
        """A signal is always taken; one that is refused ends in the story."""
        case.refused += signal
        return signal

    def _key(self, number: int) -> CaseKey:
        found = self.newest(number)
        assert found
        return found[0]

    def _open(self, act: Handed) -> None:
        found = self.newest(act.number)
        key = (act.number, found[0][1] + 1 if found else 0)
        at = self.opened.get(key, datetime.max.replace(tzinfo=SHANGHAI) - timedelta(days=1000))
        within = 1 if act.report.business is Business.IRREGULAR else 3
        self.cases[key] = Conducted(act.number, at, at, within, self._limit(at, within))
        self.reports[act.report.key] = key

    def _limit(self, served: datetime, within: int) -> date:
        return deadline(served, within, Calendar(closing=self.closing)).last_day

    def _reckon(self, case: Conducted) -> bool:
        """Compute the deadline anew; whether it has moved later (4.3)."""
        before = case.last_day
        case.last_day = max(before, self._limit(case.served, case.within))
        return case.last_day > before

    def _passes(self, case: Conducted, until: datetime) -> None:
        while not case.stage.ended and not case.waiting and max(case.now, until) >= case.midnight:
            case.now = max(case.now, case.midnight)
            if self._reckon(case):
                continue
            if case.stage is Stage.RECTIFICATION:
                self._fine(case)
            else:
                self._shut_down(case)
        case.now = max(case.now, until)

    def _shut_down(self, case: Conducted) -> None:
        agent = self.agents[case.number]
        self.shut.add(agent)
        self._takes_a_turn(case, Stage.SHUTDOWN)
        # 7.2: the agent's other cases ask for no more; their fines stay due.
        for other in list(self.cases.values()):
            running = not other.stage.ended and other.stage is not Stage.SHUTDOWN
            if running and self.agents[other.number] == agent:
                self._close(other, Stage.OVERTAKEN)
        case.notices.append(NoticeKind.SHUTDOWN)
        self._takes_a_turn(case, Stage.SHUT_DOWN)

    def _fine(self, case: Conducted) -> None:
        agent = self.agents[case.number]
        case.offence = 1 + sum(c.fine > 0 for c in self.cases.values() if self.agents[c.number] == agent)
        case.fine = Decimal(min(1000 * case.offence, 10000))
        self._takes_a_turn(case, Stage.PUNISHMENT)
        if case.stage.ended:
            return
        case.stage = Stage.PAYMENT
        case.served, case.within = case.now, 5
        case.last_day = self._limit(case.served, case.within)
        case.notices.append(NoticeKind.PUNISHMENT)
        self._settle(case)

    def _takes_a_turn(self, case: Conducted, stage: Stage) -> None:
        case.stage = stage
        if self.turns:
            self.turns.pop(0)()

    def _settle(self, case: Conducted) -> None:
        if case.stage is Stage.PAYMENT and case.paid >= case.fine:
            self._close(case, Stage.SETTLED)

    def _paid(self, act: Money, amid: bool) -> bool:
        found = self.newest(act.number)
        if found is None:
            return False
        key, case = found
        is_open = amid or not case.stage.ended
        if act.reference in self.references:
            same = self.references[act.reference] == (key, act.amount)
            return is_open and (same or self._refuse(case, act.by_signal))
        self.references[act.reference] = key, act.amount
        case.paid += act.amount
        self._settle(case)
        return is_open

    def _close(self, case: Conducted, outcome: Stage) -> None:
        case.waiting = False
        case.notices.append(NoticeKind.CLOSING)
        if outcome is Stage.DISMISSED:
            case.fine = Decimal(0)
        self._takes_a_turn(case, outcome)

    def standing(self) -> Standing:
        def stands(case: Conducted) -> CaseStands:
            status = None
            if case.offence:
                status = FineStatus.SETTLED if case.paid >= case.fine else FineStatus.DUE
            if case.offence and case.stage is Stage.DISMISSED:
                status = FineStatus.VOID
            last_day = None if case.stage.ended else case.last_day
            return CaseStands(
                case.stage,
                case.waiting,
                last_day,
                case.offence,
                case.fine,
                status,
                case.paid,
                case.refused,
                tuple(case.notices),
            )

        active, taken_back = (
            (NumberStatus.ACTIVE, AccountStatus.OPEN),
            (NumberStatus.QUARANTINED, AccountStatus.SHUT_DOWN),
        )
        return Standing(
            {key: stands(case) for key, case in self.cases.items()},
            tuple(taken_back if agent in self.shut else active for agent in self.agents),
            dict(self.reports),
        )


# What is on record, and what must hold there by itself


@dataclass(frozen=True)
class OnRecord:
    """The rows of the plan's agents."""

    accounts: list[Account]
    numbers: list[Number]
    cases: list[Case]
    reports: list[ReportRow]
    notices: list[Notice]
    fines: list[Fine]
    payments: list[Payment]
    trail: list[AuditLine]

    def steps(self, case: Case) -> list[str]:
        return [line.step for line in self.trail if line.case_no == case.case_no]

    def line(self, case_no: str, step: str) -> AuditLine:
        [line] = [line for line in self.trail if (line.case_no, line.step) == (case_no, step)]
        return line

    def served(self, case_no: str, kind: NoticeKind) -> Notice:
        [notice] = [n for n in self.notices if n.case_no == case_no and n.kind is kind]
        return notice


def of(case_no: str, rows: list[T]) -> list[T]:
    return [row for row in rows if getattr(row, "case_no", None) == case_no]


def nobody_is_punished_early(there: OnRecord) -> None:
    for fine in there.fines:
        order = there.served(fine.case_no, NoticeKind.RECTIFICATION_ORDER)
        assert order.served_at and order.last_day
        assert order.served_at < Deadline(last_day=order.last_day).at <= fine.set_at
    for shut in (line for line in there.trail if line.step == "account-shutdown"):
        assert shut.case_no
        punishment = there.served(shut.case_no, NoticeKind.PUNISHMENT)
        assert punishment.served_at and punishment.last_day
        ends = Deadline(last_day=punishment.last_day).at
        assert punishment.served_at < ends <= shut.at
        [fine] = of(shut.case_no, there.fines)
        before = {line.step for line in there.trail if line.id < shut.id}
        in_time = [
            p.amount
            for p in of(shut.case_no, there.payments)
            if p.received_at < ends and f"payment-{p.reference}" in before
        ]
        assert sum(in_time) < fine.amount


def everything_happens_once(there: OnRecord) -> None:
    still_open = Counter((case.number, case.kind) for case in there.cases if case.closed_at is None)
    fined = Counter(fine.case_no for fine in there.fines)
    told = Counter((notice.case_no, notice.kind) for notice in there.notices)
    done = Counter((line.case_no, line.step) for line in there.trail)
    for times in (still_open, fined, told, done):
        assert set(times.values()) <= {1}


def offences_are_counted(there: OnRecord) -> None:
    for agent in {fine.agent_id for fine in there.fines}:
        fines = [fine for fine in there.fines if fine.agent_id == agent]
        if all(fine.status is not FineStatus.VOID for fine in fines):
            assert sorted(fine.offence for fine in fines) == list(range(1, len(fines) + 1))


def accounts_and_numbers_follow_the_cases(there: OnRecord) -> None:
    shut_down = {case.case_no: case.agent_id for case in there.cases if case.outcome is Stage.SHUT_DOWN}
    for account in there.accounts:
        assert (account.status is AccountStatus.SHUT_DOWN) == (account.agent_id in shut_down.values())
        if account.shut_down_by:
            assert shut_down[account.shut_down_by] == account.agent_id
    for number in there.numbers:
        assert (number.status is NumberStatus.QUARANTINED) == (number.agent_id in shut_down.values())
        if number.reclaimed_by:
            assert shut_down[number.reclaimed_by] == number.agent_id
            reclaim = there.line(number.reclaimed_by, "reclaim")
            assert number.number in reclaim.result["numbers"]


def every_effect_has_its_line(there: OnRecord) -> None:
    for case in there.cases:
        effects = {"open"} | {notice.step for notice in of(case.case_no, there.notices)}
        effects |= {f"payment-{payment.reference}" for payment in of(case.case_no, there.payments)}
        for fine in of(case.case_no, there.fines):
            effects |= {fine.step, "fine-void"} if fine.status is FineStatus.VOID else {fine.step}
        if case.closed_at:
            effects |= {"close"}
        if case.outcome is Stage.SHUT_DOWN:
            effects |= {"account-shutdown", "reclaim"}
        if case.outcome is Stage.OVERTAKEN:
            effects |= {"account-closed"}
        told = ("report-", "rectification-", "verify-", "extend-", "refused-")
        lines = {step for step in there.steps(case) if not step.startswith(told) and "-deadline-" not in step}
        assert lines == effects


def every_letter_is_on_record(there: OnRecord, world: World) -> None:
    letters = {
        letter.stem: sha256(letter.read_bytes()).hexdigest()
        for case in there.cases
        for letter in world.outbox.glob(f"{case.case_no}-*.eml")
    }
    assert letters == {notice.notice_no: notice.sha256 for notice in there.notices if notice.served_at}


# The two side by side


class Enforcement:
    """A plan carried out on the real system, with the model beside it."""

    def __init__(self, world: World, violations: tuple[Violation, ...]) -> None:
        self.world = world
        self.violations = violations
        agents = tuple(violation.agent for violation in violations)
        held = {agent: an_agent(world.on_record, agents.count(agent)) for agent in set(agents)}
        self.numbers = [held[agent].pop() for agent in agents]
        self.handed: dict[int, list[Report]] = {number: [] for number in range(len(agents))}
        self.model = Model(agents)
        self.there = self._read()
        self.told: list[str] = []
        self.ended: set[str] = set()

    async def begin(self) -> None:
        with self.world.on_record.begin() as session:
            session.execute(delete(CalendarDay))
        for number, violation in enumerate(self.violations):
            await self.carry_out(Reported(number, violation.irregular, "登记客户与实际用户不一致"))

    async def carry_out(self, happening: Happening | AtOnce) -> None:
        both = (happening.first, happening.second) if isinstance(happening, AtOnce) else (happening,)
        acts = [act for act in map(self._really, both) if act]
        if len(acts) == 2 and self._one_by_one(*acts):
            for one in both:
                await self.carry_out(one)
        elif acts:
            await self._step(*acts)

    def _one_by_one(self, first: Act, second: Act) -> bool:
        """Two limits can't be passed at once on one clock; a case that isn't open yet is told to wait."""
        if isinstance(first, Closed) and isinstance(second, Closed):
            return True
        if first.number != second.number:
            return False
        opens = self.model.opens(first) or self.model.opens(second)
        both_report = isinstance(first, Handed) and isinstance(second, Handed)
        return (opens and not both_report) or (isinstance(first, Until) and isinstance(second, Until))

    async def run_out(self) -> None:
        """Let every case come to its end."""
        for number in range(len(self.numbers)):
            while case := self.model.open_case(number):
                await self.carry_out(Verified(number, False) if case.waiting else TimePasses(number, "over"))

    def _really(self, happening: Happening) -> Act | None:
        number = happening.number % len(self.numbers)
        case = self.model.open_case(number)
        match happening:
            case Reported():
                business = Business.IRREGULAR if happening.irregular else Business.REGULAR
                report = a_report(self.numbers[number], business, facts=happening.facts)
                self.handed[number].append(report)
                return Handed(number, report, happening.by_signal)
            case ReportedAgain():
                return Handed(number, self.handed[number][-1], happening.by_signal)
            case Paid():
                due = case.fine - case.paid if case and case.fine > case.paid else Decimal(1000)
                share = {"all": due, "part": due / 3, "more": due + Decimal("0.01")}[happening.share]
                reference = f"流水{next(_serial)} {TEXTS[1]}"
                return Money(number, reference, share.quantize(Decimal("0.01")), happening.by_signal)
            case PaidAgain():
                return self._again(number, happening)
            case TimePasses():
                return self._passes(number, case, happening.until) if case else None
            case ClosingDay():
                closes = case and case.last_day not in self.model.closing
                return Closed(number, case.last_day) if case and closes else None
        return replace(happening, number=number)

    def _again(self, number: int, happening: PaidAgain) -> Money | None:
        for reference, ((paid_for, _), amount) in self.model.references.items():
            if (paid_for == number) == (happening.like != "case"):
                more = Decimal(happening.like == "amount")
                return Money(number, reference, amount + more, happening.by_signal)
        return None

    def _passes(self, number: int, case: Conducted, until: str | int) -> Until | None:
        if isinstance(until, int):
            day = case.now.astimezone(SHANGHAI).date() + timedelta(days=until)
            moment = shanghai(day.isoformat(), "15:00")
        else:
            moment = case.midnight + timedelta(minutes={"eve": -10, "over": 20}[until])
        return Until(number, moment) if moment > case.now else None

    async def _step(self, *acts: Act) -> None:
        self.told.append(" at once with ".join(map(str, acts)))
        for number in {act.number for act in acts if self.model.opens(act)}:
            await self._awaits_its_report(number)
        answered = [await self._do(acts[0])] if len(acts) == 1 else await self._at_once(*acts)
        for patience in reversed(range(60)):
            self.there = self._read()
            stories = await self._stories()
            self.there = self._read()
            real = self._standing(stories)
            foretold = list(self._foretold(acts))
            for model, said in foretold:
                agreed = all(
                    foretells == answer
                    for act, foretells, answer in zip(acts, said, answered, strict=True)
                    # Money is taken either way, by the case or after its end.
                    if len(acts) == 1 or not isinstance(act, Money)
                )
                agreed = agreed and (len(acts) > 1 or self._unheard(model, stories))
                if agreed and model.standing() == real and await self._agree(stories):
                    self.model = model
                    self._rulebook_holds()
                    return
            if patience:
                await asyncio.sleep(0.05)  # who sends a signal isn't told when it was taken
        raise AssertionError(
            "\n".join([*self.told, f"answered {answered}, told {stories}:", str(real), "foretold:"])
            + "".join(f"\n{model.standing()} {said}" for model, said in foretold)
        )

    def _foretold(self, acts: tuple[Act, ...]) -> Iterator[tuple[Model, tuple[bool, ...]]]:
        """What may come of them: one after the other, or one amid the other, in either order."""
        for order in permutations(range(len(acts))):
            model = self._model_now()
            said = {place: model.happens(acts[place]) for place in order}
            yield model, tuple(said[place] for place in range(len(acts)))
            if len(acts) == 2:
                for turn in range(3):
                    model = self._model_now()
                    if amid := model.happens_amid(acts[order[0]], acts[order[1]], turn):
                        yield model, (amid[order[0]], amid[order[1]])

    def _model_now(self) -> Model:
        model = deepcopy(self.model)
        model.opened = {key: case.opened_at for key, case in self._keyed().items()}
        return model

    async def _awaits_its_report(self, number: int) -> None:
        """Start the case's workflow and bring it to its day; the report is still to come."""
        day = shanghai(self.violations[number].day)
        if found := self.model.newest(number):
            day = max(day, found[1].now + timedelta(days=1))
        case = self._case(number)
        await self.world.client.start_workflow(
            "SecondarySaleCase",
            CaseStart(),
            id=case.id,
            task_queue=self.world.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        with suppress(RPCError):  # where there was one, it may end at this moment
            await self.world.time.forward(case.id, day - datetime.now(SHANGHAI))

    def _case(self, number: int) -> CaseInTime:
        return CaseInTime(self.world, workflow_id(Kind.SECONDARY_SALE, self.numbers[number]))

    async def _do(self, act: Act) -> bool:
        """Send it; whether it was taken. What is refused is refused in words."""
        try:
            await asyncio.wait_for(self._send(act, self._case(act.number)), 20)
        except WorkflowUpdateFailedError as refusal:
            why = refusal.cause
            assert isinstance(why, ApplicationError) and why.message, why
            assert why.type == "Refused" or isinstance(act, Garbage), why
            return False
        except Refused as refusal:
            assert str(refusal)
            return False
        except RPCError as ended:
            assert ended.status is RPCStatusCode.NOT_FOUND, ended
            if isinstance(act, Money):
                await self._pay_late(act)
            return False
        return True

    async def _at_once(self, first: Act, second: Act) -> list[bool]:
        """The second comes while a step of the first is held up on its way into the registry."""
        with self.world.on_record() as holding:
            # Every step ends with its line there.
            holding.execute(text("lock table audit_trail in share mode"))
            doing = asyncio.create_task(self._do(first))
            for _ in range(30):
                if self._held_up() or (doing.done() and isinstance(first, Verified | Extended | Dismissed)):
                    break
                await asyncio.sleep(0.01)  # a step that waits for a lock tells nobody
            coming = asyncio.create_task(self._do(second))
            await asyncio.wait({coming}, timeout=0.1)
        return [await doing, await coming]

    def _held_up(self) -> bool:
        waits = "datname = current_database() and wait_event_type = 'Lock'"
        with self.world.on_record() as session:
            return session.execute(text(f"select 1 from pg_stat_activity where {waits}")).first() is not None

    async def _send(self, act: Act, case: CaseInTime) -> None:
        match act:
            case Handed(by_signal=True):
                await case.signal("report_received", act.report.model_dump(mode="json"))
            case Handed():
                await self.world.report(act.report)
            case Rectified(by_signal=True):
                await case.signal("rectification_reported", {"statement": act.statement})
            case Rectified():
                await case.rectified(statement=act.statement)
            case Verified():
                await case.verify(act.passed)
            case Money(by_signal=True):
                message = {"reference": act.reference, "amount": str(act.amount)}
                await case.signal("payment_received", message)
            case Money():
                await case.paid(str(act.amount), act.reference)
            case Extended():
                await case.extend(act.working_days)
            case Dismissed():
                await case.dismiss(act.reason)
            case Closed():
                self.world.arrange({act.day.isoformat(): False}, closing=True)
            case Garbage():
                how, name, message = GARBAGE[act.which]
                if how == "signal":
                    await case.signal(name, message)
                else:
                    await case.handle.execute_update(name, message)
            case Until():
                known = self.model.open_case(act.number)
                assert known
                with suppress(RPCError):  # it may end at this moment
                    await self.world.time.forward(case.id, act.moment - known.now)

    async def _pay_late(self, act: Money) -> None:
        number = self.numbers[act.number]
        ended = [case.case_no for case in self.there.cases if case.number == number][-1]
        late = LatePaymentStart(
            case_no=ended, payment=PaymentReceived(reference=act.reference, amount=act.amount)
        )
        try:
            await self.world.client.execute_workflow(
                LatePayment.run, late, id=f"late-payment-{next(_serial)}", task_queue=self.world.task_queue
            )
        except WorkflowFailureError as refusal:
            assert isinstance(refusal.cause, ActivityError)
            why = refusal.cause.cause
            assert isinstance(why, ApplicationError) and why.type == "Refused" and why.message, why

    def _read(self) -> OnRecord:
        with self.world.on_record() as session:
            # All tables as of one moment.
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})

            def rows(table: type[T], *which: Any) -> list[T]:
                in_order = inspect(table).primary_key
                return list(session.scalars(select(table).where(*which).order_by(*in_order)))

            numbers = rows(Number, Number.number.in_(self.numbers))
            cases = rows(Case, Case.number.in_(self.numbers))
            cases.sort(key=lambda case: int(case.case_no.rpartition("-")[2]))
            mine = [case.case_no for case in cases]
            return OnRecord(
                rows(Account, Account.agent_id.in_({number.agent_id for number in numbers})),
                numbers,
                cases,
                rows(ReportRow, ReportRow.case_no.in_(mine)),
                rows(Notice, Notice.case_no.in_(mine)),
                rows(Fine, Fine.case_no.in_(mine)),
                rows(Payment, Payment.case_no.in_(mine)),
                rows(AuditLine, AuditLine.case_no.in_(mine)),
            )

    def _keyed(self) -> dict[CaseKey, Case]:
        return {
            (place, nth): case
            for place, number in enumerate(self.numbers)
            for nth, case in enumerate(case for case in self.there.cases if case.number == number)
        }

    async def _stories(self) -> dict[str, Story]:
        """What the open cases tell of themselves, by case number."""
        running = [case for case in self.there.cases if case.closed_at is None]
        told = await asyncio.gather(*(self._run(case).query("story", result_type=Story) for case in running))
        return {case.case_no: story for case, story in zip(running, told, strict=True)}

    def _standing(self, stories: Mapping[str, Story]) -> Standing:
        keyed = self._keyed()
        keys = {case.case_no: key for key, case in keyed.items()}
        account = {account.agent_id: account.status for account in self.there.accounts}
        number = {n.number: (n.status, account[n.agent_id]) for n in self.there.numbers}
        return Standing(
            {key: self._stands(case, stories.get(case.case_no)) for key, case in keyed.items()},
            tuple(number[held] for held in self.numbers),
            {f"{r.source}/{r.report_id}": keys[r.case_no] for r in self.there.reports if r.case_no},
        )

    def _stands(self, case: Case, story: Story | None) -> CaseStands:
        fines = of(case.case_no, self.there.fines)
        standing = [fine.amount for fine in fines if fine.status is not FineStatus.VOID]
        paid = [payment.amount for payment in of(case.case_no, self.there.payments)]
        return CaseStands(
            case.outcome or (story.stage if story else Stage.OPENING),
            Awaiting.VERIFICATION in story.awaiting if story else False,
            story.deadline.last_day if story and story.deadline else None,
            fines[0].offence if fines else None,
            sum(standing, Decimal(0)),
            fines[0].status if fines else None,
            sum(paid, Decimal(0)),
            sum(step.startswith("refused-") for step in self.there.steps(case)),
            tuple(n.kind for n in of(case.case_no, self.there.notices) if n.served_at),
        )

    def _unheard(self, model: Model, stories: Mapping[str, Story]) -> bool:
        """Whether a signal that has just been refused awaits an officer."""
        return all(
            Awaiting.REFUSED_MESSAGE in stories[case.case_no].awaiting
            for key, case in self._keyed().items()
            if case.case_no in stories
            and key in self.model.cases
            and model.cases[key].refused > self.model.cases[key].refused
        )

    async def _agree(self, stories: Mapping[str, Story]) -> bool:
        """Whether the open cases' own stories say what is on record (5.6), and the closed ones have ended."""
        for case in self.there.cases:
            if story := stories.get(case.case_no):
                stands = self._stands(case, story)
                money = (stands.offence, stands.fine, stands.paid)
                limit = of(case.case_no, self.there.notices)[-1].last_day
                lines = Counter(line.text for line in of(case.case_no, self.there.trail))
                if (
                    (story.offence, story.balance.fine, story.balance.paid) != money
                    or limit != stands.last_day
                    or Counter(line.text for line in story.lines) != lines
                ):
                    return False
            elif case.case_no not in self.ended:
                described = await self._run(case).describe()
                if described.status is WorkflowExecutionStatus.RUNNING:
                    return False
                self.ended.add(case.case_no)
        return True

    def _run(self, case: Case) -> WorkflowHandle[Any, CaseEnded]:
        return self.world.client.get_workflow_handle(
            case.workflow_id, run_id=case.run_id, result_type=CaseEnded
        )

    def _rulebook_holds(self) -> None:
        nobody_is_punished_early(self.there)
        everything_happens_once(self.there)
        offences_are_counted(self.there)
        accounts_and_numbers_follow_the_cases(self.there)
        every_effect_has_its_line(self.there)
        every_letter_is_on_record(self.there, self.world)

    async def histories_agree(self) -> None:
        """Each case's own end is the one on record, and its history can be replayed."""
        for case in self.there.cases:
            with suppress(WorkflowContinuedAsNewError):
                ended = await self._run(case).result(follow_runs=False)
                assert (ended.case_no, ended.outcome) == (case.case_no, case.outcome)
                assert ended.balance.fine == self._stands(case, None).fine
        replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter)
        await replayer.replay_workflows(self._histories())

    async def _histories(self) -> AsyncIterator[WorkflowHistory]:
        for case in self.there.cases:
            yield (history := await self._run(case).fetch_history())
            failed = [
                event.workflow_task_failed_event_attributes.cause
                for event in history.events
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
            ]
            # That one says: something came in at the last moment, look at it first.
            assert set(failed) <= {WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND}

    async def leave(self) -> None:
        """Don't let what a failed plan left open disturb the next one."""
        for number in range(len(self.numbers)):
            with suppress(RPCError):
                await self._case(number).handle.terminate()


ONE_CASE = (Violation(0, False, DAYS[0]),)
TWO_OF_ONE_AGENT = ONE_CASE * 2
OVER = TimePasses(0, "over")
OVER_TOO = TimePasses(1, "over")


# One registry serves all plans: each brings its own agents and numbers.
@settings(
    max_examples=20,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=PLANS)
@example(Plan(ONE_CASE, (OVER, AtOnce(OVER, Paid(0, "all", by_signal=True)))))
@example(Plan(ONE_CASE, (OVER, AtOnce(Paid(0, "all"), Garbage(0, 0)))))
@example(Plan(ONE_CASE, (OVER, AtOnce(Dismissed(0, "x"), Paid(0, "all", by_signal=True)))))
@example(Plan(ONE_CASE, (Rectified(0), AtOnce(Verified(0, True), Reported(0, False, "x", by_signal=True)))))
@example(Plan(ONE_CASE, (ClosingDay(0), OVER)))
@example(Plan(ONE_CASE, (Rectified(0), OVER, Verified(0, False))))
@example(Plan(ONE_CASE, (OVER, Dismissed(0, "x"), Reported(0, True, "x"))))
@example(Plan(TWO_OF_ONE_AGENT, (AtOnce(OVER, OVER_TOO),)))
@example(Plan(TWO_OF_ONE_AGENT, (OVER, OVER_TOO, AtOnce(OVER, OVER_TOO))))
async def test_whatever_happens_in_any_order_the_rulebook_holds(world: World, plan: Plan) -> None:
    enforcement = Enforcement(world, plan.violations)
    try:
        await enforcement.begin()
        for happening in plan.happenings:
            await enforcement.carry_out(happening)
        await enforcement.run_out()
        await enforcement.histories_agree()
    finally:
        await enforcement.leave()
