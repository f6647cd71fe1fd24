"""Rulebook 6.3 and 1.4: what is paid after the end of a case, and what officers lift after it."""

from decimal import Decimal
from typing import Literal

import pytest
from temporalio.client import WorkflowFailureError

from registry.models import Account, AuditLine, Fine, Number, Payment
from rulebook.money import Balance
from rulebook.vocabulary import AccountStatus, FineStatus, Kind, NumberStatus, Stage
from tests.world import CaseInTime, World, a_report, an_agent, shanghai
from workflows.after_case import LatePayment
from workflows.messages import LatePaymentStart, PaymentReceived


async def _shut_down(world: World, number: str) -> str:
    """A case that ended in the shutdown of the account, with 1,000 due; its case number."""
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-13", "00:11")
    return (await case.ended()).case_no


async def _pay(world: World, case_no: str, amount: str, reference: str) -> Balance:
    payment = PaymentReceived(reference=reference, amount=Decimal(amount), by="李敏")
    return await world.client.execute_workflow(
        LatePayment.run,
        LatePaymentStart(case_no=case_no, payment=payment),
        id=f"late-payment-{world.task_queue}-{reference}",
        task_queue=world.task_queue,
    )


async def test_a_late_payment_lowers_the_debt(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    assert (await _pay(world, case_no, "400", "b-1")).due == Decimal(600)
    assert [(p.case_no, p.amount, p.recorded_by) for p in world.rows(Payment)] == [
        (case_no, Decimal(400), "李敏")
    ]
    assert world.rows(Fine)[0].status is FineStatus.DUE
    assert world.rows(AuditLine)[-1].text == "¥400.00 paid, reference b-1: ¥600.00 still due"


async def test_a_late_payment_settles_the_fine_but_undoes_no_shutdown(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await _pay(world, case_no, "400", "b-1")
    assert (await _pay(world, case_no, "600", "b-2")).due == Decimal(0)
    assert world.rows(Fine)[0].status is FineStatus.SETTLED
    assert world.rows(Account)[0].status is AccountStatus.SHUT_DOWN
    assert world.rows(Number)[0].status is NumberStatus.QUARANTINED


async def test_a_late_payment_counts_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await _pay(world, case_no, "400", "b-1")
    assert (await _pay(world, case_no, "400", "b-1")).due == Decimal(600)
    assert len(world.rows(Payment)) == 1


async def test_a_late_payment_above_the_debt_is_owed_back(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    assert (await _pay(world, case_no, "1500", "b-1")).owed_back == Decimal(500)


async def test_a_bank_reference_that_counted_before_does_not_lower_another_debt(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(other))
    await case.paid("400", "b-1")
    case_no = await _shut_down(world, number)
    with pytest.raises(WorkflowFailureError) as refused:
        await _pay(world, case_no, "400", "b-1")
    assert "b-1 was counted already for case" in str(refused.value.cause.__cause__)
    assert [payment.case_no for payment in world.rows(Payment)] == [(await case.story()).case_no]


# 6.2: what is owed back


async def test_what_is_owed_back_is_returned_once_and_with_a_line(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    await _pay(world, case_no, "1500", "b-1")
    for _ in range(2):  # an officer types it twice
        assert await world.act(case_no, "refunded", "2038-03-20", "r-1") == "¥500.00 returned, reference r-1"
    assert [(p.reference, p.amount) for p in world.rows(Payment)] == [
        ("b-1", Decimal(1500)),
        ("r-1", Decimal(-500)),
    ]
    [line] = [line for line in world.rows(AuditLine) if "returned" in line.text]
    assert (line.step, line.actor) == ("returned-r-1", "李敏")
    assert shanghai("2038-03-20", "09:59") < line.at < shanghai("2038-03-20", "10:05")


async def test_nothing_is_returned_where_nothing_is_owed_back_or_no_reference_is_said(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _shut_down(world, number)
    for reference, why in (("r-1", f"nothing is owed back in case {case_no}"), (None, "bank's reference")):
        with pytest.raises(WorkflowFailureError) as refused:
            await world.act(case_no, "refunded", "2038-03-20", reference)
        assert why in str(refused.value.cause.__cause__ or refused.value.cause)
    assert world.rows(Payment) == []


# 1.4: the account and the number, each by an act of its own


async def _fraud(world: World, number: str) -> CaseInTime:
    """A case of fraud of Mon 1 March, payable until Mon 8 at 24:00."""
    return await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")


async def _settled(world: World, number: str) -> str:
    """A case of fraud whose fine was paid in time; its case number."""
    case = await _fraud(world, number)
    await case.paid("30000", f"b-{number}")
    return (await case.ended()).case_no


async def _refused(world: World, case_no: str, act: Literal["reopen", "unfreeze"]) -> str:
    """Why an officer's act on a case that has ended is refused."""
    with pytest.raises(WorkflowFailureError) as refused:
        await world.act(case_no, act, on="2038-03-20")
    return str(refused.value.cause.__cause__)


def _account(world: World) -> AccountStatus:
    [account] = world.rows(Account)
    return account.status


async def test_an_officer_reopens_the_account_and_the_number_stays_frozen(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number)

    assert "reopened" in await world.act(case_no, "reopen", on="2038-03-10")

    [account] = world.rows(Account)
    assert (account.status, account.suspended_by) == (AccountStatus.OPEN, None)
    assert shanghai("2038-03-10", "09:59") < account.since < shanghai("2038-03-10", "10:05")
    assert world.rows(Number)[0].status is NumberStatus.FROZEN
    line = world.rows(AuditLine)[-1]
    assert (line.case_no, line.actor) == (case_no, "李敏")


async def test_an_officer_unfreezes_the_number_and_the_account_stays_suspended(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number)

    assert "unfrozen" in await world.act(case_no, "unfreeze", on="2038-03-10")

    [row] = world.rows(Number)
    assert (row.status, row.frozen_by) == (NumberStatus.ACTIVE, None)
    assert _account(world) is AccountStatus.SUSPENDED


async def test_what_was_lifted_is_not_lifted_again(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _settled(world, number)
    await world.act(case_no, "reopen", on="2038-03-10")
    await world.act(case_no, "unfreeze", on="2038-03-10")
    assert "is open, not suspended" in await _refused(world, case_no, "reopen")
    assert "is active, not frozen" in await _refused(world, case_no, "unfreeze")


async def test_nothing_is_lifted_while_the_case_is_open(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await (await _fraud(world, number)).case_no()
    assert f"case {case_no} is still open" in await _refused(world, case_no, "reopen")
    assert f"case {case_no} froze the number and is still open" in await _refused(world, case_no, "unfreeze")
    assert _account(world) is AccountStatus.SUSPENDED


async def test_nothing_is_lifted_after_a_shutdown_though_the_fine_is_paid_late(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _fraud(world, number)
    await case.until("2038-03-09", "00:11")
    case_no = (await case.ended()).case_no
    await _pay(world, case_no, "30000", "b-1")
    assert "is shut-down, not suspended" in await _refused(world, case_no, "reopen")
    assert "is quarantined, not frozen" in await _refused(world, case_no, "unfreeze")


async def test_another_open_case_of_fraud_keeps_the_account_suspended(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _settled(world, number)
    keeps = await _fraud(world, other)
    assert f"case {await keeps.case_no()} is open and keeps" in await _refused(world, case_no, "reopen")

    await keeps.paid("30000", "b-other")
    await keeps.ended()

    await world.act(case_no, "reopen", on="2038-03-20")
    assert _account(world) is AccountStatus.OPEN


async def test_a_case_of_another_kind_reopens_no_account_that_an_open_fraud_keeps(world: World) -> None:
    number, sold = an_agent(world.on_record, numbers=2)
    sale = await world.open(a_report(sold), on="2038-03-01")
    await sale.rectified()
    await sale.verify(passed=True)
    case_no = (await sale.ended()).case_no
    await _fraud(world, number)
    await _refused(world, case_no, "reopen")
    assert _account(world) is AccountStatus.SUSPENDED


async def test_an_act_on_a_case_that_is_not_on_record_is_refused(world: World) -> None:
    assert "no case FR-2038-00000" in await _refused(world, "FR-2038-00000", "reopen")
    assert "no case FR-2038-00000" in await _refused(world, "FR-2038-00000", "unfreeze")


async def test_a_reopened_account_is_suspended_by_the_next_fraud(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    await world.act(await _settled(world, number), "reopen", on="2038-03-10")
    case = await world.open(a_report(other, kind=Kind.FRAUD), on="2038-03-15")
    [account] = world.rows(Account)
    assert (account.status, account.suspended_by) == (AccountStatus.SUSPENDED, await case.case_no())
    assert await case.until("2038-03-22", "23:59") is Stage.PAYMENT
    assert await case.until("2038-03-23", "00:11") is Stage.SHUT_DOWN
