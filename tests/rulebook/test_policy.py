"""The shipped policy says what the rulebook says, and a bad policy is refused."""

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulebook import policy
from rulebook.policy import Clock, FineSchedule, Policy, faults, in_force, load
from rulebook.vocabulary import Business, Kind

ANNOUNCED = date(2017, 2, 16)
SHIPPED = (resources.files("rulebook") / "2017-02-16.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("offence", "fine"),
    [(1, 1000), (2, 2000), (3, 3000), (4, 4000), (9, 9000), (10, 10000), (11, 10000), (1000, 10000)],
)
def test_a_secondary_sale_costs_1000_then_2000_then_1000_more_each_up_to_10000(
    offence: int, fine: int
) -> None:
    assert in_force(ANNOUNCED).fine(Kind.SECONDARY_SALE, offence) == Decimal(fine)


def test_the_limits_are_those_of_the_announcement() -> None:
    announced = in_force(ANNOUNCED)
    rules = announced.secondary_sale
    assert (rules.rectify_within(Business.REGULAR), rules.rectify_within(Business.IRREGULAR)) == (3, 1)
    assert (rules.pay_within, announced.quarantine.days) == (5, 30)
    assert announced.fraud.pay_within == 5
    assert announced.service_failure.serve_within == 3


@pytest.mark.parametrize("offence", [1, 2, 1000])
def test_a_fraud_costs_30000_for_each_number_whatever_the_offence(offence: int) -> None:
    assert in_force(ANNOUNCED).fine(Kind.FRAUD, offence) == Decimal(30000)


def test_a_service_failure_is_not_fined() -> None:
    with pytest.raises(LookupError, match="service-failure"):
        in_force(ANNOUNCED).fine(Kind.SERVICE_FAILURE, 1)


def test_offences_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="not 0"):
        in_force(ANNOUNCED).fine(Kind.SECONDARY_SALE, 0)


@given(
    amounts=st.lists(st.integers(1, 10**6), min_size=3, max_size=3).map(sorted),
    each_further=st.integers(1, 10**6),
    offence=st.integers(1, 100),
)
def test_no_policy_lets_a_fine_fall_with_a_further_offence_or_pass_its_ceiling(
    amounts: list[int], each_further: int, offence: int
) -> None:
    first, second, ceiling = amounts
    schedule = FineSchedule(first=first, second=second, each_further=each_further, ceiling=ceiling)
    assert first <= schedule.amount(offence) <= schedule.amount(offence + 1) <= ceiling


@pytest.mark.parametrize(
    ("instead_of", "put", "named"),
    [
        ("first = 1000", "first = 3000", r"secondary_sale\.fine\n.*must not fall"),
        ("second = 2000", "second = 20000", r"secondary_sale\.fine\n.*must not fall"),
        ("each_further = 1000", "each_further = -1000", r"secondary_sale\.fine\.each_further"),
        ("fine_per_number = 30000", "fine_per_number = 0", r"fraud\.fine_per_number"),
        ("pay_within = 5          # 1.3", "pay_within = -5", r"fraud\.pay_within"),
        ("pay_within = 5          # 2.4", "pay_within = -5", r"secondary_sale\.pay_within"),
        ("serve_within = 3", "serve_within = 0", r"service_failure\.serve_within"),
        ("renewal_notice = 30", "renewal_notice = -30", r"service_failure\.renewal_notice"),
        ("rectify_irregular = 1", "rectify_irregular = 0", r"secondary_sale\.rectify_irregular"),
        ("rectify_regular = 3", "rectify_regular = 3\nrectify_some = 2", r"secondary_sale\.rectify_some"),
        ("ceiling = 10000", "", r"secondary_sale\.fine\.ceiling"),
        ("days = 30", "days = 30.5", r"quarantine\.days"),
        ("days = 30", "days = true", r"quarantine\.days"),
        ("days = 30", 'days = "30"', r"quarantine\.days"),
        ("serve_within = 3", "serve_within = 3000", r"service_failure\.serve_within"),
        ("effective = 2017-02-16", "effective = 2017-02-16T00:00:00Z", "effective"),
        ("effective = 2017-02-16", 'effective = "soon"', "effective"),
        ("[clock]", "[clock", "line 5"),
    ],
)
def test_a_bad_policy_is_refused_and_what_is_wrong_is_named(instead_of: str, put: str, named: str) -> None:
    assert instead_of in SHIPPED
    with pytest.raises(ValueError, match=named):
        load(SHIPPED.replace(instead_of, put, 1))


