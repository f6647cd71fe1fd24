"""Rulebook 3, service failure, as stories with dates."""

from datetime import date
from decimal import Decimal

import pytest
from temporalio.client import WorkflowUpdateFailedError

from registry.models import Account, AuditLine, Fine, Notice, Number
from rulebook.vocabulary import (
    AccountStatus,
    Awaiting,
    Holder,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
    written,
)
from starter.settings import Refused
from tests.workflows.test_secondary_sale import ARRANGED
from tests.world import CaseInTime, World, a_report, an_agent, shanghai, wording


async def _complaint(world: World, number: str, on: str = "2038-03-01") -> CaseInTime:
    """A complaint; one of Mon 1 March has to be served until Thu 4 at 24:00."""
    complaint = a_report(number, kind=Kind.SERVICE_FAILURE, source="客服热线", facts="来电转接故障一周未修复")
    return await world.open(complaint, on=on)


def _numbers(world: World) -> dict[str, tuple[NumberStatus, Holder]]:
    return {row.number: (row.status, row.holder) for row in world.rows(Number)}


# 3.1: the complaint is put to the agent


async def test_the_agent_has_three_working_days_to_serve_the_customer(world: World) -> None:
    world.arrange(ARRANGED)
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number, on="2038-02-03")
    # Thu 4 is the first; 5 to 11 are off; Fri 12 is the second; Sun 14 is worked and the third.
    assert (await case.attributes())["Deadline"] == shanghai("2038-02-14", "24:00")
    [letter] = world.letters()
    told = wording(letter)
    assert "限期服务通知书" in letter["Subject"]
    assert "来电转接故障一周未修复（来源：客服热线" in told
    assert "3 个工作日，至 2038年2月14日 24:00 止" in told

    assert await case.until("2038-02-14", "23:59") is Stage.RECTIFICATION
    assert _numbers(world) == {number: (NumberStatus.ACTIVE, Holder.AGENT)}

    assert await case.until("2038-02-15", "00:11") is Stage.TAKEN_BACK


# 3.2: served, and confirmed


