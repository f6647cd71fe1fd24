"""Rulebook 6: money is exact."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rulebook.money import Amount, Balance, capitals, yuan

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


@pytest.mark.parametrize(
    ("amount", "numerals"),
    [
        ("30000", "叁万元整"),
        ("1000", "壹仟元整"),
        ("10000", "壹万元整"),
        ("1409.50", "壹仟肆佰零玖元伍角"),
        ("6007.14", "陆仟零柒元壹角肆分"),
        ("16409.02", "壹万陆仟肆佰零玖元零贰分"),
        ("107000.53", "壹拾万零柒仟元伍角叁分"),
        ("1000005", "壹佰万零伍元整"),
        ("200000001", "贰亿零壹元整"),
        ("0.05", "伍分"),
        ("0", "零元整"),
    ],
)
def test_an_amount_is_written_in_the_numerals_that_banks_demand(amount: str, numerals: str) -> None:
    assert capitals(Decimal(amount)) == numerals


def _value(numerals: str) -> Decimal:
    """What numerals are worth, read from the left."""
    digits, places = "零壹贰叁肆伍陆柒捌玖", {"拾": 10, "佰": 100, "仟": 1000}
    total, myriad, digit = Decimal(0), Decimal(0), Decimal(0)
    for char in numerals.removesuffix("整"):
        if char in digits:
            digit = Decimal(digits.index(char))
        elif char in places:
            myriad, digit = myriad + digit * places[char], Decimal(0)
        elif char in ("万", "亿", "元"):
            worth = {"万": 10**4, "亿": 10**8, "元": 1}[char]
            total, myriad, digit = total + (myriad + digit) * worth, Decimal(0), Decimal(0)
        else:
            total, digit = total + digit * {"角": Decimal("0.1"), "分": Decimal("0.01")}[char], Decimal(0)
    return total


@given(st.decimals(0, 10**12 - 1, places=2))
def test_the_numerals_are_worth_the_amount_and_say_no_nought_twice(amount: Decimal) -> None:
    numerals = capitals(amount)
    assert _value(numerals) == amount
    assert "零零" not in numerals
    assert amount < 1 or "零元" not in numerals


@pytest.mark.parametrize("amount", ["-1", "0.001", "1000000000000"])
def test_what_is_no_amount_has_no_numerals(amount: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        capitals(Decimal(amount))
