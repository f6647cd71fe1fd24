"""Rulebook 7, several cases of one agent, as stories with dates."""

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from registry.models import Account, AuditLine, Case, Fine, Number
from rulebook.vocabulary import AccountStatus, Awaiting, FineStatus, Kind, NoticeKind, NumberStatus, Stage
from starter.settings import Refused
from tests.world import CaseInTime, World, a_report, an_agent, wording
from workflows.after_case import LatePayment
from workflows.messages import LatePaymentStart, PaymentReceived


async def _shut_down(world: World, number: str) -> str:
    """A secondary sale of 1 March, neither rectified nor paid: shut down at the end of Fri 12; its number."""
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-13", "00:11")
    ended = await case.ended()
    assert ended.outcome is Stage.SHUT_DOWN
    return ended.case_no


async def _waiting(world: World, number: str, awaits: str) -> CaseInTime:
    """A case that waits for something when Friday 12 March ends."""
    kind = {"the fine for fraud": Kind.FRAUD, "service": Kind.SERVICE_FAILURE}.get(
        awaits, Kind.SECONDARY_SALE
    )
    case = await world.open(a_report(number, kind=kind), on="2038-03-10")
    if awaits == "verification":
        await case.rectified()
    if awaits == "payment":
        await case.until("2038-03-16", "00:11")
    return case


# 7.2: what a shutdown means for the agent's other cases


@pytest.mark.parametrize(
    ("awaits", "stage"),
    [
        ("rectification", Stage.RECTIFICATION),
        ("verification", Stage.RECTIFICATION),
        ("payment", Stage.PAYMENT),
        ("service", Stage.RECTIFICATION),
        ("the fine for fraud", Stage.PAYMENT),
    ],
)
async def test_a_case_is_overtaken_by_the_shutdown_while_it_waits(
    world: World, awaits: str, stage: Stage
) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await _waiting(world, other, awaits)
    assert await case.stage() is stage

    shut_down = await _shut_down(world, number)

    ended = await case.ended()
    assert ended.outcome is Stage.OVERTAKEN
    shown = await case.attributes()
    assert shown["Stage"] == Stage.OVERTAKEN
    assert "Awaiting" not in shown
    assert "Deadline" not in shown
    assert f"The account was closed in case {shut_down}: no more is asked here, a fine stays due" in (
        await case.told()
    )
    closing = next(notice for notice in (await case.story()).notices if notice.kind == NoticeKind.CLOSING)
    letter = next(letter for letter in world.letters() if closing.notice_no in letter["Subject"])
    told = wording(letter)
    assert f"由案件 {shut_down} 收回" in told
    assert ("作为债务仍应缴纳" in told) == (stage is Stage.PAYMENT)
    assert ("无需再采取任何行动" in told) != (stage is Stage.PAYMENT)
    assert {row.outcome for row in world.rows(Case)} == {Stage.SHUT_DOWN, Stage.OVERTAKEN}


