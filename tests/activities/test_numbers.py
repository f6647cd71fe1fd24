"""Rulebook 2.5 and 5.3: numbers are taken back into quarantine."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import select

from registry.models import Number
from registry.session import Sessions
from rulebook.vocabulary import NumberStatus
from tests.activities.conftest import Steps
from tests.registry.conftest import at_once
from tests.world import an_agent, shanghai


def numbers(on_record: Sessions) -> dict[str, Number]:
    with on_record() as session:
        return {number.number: number for number in session.scalars(select(Number))}


@pytest.mark.parametrize(
    ("at", "until"),
    [
        (shanghai("2026-03-10", "00:05"), date(2026, 4, 9)),
        (shanghai("2026-02-12", "23:59"), date(2026, 3, 14)),
        (datetime(2026, 3, 31, 15, 59, tzinfo=UTC), date(2026, 4, 30)),
        (datetime(2026, 3, 31, 16, 0, tzinfo=UTC), date(2026, 5, 1)),
    ],
)
def test_reclaimed_numbers_rest_for_30_days_of_shanghai(
    on_record: Sessions, steps: Steps, at: datetime, until: date
) -> None:
    held = an_agent(on_record, numbers=3)
    case_no = steps.open(held[1]).case_no
    first, again = steps.reclaim(case_no, at), steps.reclaim(case_no, shanghai("2026-06-01"))
    assert first == again
    assert (first.numbers, first.quarantined_until) == (tuple(sorted(held)), until)
    assert {(n.status, n.quarantined_until, n.reclaimed_by) for n in numbers(on_record).values()} == {
        (NumberStatus.QUARANTINED, until, case_no)
    }


def test_the_numbers_of_other_agents_stay_theirs(on_record: Sessions, steps: Steps) -> None:
    [number], [innocent] = an_agent(on_record), an_agent(on_record)
    steps.reclaim(steps.open(number).case_no)
    assert numbers(on_record)[innocent].status is NumberStatus.ACTIVE


def test_a_number_is_taken_back_by_one_case_though_two_come_at_once(
    on_record: Sessions, steps: Steps
) -> None:
    held = an_agent(on_record, numbers=4)
    case_nos = [steps.open(number).case_no for number in held[:2]]
    taken = at_once(
        on_record, select(Number), *(lambda case_no=case_no: steps.reclaim(case_no) for case_no in case_nos)
    )
    assert sorted(len(one.numbers) for one in taken) == [0, 4]
    [last] = [one for one in taken if not one.numbers]
    assert last.line.text == "No numbers were left to take back"
    assert len({number.reclaimed_by for number in numbers(on_record).values()}) == 1


def test_a_number_in_quarantine_already_keeps_its_day(on_record: Sessions, steps: Steps) -> None:
    first, second = an_agent(on_record, numbers=2)
    case_nos = [steps.open(number).case_no for number in (first, second)]
    steps.reclaim(case_nos[0], shanghai("2026-03-02"))
    steps.reclaim(case_nos[1], shanghai("2026-03-20"))
    assert {n.quarantined_until for n in numbers(on_record).values()} == {date(2026, 4, 1)}
