"""Calendar files: a published arrangement or closing days, all lines or none (4.2)."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from registry.calendar import CalendarImported, Day, What, calendar, load, read
from registry.importer import Refused, decode
from registry.models import AuditLine, CalendarDay
from registry.session import Sessions
from rulebook.working_days import LONGEST_CLOSURE, Calendar
from tests.world import shanghai

SAMPLE = Path(__file__).parent.parent.parent / "samples" / "calendar-2027.csv"
AT = shanghai("2026-11-24")

# Assumed for 2039, whose 1 January, 23 to 26 of it, 5 April, 27 May and 1 to 3 October are public holidays.
HOLIDAYS_2039 = (
    *("2039-01-24,off,春节", "2039-01-25,off,春节", "2039-01-26,off,春节", "2039-01-27,off,春节"),
    *("2039-04-05,off,清明节", "2039-05-02,off,劳动节", "2039-05-27,off,端午节", "2039-10-03,off,国庆节"),
    "2039-01-29,works,春节调休",
)


def a_file(*lines: str) -> str:
    return "\n".join(("day,what,reason", *lines, ""))


def bring_in(on_record: Sessions, *lines: str, revised: bool = False, by: str = "李敏") -> CalendarImported:
    with on_record.begin() as session:
        return load(session, read(a_file(*lines)), AT, by, revised=revised)


def refused(on_record: Sessions, *lines: str) -> list[str]:
    with pytest.raises(Refused) as why:
        bring_in(on_record, *lines)
    return [str(problem) for problem in why.value.problems]


def works(on_record: Sessions, *days: str) -> list[bool]:
    with on_record() as session:
        known = calendar(session)
    return [known.works(date.fromisoformat(day)) for day in days]


def rows(on_record: Sessions) -> int:
    with on_record() as session:
        return len(session.scalars(select(CalendarDay)).all())


def trail(on_record: Sessions) -> list[AuditLine]:
    with on_record() as session:
        return list(session.scalars(select(AuditLine).order_by(AuditLine.id)))


def test_an_arrangement_makes_its_year_published(on_record: Sessions) -> None:
    imported = bring_in(on_record, *HOLIDAYS_2039)
    with on_record() as session:
        assert calendar(session).published(2039)
    assert works(on_record, "2039-01-27", "2039-01-28", "2039-01-29", "2039-01-30") == [
        *(False, True),
        *(True, False),
    ]
    assert (len(imported.added), imported.changed, imported.unchanged) == (9, (), 0)


def test_a_closing_day_does_not_make_its_year_published(on_record: Sessions) -> None:
    bring_in(on_record, "2039-03-08,closing,机房搬迁")
    with on_record() as session:
        assert not calendar(session).published(2039)
    assert works(on_record, "2039-03-08") == [False]


def test_a_file_brought_in_twice_changes_nothing_and_leaves_one_line_in_the_trail(
    on_record: Sessions,
) -> None:
    lines = (*HOLIDAYS_2039, "2039-03-08,closing,机房搬迁")
    bring_in(on_record, *lines)
    again = bring_in(on_record, *lines, by="王静")
    assert (again.added, again.changed, again.unchanged) == ((), (), 10)
    [line] = trail(on_record)
    assert (line.case_no, line.actor, line.at) == (None, "李敏", AT)
    assert line.text == "Calendar imported: 10 days added, 0 changed"


def test_a_day_on_record_otherwise_is_told_with_what_it_was_before(on_record: Sessions) -> None:
    bring_in(on_record, *HOLIDAYS_2039)
    imported = bring_in(on_record, "2039-01-27,works,撤销休息", "2039-01-28,off,春节", HOLIDAYS_2039[0])
    assert [(str(day.day), day.what, day.before) for day in imported.changed] == [
        ("2039-01-27", What.WORKS, "off (春节)")
    ]
    assert (len(imported.added), imported.unchanged) == (1, 1)
    assert works(on_record, "2039-01-26", "2039-01-27", "2039-01-28") == [False, True, False]
    assert trail(on_record)[-1].result["changed"][0]["before"] == "off (春节)"
    assert bring_in(on_record, "2039-01-27,works,撤销休息").unchanged == 1


def test_a_closing_day_that_was_a_mistake_is_taken_back(on_record: Sessions) -> None:
    bring_in(on_record, *HOLIDAYS_2039, "2039-01-29,closing,搬迁")
    assert works(on_record, "2039-01-29") == [False]
    taken_back = bring_in(on_record, "2039-01-29,open,搬迁取消")
    assert taken_back.changed[0].before == "closing (搬迁)"
    assert works(on_record, "2039-01-29") == [True]
    assert bring_in(on_record, "2039-01-29,open,搬迁取消").unchanged == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("2039-03-08,works,x", "2039-03-08 is worked anyway, being a Tuesday"),
        ("2039-03-12,off,x", "2039-03-12 is off anyway, being a Saturday"),
        ("2026-12-01,works,x", "2026-12-01 is worked anyway, being a Tuesday"),
        ("2026-12-01,off,x", "2026-12-01 is worked by the public calendar"),
        ("2026-12-05,works,x", "2026-12-05 is off by the public calendar"),
        ("2026-11-23,closing,x", "2026-11-23 is past"),
        ("2026-11-23,open,x", "2026-11-23 is past"),
        ("2025-12-26,off,x", "2025-12-26 is of a year that is over"),
        (
            "2039-02-01,off,x",
            "the arrangement of 2039 lacks public holidays: 2039-01-24 春节, 2039-01-25 春节",
        ),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_with_its_number(
    on_record: Sessions, line: str, why: str
) -> None:
    with on_record.begin() as session:
        session.add(CalendarDay(day=date(2026, 11, 23), closing=True, works=False, reason="was closed"))
    lines = ("2040-03-08,closing,搬迁", line)
    assert why in "\n".join(refused(on_record, *lines))
    assert all(told.startswith("line 3, column day: ") for told in refused(on_record, *lines))
    assert rows(on_record) == 1
    assert trail(on_record) == []


def test_the_day_itself_may_still_be_a_closing_day(on_record: Sessions) -> None:
    assert bring_in(on_record, "2026-11-24,closing,台风").added


def test_the_public_calendar_says_what_it_has_already(on_record: Sessions) -> None:
    said = bring_in(on_record, "2026-10-01,off,国庆节", "2026-10-10,works,国庆节调休")
    assert said.unchanged == 2
    assert rows(on_record) == 0


def test_a_revised_arrangement_prevails_where_the_officer_says_so(on_record: Sessions) -> None:
    bring_in(on_record, "2026-12-01,off,临时放假", "2026-12-05,works,调休", revised=True)
    assert works(on_record, "2026-12-01", "2026-12-05") == [False, True]
    assert bring_in(on_record, "2039-03-08,off,妇女节", revised=True).added
    assert bring_in(on_record, "2026-12-01,off,临时放假", "2039-03-08,off,妇女节").unchanged == 2


def test_a_closure_in_which_no_limit_would_end_is_refused(on_record: Sessions) -> None:
    days = [date(2038, 12, 29) + timedelta(days=n) for n in range(LONGEST_CLOSURE + 1)]
    closed = [f"{day},closing,停业" for day in days]
    assert refused(on_record, *closed) == [
        f"line {len(days) + 1}, column day: no day is worked in the year before {days[-1]}"
    ]
    first, rest = closed[:183], closed[183:]
    assert bring_in(on_record, *first).added
    assert refused(on_record, *rest)
    assert bring_in(on_record, *rest[:-1]).added


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_a_file_is_read_in_every_encoding_that_a_chinese_office_uses(encoding: str, newline: str) -> None:
    data = a_file(*HOLIDAYS_2039).replace("\n", newline).encode(encoding)
    days = read(decode(data))
    assert days[2] == Day(day=date(2039, 1, 24), what=What.OFF, reason="春节")
    assert list(days) == list(range(2, 11))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [(1, "day"), (1, "what"), (1, "reason")]),
        ("day,what\n2039-01-24,off\n", [(1, "reason")]),
        ("day,what,reason\n\n", [(1, "-")]),
        (a_file("2039/1/24,off,春节", "20390124x,off,春节"), [(2, "day"), (3, "day")]),
        (a_file("2150-01-01,off,元旦", "7788918,off,x"), [(2, "day"), (3, "day")]),
        (a_file("2039-01-24,Off,春节", "2039-01-25,off,"), [(2, "what"), (3, "reason")]),
        (a_file("2039-01-24,off,春节,x", "", "2039-01-25"), [(2, "-"), (4, "what"), (4, "reason")]),
        (a_file("2039-01-24,off,春节", "2039-01-24,works,春节"), [(3, "day")]),
        (a_file("2039-01-24,closing,搬迁", "2039-01-24,open,搬迁"), [(3, "day")]),
        (a_file('2039-01-24,off,"春节'), [(2, "-")]),
    ],
)
def test_every_line_that_cannot_be_read_is_named(text: str, problems: list[tuple[int, str]]) -> None:
    with pytest.raises(Refused) as why:
        read(text)
    assert [(problem.line, problem.column) for problem in why.value.problems] == problems


def test_a_day_may_be_worked_by_arrangement_and_a_closing_day_at_once(on_record: Sessions) -> None:
    assert len(bring_in(on_record, *HOLIDAYS_2039, "2039-01-29,closing,搬迁").added) == 10


def test_the_example_is_an_arrangement_that_can_be_brought_in(on_record: Sessions) -> None:
    days = read(decode(SAMPLE.read_bytes()))
    assert all("示例" in day.reason for day in days.values())
    with on_record.begin() as session:
        load(session, days, AT, "李敏", revised=Calendar().published(2027))
    assert works(on_record, *(str(day.day) for day in days.values())) == [day.works for day in days.values()]


def test_of_two_imports_at_once_the_second_finds_what_the_first_put_on_record(on_record: Sessions) -> None:
    waiting = text("select count(*) from pg_locks where not granted")
    with ThreadPoolExecutor(1) as pool:
        with on_record.begin() as session:
            load(session, read(a_file(*HOLIDAYS_2039)), AT, "李敏")
            second = pool.submit(bring_in, on_record, *HOLIDAYS_2039)
            for _ in range(500):
                if session.scalar(waiting):
                    break
                time.sleep(0.01)  # nothing tells when it waits
        assert second.result().unchanged == len(HOLIDAYS_2039)
