"""Rulebook 4.1 to 4.3: working days and deadlines."""

from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta

import pytest
from chinese_calendar import is_workday
from hypothesis import given
from hypothesis import strategies as st

from rulebook.deadlines import Deadline, later
from rulebook.vocabulary import SHANGHAI
from rulebook.working_days import Calendar, days_off, deadline, fixed_by_law
from tests.world import shanghai

KNOWN = [date(2010, 1, 1) + timedelta(days=n) for n in range((date(2027, 1, 1) - date(2010, 1, 1)).days)]
WORKED = [day for day in KNOWN if is_workday(day)]
UNPUBLISHED = next(year for year in range(2026, 2100) if not Calendar().published(year))

days_of_2026 = st.dates(date(2026, 1, 1), date(2026, 12, 31))
calendars = st.builds(
    Calendar,
    arranged=st.dictionaries(days_of_2026, st.booleans(), max_size=40),
    closing=st.frozensets(days_of_2026, max_size=40),
)
limits = st.integers(1, 60)


def moments(first: str, last: str) -> st.SearchStrategy[datetime]:
    seconds = st.integers(int(shanghai(first).timestamp()), int(shanghai(last).timestamp()))
    return st.builds(datetime.fromtimestamp, seconds, st.timezones())


def test_a_day_is_worked_exactly_when_the_state_council_arranged_so() -> None:
    calendar = Calendar()
    assert [day for day in KNOWN if calendar.works(day)] == WORKED
    assert all(calendar.published(year) for year in range(2010, 2027))


@given(moments("2010-01-01", "2026-09-01"), limits)
def test_a_limit_ends_where_a_plain_count_of_the_days_worked_ends(served: datetime, limit: int) -> None:
    last_day = WORKED[bisect_right(WORKED, served.astimezone(SHANGHAI).date()) + limit - 1]
    assert deadline(served, limit, Calendar()) == Deadline(last_day=last_day)


@pytest.mark.parametrize(
    ("served", "limit", "last_day"),
    [
        # Spring Festival 2026: off from 15 to 23 February, made up on Saturdays 14 and 28 February.
        ("2026-02-12", 3, "2026-02-24"),
        ("2026-02-13", 3, "2026-02-25"),
        ("2026-02-13", 5, "2026-02-27"),
        ("2026-02-13", 6, "2026-02-28"),
        ("2026-02-14", 1, "2026-02-24"),
        ("2026-02-18", 1, "2026-02-24"),
        # National Day 2026: off from 1 to 7 October, made up on Sunday 20 September and Saturday 10 October.
        ("2026-09-18", 1, "2026-09-20"),
        ("2026-09-18", 3, "2026-09-22"),
        ("2026-09-30", 3, "2026-10-10"),
        ("2026-09-30", 5, "2026-10-13"),
        # An ordinary week; "at once" is one working day.
        ("2026-03-02", 1, "2026-03-03"),
        ("2026-03-06", 1, "2026-03-09"),
        ("2026-03-02", 5, "2026-03-09"),
    ],
)
def test_a_limit_counts_over_holidays_and_make_up_days(served: str, limit: int, last_day: str) -> None:
    ends = deadline(shanghai(served), limit, Calendar())
    assert (ends.last_day.isoformat(), ends.at, ends.provisional) == (
        last_day,
        shanghai(last_day, "24:00"),
        False,
    )


@pytest.mark.parametrize(
    ("served", "last_day"),
    [
        (datetime(2026, 3, 2, 15, 59, 59, tzinfo=UTC), date(2026, 3, 3)),
        (datetime(2026, 3, 2, 16, 0, 0, tzinfo=UTC), date(2026, 3, 4)),
        (shanghai("2026-03-02", "00:00"), date(2026, 3, 3)),
        (shanghai("2026-03-02", "23:59:59"), date(2026, 3, 3)),
    ],
)
def test_the_day_of_service_in_shanghai_does_not_count(served: datetime, last_day: date) -> None:
    assert deadline(served, 1, Calendar()).last_day == last_day


def test_a_limit_ends_at_24_00_in_shanghai() -> None:
    ends = Deadline(last_day=date(2026, 2, 25))
    assert ends.at == datetime(2026, 2, 25, 16, tzinfo=UTC)
    assert str(ends) == "2026-02-25 24:00 (Asia/Shanghai)"


def test_a_closing_day_is_not_worked_even_where_the_state_council_says_it_is() -> None:
    day = date(2026, 3, 3)
    calendar = Calendar(arranged={day: True}, closing=frozenset({day}))
    assert deadline(shanghai("2026-03-02"), 1, calendar).last_day == date(2026, 3, 4)


