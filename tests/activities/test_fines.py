"""Rulebook 1.3, 2.3, 5.5, 6 and 7.3: fines, offences and payments."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import select

from activities.fines import balance
from activities.step import Refused
from registry import audit
from registry.models import Agent, Case, Fine, Payment
from registry.session import Sessions
from rulebook import policy
from rulebook.money import Balance
from rulebook.policy import Policy
from rulebook.vocabulary import FineStatus, Kind
from tests.activities.conftest import Steps
from tests.registry.conftest import at_once
from tests.world import an_agent, shanghai


def status(on_record: Sessions, case_no: str) -> FineStatus:
    with on_record() as session:
        return session.execute(select(Fine.status).where(Fine.case_no == case_no)).scalar_one()


def stands(fine: int, paid: str) -> Balance:
    return Balance(fine=Decimal(fine), paid=Decimal(paid))


@pytest.fixture
def fined(on_record: Sessions, steps: Steps) -> str:
    """A case whose agent was fined 1,000."""
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    steps.fine(case_no)
    return case_no


def test_each_further_case_of_an_agent_costs_more(on_record: Sessions, steps: Steps) -> None:
    imposed = [steps.fine(steps.open(number).case_no) for number in an_agent(on_record, numbers=11)]
    assert [fine.offence for fine in imposed] == list(range(1, 12))
    assert [int(fine.balance.fine) for fine in imposed] == [*range(1000, 10001, 1000), 10000]
    assert imposed[1].line.text == "Fined ¥2,000.00: offence 2 of the agent under this rule"


def test_each_fraud_costs_30000_whatever_the_offence(on_record: Sessions, steps: Steps) -> None:
    held = an_agent(on_record, numbers=3)
    imposed = [steps.fine(steps.open(number, kind=Kind.FRAUD).case_no) for number in held]
    assert [(fine.offence, fine.balance.fine) for fine in imposed] == [(n, Decimal(30000)) for n in (1, 2, 3)]


def test_offences_of_one_kind_are_no_earlier_ones_of_another(on_record: Sessions, steps: Steps) -> None:
    first, second = an_agent(on_record, numbers=2)
    steps.fine(steps.open(first, kind=Kind.FRAUD).case_no)
    assert steps.fine(steps.open(second).case_no).balance == stands(1000, "0")


def test_cases_of_one_agent_fined_at_the_same_moment_are_not_both_the_first(
    on_record: Sessions, steps: Steps
) -> None:
    case_nos = [steps.open(number).case_no for number in an_agent(on_record, numbers=4)]
    imposed = at_once(
        on_record, select(Agent), *(lambda case_no=case_no: steps.fine(case_no) for case_no in case_nos)
    )
    assert sorted(fine.offence for fine in imposed) == [1, 2, 3, 4]
    assert sorted(fine.balance.fine for fine in imposed) == [1000, 2000, 3000, 4000]


def test_a_case_is_fined_once_however_often_it_is_tried(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    first, *others = at_once(on_record, select(Case), *[lambda: steps.fine(case_no)] * 4)
    assert others == [first] * 3
    with on_record() as session:
        assert balance(session, case_no) == stands(1000, "0")


def test_the_offences_of_other_agents_do_not_count(on_record: Sessions, steps: Steps, fined: str) -> None:
    [number] = an_agent(on_record)
    assert steps.fine(steps.open(number).case_no).offence == 1


def test_a_case_that_did_not_stand_is_no_earlier_offence(on_record: Sessions, steps: Steps) -> None:
    dismissed, stood, new = (steps.open(number).case_no for number in an_agent(on_record, numbers=3))
    steps.fine(dismissed)
    steps.fine(stood)
    steps.void(dismissed)
    assert steps.fine(new).offence == 2


def test_a_later_policy_never_worsens_an_open_case(
    on_record: Sessions, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = an_agent(on_record, numbers=2)
    case_no = steps.open(before, shanghai("2026-02-28", "23:59")).case_no
    [announced] = policy.published()
    harsh = announced.secondary_sale.fine.model_copy(update={"first": 5000, "second": 8000})
    sale = announced.secondary_sale.model_copy(update={"fine": harsh})
    later = announced.model_copy(update={"effective": date(2026, 3, 1), "secondary_sale": sale})
    published: Callable[[], tuple[Policy, ...]] = lambda: (announced, later)  # noqa: E731
    monkeypatch.setattr(policy, "published", published)
    assert steps.fine(case_no, shanghai("2026-03-05")).balance.fine == 1000
    assert steps.fine(steps.open(after, shanghai("2026-03-01", "00:00")).case_no).balance.fine == 8000


def test_a_fine_is_settled_when_the_payments_reach_it(on_record: Sessions, steps: Steps, fined: str) -> None:
    first = steps.pay(fined, "400.10", "B1")
    assert (first.balance, first.balance.due, first.line.text) == (
        stands(1000, "400.10"),
        Decimal("599.90"),
        "¥400.10 paid, reference B1: ¥599.90 still due",
    )
    assert steps.pay(fined, "599.89", "B2").balance.due == Decimal("0.01")
    assert status(on_record, fined) is FineStatus.DUE
    assert steps.pay(fined, "0.01", "B3").balance.settled
    assert status(on_record, fined) is FineStatus.SETTLED


def test_what_is_paid_above_the_fine_is_owed_back(on_record: Sessions, steps: Steps, fined: str) -> None:
    steps.pay(fined, "999.99", "B1")
    last = steps.pay(fined, "500", "B2")
    assert last.balance.owed_back == Decimal("499.99")
    assert last.line.text.endswith("settled, ¥499.99 owed back")
    assert status(on_record, fined) is FineStatus.SETTLED


def test_the_same_bank_reference_counts_once(on_record: Sessions, steps: Steps, fined: str) -> None:
    first, *others = at_once(on_record, select(Case), *[lambda: steps.pay(fined, "400", "B1")] * 4)
    assert others == [first] * 3
    with on_record() as session:
        assert balance(session, fined) == stands(1000, "400")
        assert len(audit.trail(session, fined)) == 3


def test_payments_that_come_in_at_once_all_count(on_record: Sessions, steps: Steps, fined: str) -> None:
    payments = at_once(
        on_record, select(Case), *(lambda n=n: steps.pay(fined, "250", f"B{n}") for n in range(4))
    )
    assert sorted(payment.balance.paid for payment in payments) == [250, 500, 750, 1000]
    assert status(on_record, fined) is FineStatus.SETTLED


def test_a_bank_reference_with_another_amount_is_refused(
    on_record: Sessions, steps: Steps, fined: str
) -> None:
    steps.pay(fined, "400", "B1")
    with pytest.raises(Refused, match=r"B1 was counted already, with ¥400\.00"):
        steps.pay(fined, "600", "B1")
    with on_record() as session:
        assert balance(session, fined).paid == 400


def test_a_bank_reference_of_another_case_is_refused(on_record: Sessions, steps: Steps, fined: str) -> None:
    [number] = an_agent(on_record)
    other = steps.open(number).case_no
    steps.pay(fined, "400", "B1")
    with pytest.raises(Refused, match=f"counted already for case {fined}"):
        steps.pay(other, "400", "B1")
    with on_record() as session:
        assert balance(session, other) == Balance()


def test_money_for_a_case_that_does_not_exist_is_refused(steps: Steps) -> None:
    with pytest.raises(Refused, match="no case SS-2026-99999"):
        steps.pay("SS-2026-99999", "400", "B1")


def test_what_was_paid_before_the_fine_counts_towards_it(on_record: Sessions, steps: Steps) -> None:
    partly, wholly = (steps.open(number).case_no for number in an_agent(on_record, numbers=2))
    assert steps.pay(partly, "300", "B1").balance == stands(0, "300")
    assert steps.fine(partly).line.text.endswith("; ¥300.00 had been paid, ¥700.00 still due")
    steps.pay(wholly, "2500", "B2")
    assert steps.fine(wholly).balance.owed_back == 500
    assert (status(on_record, partly), status(on_record, wholly)) == (FineStatus.DUE, FineStatus.SETTLED)


@pytest.mark.parametrize("paid", ["400.00", "1000.00"])
def test_what_was_paid_for_a_void_fine_is_refunded(
    on_record: Sessions, steps: Steps, fined: str, paid: str
) -> None:
    steps.pay(fined, paid, "B1")
    voided, again = steps.void(fined), steps.void(fined)
    assert voided == again
    assert voided.balance.owed_back == Decimal(paid)
    assert voided.line.text == f"Fine voided; ¥{Decimal(paid):,.2f} to be refunded"
    assert status(on_record, fined) is FineStatus.VOID


def test_a_payment_for_a_void_fine_is_recorded_and_owed_back(
    on_record: Sessions, steps: Steps, fined: str
) -> None:
    steps.void(fined)
    assert steps.pay(fined, "1000", "B1").balance == stands(0, "1000")
    assert status(on_record, fined) is FineStatus.VOID


def test_who_recorded_a_payment_and_for_which_case_is_on_record(
    on_record: Sessions, steps: Steps, fined: str
) -> None:
    steps.pay(fined, "400.10", "银行流水 0001")
    with on_record() as session:
        payment, case = session.get_one(Payment, "银行流水 0001"), session.get_one(Case, fined)
    assert (payment.case_no, payment.amount, payment.recorded_by) == (case.case_no, Decimal("400.10"), "bank")
