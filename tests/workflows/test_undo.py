"""Rulebook 5.2: after an undo everything stands as it would without the case that is undone."""

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError

from registry.models import Account, Appeal, AuditLine, Case, Filing, Fine, Number, Payment
from rulebook.vocabulary import (
    AccountStatus,
    Awaiting,
    FilingStatus,
    FineStatus,
    Holder,
    Kind,
    NumberStatus,
    Stage,
)
from tests.conftest import rounds
from tests.workflows.any_order import pay_late
from tests.workflows.fates import FATES, FR, SF, SS, Played, Violation, Way, play
from tests.workflows.what_stands import Standing
from tests.world import SeriousInTime, World, a_report, an_agent

OPERATORS = ("中国电信", "中国移动")


@pytest.mark.parametrize(("kind", "fate"), FATES)
async def test_after_an_undo_everything_is_as_before_the_case(world: World, kind: Kind, fate: str) -> None:
    ways: list[Way] = ["appeal"]
    if "closed for good" not in fate:
        ways.append("dismissal")
    await asyncio.gather(*(_undone_alone(world, Violation(kind, fate), way) for way in ways))


async def _undone_alone(world: World, violation: Violation, way: Way) -> None:
    numbers = an_agent(world.on_record, 3, OPERATORS)
    before = Standing.of(world.on_record, numbers)
    case = Played(world, violation, numbers)
    await play((case, case.acts))
    assert case.taken == case.acts

    outcome = await case.undo(way)

    assert outcome is (Stage.OVERTURNED if way == "appeal" else Stage.DISMISSED)
    assert Standing.of(world.on_record, numbers) == before
    paid = [payment for payment in world.rows(Payment) if payment.case_no == case.case_no]
    assert all(payment.refund_due_at for payment in paid)


def _violation(kind_and_fate: tuple[Kind, str], number: int, on: int) -> Violation:
    return Violation(*kind_and_fate, number, on)


VIOLATIONS = st.builds(
    _violation, st.sampled_from(list(FATES)), st.integers(0, 1), st.sampled_from([1, 3, 5, 8])
)
WAYS = st.sampled_from(["appeal", "dismissal"])


