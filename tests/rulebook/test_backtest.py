"""What a draft would have made of the cases on record, as stories with dates (rulebook 5.4)."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulebook.backtest import Act, Backtest, CaseFacts, Change, Deed, Outcome, Totals, backtest
from rulebook.policy import Policy, in_force
from rulebook.vocabulary import SHANGHAI, Business, Kind, Stage
from rulebook.working_days import Calendar
from tests.world import shanghai

ANNOUNCED = in_force(date(2026, 3, 1))
SALE, FRAUD, SERVICE = Kind.SECONDARY_SALE, Kind.FRAUD, Kind.SERVICE_FAILURE
RECTIFIED, SETTLED = Outcome(stage=Stage.RECTIFIED), Outcome(stage=Stage.SETTLED)


def a_draft(**changed: int) -> Policy:
    """The announced policy with other values: `sale_pay_within=2`, `sale_fine_first=500`."""
    sections: dict[str, dict[str, Any]] = {
        "secondary_sale": ANNOUNCED.secondary_sale.model_dump(),
        "fraud": ANNOUNCED.fraud.model_dump(),
        "service_failure": ANNOUNCED.service_failure.model_dump(),
    }
    for name, value in changed.items():
        section, _, key = name.partition("_")
        values = sections[{"sale": "secondary_sale", "service": "service_failure"}.get(section, section)]
        values, key = (
            (values["fine"], key[5:]) if key.startswith("fine_") and section == "sale" else (values, key)
        )
        assert key in values
        values[key] = value
    return Policy.model_validate(ANNOUNCED.model_dump() | sections)


def did(day: str, deed: Deed, at: str = "10:00", amount: int = 0, working_days: int = 0) -> Act:
    return Act(at=shanghai(day, at), deed=deed, amount=Decimal(amount), working_days=working_days)


def a_case(opened: str, *acts: Act, serial: int = 1, kind: Kind = SALE, **said: Any) -> CaseFacts:
    """A case whose first notice was served when it was opened, a secondary sale if nothing else is said."""
    at = shanghai(opened)
    begins = Stage.PAYMENT if kind is FRAUD else Stage.RECTIFICATION
    facts: dict[str, Any] = {
        "case_no": f"{kind.prefix}-2026-{serial:05}",
        "kind": kind,
        "agent": "A1",
        "number": f"40080000{serial:02}",
        "business": Business.REGULAR,
        "opened_at": at,
        "served": {begins: at},
        "acts": acts,
        "on_record": RECTIFIED,
    }
    return CaseFacts(**facts | said)


def played(
    draft: Policy,
    *record: CaseFacts,
    since: str = "2026-03-01",
    until: str = "2026-12-31",
    as_of: str = "2026-12-31",
) -> Backtest:
    days = date.fromisoformat(since), date.fromisoformat(until)
    return backtest(draft, Calendar(), record, *days, shanghai(as_of))


def under(draft: Policy, *record: CaseFacts, **said: str) -> Outcome:
    """What the draft makes of the last of these cases."""
    result = {case.case_no: case for case in played(draft, *record, **said).cases}[record[-1].case_no]
    assert result.under_draft
    return result.under_draft


# The limits of the draft

RECTIFIES_ON_THE_LAST_DAY = (did("2026-03-05", Deed.RECTIFIED), did("2026-03-06", Deed.PASSED))


def test_a_shorter_limit_fines_whom_the_policy_in_force_gave_time() -> None:
    case = a_case("2026-03-02", *RECTIFIES_ON_THE_LAST_DAY)
    assert under(ANNOUNCED, case) == RECTIFIED
    [result] = played(a_draft(sale_rectify_regular=2), case, as_of="2026-03-06").cases
    assert result.under_draft == Outcome(stage=Stage.PAYMENT, offence=1, fine=Decimal(1000))
    assert (result.change, result.note) == (Change.FINED, "the record does not say how it would have gone on")


def test_a_longer_limit_settles_what_was_paid_too_late() -> None:
    on_record = Outcome(stage=Stage.SHUT_DOWN, offence=1, fine=Decimal(1000))
    case = a_case("2026-03-02", did("2026-03-17", Deed.PAID, amount=1000), on_record=on_record)
    assert under(ANNOUNCED, case).stage is Stage.SHUT_DOWN
    [result] = played(a_draft(sale_pay_within=7), case).cases
    assert result.under_draft == Outcome(stage=Stage.SETTLED, offence=1, fine=Decimal(1000))
    assert result.change is Change.MILDER


def test_an_account_is_shut_down_after_midnight_of_the_last_day_of_the_draft_and_the_spread() -> None:
    # Fined on Thu 5 March, just after midnight: Fri 6, Mon 9 and Tue 10 are three working days.
    case = a_case("2026-03-02")
    draft = a_draft(sale_rectify_regular=2, sale_pay_within=3)
    shut_down = under(draft, case)
    spread = draft.clock.spread(case.case_no)
    assert timedelta() < spread < timedelta(minutes=10)
    assert shut_down.stage is Stage.SHUT_DOWN
    assert shut_down.taken_back_at == shanghai("2026-03-10", "24:00") + spread


def test_irregular_business_follows_its_own_limit() -> None:
    case = a_case("2026-03-02", *RECTIFIES_ON_THE_LAST_DAY, business=Business.IRREGULAR)
    assert under(ANNOUNCED, case, as_of="2026-03-09").stage is Stage.PAYMENT
    assert under(a_draft(sale_rectify_irregular=3), case) == RECTIFIED


def test_what_an_officer_has_not_verified_holds_the_penalty_back_under_the_draft_too() -> None:
    reported = did("2026-03-03", Deed.RECTIFIED)
    draft = a_draft(sale_rectify_regular=1)
    verified = a_case("2026-03-02", reported, did("2026-03-20", Deed.PASSED))
    assert under(draft, verified) == RECTIFIED
    failed = a_case("2026-03-02", reported, did("2026-03-20", Deed.FAILED))
    assert under(draft, failed, as_of="2026-03-21") == Outcome(
        stage=Stage.PAYMENT, offence=1, fine=Decimal(1000)
    )
    assert under(draft, a_case("2026-03-02", reported)).stage is Stage.RECTIFICATION


def test_an_extension_is_added_to_the_limit_that_runs_under_the_draft() -> None:
    extended = did("2026-03-03", Deed.EXTENDED, working_days=2)
    late = did("2026-03-09", Deed.RECTIFIED), did("2026-03-09", Deed.PASSED, "15:00")
    case = a_case("2026-03-02", extended, *late)
    assert under(ANNOUNCED, case) == RECTIFIED
    assert under(a_draft(sale_rectify_regular=2), case).stage is Stage.SHUT_DOWN
    too_late = a_case("2026-03-02", did("2026-03-05", Deed.EXTENDED, working_days=9), *late)
    assert under(a_draft(sale_rectify_regular=2), too_late).offence == 1


@pytest.mark.parametrize(
    ("acts", "last_day"),
    [
        # Of Tue 3 to Thu 5 March, what is left counts on after the day on which the clock goes on.
        ([("03-04", Deed.APPEALED), ("03-18", Deed.DECIDED)], "03-20"),
        ([("03-04", Deed.HELD), ("03-18", Deed.RESUMED)], "03-20"),
        ([("03-02", Deed.APPEALED), ("03-09", Deed.DECIDED)], "03-12"),
        ([("03-03", d) for d in (Deed.HELD, Deed.APPEALED)] + [("03-06", Deed.DECIDED)], "12-31"),
        ([("03-03", d) for d in (Deed.HELD, Deed.APPEALED)] + [("03-06", Deed.RESUMED)], "12-31"),
        ([("03-04", Deed.APPEALED), ("03-05", Deed.EXTENDED), ("03-18", Deed.DECIDED)], "03-20"),
        # A day is left in any case.
        (
            [
                ("03-05", Deed.RECTIFIED),
                ("03-10", Deed.APPEALED),
                ("03-11", Deed.FAILED),
                ("03-12", Deed.DECIDED),
            ],
            "03-13",
        ),
    ],
)
def test_the_clock_stands_still_during_an_appeal_or_hold_and_what_is_left_counts_on(
    acts: list[tuple[str, Deed]], last_day: str
) -> None:
    case = a_case("2026-03-02", *(did(f"2026-{day}", deed, working_days=9) for day, deed in acts))
    assert under(ANNOUNCED, case, as_of=f"2026-{last_day}").stage is Stage.RECTIFICATION
    if last_day != "12-31":
        the_day_after = date.fromisoformat(f"2026-{last_day}") + timedelta(days=1)
        assert under(ANNOUNCED, case, as_of=str(the_day_after)).stage is Stage.PAYMENT


def test_only_an_appeal_stops_a_clock_that_has_not_begun_to_run() -> None:
    served = {Stage.RECTIFICATION: shanghai("2026-03-12")}
    appealed = did("2026-03-10", Deed.APPEALED), did("2026-03-16", Deed.DECIDED)
    held = did("2026-03-10", Deed.HELD), did("2026-03-16", Deed.RESUMED)
    for acts, stage in ((appealed, Stage.RECTIFICATION), (held, Stage.PAYMENT)):
        assert under(ANNOUNCED, a_case("2026-03-02", *acts, served=served), as_of="2026-03-18").stage is stage


def test_a_notice_that_was_served_late_on_record_starts_no_clock_before() -> None:
    case = a_case("2026-03-02", served={Stage.RECTIFICATION: shanghai("2026-03-12")})
    assert under(ANNOUNCED, case, as_of="2026-03-17").stage is Stage.RECTIFICATION
    assert under(ANNOUNCED, case, as_of="2026-03-18").stage is Stage.PAYMENT
    assert under(ANNOUNCED, a_case("2026-03-02", served={})).stage is Stage.RECTIFICATION


def test_a_punishment_notice_is_served_as_on_record_only_if_the_fine_falls_on_the_same_day() -> None:
    served = {Stage.RECTIFICATION: shanghai("2026-03-02"), Stage.PAYMENT: shanghai("2026-03-16")}
    case = a_case("2026-03-02", did("2026-03-06", Deed.FINED, "00:04"), served=served)
    assert under(ANNOUNCED, case, as_of="2026-03-23").stage is Stage.PAYMENT
    assert under(a_draft(sale_rectify_regular=2), case, as_of="2026-03-23").stage is Stage.SHUT_DOWN


# The amounts of the draft


def test_a_lower_fine_is_settled_by_what_was_paid_in_part() -> None:
    paid = did("2026-03-09", Deed.PAID, amount=20_000)
    shut_down = Outcome(stage=Stage.SHUT_DOWN, offence=1, fine=Decimal(30_000))
    case = a_case("2026-03-02", paid, kind=FRAUD, on_record=shut_down)
    assert under(ANNOUNCED, case).stage is Stage.SHUT_DOWN
    assert under(a_draft(fraud_fine_per_number=15_000), case) == Outcome(
        stage=Stage.SETTLED, offence=1, fine=Decimal(15_000)
    )


def test_a_higher_fine_is_not_settled_by_what_was_asked_on_record_and_that_is_said() -> None:
    paid = did("2026-03-09", Deed.PAID, amount=1000)
    on_record = SETTLED.model_copy(update={"offence": 1, "fine": Decimal(1000)})
    [result] = played(a_draft(sale_fine_first=1500), a_case("2026-03-02", paid, on_record=on_record)).cases
    assert result.under_draft and result.under_draft.fine == Decimal(1500)
    assert result.change is Change.SHUT_DOWN
    assert result.note == "it did in time what was asked of it on record"


def test_a_payment_at_the_very_instant_of_the_penalty_counts() -> None:
    case = a_case("2026-03-02", kind=FRAUD)
    shut_down_at = under(ANNOUNCED, case).taken_back_at
    assert shut_down_at
    paid = Act(at=shut_down_at, deed=Deed.PAID, amount=Decimal(30_000))
    assert under(ANNOUNCED, case.model_copy(update={"acts": (paid,)})).stage is Stage.SETTLED


def test_money_that_came_before_the_fine_counts_towards_it() -> None:
    case = a_case("2026-03-02", did("2026-03-03", Deed.PAID, amount=1000))
    assert under(ANNOUNCED, case).stage is Stage.SETTLED


# Several cases of one agent


def test_offences_are_counted_in_the_order_in_which_the_fines_fall_under_the_draft() -> None:
    first = a_case("2026-03-02", did("2026-03-09", Deed.PAID, amount=2000))
    second = a_case("2026-03-03", did("2026-03-09", Deed.PAID, amount=2000), serial=2)
    second = second.model_copy(update={"business": Business.IRREGULAR})
    assert (under(ANNOUNCED, second, first).offence, under(ANNOUNCED, first, second).offence) == (2, 1)
    draft = a_draft(sale_rectify_irregular=3)
    assert (under(draft, second, first).offence, under(draft, first, second).offence) == (1, 2)


def test_an_offence_of_another_kind_or_agent_does_not_count() -> None:
    others = (
        a_case("2026-03-02", serial=1, kind=FRAUD),
        a_case("2026-03-02", serial=2, agent="A2"),
        a_case("2026-03-02", did("2026-03-10", Deed.PAID, amount=1000), serial=3),
    )
    assert under(ANNOUNCED, *others, as_of="2026-03-06").offence == 1


def test_cases_from_before_the_window_stay_as_they_are_on_record() -> None:
    before = a_case("2026-02-24", did("2026-02-28", Deed.FINED, "00:04"), serial=1)
    case = a_case("2026-03-02", serial=2)
    results = played(a_draft(sale_fine_second=2500), before, case, as_of="2026-03-09")
    assert [(result.case_no, result.under_draft) for result in results.cases] == [
        (case.case_no, Outcome(stage=Stage.PAYMENT, offence=2, fine=Decimal(2500)))
    ]
    shut = before.model_copy(update={"acts": (*before.acts, did("2026-03-05", Deed.TAKEN_BACK))})
    assert under(ANNOUNCED, shut, case).stage is Stage.OVERTAKEN
    undone = shut.model_copy(update={"acts": (*shut.acts, did("2026-03-06", Deed.UNDONE))})
    assert under(ANNOUNCED, undone, a_case("2026-03-09", serial=2), as_of="2026-03-13").offence == 1
    unserved = before.model_copy(update={"kind": SERVICE, "acts": (did("2026-03-05", Deed.TAKEN_BACK),)})
    assert under(ANNOUNCED, unserved, case).stage is Stage.SHUT_DOWN


def test_cases_from_after_the_window_stay_as_they_are_on_record() -> None:
    case = a_case("2026-03-02", serial=1, business=Business.REGULAR)
    after = a_case("2026-03-03", did("2026-03-05", Deed.FINED), serial=2, business=Business.IRREGULAR)
    [result] = played(ANNOUNCED, case, after, until="2026-03-02", as_of="2026-03-06").cases
    assert result.under_draft == Outcome(stage=Stage.PAYMENT, offence=2, fine=Decimal(2000))


def test_a_shutdown_under_the_draft_overtakes_the_other_cases_and_their_fines_stay() -> None:
    first = a_case("2026-03-02", serial=1)
    fined = a_case("2026-03-09", kind=FRAUD, serial=2)
    waits = a_case("2026-03-09", did("2026-03-10", Deed.RECTIFIED), did("2026-03-16", Deed.PASSED), serial=3)
    bystander = a_case("2026-03-09", did("2026-03-10", Deed.CONFIRMED), serial=4, agent="A2", kind=SERVICE)
    record = (first, fined, waits, bystander)
    outcomes = [result.under_draft for result in played(ANNOUNCED, *record).cases]
    assert [outcome and (outcome.stage, outcome.fine) for outcome in outcomes] == [
        (Stage.SHUT_DOWN, Decimal(1000)),
        (Stage.OVERTAKEN, Decimal(30_000)),
        (Stage.RECTIFIED, Decimal(0)),
        (Stage.OVERTAKEN, Decimal(0)),
    ]


def test_no_case_is_opened_about_a_number_that_the_draft_has_taken_back() -> None:
    first, later = a_case("2026-03-02", serial=1), a_case("2026-03-16", serial=2)
    failed = a_case("2026-03-02", serial=3, kind=SERVICE, agent="A2")
    about_it = a_case("2026-03-16", serial=4, agent="A2", number=failed.number)
    other = a_case("2026-03-16", did("2026-03-17", Deed.CONFIRMED), serial=5, agent="A2", kind=SERVICE)
    results = {
        result.case_no: result for result in played(ANNOUNCED, first, later, failed, about_it, other).cases
    }
    for case, by in ((later, first), (about_it, failed)):
        result = results[case.case_no]
        assert (result.under_draft, result.change) == (None, Change.NOT_OPENED)
        assert result.note == f"its number would have been taken back before, by {by.case_no}"
    assert results[other.case_no].under_draft == RECTIFIED


def test_a_report_about_a_case_that_is_open_under_the_draft_joins_it_with_what_followed() -> None:
    first = a_case("2026-03-02", did("2026-03-06", Deed.PAID, amount=1000))
    rectified = (did("2026-03-10", deed) for deed in (Deed.RECTIFIED, Deed.PASSED))
    again = a_case("2026-03-09", *rectified, serial=2, number=first.number)
    assert under(ANNOUNCED, again, first).stage is Stage.SETTLED
    [settled, joined] = played(a_draft(sale_rectify_regular=9), first, again).cases
    assert settled.under_draft == RECTIFIED
    assert (joined.under_draft, joined.note) == (None, f"its report would have joined {first.case_no}")


def test_a_report_that_comes_after_the_end_under_the_draft_is_told() -> None:
    case = a_case("2026-03-02", did("2026-03-05", Deed.REPORTED), kind=SERVICE)
    [result] = played(a_draft(service_serve_within=1), case).cases
    assert result.note == "a report that joined it might have opened a further case"


# What officers find is so for what it is


def test_a_dismissed_case_stays_dismissed_and_is_no_offence() -> None:
    dismissed = Outcome(stage=Stage.DISMISSED)
    case = a_case("2026-03-02", did("2026-03-09", Deed.UNDONE), on_record=dismissed)
    other = a_case("2026-03-05", serial=2)
    assert under(a_draft(sale_rectify_regular=1), case) == dismissed
    assert under(ANNOUNCED, case, other, as_of="2026-03-11").offence == 1


def test_a_dismissed_take_back_gives_the_number_back() -> None:
    dismissed = Outcome(stage=Stage.DISMISSED)
    undone = did("2026-03-09", Deed.UNDONE)
    taken = a_case("2026-03-02", undone, kind=SERVICE, on_record=dismissed)
    again = a_case("2026-03-10", number=taken.number, serial=2)
    assert under(ANNOUNCED, taken, again, as_of="2026-03-16").stage is Stage.PAYMENT


def test_an_overturned_case_leaves_nothing_of_what_the_draft_did() -> None:
    overturned = Outcome(stage=Stage.OVERTURNED)
    case = a_case("2026-03-02", did("2026-04-01", Deed.UNDONE), on_record=overturned)
    later = a_case("2026-04-02", serial=2)
    results = played(a_draft(sale_rectify_regular=1), case, later, as_of="2026-04-10")
    assert results.under_draft.accounts_shut_down == 0
    assert [result.under_draft for result in results.cases] == [
        overturned,
        Outcome(stage=Stage.PAYMENT, offence=1, fine=Decimal(1000)),
    ]


def test_a_fine_that_was_lowered_after_an_undoing_is_lowered_to_what_the_draft_asks() -> None:
    paid = did("2026-03-09", Deed.PAID, amount=3000)
    first = a_case("2026-03-02", paid, did("2026-03-10", Deed.UNDONE), serial=1)
    first = first.model_copy(update={"on_record": Outcome(stage=Stage.OVERTURNED)})
    second = a_case("2026-03-03", paid, did("2026-03-11", Deed.LOWERED), serial=2)
    draft = a_draft(sale_fine_first=700, sale_fine_second=900)
    assert under(draft, first, second, as_of="2026-03-10").fine == Decimal(900)
    assert under(draft, first, second) == Outcome(stage=Stage.SETTLED, offence=1, fine=Decimal(700))


def test_a_finding_of_serious_circumstances_closes_the_account_whatever_the_policy() -> None:
    found = did("2026-03-04", Deed.CLOSED_FOR_GOOD)
    fraud = a_case("2026-03-02", found, kind=FRAUD)
    other = a_case("2026-03-02", serial=2)
    after = a_case("2026-03-05", serial=3)
    fined = Outcome(stage=Stage.CLOSED_FOR_GOOD, offence=1, fine=Decimal(40_000))
    results = played(a_draft(fraud_fine_per_number=40_000), fraud, other, after).cases
    assert [result.under_draft for result in results] == [fined, Outcome(stage=Stage.OVERTAKEN), None]


def test_a_finding_of_serious_circumstances_does_not_change_how_a_paid_case_ended() -> None:
    paid = did("2026-03-03", Deed.PAID, amount=30_000), did("2026-03-04", Deed.CLOSED_FOR_GOOD)
    assert under(ANNOUNCED, a_case("2026-03-02", *paid, kind=FRAUD)).stage is Stage.SETTLED


# What comes of it


def test_the_totals_are_those_of_the_cases() -> None:
    fined = Outcome(stage=Stage.SHUT_DOWN, offence=1, fine=Decimal(3000))
    spared = a_case("2026-03-02", *RECTIFIES_ON_THE_LAST_DAY, serial=1, on_record=fined)
    shut = a_case("2026-03-03", serial=2, agent="A2")
    taken = a_case("2026-03-04", serial=3, agent="A3", kind=SERVICE)
    result = played(ANNOUNCED, spared, shut, taken)
    assert result.on_record == Totals(fined=1, yuan=Decimal(3000), accounts_shut_down=1, numbers_taken_back=0)
    assert result.under_draft == Totals(
        fined=1, yuan=Decimal(1000), accounts_shut_down=1, numbers_taken_back=1
    )
    changes = [Change.SPARED, Change.SHUT_DOWN, Change.TAKEN_BACK]
    assert [case.change for case in result.cases] == changes
    assert result.changes == dict.fromkeys(changes, 1)


def test_an_account_that_two_cases_shut_down_counts_once() -> None:
    shut_down = Outcome(stage=Stage.SHUT_DOWN, offence=1, fine=Decimal(1000))
    cases = [a_case("2026-03-02", serial=serial, on_record=shut_down) for serial in (1, 2)]
    assert played(ANNOUNCED, *cases).on_record.accounts_shut_down == 1


def test_a_shutdown_on_another_day_is_a_change() -> None:
    [result] = played(ANNOUNCED, a_case("2026-03-02")).cases
    case = a_case("2026-03-02", on_record=result.under_draft)
    assert [case.change for case in played(ANNOUNCED, case).cases] == [Change.SAME]
    assert [case.change for case in played(a_draft(sale_pay_within=6), case).cases] == [Change.OTHERWISE]


@pytest.mark.parametrize("kind", Kind)
def test_a_case_is_followed_up_to_now_and_no_further(kind: Kind) -> None:
    stages = {FRAUD: Stage.PAYMENT, SALE: Stage.RECTIFICATION, SERVICE: Stage.RECTIFICATION}
    assert under(ANNOUNCED, a_case("2026-03-02", kind=kind), as_of="2026-03-03").stage is stages[kind]


def test_no_case_at_all_gives_no_numbers() -> None:
    result = played(ANNOUNCED)
    assert (len(result.cases), result.under_draft.fined, result.changes) == (0, 0, {})


# Whatever happens

OF_PEOPLE = [
    Deed.REPORTED,
    Deed.RECTIFIED,
    Deed.PASSED,
    Deed.FAILED,
    Deed.CONFIRMED,
    Deed.PAID,
    Deed.EXTENDED,
    Deed.HELD,
    Deed.RESUMED,
    Deed.APPEALED,
    Deed.DECIDED,
]
acts = st.builds(
    lambda hours, deed, amount, days: Act(
        at=shanghai("2026-03-02", "10:00") + timedelta(hours=hours),
        deed=deed,
        amount=Decimal(amount),
        working_days=days,
    ),
    st.integers(0, 24 * 30),
    st.sampled_from(OF_PEOPLE),
    st.sampled_from([500, 2000]),
    st.integers(1, 3),
)
stories = st.lists(acts, max_size=8).map(lambda said: tuple(sorted(said, key=lambda act: act.at)))
records = st.lists(
    st.tuples(st.sampled_from(Kind), st.sampled_from(["2026-03-02", "2026-03-05"]), stories), max_size=6
)


@given(records, st.integers(1, 6), st.integers(1, 6))
def test_no_offence_is_counted_twice_and_no_account_shut_down_twice(
    stories: list[tuple[Kind, str, tuple[Act, ...]]], rectify: int, pay: int
) -> None:
    draft = a_draft(sale_rectify_regular=rectify, sale_pay_within=pay, fraud_pay_within=pay)
    cases = [a_case(day, *acts, serial=n, kind=kind) for n, (kind, day, acts) in enumerate(stories)]
    result = played(draft, *cases)
    outcomes = [(case.kind, case.under_draft) for case in result.cases if case.under_draft]
    for kind in Kind:
        offences = [outcome.offence for of, outcome in outcomes if of is kind and outcome.offence]
        assert sorted(offences) == list(range(1, len(offences) + 1))
    assert sum(outcome.stage is Stage.SHUT_DOWN for _, outcome in outcomes) <= 1
    for case in result.cases:
        if case.under_draft and case.under_draft.taken_back_at:
            assert case.under_draft.taken_back_at.astimezone(SHANGHAI).date() > case.opened_at.date()


@given(st.sampled_from(Kind), stories, st.integers(0, 5), st.integers(0, 5), st.integers(0, 900))
def test_longer_limits_and_lower_fines_never_make_it_worse_for_a_single_case(
    kind: Kind, acts: tuple[Act, ...], rectify: int, pay: int, less: int
) -> None:
    milder = a_draft(
        sale_rectify_regular=3 + rectify,
        sale_pay_within=5 + pay,
        fraud_pay_within=5 + pay,
        service_serve_within=3 + rectify,
        sale_fine_first=1000 - less,
        fraud_fine_per_number=30_000 - less,
    )
    case = a_case("2026-03-02", *acts, kind=kind)
    announced = under(ANNOUNCED, case)
    [result] = played(milder, case.model_copy(update={"on_record": announced})).cases
    assert result.change in (Change.SAME, Change.SPARED, Change.MILDER, Change.OTHERWISE)
