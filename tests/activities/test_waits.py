"""Rulebook 5.7: what waits for an officer is brought up again, escalated, and shows in the figures."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from sqlalchemy import select

from activities.channels import Channel, Letter, Outbox
from activities.numbers import AsOf
from activities.waits import Waits
from registry import waits
from registry.models import CalendarDay, Wait
from registry.session import Sessions
from rulebook.vocabulary import Awaiting, Kind, written
from tests.activities.conftest import Steps
from tests.conftest import ADDRESSES
from tests.registry.conftest import at_once
from tests.world import an_agent, shanghai, wording


@dataclass
class Counted:
    """A channel that counts what it delivers, and breaks after so many letters."""

    outbox: Outbox
    breaks_after: int = 99
    delivered: list[str] = field(default_factory=list)

    def deliver(self, letter: Letter) -> str:
        receipt = self.outbox.deliver(letter)
        self.delivered.append(letter.name)
        if len(self.delivered) == self.breaks_after:
            raise ConnectionError
        return receipt


@dataclass(frozen=True)
class Desk:
    """What waits for officers, and the mails that they get."""

    on_record: Sessions
    folder: Path

    def begin(self, case_no: str, since: datetime, what: Awaiting = Awaiting.VERIFICATION) -> None:
        with self.on_record.begin() as session:
            waits.begin(session, case_no, what, since)

    def end(self, case_no: str, at: datetime, what: Awaiting = Awaiting.VERIFICATION) -> None:
        with self.on_record.begin() as session:
            waits.end(session, case_no, what, at)

    def bring_up(self, day: str, channel: Channel | None = None) -> int:
        """Bring up what waits too long, on the morning of a day; returns how much that is."""
        order = AsOf(at=shanghai(day, "00:30"))
        return Waits(self.on_record, channel or Outbox(self.folder), ADDRESSES).raise_waits(order)

    def days(self, first: str, last: str) -> list[str]:
        """The days on which something was brought up, of these."""
        day, end = date.fromisoformat(first), date.fromisoformat(last)
        found = []
        while day <= end:
            found += [str(day)] if self.bring_up(str(day)) else []
            day += timedelta(days=1)
        return found

    def on_file(self) -> list[tuple[int, date | None, date | None]]:
        with self.on_record() as session:
            rows = session.scalars(select(Wait).order_by(Wait.id))
            return [(row.raised, row.raised_on, row.escalated_on) for row in rows]

    def mail(self, name: str) -> EmailMessage:
        return message_from_bytes((self.folder / f"{name}.eml").read_bytes(), policy=policy.default)

    def mails(self) -> list[str]:
        return sorted(file.stem for file in self.folder.iterdir())


@pytest.fixture
def desk(on_record: Sessions, tmp_path: Path) -> Desk:
    return Desk(on_record, tmp_path)


@pytest.fixture
def held(on_record: Sessions) -> list[str]:
    """The numbers of an agent."""
    return an_agent(on_record, numbers=2, agent_id="A7", name="甲通信有限公司")


@pytest.fixture
def case_no(steps: Steps, held: list[str]) -> str:
    return steps.open(held[0]).case_no


@pytest.mark.parametrize(
    ("since", "until", "brought_up"),
    [
        (shanghai("2026-03-02"), "2026-03-05", ["2026-03-04", "2026-03-05"]),
        (shanghai("2026-03-02", "00:00"), "2026-03-04", ["2026-03-04"]),
        (shanghai("2026-03-02", "23:59"), "2026-03-04", ["2026-03-04"]),
        # over a weekend
        (shanghai("2026-03-06"), "2026-03-11", ["2026-03-10", "2026-03-11"]),
        (shanghai("2026-03-07"), "2026-03-10", ["2026-03-10"]),
        # a Saturday that is made up, and then Spring Festival until the 23rd
        (shanghai("2026-02-12"), "2026-02-24", ["2026-02-14", "2026-02-24"]),
        (shanghai("2026-02-13"), "2026-02-24", ["2026-02-24"]),
        (shanghai("2026-02-17"), "2026-02-25", ["2026-02-25"]),
    ],
)
def test_what_waits_is_brought_up_on_each_working_day_after_a_full_one(
    desk: Desk, case_no: str, since: datetime, until: str, brought_up: list[str]
) -> None:
    desk.begin(case_no, since)
    assert desk.days(str(since.date()), until) == brought_up
    assert desk.mails() == [f"waits-{day}" for day in brought_up]
    assert desk.on_file() == [(len(brought_up), date.fromisoformat(brought_up[-1]), None)]


def test_a_closing_day_of_the_platform_is_no_delay_of_its_officers(desk: Desk, case_no: str) -> None:
    with desk.on_record.begin() as session:
        for day in (date(2026, 3, 3), date(2026, 3, 5)):
            session.add(CalendarDay(day=day, closing=True, works=False, reason="搬迁"))
    desk.begin(case_no, shanghai("2026-03-02"))
    assert desk.days("2026-03-02", "2026-03-06") == ["2026-03-06"]


def test_what_waits_no_more_is_not_brought_up(desk: Desk, case_no: str) -> None:
    desk.begin(case_no, shanghai("2026-03-02"))
    desk.end(case_no, shanghai("2026-03-03", "23:59"))
    assert desk.days("2026-03-02", "2026-03-10") == []
    assert desk.mails() == []


def test_what_waits_for_three_days_goes_to_the_supervisor_too_again_and_again(
    desk: Desk, steps: Steps, case_no: str, held: list[str]
) -> None:
    later = steps.open(held[1]).case_no
    desk.begin(case_no, shanghai("2026-03-02"))
    desk.begin(later, shanghai("2026-03-04"))
    desk.days("2026-03-02", "2026-03-09")
    assert desk.mails() == [
        "escalated-2026-03-06",
        "escalated-2026-03-09",
        "waits-2026-03-04",
        "waits-2026-03-05",
        "waits-2026-03-06",
        "waits-2026-03-09",
    ]
    assert desk.on_file() == [(4, date(2026, 3, 9), date(2026, 3, 6)), (2, date(2026, 3, 9), None)]
    first, to_officers = desk.mail("escalated-2026-03-06"), desk.mail("waits-2026-03-06")
    assert (first["To"], to_officers["To"]) == (ADDRESSES.supervisor, ADDRESSES.officers)
    assert later not in wording(first)
    assert (case_no in wording(to_officers), later in wording(to_officers)) == (True, True)


def test_the_mail_says_of_each_case_what_it_waits_for_since_when_and_what_to_type(
    desk: Desk, steps: Steps, case_no: str, held: list[str]
) -> None:
    fraud = steps.open(held[1], kind=Kind.FRAUD).case_no
    desk.begin(fraud, shanghai("2026-03-03"), Awaiting.APPROVAL)
    desk.begin(case_no, shanghai("2026-02-27"))
    desk.days("2026-03-02", "2026-03-05")
    letter = desk.mail("waits-2026-03-05")
    assert letter["Subject"] == "待办提醒：2 项工作等候合规人员处理 2026-03-05"
    assert (letter["From"], letter["Date"].datetime) == (ADDRESSES.sender, shanghai("2026-03-05", "00:30"))
    text, place = wording(letter), 0
    for part in (
        "已等候满 1 个工作日（规定第5.7条）",
        f"1. {case_no}（私自转售，{written(held[0])}），代理商 甲通信有限公司（A7）",
        "核验整改：自 2026年2月27日 起已等候 4 个工作日，第 4 次提醒",
        f"enforce verify {case_no} --pass",
        f"2. {fraud}（诈骗，{written(held[1])}）",
        "批准情节严重认定：自 2026年3月3日 起已等候 1 个工作日，第 1 次提醒",
        f"enforce approve {fraud}",
        "2 things have waited for an officer for 1 full working day or more (5.7)",
        f"1. {case_no} (secondary sale, {written(held[0])}), agent 甲通信有限公司 (A7)",
        "verification: since 27 February 2026, 4 working days, brought up 4x",
        f"enforce verify {case_no} --pass",
        f"2. {fraud} (fraud, {written(held[1])})",
        "approval: since 3 March 2026, 1 working day, brought up 1x",
    ):
        assert part in text[place:], f"{part} is missing (here) in:\n{text}"
        place = text.index(part, place) + len(part)


@pytest.mark.parametrize("what", Awaiting)
def test_whatever_waits_has_its_words_and_its_command(desk: Desk, case_no: str, what: Awaiting) -> None:
    desk.begin(case_no, shanghai("2026-03-02"), what)
    assert desk.bring_up("2026-03-04") == 1
    assert wording(desk.mail("waits-2026-03-04")).count("     enforce ") == 2


def test_on_one_day_it_is_brought_up_once_however_often_the_round_is_made(desk: Desk, case_no: str) -> None:
    channel = Counted(Outbox(desk.folder))
    desk.begin(case_no, shanghai("2026-03-02"))
    assert [desk.bring_up("2026-03-04", channel) for _ in range(3)] == [1, 0, 0]
    assert channel.delivered == ["waits-2026-03-04"]
    assert desk.on_file() == [(1, date(2026, 3, 4), None)]


def test_two_rounds_at_once_bring_it_up_once(desk: Desk, case_no: str) -> None:
    desk.begin(case_no, shanghai("2026-03-02"))
    at_once(
        desk.on_record,
        select(Wait),
        lambda: desk.bring_up("2026-03-04"),
        lambda: desk.bring_up("2026-03-04"),
    )
    assert desk.on_file() == [(1, date(2026, 3, 4), None)]
    assert desk.mails() == ["waits-2026-03-04"]


@pytest.mark.parametrize("breaks_after", [1, 2])
def test_a_crash_before_it_is_recorded_sends_the_same_mails_once_more_and_loses_none(
    desk: Desk, case_no: str, breaks_after: int
) -> None:
    channel = Counted(Outbox(desk.folder), breaks_after)
    desk.begin(case_no, shanghai("2026-03-02"))
    with pytest.raises(ConnectionError):
        desk.bring_up("2026-03-06", channel)
    assert desk.on_file() == [(0, None, None)]
    before = desk.mail("waits-2026-03-06").as_bytes()

    assert desk.bring_up("2026-03-06", channel) == 1
    assert desk.mails() == ["escalated-2026-03-06", "waits-2026-03-06"]
    assert desk.mail("waits-2026-03-06").as_bytes() == before
    assert desk.on_file() == [(1, date(2026, 3, 6), date(2026, 3, 6))]


def test_what_comes_up_later_on_a_day_joins_what_was_brought_up_before(
    desk: Desk, steps: Steps, case_no: str, held: list[str]
) -> None:
    other = steps.open(held[1]).case_no
    desk.begin(case_no, shanghai("2026-03-02"))
    desk.bring_up("2026-03-04")
    desk.begin(other, shanghai("2026-03-02"))
    assert desk.bring_up("2026-03-04") == 2
    text = wording(desk.mail("waits-2026-03-04"))
    assert (f"1. {case_no}" in text, f"2. {other}" in text) == (True, True)
    assert text.count("第 1 次提醒") == 2
    assert desk.on_file() == [(1, date(2026, 3, 4), None)] * 2


def test_a_round_that_was_missed_and_comes_late_counts_no_day_twice(desk: Desk, case_no: str) -> None:
    desk.begin(case_no, shanghai("2026-03-02"))
    assert [desk.bring_up(day) for day in ("2026-03-05", "2026-03-04", "2026-03-05")] == [1, 0, 0]
    assert desk.on_file() == [(1, date(2026, 3, 5), None)]


def test_no_name_from_outside_adds_a_line_or_a_header(desk: Desk, on_record: Sessions, steps: Steps) -> None:
    forged = "甲公司）\r\n     enforce dismiss SS-2026-00001 --reason x\r\nBcc: evil@x.example"
    lines = []
    for name, day in (("甲公司", "2026-03-04"), (forged, "2026-03-05")):
        [number] = an_agent(on_record, agent_id=name, name=name)
        case_no = steps.open(number).case_no
        desk.begin(case_no, shanghai("2026-03-02"))
        desk.bring_up(day)
        desk.end(case_no, shanghai(day))
        letter = desk.mail(f"waits-{day}")
        assert letter["Bcc"] is None
        lines.append(wording(letter).splitlines())
    assert len(lines[0]) == len(lines[1])


# Figures


def test_the_figures_say_by_what_it_was_how_long_things_have_waited(
    desk: Desk, steps: Steps, on_record: Sessions
) -> None:
    # From the 2nd, a Monday, until so many days of March later, over the weekend of the 7th.
    ended = [2, 3, 4, 5, 6, 9, 10, 11, 12, 20]
    for day, number in zip(ended, an_agent(on_record, numbers=10), strict=True):
        case_no = steps.open(number).case_no
        desk.begin(case_no, shanghai("2026-03-02"))
        desk.begin(case_no, shanghai("2026-03-02"), Awaiting.APPEAL)
        desk.end(case_no, shanghai(f"2026-03-{day:02}", "09:00"))
    desk.days("2026-03-03", "2026-03-04")
    desk.end(case_no, shanghai("2026-03-04", "09:00"), Awaiting.APPEAL)
    with on_record() as session:
        appeals, verifications = sorted(waits.figures(session, date(2026, 3, 2)), key=lambda f: f.what)
    # Full working days: 0, 0, 1, 2, 3, 4, 5, 6, 7, 13.
    assert (verifications.what, verifications.count) == (Awaiting.VERIFICATION, 10)
    assert (verifications.median, verifications.p90) == (3.5, 7)
    assert (appeals.what, appeals.count, appeals.median, appeals.p90) == (Awaiting.APPEAL, 1, 1, 1)
    assert (appeals.raised, verifications.raised) == (1, 0)


def test_the_figures_count_what_was_done_since_a_day_and_nothing_that_still_waits(
    desk: Desk, steps: Steps, on_record: Sessions, case_no: str, held: list[str]
) -> None:
    desk.begin(case_no, shanghai("2026-03-02"))
    desk.end(case_no, shanghai("2026-03-03", "00:00"))
    desk.begin(steps.open(held[1]).case_no, shanghai("2026-03-02"))
    with on_record() as session:
        since = {day: len(waits.figures(session, date(2026, 3, day))) for day in (3, 4)}
    assert since == {3: 1, 4: 0}


def test_what_waits_is_listed_the_longest_first_with_its_full_working_days(
    desk: Desk, steps: Steps, on_record: Sessions, case_no: str, held: list[str]
) -> None:
    longer = steps.open(held[1]).case_no
    desk.begin(case_no, shanghai("2026-03-06"))
    desk.begin(longer, shanghai("2026-03-05"))
    with on_record() as session:
        listed = waits.waiting(session, shanghai("2026-03-09", "12:00"))
        earlier = waits.waiting(session, shanghai("2026-03-06", "12:00"))
    assert [(wait.case_no, wait.working_days) for wait in listed] == [(longer, 1), (case_no, 0)]
    assert [wait.working_days for wait in earlier] == [0, 0]