@settings(
    max_examples=rounds(3, 8),
    derandomize=True,  # the same examples each time: a change that breaks one is the change that did it
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(undone=VIOLATIONS, stands=VIOLATIONS, left=st.integers(0, 2), way=WAYS)
# Two shutdowns at once, of two kinds too.
@example(Violation(SS, "shut down", 0, 1), Violation(SS, "shut down", 1, 1), 0, "appeal")
@example(Violation(FR, "shut down", 0, 5), Violation(SS, "shut down", 1, 1), 0, "dismissal")
@example(Violation(SS, "shut down", 0, 1), Violation(FR, "shut down", 1, 5), 0, "appeal")
# A number frozen by two frauds, an account suspended by two.
@example(Violation(FR, "settled", 0, 1), Violation(FR, "settled", 0, 3), 0, "appeal")
@example(Violation(FR, "settled", 0, 3), Violation(FR, "awaits payment", 0, 5), 1, "dismissal")
@example(Violation(FR, "settled", 0, 1), Violation(FR, "shut down", 1, 1), 1, "appeal")
# A number that was taken back when its agent's others are: and the other way round, overtaken.
@example(Violation(SF, "taken back", 1, 1), Violation(SS, "shut down", 0, 1), 0, "appeal")
@example(Violation(SS, "shut down", 0, 1), Violation(SF, "taken back", 1, 1), 0, "appeal")
@example(Violation(FR, "shut down", 0, 1), Violation(SF, "taken back", 1, 5), 0, "appeal")
@example(Violation(FR, "settled", 0, 1), Violation(SF, "taken back", 0, 1), 0, "dismissal")
# Closed for good by one, shut down by the other.
@example(Violation(FR, "settled, then closed for good", 0, 1), Violation(SS, "shut down", 1, 1), 0, "appeal")
@example(Violation(SS, "shut down", 1, 1), Violation(FR, "settled, then closed for good", 0, 1), 0, "appeal")
@example(Violation(FR, "closed for good", 0, 1), Violation(SS, "settled", 1, 1), 0, "appeal")
# Reopened meanwhile, for the one and for the other.
@example(Violation(FR, "settled", 0, 1), Violation(FR, "settled and lifted", 1, 3), 0, "appeal")
@example(Violation(FR, "settled and lifted", 0, 1), Violation(FR, "settled", 0, 5), 0, "appeal")
# A second offence that was fined as such, and one that is fined after the first was undone.
@example(Violation(SS, "settled", 0, 1), Violation(SS, "shut down", 1, 3), 0, "appeal")
@example(Violation(SS, "settled", 0, 1), Violation(SS, "settled", 0, 8), 2, "appeal")
async def test_after_an_undo_everything_is_as_another_case_alone_would_have_it(
    world: World, undone: Violation, stands: Violation, left: int, way: Way
) -> None:
    # Of one number and kind, the second case comes after the first.
    assume((undone.kind, undone.number) != (stands.kind, stands.number) or undone.on < stands.on)
    # Who reopens the account in the one case lifts what the other holds too: that act of an officer stands.
    both = undone.fate == "settled and lifted" and stands.kind is FR and stands.on < undone.on + 4
    assume(not both)
    numbers, others = (an_agent(world.on_record, 3, OPERATORS) for _ in range(2))
    one, other = Played(world, undone, numbers), Played(world, stands, numbers)
    # All but so many of the last acts in the other case come before the undo.
    to_come = other.acts[len(other.acts) - left :]
    before = [act for act in one.acts if not to_come or act.at < to_come[0].at]

    await play((one, before), (other, [act for act in other.acts if act not in to_come]))
    assume(one.taken and (other.taken or to_come))
    closed = "approved" in [act.what for act in one.taken]
    outcome = await one.undo("appeal" if closed else way)
    await play((other, to_come))
    assume(other.taken)
    await _review(world, one, other)

    assert outcome.undone
    alone = Played(world, stands, others)
    await play((alone, other.taken))
    assert alone.taken == other.taken
    assert Standing.of(world.on_record, numbers, {other.case_no: "it"}) == Standing.of(
        world.on_record, others, {alone.case_no: "it"}
    )


async def _review(world: World, undone: Played, stands: Played) -> None:
    """Lower a fine that the undone case had raised."""
    if [fine for fine in world.rows(Fine) if fine.case_no == stands.case_no and fine.amount == Decimal(2000)]:
        restitution = world.restitution(undone.case_no)
        await restitution.once(lambda told: Awaiting.REVIEW in told.awaiting)
        await restitution.reviewed(stands.case_no, lower=True)


# Once


async def _shut_down(world: World, number: str) -> str:
    """A secondary sale of 1 March, neither rectified nor paid: shut down when Friday 12 ends."""
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-13", "00:11")
    ended = await case.ended()
    assert ended.outcome is Stage.SHUT_DOWN
    return ended.case_no


async def _settled(world: World, number: str, kind: Kind = SS) -> str:
    """A case of 1 March whose fine was paid on Friday 5."""
    case = await world.open(a_report(number, kind=kind), on="2038-03-01")
    await case.until("2038-03-05")
    await case.paid(str((await case.story()).balance.due), f"b-{number}")
    ended = await case.ended()
    assert ended.outcome is Stage.SETTLED
    return ended.case_no


async def _taken_back(world: World, number: str) -> str:
    """A number that the platform serves directly from Friday 5 March on."""
    case = await world.open(a_report(number, kind=SF), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    ended = await case.ended()
    assert ended.outcome is Stage.TAKEN_BACK
    return ended.case_no


async def _serious(world: World, case_no: str, on: str = "2038-03-16") -> SeriousInTime:
    """The account is closed for good in this case of fraud; its filings are prepared."""
    serious = await world.propose(case_no, on=on)
    await serious.approve(officer="赵强")
    await serious.once(lambda told: Awaiting.FILING in told.awaiting)
    return serious


async def _overturn(world: World, case_no: str, on: str = "2038-04-01") -> None:
    appeal = await world.appeal_after(case_no, on=on)
    await appeal.decide(upheld=False)
    assert (await appeal.ended()).outcome is Stage.OVERTURNED


async def _failed(run: Awaitable[object]) -> str:
    """Why a contest could not be had."""
    with pytest.raises(WorkflowFailureError) as failed:
        await run
    return str(failed.value.cause)


async def _refused(command: Awaitable[object]) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await command
    return str(refused.value.cause)


def _account(world: World) -> AccountStatus:
    [account] = world.rows(Account)
    return account.status


def _numbers(world: World) -> dict[str, tuple[NumberStatus, Holder]]:
    return {row.number: (row.status, row.holder) for row in world.rows(Number)}


def _letters(world: World, title: str) -> list[EmailMessage]:
    return [letter for letter in world.letters() if title in letter["Subject"]]


async def test_a_case_is_undone_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await _overturn(world, case_no)
    undone = world.rows(AuditLine)

    again = await world.appeal_after(case_no, on="2038-04-02")
    assert f"case {case_no} was overturned: there is nothing to appeal against" in await _failed(
        again.ended()
    )
    dismissed = world.dismiss_after(case_no, on="2038-04-02")
    assert f"case {case_no} was overturned already" in await _failed(dismissed)

    assert [line.id for line in world.rows(AuditLine)] == [line.id for line in undone]


async def test_of_an_appeal_and_a_dismissal_at_once_one_undoes_the_case(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    appeal = await world.appeal_after(case_no, on="2038-04-01")

    with world.on_record() as holding:
        holding.execute(text("lock table payments in access exclusive mode"))
        deciding = asyncio.create_task(appeal.decide(upheld=False))
        await world.held_up(1)
        dismissing = asyncio.create_task(world.dismiss_after(case_no, on="2038-04-01"))
        await world.held_up(2)
    await asyncio.wait([deciding, dismissing])

    assert [line.text for line in world.rows(AuditLine) if line.text.startswith("Case closed: over")]
    assert not [line.text for line in world.rows(AuditLine) if line.text.startswith("Case closed: dis")]
    assert [case.outcome for case in world.rows(Case)] == [Stage.OVERTURNED]
    assert deciding.exception() is None
    with pytest.raises(WorkflowFailureError) as failed:
        await dismissing
    assert f"case {case_no} was overturned already" in str(failed.value.cause)
    assert (await appeal.ended()).outcome is Stage.OVERTURNED


async def test_a_dismissal_comes_before_the_decision_of_an_appeal_that_is_pending(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    appeal = await world.appeal_after(case_no, on="2038-04-01")

    assert await world.dismiss_after(case_no, on="2038-04-02") is Stage.DISMISSED

    assert (await appeal.ended()).outcome is Stage.DISMISSED
    assert [(row.upheld, row.decided_by) for row in world.rows(Appeal)] == [(False, "张伟")]
    assert "Awaiting" not in await appeal.attributes()
    assert len(_letters(world, "案件撤销通知书")) == 1


async def test_an_open_case_that_is_dismissed_while_its_appeal_is_pending_is_undone_once(
    world: World,
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=FR), on="2038-03-01")
    await case.appeal()
    await case.dismiss()
    assert (await case.ended()).outcome is Stage.DISMISSED
    assert _account(world) is AccountStatus.OPEN
    assert [row.upheld for row in world.rows(Appeal)] == [False]
    assert len(world.letters()) == 3  # the fine, the clock that stood still, the undo


# Newest first


async def test_what_a_case_did_is_undone_newest_first(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=FR), on="2038-03-01")
    await case.until("2038-03-09", "00:11")
    case_no = (await case.ended()).case_no
    await _serious(world, case_no)

    await _overturn(world, case_no)

    steps = [line.step for line in world.rows(AuditLine)]
    undone = [step.removeprefix("undo-") for step in steps if step.startswith("undo-")]
    did = [step for step in steps if step in undone]
    assert len(did) == 7
    assert [step for step in undone if step in did] == did[::-1]
    assert (
        steps.index("undo-account-shutdown") < steps.index("fine-void") < steps.index("undo-account-suspend")
    )


# What is filed


async def test_what_was_filed_is_withdrawn_and_what_was_waived_stays(world: World) -> None:
    numbers = an_agent(world.on_record, 3, OPERATORS)
    case = Played(world, Violation(FR, "closed for good"), numbers)
    await play((case, case.acts))
    before = {filing.filing_no[-1]: filing.status for filing in world.rows(Filing)}

    await case.undo("appeal")

    after = {filing.filing_no[-1]: filing.status for filing in world.rows(Filing)}
    assert {serial: (status, after[serial]) for serial, status in before.items()} == {
        "1": (FilingStatus.PREPARED, FilingStatus.WITHDRAWN),
        "2": (FilingStatus.SUBMITTED, FilingStatus.WITHDRAWING),
        "3": (FilingStatus.ACKNOWLEDGED, FilingStatus.WITHDRAWING),
        "4": (FilingStatus.REFUSED, FilingStatus.WITHDRAWN),
        "5": (FilingStatus.WAIVED, FilingStatus.WAIVED),
    }
    taken_back = {filing.filing_no[-1] for filing in world.rows(Filing) if filing.withdrawal}
    assert taken_back == {"2", "3"}


async def test_a_filing_of_a_case_that_stands_is_not_withdrawn(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number, FR)
    serious = await _serious(world, case_no)
    await _refused(serious.filing(f"{case_no}-F1", FilingStatus.WITHDRAWN))
    await serious.filing(f"{case_no}-F1", FilingStatus.SUBMITTED)
    await _refused(serious.filing(f"{case_no}-F1", FilingStatus.WITHDRAWING))


# The serious circumstances of a case that is undone


async def test_a_finding_that_awaits_approval_ends_with_its_case(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number, FR)
    serious = await world.propose(case_no, on="2038-03-16")

    await _overturn(world, case_no)

    assert await serious.outcome() is Stage.OVERTURNED
    assert "Awaiting" not in await serious.attributes()
    assert _account(world) is AccountStatus.OPEN
    again = await world.propose(case_no, on="2038-04-02")
    assert f"case {case_no} was overturned" in await _failed(again.outcome())


async def test_nothing_is_approved_in_a_case_that_is_overturned_meanwhile(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number, FR)
    serious = await world.propose(case_no, on="2038-03-16")
    appeal = await world.appeal_after(case_no, on="2038-04-01")

    with world.on_record() as holding:
        holding.execute(text("lock table payments in access exclusive mode"))
        deciding = asyncio.create_task(appeal.decide(upheld=False))
        await world.held_up(1)
        approving = asyncio.create_task(serious.approve(officer="赵强"))
        await world.held_up(2)
    await asyncio.wait([deciding, approving])

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await approving
    assert f"case {case_no} was overturned" in str(refused.value.cause)
    assert await serious.outcome() is Stage.OVERTURNED
    await appeal.ended()
    assert _account(world) is AccountStatus.OPEN
    assert world.rows(Filing) == []


async def test_a_closure_under_way_goes_no_further_once_its_case_is_overturned(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number, FR)
    appeal = await world.appeal_after(case_no, on="2038-04-01")
    serious = await world.propose(case_no, on="2038-04-01")
    with world.undeliverable():
        await serious.approve(officer="赵强")
        story = await serious.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        assert story.stage is Stage.CLOSURE
        await appeal.decide(upheld=False)
        assert await serious.outcome() is Stage.OVERTURNED
    await appeal.until("2038-04-02")
    assert (await appeal.ended()).outcome is Stage.OVERTURNED
    assert _account(world) is AccountStatus.OPEN
    assert _numbers(world) == dict.fromkeys((number, other), (NumberStatus.ACTIVE, Holder.AGENT))
    assert world.rows(Filing) == []
    assert not _letters(world, "永久关闭账户")


async def test_filing_ends_once_its_case_is_overturned(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number, FR)
    serious = await _serious(world, case_no)

    await _overturn(world, case_no)

    assert await serious.outcome() is Stage.OVERTURNED
    assert "Awaiting" not in await serious.attributes()
    assert {filing.status for filing in world.rows(Filing)} == {FilingStatus.WITHDRAWN}


async def test_a_closure_that_two_officers_found_is_overturned_only_on_appeal(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number, FR)
    await _serious(world, case_no)
    dismissed = world.dismiss_after(case_no, on="2038-04-01")
    assert "found by two officers: only an appeal overturns it" in await _failed(dismissed)
    assert _account(world) is AccountStatus.CLOSED
    assert [case.outcome for case in world.rows(Case)] == [Stage.SETTLED]


async def test_so_is_a_closure_that_came_second(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    cases = [await _settled(world, number, FR) for number in (first, second)]
    findings = [await world.propose(case_no, on="2038-03-16") for case_no in cases]
    for serious in findings:
        await serious.approve(officer="赵强")
    await findings[1].once(lambda told: Awaiting.FILING in told.awaiting)

    dismissed = world.dismiss_after(cases[1], on="2038-04-01")

    assert "found by two officers: only an appeal overturns it" in await _failed(dismissed)


# What comes at the same time


async def test_numbers_that_another_case_is_about_to_take_stay_with_that_case(
    world: World, engine: Engine
) -> None:
    number, sold = an_agent(world.on_record, numbers=2)
    fraud = await _settled(world, number, FR)
    serious = await world.propose(fraud, on="2038-03-10")
    shut_down = await _shut_down(world, sold)
    appeal = await world.appeal_after(shut_down, on="2038-03-20")
    await serious.until("2038-03-20")

    with engine.begin() as registry:
        registry.execute(text("select * from numbers for update"))
        approving = asyncio.create_task(serious.approve(officer="赵强"))
        await world.held_up(1)
        deciding = asyncio.create_task(appeal.decide(upheld=False))
        await world.held_up(2)
    await asyncio.gather(approving, deciding)
    await appeal.ended()
    await serious.once(lambda told: Awaiting.FILING in told.awaiting)

    assert {(row.status, row.reclaimed_by) for row in world.rows(Number)} == {
        (NumberStatus.QUARANTINED, fraud)
    }


async def test_a_number_whose_quarantine_ends_while_it_is_being_returned_is_lost(
    world: World, engine: Engine
) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    appeal = await world.appeal_after(case_no, on="2038-04-12")

    with engine.begin() as registry:
        registry.execute(text("select * from holds for update"))
        round_made = asyncio.create_task(world.round(on="2038-04-13"))
        await world.held_up(1)
        deciding = asyncio.create_task(appeal.decide(upheld=False))
        await world.held_up(2)
    await asyncio.gather(round_made, deciding)
    await appeal.ended()

    assert _numbers(world) == {number: (NumberStatus.FREE, Holder.NOBODY)}
    story = await world.restitution(case_no).once(lambda told: bool(told.awaiting))
    assert story.awaiting == (Awaiting.SUBSTITUTE,)


async def test_a_payment_that_comes_while_a_case_is_being_undone_is_given_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    appeal = await world.appeal_after(case_no, on="2038-04-01")

    with world.on_record() as holding:
        holding.execute(text("lock table payments in access exclusive mode"))
        deciding = asyncio.create_task(appeal.decide(upheld=False))
        await world.held_up(1)
        paying = asyncio.create_task(pay_late(world, case_no, "b-1", Decimal(400)))
        await world.held_up(2)
    assert await paying
    await deciding
    await appeal.ended()

    assert all(payment.refund_due_at for payment in world.rows(Payment))
    story = await world.restitution(case_no).once(lambda told: bool(told.awaiting))
    assert story.awaiting == (Awaiting.REFUND,)


async def test_a_payment_in_the_midst_of_an_undo_does_not_stop_it(world: World, engine: Engine) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.round(on="2038-04-13")
    appeal = await world.appeal_after(case_no, on="2038-04-12")

    with engine.begin() as registry:
        registry.execute(text("select * from accounts for update"))
        deciding = asyncio.create_task(appeal.decide(upheld=False))
        await world.held_up(1)
        paying = asyncio.create_task(pay_late(world, case_no, "b-1", Decimal(400)))
        await world.held_up(2)
    assert await paying
    await deciding

    assert (await appeal.ended()).outcome is Stage.OVERTURNED
    left = world.restitution(case_no)
    both = (Awaiting.REFUND, Awaiting.SUBSTITUTE)
    assert (await left.once(lambda told: told.awaiting == both)).awaiting == both


# In the midst of a case


async def test_a_shutdown_under_way_is_undone_when_an_appeal_against_it_is_allowed(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    with world.undeliverable():
        await case.until("2038-03-13", "00:11")
        story = await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        assert story.stage is Stage.SHUTDOWN
        await case.appeal()
        assert "too late to dismiss" in await _refused(case.dismiss())
    await case.until("2038-03-13", "10:00")
    story = await case.once(lambda told: Awaiting.DELIVERY not in told.awaiting)
    assert (story.stage, story.awaiting) == (Stage.SHUTDOWN, (Awaiting.APPEAL,))
    assert _account(world) is AccountStatus.SHUT_DOWN

    await case.decide(upheld=False)

    assert (await case.ended()).outcome is Stage.OVERTURNED
    assert _account(world) is AccountStatus.OPEN
    assert _numbers(world) == {number: (NumberStatus.ACTIVE, Holder.AGENT)}
    assert [fine.status for fine in world.rows(Fine)] == [FineStatus.VOID]


async def test_a_shutdown_that_stands_after_its_appeal_ends_the_case(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    with world.undeliverable():
        await case.until("2038-03-13", "00:11")
        await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        await case.appeal()
    await case.until("2038-03-13", "10:00")
    await case.decide(upheld=True)
    assert (await case.ended()).outcome is Stage.SHUT_DOWN
    assert _account(world) is AccountStatus.SHUT_DOWN


async def test_an_undo_does_not_wait_for_a_letter_that_cannot_be_delivered(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    with world.undeliverable():
        await case.until("2038-03-13", "00:11")
        await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        await case.appeal()
        deciding = asyncio.create_task(case.decide(upheld=False))
        await case.once(lambda told: told.stage.undone)
        await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        assert _account(world) is AccountStatus.OPEN
    await case.until("2038-03-14")
    await deciding
    await case.ended()


async def test_a_case_whose_order_cannot_be_delivered_is_undone_too(world: World) -> None:
    [number] = an_agent(world.on_record)
    with world.undeliverable():
        case = await world.open(a_report(number, kind=FR), on="2038-03-01")
        await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        await case.appeal()
        await case.decide(upheld=False)
        await case.once(lambda told: told.stage.undone and Awaiting.DELIVERY in told.awaiting)
        assert _account(world) is AccountStatus.OPEN
        assert _numbers(world) == {number: (NumberStatus.ACTIVE, Holder.AGENT)}
    await case.until("2038-03-02")
    assert (await case.ended()).outcome is Stage.OVERTURNED
    [letter] = world.letters()
    assert "申诉成立及处理撤销通知书" in letter["Subject"]


async def test_a_case_that_has_run_its_course_while_its_appeal_is_pending_is_dismissed(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.rectified()
    await case.appeal()
    await case.verify(passed=True)
    await asyncio.wait_for(case.dismiss(), 10)
    assert (await case.ended()).outcome is Stage.DISMISSED


async def test_a_decision_on_a_case_that_was_overtaken_meanwhile_need_not_be_delivered_at_once(
    world: World,
) -> None:
    number, sold = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(number), on="2038-03-10")
    await case.appeal()
    await _shut_down(world, sold)
    with world.undeliverable():
        await asyncio.wait_for(case.decide(upheld=True), 10)
        story = await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        assert Awaiting.DELIVERY in story.awaiting
    await case.until("2038-03-12")
    assert (await case.ended()).outcome is Stage.OVERTAKEN
    assert len(_letters(world, "申诉决定书")) == 1


# What follows


async def test_a_case_that_was_undone_is_no_earlier_offence(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    await _overturn(world, await _settled(world, first))
    case = await world.open(a_report(second), on="2038-04-06")
    await case.until("2038-04-10", "00:11")
    story = await case.story()
    assert (story.offence, story.balance.fine) == (1, Decimal(1000))


async def test_the_same_violation_may_be_reported_again_after_the_undo(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _overturn(world, await _shut_down(world, number))
    again = Played(world, Violation(SS, "awaits rectification", 0, 31), [number])
    await play((again, again.acts))
    assert again.taken
    assert [case.outcome for case in world.rows(Case)] == [Stage.OVERTURNED, None]


async def test_agent_and_customer_are_told_that_a_number_is_with_its_agent_again(world: World) -> None:
    [number] = an_agent(world.on_record, email="agent@agent.example")
    case_no = await _taken_back(world, number)

    await _overturn(world, case_no)

    *_, to_agent, to_customer = world.letters()
    assert ("申诉成立及处理撤销通知书" in to_agent["Subject"], to_agent["To"]) == (
        True,
        "agent@agent.example",
    )
    assert ("服务恢复告知书" in to_customer["Subject"], to_customer["To"]) == (
        True,
        f"office@{number}.example",
    )


async def test_a_customer_whose_number_the_platform_keeps_is_not_told_that_its_agent_has_it(
    world: World,
) -> None:
    unserved, sold = an_agent(world.on_record, numbers=2)
    taken_back = await _taken_back(world, unserved)
    shut_down = await _shut_down(world, sold)

    await _overturn(world, taken_back)

    [row] = [row for row in world.rows(Number) if row.number == unserved]
    assert (row.status, row.reclaimed_by) == (NumberStatus.QUARANTINED, shut_down)
    assert not _letters(world, "服务恢复告知书")
    assert not [line for line in world.rows(AuditLine) if "returned to their agent" in line.text]


async def test_a_renewal_that_waits_ends_when_the_number_is_with_its_agent_again(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _taken_back(world, number)
    await world.round(on="2038-11-01")
    renewal = world.client.get_workflow_handle(f"renewal-{number}-2038-12-01")
    assert await world.found(f"Awaiting = '{Awaiting.RENEWAL}' AND Number = '{number}'") == [renewal.id]

    await world.dismiss_after(case_no, on="2038-11-05")

    await asyncio.wait_for(renewal.result(), 10)
    assert await world.found(f"Awaiting = '{Awaiting.RENEWAL}' AND Number = '{number}'", expected=0) == []
    await world.round(on="2038-11-06")
    assert (await renewal.describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_the_agent_is_told_of_every_decision_that_its_case_stands(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.appeal()
    await case.decide(upheld=True)
    await case.rectified()
    await case.verify(passed=True)
    case_no = (await case.ended()).case_no

    appeal = await world.appeal_after(case_no, on="2038-03-10")
    await appeal.decide(upheld=True)
    await appeal.ended()

    assert [row.upheld for row in world.rows(Appeal)] == [True, True]
    assert len(_letters(world, "申诉决定书")) == 2


async def test_an_account_that_was_reopened_stays_open_when_a_fraud_of_before_is_undone(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    cases = [await _settled(world, number, FR) for number in (first, second)]
    await world.act(cases[0], "reopen", on="2038-03-20")
    await _overturn(world, cases[0])
    assert _account(world) is AccountStatus.OPEN
    assert _numbers(world) == {
        first: (NumberStatus.ACTIVE, Holder.AGENT),
        second: (NumberStatus.FROZEN, Holder.AGENT),
    }
