"""Rulebook 2, as stories with dates; the State Council's arrangement for 2038 is an assumed one."""

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text
from temporalio.client import WorkflowUpdateFailedError
from temporalio.common import WorkflowIDReusePolicy

from registry.models import Account, AuditLine, Case, Fine, Notice, Number, Payment, ReportRow
from rulebook.vocabulary import (
    AccountStatus,
    Awaiting,
    Business,
    FineStatus,
    NoticeKind,
    NumberStatus,
    Stage,
)
from starter.virtual_time import VirtualTime
from tests.world import CaseInTime, World, a_report, an_agent, shanghai, wording
from workflows.messages import CaseStart
from workflows.secondary_sale import SecondarySaleCase


def _days(year_and_month: str, *days: int) -> list[str]:
    return [f"{year_and_month}-{day:02}" for day in days]


# Assumed: Spring Festival off 5 to 11 February, National Day off 1 to 7 October, Mid-Autumn on 15 September.
ARRANGED = dict.fromkeys(
    _days("2038-02", 5, 6, 7, 8, 9, 10, 11) + _days("2038-09", 15) + _days("2038-10", 1, 2, 3, 4, 5, 6, 7),
    False,
) | dict.fromkeys(
    _days("2038-01", 31) + _days("2038-02", 4, 12, 14) + _days("2038-09", 26) + _days("2038-10", 8, 9), True
)


async def _fined(world: World, number: str) -> CaseInTime:
    """A case opened on Mon 1 March and never rectified: fined on Fri 5, payable until Fri 12 at 24:00."""
    case = await world.open(a_report(number), on="2038-03-01")
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT
    return case


# 2.1, 2.2: rectification


