"""The calendar: whose deadline moves once it has changed (rulebook 4.2, 4.3)."""

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select, true
from sqlalchemy.orm import Session
from temporalio import activity

from registry.calendar import calendar
from registry.models import Case, Notice
from registry.session import Sessions
from rulebook.deadlines import Deadline, later
from rulebook.vocabulary import day_of
from rulebook.working_days import deadline


class OpenCases(BaseModel):
    """A page of the open cases, by case number: at most `limit` of those that come after one."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    after: str = ""
    limit: int


class Moved(BaseModel):
    """A case whose deadline is another than its notice says: `later`, or `firm` and no longer provisional."""

    model_config = ConfigDict(frozen=True)

    case_no: str
    workflow_id: str
    later: bool
    firm: bool


class DeadlinesMoved(BaseModel):
    """Those of a page that move, and how many were looked at; `after` asks for the next page, if any."""

    model_config = ConfigDict(frozen=True)

    moved: tuple[Moved, ...]
    looked_at: int
    after: str | None


def moved_deadlines(session: Session, page: OpenCases) -> DeadlinesMoved:
    """Compute the deadlines of a page of open cases anew, from the calendar of now; nothing is changed."""
    cases = (
        select(Case.case_no, Case.workflow_id)
        .where(Case.closed_at.is_(None), Case.case_no > page.after)
        .order_by(Case.case_no)
        .limit(page.limit)
        .subquery()
    )
    limits = (
        select(
            *(Notice.served_at, Notice.counted_from, Notice.stopped_at),
            *(Notice.working_days, Notice.last_day, Notice.provisional),
        )
        .where(
            Notice.case_no == cases.c.case_no,
            Notice.served_at.is_not(None),
            Notice.working_days.is_not(None),
        )
        .order_by(Notice.served_at.desc(), Notice.notice_no.desc())
        .limit(1)
        .lateral()
    )
    rows = session.execute(
        select(cases, limits).join(limits, true(), isouter=True).order_by(cases.c.case_no)
    ).all()
    known, today = calendar(session), day_of(page.at)
    moved = []
    for row in rows:
        if row.last_day is None or row.stopped_at or row.last_day < today:
            continue  # no limit is running
        promised = Deadline(last_day=row.last_day, provisional=row.provisional)
        now = later(promised, deadline(row.counted_from or row.served_at, row.working_days, known))
        if now != promised:
            moved.append(
                Moved(
                    case_no=row.case_no,
                    workflow_id=row.workflow_id,
                    later=now.last_day > promised.last_day,
                    firm=promised.provisional and not now.provisional,
                )
            )
    after = rows[-1].case_no if len(rows) == page.limit else None
    return DeadlinesMoved(moved=tuple(moved), looked_at=len(rows), after=after)


class Calendars:
    """The activities on the calendar."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def moved_deadlines(self, page: OpenCases) -> DeadlinesMoved:
        """Look for the open cases whose deadline moves, or becomes firm or provisional."""
        with self._sessions() as session:
            return moved_deadlines(session, page)
