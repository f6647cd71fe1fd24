"""Rulebook 1.1 to 1.5, as stories with dates."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from temporalio.client import WorkflowFailureError

from registry.models import Account, AuditLine, Case, Fine, Notice, Number
from rulebook.vocabulary import (
    AccountStatus,
    Awaiting,
    Business,
    FineStatus,
    Holder,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
)
from starter.virtual_time import VirtualTime
from tests.workflows.test_secondary_sale import ARRANGED
from tests.world import CaseInTime, World, a_report, an_agent, shanghai, wording


async def _fraud(world: World, number: str, on: str = "2038-03-01") -> CaseInTime:
    """A case of fraud; one opened on Mon 1 March is payable until Mon 8 at 24:00."""
    return await world.open(a_report(number, kind=Kind.FRAUD), on=on)


async def _paid(world: World, number: str) -> str:
    """A case of fraud of which the fine was paid in time; its case number."""
    case = await _fraud(world, number)
    await case.paid("30000", f"b-{number}")
    return (await case.ended()).case_no


async def _again(world: World, number: str, on: str = "2038-04-12") -> CaseInTime:
    """A further report of fraud on a number, after its case has ended."""
    # A new run starts at the time of the server, not where its predecessor stood.
    return await _fraud(replace(world, time=VirtualTime(world.client)), number, on)


def _numbers(world: World) -> dict[str, tuple[NumberStatus, str | None]]:
    return {row.number: (row.status, row.frozen_by) for row in world.rows(Number)}


# 1.1 to 1.3: at once


async def test_a_fraud_freezes_the_number_suspends_the_account_and_fines_30000(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    an_agent(world.on_record)
    case = await _fraud(world, number)
    case_no = await case.case_no()
    account, bystander = world.rows(Account)
    assert (account.status, account.suspended_by) == (AccountStatus.SUSPENDED, case_no)
    assert bystander.status is AccountStatus.OPEN
    assert _numbers(world)[number] == (NumberStatus.FROZEN, case_no)
    assert _numbers(world)[other] == (NumberStatus.ACTIVE, None)
    [fine] = world.rows(Fine)
    assert (fine.amount, fine.status) == (Decimal(30000), FineStatus.DUE)
    shown = await case.attributes()
    assert (shown["Stage"], shown["FineYuan"]) == (Stage.PAYMENT, 30000)
    assert shown["Deadline"] == shanghai("2038-03-08", "24:00")


async def test_the_agent_is_told_of_freeze_suspension_and_fine_in_one_letter(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _fraud(world, number)
    [letter] = world.letters()
    told = wording(letter)
    assert "处罚通知书" in letter["Subject"]
    assert f"冻结涉案号码 {number[:3]}-{number[3:6]}-{number[6:]}，立即生效" in told
    assert "暂停贵司账户" in told
    assert "罚款人民币 30,000.00 元（大写：叁万元整）" in told
    assert "5 个工作日，至 2038年3月8日 24:00 止" in told


async def test_the_fine_is_30000_for_each_number_however_often_and_whatever_the_business(
    world: World,
) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    await _fraud(world, first)
    await world.open(a_report(second, Business.IRREGULAR, kind=Kind.FRAUD), on="2038-03-01")
    assert [(fine.offence, fine.amount) for fine in world.rows(Fine)] == [
        (1, Decimal(30000)),
        (2, Decimal(30000)),
    ]
    assert {status for status, _ in _numbers(world).values()} == {NumberStatus.FROZEN}


async def test_fraud_and_secondary_sale_of_one_number_are_two_violations(world: World) -> None:
    [number] = an_agent(world.on_record)
    sale = await world.open(a_report(number), on="2038-03-01")
    await _fraud(world, number)
    assert await sale.until("2038-03-05", "00:11") is Stage.PAYMENT
    assert {(fine.kind, fine.offence, fine.amount) for fine in world.rows(Fine)} == {
        (Kind.FRAUD, 1, Decimal(30000)),
        (Kind.SECONDARY_SALE, 1, Decimal(1000)),
    }


# 1.4: paid in time


async def test_paid_in_time_settles_the_case_but_lifts_nothing(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await _fraud(world, number)
    await case.paid("10000", "b-1")
    assert await case.until("2038-03-08", "23:30") is Stage.PAYMENT

    await case.paid("20000", "b-2")

    ended = await case.ended()
    assert (ended.outcome, ended.balance.due) == (Stage.SETTLED, Decimal(0))
    assert world.rows(Account)[0].status is AccountStatus.SUSPENDED
    assert _numbers(world) == {
        number: (NumberStatus.FROZEN, ended.case_no),
        other: (NumberStatus.ACTIVE, None),
    }
    told = wording(world.letters()[-1])
    assert "罚款人民币 30,000.00 元（大写：叁万元整）已缴清（规定第1.4条、第6.2条）" in told
    assert "涉案号码继续冻结" in told


async def test_a_number_that_an_ended_case_froze_is_frozen_still_when_it_is_reported_again(
    world: World,
) -> None:
    [number] = an_agent(world.on_record)
    first = await _paid(world, number)

    again = await _again(world, number)

    assert await again.case_no() != first
    assert _numbers(world)[number][0] is NumberStatus.FROZEN
    assert [(fine.offence, fine.amount) for fine in world.rows(Fine)] == [
        (1, Decimal(30000)),
        (2, Decimal(30000)),
    ]


async def test_nobody_unfreezes_a_number_while_a_new_case_of_fraud_is_open_about_it(world: World) -> None:
    [number] = an_agent(world.on_record)
    first = await _paid(world, number)
    await _again(world, number)
    with pytest.raises(WorkflowFailureError):
        await world.act(first, "unfreeze", on="2038-04-13")
    assert _numbers(world)[number][0] is NumberStatus.FROZEN


# 1.5: not paid in time


async def test_nobody_is_shut_down_before_24_00_of_the_fifth_working_day(world: World) -> None:
    world.arrange(ARRANGED)
    number, other = an_agent(world.on_record, numbers=2)
    case = await _fraud(world, number, on="2038-02-03")
    # Thu 4 is the first; 5 to 11 are off; Fri 12, Sun 14 (worked), Mon 15, Tue 16.
    assert await case.last_day() == "2038-02-16"
    await case.paid("29999.99", "b-1")

    assert await case.until("2038-02-16", "23:59") is Stage.PAYMENT
    assert world.rows(Account)[0].status is AccountStatus.SUSPENDED

    assert await case.until("2038-02-17", "00:11") is Stage.SHUT_DOWN
    ended = await case.ended()
    [account] = world.rows(Account)
    assert (account.status, account.shut_down_by) == (AccountStatus.SHUT_DOWN, ended.case_no)
    midnight = shanghai("2038-02-16", "24:00")
    assert midnight <= account.since < midnight + timedelta(minutes=11)
    assert _numbers(world) == dict.fromkeys((number, other), (NumberStatus.QUARANTINED, None))
    assert {row.quarantined_until for row in world.rows(Number)} == {date(2038, 2, 17) + timedelta(days=30)}
    assert ended.balance.due == Decimal("0.01")


async def test_the_letter_of_the_shutdown_names_its_clause_its_numbers_and_the_debt(world: World) -> None:
    held = an_agent(world.on_record, numbers=2)
    case = await _fraud(world, held[0])
    await case.until("2038-03-09", "00:11")
    await case.ended()
    assert [notice.kind for notice in world.rows(Notice)] == [NoticeKind.PUNISHMENT, NoticeKind.SHUTDOWN]
    told = wording(world.letters()[-1])
    assert "第1.5条" in told
    assert all(f"{number[:3]}-{number[3:6]}-{number[6:]}" in told for number in held)
    assert "尚欠 30,000.00 元（大写：叁万元整）" in told


# 5.2: dismissed


async def test_a_dismissed_case_is_undone(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fraud(world, number)
    await case.paid("10000", "b-1")

    await case.dismiss(reason="号码被冒用", officer="张伟")

    ended = await case.ended()
    assert (ended.outcome, ended.balance.owed_back) == (Stage.DISMISSED, Decimal(10000))
    assert [fine.status for fine in world.rows(Fine)] == [FineStatus.VOID]
    assert _numbers(world)[number] == (NumberStatus.ACTIVE, None)
    [account] = world.rows(Account)
    assert (account.status, account.suspended_by) == (AccountStatus.OPEN, None)
    undone = {line.step: line.actor for line in world.rows(AuditLine)}
    steps = ("fine-void", "undo-account-suspend", "undo-freeze")
    assert {undone[step] for step in steps} == {"张伟"}
    told = wording(world.letters()[-1])
    assert "10,000.00" in told


async def test_a_dismissed_case_is_undone_newest_first(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fraud(world, number)
    await case.dismiss()
    await case.ended()
    undone = [line.step for line in world.rows(AuditLine)]
    steps = ["undo", "fine-void", "undo-account-suspend", "undo-freeze"]
    assert [step for step in undone if step in steps] == steps


async def test_a_case_whose_notice_cannot_be_delivered_has_frozen_and_can_be_dismissed(world: World) -> None:
    [number] = an_agent(world.on_record)
    with world.undeliverable():
        case = await _fraud(world, number)
        await case.once(lambda story: Awaiting.DELIVERY in story.awaiting)
        assert _numbers(world)[number][0] is NumberStatus.FROZEN
        await case.dismiss()
    await case.until("2038-03-01", "11:00")
    assert (await case.ended()).outcome is Stage.DISMISSED
    assert _numbers(world)[number][0] is NumberStatus.ACTIVE
    assert world.rows(Account)[0].status is AccountStatus.OPEN


async def test_another_open_case_of_fraud_keeps_the_account_suspended_until_it_is_dismissed_too(
    world: World,
) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    one, other = await _fraud(world, first), await _fraud(world, second)
    other_no = await other.case_no()

    await one.dismiss()

    await one.ended()
    assert world.rows(Account)[0].status is AccountStatus.SUSPENDED
    assert _numbers(world) == {
        first: (NumberStatus.ACTIVE, None),
        second: (NumberStatus.FROZEN, other_no),
    }
    assert any(f"stays suspended, by case {other_no}" in line for line in await one.told())

    await other.dismiss()

    await other.ended()
    assert world.rows(Account)[0].status is AccountStatus.OPEN


async def test_the_account_is_suspended_as_long_as_one_case_of_fraud_is_open(world: World) -> None:
    numbers = an_agent(world.on_record, numbers=3)
    *dismissed, last = [await _fraud(world, number) for number in numbers]
    for case in dismissed:
        await case.dismiss()
        await case.ended()
    assert world.rows(Account)[0].status is AccountStatus.SUSPENDED
    assert await last.stage() is Stage.PAYMENT


async def test_a_dismissed_case_does_not_reopen_the_account_that_a_standing_case_suspended(
    world: World,
) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    stands = await _paid(world, first)
    case = await _fraud(world, second)

    await case.dismiss()

    await case.ended()
    [account] = world.rows(Account)
    assert (account.status, account.suspended_by) == (AccountStatus.SUSPENDED, stands)


async def test_a_dismissed_case_does_not_unfreeze_the_number_that_a_standing_case_froze(
    world: World,
) -> None:
    [number] = an_agent(world.on_record)
    stands = await _paid(world, number)
    again = await _again(world, number)

    await again.dismiss()

    await again.ended()
    assert _numbers(world)[number] == (NumberStatus.FROZEN, stands)


async def test_an_account_that_another_case_suspended_first_is_reopened_when_both_are_undone(
    world: World,
) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    one, other = await _fraud(world, first), await _fraud(world, second)
    await other.dismiss()
    await other.ended()
    assert world.rows(Account)[0].status is AccountStatus.SUSPENDED
    await one.dismiss()
    await one.ended()
    assert world.rows(Account)[0].status is AccountStatus.OPEN
    assert {row.outcome for row in world.rows(Case)} == {Stage.DISMISSED}


# Numbers in direct service (3.3)


async def test_a_shutdown_leaves_the_numbers_that_the_platform_serves_directly_alone(world: World) -> None:
    served, number = an_agent(world.on_record, numbers=2)
    failure = await world.open(a_report(served, kind=Kind.SERVICE_FAILURE), on="2038-02-22")
    assert await failure.until("2038-02-26", "00:11") is Stage.TAKEN_BACK
    case = await _fraud(world, number)
    await case.until("2038-03-09", "00:11")
    await case.ended()
    assert {row.number: (row.status, row.holder) for row in world.rows(Number)} == {
        served: (NumberStatus.ACTIVE, Holder.PLATFORM),
        number: (NumberStatus.QUARANTINED, Holder.PLATFORM),
    }
