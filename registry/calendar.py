"""The working calendar as the registry knows it."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.models import CalendarDay
from rulebook.working_days import Calendar


def calendar(session: Session) -> Calendar:
    """China's public calendar with the arrangements and closing days on record (rulebook 4.2)."""
    days = session.scalars(select(CalendarDay)).all()
    return Calendar(
        arranged={d.day: d.works for d in days if not d.closing},
        closing=frozenset(d.day for d in days if d.closing),
    )
