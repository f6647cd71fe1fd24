"""Whatever happens to cases, in any order and at any time: a model of the rulebook foretells what stands."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count, permutations
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from sqlalchemy import delete
from temporalio.client import (
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from registry.models import CalendarDay, Case
from registry.shown import Story
from rulebook.report import Report
from rulebook.vocabulary import (
    SHANGHAI,
    Awaiting,
    Business,
    FineStatus,
    Kind,
    NoticeKind,
    Stage,
    workflow_id,
)
from starter.settings import Refused
from tests.conftest import rounds
from tests.workflows.any_order import histories_replay, pay_late, steps_held_up, waiting_steps
from tests.workflows.happenings import (
    DAYS,
    GARBAGE,
    PLANS,
    TEXTS,
    AtOnce,
    ClosingDay,
    Dismissed,
    Extended,
    Garbage,
    Happening,
    Paid,
    PaidAgain,
    Plan,
    Rectified,
    Reported,
    ReportedAgain,
    TimePasses,
    Verified,
    Violation,
)
from tests.workflows.model import (
    Act,
    CaseKey,
    CaseStands,
    Closed,
    Conducted,
    Handed,
    Model,
    Money,
    Standing,
    Until,
)
from tests.workflows.on_record import (
    OnRecord,
    accounts_and_numbers_follow_the_cases,
    every_effect_has_its_line,
    every_letter_is_on_record,
    everything_happens_once,
    nobody_is_punished_early,
    of,
    offences_are_counted,
    whose_limit_has_moved_is_told,
)
from tests.world import CaseInTime, World, a_report, an_agent, shanghai
from workflows.messages import CaseEnded, CaseStart

_serial = count(1)


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
        self.there = OnRecord.of(self.world.on_record, self.numbers)
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
            self.there = OnRecord.of(self.world.on_record, self.numbers)
            stories = await self._stories()
            self.there = OnRecord.of(self.world.on_record, self.numbers)
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
                number = self.numbers[act.number]
                case_no = [case.case_no for case in self.there.cases if case.number == number][-1]
                await pay_late(self.world, case_no, act.reference, act.amount)
            return False
        return True

    async def _at_once(self, first: Act, second: Act) -> list[bool]:
        """The second comes while a step of the first is held up on its way into the registry."""
        with steps_held_up(self.world):
            doing = asyncio.create_task(self._do(first))
            for _ in range(30):
                if waiting_steps(self.world) or (
                    doing.done() and isinstance(first, Verified | Extended | Dismissed)
                ):
                    break
                await asyncio.sleep(0.01)  # a step that waits for a lock tells nobody
            coming = asyncio.create_task(self._do(second))
            await asyncio.wait({coming}, timeout=0.1)
        return [await doing, await coming]

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
            tuple(
                n.kind
                for n in of(case.case_no, self.there.notices)
                if n.served_at and n.kind is not NoticeKind.DEADLINE
            ),
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
                limit = [n.last_day for n in of(case.case_no, self.there.notices) if n.last_day][-1]
                lines = Counter(line.text for line in of(case.case_no, self.there.trail))
                if (
                    (story.offence, story.balance.fine, story.balance.paid) != money
                    or limit != stands.last_day
                    or Counter(line.text for line in story.lines) != lines
                    or not whose_limit_has_moved_is_told(self.there, case)
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
        await histories_replay(map(self._run, self.there.cases))

    async def leave(self) -> None:
        """Don't let what a failed plan left open disturb the next one."""
        ids = [self._case(number).id for number in range(len(self.numbers))]
        for left in [*ids, *(f"restitution-{case.case_no}" for case in self.there.cases)]:
            with suppress(RPCError):
                await self.world.client.get_workflow_handle(left).terminate()


ONE_CASE = (Violation(0, False, DAYS[0]),)
TWO_OF_ONE_AGENT = ONE_CASE * 2
OVER = TimePasses(0, "over")
OVER_TOO = TimePasses(1, "over")


# One registry serves all plans: each brings its own agents and numbers.
@settings(
    max_examples=rounds(7, 20),
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