@pytest.mark.parametrize(
    ("instead_of", "put", "said"),
    [
        ("", "", []),
        (
            "first = 1000",
            "first = 3000",
            ["secondary_sale.fine: a fine must not fall with a further offence: first ≤ second ≤ ceiling"],
        ),
        ("pay_within = 5", "pay_within = 0", ["fraud.pay_within: must be at least 1, not 0"]),
        (
            "ceiling = 10000",
            "ceiling = 100_000_000",
            ["secondary_sale.fine.ceiling: must be at most 10000000, not 100000000"],
        ),
        ("first = 1000", "", ["secondary_sale.fine.first: is missing"]),
        ("[quarantine]", "[quarantin]", ["quarantine: is missing", "quarantin: is not known"]),
        ("[quarantine]", "[[quarantine]]", ["quarantine: must be a section"]),
        ("days = 30", "days = 30.5", ["quarantine.days: must be a whole number, not 30.5"]),
        ("effective = 2017-02-16", "effective = 3", ["effective: must be a day such as 2027-01-01, not 3"]),
        (
            "[clock]",
            "[clock",
            ["not readable as TOML: Expected ']' at the end of a table declaration (at line 5, column 7)"],
        ),
    ],
)
def test_every_fault_of_a_draft_is_named_with_its_key_in_words(
    instead_of: str, put: str, said: list[str]
) -> None:
    assert faults(SHIPPED.replace(instead_of, put, 1)) == said


def test_all_faults_of_a_draft_are_named_at_once() -> None:
    draft = SHIPPED.replace("days = 30", "days = -1").replace("serve_within = 3", "serves_within = 3")
    assert faults(draft) == [
        "service_failure.serve_within: is missing",
        "service_failure.serves_within: is not known",
        "quarantine.days: must be at least 1, not -1",
    ]


def test_the_values_of_a_policy_are_those_of_its_file_in_their_order() -> None:
    values = in_force(ANNOUNCED).values()
    assert list(values)[:2] == ["effective", "clock.spread_minutes"]
    assert (values["effective"], values["secondary_sale.fine.second"]) == (ANNOUNCED, 2000)


@given(st.integers(1, 99_999), st.integers(1, 60))
def test_a_case_looks_at_its_deadline_within_the_spread_after_midnight_never_before(
    serial: int, minutes: int
) -> None:
    spread = Clock(spread_minutes=minutes).spread(f"SS-2026-{serial:05}")
    assert timedelta() <= spread < timedelta(minutes=minutes)


def test_cases_are_spread_evenly() -> None:
    clock = in_force(ANNOUNCED).clock
    minutes = Counter(clock.spread(f"SS-2026-{serial:05}").seconds // 60 for serial in range(10_000))
    assert set(minutes) == set(range(10))
    assert max(minutes.values()) < 1.2 * min(minutes.values())


def test_nothing_was_punishable_before_the_first_policy() -> None:
    with pytest.raises(LookupError, match="2017-02-15"):
        in_force(date(2017, 2, 15))


def test_a_policy_is_in_force_from_its_day_until_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(SHIPPED)
    second = first.model_copy(update={"effective": date(2027, 1, 1)})
    published: Callable[[], tuple[Policy, ...]] = lambda: (first, second)  # noqa: E731
    monkeypatch.setattr(policy, "published", published)
    assert in_force(date(2026, 12, 31)) is first
    assert in_force(date(2027, 1, 1)) is second


def test_a_policy_file_is_named_by_the_day_on_which_it_takes_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "2018-01-01.toml").write_text(SHIPPED, "utf-8")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="2018-01-01"):
        policy.published.__wrapped__()
