"""Rulebook 1.6, serious circumstances, as stories with dates."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError

from registry.models import Account, Agent, AuditLine, Case, Filing, Fine, Number
from rulebook.vocabulary import (
    AccountStatus,
    Awaiting,
    FilingKind,
    FilingStatus,
    FineStatus,
    Holder,
    Kind,
    NumberStatus,
    Stage,
)
from tests.world import CaseInTime, SeriousInTime, World, a_report, an_agent, shanghai, wording

SUBMITTED, ACKNOWLEDGED = FilingStatus.SUBMITTED, FilingStatus.ACKNOWLEDGED
REFUSED, WAIVED = FilingStatus.REFUSED, FilingStatus.WAIVED


async def _fraud(world: World, number: str, on: str = "2038-03-01") -> CaseInTime:
    """A case of fraud; one opened on Mon 1 March is payable until Mon 8 at 24:00."""
    return await world.open(a_report(number, kind=Kind.FRAUD), on=on)


async def _proposed(world: World, number: str) -> tuple[CaseInTime, SeriousInTime]:
    """An open case of fraud of Mon 1 March, found serious on Wed 3 by one officer."""
    case = await _fraud(world, number)
    return case, await world.propose(await case.case_no(), on="2038-03-03")


async def _filings(serious: SeriousInTime) -> dict[FilingKind, str]:
    """The numbers of the filings that are prepared."""
    story = await serious.once(lambda told: Awaiting.FILING in told.awaiting)
    return {filing.kind: filing.filing_no for filing in story.filings}


async def _refused(command: Any) -> str:
    """Why an officer's command is refused."""
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await command
    return str(refused.value.cause)


def _account(world: World) -> tuple[AccountStatus, str | None]:
    [account] = world.rows(Account)
    return account.status, account.closed_by


# One officer finds, another decides