async def test_served_and_verified_ends_the_case(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.until("2038-03-03")
    await case.rectified(statement="转接故障已修复")
    assert (await case.attributes())["Awaiting"] == [Awaiting.VERIFICATION]

    await case.verify(passed=True)

    ended = await case.ended()
    assert (ended.outcome, ended.balance.fine) == (Stage.RECTIFIED, Decimal(0))
    assert _numbers(world) == {number: (NumberStatus.ACTIVE, Holder.AGENT)}
    told = wording(world.letters()[-1])
    assert "贵司已为客户提供服务，不予罚款（规定第3.2条）" in told


async def test_served_on_the_last_evening_and_verified_late_ends_the_case(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.until("2038-03-04", "23:30")
    await case.rectified()
    assert await case.until("2038-03-10") is Stage.RECTIFICATION
    await case.verify(passed=True)
    assert (await case.ended()).outcome is Stage.RECTIFIED
    assert _numbers(world) == {number: (NumberStatus.ACTIVE, Holder.AGENT)}


async def test_the_customers_word_ends_the_case_though_the_agent_has_reported_nothing(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.until("2038-03-04", "23:30")
    await case.signal("customer_confirmed", {"by": "李女士", "statement": "今天已修好"})
    assert (await case.ended()).outcome is Stage.RECTIFIED
    confirmed = next(line for line in world.rows(AuditLine) if "confirms" in line.text)
    assert (confirmed.actor, confirmed.text) == ("李女士", "Served, the customer confirms: 今天已修好")


async def test_the_customers_word_takes_the_verification_off_the_officer(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.rectified()
    await case.until("2038-03-08")
    await case.signal("customer_confirmed", {})
    assert (await case.ended()).outcome is Stage.RECTIFIED
    assert "Awaiting" not in await case.attributes()


async def test_only_a_complaint_is_confirmed_by_the_customer(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.signal("customer_confirmed", {})
    story = await case.once(lambda told: Awaiting.REFUSED_MESSAGE in told.awaiting)
    assert "Signal customer_confirmed refused" in story.lines[-1].text
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT


# 3.3: still no service


async def test_not_served_takes_only_that_number_into_direct_service(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await _complaint(world, number)
    assert await case.until("2038-03-04", "23:59") is Stage.RECTIFICATION

    assert await case.until("2038-03-05", "00:11") is Stage.TAKEN_BACK

    ended = await case.ended()
    assert _numbers(world) == {
        number: (NumberStatus.ACTIVE, Holder.PLATFORM),
        other: (NumberStatus.ACTIVE, Holder.AGENT),
    }
    taken = next(row for row in world.rows(Number) if row.number == number)
    assert (taken.reclaimed_by, taken.renewal_due) == (ended.case_no, date(2038, 12, 1))
    taken_back = next(line for line in world.rows(AuditLine) if line.step == "take-back")
    assert "into direct service, next renewal 2038-12-01" in taken_back.text
    assert world.rows(Account)[0].status is AccountStatus.OPEN
    assert world.rows(Fine) == []


async def test_agent_and_customer_are_told_of_the_direct_service(world: World) -> None:
    [number] = an_agent(world.on_record, name="甲通信有限公司", email="agent@agent.example")
    case = await _complaint(world, number)
    await case.until("2038-03-05", "00:11")
    await case.ended()
    _, to_agent, to_customer = world.letters()
    assert (to_agent["To"], to_customer["To"]) == ("agent@agent.example", f"office@{number}.example")
    assert "号码收回通知书" in to_agent["Subject"]
    assert f"收回号码 {written(number)}。本案仅收回该号码" in wording(to_agent)
    assert "服务变更告知书" in to_customer["Subject"]
    told = wording(to_customer)
    assert f"致：乙{number}商贸有限公司" in told
    assert "自 2038年3月5日 起，由平台直接为贵司提供服务" in told
    assert "下次续费日：2038年12月1日" in told
    assert "如何申诉" not in told


async def test_a_verification_that_fails_in_time_leaves_time_to_serve(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.rectified()
    await case.verify(passed=False, reason="客户称仍未修复")
    assert await case.until("2038-03-04", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-03-05", "00:11") is Stage.TAKEN_BACK


async def test_a_verification_that_fails_after_the_deadline_takes_the_number_back_at_once(
    world: World,
) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.rectified()
    assert await case.until("2038-03-09", "15:00") is Stage.RECTIFICATION

    await case.verify(passed=False)

    assert (await case.ended()).outcome is Stage.TAKEN_BACK
    taken_back = next(line for line in world.rows(AuditLine) if line.step == "take-back")
    assert shanghai("2038-03-09", "14:59") <= taken_back.at < shanghai("2038-03-09", "15:05")


async def test_nobody_stops_a_take_back_that_has_begun(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    with world.undeliverable():
        await case.until("2038-03-05", "00:11")
        story = await case.once(lambda told: Awaiting.DELIVERY in told.awaiting)
        assert (story.stage, story.awaiting) == (Stage.TAKE_BACK, (Awaiting.DELIVERY,))
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await case.dismiss()
        assert "too late to dismiss" in str(refused.value.cause)
        await case.signal("customer_confirmed", {})
        story = await case.once(lambda told: Awaiting.REFUSED_MESSAGE in told.awaiting)
        assert "too late to rectify: the case is in stage take-back" in story.lines[-1].text
    await case.until("2038-03-05", "00:30")
    assert (await case.ended()).outcome is Stage.TAKEN_BACK
    served = {notice.kind for notice in world.rows(Notice) if notice.served_at}
    assert served == {NoticeKind.SERVICE_ORDER, NoticeKind.TAKE_BACK, NoticeKind.TAKE_BACK_CUSTOMER}


async def test_a_dismissed_complaint_takes_nothing_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.dismiss(reason="客户投诉了另一号码")
    assert (await case.ended()).outcome is Stage.DISMISSED
    assert _numbers(world) == {number: (NumberStatus.ACTIVE, Holder.AGENT)}
    assert {letter["To"] for letter in world.letters()} == {world.rows(Notice)[0].recipient}


async def test_a_number_in_direct_service_is_not_reported_against_its_agent(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _complaint(world, number)
    await case.until("2038-03-05", "00:11")
    await case.ended()
    for kind in Kind:
        with pytest.raises(Refused, match="not in an agent's hands"):
            await world.report(a_report(number, kind=kind))


# A number that a case of fraud has frozen


async def test_a_frozen_number_stays_frozen_when_it_is_taken_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    fraud = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-02")
    case = await _complaint(world, number)

    assert await case.until("2038-03-05", "00:11") is Stage.TAKEN_BACK

    [row] = world.rows(Number)
    assert (row.status, row.holder, row.frozen_by) == (
        NumberStatus.FROZEN,
        Holder.PLATFORM,
        await fraud.case_no(),
    )
    assert await fraud.stage() is Stage.PAYMENT
    await fraud.paid("30000", "b-1")
    settled = await fraud.ended()
    await world.act(settled.case_no, "unfreeze", on="2038-03-08")
    assert _numbers(world) == {number: (NumberStatus.ACTIVE, Holder.PLATFORM)}


async def test_a_frozen_number_that_was_taken_back_survives_the_shutdown_for_the_fraud(world: World) -> None:
    [number] = an_agent(world.on_record)
    fraud = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-02")
    case = await _complaint(world, number)
    await case.until("2038-03-05", "00:11")
    await case.ended()

    await fraud.until("2038-03-10", "00:11")

    assert (await fraud.ended()).outcome is Stage.SHUT_DOWN
    assert _numbers(world) == {number: (NumberStatus.FROZEN, Holder.PLATFORM)}


async def test_a_suspended_agent_still_has_to_serve_its_customers(world: World) -> None:
    suspended_for, number = an_agent(world.on_record, numbers=2)
    await world.open(a_report(suspended_for, kind=Kind.FRAUD), on="2038-03-01")
    case = await _complaint(world, number)
    assert await case.until("2038-03-05", "00:11") is Stage.TAKEN_BACK
