"""Which open cases move once the calendar has changed (rulebook 4.2, 4.3)."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from activities.calendars import Calendars, Moved, OpenCases
from registry.calendar import calendar
from registry.models import CalendarDay, Case, Notice
from registry.session import Sessions
from rulebook.vocabulary import Kind, NoticeKind, Stage
from rulebook.working_days import deadline
from tests.activities.conftest import Steps
from tests.world import an_agent, shanghai

NOW = shanghai("2039-03-01")
# Tuesday 1 March: three working days end on Friday the 4th. Assumed: Wednesday is off, made up on Saturday.
PUBLISHED = {"2039-03-02": False, "2039-03-05": True}


@dataclass(frozen=True)
class Docket:
    """Open cases with limits that run."""

    on_record: Sessions
    steps: Steps

    def case(self, served: str | None = "2039-03-01", days: int = 3, **limit: Any) -> str:
        """Open a case whose agent has so many working days, as the calendar of now has them."""
        [number] = an_agent(self.on_record)
        case_no = self.steps.open(number).case_no
        self.limit(case_no, served, days, **limit)
        return case_no

    def limit(self, case_no: str, served: str | None, days: int | None, **more: Any) -> None:
        at = shanghai(served or "2039-03-01")
        with self.on_record.begin() as session:
            notices = session.query(Notice).filter_by(case_no=case_no).count()
            ends = deadline(more.get("counted_from") or at, days, calendar(session)) if days else None
            session.add(
                Notice(
                    notice_no=f"{case_no}-N{notices + 1}",
                    case_no=case_no,
                    step=f"notice-{notices + 1}",
                    kind=NoticeKind.RECTIFICATION_ORDER,
                    recipient="a@agent.example",
                    content=b"",
                    sha256="0" * 64,
                    drafted_at=at,
                    served_at=at if served else None,
                    working_days=days,
                    last_day=ends.last_day if ends else None,
                    provisional=bool(ends and ends.provisional),
                    **more,
                )
            )

    def arrange(self, days: dict[str, bool], *, closing: bool = False) -> None:
        with self.on_record.begin() as session:
            session.add_all(
                CalendarDay(day=date.fromisoformat(day), closing=closing, works=works, reason="x")
                for day, works in days.items()
            )

    def moved(self, limit: int = 500) -> dict[str, Moved]:
        """The cases that move, page by page, each looked at once."""
        looked_at, moved = 0, dict[str, Moved]()
        after: str | None = ""
        while after is not None:
            order = OpenCases(at=NOW, after=after, limit=limit)
            page = Calendars(self.on_record).moved_deadlines(order)
            assert page.looked_at <= limit
            moved |= {case.case_no: case for case in page.moved}
            looked_at, after = looked_at + page.looked_at, page.after
        with self.on_record() as session:
            assert looked_at == session.query(Case).filter_by(closed_at=None).count()
        return moved


@pytest.fixture
def docket(on_record: Sessions, steps: Steps) -> Docket:
    return Docket(on_record, steps)


def test_a_deadline_in_a_year_that_is_published_moves_later_and_becomes_firm(docket: Docket) -> None:
    case_no = docket.case()
    docket.arrange(PUBLISHED)
    [moved] = docket.moved().values()
    assert (moved.case_no, moved.later, moved.firm) == (case_no, True, True)
    with docket.on_record() as session:
        assert moved.workflow_id == session.get_one(Case, case_no).workflow_id


def test_a_deadline_that_would_come_earlier_stays_and_becomes_firm(docket: Docket) -> None:
    case_no = docket.case("2039-03-04")
    docket.arrange({"2039-03-05": True})
    [moved] = docket.moved().values()
    assert (moved.case_no, moved.later, moved.firm) == (case_no, False, True)


def test_a_deadline_that_moves_into_a_year_not_yet_published_is_listed_too(docket: Docket) -> None:
    docket.arrange({"2039-12-30": False})
    case_no = docket.case("2039-12-28", 1)
    docket.arrange({"2039-12-29": False}, closing=True)
    [moved] = docket.moved().values()
    assert (moved.case_no, moved.later, moved.firm) == (case_no, True, False)


def test_a_case_whose_deadline_does_not_move_is_not_listed(docket: Docket) -> None:
    docket.case(days=2)
    moves = docket.case(days=3)
    docket.arrange({"2039-03-04": False, "2039-03-12": False}, closing=True)
    assert docket.moved().keys() == {moves}


def test_only_the_limit_that_runs_counts(docket: Docket) -> None:
    case_no = docket.case("2039-03-01", 3)
    docket.limit(case_no, "2039-03-02", 1)
    docket.limit(case_no, "2039-03-02", None)
    docket.limit(case_no, None, 30)
    docket.arrange({"2039-03-04": False}, closing=True)
    assert docket.moved() == {}


@pytest.mark.parametrize(
    ("limit", "moves"),
    [
        ({}, True),
        ({"stopped_at": shanghai("2039-03-01")}, False),
        ({"served": None}, False),
        ({"counted_from": shanghai("2039-03-03")}, False),
        ({"served": "2039-02-01", "counted_from": shanghai("2039-03-01")}, True),
        ({"served": "2039-02-23"}, False),
    ],
)
def test_a_clock_that_stands_has_run_out_or_has_not_begun_moves_nothing(
    docket: Docket, limit: dict[str, Any], moves: bool
) -> None:
    case_no = docket.case(**limit)
    docket.arrange({"2039-02-25": False, "2039-03-02": False}, closing=True)
    assert docket.moved().keys() == ({case_no} if moves else set())


def test_a_case_that_has_ended_is_not_looked_at(docket: Docket) -> None:
    ended, runs = docket.case(), docket.case()
    docket.steps.close(ended, Stage.RECTIFIED)
    docket.arrange({"2039-03-02": False}, closing=True)
    assert docket.moved().keys() == {runs}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_every_open_case_is_looked_at_once_whatever_the_size_of_a_page(docket: Docket, limit: int) -> None:
    moving = {docket.case(), docket.case(), docket.case(days=4)}
    for kind in (Kind.FRAUD, Kind.SERVICE_FAILURE):
        docket.steps.open(an_agent(docket.on_record)[0], kind=kind)
        docket.case(days=1)
    docket.arrange({"2039-03-04": False}, closing=True)
    assert docket.moved(limit).keys() == moving


def test_looking_changes_nothing(docket: Docket) -> None:
    docket.case()
    docket.arrange(PUBLISHED)
    assert docket.moved() == docket.moved() != {}
