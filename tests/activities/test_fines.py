"""Rulebook 1.3, 2.3, 5.5, 6 and 7.3: fines, offences and payments."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import select

from activities.fines import Fines, RefundPayments, ReviewFine, balance
from activities.step import Refused
from activities.undoing import CaseUndone, UndoCase, Undoing
from registry import audit
from registry.models import Agent, Case, Fine, Payment, Wait
from registry.session import Sessions
from rulebook import policy
from rulebook.money import Balance
from rulebook.policy import Policy
from rulebook.vocabulary import Awaiting, FineStatus, Kind, Stage
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


# What is owed back (6.2)

CLOSED = shanghai("2026-03-02")


def waits(on_record: Sessions) -> list[tuple[str, Awaiting]]:
    with on_record() as session:
        unended = select(Wait).where(Wait.ended_at.is_(None)).order_by(Wait.id)
        return [(wait.case_no, wait.what) for wait in session.scalars(unended)]


def undo(on_record: Sessions, steps: Steps, case_no: str) -> CaseUndone:
    order = UndoCase(case_no=case_no, step="undo", at=CLOSED, outcome=Stage.DISMISSED, text="dismissed")
    found = Undoing(on_record).undo_case(order)
    steps.void(case_no)
    return found


def refund(on_record: Sessions, case_no: str) -> str:
    order = RefundPayments(case_no=case_no, step="refund-1", at=CLOSED, by="李敏", reference="R9")
    return Fines(on_record).refund_payments(order).line.text


@pytest.fixture
def overpaid(steps: Steps, fined: str) -> str:
    """A case that has ended with 1,500 paid on a fine of 1,000."""
    steps.pay(fined, "1500", "B1")
    steps.close(fined, Stage.SETTLED, CLOSED)
    return fined


def test_what_is_owed_back_waits_for_an_officer_as_soon_as_the_case_has_ended(
    on_record: Sessions, steps: Steps, fined: str
) -> None:
    steps.pay(fined, "1500", "B1")
    assert waits(on_record) == []  # a fine may meet it yet
    steps.close(fined, Stage.SETTLED, CLOSED)
    assert waits(on_record) == [(fined, Awaiting.REFUND)]
    with on_record() as session:
        assert session.scalars(select(Wait.since)).one() == CLOSED


@pytest.mark.parametrize("outcome", [Stage.RECTIFIED, Stage.TAKEN_BACK, Stage.OVERTAKEN])
def test_what_was_paid_in_a_case_that_ends_without_a_fine_waits_too(
    on_record: Sessions, steps: Steps, outcome: Stage
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    steps.pay(case_no, "300", "B1")
    steps.close(case_no, outcome)
    assert waits(on_record) == [(case_no, Awaiting.REFUND)]
    assert steps.return_owed_back(case_no, "R1").line.text == "¥300.00 returned, reference R1"


def test_what_is_paid_after_the_end_waits_only_as_far_as_it_is_above_the_fine(
    on_record: Sessions, steps: Steps, fined: str
) -> None:
    steps.close(fined, Stage.OVERTAKEN)
    steps.pay(fined, "1000", "B1")
    assert waits(on_record) == []
    steps.pay(fined, "0.01", "B2")
    assert waits(on_record) == [(fined, Awaiting.REFUND)]
    assert "¥0.01 returned" in steps.return_owed_back(fined, "R1").line.text


@pytest.mark.parametrize(("paid", "owed"), [("2000", True), ("1000", False)])
def test_a_fine_that_is_lowered_after_the_end_makes_what_was_paid_above_it_wait(
    on_record: Sessions, steps: Steps, paid: str, owed: bool
) -> None:
    first, second = (steps.open(number).case_no for number in an_agent(on_record, numbers=2))
    assert [steps.fine(case_no).balance.fine for case_no in (first, second)] == [1000, 2000]
    steps.pay(second, paid, "B2")
    steps.close(second, Stage.SETTLED)
    undo(on_record, steps, first)
    assert (second, Awaiting.REFUND) not in waits(on_record)

    Fines(on_record).review_fine(
        ReviewFine(
            case_no=second, step="review", at=CLOSED, because_of=first, lower=True, reason="前案已撤销"
        )
    )

    assert ((second, Awaiting.REFUND) in waits(on_record)) is owed


def test_what_was_returned_is_owed_no_more_and_waits_no_more(
    on_record: Sessions, steps: Steps, overpaid: str
) -> None:
    steps.return_owed_back(overpaid, "R1", CLOSED)
    with on_record() as session:
        assert balance(session, overpaid) == stands(1000, "1000")
        back = session.get_one(Payment, "R1")
        assert (back.case_no, back.amount, back.recorded_by) == (overpaid, Decimal(-500), "李敏")
        assert audit.trail(session, overpaid)[-1].text == "¥500.00 returned, reference R1"
    assert waits(on_record) == []
    assert status(on_record, overpaid) is FineStatus.SETTLED

    steps.pay(overpaid, "20", "B2")  # the bank sends some of it back once more
    assert waits(on_record) == [(overpaid, Awaiting.REFUND)]
    assert "¥20.00 returned" in steps.return_owed_back(overpaid, "R2").line.text


def test_what_is_owed_back_is_returned_once_however_often_it_is_typed(
    on_record: Sessions, steps: Steps, overpaid: str
) -> None:
    first, *others = at_once(on_record, select(Case), *[lambda: steps.return_owed_back(overpaid, "R1")] * 4)
    assert others == [first] * 3
    with pytest.raises(Refused, match=r"nothing is owed back in case .* \(any more\)"):
        steps.return_owed_back(overpaid, "R2")
    with on_record() as session:
        assert balance(session, overpaid) == stands(1000, "1000")


def test_nothing_is_returned_of_a_case_that_is_open_or_owes_nothing(
    on_record: Sessions, steps: Steps, fined: str
) -> None:
    steps.pay(fined, "999", "B1")
    steps.pay(fined, "2", "B2")
    with pytest.raises(Refused, match="is open: what was paid in it may yet be met by a fine"):
        steps.return_owed_back(fined, "R1")
    [number] = an_agent(on_record)
    other = steps.open(number).case_no
    steps.settle(other)
    with pytest.raises(Refused, match=f"nothing is owed back in case {other}"):
        steps.return_owed_back(other, "R1")
    with pytest.raises(Refused, match="no case SS-2026-99999"):
        steps.return_owed_back("SS-2026-99999", "R1")
    with on_record() as session:
        assert session.get(Payment, "R1") is None


def test_a_bank_reference_counts_once_for_what_comes_in_and_what_goes_back(
    on_record: Sessions, steps: Steps, overpaid: str
) -> None:
    [number] = an_agent(on_record)
    other = steps.open(number).case_no
    steps.pay(other, "300", "B2")
    steps.close(other)
    with pytest.raises(Refused, match=r"B1 was counted already, with ¥1,500\.00 of 2026-02-12"):
        steps.return_owed_back(overpaid, "B1")
    with pytest.raises(Refused, match=f"B2 was counted already for case {other}"):
        steps.return_owed_back(overpaid, "B2")
    steps.return_owed_back(overpaid, "R1")
    with pytest.raises(Refused, match=rf"for case {overpaid}, with ¥500\.00 returned of 2026-02-12"):
        steps.return_owed_back(other, "R1")
    with pytest.raises(Refused, match=r"R1 was counted already, with ¥500\.00 returned"):
        steps.pay(overpaid, "500", "R1")
    assert waits(on_record) == [(other, Awaiting.REFUND)]


def test_a_case_that_is_undone_later_refunds_what_was_not_returned_before(
    on_record: Sessions, steps: Steps, overpaid: str
) -> None:
    steps.return_owed_back(overpaid, "R1")
    assert undo(on_record, steps, overpaid).refund == 1000
    assert waits(on_record) == [(overpaid, Awaiting.REFUND)]
    with pytest.raises(Refused, match="was dismissed, and its refund is only being prepared"):
        steps.return_owed_back(overpaid, "R2")
    assert refund(on_record, overpaid) == "¥1,000.00 refunded, reference R9"
    with on_record() as session:
        assert balance(session, overpaid) == Balance()
    assert waits(on_record) == []
    with pytest.raises(Refused, match="nothing is owed back"):
        steps.return_owed_back(overpaid, "R2")


def test_what_was_wholly_returned_is_not_refunded_once_more_by_an_undo(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    steps.pay(case_no, "300", "B1")
    steps.close(case_no)
    steps.return_owed_back(case_no, "R1")
    assert undo(on_record, steps, case_no).refund == 0
    assert waits(on_record) == []
    with pytest.raises(Refused, match="no refund is due"):
        refund(on_record, case_no)
    assert steps.pay(case_no, "40", "B2").to_refund
    assert refund(on_record, case_no) == "¥40.00 refunded, reference R9"


def test_money_that_comes_in_while_a_case_is_undone_waits_though_its_fine_is_not_void_yet(
    on_record: Sessions, steps: Steps, fined: str
) -> None:
    steps.close(fined, Stage.OVERTAKEN)
    order = UndoCase(case_no=fined, step="undo", at=CLOSED, outcome=Stage.OVERTURNED, text="overturned")
    Undoing(on_record).undo_case(order)
    steps.pay(fined, "300", "B1")
    assert waits(on_record) == [(fined, Awaiting.REFUND)]
