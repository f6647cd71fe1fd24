"""Rulebook 5.2 and 5.5: what officers do after a case was undone, with dates."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from decimal import Decimal
from email.message import EmailMessage

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from registry.models import Account, AuditLine, Filing, Fine, Payment
from rulebook.vocabulary import AccountStatus, Awaiting, FilingStatus, FineStatus, Kind, Stage, written
from tests.workflows.any_order import pay_late
from tests.workflows.fates import SS, Played, Violation, play
from tests.world import CaseInTime, RestitutionInTime, World, a_report, an_agent, shanghai, wording

# March 2038: Monday 1, no holiday.


async def _refused(command: Awaitable[object]) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await command
    return str(refused.value.cause)


async def _fined(world: World, number: str, on: str = "2038-03-01", until: str = "2038-03-05") -> CaseInTime:
    """A secondary sale that was not rectified: its fine is due."""
    case = await world.open(a_report(number), on=on)
    assert await case.until(until, "00:11") is Stage.PAYMENT
    return case


async def _settled(world: World, number: str, *amounts: str) -> str:
    """A secondary sale of 1 March whose fine was paid, in one sum if no others are told; its case number."""
    case = await _fined(world, number)
    for nth, amount in enumerate(amounts or [str((await case.story()).balance.due)], 1):
        await case.paid(amount, f"b-{number}-{nth}")
    return (await case.ended()).case_no


async def _shut_down(world: World, number: str) -> str:
    """A secondary sale of 1 March, shut down when Friday 12 ends; its case number."""
    case = await _fined(world, number)
    await case.until("2038-03-13", "00:11")
    return (await case.ended()).case_no


async def _dismissed(world: World, case_no: str, on: str = "2038-03-15") -> RestitutionInTime:
    """Dismiss a case that has ended; what is left to officers then."""
    await world.dismiss_after(case_no, on=on)
    left = world.restitution(case_no)
    await left.once(lambda told: bool(told.awaiting))
    return left


async def _nothing_is_left(world: World, case_no: str) -> bool:
    try:
        await world.restitution(case_no).handle.describe()
    except RPCError as error:
        return error.status is RPCStatusCode.NOT_FOUND
    return False


def _fines(world: World) -> dict[str, tuple[int, Decimal, FineStatus]]:
    return {fine.case_no: (fine.offence, fine.amount, fine.status) for fine in world.rows(Fine)}


def _lowered(world: World) -> list[EmailMessage]:
    return [letter for letter in world.letters() if "罚款减少通知书" in letter["Subject"]]


async def test_nothing_is_left_to_officers_where_nothing_was_paid_lost_filed_or_raised(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.dismiss_after(case_no, on="2038-03-15")
    assert await _nothing_is_left(world, case_no)


async def test_what_is_left_is_shown_until_nothing_is(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    left = await _dismissed(world, case_no)

    story, shown = await left.story(), await left.attributes()
    assert (story.case_no, story.number, story.stage) == (case_no, number, Stage.RESTITUTION)
    assert story.awaiting == (Awaiting.REFUND, Awaiting.REVIEW)
    assert (shown["CaseNo"], shown["Number"], shown["Stage"]) == (case_no, number, Stage.RESTITUTION)
    assert shown["Awaiting"] == [Awaiting.REFUND, Awaiting.REVIEW]
    assert await world.found(f"Awaiting = 'refund' AND Number = '{number}'") == [left.id]

    await left.refunded()
    assert (await left.attributes())["Awaiting"] == [Awaiting.REVIEW]
    await left.reviewed(await raised.case_no(), lower=True)

    assert (await left.ended()).outcome is Stage.RESTORED
    assert "Awaiting" not in await left.attributes()
    assert (await left.attributes())["Stage"] == Stage.RESTORED
    told = [line.text for line in (await left.story()).lines]
    assert [text.split(",")[0] for text in told] == ["¥1", "Fine lowered from ¥2"]


# Refunds


async def test_all_that_was_paid_is_refunded_also_what_was_paid_above_the_fine(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number, "400", "1100")
    left = await _dismissed(world, case_no)
    await left.until("2038-03-16")

    assert "1,500.00 refunded, reference 退-1" in await left.refunded("退-1")

    assert (await left.ended()).outcome is Stage.RESTORED
    payments = world.rows(Payment)
    assert {payment.refund_reference for payment in payments} == {"退-1"}
    assert all(payment.refund_due_at and payment.refunded_at for payment in payments)
    [line] = [line for line in world.rows(AuditLine) if "refunded" in line.text and line.actor == "李敏"]
    assert (line.case_no, line.at >= shanghai("2038-03-15")) == (case_no, True)


async def test_a_refund_is_made_once(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    await _fined(world, other, "2038-03-08", "2038-03-12")
    left = await _dismissed(world, case_no)

    said = await asyncio.gather(left.refunded("退-1"), left.refunded("退-2"), return_exceptions=True)

    assert len([one for one in said if isinstance(one, str)]) == 1
    assert "nothing is to be refunded (any more)" in await _refused(left.refunded("退-3"))
    [payment] = world.rows(Payment)
    assert payment.refund_reference in ("退-1", "退-2")
    assert len([line for line in world.rows(AuditLine) if "refunded, reference" in line.text]) == 1


async def test_money_that_comes_in_while_officers_are_at_it_is_refunded_too(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    left = await _dismissed(world, case_no)
    await left.refunded("退-1")

    assert await pay_late(world, case_no, "late", Decimal(300))

    assert Awaiting.REFUND in (await left.once(lambda told: Awaiting.REFUND in told.awaiting)).awaiting
    await left.reviewed(await raised.case_no(), lower=False)
    assert "300.00 refunded" in await left.refunded("退-2")
    assert (await left.ended()).outcome is Stage.RESTORED
    assert sorted(str(p.refund_reference) for p in world.rows(Payment)) == ["退-1", "退-2"]


async def test_money_that_comes_in_before_the_agent_is_told_of_the_undo_is_refunded_too(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    case_no = await case.case_no()
    with world.undeliverable():
        await case.dismiss()
        await case.once(lambda told: told.stage.undone and Awaiting.DELIVERY in told.awaiting)
        await case.paid("1000", "b-1")
    await case.until("2038-03-06")
    await case.ended()
    left = world.restitution(case_no)
    assert (await left.once(lambda told: bool(told.awaiting))).awaiting == (Awaiting.REFUND,)
    assert "1,000.00 refunded" in await left.refunded()


# Substitutes


async def test_a_number_that_cannot_be_returned_is_dealt_with_once(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _shut_down(world, number)
    await world.round(on="2038-04-13")
    left = await _dismissed(world, case_no, on="2038-04-14")

    assert "no substitute is wanted" in await _refused(left.substituted("4009990009", "4009990001"))
    assert "needs a reason" in await _refused(left.substituted(number, reason=" "))
    assert f"replaced by {written('4009990001')}" in await left.substituted(number, "4009990001")
    assert "no substitute is wanted" in await _refused(left.substituted(number, "4009990002"))
    assert (await left.story()).awaiting == (Awaiting.SUBSTITUTE,)
    await left.substituted(other, reason="代理商放弃")

    assert (await left.ended()).outcome is Stage.RESTORED
    told = [line.text for line in world.rows(AuditLine) if line.step.startswith("substitute-")]
    assert told == [
        f"Number {written(number)} replaced by {written('4009990001')}",
        f"Number {written(other)} not replaced (代理商放弃)",
    ]


async def test_of_two_substitutes_at_once_one_is_on_record_and_nobody_is_told_otherwise(world: World) -> None:
    numbers = an_agent(world.on_record, numbers=6)
    case_no = await _shut_down(world, numbers[0])
    await world.round(on="2038-04-13")
    left = await _dismissed(world, case_no, on="2038-04-14")

    offered = [(number, substitute) for number in numbers for substitute in ("4009990001", "4009990002")]
    said = await asyncio.gather(*(left.substituted(*offer) for offer in offered), return_exceptions=True)

    recorded = {line.text for line in world.rows(AuditLine) if line.step.startswith("substitute-")}
    assert len(recorded) == len(numbers)
    told = {one.partition(": ")[2] for one in said if isinstance(one, str)}
    assert {text.lower() for text in told} == {text.lower() for text in recorded}


async def test_a_number_that_two_cases_had_taken_is_replaced_once(world: World) -> None:
    numbers = an_agent(world.on_record, numbers=2)
    at_once = [Played(world, Violation(SS, "shut down", place), numbers) for place in (0, 1)]
    await play(*((case, case.acts) for case in at_once))
    await world.round(on="2038-04-13")
    for case in at_once:
        await world.dismiss_after(case.case_no, on="2038-04-14")

    left = [
        world.restitution(case.case_no) for case in at_once if not await _nothing_is_left(world, case.case_no)
    ]
    stories = [await one.once(lambda told: bool(told.awaiting)) for one in left]
    assert [Awaiting.SUBSTITUTE in story.awaiting for story in stories].count(True) == 1


# Withdrawals


async def test_what_was_filed_is_taken_back_filing_by_filing(world: World) -> None:
    [number] = an_agent(world.on_record)
    fraud = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    case_no = await fraud.case_no()
    serious = await world.propose(case_no, on="2038-03-03")
    await serious.approve(officer="赵强")
    await serious.once(lambda told: Awaiting.FILING in told.awaiting)
    for serial in (1, 2):
        await serious.filing(f"{case_no}-F{serial}", FilingStatus.SUBMITTED)
    await fraud.ended()
    appeal = await world.appeal_after(case_no, on="2038-03-10")
    await appeal.decide(upheld=False)
    await appeal.ended()

    left = world.restitution(case_no)
    story = await left.once(lambda told: bool(told.awaiting))
    assert story.awaiting == (Awaiting.WITHDRAWAL,)
    shown = [(filing.filing_no, filing.status) for filing in story.filings]
    assert shown == [(f"{case_no}-F{serial}", FilingStatus.WITHDRAWING) for serial in (1, 2)]
    never_out = f"{case_no}-F3"
    assert f"no filing {never_out} is to be withdrawn" in await _refused(left.withdrawn(never_out))
    said = {"officer": "李敏", "filing_no": f"{case_no}-F1", "status": FilingStatus.SUBMITTED}
    assert "can only be withdrawn" in await _refused(left.handle.execute_update("filing", said))
    await left.withdrawn(f"{case_no}-F1")
    assert "can't become withdrawn" in await _refused(left.withdrawn(f"{case_no}-F1"))
    assert (await left.story()).awaiting == (Awaiting.WITHDRAWAL,)
    await left.withdrawn(f"{case_no}-F2")
    assert (await left.ended()).outcome is Stage.RESTORED
    assert {filing.status for filing in world.rows(Filing)} == {FilingStatus.WITHDRAWN}


# Reviews


async def test_a_fine_that_the_undone_offence_had_raised_is_lowered_and_its_agent_told(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    raised_no, limit = await raised.case_no(), await raised.last_day()
    left = await _dismissed(world, case_no)

    assert "lowered from ¥2,000.00 to ¥1,000.00" in await left.reviewed(raised_no, lower=True)

    story = await raised.once(lambda told: told.offence == 1)
    assert (story.offence, story.balance.due, story.stage) == (1, Decimal(1000), Stage.PAYMENT)
    assert (await raised.attributes())["FineYuan"] == 1000
    assert await raised.last_day() == limit
    assert len(_lowered(world)) == 1
    assert f"曾将案件 {case_no} 计入违规次数" in wording(_lowered(world)[0])
    assert "no fine of case" in await _refused(left.reviewed(raised_no, lower=True))
    await raised.paid("1000", "b-2")
    assert (await raised.ended()).outcome is Stage.SETTLED


async def test_a_fine_that_is_kept_stays_and_no_letter_is_sent(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    left = await _dismissed(world, case_no)
    await left.refunded()
    letters = len(world.letters())

    assert "kept at ¥2,000.00" in await left.reviewed(await raised.case_no(), lower=False)

    assert (await left.ended()).outcome is Stage.RESTORED
    assert _fines(world)[await raised.case_no()] == (2, Decimal(2000), FineStatus.DUE)
    assert len(world.letters()) == letters
    await raised.paid("1000", "b-2")
    assert await raised.stage() is Stage.PAYMENT


async def test_a_fine_that_is_lowered_to_what_was_paid_is_settled(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    await raised.paid("1200", "b-2")
    left = await _dismissed(world, case_no)
    await left.reviewed(await raised.case_no(), lower=True)
    ended = await raised.ended()
    assert (ended.outcome, ended.balance.owed_back) == (Stage.SETTLED, Decimal(200))
    assert "应退还贵司人民币 200.00 元（大写：贰佰元整）" in wording(_lowered(world)[0])


@pytest.mark.parametrize("stopped_by", ["a hold", "an appeal"])
async def test_a_fine_is_lowered_while_the_clock_of_its_case_stands_still(
    world: World, stopped_by: str
) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    await (raised.hold() if stopped_by == "a hold" else raised.appeal())
    left = await _dismissed(world, case_no)

    await left.reviewed(await raised.case_no(), lower=True)

    story = await raised.once(lambda told: told.offence == 1)
    assert (story.offence, story.balance.fine, story.deadline) == (1, Decimal(1000), None)
    await (raised.resume() if stopped_by == "a hold" else raised.decide(upheld=True))
    await raised.paid("1000", "b-2")
    assert (await raised.ended()).outcome is Stage.SETTLED


async def test_a_case_that_is_held_is_settled_when_its_fine_is_lowered_to_what_was_paid(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    await raised.paid("1000", "b-2")
    await raised.hold()
    left = await _dismissed(world, case_no)
    await left.reviewed(await raised.case_no(), lower=True)
    assert (await raised.ended()).outcome is Stage.SETTLED


async def test_a_debt_is_lowered_after_the_shutdown_which_stands(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    await raised.until("2038-03-20", "00:11")
    assert (await raised.ended()).outcome is Stage.SHUT_DOWN
    raised_no = await raised.case_no()
    left = await _dismissed(world, case_no, on="2038-03-22")

    await left.reviewed(raised_no, lower=True)

    assert _fines(world)[raised_no] == (1, Decimal(1000), FineStatus.DUE)
    assert [account.status for account in world.rows(Account)] == [AccountStatus.SHUT_DOWN]
    assert "尚应缴纳 1,000.00 元（大写：壹仟元整）" in wording(_lowered(world)[0])
    await left.refunded()
    assert (await left.ended()).outcome is Stage.RESTORED


async def test_each_of_two_raised_fines_is_reviewed(world: World) -> None:
    first, second, third = an_agent(world.on_record, numbers=3)
    case_no = await _settled(world, first)
    raised = [
        await _fined(world, second, "2038-03-08", "2038-03-12"),
        await _fined(world, third, "2038-03-09", "2038-03-13"),
    ]
    two, three = [await case.case_no() for case in raised]
    assert [_fines(world)[one][1] for one in (two, three)] == [Decimal(2000), Decimal(3000)]
    left = await _dismissed(world, case_no)
    await left.refunded()

    await left.reviewed(three, lower=True)
    assert (await left.story()).awaiting == (Awaiting.REVIEW,)
    await left.reviewed(two, lower=True)

    assert (await left.ended()).outcome is Stage.RESTORED
    assert _fines(world)[two] == (1, Decimal(1000), FineStatus.DUE)
    assert _fines(world)[three] == (2, Decimal(2000), FineStatus.DUE)


async def test_no_fine_is_reviewed_but_one_that_was_raised(world: World) -> None:
    first, second, third = an_agent(world.on_record, numbers=3)
    case_no = await _settled(world, first)
    raised = await _fined(world, second, "2038-03-08", "2038-03-12")
    rectifying = await world.open(a_report(third), on="2038-03-11")
    left = await _dismissed(world, case_no)

    for other in (case_no, await rectifying.case_no(), "SS-2038-99999"):
        assert f"no fine of case {other} is to be reviewed" in await _refused(
            left.reviewed(other, lower=True)
        )

    await left.reviewed(await raised.case_no(), lower=True)
    await rectifying.until("2038-03-17", "00:11")
    story = await rectifying.story()
    assert (story.offence, story.balance.fine) == (2, Decimal(2000))


async def test_nothing_is_left_to_review_where_the_raised_fine_was_undone_too(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    left = await _dismissed(world, case_no)
    await left.refunded()
    await raised.dismiss()
    await raised.ended()

    with suppress(WorkflowUpdateFailedError):
        await left.reviewed(await raised.case_no(), lower=False)

    assert (await left.ended()).outcome is Stage.RESTORED


async def test_no_officer_is_left_with_a_fine_that_was_reviewed_after_another_undo(world: World) -> None:
    first, second, third = an_agent(world.on_record, numbers=3)
    cases = [await _settled(world, number) for number in (first, second)]
    raised = await _fined(world, third, "2038-03-08", "2038-03-12")
    raised_no = await raised.case_no()
    assert _fines(world)[raised_no] == (3, Decimal(3000), FineStatus.DUE)
    left = [await _dismissed(world, case_no) for case_no in reversed(cases)]
    for one in left:
        await one.refunded()

    await left[0].reviewed(raised_no, lower=True)
    assert _fines(world)[raised_no] == (1, Decimal(1000), FineStatus.DUE)
    with suppress(WorkflowUpdateFailedError):
        await left[1].reviewed(raised_no, lower=True)

    assert [(await one.ended()).outcome for one in left] == [Stage.RESTORED, Stage.RESTORED]
    assert _fines(world)[raised_no] == (1, Decimal(1000), FineStatus.DUE)
    assert len(_lowered(world)) == 1


async def test_a_letter_about_a_lower_fine_that_cannot_be_delivered_awaits_an_officer(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    raised = await _fined(world, other, "2038-03-08", "2038-03-12")
    left = await _dismissed(world, case_no)
    with world.undeliverable():
        reviewing = asyncio.create_task(left.reviewed(await raised.case_no(), lower=True))
        story = await left.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        assert Awaiting.DELIVERY in story.awaiting
        assert _fines(world)[await raised.case_no()][1] == Decimal(1000)
    await left.until("2038-03-16")
    await reviewing
    assert len(_lowered(world)) == 1
