"""Rulebook 4.5, 6.2 and 6.3: a payment that is known late, and a shutdown that an officer takes back."""

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text
from temporalio.client import WorkflowFailureError

from registry.models import Account, AuditLine, Case, Fine, HoldRow, Number, Payment, Wait
from rulebook.vocabulary import (
    AccountStatus,
    Awaiting,
    FineStatus,
    Holder,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
)
from tests.world import CaseInTime, World, a_report, an_agent, wording

# March 2038: Monday 1, no holiday. A secondary sale of Monday 1 is fined as Friday 5 begins, the fine payable
# until Friday 12 at 24:00; a fraud of Monday 1 until Monday 8 at 24:00.
FRIDAY, SATURDAY, MONDAY = "2038-03-12", "2038-03-13", "2038-03-15"


async def _fined(world: World, number: str) -> CaseInTime:
    case = await world.open(a_report(number), on="2038-03-01")
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT
    return case


async def _shut_down(world: World, number: str) -> str:
    """A secondary sale with 1,000 due whose limit ended on Friday; its case number."""
    case = await _fined(world, number)
    assert await case.until(SATURDAY, "00:11") is Stage.SHUT_DOWN
    return (await case.ended()).case_no


async def _fraud_shut_down(world: World, number: str) -> str:
    """A fraud with 30,000 due whose limit ended on Monday 8; its case number."""
    case = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    assert await case.until("2038-03-09", "00:11") is Stage.SHUT_DOWN
    return (await case.ended()).case_no


def _waits(world: World) -> list[tuple[str, Awaiting]]:
    return [(wait.case_no, wait.what) for wait in world.rows(Wait) if wait.ended_at is None]


async def _refused(one: CaseInTime) -> str:
    with pytest.raises(WorkflowFailureError) as failed:
        await one.ended()
    return str(failed.value.cause)


def _letter(world: World) -> str:
    """The letter of the only reinstatement."""
    [letter] = [one for one in world.letters() if "账户关停解除通知书" in one["Subject"]]
    return wording(letter)


# The day on which the bank had it


