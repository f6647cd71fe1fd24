"""The working calendar as the registry knows it (4.2)."""

from datetime import date

from registry.calendar import calendar
from registry.models import CalendarDay
from registry.session import Sessions


def test_the_calendar_knows_the_arrangements_and_closing_days_on_record(on_record: Sessions) -> None:
    off, made_up, closed = date(2026, 3, 3), date(2026, 3, 7), date(2026, 3, 4)
    with on_record.begin() as session:
        session.add_all(
            [
                CalendarDay(day=off, closing=False, works=False, reason="arranged"),
                CalendarDay(day=made_up, closing=False, works=True, reason="arranged"),
                CalendarDay(day=closed, closing=False, works=True, reason="arranged"),
                CalendarDay(day=closed, closing=True, works=False, reason="stocktaking"),
            ]
        )
    with on_record() as session:
        known = calendar(session)
    assert [known.works(day) for day in (off, made_up, closed, date(2026, 3, 5))] == [
        False,
        True,
        False,
        True,
    ]
