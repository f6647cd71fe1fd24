"""How far a case may come, act by act with dates, and how it is overturned or dismissed then."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import Literal

from sqlalchemy import text
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import WorkflowAlreadyStartedError

from registry.models import Account
from rulebook.policy import in_force
from rulebook.vocabulary import SHANGHAI, AccountStatus, Awaiting, FilingStatus, Kind, Stage
from rulebook.working_days import Calendar, deadline
from starter.settings import Refused
from starter.virtual_time import VirtualTime
from tests.workflows.any_order import refused_in_words
from tests.world import CaseInTime, SeriousInTime, World, a_report
from workflows.messages import CaseEnded

SS, FR, SF = Kind.SECONDARY_SALE, Kind.FRAUD, Kind.SERVICE_FAILURE
Way = Literal["appeal", "dismissal"]

# What happens, and how many days after what was before it; where no days are told, when the limit is over.
FATES: dict[tuple[Kind, str], tuple[tuple[str, int | None], ...]] = {
    (SS, "awaits rectification"): (),
    (SS, "awaits verification"): (("rectified", 1),),
    (SS, "rectified"): (("rectified", 1), ("verified", 0)),
    (SS, "awaits payment"): (("fined", None),),
    (SS, "held"): (("fined", None), ("held", 1)),
    (SS, "settled"): (("fined", None), ("paid", 1)),
    (SS, "shut down"): (("fined", None), ("shut down", None)),
    (FR, "awaits payment"): (("paid in part", 0),),
    (FR, "awaits approval"): (("proposed", 1),),
    (FR, "settled"): (("paid", 1),),
    (FR, "settled and lifted"): (("paid", 1), ("reopened", 1), ("unfrozen", 0)),
    (FR, "shut down"): (("shut down", None),),
    (FR, "closed for good"): (("proposed", 1), ("approved", 1), ("filed", 0)),
    (FR, "settled, then closed for good"): (("paid", 1), ("proposed", 15), ("approved", 1)),
    (FR, "shut down, then closed for good"): (
        ("shut down", None),
        ("proposed", 9),
        ("approved", 1),
        ("filed", 0),
    ),
    (SF, "awaits service"): (),
    (SF, "awaits verification"): (("rectified", 1),),
    (SF, "served"): (("rectified", 1), ("verified", 0)),
    (SF, "taken back"): (("taken back", None),),
}
# Of the filings of an agent with numbers of two operators, in their order; the first one stays prepared.
_FILED = (
    (2, (FilingStatus.SUBMITTED,)),
    (3, (FilingStatus.SUBMITTED, FilingStatus.ACKNOWLEDGED)),
    (4, (FilingStatus.SUBMITTED, FilingStatus.REFUSED)),
    (5, (FilingStatus.WAIVED,)),
)


@dataclass(frozen=True)
class Violation:
    """Of one of the agent's numbers, by its place, reported on a day of March 2038, with its fate."""

    kind: Kind
    fate: str
    number: int = 0
    on: int = 1

    def __post_init__(self) -> None:
        assert (self.kind, self.fate) in FATES


@dataclass(frozen=True)
class Act:
    what: str
    at: datetime


