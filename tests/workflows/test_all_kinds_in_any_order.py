"""Whatever happens to cases of all kinds, in any order and at any time, the rules hold of the registry."""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from registry.models import Case
from rulebook.vocabulary import SHANGHAI, Awaiting, FilingStatus, FineStatus, Holder, Kind, Stage, workflow_id
from starter.settings import Refused
from starter.virtual_time import VirtualTime
from tests.conftest import rounds
from tests.workflows.any_order import (
    histories_replay,
    pay_late,
    refused_in_words,
    steps_held_up,
    waiting_steps,
)
from tests.workflows.happenings_of_all_kinds import (
    CHEN,
    FR,
    LI,
    PLANS,
    SF,
    SS,
    Appealed,
    AtOnce,
    Confirmed,
    Decided,
    Dismissed,
    Extended,
    Filed,
    Happening,
    Heard,
    Lifted,
    LimitPasses,
    OfCase,
    OfFraud,
    Paid,
    Plan,
    Proposed,
    Rectified,
    Reinstated,
    Reported,
    Returned,
    Round,
    Verified,
    Violation,
)
from tests.workflows.on_record import OnRecord, of
from tests.workflows.rules_that_hold import ALWAYS, AT_REST, Rule, debt_is_what_is_left_of_the_fines
from tests.world import CaseInTime, SeriousInTime, World, a_report, an_agent, shanghai
from workflows import names
from workflows.calendar import CALENDAR_CHANGED
from workflows.messages import CaseStart

AN_OFFICER = set(Awaiting) - {Awaiting.DELIVERY, Awaiting.REFUSED_MESSAGE}

_serial = count(1)


