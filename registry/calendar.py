"""The working calendar as the registry knows it, and the files that bring it up to date."""

import csv
import io
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from registry import audit
from registry.importer import Problem, Refused
from registry.models import CalendarDay
from rulebook.vocabulary import OneLine, day_of
from rulebook.working_days import LONGEST_CLOSURE, Calendar, fixed_by_law

_PUBLIC = Calendar()
_LAST_YEAR = 2099  # the moon, and so Spring Festival, is computed as far as this


def calendar(session: Session) -> Calendar:
    """China's public calendar with the arrangements and closing days on record (rulebook 4.2)."""
    days = session.execute(select(CalendarDay.day, CalendarDay.works, CalendarDay.closing)).all()
    return Calendar(
        arranged={day: works for day, works, closing in days if not closing},
        closing=frozenset(day for day, _, closing in days if closing),
    )


class What(StrEnum):
    """What is said of a day: off or worked by the State Council; closing, or open again, by the platform."""

    OFF = "off"
    WORKS = "works"
    CLOSING = "closing"
    OPEN = "open"


def _iso(cell: object) -> object:
    """Let a day through only as a day: a bare number would be taken for seconds since 1970."""
    try:
        day = date.fromisoformat(cell) if isinstance(cell, str) else cell
    except ValueError:
        raise ValueError(f"{cell!r} is no day: write it like 2027-02-08") from None
    if isinstance(day, date) and day.year > _LAST_YEAR:
        raise ValueError(f"{day} is after {_LAST_YEAR}")
    return day


class Day(BaseModel):
    """One line of a calendar file."""

    model_config = ConfigDict(frozen=True)

    day: Annotated[date, BeforeValidator(_iso)]
    what: What
    reason: OneLine

    @property
    def by_platform(self) -> bool:
        """Whether the platform says so, and not the State Council."""
        return self.what in (What.CLOSING, What.OPEN)

    @property
    def key(self) -> tuple[date, bool]:
        """Where it stands in the registry: what either says of a day stands there by itself."""
        return self.day, self.by_platform

    @property
    def works(self) -> bool:
        """Whether the day is worked."""
        return self.what in (What.WORKS, What.OPEN)


COLUMNS = tuple(Day.model_fields)


class Changed(Day):
    """A day that was on record otherwise."""

    before: str


class CalendarImported(audit.Done):
    """What a file changed."""

    added: tuple[Day, ...]
    changed: tuple[Changed, ...]
    unchanged: int


