"""Rulebook 6.3: what is paid after the end of a case."""

from decimal import Decimal

import pytest
from temporalio.client import WorkflowFailureError

from registry.models import Account, AuditLine, Fine, Number, Payment
from rulebook.money import Balance
from rulebook.vocabulary import AccountStatus, FineStatus, NumberStatus
from tests.world import World, a_report, an_agent
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