async def test_the_fine_of_an_overtaken_case_stays_due_and_its_letter_says_so(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await _waiting(world, other, "the fine for fraud")
    await case.paid("4000", "b-1")

    await _shut_down(world, number)

    ended = await case.ended()
    assert ended.balance.due == Decimal(26000)
    assert {(fine.kind, fine.status) for fine in world.rows(Fine)} == {
        (Kind.FRAUD, FineStatus.DUE),
        (Kind.SECONDARY_SALE, FineStatus.DUE),
    }
    told = wording(next(letter for letter in world.letters() if "结案通知书" in letter["Subject"]))
    assert "已缴 4,000.00 元，尚欠 26,000.00 元（大写：贰万陆仟元整），作为债务仍应缴纳" in told
    assert "无需再采取任何行动" not in told


async def test_a_late_payment_lowers_the_debt_of_an_overtaken_case(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await _waiting(world, other, "payment")
    await _shut_down(world, number)
    ended = await case.ended()

    payment = PaymentReceived(reference="b-1", amount=Decimal(300))
    balance = await world.client.execute_workflow(
        LatePayment.run,
        LatePaymentStart(case_no=ended.case_no, payment=payment),
        id=f"late-payment-{ended.case_no}",
        task_queue=world.task_queue,
    )

    assert balance.due == ended.balance.due - 300
    assert world.rows(Account)[0].status is AccountStatus.SHUT_DOWN
    assert [row.outcome for row in world.rows(Case) if row.case_no == ended.case_no] == [Stage.OVERTAKEN]


async def test_a_case_whose_notice_cannot_be_delivered_is_overtaken_too(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    shutting = await world.open(a_report(number), on="2038-03-01")
    await shutting.until("2038-03-05", "00:11")
    with world.undeliverable():
        case = await world.open(a_report(other), on="2038-03-10")
        await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        await shutting.until("2038-03-13", "00:11")
        await case.once(lambda told: told.stage is Stage.OVERTAKEN)
        assert {row.outcome for row in world.rows(Case)} == {None, Stage.OVERTAKEN}
    await shutting.until("2038-03-13", "02:00")
    await case.until("2038-03-10", "12:00")
    assert (await case.ended()).outcome is Stage.OVERTAKEN
    assert (await shutting.ended()).outcome is Stage.SHUT_DOWN


async def test_the_shutdown_for_a_fraud_overtakes_the_other_cases(world: World) -> None:
    number, sold, unserved = an_agent(world.on_record, numbers=3)
    sale = await world.open(a_report(sold), on="2038-03-05")
    failure = await world.open(a_report(unserved, kind=Kind.SERVICE_FAILURE), on="2038-03-05")
    fraud = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    await fraud.until("2038-03-09", "00:11")
    assert (await fraud.ended()).outcome is Stage.SHUT_DOWN
    assert {(await case.ended()).outcome for case in (sale, failure)} == {Stage.OVERTAKEN}


async def test_the_cases_of_another_agent_go_on(world: World) -> None:
    [number], [bystander] = an_agent(world.on_record), an_agent(world.on_record)
    case = await world.open(a_report(bystander), on="2038-03-10")
    await _shut_down(world, number)
    assert await case.until("2038-03-15", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-03-16", "00:11") is Stage.PAYMENT


# 7.1: two cases come to one account


async def test_two_cases_that_shut_one_account_down_at_once_do_it_once_and_both_know(
    world: World, engine: Engine
) -> None:
    numbers = an_agent(world.on_record, numbers=3)
    cases = [await world.open(a_report(number), on="2038-03-01") for number in numbers[:2]]
    for case in cases:
        await case.until("2038-03-05", "00:11")

    with engine.begin() as registry:
        registry.execute(text("select * from accounts for update"))
        passing = [asyncio.create_task(case.until("2038-03-13", "00:11")) for case in cases]
        await world.held_up(len(cases))
    await asyncio.gather(*passing)

    ended = [await case.ended() for case in cases]
    assert [one.outcome for one in ended] == [Stage.SHUT_DOWN, Stage.SHUT_DOWN]
    [account] = world.rows(Account)
    [other] = {one.case_no for one in ended} - {account.shut_down_by}
    already = f"Account of agent {account.agent_id} was shut down by case {account.shut_down_by} already"
    told = {line.case_no: line.text for line in world.rows(AuditLine) if line.step == "account-shutdown"}
    assert told[other] == already
    assert told[account.shut_down_by or ""] == f"Account of agent {account.agent_id} shut down"
    assert len({row.reclaimed_by for row in world.rows(Number)}) == 1
    assert {row.status for row in world.rows(Number)} == {NumberStatus.QUARANTINED}


async def test_a_take_back_that_comes_a_moment_after_the_shutdown_is_overtaken_by_it(
    world: World, engine: Engine
) -> None:
    number, unserved = an_agent(world.on_record, numbers=2)
    shutting = await world.open(a_report(number), on="2038-03-01")
    await shutting.until("2038-03-05", "00:11")
    failure = await world.open(a_report(unserved, kind=Kind.SERVICE_FAILURE), on="2038-03-09")

    with engine.begin() as registry:
        registry.execute(
            text("select * from numbers where number = :number for update"), {"number": unserved}
        )
        passing = [asyncio.create_task(shutting.until("2038-03-13", "00:11"))]
        await world.held_up(1)
        passing.append(asyncio.create_task(failure.until("2038-03-13", "00:11")))
        await world.held_up(2)
    await asyncio.gather(*passing)

    ended = await failure.ended()
    assert {row.status for row in world.rows(Number)} == {NumberStatus.QUARANTINED}
    assert NoticeKind.CLOSING in {notice.kind for notice in (await failure.story()).notices}
    assert ended.outcome is Stage.OVERTAKEN


async def test_a_suspended_account_can_be_fined_and_shut_down(world: World) -> None:
    number, sold = an_agent(world.on_record, numbers=2)
    fraud = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    await fraud.paid("30000", "b-1")
    await fraud.ended()

    shut_down = await _shut_down(world, sold)

    [account] = world.rows(Account)
    assert (account.status, account.shut_down_by) == (AccountStatus.SHUT_DOWN, shut_down)
    assert [(fine.kind, fine.offence) for fine in world.rows(Fine)] == [
        (Kind.FRAUD, 1),
        (Kind.SECONDARY_SALE, 1),
    ]
    assert {row.status for row in world.rows(Number)} == {NumberStatus.QUARANTINED}


async def test_dismissing_one_of_two_cases_stops_only_its_own_shutdown(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    dismissed, stands = [await world.open(a_report(number), on="2038-03-01") for number in (first, second)]
    for case in (dismissed, stands):
        await case.until("2038-03-05", "00:11")
    await dismissed.dismiss()
    await dismissed.ended()
    assert await stands.until("2038-03-12", "23:59") is Stage.PAYMENT
    assert world.rows(Account)[0].status is AccountStatus.OPEN
    await stands.until("2038-03-13", "00:11")
    [account] = world.rows(Account)
    assert account.shut_down_by == (await stands.ended()).case_no


# Numbers that were taken back


async def test_a_number_in_quarantine_is_not_reported_against_its_former_agent(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    await _shut_down(world, number)
    for kind in Kind:
        with pytest.raises(Refused, match="not in an agent's hands: quarantined until 2038-04-12"):
            await world.report(a_report(other, kind=kind))
    assert len(world.rows(Case)) == 1


async def test_a_closure_that_never_happened_is_not_believed(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    [stranger] = an_agent(world.on_record)
    case, second = await world.open(a_report(number)), await world.open(a_report(other))
    elsewhere = await _shut_down(world, stranger)

    for claimed in (elsewhere, await second.case_no(), "SS-2038-99999"):
        before = len(await case.told())
        await case.signal("account_closed", {"in_case": claimed})
        told = await case.once(lambda story: len(story.lines) > before)  # noqa: B023
        assert f"case {claimed} has not closed the account" in told.lines[-1].text
        assert (told.stage, told.awaiting) == (Stage.RECTIFICATION, (Awaiting.REFUSED_MESSAGE,))