def read(text: str) -> dict[int, Day]:
    """The days of a CSV file by line. Raises `Refused` with all problems at once."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    days: dict[int, Day] = {}
    lines: dict[tuple[date, bool], int] = {}
    problems: list[Problem] = []
    try:
        heading = reader.fieldnames or []
        problems += [Problem(1, column, "column is missing") for column in COLUMNS if column not in heading]
        for cells in reader if not problems else ():
            line = reader.line_num
            if None in cells:
                problems.append(Problem(line, "-", "more cells than columns"))
            try:
                day = Day.model_validate({column: (cells[column] or "").strip() for column in COLUMNS})
            except ValidationError as error:
                problems += [
                    Problem(line, str(e["loc"][0]), e["msg"].removeprefix("Value error, "))
                    for e in error.errors()
                ]
                continue
            if (first := lines.setdefault(day.key, line)) != line:
                problems.append(Problem(line, "day", f"{day.day} stands on line {first} already"))
            days[line] = day
    except csv.Error as error:
        problems.append(Problem(reader.reader.line_num, "-", str(error)))
    if not days and not problems:
        problems.append(Problem(1, "-", "no day follows"))
    if problems:
        raise Refused(problems)
    return days


def load(
    session: Session, days: dict[int, Day], at: datetime, by: str, *, revised: bool = False
) -> CalendarImported:
    """Put the days on record, within the caller's transaction; days that the file doesn't name stay.

    `revised`: the file is right where it contradicts the public calendar or leaves out a public holiday.
    Raises `Refused`.
    """
    # Of two imports at once, each would miss what the other changes.
    session.execute(text("lock table calendar_days in share row exclusive mode"))
    known = {(row.day, row.closing): row for row in session.scalars(select(CalendarDay))}
    news = {line: day for line, day in days.items() if not _on_record(day, known.get(day.key))}
    today = day_of(at)
    problems = [
        Problem(line, "day", f"{day.day} {fault}")
        for line, day in news.items()
        if (fault := _fault(day, known.get(day.key), today, revised))
    ]
    if problems:
        raise Refused(problems)
    added = tuple(day for day in news.values() if day.key not in known)
    changed = tuple(
        Changed(**dict(day), before=_said(known[day.key])) for day in news.values() if day.key in known
    )
    told = f"Calendar imported: {len(added)} days added, {len(changed)} changed"
    imported = CalendarImported(
        line=audit.line(at, by, told), added=added, changed=changed, unchanged=len(days) - len(news)
    )
    if not news:
        return imported
    for day in news.values():
        if day.what is What.OPEN:
            session.delete(known[day.key])
        else:
            row = CalendarDay(day=day.day, closing=day.by_platform, works=day.works, reason=day.reason)
            session.merge(row)
    session.flush()
    after = calendar(session)
    problems = [*([] if revised else _left_out(after, news)), *_closed_too_long(after, news)]
    if problems:
        raise Refused(problems)
    return audit.record(session, None, "calendar-import", imported)


def _on_record(day: Day, row: CalendarDay | None) -> bool:
    if row is None:
        return day.what is What.OPEN or (not day.by_platform and day.works == _known(day) != _plain(day))
    return (row.works, row.reason) == (day.works, day.reason)


def _plain(day: Day) -> bool:
    return day.day.weekday() < 5


def _known(day: Day) -> bool:
    """Whether the day is worked as far as is known without the registry."""
    return _PUBLIC.works(day.day) if _PUBLIC.published(day.day.year) else _plain(day)


def _said(row: CalendarDay) -> str:
    what = What.CLOSING if row.closing else What.WORKS if row.works else What.OFF
    return f"{what} ({row.reason})"


def _fault(day: Day, row: CalendarDay | None, today: date, revised: bool) -> str | None:
    if day.by_platform:
        return "is past" if day.day < today else None
    if day.day.year < today.year:
        return "is of a year that is over"
    if _PUBLIC.published(day.day.year) and day.works != _known(day) and not revised:
        known = "off" if day.works else "worked"
        return f"is {known} by the public calendar, which has this year (--revised prevails over it)"
    if row is None and day.works == _known(day):
        return f"is {'worked' if day.works else 'off'} anyway, being a {day.day:%A}"
    return None


def _left_out(after: Calendar, days: dict[int, Day]) -> Iterator[Problem]:
    """An arrangement must be whole: half of it would pass for all of it, and deadlines come too early."""
    arrangement = Calendar(arranged=after.arranged)
    lines = {day.day.year: line for line, day in reversed(days.items()) if not day.by_platform}
    for year, line in sorted(lines.items()):
        left_out = [
            f"{holiday} {name}" for holiday, name in fixed_by_law(year).items() if arrangement.works(holiday)
        ]
        if left_out:
            what = f"the arrangement of {year} lacks public holidays: {', '.join(left_out)}"
            yield Problem(line, "day", what)


def _closed_too_long(after: Calendar, days: dict[int, Day]) -> Iterator[Problem]:
    named = sorted((day.day, line) for line, day in days.items())
    idle, day = 0, named[0][0] - timedelta(days=LONGEST_CLOSURE)
    while day <= named[-1][0] + timedelta(days=LONGEST_CLOSURE):
        idle = 0 if after.works(day) else idle + 1
        if idle > LONGEST_CLOSURE:
            yield Problem(named[-1][1], "day", f"no day is worked in the year before {day}")
            return
        day += timedelta(days=1)