def test_a_newer_arrangement_on_record_prevails_over_the_public_calendar() -> None:
    calendar = Calendar(arranged={date(2026, 3, 3): False, date(2026, 3, 7): True})
    assert deadline(shanghai("2026-03-02"), 4, calendar).last_day == date(2026, 3, 7)


def test_a_deadline_is_provisional_once_it_counts_through_a_year_that_is_not_arranged() -> None:
    served = shanghai(f"{UNPUBLISHED - 1}-12-01")
    within, beyond = (deadline(served, limit, Calendar()) for limit in (1, 40))
    assert not within.provisional
    assert beyond.provisional
    assert beyond.last_day.year == UNPUBLISHED
    assert str(beyond).endswith("24:00 (Asia/Shanghai, provisional)")


def test_an_arrangement_makes_a_provisional_deadline_firm() -> None:
    day = f"{UNPUBLISHED}-03-01"
    promised = deadline(shanghai(day), 3, Calendar())
    arranged = Calendar(arranged={promised.last_day: False})
    computed = deadline(shanghai(day), 3, arranged)
    assert promised.provisional
    assert not computed.provisional
    assert later(promised, computed) == computed
    assert computed.last_day > promised.last_day


def test_an_arrangement_on_record_replaces_what_is_only_computed_of_its_year() -> None:
    computed = [day for day in days_off(UNPUBLISHED) if day.weekday() < 5]
    made_up = date(UNPUBLISHED, 1, 31)
    arranged = Calendar(arranged={made_up: True})
    assert computed
    assert not any(map(Calendar().works, computed))
    assert all(map(arranged.works, [*computed, made_up]))


def test_the_public_holidays_are_those_that_the_law_fixes() -> None:
    assert [f"{day:%m-%d}" for day in sorted(fixed_by_law(2039))] == [
        *("01-01", "01-23", "01-24", "01-25", "01-26", "04-05", "05-01", "05-02", "05-27"),
        *("10-01", "10-02", "10-03"),
    ]
    assert fixed_by_law(2039)[date(2039, 4, 5)] == "清明节"


def test_a_firm_deadline_that_came_out_earlier_leaves_the_promised_day() -> None:
    promised = Deadline(last_day=date(2026, 3, 5), provisional=True)
    holds = later(promised, Deadline(last_day=date(2026, 3, 4)))
    assert holds == Deadline(last_day=date(2026, 3, 5), provisional=False)


@pytest.mark.parametrize(
    ("served", "limit", "closing", "why"),
    [
        (shanghai("2026-03-02").replace(tzinfo=None), 3, frozenset[date](), "time zone"),
        (shanghai("2026-03-02"), 0, frozenset[date](), "not 0"),
        (shanghai("2026-03-02"), -1, frozenset[date](), "not -1"),
        (shanghai("2025-01-02"), 1, frozenset(KNOWN[-729:]), "no working day"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(
    served: datetime, limit: int, closing: frozenset[date], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        deadline(served, limit, Calendar(closing=closing))


@given(moments("2026-01-01", "2026-12-31"), limits, calendars)
def test_a_limit_ends_on_a_day_worked_after_as_many_as_it_says(
    served: datetime, limit: int, calendar: Calendar
) -> None:
    ends = deadline(served, limit, calendar)
    first = served.astimezone(SHANGHAI).date() + timedelta(days=1)
    counted = [first + timedelta(days=n) for n in range((ends.last_day - first).days + 1)]
    assert calendar.works(ends.last_day)
    assert sum(map(calendar.works, counted)) == limit


@given(moments("2026-01-01", "2026-12-31"), limits, calendars, st.timedeltas(timedelta(), timedelta(days=40)))
def test_more_days_or_a_later_service_never_end_a_limit_sooner(
    served: datetime, limit: int, calendar: Calendar, delay: timedelta
) -> None:
    ends = deadline(served, limit, calendar)
    assert deadline(served, limit + 1, calendar).last_day > ends.last_day
    assert deadline(served.astimezone(UTC) + delay, limit, calendar).last_day >= ends.last_day


@given(moments("2026-01-01", "2026-12-31"), limits, calendars, calendars)
def test_a_promised_deadline_never_moves_earlier_and_follows_the_calendar_later(
    served: datetime, limit: int, then: Calendar, now: Calendar
) -> None:
    promised, computed = deadline(served, limit, then), deadline(served, limit, now)
    holds = later(promised, computed)
    assert holds.last_day == max(promised.last_day, computed.last_day)
    assert holds.provisional == computed.provisional
