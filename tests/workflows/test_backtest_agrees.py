"""Every number of a backtest is the one that comes of playing the cases under the draft for real (5.4)."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib import resources
from itertools import count
from typing import Self

import pytest
from temporalio.client import WorkflowUpdateFailedError

from registry.models import Account, AuditLine, Case, Fine, Number
from registry.shown import Story
from rulebook import policy
from rulebook.backtest import Backtest, Change, Outcome, Totals
from rulebook.policy import Policy, in_force, load, published
from rulebook.vocabulary import (
    SHANGHAI,
    AccountStatus,
    Awaiting,
    Business,
    FineStatus,
    Holder,
    Kind,
    NumberStatus,
    Stage,
    workflow_id,
)
from starter.policies import against_the_record
from starter.settings import Refused
from starter.virtual_time import VirtualTime
from tests.world import CaseInTime, World, a_report, an_agent, shanghai
from workflows.after_case import LatePayment
from workflows.messages import LatePaymentStart, PaymentReceived

_serial = count(1)

DRAFTED_FROM = date(2038, 3, 1)
THE_END = shanghai("2038-12-31")


@dataclass(frozen=True)
class Act:
    """What somebody does at a moment: `paid` so much, `extended` by so many days."""

    moment: datetime
    what: str
    how_much: int = 0

    @classmethod
    def of(cls, said: str) -> Self:
        """An act as the stories tell it: `03-11 10:00 paid 1000`."""
        day, at, what, *how_much = said.split()
        return cls(shanghai(f"2038-{day}", at), what, *map(int, how_much))


@dataclass(frozen=True)
class Violation:
    """One case of an agent's story: about which of its numbers, and what is done about it."""

    number: int
    kind: Kind
    opened: str
    acts: tuple[Act, ...]
    business: Business


def a_case(
    number: int, kind: Kind, opened: str, *acts: str, business: Business = Business.REGULAR
) -> Violation:
    return Violation(number, kind, f"2038-{opened}", tuple(map(Act.of, acts)), business)


SALE, FRAUD, SERVICE = Kind.SECONDARY_SALE, Kind.FRAUD, Kind.SERVICE_FAILURE

# An agent's story each; 1 March is a Monday. Under no policy do two penalties fall at one midnight.
STORIES = (
    # Fined twice and paid, served a customer, fined a third time.
    (
        a_case(0, SALE, "03-01", "03-11 10:00 paid 1000"),
        a_case(
            1,
            SALE,
            "03-05",
            "03-10 10:00 paid 1200",
            "03-12 10:00 paid 800",
            business=Business.IRREGULAR,
        ),
        a_case(2, SERVICE, "03-08", "03-11 15:00 confirmed"),
        a_case(0, SALE, "03-22", "03-31 10:00 paid 3000"),
    ),
    # Rectified and verified late; failed, extended, rectified; paid for a fraud too late; never served.
    (
        a_case(0, SALE, "03-01", "03-03 16:00 rectified", "03-08 09:00 passed"),
        a_case(
            1,
            SALE,
            "03-02",
            "03-04 20:00 rectified",
            "03-04 21:00 failed",
            "03-05 10:00 extended 2",
            "03-09 10:00 rectified",
            "03-10 10:00 passed",
        ),
        a_case(2, FRAUD, "03-10", "03-15 10:00 paid 20000", "03-19 10:00 paid 10000"),
        a_case(3, SERVICE, "03-08"),
        a_case(4, SALE, "03-09", "03-12 10:00 dismissed"),
    ),
    # An appeal and a hold stop the clock; a shutdown is overturned, a take-back dismissed.
    (
        a_case(
            0,
            SALE,
            "03-01",
            "03-03 10:00 appealed",
            "03-10 10:00 upheld",
            "03-12 10:00 rectified",
            "03-12 12:00 passed",
        ),
        a_case(
            1,
            SALE,
            "03-02",
            "03-04 10:00 held",
            "03-08 10:00 resumed",
            "03-22 10:00 appealed",
            "03-24 10:00 overturned",
        ),
        a_case(2, SERVICE, "03-01", "03-10 10:00 dismissed"),
        a_case(0, SALE, "03-29", "04-06 10:00 paid 1000"),
    ),
    # Paid before it was fined, and reported again; a fraud that is found serious overtakes what is open.
    (
        a_case(0, SALE, "03-01", "03-02 10:00 paid 1500"),
        a_case(0, SALE, "03-05", "03-05 15:00 rectified", "03-05 16:00 passed"),
        a_case(1, SALE, "03-10", business=Business.IRREGULAR),
        a_case(2, FRAUD, "03-10", "03-12 10:00 serious"),
    ),
)


