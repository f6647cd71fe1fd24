"""Working days, and when a limit of so many of them ends (rulebook 4.1 and 4.2).

Sources: the State Council's yearly arrangement of public holidays with its make-up weekends (through the
`holidays` package, or from the registry where it is newer), and the PRC Civil Code, articles 201 to 203.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import cache, cached_property

import holidays
from holidays.countries.china import ChinaStaticHolidays
from pydantic import BaseModel, ConfigDict

from rulebook.deadlines import Deadline
from rulebook.vocabulary import day_of

_PUBLISHED_YEARS = frozenset(ChinaStaticHolidays.special_public_holidays)
LONGEST_CLOSURE = 366
"""So many days in a row without work end every limit; a calendar with more is a mistake."""


@cache
def _china(year: int) -> tuple[Mapping[date, str], frozenset[date]]:
    """The year's public days off by name, and its make-up weekends."""
    china = holidays.country_holidays("CN", years=year, language="zh_CN")
    return dict(china), frozenset(china.weekend_workdays)


def days_off(year: int) -> Mapping[date, str]:
    """The public calendar's days off, by name; those of a year that is not published are computed."""
    return _china(year)[0]


@cache
def fixed_by_law(year: int) -> Mapping[date, str]:
    """The public holidays of an unpublished year that its arrangement will not change, by name."""
    return dict(holidays.country_holidays("CN", years=year, observed=False, language="zh_CN"))


class Calendar(BaseModel):
    """Which days are worked: China's public calendar, what the registry knows beyond it, closing days.

    `arranged` says of single days whether they are worked, as published by the State Council; a year that
    has any such day counts as published. Where the public calendar doesn't have that year yet, what it only
    computes no longer counts. `closing` are the platform's own closing days.
    """

    model_config = ConfigDict(frozen=True)

    arranged: Mapping[date, bool] = {}
    closing: frozenset[date] = frozenset()

    def works(self, day: date) -> bool:
        """Whether `day` is a working day."""
        if day in self.closing:
            return False
        if day in self.arranged:
            return self.arranged[day]
        if day.year in self.arranged_years and day.year not in _PUBLISHED_YEARS:
            return day.weekday() < 5
        off, made_up = _china(day.year)
        return day in made_up or (day.weekday() < 5 and day not in off)

    def published(self, year: int) -> bool:
        """Whether the State Council's arrangement for `year` is known."""
        return year in _PUBLISHED_YEARS or year in self.arranged_years

    @cached_property
    def arranged_years(self) -> frozenset[int]:
        """The years of which the registry has an arrangement."""
        return frozenset(day.year for day in self.arranged)


def deadline(served_at: datetime, working_days: int, calendar: Calendar) -> Deadline:
    """When a limit of N working days ends whose notice was served at an instant (4.1).

    The day of service, in Asia/Shanghai, does not count. Raises `ValueError` for a limit below one day, a
    time without time zone, or a calendar on which no day is worked for a year.
    """
    if working_days < 1:
        raise ValueError(f"a limit is at least one working day, not {working_days}")
    if served_at.tzinfo is None:
        raise ValueError("the time of service needs a time zone")
    day = day_of(served_at)
    years = {day.year}
    counted = idle = 0
    while counted < working_days:
        day += timedelta(days=1)
        years.add(day.year)
        counted, idle = (counted + 1, 0) if calendar.works(day) else (counted, idle + 1)
        if idle > LONGEST_CLOSURE:
            raise ValueError(f"no working day in the year before {day}: check the closing days")
    return Deadline(last_day=day, provisional=not all(calendar.published(year) for year in years))


def working_days(first: date, last: date, calendar: Calendar) -> int:
    """How many days from `first` to `last`, both included, are worked."""
    days = (last - first).days + 1
    return sum(calendar.works(first + timedelta(days=day)) for day in range(days))
