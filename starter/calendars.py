"""The calendar for officers: a year as it stands, and the walk that brings deadlines to a changed one."""

import asyncio
import csv
import io
from collections.abc import Callable
from datetime import date, datetime, timedelta

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session
from temporalio.client import Client, WorkflowFailureError, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from activities.calendars import OpenCases, moved_deadlines
from registry.calendar import COLUMNS, Day, What, calendar
from registry.models import CalendarDay
from rulebook.working_days import Calendar, days_off
from starter.lookup import away
from starter.settings import Refused, Unreachable
from workflows.calendar import CALENDAR_CHANGED, CalendarChanged, Walk, Walked

_ANSWER_WITHIN = 20  # seconds
_LATER = "The calendar is on record. The open cases follow"


class Year(BaseModel):
    """The days of a year that differ from a plain week; `published_in` is empty for a provisional year."""

    model_config = ConfigDict(frozen=True)

    year: int
    published_in: tuple[str, ...]
    days: tuple[Day, ...]

    def csv(self) -> str:
        """What is certain of the year, as a file that can be imported."""
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            (day.day, day.what, day.reason) for day in self.days if self.published_in or day.by_platform
        )
        return file.getvalue()


def year(session: Session, number: int) -> Year:
    """A year of the calendar as it stands."""
    known, names = calendar(session), days_off(number)
    arranged = Calendar(arranged=known.arranged)
    reasons = {(row.day, row.closing): row.reason for row in session.scalars(select(CalendarDay))}
    days = []
    day = date(number, 1, 1)
    while day.year == number:
        if (works := arranged.works(day)) != (day.weekday() < 5):
            reason = reasons.get((day, False)) or names.get(day) or "调休"
            days.append(Day(day=day, what=What.WORKS if works else What.OFF, reason=reason))
        if day in known.closing:
            days.append(Day(day=day, what=What.CLOSING, reason=reasons[day, True]))
        day += timedelta(days=1)
    sources = {
        "public calendar": Calendar().published(number),
        "registry": number in known.arranged_years,
    }
    published_in = tuple(source for source, has_it in sources.items() if has_it)
    return Year(year=number, published_in=published_in, days=tuple(days))


def foresee(session: Session, at: datetime) -> Walked:
    """What the walk would come to with the calendar as this session has it; no case hears of it."""
    walked, after = Walked(), ""
    while True:
        page = moved_deadlines(session, OpenCases(at=at, after=after, limit=Walk().page))
        walked = walked.further(page.looked_at, page.moved)
        if page.after is None:
            return walked
        after = page.after


async def walk(client: Client, task_queue: str, tell: Callable[[Walked], None]) -> Walked:
    """Bring the open cases to the calendar as it is on record now, and tell how far that has come.

    A walk that goes on from an earlier change is begun anew: the pages behind it have not seen this one.
    Raises `Unreachable` where no worker answers: then it is done when one is back.
    """
    try:
        walking = await client.start_workflow(
            CalendarChanged.run,
            Walk(),
            id=CALENDAR_CHANGED,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            task_queue=task_queue,
            static_summary="The calendar has changed",
        )
    except RPCError as error:
        raise Unreachable(f"{_LATER} with the next daily round: {away(error)}") from error
    clock = asyncio.get_running_loop().time
    ended = asyncio.create_task(walking.result())
    newest, heard = client.get_workflow_handle(CALENDAR_CHANGED), clock()
    try:
        while not (await asyncio.wait([ended], timeout=1))[0]:
            if (left := heard + _ANSWER_WITHIN - clock()) <= 0:
                raise Unreachable(
                    f"{_LATER} when a worker is back: none answers, start one with `enforce up` or "
                    "`enforce worker`"
                )
            try:
                tell(await asyncio.wait_for(newest.query(CalendarChanged.walked), left))
            except (TimeoutError, RPCError, WorkflowQueryFailedError):
                continue
            heard = clock()
        return ended.result()
    except WorkflowFailureError as error:
        raise Refused(
            f"{_LATER} with another import or the next daily round: this walk was ended ({error.cause})"
        ) from error
    finally:
        ended.cancel()