class Played:
    """One case as it comes to its fate. What the rules refuse on the way is not done, and so remembered."""

    def __init__(self, world: World, violation: Violation, numbers: Sequence[str]) -> None:
        # A clock of its own: another case of this number and kind may have come before.
        self.world = replace(world, time=VirtualTime(world.client))
        self.violation, self.number = violation, numbers[violation.number]
        self.case_no = ""
        self.case: CaseInTime | None = None
        self.serious: SeriousInTime | None = None
        self.taken: list[Act] = []
        self.acts = self._acts()

    def _acts(self) -> list[Act]:
        day = date(2038, 3, self.violation.on)
        acts, counted_from = [Act("reported", datetime.combine(day, time(10), SHANGHAI))], day
        for what, days in FATES[self.violation.kind, self.violation.fate]:
            if days is None:
                ends = deadline(
                    datetime.combine(counted_from, time(10), SHANGHAI), self._limit(what), Calendar()
                )
                day = counted_from = ends.at.date()
                acts.append(Act(what, ends.at + timedelta(minutes=11)))
            else:
                day += timedelta(days=days)
                acts.append(Act(what, datetime.combine(day, time(10, 5 * len(acts)), SHANGHAI)))
        return acts

    def _limit(self, over: str) -> int:
        policy = in_force(date(2038, 3, 1))
        if over == "taken back":
            return policy.service_failure.serve_within
        if self.violation.kind is FR:
            return policy.fraud.pay_within
        sale = policy.secondary_sale
        return sale.rectify_regular if over == "fined" else sale.pay_within

    async def open(self) -> bool:
        return self.case is not None and not (await self.case.stage()).ended

    async def do(self, act: Act) -> bool:
        """Do it; False if the rules refuse it, or there is no such case, or it has ended before."""
        if self.case is None and act.what != "reported":
            return False
        try:
            done = await self._do(act)
        except (Refused, WorkflowAlreadyStartedError):  # its number is gone, or in such a case already
            return False
        except WorkflowFailureError as failure:
            refused_in_words(failure)
            return False
        if done:
            self.taken.append(act)
        return done

    async def _do(self, act: Act) -> bool:
        day, at = f"{act.at:%Y-%m-%d}", f"{act.at:%H:%M}"
        match act.what:
            case "reported":
                case = await self.world.open(a_report(self.number, kind=self.violation.kind), on=day)
                run_id = (await case.handle.describe()).run_id
                case.handle = self.world.client.get_workflow_handle(
                    case.id, run_id=run_id, result_type=CaseEnded
                )
                self.case, self.case_no = case, await case.case_no()
            case "proposed":
                self.serious = await self.world.propose(self.case_no, on=day)
                if (await self.serious.stage()) is not Stage.APPROVAL:
                    await self.serious.outcome()
            case "approved" | "filed":
                assert self.serious
                if not (await self.serious.story()).awaiting:
                    return False
                await self.serious.until(day, at)
                await (self._approve() if act.what == "approved" else self._file())
            case "reopened" | "unfrozen":
                await self.world.act(self.case_no, "reopen" if act.what == "reopened" else "unfreeze", on=day)
            case _:
                assert self.case
                if not await self.open():
                    return False
                await self.case.until(day, at)
                await self._of_the_case(act.what, self.case)
        return True

    async def _of_the_case(self, what: str, case: CaseInTime) -> None:
        match what:
            case "rectified":
                await case.rectified()
            case "verified":
                await case.verify(passed=True)
                await case.ended()
            case "paid in part":
                await case.paid("400", f"a part, {self.case_no}")
            case "paid":
                due = (await case.story()).balance.due
                await case.paid(str(due), f"all, {self.case_no}")
                await case.ended()
            case "held":
                await case.hold()
                await case.once(lambda told: told.deadline is None)
            case "fined":
                assert await case.stage() is Stage.PAYMENT
            case _:
                await case.ended()

    async def _approve(self) -> None:
        assert self.serious and self.case
        await self.serious.approve(officer="赵强")  # 张伟 decides on the appeal
        await self.serious.once(lambda told: Awaiting.FILING in told.awaiting)
        await self.case.ended()

    async def _file(self) -> None:
        assert self.serious
        for serial, moves in _FILED:
            for status in moves:
                await self.serious.filing(f"{self.case_no}-F{serial}", status, "附件不全")

    async def undo(self, way: Way) -> Stage:
        """Overturn or dismiss it, open or ended, after all that was done in it; how it ended."""
        assert self.case
        appealed, outcome = self.case, Stage.DISMISSED
        day = f"{max(act.at for act in self.taken) + timedelta(days=1):%Y-%m-%d}"
        if not await self.open():
            if way == "dismissal":
                return await self.world.dismiss_after(self.case_no, on=day)
            appealed = await self.world.appeal_after(self.case_no, on=day)
        elif way == "dismissal":
            await self.case.dismiss()
        else:
            await self.case.appeal()
        if way == "appeal":
            await appealed.decide(upheld=False)
        outcome = (await appealed.ended()).outcome
        if self.serious and "proposed" in [act.what for act in self.taken]:
            await self.serious.outcome()
        return outcome


async def play(*parts: tuple[Played, Sequence[Act]]) -> None:
    """Do these acts of cases of one agent in the order of the calendar.

    Two shutdowns of one moment come to the account at once (7.1).
    """
    plan = [(act, case) for case, acts in parts for act in acts]
    plan.sort(key=lambda planned: planned[0].at)
    cases = [case for case, _ in parts]
    for _, planned in groupby(plan, key=lambda planned: planned[0].at):
        acts = list(planned)
        shutting = [act.what == "shut down" and await case.open() for act, case in acts]
        if shutting == [True, True]:
            await _at_once(*acts)
            continue
        for act, case in acts:
            await case.do(act)
            await _overtaken(cases)


async def _at_once(*acts: tuple[Act, Played]) -> None:
    world = acts[0][1].world
    with world.on_record() as holding:
        holding.execute(text("lock table accounts in share row exclusive mode"))
        doing = [asyncio.create_task(case.do(act)) for act, case in acts]
        await world.held_up(len(acts))
    await asyncio.gather(*doing)


async def _overtaken(cases: Sequence[Played]) -> None:
    """Where the account is shut, no case of its agent goes on (7.2)."""
    world = cases[0].world
    for case in cases:
        if case.case is None or not await case.open():
            continue
        with world.on_record() as session:
            account = session.get_one(Account, (await case.case.story()).agent_id)
        if account.status in (AccountStatus.SHUT_DOWN, AccountStatus.CLOSED):
            await case.case.ended()