class Enforcement:
    """A plan carried out on the real system, with a look at the registry after every act."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.first_day = world, plan.day
        agents = [violation.agent for violation in plan.violations]
        operators = ("中国电信", "中国移动")
        held = {agent: an_agent(world.on_record, agents.count(agent), operators) for agent in set(agents)}
        self.numbers = [held[agent].pop() for agent in agents]
        self.there = OnRecord.of(world.on_record, self.numbers)
        self.paid: dict[str, Decimal] = {}
        self.cases: set[str] = set()
        self.beside: set[str] = set()
        self.runs: set[tuple[str, str]] = set()
        self.told: list[str] = []

    async def carry_out(self, happening: Happening | AtOnce) -> None:
        both = (happening.first, happening.second) if isinstance(happening, AtOnce) else (happening,)
        acts = [act for act in map(self._meant, both) if act]
        if acts and acts[1:] == acts[:1] and isinstance(acts[0], LimitPasses):
            acts = acts[:1]  # a clock can't be moved by two
        for number, kind in {(act.number, act.kind) for act in acts if isinstance(act, Reported)}:
            await self._awaits_its_report(number, kind)
        taken = await (self._at_once(*acts) if len(acts) == 2 else asyncio.gather(*map(self._do, acts)))
        self.told += [f"{act} {said}" for act, said in zip(acts, taken, strict=True)]
        await self._rules_hold()

    def _meant(self, happening: Happening) -> Happening | None:
        """The happening with a number that there is; about a case that there is, if possible an open one."""
        if isinstance(happening, Round):
            return happening
        number = happening.number % len(self.numbers)
        if isinstance(happening, Reported):
            return replace(happening, number=number)
        kind = happening.kind if isinstance(happening, OfCase) else FR
        about = [case for case in self.there.cases if case.kind is kind]
        about.sort(key=lambda case: (case.number == self.numbers[number], case.closed_at is None))
        return replace(happening, number=self.numbers.index(about[-1].number)) if about else None

    def _last_case(self, number: int, kind: Kind) -> Case | None:
        about = self.numbers[number], kind
        return next((case for case in reversed(self.there.cases) if (case.number, case.kind) == about), None)

    def _today(self) -> date:
        """The day after all that is on record."""
        days = [line.at.astimezone(SHANGHAI).date() for line in self.there.trail]
        return max([date.fromisoformat(self.first_day), *(day + timedelta(days=1) for day in days)])

    async def _awaits_its_report(self, number: int, kind: Kind) -> None:
        """Start the workflow of a case that a report is about to open, and bring it to its day."""
        last = self._last_case(number, kind)
        [held] = [row for row in self.there.numbers if row.number == self.numbers[number]]
        if held.holder is not Holder.AGENT or (last and last.closed_at is None):
            return
        case_id = workflow_id(kind, held.number)
        self.cases.add(case_id)
        await self.world.client.start_workflow(
            names.CLAUSES[kind], CaseStart(), id=case_id, task_queue=self.world.task_queue
        )
        await self.world.time.forward(case_id, shanghai(str(self._today())) - datetime.now(SHANGHAI))

    async def _at_once(self, first: Happening, second: Happening) -> list[bool]:
        """Both; the first step of each is held up on its way into the registry until the other is there."""
        with steps_held_up(self.world):
            doing = [asyncio.create_task(self._do(act)) for act in (first, second)]
            for _ in range(20):
                if waiting_steps(self.world) == 2:
                    break
                await asyncio.sleep(0.01)  # a step that waits for a lock tells nobody
        return list(await asyncio.gather(*doing))

    async def _do(self, act: Happening) -> bool:
        """Carry it out; whether it was taken. What is refused is refused in words."""
        try:
            await asyncio.wait_for(self._send(act), 30)
        except WorkflowUpdateFailedError as refusal:
            why = refusal.cause
            assert isinstance(why, ApplicationError) and why.type == "Refused" and why.message, why
        except WorkflowFailureError as failure:
            refused_in_words(failure)
        except Refused as refusal:
            assert str(refusal)
        except WorkflowAlreadyStartedError:
            assert isinstance(act, Proposed | Appealed | Dismissed | Reinstated)
        except RPCError as ended:
            assert ended.status is RPCStatusCode.NOT_FOUND, ended
        else:
            assert not (isinstance(act, Decided) and act.officer == LI)
            return True
        return False

    async def _send(self, act: Happening) -> None:
        match act:
            case Round():
                self.beside.add(CALENDAR_CHANGED)
                await self.world.round(on=str(self._today() + timedelta(days=act.days - 1)))
            case Reported():
                await self.world.report(a_report(self.numbers[act.number], kind=act.kind))
            case Proposed() | Decided() | Filed() | Lifted():
                fraud = self._last_case(act.number, FR)
                assert fraud
                await self._send_of_fraud(act, fraud.case_no)
            case _:
                case_id = workflow_id(act.kind, self.numbers[act.number])
                await self._send_of_case(act, CaseInTime(self.world, case_id))

    async def _send_of_fraud(self, act: OfFraud, case_no: str) -> None:
        serious = SeriousInTime(self.world, f"serious-{case_no}")
        match act:
            case Lifted():
                await self.world.act(case_no, act.act, on=str(self._today()))
            case Proposed():
                await self._begin(serious, self.world.propose(case_no, on=str(self._today()), officer=LI))
            case Decided(approves=True):
                await serious.approve(act.officer)
            case Decided():
                await serious.reject(officer=act.officer)
            case Filed():
                await serious.filing(f"{case_no}-F{act.which}", act.status, "附件不全")

    async def _begin(self, proceeding: CaseInTime, beginning: Awaitable[Any]) -> None:
        """Begin a proceeding beside a case. Raises what it fails with."""
        self.beside.add(proceeding.id)
        try:
            await beginning
        except RPCError as early:  # its clock is there already, its first task may come a moment later
            if early.status is not RPCStatusCode.FAILED_PRECONDITION:
                raise
        if (await proceeding.handle.describe()).status is WorkflowExecutionStatus.FAILED:
            await proceeding.handle.result()

    async def _send_of_case(self, act: OfCase, case: CaseInTime) -> None:
        match act:
            case Rectified(by_signal=True):
                await case.signal("rectification_reported", {"statement": "号码已恢复由登记客户使用"})
            case Rectified():
                await case.rectified()
            case Verified():
                await case.verify(act.passed)
            case Confirmed():
                await case.signal("customer_confirmed", {})
            case Extended():
                await case.extend(act.working_days)
            case Paid():
                await self._pay(act, case)
            case Dismissed() | Appealed() | Heard() | Reinstated() | Returned():
                about = self._last_case(act.number, act.kind)
                assert about
                await self._contest(act, case, about)
            case LimitPasses():
                story = await case.story()
                if story.deadline:
                    known = max(line.at for line in story.lines)  # its clock may be further
                    await self.world.time.forward(case.id, story.deadline.at - known + timedelta(minutes=20))

    async def _contest(
        self, act: Dismissed | Appealed | Heard | Reinstated | Returned, case: CaseInTime, about: Case
    ) -> None:
        """In the case, or by a proceeding of its own once the case has ended."""
        appeal = CaseInTime(self.world, f"appeal-{about.case_no}")
        afresh, today = replace(self.world, time=VirtualTime(self.world.client)), str(self._today())
        match act:
            case Dismissed() if about.closed_at:
                await afresh.dismiss_after(about.case_no, on=today, officer=LI)
            case Dismissed():
                await case.dismiss()
            case Appealed() if about.closed_at:
                await self._begin(appeal, self.world.appeal_after(about.case_no, on=today))
            case Appealed():
                await case.appeal()
            case Heard():
                await (appeal if about.closed_at else case).decide(act.upheld, act.officer)
            case Reinstated():
                reinstatement = CaseInTime(self.world, f"reinstatement-{about.case_no}")
                beginning = self.world.reinstate(about.case_no, on=today, keep=act.keep)
                await self._begin(reinstatement, beginning)
            case Returned():
                await self.world.act(about.case_no, "refunded", today, f"退{next(_serial)}")

    async def _pay(self, act: Paid, case: CaseInTime) -> None:
        paid_for = self._last_case(act.number, act.kind)
        assert paid_for
        reference, amount = self._money(act, paid_for.case_no)
        try:
            if act.by_signal:
                await case.signal("payment_received", {"reference": reference, "amount": str(amount)})
            else:
                await case.paid(str(amount), reference)
        except RPCError as ended:
            assert ended.status is RPCStatusCode.NOT_FOUND, ended
            await pay_late(self.world, paid_for.case_no, reference, amount)
        self.paid[reference] = amount

    def _money(self, act: Paid, case_no: str) -> tuple[str, Decimal]:
        if act.share == "again" and self.paid:
            return list(self.paid.items())[-1]
        fines = [fine.amount for fine in of(case_no, self.there.fines) if fine.status is FineStatus.DUE]
        paid = [payment.amount for payment in of(case_no, self.there.payments)]
        due = max(sum(fines, Decimal(0)) - sum(paid, Decimal(0)), Decimal(0)) or Decimal(1000)
        share = due / 3 if act.share == "part" else due
        return f"流水{next(_serial)}", share.quantize(Decimal("0.01"))

    # What holds

    async def _rules_hold(self) -> None:
        before = self.there
        self._hold(ALWAYS, before)
        running = await self._at_rest()
        self._hold([*ALWAYS, *AT_REST], before)
        debt_is_what_is_left_of_the_fines(self.there, self.world.on_record)
        assert {one.reference: one.amount for one in self.there.payments if one.amount > 0} == self.paid
        are_open = {case.workflow_id for case in self.there.cases if case.closed_at is None}
        assert are_open <= running
        for idle in running & self.cases - are_open:
            await self._nobody_reported_it(idle)

    def _hold(self, rules: Iterable[Rule], before: OnRecord) -> None:
        self.there = OnRecord.of(self.world.on_record, self.numbers)
        for rule in rules:
            rule(before, self.there)

    async def _at_rest(self) -> set[str]:
        """The ids of the workflows that run, as soon as nothing is under way in any of them."""
        calm = 0
        for _ in range(300):
            found = [one for one in await asyncio.gather(*map(self._described, self._ids())) if one]
            self.runs |= {(one.id, one.run_id) for one in found}
            running = [one for one in found if one.status is WorkflowExecutionStatus.RUNNING]
            tasks = [one.raw_description for one in running]
            busy = any(task.HasField("pending_workflow_task") or task.pending_activities for task in tasks)
            calm = 0 if busy else calm + 1
            if calm == 2:  # a signal of one to another is nowhere for a moment
                return {one.id for one in running}
            await asyncio.sleep(0.02)
        raise TimeoutError("the workflows don't come to rest")

    def _ids(self) -> set[str]:
        ended = [case.case_no for case in self.there.cases if case.closed_at]
        return self.cases | self.beside | {f"restitution-{case_no}" for case_no in ended}

    async def _described(self, case_id: str) -> WorkflowExecutionDescription | None:
        try:
            return await self.world.client.get_workflow_handle(case_id).describe()
        except RPCError as error:
            assert error.status is RPCStatusCode.NOT_FOUND, error
            return None

    async def _nobody_reported_it(self, case_id: str) -> None:
        """It was started for a report that was refused then: it is no case, and only this test started it."""
        waiting = CaseInTime(self.world, case_id)
        assert await waiting.stage() is Stage.OPENING
        await waiting.handle.terminate()

    async def run_out(self) -> None:
        """Let all limits run out at once: then nothing goes on any more but through an officer."""
        still_open = [case.workflow_id for case in self.there.cases if case.closed_at is None]
        await asyncio.gather(*(self.world.time.forward(one, timedelta(days=200)) for one in still_open))
        await self._rules_hold()
        for case_id in await self._at_rest():
            assert AN_OFFICER & set((await CaseInTime(self.world, case_id).story()).awaiting)

    async def histories_replay(self) -> None:
        runs = self.runs | {(case.workflow_id, case.run_id) for case in self.there.cases}
        client = self.world.client
        await histories_replay(client.get_workflow_handle(case_id, run_id=run) for case_id, run in runs)

    async def leave(self) -> None:
        """Don't let what a plan left open disturb the next one."""
        for case_id in self._ids():
            with suppress(RPCError):
                await self.world.client.get_workflow_handle(case_id).terminate()