ANNOUNCED = (resources.files("rulebook") / "2017-02-16.toml").read_text("utf-8")


def a_draft(**changed: int) -> Policy:
    """The announced policy with other values; a key that stands in two sections changes in both."""
    draft = ANNOUNCED.replace("2017-02-16\n", f"{DRAFTED_FROM}\n")
    for key, value in changed.items():
        draft, found = re.subn(rf"^{key} = \d+", f"{key} = {value}", draft, flags=re.MULTILINE)
        assert found
    return load(draft)


DRAFTS = {
    "shorter": a_draft(rectify_regular=2, pay_within=3, serve_within=2),
    "longer": a_draft(rectify_regular=4, rectify_irregular=2, pay_within=10, serve_within=4),
    "dearer": a_draft(first=1500, second=2500, each_further=500, ceiling=3000, fine_per_number=20_000),
}


class Played:
    """An agent's story on the real server: its cases, whose clocks are moved on as the story goes."""

    def __init__(self, world: World, story: Sequence[Violation]) -> None:
        self.world, self.story = world, story
        self.numbers = an_agent(world.on_record, numbers=5)
        self.case_nos: dict[Violation, str] = {}
        self.running: dict[Violation, CaseInTime] = {}
        self.told: dict[Violation, Story] = {}
        self.joined: dict[Violation, Violation] = {}
        self.appeals: dict[Violation, CaseInTime] = {}

    async def play(self) -> None:
        events: list[tuple[datetime, int, Violation, Act | None]] = []
        for place, violation in enumerate(self.story):
            events.append((shanghai(violation.opened), place, violation, None))
            events += [(act.moment, place, violation, act) for act in violation.acts]
        for moment, _, violation, act in sorted(events, key=lambda event: event[:2]):
            await self.until(moment)
            if act is None:
                await self.open(violation)
            elif (violation := self.joined.get(violation, violation)) in self.case_nos:
                await self.do(violation, act)
        await self.until(THE_END)
        assert not self.running

    async def until(self, moment: datetime) -> None:
        """Let the limits end that end before a moment, in the order in which their cases look at them."""
        while self.running:
            violation = min(self.running, key=self.turn)
            if self.turn(violation) >= moment:
                return
            case = self.running[violation]
            await case.world.time.until(case.id, self.turn(violation) + timedelta(seconds=30))
            await self.look(violation)

    def turn(self, violation: Violation) -> datetime:
        told = self.told[violation]
        if told.deadline is None or Awaiting.VERIFICATION in told.awaiting:
            return datetime.max.replace(tzinfo=SHANGHAI)
        return told.deadline.at + in_force(DRAFTED_FROM).clock.spread(told.case_no)

    async def look(self, violation: Violation) -> None:
        """Leave a case that has ended. A shutdown ends the others too, a moment later."""
        told = self.told[violation] = await self.running[violation].story()
        if told.stage.ended:
            del self.running[violation]
        if told.stage is Stage.SHUT_DOWN:
            await self.all_end()

    async def all_end(self) -> None:
        while self.running:
            _, case = self.running.popitem()
            assert (await case.once(lambda told: told.stage.ended)).stage.ended

    async def open(self, violation: Violation) -> None:
        number = self.numbers[violation.number]
        report = a_report(number, violation.business, violation.kind)
        for other, case in self.running.items():
            if case.id == workflow_id(violation.kind, number):
                self.joined[violation] = other
                await self.world.report(report)
                return
        # A clock of its own: another case of this number may have had the same workflow id.
        world = replace(self.world, time=VirtualTime(self.world.client))
        try:
            case = await world.open(report, on=violation.opened)
        except Refused:
            await world.client.get_workflow_handle(workflow_id(violation.kind, number)).terminate()
            return
        self.running[violation] = case
        self.case_nos[violation] = await case.case_no()
        await self.look(violation)

    async def do(self, violation: Violation, act: Act) -> None:
        if act.what == "serious":
            await self.find_serious(violation, act)
            return
        reference = f"b-{next(_serial)}"
        case = self.running.get(violation)
        if case is None:
            await self.do_after(violation, act, reference)
            return
        doing: dict[str, Callable[[], Awaitable[object]]] = {
            "paid": lambda: case.paid(str(act.how_much), reference),
            "rectified": case.rectified,
            "passed": lambda: case.verify(passed=True),
            "failed": lambda: case.verify(passed=False),
            "extended": lambda: case.extend(act.how_much),
            "dismissed": case.dismiss,
            "confirmed": lambda: case.signal("customer_confirmed", {}),
            "held": case.hold,
            "resumed": case.resume,
            "appealed": case.appeal,
            "upheld": lambda: case.decide(upheld=True),
            "overturned": lambda: case.decide(upheld=False),
        }
        await case.world.time.until(case.id, act.moment)
        lines = len(await case.told())
        try:
            await doing[act.what]()
        except WorkflowUpdateFailedError:
            return  # the stage doesn't allow it
        stands_still = act.what in ("held", "appealed")
        await case.once(
            lambda told: (
                told.stage.ended or (len(told.lines) > lines and (told.deadline is None) == stands_still)
            )
        )
        await self.look(violation)

    async def find_serious(self, violation: Violation, act: Act) -> None:
        """Close the account for good; all cases of the agent end, a moment later."""
        serious = await self.world.propose(self.case_nos[violation], on=str(act.moment.date()))
        await serious.approve()
        await self.all_end()

    async def do_after(self, violation: Violation, act: Act, reference: str) -> None:
        """What can be done about a case that has ended."""
        case_no, on = self.case_nos[violation], str(act.moment.date())
        if act.what == "paid":
            await self.pay_late(violation, act, reference)
        elif act.what == "appealed":
            self.appeals[violation] = await self.world.appeal_after(case_no, on=on)
        elif act.what in ("upheld", "overturned"):
            appeal = self.appeals[violation]
            await appeal.world.time.until(appeal.id, act.moment)
            await appeal.decide(upheld=act.what == "upheld")
            await appeal.ended()
        elif act.what == "dismissed":
            await self.world.dismiss_after(case_no, on=on)

    async def pay_late(self, violation: Violation, act: Act, reference: str) -> None:
        named = f"late-payment-{reference}-{self.world.task_queue}"
        payment = PaymentReceived(reference=reference, amount=Decimal(act.how_much))
        delay = act.moment - self.world.time.now(named)
        await self.world.client.start_workflow(
            LatePayment.run,
            LatePaymentStart(case_no=self.case_nos[violation], payment=payment),
            id=named,
            task_queue=self.world.task_queue,
            start_delay=delay,
        )
        await self.world.time.forward(named, delay + timedelta(seconds=1))
        await self.world.client.get_workflow_handle(named).result()


