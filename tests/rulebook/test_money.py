"""Rulebook 6: money is exact."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rulebook.money import Amount, Balance, yuan

sums = st.decimals(0, 10**9, places=2)
amounts: TypeAdapter[Decimal] = TypeAdapter(Amount)


@given(fine=sums, paid=sums)
def test_a_balance_is_exact_and_never_both_due_and_owed_back(fine: Decimal, paid: Decimal) -> None:
    balance = Balance(fine=fine, paid=paid)
    assert balance.due - balance.owed_back == fine - paid
    assert min(balance.due, balance.owed_back) == 0
    assert balance.settled == (balance.due == 0)


@given(fine=sums, payments=st.lists(sums, max_size=20))
def test_no_fen_is_lost_on_the_way_through_json(fine: Decimal, payments: list[Decimal]) -> None:
    balance = Balance(fine=fine, paid=sum(payments, Decimal()))
    assert Balance.model_validate_json(balance.model_dump_json()) == balance


@pytest.mark.parametrize(
    ("said", "meant"),
    [(599.9, "599.9"), (0.1, "0.1"), (1000, "1000"), ("400.10", "400.10"), ("0.01", "0.01")],
)
def test_an_amount_is_taken_exactly_as_it_was_said(said: object, meant: str) -> None:
    assert str(amounts.validate_python(said)) == meant


@pytest.mark.parametrize("json", ["599.9", '"599.9"'])
def test_an_amount_in_json_is_exact_as_a_number_and_as_text(json: str) -> None:
    assert str(amounts.validate_json(json)) == "599.9"


@pytest.mark.parametrize(
    "said",
    [True, False, 0, -1, "-0.01", "0.001", 1.234, 10**12, "1,000", "NaN", "Infinity", float("nan"), "", None],
)
def test_what_is_no_sum_of_yuan_is_refused(said: object) -> None:
    with pytest.raises(ValidationError):
        amounts.validate_python(said)


def test_an_amount_is_shown_as_people_write_it() -> None:
    assert yuan(Decimal("1000")) == "¥1,000.00"
    assert yuan(Decimal("0.1")) == "¥0.10"