async def test_nothing_happens_before_a_second_officer_has_approved(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    assert await case.until("2038-03-04") is Stage.PAYMENT
    assert await serious.stage() is Stage.APPROVAL
    assert _account(world) == (AccountStatus.SUSPENDED, None)
    assert world.rows(Agent)[0].disqualified_at is None
    assert world.rows(Filing) == []
    nothing_to_file = await _refused(serious.filing(f"{await case.case_no()}-F1", SUBMITTED))
    assert "no filings to move: the case is in stage approval" in nothing_to_file
    shown = await serious.attributes()
    assert (shown["Awaiting"], shown["Stage"]) == ([Awaiting.APPROVAL], Stage.APPROVAL)
    assert (shown["CaseNo"], shown["Number"]) == (await case.case_no(), number)
    assert await world.found(f"Awaiting = 'approval' AND Number = '{number}'") == [serious.id]


async def test_the_officer_who_proposed_does_not_decide(world: World) -> None:
    [number] = an_agent(world.on_record)
    _, serious = await _proposed(world, number)
    assert "another officer has to approve" in await _refused(serious.approve(officer="李敏"))
    assert "another officer has to decide" in await _refused(serious.reject(officer="李敏"))
    assert await serious.stage() is Stage.APPROVAL
    assert _account(world) == (AccountStatus.SUSPENDED, None)


async def test_of_two_officers_who_decide_at_once_one_decides(world: World) -> None:
    [number] = an_agent(world.on_record)
    _, serious = await _proposed(world, number)
    said = await asyncio.gather(
        serious.approve(officer="张伟"), serious.reject(officer="陈静"), return_exceptions=True
    )
    approved, rejected = (isinstance(one, str) for one in said)
    assert approved != rejected
    assert (_account(world)[0] is AccountStatus.CLOSED) == approved


async def test_what_is_approved_cannot_be_rejected_any_more(world: World) -> None:
    [number] = an_agent(world.on_record)
    _, serious = await _proposed(world, number)
    await serious.approve()
    await _filings(serious)
    assert "decided already" in await _refused(serious.reject())
    assert "decided already" in await _refused(serious.approve(officer="陈静"))


# Rejected


async def test_a_case_goes_on_to_its_payment_after_a_rejection(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    assert "the case goes on as before" in await serious.reject(reason="证据不足")
    assert await serious.outcome() is Stage.REJECTED
    assert "Awaiting" not in await serious.attributes()
    assert await case.last_day() == "2038-03-08"

    await case.until("2038-03-08")
    await case.paid("30000", "b-1")

    assert (await case.ended()).outcome is Stage.SETTLED
    assert _account(world) == (AccountStatus.SUSPENDED, None)
    rejected = next(line for line in world.rows(AuditLine) if line.step.endswith("-rejected"))
    assert (rejected.actor, rejected.text) == ("张伟", "Serious circumstances rejected: 证据不足")


async def test_a_case_that_is_not_paid_is_shut_down_while_the_finding_awaits_approval(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    assert await case.until("2038-03-09", "00:11") is Stage.SHUT_DOWN
    await serious.until("2038-03-10")
    await serious.reject()
    assert await serious.outcome() is Stage.REJECTED
    assert _account(world) == (AccountStatus.SHUT_DOWN, None)


async def test_a_finding_can_be_made_again_after_a_rejection(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    await serious.reject()
    await serious.outcome()

    again = await world.propose(await case.case_no(), on="2038-03-04", officer="陈静")

    assert await again.stage() is Stage.APPROVAL
    await again.approve(officer="张伟")
    assert (await case.ended()).outcome is Stage.CLOSED_FOR_GOOD
    found = [line.actor for line in world.rows(AuditLine) if line.step.endswith("-proposed")]
    assert found == ["李敏", "陈静"]


# Approved


async def test_approved_while_the_case_is_open_closes_everything_for_good(world: World) -> None:
    number, *others = an_agent(world.on_record, numbers=3)
    an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    await case.until("2038-03-04", "14:00")
    await serious.until("2038-03-04", "14:00")

    assert "closed for good" in await serious.approve()

    ended = await case.ended()
    assert (ended.outcome, ended.balance.due) == (Stage.CLOSED_FOR_GOOD, Decimal(30000))
    account, bystander = world.rows(Account)
    assert (account.status, account.closed_by) == (AccountStatus.CLOSED, ended.case_no)
    assert bystander.status is AccountStatus.OPEN
    agent, other_agent = world.rows(Agent)
    assert agent.disqualified_at is not None
    assert shanghai("2038-03-04", "13:59") < agent.disqualified_at < shanghai("2038-03-04", "14:05")
    assert other_agent.disqualified_at is None
    await _filings(serious)
    reclaimed = {row.number for row in world.rows(Number) if row.reclaimed_by == ended.case_no}
    assert reclaimed == {number, *others}
    assert {row.status for row in world.rows(Number) if row.number in reclaimed} == {NumberStatus.QUARANTINED}
    assert [fine.status for fine in world.rows(Fine)] == [FineStatus.DUE]


async def test_the_agent_is_told_of_the_closure_in_one_letter(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    await serious.approve()
    await case.ended()
    await _filings(serious)
    _, letter = world.letters()
    told = wording(letter)
    assert "永久关闭账户及取消代理资格通知书" in letter["Subject"]
    assert "【情节严重的认定理由】涉案金额特别巨大" in told
    assert "收回贵司名下号码 1 个" in told
    assert "尚欠 30,000.00 元（大写：叁万元整），仍应缴纳" in told


async def test_a_fraud_may_be_found_serious_after_it_was_paid(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await _fraud(world, number)
    await case.paid("30000", "b-1")
    ended = await case.ended()

    serious = await world.propose(ended.case_no, on="2038-03-10")
    await serious.approve()

    assert await _filings(serious)
    assert _account(world) == (AccountStatus.CLOSED, ended.case_no)
    assert {row.number for row in world.rows(Number) if row.status is NumberStatus.QUARANTINED} == {
        number,
        other,
    }
    assert [row.outcome for row in world.rows(Case)] == [Stage.SETTLED]
    assert "已缴清" in wording(world.letters()[-1])


async def test_a_fraud_may_be_found_serious_after_the_account_was_shut_down(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2, operators=("中国电信", "中国移动"))
    case = await _fraud(world, number)
    await case.until("2038-03-09", "00:11")
    ended = await case.ended()

    serious = await world.propose(ended.case_no, on="2038-03-20")
    await serious.approve()

    filings = (await serious.once(lambda told: bool(told.filings))).filings
    assert [filing.recipient for filing in filings][:2] == ["中国电信", "中国移动"]
    assert _account(world) == (AccountStatus.CLOSED, ended.case_no)
    assert [row.outcome for row in world.rows(Case)] == [Stage.SHUT_DOWN]
    quarantines = {str(row.quarantined_until) for row in world.rows(Number) if row.number in (number, other)}
    assert quarantines == {"2038-04-08"}


async def test_an_undeliverable_letter_does_not_hold_the_closure_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    with world.undeliverable():
        await serious.approve()
        assert (await case.ended()).outcome is Stage.CLOSED_FOR_GOOD
        story = await serious.once(lambda told: bool(told.awaiting))
        assert (story.stage, story.awaiting) == (Stage.CLOSURE, (Awaiting.DELIVERY,))
    await serious.until("2038-03-03", "10:30")
    assert await _filings(serious)
    assert len(world.letters()) == 2


async def test_the_agents_other_cases_are_overtaken_by_the_closure(world: World) -> None:
    number, sold = an_agent(world.on_record, numbers=2)
    sale = await world.open(a_report(sold), on="2038-03-02")
    case, serious = await _proposed(world, number)
    await serious.approve()
    assert (await sale.ended()).outcome is Stage.OVERTAKEN
    assert await case.case_no() in wording(world.letters()[-1])


async def test_a_number_in_direct_service_stays_with_its_customer(world: World) -> None:
    number, served = an_agent(world.on_record, numbers=2)
    failure = await world.open(a_report(served, kind=Kind.SERVICE_FAILURE), on="2038-02-22")
    await failure.until("2038-02-26", "00:11")
    _, serious = await _proposed(world, number)
    await serious.approve()
    await _filings(serious)
    assert {row.number: (row.status, row.holder) for row in world.rows(Number)} == {
        number: (NumberStatus.QUARANTINED, Holder.PLATFORM),
        served: (NumberStatus.ACTIVE, Holder.PLATFORM),
    }


# Approved too late, or without a ground


async def test_it_is_too_late_once_the_account_was_reopened(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fraud(world, number)
    await case.paid("30000", "b-1")
    ended = await case.ended()
    serious = await world.propose(ended.case_no, on="2038-03-10")
    await world.act(ended.case_no, "reopen", on="2038-03-11")

    refused = await _refused(serious.approve())

    assert "has been reopened since: too late" in refused
    assert _account(world) == (AccountStatus.OPEN, None)
    assert (await serious.story()).awaiting == (Awaiting.APPROVAL,)
    await serious.reject()
    assert await serious.outcome() is Stage.REJECTED


async def test_nothing_is_proposed_once_the_account_was_reopened(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fraud(world, number)
    await case.paid("30000", "b-1")
    ended = await case.ended()
    await world.act(ended.case_no, "reopen", on="2038-03-11")

    serious = await world.propose(ended.case_no, on="2038-03-12")

    with pytest.raises(WorkflowFailureError) as failed:
        await serious.outcome()
    assert "has been reopened since: too late" in str(failed.value.cause)


async def test_it_stays_too_late_when_another_case_has_suspended_the_account_again(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await _fraud(world, number)
    await case.paid("30000", "b-1")
    ended = await case.ended()
    serious = await world.propose(ended.case_no, on="2038-03-10")
    await world.act(ended.case_no, "reopen", on="2038-03-11")
    await _fraud(world, other, on="2038-03-15")

    refused = await _refused(serious.approve())

    assert "too late" in refused
    assert _account(world) == (AccountStatus.SUSPENDED, None)


async def test_a_case_that_was_dismissed_meanwhile_closes_nothing(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case, serious = await _proposed(world, number)
    await _fraud(world, other)  # keeps the account suspended
    await case.dismiss()
    await case.ended()

    assert await serious.outcome() is Stage.OVERTURNED
    assert _account(world) == (AccountStatus.SUSPENDED, None)


async def test_a_case_is_not_dismissed_in_the_moment_in_which_it_closes_the_account(
    world: World, engine: Engine
) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)

    with engine.begin() as registry:
        registry.execute(text("select * from numbers for update"))
        approved = asyncio.create_task(serious.approve())
        await world.held_up(1)
        dismissed = asyncio.create_task(case.dismiss(officer="陈静"))
        await asyncio.wait([dismissed], timeout=2)
    await asyncio.gather(approved, dismissed, return_exceptions=True)

    closed = _account(world)[0] is AccountStatus.CLOSED
    assert closed != ((await case.ended()).outcome is Stage.DISMISSED)


@pytest.mark.parametrize("which", ["dismissed", "not of fraud", "unknown", "of an agent closed for good"])
async def test_a_case_that_cannot_be_serious_fails_where_everybody_sees_it(world: World, which: str) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = "FR-2038-00000"
    if which == "dismissed":
        case = await _fraud(world, number)
        case_no = await case.case_no()
        await case.dismiss()
        await case.ended()
    elif which == "not of fraud":
        case_no = await (await world.open(a_report(number), on="2038-03-01")).case_no()
    elif which == "of an agent closed for good":
        case_no = await (await _fraud(world, other)).case_no()
        _, first = await _proposed(world, number)
        await first.approve()

    serious = await world.propose(case_no, on="2038-03-05")

    with pytest.raises(WorkflowFailureError) as failed:
        await serious.outcome()
    words = {
        "dismissed": f"case {case_no} was dismissed",
        "not of fraud": f"there is no case of fraud {case_no}",
        "unknown": f"there is no case of fraud {case_no}",
        "of an agent closed for good": "is closed for good already",
    }
    assert words[which] in str(failed.value.cause)
    assert await world.found(f"WorkflowId = '{serious.id}' AND ExecutionStatus = 'Failed'") == [serious.id]


# Two cases of one agent


async def test_two_findings_about_one_agent_close_its_account_once(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    one, serious_one = await _proposed(world, first)
    other, serious_other = await _proposed(world, second)

    await serious_one.approve()
    await serious_other.approve()

    closed, overtaken = await one.ended(), await other.ended()
    assert (closed.outcome, overtaken.outcome) == (Stage.CLOSED_FOR_GOOD, Stage.OVERTAKEN)
    assert _account(world) == (AccountStatus.CLOSED, closed.case_no)
    assert any(
        f"was closed for good by case {closed.case_no} already" in t for t in await serious_other.told()
    )
    assert {row.reclaimed_by for row in world.rows(Number)} == {closed.case_no}
    filed = await _filings(serious_one), await _filings(serious_other)
    assert len({row.filing_no for row in world.rows(Filing)}) == sum(len(filings) for filings in filed)


async def test_a_finding_that_is_rejected_leaves_that_of_another_case_alone(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    one, serious_one = await _proposed(world, first)
    other, serious_other = await _proposed(world, second)
    await serious_one.reject()
    assert await serious_one.outcome() is Stage.REJECTED
    assert await one.stage() is Stage.PAYMENT
    await serious_other.approve()
    assert (await one.ended()).outcome is Stage.OVERTAKEN
    assert (await other.ended()).outcome is Stage.CLOSED_FOR_GOOD


async def test_a_case_may_be_found_serious_after_another_one_was_dismissed(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    dismissed = await _fraud(world, other)
    case, serious = await _proposed(world, number)
    await dismissed.dismiss()
    await dismissed.ended()

    await serious.approve()

    ended = await case.ended()
    assert ended.outcome is Stage.CLOSED_FOR_GOOD
    assert _account(world) == (AccountStatus.CLOSED, ended.case_no)


# Filings


async def test_every_operator_miit_the_public_and_the_police_get_a_filing(world: World) -> None:
    operators = ("中国电信", "中国移动", "中国联通")
    number, *_ = an_agent(world.on_record, numbers=4, operators=operators)
    _, serious = await _proposed(world, number)
    await serious.approve()
    await _filings(serious)
    filings = world.rows(Filing)
    assert {filing.recipient for filing in filings if filing.kind is FilingKind.OPERATOR} == set(operators)
    assert {filing.kind for filing in filings} == set(FilingKind)
    assert len(filings) == 6
    assert {filing.status for filing in filings} == {FilingStatus.PREPARED}
    police = next(filing for filing in filings if filing.kind is FilingKind.PUBLIC_SECURITY)
    assert "报案回执-2038-17" in police.document
    shown = await serious.attributes()
    assert (shown["Awaiting"], shown["Stage"]) == ([Awaiting.FILING], Stage.FILING)


async def test_the_proceeding_ends_when_every_filing_is_acknowledged_or_waived(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    await serious.approve()
    filings = await _filings(serious)
    for filing_no in filings.values():
        await serious.filing(filing_no, SUBMITTED)
    await serious.filing(filings[FilingKind.OPERATOR], ACKNOWLEDGED)
    await serious.filing(filings[FilingKind.ANNOUNCEMENT], WAIVED, "网站改版期间不发布")
    await serious.filing(filings[FilingKind.MIIT], REFUSED, "缺少附件")
    assert "1 left to do" in await serious.filing(filings[FilingKind.PUBLIC_SECURITY], ACKNOWLEDGED)
    assert await serious.until("2038-03-20") is Stage.FILING

    await serious.filing(filings[FilingKind.MIIT], SUBMITTED)
    assert (await serious.attributes())["Awaiting"] == [Awaiting.FILING]
    assert "0 left to do" in await serious.filing(filings[FilingKind.MIIT], ACKNOWLEDGED)

    assert await serious.outcome() is Stage.CLOSED_FOR_GOOD
    assert "Awaiting" not in await serious.attributes()
    assert {filing.kind: (filing.status, filing.reason) for filing in world.rows(Filing)} == {
        FilingKind.OPERATOR: (ACKNOWLEDGED, None),
        FilingKind.MIIT: (ACKNOWLEDGED, None),
        FilingKind.ANNOUNCEMENT: (WAIVED, "网站改版期间不发布"),
        FilingKind.PUBLIC_SECURITY: (ACKNOWLEDGED, None),
    }
    miit = f"Filing {filings[FilingKind.MIIT]} to 工业和信息化部"
    assert [line.text for line in world.rows(AuditLine) if line.text.startswith(miit)] == [
        f"{miit} submitted",
        f"{miit} refused (缺少附件)",
        f"{miit} submitted",
        f"{miit} acknowledged",
    ]
    assert (await case.ended()).outcome is Stage.CLOSED_FOR_GOOD


async def test_a_filing_is_not_refused_or_waived_without_a_reason(world: World) -> None:
    [number] = an_agent(world.on_record)
    _, serious = await _proposed(world, number)
    await serious.approve()
    filing_no = (await _filings(serious))[FilingKind.MIIT]
    await serious.filing(filing_no, SUBMITTED)
    for status, reason in ((REFUSED, ""), (WAIVED, ""), (REFUSED, " "), (WAIVED, " ")):
        await _refused(serious.filing(filing_no, status, reason))
    assert {filing.status for filing in world.rows(Filing)} == {FilingStatus.PREPARED, SUBMITTED}


async def test_a_filing_goes_no_way_that_is_not_allowed(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    _, serious = await _proposed(world, number)
    other_case = await _fraud(world, other)
    await serious.approve()
    filing_no = (await _filings(serious))[FilingKind.MIIT]
    assert "it can't become acknowledged" in await _refused(serious.filing(filing_no, ACKNOWLEDGED))
    await serious.filing(filing_no, SUBMITTED)
    assert "it can't become submitted" in await _refused(serious.filing(filing_no, SUBMITTED))
    await serious.filing(filing_no, ACKNOWLEDGED)
    assert "it can't become refused" in await _refused(serious.filing(filing_no, REFUSED, "缺少附件"))
    foreign = f"{await other_case.case_no()}-F1"
    assert f"has no filing {foreign}" in await _refused(serious.filing(foreign, SUBMITTED))
    assert await serious.stage() is Stage.FILING


# Messages that are not understood


async def test_a_message_that_is_refused_is_on_record_though_the_case_refused_one_too(world: World) -> None:
    [number] = an_agent(world.on_record)
    case, serious = await _proposed(world, number)
    await case.signal("payment_recieved", {})
    await case.once(lambda told: bool(told.awaiting))

    await serious.signal("filing_acknowledged", {})

    story = await serious.once(lambda told: Awaiting.REFUSED_MESSAGE in told.awaiting)
    assert "Signal filing_acknowledged refused" in story.lines[-1].text
    refused = [line.text for line in world.rows(AuditLine) if " refused: " in line.text]
    assert len(refused) == 2