FRAUD, SALE, FAILURE = Violation(0, FR), Violation(0, SS), Violation(0, SF)
ALL_OF_ONE_AGENT = (FRAUD, SALE, SALE, FAILURE)


# One registry serves all plans: each brings its own agents and numbers.
@settings(
    max_examples=rounds(5, 15),
    derandomize=True,  # the same examples each time: a change that breaks one is the change that did it
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=PLANS)
# Two frauds of one agent are found serious, and approved at once.
@example(
    Plan(
        (FRAUD, FRAUD),
        (
            Proposed(0),
            Proposed(1),
            Decided(0, LI),
            AtOnce(Decided(0), Decided(1, CHEN)),
            Filed(0, 1, FilingStatus.SUBMITTED),
            AtOnce(Filed(0, 1, FilingStatus.REFUSED), Filed(0, 1, FilingStatus.ACKNOWLEDGED)),
        ),
    )
)
# A shutdown, while the others wait for payment, verification and service.
@example(
    Plan(
        ALL_OF_ONE_AGENT,
        (
            LimitPasses(1, SS),
            Rectified(2, SS),
            LimitPasses(0, FR),
            Reported(1, SS),
            Round(25),
            Round(40),
        ),
    )
)
@example(Plan(ALL_OF_ONE_AGENT, (Rectified(2, SS), AtOnce(LimitPasses(0, FR), Verified(2, SS, True)))))
@example(Plan(ALL_OF_ONE_AGENT, (AtOnce(LimitPasses(0, FR), LimitPasses(3, SF)), Round(40))))
# A fine that is void counts for none of two that are set at once.
@example(
    Plan(
        (SALE, SALE, SALE),
        (LimitPasses(0, SS), Dismissed(0, SS), AtOnce(LimitPasses(1, SS), LimitPasses(2, SS))),
    )
)
# A number that was frozen is taken back.
@example(
    Plan(
        (FAILURE, SALE),
        (
            Reported(0, FR),
            AtOnce(LimitPasses(0, SF), Paid(0, FR)),
            Lifted(0, "unfreeze"),
            Lifted(0, "reopen"),
        ),
    )
)
# A command that its clause doesn't know.
@example(Plan((FRAUD,), (Rectified(0, FR), Verified(0, FR, passed=True))))
# What is owed back is returned: never while the case is open, once of two that come at once, and not twice.
@example(
    Plan(
        (SALE, FRAUD),
        (
            *(Paid(0, SS), Returned(0, SS), Rectified(0, SS), Verified(0, SS, passed=True)),
            *(AtOnce(Returned(0, SS), Returned(0, SS)), Dismissed(0, SS)),
            *(Paid(1, FR), Paid(1, FR), AtOnce(Returned(1, FR), Dismissed(1, FR)), Paid(1, FR)),
        ),
    )
)
# What races the shutdown, and what races the approval.
@example(Plan((FRAUD, SALE), (AtOnce(LimitPasses(0, FR), Dismissed(0, FR)),)))
@example(Plan((FRAUD, SALE), (AtOnce(LimitPasses(0, FR), Paid(0, FR, by_signal=True)),)))
@example(Plan((FRAUD, SALE), (Proposed(0), AtOnce(Decided(0), Dismissed(0, FR)))))
@example(Plan((FRAUD, FRAUD), (Paid(0, FR), Proposed(0), AtOnce(Decided(0), Dismissed(1, FR)))))
@example(Plan((FRAUD, FRAUD), (AtOnce(Dismissed(0, FR), Dismissed(1, FR)),)))
# Of two shutdowns one is overturned, while quarantines end.
@example(
    Plan(
        (FRAUD, FRAUD, SALE),
        (
            AtOnce(LimitPasses(0, FR), LimitPasses(1, FR)),
            Appealed(0, FR),
            AtOnce(Heard(0, FR, upheld=False), Dismissed(1, FR)),
            AtOnce(Reported(2, SS), Round(40)),
        ),
    )
)
# A shutdown is taken back while the case is undone; another stays, and a number was lost by it.
@example(
    Plan(
        (FRAUD, SALE),
        (
            LimitPasses(0, FR),
            Paid(0, FR),
            AtOnce(Reinstated(0, FR), Dismissed(0, FR)),
            Reported(1, SS),
        ),
    )
)
@example(
    Plan(
        (FRAUD, FRAUD),
        (
            AtOnce(LimitPasses(0, FR), LimitPasses(1, FR)),
            Paid(0, FR, "part"),
            Round(40),
            Reinstated(0, FR),
            Paid(1, FR),
            AtOnce(Reinstated(1, FR), Paid(0, FR)),
        ),
    )
)
@example(
    Plan((FRAUD, SALE), (Paid(0, FR), AtOnce(Lifted(0, "reopen"), Reported(1, FR)), Proposed(1), Decided(1)))
)
async def test_whatever_happens_to_cases_of_all_kinds_the_rules_hold(world: World, plan: Plan) -> None:
    enforcement = Enforcement(world, plan)
    try:
        for number, violation in enumerate(plan.violations):
            await enforcement.carry_out(Reported(number, violation.kind))
        for happening in plan.happenings:
            await enforcement.carry_out(happening)
        await enforcement.run_out()
        await enforcement.histories_replay()
    except BaseException as failure:
        failure.add_note("\n".join(enforcement.told))
        raise
    finally:
        await enforcement.leave()