async def _play(world: World) -> list[Played]:
    """The stories, each with an agent and numbers of its own."""
    played = [Played(world, story) for story in STORIES]
    await asyncio.gather(*(one.play() for one in played))
    return played


def _case_nos(played: list[Played]) -> list[str]:
    """The cases of the stories; none where it was not opened."""
    return [one.case_nos.get(violation, "") for one in played for violation in one.story]


# What has come of it, from the registry


def _outcomes(world: World, played: list[Played]) -> list[Outcome | None]:
    """How each case of the stories has ended; none where it was not opened."""
    cases = {row.case_no: row for row in world.rows(Case)}
    fines = {row.case_no: row for row in world.rows(Fine) if row.status is not FineStatus.VOID}
    steps = ("account-shutdown", "take-back")
    taken = {line.case_no: line.at for line in world.rows(AuditLine) if line.step in steps}
    found: list[Outcome | None] = []
    for case_no in _case_nos(played):
        if not case_no:
            found.append(None)
            continue
        ended, fine = cases[case_no].outcome, fines.get(case_no)
        assert ended
        found.append(
            Outcome(
                stage=ended,
                offence=fine.offence if fine else None,
                fine=fine.amount if fine else Decimal(0),
                taken_back_at=None if ended.undone else taken.get(case_no),
            )
        )
    return found