async def test_a_payment_is_dated_by_the_day_on_which_the_bank_had_it(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.signal("payment_received", {"reference": "b-1", "amount": "400", "on": "2038-03-04"})
    told = await case.once(lambda told: bool(told.balance.paid))
    assert (
        told.lines[-1].text == "¥400.00 paid, reference b-1, had by the bank on 2038-03-04: ¥600.00 still due"
    )
    [payment] = world.rows(Payment)
    assert str(payment.had_on) == "2038-03-04"


async def test_a_payment_of_a_day_to_come_is_refused_and_waits_for_an_officer(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.signal("payment_received", {"reference": "b-1", "amount": "400", "on": "2038-03-06"})
    told = await case.once(lambda told: Awaiting.REFUSED_MESSAGE in told.awaiting)
    assert "the bank can't have had it on 2038-03-06: today is 2038-03-05" in told.lines[-1].text
    assert world.rows(Payment) == []


async def test_a_day_that_is_none_is_refused_and_waits_for_an_officer(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.signal("payment_received", {"reference": "b-1", "amount": "400", "on": "Friday"})
    told = await case.once(lambda told: Awaiting.REFUSED_MESSAGE in told.awaiting)
    assert "on: " in told.lines[-1].text
    assert world.rows(Payment) == []


async def test_a_reference_that_was_counted_keeps_the_day_that_it_has(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "400", "b-1", known=MONDAY)
    with pytest.raises(WorkflowFailureError) as failed:
        await world.pay_after(case_no, "400", "b-1", known=MONDAY, had_on=FRIDAY)
    assert "b-1 was counted already, with ¥400.00 of 2038-03-15" in str(failed.value.cause.__cause__)
    assert (await world.pay_after(case_no, "400", "b-1", known=MONDAY, had_on=MONDAY)).due == Decimal(600)
    assert len(world.rows(Payment)) == 1


# Paid in time, known too late


async def test_what_the_bank_had_on_friday_and_is_known_on_monday_waits_for_an_officer(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)

    paid = await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)

    assert (paid.in_time, paid.due) == (True, Decimal(0))
    assert _waits(world) == [(case_no, Awaiting.REINSTATEMENT)]
    assert world.rows(AuditLine)[-1].text == (
        "¥1,000.00 paid, reference b-1, had by the bank on 2038-03-12: settled; in time, "
        "though the account is shut down: an officer reinstates it"
    )
    # 6.3: nothing is undone by itself.
    assert world.rows(Account)[0].status is AccountStatus.SHUT_DOWN
    assert world.rows(Number)[0].status is NumberStatus.QUARANTINED


@pytest.mark.parametrize("had_on", [SATURDAY, MONDAY, None])
async def test_what_the_bank_had_after_the_last_day_waits_for_nobody(
    world: World, had_on: str | None
) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    assert not (await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=had_on)).in_time
    assert _waits(world) == []


async def test_what_was_paid_in_time_must_reach_the_fine(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.paid("300", "b-1")
    await case.until(SATURDAY, "00:11")
    case_no = await case.case_no()
    await world.pay_after(case_no, "200", "b-2", known=MONDAY, had_on=FRIDAY)
    await world.pay_after(case_no, "400", "b-3", known=MONDAY)
    assert not (await world.pay_after(case_no, "100", "b-4", known=MONDAY, had_on=SATURDAY)).in_time
    assert world.rows(Fine)[0].status is FineStatus.SETTLED
    assert _waits(world) == []

    assert (await world.pay_after(case_no, "500", "b-5", known=MONDAY, had_on=FRIDAY)).in_time
    assert _waits(world) == [(case_no, Awaiting.REFUND), (case_no, Awaiting.REINSTATEMENT)]


async def test_a_limit_that_was_extended_is_the_one_that_counts(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.extend(1)
    await case.until("2038-03-16", "00:11")
    case_no = (await case.ended()).case_no
    assert (await world.pay_after(case_no, "1000", "b-1", known="2038-03-17", had_on=MONDAY)).in_time


async def test_a_payment_that_comes_in_as_the_account_is_shut_down_waits_too(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    with world.undeliverable():
        assert await case.until(SATURDAY, "00:11") is Stage.SHUTDOWN
        await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        message = {"reference": "b-1", "amount": "1000", "on": FRIDAY}
        await case.signal("payment_received", message)
        await case.once(lambda told: told.balance.settled)
    await case.until(MONDAY)
    assert (await case.ended()).outcome is Stage.SHUT_DOWN
    assert (await case.case_no(), Awaiting.REINSTATEMENT) in _waits(world)


async def test_what_was_returned_later_makes_no_payment_one_that_came_too_late(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    assert (await world.pay_after(case_no, "1500", "b-1", known=MONDAY, had_on=FRIDAY)).in_time
    assert "¥500.00 returned" in await world.act(case_no, "refunded", MONDAY, "r-1")
    assert _waits(world) == [(case_no, Awaiting.REINSTATEMENT)]
    reinstated = await world.reinstate(case_no, on="2038-03-16")
    assert (await reinstated.ended()).outcome is Stage.SETTLED
    assert "贵司已在期限内缴清罚款" in _letter(world)
    assert "应退还" not in _letter(world)


async def test_a_fine_that_is_lowered_to_what_was_paid_in_time_waits_too(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    earlier = await _fined(world, first)
    await earlier.paid("1000", "b-1")
    undone = (await earlier.ended()).case_no
    case = await world.open(a_report(second), on="2038-03-08")
    await case.until("2038-03-12", "00:11")
    await case.paid("1000", "b-2")
    assert await case.until("2038-03-20", "00:11") is Stage.SHUT_DOWN
    case_no = await case.case_no()
    await world.dismiss_after(undone, on="2038-03-22")
    left = world.restitution(undone)
    await left.once(lambda told: Awaiting.REVIEW in told.awaiting)
    assert (case_no, Awaiting.REINSTATEMENT) not in _waits(world)

    await left.reviewed(case_no, lower=True)

    assert (case_no, Awaiting.REINSTATEMENT) in _waits(world)


# Reinstated


async def test_an_officer_takes_the_shutdown_back_and_fine_and_offence_stand(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)

    ended = await (await world.reinstate(case_no, on=MONDAY)).ended()

    assert (ended.outcome, ended.balance.due) == (Stage.SETTLED, Decimal(0))
    assert world.rows(Account)[0].status is AccountStatus.OPEN
    assert [(n.status, n.holder) for n in world.rows(Number)] == [(NumberStatus.ACTIVE, Holder.AGENT)] * 2
    assert [(fine.amount, fine.offence, fine.status) for fine in world.rows(Fine)] == [
        (Decimal(1000), 1, FineStatus.SETTLED)
    ]
    assert [case.outcome for case in world.rows(Case)] == [Stage.SETTLED]
    assert _waits(world) == []
    # Newest first: the numbers, then the account.
    assert [line.text for line in world.rows(AuditLine)[-4:-1]] == [
        "Shutdown taken back: its fine is settled, and stands (银行已于期限内入账)",
        "2 numbers returned to their agent",
        f"Account of agent {world.rows(Account)[0].agent_id} reopened",
    ]
    letter = _letter(world)
    assert "贵司已在期限内缴清罚款" in letter
    assert "【解除理由】银行已于期限内入账" in letter
    assert "账户关停解除，账户可正常使用" in letter
    assert "罚款人民币 1,000.00 元（大写：壹仟元整）不变，已缴清" in letter
    assert "不再恢复办理" in letter
    assert "the bank had your payment of the fine within the limit" in letter
    # The next one is the second.
    again = await world.open(a_report(other), on="2038-03-16")
    await again.until("2038-03-20", "00:11")
    assert (await again.story()).offence == 2


async def test_an_officer_may_take_a_shutdown_back_for_what_was_paid_late(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "400", "b-1", known=MONDAY)

    ended = await (await world.reinstate(case_no, on=MONDAY, reason="已部分缴款")).ended()

    assert (ended.outcome, ended.balance.due) == (Stage.SHUT_DOWN, Decimal(600))
    assert world.rows(Account)[0].status is AccountStatus.OPEN
    assert world.rows(Fine)[0].status is FineStatus.DUE
    letter = _letter(world)
    assert "因罚款未在期限内缴清" in letter
    assert "尚欠 600.00 元（大写：陆佰元整），仍应缴纳" in letter
    assert "无需再采取任何行动" not in letter
    # Once the rest is paid, the case has ended settled after all.
    await world.pay_after(case_no, "600", "b-2", known="2038-03-16")
    assert [case.outcome for case in world.rows(Case)] == [Stage.SETTLED]
    assert _waits(world) == []


async def test_after_a_fraud_the_suspension_stays_until_the_account_is_reopened(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _fraud_shut_down(world, number)
    await world.pay_after(case_no, "30000", "b-1", known="2038-03-10", had_on="2038-03-08")
    assert _waits(world) == [(case_no, Awaiting.REINSTATEMENT)]

    await (await world.reinstate(case_no, on="2038-03-10")).ended()

    [account] = world.rows(Account)
    assert (account.status, account.suspended_by) == (AccountStatus.SUSPENDED, case_no)
    status = {row.number: (row.status, row.holder) for row in world.rows(Number)}
    assert status == {
        number: (NumberStatus.FROZEN, Holder.AGENT),
        other: (NumberStatus.ACTIVE, Holder.AGENT),
    }
    assert "恢复为暂停状态；是否恢复使用，由合规人员另行决定" in _letter(world)
    await world.act(case_no, "reopen", on="2038-03-11")
    assert world.rows(Account)[0].status is AccountStatus.OPEN


async def test_another_case_that_keeps_the_account_shut_goes_on_doing_so(
    world: World, engine: Engine
) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    first, second = await _fined(world, number), await _fined(world, other)
    with engine.begin() as registry:  # both come to shut it down at once (7.1)
        registry.execute(text("select * from accounts for update"))
        passing = [asyncio.create_task(case.until(SATURDAY, "00:11")) for case in (first, second)]
        await world.held_up(2)
    await asyncio.gather(*passing)
    case_no, keeps = (await first.ended()).case_no, (await second.ended()).case_no
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)

    one = await world.reinstate(case_no, on=MONDAY)
    await one.ended()

    [account] = world.rows(Account)
    assert (account.status, account.shut_down_by) == (AccountStatus.SHUT_DOWN, keeps)
    assert f"Account of agent {account.agent_id} stays shut-down, by case {keeps}" in await one.told()
    assert f"因案件 {keeps}，账户仍为关停状态" in _letter(world)
    assert {row.status for row in world.rows(Number)} == {NumberStatus.QUARANTINED}
    # And once that one is taken back too, all is as before.
    await world.pay_after(keeps, "2000", "b-2", known=MONDAY)
    await (await world.reinstate(keeps, on="2038-03-16")).ended()
    assert world.rows(Account)[0].status is AccountStatus.OPEN
    assert {row.status for row in world.rows(Number)} == {NumberStatus.ACTIVE}


async def test_a_number_that_two_shutdowns_lost_is_lost_with_the_second_that_is_taken_back(
    world: World, engine: Engine
) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    first, second = await _fined(world, number), await _fined(world, other)
    with engine.begin() as registry:
        registry.execute(text("select * from accounts for update"))
        passing = [asyncio.create_task(case.until(SATURDAY, "00:11")) for case in (first, second)]
        await world.held_up(2)
    await asyncio.gather(*passing)
    case_nos = [(await case.ended()).case_no for case in (first, second)]
    await world.round("2038-04-20")
    fined = {fine.case_no: str(fine.amount) for fine in world.rows(Fine)}
    for nth, case_no in enumerate(case_nos):
        await world.pay_after(case_no, fined[case_no], f"b-{nth}", known="2038-04-21")
        await (await world.reinstate(case_no, on="2038-04-22")).ended()
    assert _waits(world) == [(case_nos[1], Awaiting.SUBSTITUTE)]


async def test_what_a_shutdown_has_overtaken_stays_ended_and_the_answer_says_so(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    overtaken = await world.open(a_report(other), on="2038-03-11")
    case_no = await _shut_down(world, number)
    stays = (await overtaken.ended()).case_no
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)
    one = await world.reinstate(case_no, on=MONDAY)
    await one.ended()
    assert f"{stays}, which it overtook, stay ended" in (await one.told())[0]
    assert {case.case_no: case.outcome for case in world.rows(Case)}[stays] is Stage.OVERTAKEN


async def test_a_number_out_of_quarantine_is_lost_and_an_officer_finds_another(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)
    await world.round("2038-04-20")

    await (await world.reinstate(case_no, on="2038-04-21")).ended()

    assert _waits(world) == [(case_no, Awaiting.SUBSTITUTE)]
    assert "无法退还；我部将提供替代号码" in _letter(world)
    left = world.restitution(case_no)
    await left.once(lambda told: Awaiting.SUBSTITUTE in told.awaiting)
    await left.substituted(number, reason="代理商书面放弃")
    assert _waits(world) == []
    # An undo later asks for no second one.
    await world.dismiss_after(case_no, on="2038-04-22")
    assert _waits(world) == [(case_no, Awaiting.REFUND)]


async def test_an_officer_may_find_that_the_shutdown_stays(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)
    ended = await (await world.reinstate(case_no, on=MONDAY, keep=True, reason="入账日期有误")).ended()
    assert ended.outcome is Stage.SHUT_DOWN
    assert _waits(world) == []
    assert world.rows(Account)[0].status is AccountStatus.SHUT_DOWN
    assert not any("账户关停解除通知书" in letter["Subject"] for letter in world.letters())
    assert "no reinstatement waits" in await _refused(await world.reinstate(case_no, on=MONDAY, keep=True))


# Where it doesn't apply


async def test_an_open_case_has_nothing_to_take_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await (await _fined(world, number)).case_no()
    assert "is open" in await _refused(await world.reinstate(case_no, on=MONDAY))


async def test_a_case_that_is_not_on_record_has_nothing_to_take_back(world: World) -> None:
    assert "no case SS-2038-00000" in await _refused(await world.reinstate("SS-2038-00000", on=MONDAY))


async def test_nothing_is_taken_back_before_anything_was_paid(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    assert "nothing has been paid" in await _refused(await world.reinstate(case_no, on=MONDAY))
    assert world.rows(Account)[0].status is AccountStatus.SHUT_DOWN


async def test_a_shutdown_is_taken_back_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)
    await (await world.reinstate(case_no, on=MONDAY)).ended()
    again = await _refused(await world.reinstate(case_no, on="2038-03-16"))
    assert "keeps no account shut down" in again


async def test_an_account_that_is_closed_for_good_stays_so(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _fraud_shut_down(world, number)
    await world.pay_after(case_no, "30000", "b-1", known="2038-03-10", had_on="2038-03-08")
    serious = await world.propose(case_no, on="2038-03-11")
    await serious.approve()
    await serious.once(lambda told: Awaiting.FILING in told.awaiting)
    assert "is closed for good, by case" in await _refused(await world.reinstate(case_no, on=MONDAY))
    assert world.rows(Account)[0].status is AccountStatus.CLOSED


# Beside an undo


async def test_a_case_that_was_undone_has_nothing_to_take_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)
    await world.dismiss_after(case_no, on=MONDAY)
    assert f"case {case_no} was dismissed" in await _refused(await world.reinstate(case_no, on=MONDAY))
    assert _waits(world) == [(case_no, Awaiting.REFUND)]


@pytest.mark.parametrize("way", ["dismissal", "appeal"])
async def test_an_undo_after_a_reinstatement_voids_the_fine_and_lifts_nothing_twice(
    world: World, way: str
) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)
    await (await world.reinstate(case_no, on=MONDAY)).ended()
    lifted = [(hold.lifted_at, hold.lifted_by) for hold in world.rows(HoldRow)]

    if way == "dismissal":
        await world.dismiss_after(case_no, on="2038-03-16")
    else:
        appeal = await world.appeal_after(case_no, on="2038-03-16")
        await appeal.decide(upheld=False)
        await appeal.ended()

    assert [(hold.lifted_at, hold.lifted_by) for hold in world.rows(HoldRow)] == lifted
    assert world.rows(Account)[0].status is AccountStatus.OPEN
    assert world.rows(Number)[0].status is NumberStatus.ACTIVE
    assert world.rows(Fine)[0].status is FineStatus.VOID
    assert _waits(world) == [(case_no, Awaiting.REFUND)]


async def test_a_reinstatement_whose_letter_waits_is_told_of_no_more_once_the_case_is_undone(
    world: World,
) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await world.pay_after(case_no, "1000", "b-1", known=MONDAY, had_on=FRIDAY)
    with world.undeliverable():
        one = await world.reinstate(case_no, on=MONDAY)
        await one.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        undoing = asyncio.create_task(world.dismiss_after(case_no, on="2038-03-16"))
        for _ in range(400):
            if world.rows(Case)[0].outcome is Stage.DISMISSED:
                break
            await asyncio.sleep(0.05)  # nothing tells when
    assert await undoing is Stage.DISMISSED
    await one.ended()
    assert [told.kind for told in (await one.story()).notices if told.kind == NoticeKind.REINSTATED] == []