async def test_rectified_and_verified_in_time_ends_without_a_fine(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    assert await case.until("2038-03-03") is Stage.RECTIFICATION

    await case.rectified(statement="号码已恢复由登记客户使用")
    await case.verify(passed=True)

    ended = await case.ended()
    assert (ended.outcome, ended.balance.fine) == (Stage.RECTIFIED, Decimal(0))
    [on_record] = world.rows(Case)
    assert on_record.outcome is Stage.RECTIFIED
    assert world.rows(Fine) == []
    order, closing_letter = world.letters()
    assert "责令整改通知书" in order["Subject"]
    assert "不予罚款" in wording(closing_letter)


async def test_regular_business_has_three_working_days_to_rectify(world: World) -> None:
    world.arrange(ARRANGED)
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-01-29")

    # Friday; Saturday is off, Sunday 31 January is worked for Spring Festival.
    assert await case.last_day() == "2038-02-02"
    assert (await case.attributes())["Deadline"] == shanghai("2038-02-02", "24:00")
    [order] = world.letters()
    assert "3 个工作日，至 2038年2月2日 24:00 止" in wording(order)


async def test_irregular_business_has_one_working_day_to_rectify(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, Business.IRREGULAR), on="2038-03-01")
    [order] = world.letters()
    assert "请立即整改" in wording(order)
    assert await case.until("2038-03-02", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-03-03", "00:11") is Stage.PAYMENT


async def test_nobody_is_fined_before_24_00_of_the_third_working_day(world: World) -> None:
    world.arrange(ARRANGED)
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-02-03")
    # Thu 4 is the first; 5 to 11 are off; Fri 12 is the second; Sun 14 is worked and the third.
    assert await case.last_day() == "2038-02-14"

    assert await case.until("2038-02-14", "23:59") is Stage.RECTIFICATION
    assert world.rows(Fine) == []

    assert await case.until("2038-02-15", "00:11") is Stage.PAYMENT
    [fine] = world.rows(Fine)
    midnight = shanghai("2038-02-14", "24:00")
    assert midnight <= fine.set_at < midnight + timedelta(minutes=11)
    assert (fine.offence, fine.amount, fine.status) == (1, Decimal(1000), FineStatus.DUE)
    assert "罚款人民币 1,000.00 元（大写：壹仟元整）" in wording(world.letters()[-1])


async def test_rectification_reported_on_the_last_evening_holds_the_fine_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-04", "23:30")
    await case.rectified()

    assert await case.until("2038-03-09") is Stage.RECTIFICATION
    assert (await case.attributes())["Awaiting"] == [Awaiting.VERIFICATION]
    await case.verify(passed=True)

    assert (await case.ended()).outcome is Stage.RECTIFIED
    assert world.rows(Fine) == []


async def test_after_a_failed_verification_in_time_the_agent_can_rectify_again(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.rectified()
    await case.verify(passed=False, reason="实际用户仍在使用")
    assert await case.until("2038-03-04", "23:59") is Stage.RECTIFICATION
    await case.rectified()
    await case.until("2038-03-08")
    await case.verify(passed=True)
    assert (await case.ended()).outcome is Stage.RECTIFIED


async def test_a_failed_verification_does_not_bring_the_fine_forward(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.rectified()
    await case.verify(passed=False)
    assert await case.until("2038-03-04", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT


async def test_a_verification_that_fails_after_the_deadline_fines_at_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.rectified()
    assert await case.until("2038-03-09", "15:00") is Stage.RECTIFICATION

    await case.verify(passed=False)

    await case.once(lambda story: story.stage is Stage.PAYMENT)
    [fine] = world.rows(Fine)
    assert shanghai("2038-03-09", "14:59") <= fine.set_at < shanghai("2038-03-09", "15:05")


# 2.3: the fine


async def test_a_second_and_a_third_offence_cost_more(world: World) -> None:
    numbers = an_agent(world.on_record, numbers=3)
    for number in numbers:
        case = await _fined(world, number)
        assert (await case.attributes())["Offence"] == numbers.index(number) + 1
    assert [(fine.offence, fine.amount) for fine in world.rows(Fine)] == [
        (1, Decimal(1000)),
        (2, Decimal(2000)),
        (3, Decimal(3000)),
    ]


async def test_another_agents_offences_do_not_count(world: World) -> None:
    [one], [other] = an_agent(world.on_record), an_agent(world.on_record)
    await _fined(world, one)
    await _fined(world, other)
    assert [fine.offence for fine in world.rows(Fine)] == [1, 1]


async def test_a_dismissed_case_does_not_count_as_an_offence(world: World) -> None:
    dismissed, stands = an_agent(world.on_record, numbers=2)
    case = await _fined(world, dismissed)
    await case.dismiss()
    await case.ended()

    case = await _fined(world, stands)

    assert (await case.story()).offence == 1
    assert (await case.attributes())["FineYuan"] == 1000


async def test_a_rectified_case_does_not_count_as_an_offence(world: World) -> None:
    rectified, stands = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(rectified), on="2038-02-22")
    await case.rectified()
    await case.verify(passed=True)
    await case.ended()
    assert (await (await _fined(world, stands)).story()).offence == 1


# 2.4, 6: payment


async def test_paid_in_one_sum_in_time_settles_the_case(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    assert await case.until("2038-03-12", "23:30") is Stage.PAYMENT

    await case.paid("1000.00", "工行-20380312-001")

    ended = await case.ended()
    assert (ended.outcome, ended.balance.due) == (Stage.SETTLED, Decimal(0))
    [fine], [account] = world.rows(Fine), world.rows(Account)
    assert (fine.status, account.status) == (FineStatus.SETTLED, AccountStatus.OPEN)
    assert "已缴清" in wording(world.letters()[-1])


async def test_a_fine_may_be_paid_in_parts(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    assert "¥599.90 still due" in await case.paid("400.10", "b-1")
    assert await case.stage() is Stage.PAYMENT
    await case.signal("payment_received", {"reference": "b-2", "amount": "599.90"})
    assert (await case.ended()).outcome is Stage.SETTLED
    assert [payment.amount for payment in world.rows(Payment)] == [Decimal("400.10"), Decimal("599.90")]


async def test_the_same_bank_reference_counts_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.paid("600", "b-1")
    assert "counted already" in await case.paid("600", "b-1")
    story = await case.story()
    assert (story.stage, story.balance.due) == (Stage.PAYMENT, Decimal(400))
    assert len(world.rows(Payment)) == 1


async def test_a_bank_reference_with_another_amount_is_refused(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.paid("600", "b-1")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await case.paid("400", "b-1")
    assert "b-1 was counted already, with ¥600.00" in str(refused.value.cause)
    assert (await case.story()).balance.paid == Decimal(600)


async def test_what_is_paid_above_the_fine_is_owed_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    assert "¥234.50 owed back" in await case.paid("1234.50", "b-1")
    assert (await case.ended()).balance.owed_back == Decimal("234.50")
    assert "应退还贵司人民币 234.50 元（大写：贰佰叁拾肆元伍角）" in wording(world.letters()[-1])


async def test_a_payment_before_the_fine_counts(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.paid("300", "b-1")
    await case.until("2038-03-05", "00:11")
    assert "已收到 300.00 元，尚应缴纳 700.00 元（大写：柒佰元整）" in wording(world.letters()[-1])
    await case.paid("700", "b-2")
    assert (await case.ended()).outcome is Stage.SETTLED


async def test_a_fine_that_was_paid_in_advance_is_settled_at_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.paid("1000", "b-1")
    await case.until("2038-03-05", "00:11")
    assert (await case.ended()).outcome is Stage.SETTLED
    assert world.rows(Fine)[0].status is FineStatus.SETTLED


async def test_what_was_paid_is_owed_back_when_the_case_ends_rectified(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.paid("300", "b-1")
    await case.rectified()
    await case.verify(passed=True)
    assert (await case.ended()).balance.owed_back == Decimal(300)
    assert "应退还贵司人民币 300.00 元（大写：叁佰元整）" in wording(world.letters()[-1])


async def test_national_day_and_its_make_up_weekends_count_for_payment(world: World) -> None:
    world.arrange(ARRANGED)
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-09-23")
    # Fri 24, Sun 26 (worked), Mon 27.
    assert await case.last_day() == "2038-09-27"
    await case.until("2038-09-28", "00:11")
    # Wed 29, Thu 30, Fri 8 October, Sat 9 (worked), Mon 11.
    assert await case.last_day() == "2038-10-11"

    assert await case.until("2038-10-11", "23:59") is Stage.PAYMENT
    await case.paid("1000", "b-1")

    assert (await case.ended()).outcome is Stage.SETTLED
    assert (await case.attributes()).get("Deadline") is None


# 2.5, 5.3: shutdown


async def test_not_paid_in_time_shuts_the_account_down_and_takes_all_numbers_back(world: World) -> None:
    number, *others = an_agent(world.on_record, numbers=3)
    [bystander] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.paid("400", "b-1")
    assert await case.until("2038-03-12", "23:59") is Stage.PAYMENT
    assert {row.status for row in world.rows(Account)} == {AccountStatus.OPEN}

    await case.until("2038-03-13", "00:11")

    ended = await case.ended()
    assert (ended.outcome, ended.balance.due) == (Stage.SHUT_DOWN, Decimal(600))
    account, other_account = world.rows(Account)
    assert (account.status, account.shut_down_by) == (AccountStatus.SHUT_DOWN, ended.case_no)
    assert other_account.status is AccountStatus.OPEN
    taken = {row.number: row for row in world.rows(Number) if row.status is NumberStatus.QUARANTINED}
    assert taken.keys() == {number, *others}
    assert {row.quarantined_until for row in taken.values()} == {date(2038, 3, 13) + timedelta(days=30)}
    assert {row.reclaimed_by for row in taken.values()} == {ended.case_no}
    assert bystander not in taken
    [fine] = world.rows(Fine)
    assert (fine.amount, fine.status) == (Decimal(1000), FineStatus.DUE)


async def test_a_shutdown_is_told_to_the_agent_and_to_the_officers(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.until("2038-03-13", "00:11")
    ended = await case.ended()
    last = world.letters()[-1]
    assert "账户关停及号码收回通知书" in last["Subject"]
    assert "尚欠 1,000.00 元（大写：壹仟元整），仍应缴纳" in wording(last)
    listed = await world.found(f"Number = '{number}' AND Stage = 'shut-down' AND FineYuan = 1000")
    assert listed == [case.id]
    assert (await case.attributes())["CaseNo"] == ended.case_no


async def test_two_cases_shut_one_account_down_once_and_both_know(world: World) -> None:
    numbers = an_agent(world.on_record, numbers=3)
    one, other = [await world.open(a_report(number), on="2038-03-01") for number in numbers[:2]]
    await asyncio.gather(one.until("2038-03-05", "00:11"), other.until("2038-03-05", "00:11"))
    assert [fine.offence for fine in world.rows(Fine)] == [1, 2]

    await asyncio.gather(one.until("2038-03-13", "00:11"), other.until("2038-03-13", "00:11"))

    [account] = world.rows(Account)
    first, second = sorted((one, other), key=lambda case: _shut_down_by(world, case) != account.shut_down_by)
    assert (await first.ended()).outcome is Stage.SHUT_DOWN
    assert not any("already" in line for line in await first.told())
    # It finds the account shut down, or has heard of it just before (7.2).
    assert (await second.ended()).outcome in (Stage.SHUT_DOWN, Stage.OVERTAKEN)
    assert any(str(account.shut_down_by) in line for line in await second.told())
    assert all(row.status is NumberStatus.QUARANTINED for row in world.rows(Number))


def _shut_down_by(world: World, case: CaseInTime) -> str:
    return next(row.case_no for row in world.rows(Case) if row.workflow_id == case.id)


# 5.2: dismissal


async def test_dismissed_while_it_waits_for_rectification(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.dismiss(reason="号码登记有误")
    assert (await case.ended()).outcome is Stage.DISMISSED
    assert world.rows(Fine) == []
    [on_record] = world.rows(Case)
    assert on_record.outcome is Stage.DISMISSED
    assert "号码登记有误" in wording(world.letters()[-1])


async def test_dismissed_while_it_awaits_verification(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.rectified()
    await case.until("2038-03-08")
    await case.dismiss()
    assert (await case.ended()).outcome is Stage.DISMISSED
    assert "Awaiting" not in await case.attributes()


async def test_dismissed_while_the_fine_is_being_set(world: World, engine: Engine) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    with engine.begin() as registry:
        registry.execute(text("alter table fines add constraint outage check (false) not valid"))
    moved = asyncio.create_task(case.until("2038-03-05", "00:11"))
    await case.once(lambda story: story.stage is Stage.PUNISHMENT)
    dismissed = asyncio.create_task(case.dismiss())

    with engine.begin() as registry:
        registry.execute(text("alter table fines drop constraint outage"))
    await asyncio.gather(moved, dismissed)

    assert (await case.ended()).outcome is Stage.DISMISSED
    assert [fine.status for fine in world.rows(Fine)] == [FineStatus.VOID]
    assert NoticeKind.PUNISHMENT not in {notice.kind for notice in world.rows(Notice)}


async def test_dismissed_while_it_waits_for_payment_voids_the_fine(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.paid("400", "b-1")

    await case.dismiss(officer="张伟")

    ended = await case.ended()
    assert (ended.outcome, ended.balance.fine) == (Stage.DISMISSED, Decimal(0))
    assert ended.balance.owed_back == Decimal(400)
    assert [fine.status for fine in world.rows(Fine)] == [FineStatus.VOID]
    assert "应退还贵司人民币 400.00 元（大写：肆佰元整）" in wording(world.letters()[-1])
    voided = next(line for line in world.rows(AuditLine) if line.step == "fine-void")
    assert (voided.actor, voided.text) == ("张伟", "Fine voided; ¥400.00 to be refunded")


async def test_nobody_dismisses_while_the_account_is_being_shut_down(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    with world.undeliverable():
        await case.until("2038-03-13", "00:11")
        assert (await case.once(lambda story: bool(story.awaiting))).stage is Stage.SHUTDOWN
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await case.dismiss()
    assert "too late to dismiss" in str(refused.value.cause)
    await case.until("2038-03-13", "00:20")
    assert (await case.ended()).outcome is Stage.SHUT_DOWN


# 4.2 to 4.4: deadlines that move


async def test_an_officer_extends_the_limit_to_rectify(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.extend(2)
    assert await case.last_day() == "2038-03-08"
    assert await case.until("2038-03-08", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-03-09", "00:11") is Stage.PAYMENT


async def test_an_officer_extends_the_limit_to_pay(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.until("2038-03-12")
    await case.extend(1, officer="张伟")
    assert (await case.attributes())["Deadline"] == shanghai("2038-03-15", "24:00")
    assert await case.until("2038-03-15", "23:59") is Stage.PAYMENT
    assert await case.until("2038-03-16", "00:11") is Stage.SHUT_DOWN
    extended = next(line for line in world.rows(AuditLine) if line.step.startswith("extend-"))
    assert extended.actor == "张伟"


async def test_a_closing_day_that_comes_up_while_a_case_waits_moves_the_deadline_later(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    world.arrange({"2038-03-04": False}, closing=True)

    assert await case.until("2038-03-05", "23:59") is Stage.RECTIFICATION
    assert world.rows(Fine) == []
    assert await case.last_day() == "2038-03-05"
    assert await case.until("2038-03-06", "00:11") is Stage.PAYMENT
    assert world.rows(Notice)[0].last_day == date(2038, 3, 5)


async def test_a_promised_deadline_never_moves_earlier(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-05")
    assert await case.last_day() == "2038-03-10"
    world.arrange({"2038-03-06": True, "2038-03-07": True})
    assert await case.until("2038-03-10", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-03-11", "00:11") is Stage.PAYMENT
    assert world.rows(Notice)[0].last_day == date(2038, 3, 10)


async def test_a_provisional_deadline_becomes_firm_once_the_year_is_arranged(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    assert [notice.provisional for notice in world.rows(Notice)] == [True]
    assert "暂定期限" in wording(world.letters()[0])
    world.arrange(ARRANGED)

    await case.until("2038-03-05", "00:11")

    assert [notice.provisional for notice in world.rows(Notice)] == [False, False]
    assert "暂定期限" not in wording(world.letters()[1])


async def test_an_arrangement_published_while_a_case_waits_moves_a_provisional_deadline(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-02-03")
    promised = await case.last_day()
    assert promised is not None
    assert promised < "2038-02-14"
    world.arrange(ARRANGED | {"2038-02-12": False, "2038-02-13": False, "2038-02-15": True})

    assert await case.until("2038-02-15", "23:59") is Stage.RECTIFICATION
    assert await case.until("2038-02-16", "00:11") is Stage.PAYMENT


# 4.6: service of the notice


async def test_a_notice_that_cannot_be_delivered_starts_no_clock(world: World) -> None:
    [number] = an_agent(world.on_record)
    with world.undeliverable():
        case = await world.open(a_report(number), on="2038-03-01", at="23:50")
        story = await case.once(lambda story: bool(story.awaiting))
    assert (story.stage, story.awaiting) == (Stage.RECTIFICATION, (Awaiting.DELIVERY,))
    assert story.deadline is None
    assert await world.found(f"Awaiting = 'delivery' AND Number = '{number}'") == [case.id]


async def test_the_clock_counts_from_the_day_on_which_the_notice_was_served(world: World) -> None:
    [number] = an_agent(world.on_record)
    with world.undeliverable():
        case = await world.open(a_report(number), on="2038-03-01", at="23:59")
        await case.once(lambda story: bool(story.awaiting))
        await case.until("2038-03-02", "00:00:20")

    await case.until("2038-03-02", "00:05")

    story = await case.once(lambda story: not story.awaiting)
    assert await case.last_day() == "2038-03-05"
    [notice] = world.rows(Notice)
    assert notice.served_at is not None
    assert notice.served_at >= shanghai("2038-03-02", "00:00")
    assert [shown.served_at for shown in story.notices] == [notice.served_at]
    [letter] = world.letters()
    assert "日期：2038年3月2日" in wording(letter)
    assert "至 2038年3月5日 24:00 止" in wording(letter)


async def test_a_case_whose_notice_cannot_be_delivered_can_be_dismissed(world: World) -> None:
    [number] = an_agent(world.on_record)
    with world.undeliverable():
        case = await world.open(a_report(number), on="2038-03-01")
        await case.once(lambda story: bool(story.awaiting))
        await case.dismiss()
        assert [row.outcome for row in world.rows(Case)] == [Stage.DISMISSED]
    await case.until("2038-03-01", "11:00")
    assert (await case.ended()).outcome is Stage.DISMISSED
    [letter] = world.letters()
    assert "案件撤销通知书" in letter["Subject"]


# Reports: joining, repeating


async def test_a_further_report_joins_the_open_case_as_evidence(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await world.report(a_report(number, facts="客户投诉号码被他人使用"))
    await case.until("2038-03-05", "00:11")
    assert {row.case_no for row in world.rows(ReportRow)} == {(await case.story()).case_no}
    assert len(world.rows(Case)) == 1
    assert "2. 客户投诉号码被他人使用" in wording(world.letters()[-1])


async def test_a_report_after_the_case_has_closed_opens_the_repeat_offence(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fined(world, number)
    await case.paid("1000", "b-1")
    first = await case.ended()

    # A new run starts at the time of the server, not where its predecessor stood.
    later_on = replace(world, time=VirtualTime(world.client))
    again = await later_on.open(a_report(number), on="2038-04-12")

    assert again.id == case.id
    assert (await again.story()).case_no != first.case_no
    assert await again.until("2038-04-16", "00:11") is Stage.PAYMENT
    assert [(fine.offence, fine.amount) for fine in world.rows(Fine)] == [
        (1, Decimal(1000)),
        (2, Decimal(2000)),
    ]
    assert len({row.run_id for row in world.rows(Case)}) == 2


async def test_a_report_that_was_handled_opens_nothing(world: World) -> None:
    [number] = an_agent(world.on_record)
    report = a_report(number)
    case = await world.open(report)
    await case.rectified()
    await case.verify(passed=True)
    await case.ended()
    only_run = (await case.handle.describe()).run_id

    await world.report(report)

    assert (await case.handle.describe()).run_id == only_run
    assert len(world.rows(Case)) == 1


async def test_a_report_that_was_handled_and_is_sent_by_hand_opens_nothing(world: World) -> None:
    [number] = an_agent(world.on_record)
    report = a_report(number)
    case = await world.open(report)
    await case.rectified()
    await case.verify(passed=True)
    first = await case.ended()

    await world.client.start_workflow(
        SecondarySaleCase.run,
        CaseStart(),
        id=case.id,
        task_queue=world.task_queue,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        start_signal="report_received",
        start_signal_args=[report],
    )

    ended = await case.ended()
    assert (ended.outcome, ended.case_no) == (Stage.ALREADY_HANDLED, first.case_no)
    assert len(world.rows(Case)) == 1
