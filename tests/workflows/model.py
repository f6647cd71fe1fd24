"""What must come of whatever happens: the rulebook without Temporal, without a database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from rulebook.deadlines import Deadline
from rulebook.report import Report
from rulebook.vocabulary import (
    SHANGHAI,
    AccountStatus,
    Business,
    FineStatus,
    NoticeKind,
    NumberStatus,
    Stage,
)
from rulebook.working_days import Calendar, deadline
from tests.workflows.happenings import GARBAGE, Dismissed, Extended, Garbage, Rectified, Verified

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
    """But those that restate a deadline: of two moves at once, the agent may hear together."""


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
        case.notices.append(NoticeKind.UNDONE if outcome.undone else NoticeKind.CLOSING)
        if outcome.undone:
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
