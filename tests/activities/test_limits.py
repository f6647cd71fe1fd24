"""A case that is taken up again: its limit counts anew, and what stands on record is known (rulebook 4)."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.appeals import Appeals, DecideAppeal, FileAppeal
from activities.cases import AddLine, Cases
from activities.channels import Outbox
from activities.limits import (
    DeadlineReckoned,
    Limits,
    ReckonDeadline,
    RestartClock,
    Standing,
    StopClock,
    take_up,
)
from activities.notices import Notices, ServeNotice
from activities.step import Step
from registry import audit
from registry.session import Sessions
from rulebook.vocabulary import Awaiting, NoticeKind
from tests.activities.conftest import OPENED, Steps
from tests.world import an_agent, shanghai

ORDER = f"notice-{NoticeKind.RECTIFICATION_ORDER}"
LATER = shanghai("2026-03-09")


def serve(
    on_record: Sessions, folder: Path, case_no: str, kind: NoticeKind, at: datetime, within: int
) -> date:
    """Serve a notice; the last day of its limit."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, current_attempt_scheduled_time=at.astimezone(UTC))
    order = ServeNotice(case_no=case_no, step=f"notice-{kind}", at=at, kind=kind, working_days=within)
    notices = Notices(on_record, Outbox(folder), "compliance@platform.example", 5)
    served = environment.run(notices.serve_notice, order)
    assert served.deadline
    return served.deadline.last_day


@pytest.fixture
def case_no(on_record: Sessions, steps: Steps, tmp_path: Path) -> str:
    """A case whose agent has 3 working days to rectify, with Spring Festival in between."""
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    assert serve(on_record, tmp_path, case_no, NoticeKind.RECTIFICATION_ORDER, OPENED, 3) == date(2026, 2, 24)
    return case_no


def reckoned(on_record: Sessions, case_no: str, at: datetime = LATER) -> DeadlineReckoned:
    return Limits(on_record).reckon_deadline(ReckonDeadline(case_no=case_no, step=ORDER, at=at))


def standing(on_record: Sessions, case_no: str) -> dict[str, Standing]:
    return {one.what: one for one in reckoned(on_record, case_no).standing}


def add(on_record: Sessions, case_no: str, step: str, text: str, **waits: Awaiting) -> None:
    Cases(on_record).add_line(AddLine(case_no=case_no, step=step, at=OPENED, by="李敏", text=text, **waits))


def taken_up(on_record: Sessions, case_no: str, run: str = "run") -> None:
    with on_record.begin() as session:
        order = Step(case_no=case_no, step=f"taken-up-{run}", at=LATER, by="李敏")
        take_up(session, order, "Taken up again from the record")


def test_a_case_that_is_taken_up_again_has_its_full_limit_from_then(
    on_record: Sessions, case_no: str
) -> None:
    taken_up(on_record, case_no)
    found = reckoned(on_record, case_no)
    assert found.deadline.last_day == date(2026, 3, 12)
    assert [(one.what, one.step) for one in found.standing] == [("anew", "taken-up-run")]
    taken_up(on_record, case_no)
    with on_record() as session:
        told = [line.text for line in audit.trail(session, case_no)]
    assert told.count("Taken up again from the record: limit ends 2026-03-12 24:00 (Asia/Shanghai)") == 1


def test_a_clock_that_stands_still_goes_on_to_when_its_case_is_taken_up_again(
    on_record: Sessions, case_no: str
) -> None:
    stop = StopClock(case_no=case_no, step="clock-1", at=OPENED, notice_step=ORDER, why="held")
    left = Limits(on_record).stop_clock(stop).working_days
    taken_up(on_record, case_no)
    restart = RestartClock(case_no=case_no, step="clock-2", at=LATER, notice_step=ORDER, why="resumed")
    assert left == 3
    assert Limits(on_record).restart_clock(restart).deadline.last_day == date(2026, 3, 12)


def test_how_often_the_clock_was_moved_is_known_so_that_no_move_is_taken_for_an_earlier_one(
    on_record: Sessions, case_no: str
) -> None:
    limits = Limits(on_record)
    stop = {"case_no": case_no, "at": OPENED, "notice_step": ORDER, "why": "held"}
    limits.stop_clock(StopClock(step="clock-1", **stop))
    assert reckoned(on_record, case_no).taken.clock_moves == 0
    limits.restart_clock(RestartClock(step="clock-2", **stop))
    assert reckoned(on_record, case_no).taken.clock_moves == 2
    limits.stop_clock(StopClock(step="clock-3", **stop))
    assert reckoned(on_record, case_no).taken.clock_moves == 2


def test_a_hold_stands_until_it_is_resumed(on_record: Sessions, case_no: str) -> None:
    assert standing(on_record, case_no) == {}
    add(on_record, case_no, "hold-1", "Case held: flood")
    assert standing(on_record, case_no)["held"] == Standing(what="held", step="hold-1", why="flood")
    add(on_record, case_no, "resume-1", "Case resumed")
    assert standing(on_record, case_no) == {}


def test_an_appeal_stands_until_it_is_decided(on_record: Sessions, case_no: str) -> None:
    appeals = Appeals(on_record)
    appeals.file_appeal(FileAppeal(case_no=case_no, step="appeal-1", at=OPENED, by="陈静", statement="不实"))
    assert standing(on_record, case_no)["appeal"].step == "appeal-1"
    appeals.decide_appeal(
        DecideAppeal(case_no=case_no, step="decide-1", at=OPENED, by="张伟", upheld=True, reasons="已复核")
    )
    assert standing(on_record, case_no) == {}


def test_a_rectification_stands_until_it_is_verified_and_then_its_verification(
    on_record: Sessions, case_no: str
) -> None:
    waits = Awaiting.VERIFICATION
    add(on_record, case_no, "rectification-1", "Rectification reported", begins=waits)
    assert standing(on_record, case_no)["rectification"].step == "rectification-1"
    add(on_record, case_no, "verify-1", "Verification failed: still in use", ends=waits)
    assert standing(on_record, case_no) == {}
    add(on_record, case_no, "rectification-2", "Rectification reported", begins=waits)
    add(on_record, case_no, "verify-2", "Verification passed", ends=waits)
    assert standing(on_record, case_no).keys() == {"verified"}


def test_nothing_stands_in_a_limit_that_was_followed_by_another(
    on_record: Sessions, case_no: str, steps: Steps, tmp_path: Path
) -> None:
    add(on_record, case_no, "hold-1", "Case held: flood")
    steps.fine(case_no)
    serve(on_record, tmp_path, case_no, NoticeKind.PUNISHMENT, LATER, 5)
    assert reckoned(on_record, case_no).standing == ()
