"""Rulebook 4.4, 5.1 and 5.2: appeals, the clock that stands still meanwhile, and the undo, with dates."""

from decimal import Decimal

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError

from registry.models import Account, Appeal, Case, Fine, Number, Payment
from rulebook.vocabulary import AccountStatus, Awaiting, FineStatus, Holder, Kind, NumberStatus, Stage
from tests.world import CaseInTime, World, a_report, an_agent
from workflows.after_case import LatePayment
from workflows.messages import LatePaymentStart, PaymentReceived

# March 2038: Monday 1, no holiday.


async def _refused(command: object) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await command  # type: ignore[misc]
    return str(refused.value.cause)


async def _shut_down(world: World, number: str) -> str:
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-13", "00:11")
    ended = await case.ended()
    assert ended.outcome is Stage.SHUT_DOWN
    return ended.case_no


# The clock


async def test_the_clock_stops_while_an_appeal_is_pending_and_what_is_left_is_kept(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")  # until Thursday 4
    assert await case.until("2038-03-03") is Stage.RECTIFICATION

    await case.appeal()

    told = await case.once(lambda story: story.deadline is None)
    assert (told.deadline, told.awaiting) == (None, (Awaiting.APPEAL,))
    assert await case.until("2038-03-20") is Stage.RECTIFICATION
    assert not world.rows(Fine)
    await case.until("2038-03-22")
    await case.decide(upheld=True)
    await case.once(lambda story: story.deadline is not None)
    # Wednesday 3 and Thursday 4 were left: Tuesday 23 and Wednesday 24.
    assert await case.last_day() == "2038-03-24"
    assert await case.until("2038-03-24", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-03-25", "00:11") is Stage.PAYMENT
    subjects = [letter["Subject"] for letter in world.letters()]
    assert len(subjects) == 4


async def test_a_case_that_is_held_goes_on_with_what_was_left(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.hold()
    await case.once(lambda story: story.deadline is None)
    assert "held already" in await _refused(case.hold())
    assert "stands still" in await _refused(case.extend(2))
    await case.until("2038-03-15")
    await case.resume()
    await case.once(lambda story: story.deadline is not None)
    assert await case.last_day() == "2038-03-18"
    assert "not held" in await _refused(case.resume())


async def test_a_hold_and_an_appeal_at_once_both_have_to_end(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.hold()
    await case.appeal()
    await case.until("2038-03-10")
    await case.decide(upheld=True)
    assert await case.last_day() is None
    await case.until("2038-03-15")
    await case.resume()
    await case.once(lambda story: story.deadline is not None)
    assert await case.last_day() == "2038-03-18"


async def test_a_payment_settles_a_case_that_is_held(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    await case.hold()
    await case.paid("1000", "b-1")
    assert (await case.ended()).outcome is Stage.SETTLED


# Who decides


@pytest.mark.parametrize("officer", ["李敏", "王静"])
async def test_who_opened_or_verified_the_case_does_not_decide(world: World, officer: str) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, reported_by="王静"), on="2038-03-01")
    await case.rectified()
    await case.verify(False, officer="李敏")
    await case.appeal()
    assert "another officer has to decide" in await _refused(case.decide(True, officer=officer))
    assert await case.decide(True, officer="张伟")


async def test_nothing_is_decided_where_nobody_appealed_and_only_one_appeal_is_pending(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    assert "no appeal is pending" in await _refused(case.decide(True))
    await case.appeal()
    assert "pending already" in await _refused(case.appeal())
    await case.decide(True)
    assert await case.appeal()
    assert [appeal.upheld for appeal in world.rows(Appeal)] == [True, None]


async def test_evidence_has_to_be_on_record(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    assert "no evidence is on record" in await _refused(case.appeal(evidence=("0" * 64,)))
    kept = world.evidence()
    await case.appeal(evidence=(kept,))
    assert [appeal.evidence for appeal in world.rows(Appeal)] == [[kept]]


# Undone


async def test_an_open_case_that_is_overturned_is_undone(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    await case.paid("10000", "b-1")
    await case.appeal()
    await case.decide(upheld=False)
    ended = await case.ended()
    assert ended.outcome is Stage.OVERTURNED
    assert [fine.status for fine in world.rows(Fine)] == [FineStatus.VOID]
    assert [(n.status, n.holder) for n in world.rows(Number)] == [(NumberStatus.ACTIVE, Holder.AGENT)]
    assert [account.status for account in world.rows(Account)] == [AccountStatus.OPEN]
    assert all(payment.refund_due_at for payment in world.rows(Payment))
    left = world.restitution(ended.case_no)
    assert (await left.once(lambda told: bool(told.awaiting))).awaiting == (Awaiting.REFUND,)
    assert "10,000.00 refunded" in await left.refunded()
    assert (await left.ended()).outcome is Stage.RESTORED
    assert [payment.refund_reference for payment in world.rows(Payment)] == ["refund-1"]


async def test_a_shutdown_is_undone_after_its_end(world: World) -> None:
    held = an_agent(world.on_record, numbers=3)
    case_no = await _shut_down(world, held[0])
    appeal = await world.appeal_after(case_no, on="2038-04-01")

    await appeal.decide(upheld=False)

    assert [account.status for account in world.rows(Account)] == [AccountStatus.OPEN]
    await appeal.ended()
    assert {(n.status, n.holder) for n in world.rows(Number)} == {(NumberStatus.ACTIVE, Holder.AGENT)}
    assert [
        (case.outcome, fine.status) for case, fine in zip(world.rows(Case), world.rows(Fine), strict=True)
    ] == [(Stage.OVERTURNED, FineStatus.VOID)]
    told = await CaseInTime(world, appeal.id).told()
    order = [text for text in told if "returned" in text or "reopened" in text or "voided" in text]
    assert ["3 numbers returned" in order[0], "reopened" in order[1], "voided" in order[2]] == [True] * 3


async def test_a_number_out_of_quarantine_is_not_returned_and_a_substitute_is_offered(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _shut_down(world, number)
    await world.round(on="2038-04-13")
    appeal = await world.appeal_after(case_no, on="2038-04-12")
    await appeal.decide(upheld=False)
    await appeal.ended()
    assert {n.status for n in world.rows(Number)} == {NumberStatus.FREE}
    left = world.restitution(case_no)
    assert (await left.once(lambda told: bool(told.awaiting))).awaiting == (Awaiting.SUBSTITUTE,)
    assert "needs a reason" in await _refused(left.substituted(number))
    await left.substituted(number, substitute="4009990001")
    await left.substituted(other, reason="代理商放弃")
    assert (await left.ended()).outcome is Stage.RESTORED


async def test_an_appeal_is_possible_for_30_days_after_the_end(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)  # ended on Saturday 13 March
    late = await world.appeal_after(case_no, on="2038-04-13")
    with pytest.raises(WorkflowFailureError) as failed:
        await late.ended()
    assert "was possible until 2038-04-12" in str(failed.value.cause)


async def test_an_ended_case_is_dismissed_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    assert await world.dismiss_after(case_no, on="2038-06-01") is Stage.DISMISSED
    assert [account.status for account in world.rows(Account)] == [AccountStatus.OPEN]
    with pytest.raises(WorkflowFailureError) as failed:
        await world.dismiss_after(case_no, on="2038-06-02")
    assert "was dismissed already" in str(failed.value.cause)


async def test_a_later_fine_that_it_had_raised_is_reviewed(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    one = await world.open(a_report(first), on="2038-03-01")
    await one.until("2038-03-05", "00:11")
    await one.paid("1000", "b-1")
    first_no = (await one.ended()).case_no
    other = await world.open(a_report(second), on="2038-03-08")
    await other.until("2038-03-12", "00:11")
    second_no = await other.case_no()
    assert (await other.story()).balance.fine == Decimal(2000)

    await world.dismiss_after(first_no, on="2038-03-15")

    left = world.restitution(first_no)
    told = await left.once(lambda story: bool(story.awaiting))
    assert told.awaiting == (Awaiting.REFUND, Awaiting.REVIEW)
    await left.reviewed(second_no, lower=True)
    story = await other.once(lambda story: story.offence == 1)
    assert (story.offence, story.balance.fine) == (1, Decimal(1000))
    await other.paid("1000", "b-2")
    assert (await other.ended()).outcome is Stage.SETTLED
    await left.refunded()
    assert (await left.ended()).outcome is Stage.RESTORED


async def test_money_that_comes_in_after_the_undo_is_given_back_too(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.dismiss_after(case_no, on="2038-04-01")
    for reference in ("late-1", "late-2"):
        late = LatePaymentStart(case_no=case_no, payment=PaymentReceived(reference=reference, amount="500"))
        named = f"late-payment-{case_no}-{reference}"
        await world.client.execute_workflow(LatePayment.run, late, id=named, task_queue=world.task_queue)
    left = world.restitution(case_no)
    assert (await left.once(lambda told: bool(told.awaiting))).awaiting == (Awaiting.REFUND,)
    assert "1,000.00 refunded" in await left.refunded()
    assert (await left.ended()).outcome is Stage.RESTORED


async def test_a_case_that_waits_for_its_appeal_only_can_be_dismissed(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.SERVICE_FAILURE), on="2038-03-01")
    await case.appeal()
    await case.signal("customer_confirmed", {"statement": "已恢复"})
    await case.once(lambda told: "customer confirms" in told.lines[-1].text)
    assert await case.dismiss()
    assert (await case.ended()).outcome is Stage.DISMISSED
    assert [appeal.upheld for appeal in world.rows(Appeal)] == [False]


async def test_a_case_does_not_end_before_its_appeal_is_decided(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.SERVICE_FAILURE), on="2038-03-01")
    await case.appeal()
    await case.signal("customer_confirmed", {"statement": "已恢复"})
    await case.once(lambda told: "customer confirms" in told.lines[-1].text)
    assert "the case stands" in await case.decide(upheld=True)
    assert (await case.ended()).outcome is Stage.RECTIFIED