def _totals(world: World, played: list[Played]) -> Totals:
    mine = [row for row in world.rows(Number) if any(row.number in one.numbers for one in played)]
    agents = {row.agent_id for row in mine}
    fines = [row for row in world.rows(Fine) if row.agent_id in agents]
    stand = [row.amount for row in fines if row.status is not FineStatus.VOID]
    accounts = [row.status for row in world.rows(Account) if row.agent_id in agents]
    served_directly = Holder.PLATFORM, NumberStatus.ACTIVE
    return Totals(
        fined=len(stand),
        yuan=sum(stand, Decimal(0)),
        accounts_shut_down=accounts.count(AccountStatus.SHUT_DOWN),
        numbers_taken_back=sum((row.holder, row.status) == served_directly for row in mine),
    )


def _backtest(world: World, draft: Policy) -> Backtest:
    return against_the_record(world.on_record, draft, DRAFTED_FROM, date(2038, 12, 31), THE_END)


def _to_the_day(outcome: Outcome | None) -> tuple[object, ...] | None:
    """An outcome without its time of day: case numbers differ, and with them the spread."""
    if outcome is None:
        return None
    taken = outcome.taken_back_at and outcome.taken_back_at.astimezone(SHANGHAI).date()
    return outcome.stage, outcome.offence, outcome.fine, taken


async def test_a_backtest_says_what_comes_of_the_same_story_under_each_policy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = published()[0]
    once = await _play(world)
    itself = _backtest(world, announced)
    foretold = {name: _backtest(world, draft) for name, draft in DRAFTS.items()}

    assert {case.change for case in itself.cases} == {Change.SAME}
    assert itself.under_draft == itself.on_record == _totals(world, once)
    for name, draft in DRAFTS.items():
        monkeypatch.setattr(policy, "published", lambda: (announced, draft))  # noqa: B023
        again = await _play(world)

        told = {case.case_no: case.under_draft for case in foretold[name].cases}
        by_case = [_to_the_day(told[case_no]) for case_no in _case_nos(once)]
        assert by_case == list(map(_to_the_day, _outcomes(world, again))), name
        assert foretold[name].under_draft == _totals(world, again), name


async def test_an_open_case_keeps_its_policy_when_a_later_one_comes_into_force(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = published()[0]
    later = a_draft(rectify_regular=1, pay_within=2, first=1500)
    later = later.model_copy(update={"effective": date(2038, 3, 3)})
    monkeypatch.setattr(policy, "published", lambda: (announced, later))
    [before], [after] = an_agent(world.on_record), an_agent(world.on_record)
    keeps = await world.open(a_report(before), on="2038-03-02", at="23:59")
    follows = await world.open(a_report(after), on="2038-03-03", at="00:01")

    assert (await keeps.last_day(), await follows.last_day()) == ("2038-03-05", "2038-03-04")
    assert await keeps.until("2038-03-05", "23:59") is Stage.RECTIFICATION
    for case in (keeps, follows):
        assert await case.until("2038-03-06", "00:11") is Stage.PAYMENT

    assert (await keeps.last_day(), await follows.last_day()) == ("2038-03-12", "2038-03-09")
    assert {fine.amount for fine in world.rows(Fine)} == {Decimal(1000), Decimal(1500)}
    assert (await keeps.story()).balance.fine == Decimal(1000)
    assert await follows.until("2038-03-10", "00:11") is Stage.SHUT_DOWN
    assert await keeps.until("2038-03-12", "23:59") is Stage.PAYMENT
    assert await keeps.until("2038-03-13", "00:11") is Stage.SHUT_DOWN
