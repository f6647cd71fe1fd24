"""The figures against cases counted by hand: stages, times, money, mistakes, repeat offenders, load (5.7)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random

import pytest
from sqlalchemy import select

from registry.figures import Day, Figures, Offences, Offender, Span, State, Undone, figures
from registry.models import (
    Account,
    Agent,
    CalendarDay,
    Case,
    Fine,
    HoldRow,
    Incoming,
    Notice,
    Number,
    Payment,
    ReportRow,
    Wait,
)
from registry.session import Sessions, snapshot
from rulebook.money import ZERO, Balance
from rulebook.vocabulary import Awaiting, FineStatus, Hold, IncomingStatus, Kind, NoticeKind, Stage
from tests.world import shanghai

FRAUD, SALE, SERVICE = Kind.FRAUD, Kind.SECONDARY_SALE, Kind.SERVICE_FAILURE
NOW = shanghai("2026-03-04", "12:00")  # a Wednesday
OPENED = shanghai("2026-03-02")
ORDER, SERVICE_ORDER, PUNISHMENT = (
    NoticeKind.RECTIFICATION_ORDER,
    NoticeKind.SERVICE_ORDER,
    NoticeKind.PUNISHMENT,
)


@dataclass
class Book:
    """A registry in which cases are put down as they would stand there."""

    on_record: Sessions
    serial: "count[int]" = field(default_factory=lambda: count(1))

    def agent(self, agent_id: str, name: str = "甲通信有限公司") -> str:
        with self.on_record.begin() as session:
            if session.get(Agent, agent_id) is None:
                described = {"contact": "王芳", "email": "a@agent.example", "phone": "1"}
                session.add(Agent(agent_id=agent_id, name=name, account=Account(), **described))
        return agent_id

    def case(
        self,
        kind: Kind = SALE,
        outcome: Stage | None = None,
        opened: datetime = OPENED,
        closed: datetime | None = None,
        agent: str = "A1",
        sources: Sequence[str] = ("monitor",),
    ) -> str:
        """A case on reports of these sources, the first of which opened it; closed a day later, if at all."""
        agent, serial = self.agent(agent), next(self.serial)
        case_no, number = f"{kind.prefix}-2026-{serial:05}", f"400{serial:07}"
        with self.on_record.begin() as session:
            session.add(
                Number(
                    number=number,
                    agent_id=agent,
                    customer="乙商贸有限公司",
                    certificate="91310000MA1FL0000X",
                    operator="中国电信",
                    customer_email="office@customer.example",
                    renewal_due=date(2038, 12, 1),
                )
            )
            session.flush()
            session.add(
                Case(
                    case_no=case_no,
                    kind=kind,
                    number=number,
                    agent_id=agent,
                    workflow_id=f"{kind}-{number}",
                    run_id="run",
                    policy=date(2017, 2, 16),
                    opened_at=opened,
                    opened_by="monitor",
                    outcome=outcome,
                    closed_at=(closed or opened + timedelta(days=1)) if outcome else None,
                )
            )
            session.flush()
            for nth, source in enumerate(sources):
                row = ReportRow(source=source, report_id=f"{case_no}-{nth}", payload={}, case_no=case_no)
                session.add(row)
                session.flush()
        return case_no

    def notice(self, case_no: str, last_day: str, kind: NoticeKind = ORDER, **said: object) -> None:
        drafted = said.pop("at", OPENED)
        described = {
            "notice_no": f"{case_no}-{kind}",
            "step": f"notice-{kind}",
            "recipient": "a@agent.example",
            "content": b"",
            "sha256": "0" * 64,
            "drafted_at": drafted,
            "served_at": drafted,
            "counted_from": drafted,
            "working_days": 3,
            "last_day": date.fromisoformat(last_day),
        }
        self._add(Notice(case_no=case_no, kind=kind, **described | said))

    def fine(
        self, case_no: str, amount: str = "1000", at: datetime = OPENED, status: FineStatus = FineStatus.DUE
    ) -> None:
        with self.on_record.begin() as session:
            case = session.get_one(Case, case_no)
            fine = Fine(agent_id=case.agent_id, kind=case.kind, step="fine", offence=1, set_at=at)
            fine.case_no, fine.amount, fine.status = case_no, Decimal(amount), status
            session.add(fine)

    def pay(
        self,
        case_no: str,
        amount: str,
        at: datetime = OPENED,
        refunded: bool = False,
        had_on: date | None = None,
    ) -> None:
        self._add(
            Payment(
                reference=f"B{next(self.serial)}",
                case_no=case_no,
                amount=Decimal(amount),
                received_at=at,
                had_on=had_on,
                recorded_by="bank",
                refund_due_at=at if refunded else None,
                refunded_at=at if refunded else None,
            )
        )

    def wait(
        self, case_no: str, what: Awaiting, since: datetime = OPENED, until: datetime | None = None
    ) -> None:
        self._add(Wait(case_no=case_no, what=what, since=since, ended_at=until, raised=0))

    def hold(self, case_no: str, kind: Hold) -> None:
        with self.on_record.begin() as session:
            agent_id = session.get_one(Case, case_no).agent_id
            session.add(HoldRow(case_no=case_no, step="step", kind=kind, agent_id=agent_id, since=OPENED))

    def came_in(self, case_no: str, nth: int, at: datetime) -> None:
        """A report of a case came into the inbox."""
        row = Incoming(source="monitor", report_id=f"{case_no}-{nth}", payload={}, received_at=at)
        row.status = IncomingStatus.HANDED
        self._add(row)

    def _add(self, row: object) -> None:
        with self.on_record.begin() as session:
            session.add(row)

    def count(self, as_of: datetime = NOW, since: date | None = None) -> Figures:
        with snapshot(self.on_record) as session:
            return figures(session, as_of, since)

    def took(self, span: Span) -> dict[Kind | None, tuple[int, timedelta, timedelta]]:
        return {t.kind: (t.cases, t.median, t.p90) for t in self.count().times if t.span is span}


@pytest.fixture
def book(on_record: Sessions) -> Book:
    return Book(on_record)


# Cases


def test_nothing_is_counted_where_nothing_is_on_record(book: Book) -> None:
    counted = book.count()
    assert (counted.open, counted.ended, counted.times, counted.money, counted.officers) == ((),) * 5
    assert sum(day.rectification + day.service + day.payment for day in counted.days) == 0


def test_cases_are_counted_by_kind_and_outcome(book: Book) -> None:
    for kind, outcome in [
        *((SALE, Stage.RECTIFIED), (SALE, Stage.RECTIFIED), (SALE, Stage.OVERTURNED)),
        *((FRAUD, Stage.SETTLED), (SERVICE, Stage.RECTIFIED)),
    ]:
        book.case(kind, outcome)
    book.case(FRAUD)
    counted = book.count()
    assert {(one.kind, one.outcome): one.cases for one in counted.ended} == {
        (SALE, Stage.RECTIFIED): 2,
        (SALE, Stage.OVERTURNED): 1,
        (FRAUD, Stage.SETTLED): 1,
        (SERVICE, Stage.RECTIFIED): 1,
    }
    assert [(one.kind, one.cases) for one in counted.open] == [(FRAUD, 1)]


def _in_state(book: Book, state: State) -> None:
    """Put an open case into a state, with all that the states before it have."""
    case_no = book.case()
    if state is State.OPENING:
        return
    book.notice(case_no, "2026-03-03" if state is State.OVERDUE else "2026-03-05")
    match state:
        case State.PAYMENT:
            book.fine(case_no)
            book.notice(case_no, "2026-03-10", PUNISHMENT, at=OPENED + timedelta(days=1))
        case State.PENALTY:
            book.hold(case_no, Hold.SHUTDOWN)
        case State.HELD:
            book.notice(case_no, "2026-03-05", PUNISHMENT, at=NOW, stopped_at=NOW)
        case State.DELIVERY | State.VERIFICATION | State.APPEAL:
            for what in list(State)[list(State).index(State.DELIVERY) : list(State).index(state) + 1]:
                book.wait(case_no, Awaiting(what.value))


@pytest.mark.parametrize("state", State)
def test_an_open_case_stands_where_the_registry_tells(book: Book, state: State) -> None:
    _in_state(book, state)
    assert [(one.state, one.cases) for one in book.count().open] == [(state, 1)]


def test_a_limit_that_ends_today_is_not_overdue_before_midnight(book: Book) -> None:
    book.notice(book.case(), "2026-03-04")
    states = [
        book.count(shanghai(day, at)).open[0].state
        for day, at in (("2026-03-04", "23:59"), ("2026-03-05", "00:00"))
    ]
    assert states == [State.RECTIFICATION, State.OVERDUE]


def test_what_waits_no_more_does_not_tell_where_a_case_stands(book: Book) -> None:
    case_no = book.case()
    book.notice(case_no, "2026-03-05")
    book.wait(case_no, Awaiting.VERIFICATION, until=NOW)
    assert [one.state for one in book.count().open] == [State.RECTIFICATION]


# Since a day


def test_cases_count_that_were_opened_on_the_day_of_shanghai_or_later(book: Book) -> None:
    book.case(outcome=Stage.SETTLED, opened=shanghai("2026-03-01", "23:59"))
    case_no = book.case(outcome=Stage.SETTLED, opened=shanghai("2026-03-02", "00:00"))
    for of in ("SS-2026-00001", case_no):
        book.fine(of)
        book.pay(of, "400")
    counted = book.count(since=date(2026, 3, 2))
    assert [one.cases for one in counted.ended] == [1]
    assert [(m.fined, m.paid, m.owed) for m in counted.money] == [(Decimal(1000), Decimal(400), Decimal(600))]
    assert [t.cases for t in counted.times if t.span is Span.CLOSED and t.kind] == [1]
    assert [(one.offences, one.agents) for one in counted.offences] == [(1, 1)]
    assert [one.ended for one in counted.undone_by_source] == [1]


def test_limits_of_older_cases_fall_due_whatever_the_day_counted_from(book: Book) -> None:
    book.notice(book.case(opened=shanghai("2026-02-10")), "2026-03-05")
    assert [day.rectification for day in book.count(since=date(2026, 3, 1)).days][:3] == [0, 1, 0]


# Time


def test_half_of_the_cases_took_no_longer_than_the_median_and_nine_in_ten_no_longer_than_p90(
    book: Book,
) -> None:
    for days in range(1, 11):
        book.case(SALE, Stage.SETTLED, closed=OPENED + timedelta(days=days))
    book.case(FRAUD, Stage.SETTLED, closed=OPENED + timedelta(days=30))
    assert book.took(Span.CLOSED) == {
        None: (11, timedelta(days=6), timedelta(days=10)),
        FRAUD: (1, timedelta(days=30), timedelta(days=30)),
        SALE: (10, timedelta(days=5.5), timedelta(days=9)),
    }


def test_a_report_counts_from_when_it_came_in_until_the_first_notice_was_served(book: Book) -> None:
    case_no = book.case(sources=("monitor", "monitor"))
    book.came_in(case_no, 0, OPENED - timedelta(minutes=20))
    book.came_in(case_no, 1, OPENED + timedelta(hours=5))
    book.notice(case_no, "2026-03-05", served_at=OPENED + timedelta(minutes=10))
    book.notice(case_no, "2026-03-12", PUNISHMENT, at=OPENED + timedelta(days=4))
    took = timedelta(minutes=30)
    assert book.took(Span.NOTICE)[SALE] == (1, took, took)


def test_a_report_that_never_was_in_the_inbox_counts_from_when_its_case_was_opened(book: Book) -> None:
    book.notice(book.case(), "2026-03-05", served_at=OPENED + timedelta(minutes=10))
    assert book.took(Span.NOTICE)[SALE][1] == timedelta(minutes=10)


def test_rectification_counts_until_it_was_reported_last_and_until_it_was_verified(book: Book) -> None:
    case_no = book.case(outcome=Stage.RECTIFIED, closed=OPENED + timedelta(days=4))
    book.notice(case_no, "2026-03-05")
    for day in (1, 3):
        book.wait(case_no, Awaiting.VERIFICATION, OPENED + timedelta(days=day), OPENED + timedelta(days=day))
    never = book.case(outcome=Stage.SHUT_DOWN, closed=OPENED + timedelta(days=9))
    book.notice(never, "2026-03-05")
    book.wait(never, Awaiting.VERIFICATION, OPENED, OPENED)
    assert book.took(Span.RECTIFICATION)[SALE] == (1, timedelta(days=3), timedelta(days=3))
    assert book.took(Span.RECTIFIED)[SALE] == (1, timedelta(days=4), timedelta(days=4))


def test_a_fine_is_late_by_what_has_passed_since_24_00_of_the_last_day(book: Book) -> None:
    case_no = book.case()
    book.notice(case_no, "2026-03-03")
    book.fine(case_no, at=shanghai("2026-03-04", "00:07"))
    book.notice(case_no, "2026-03-11", PUNISHMENT, at=NOW)
    book.fine(book.case(FRAUD))  # set at once (1.3): no deadline is before it
    late = timedelta(minutes=7)
    assert book.took(Span.FINE) == {None: (1, late, late), SALE: (1, late, late)}


def test_a_fine_is_paid_with_the_payment_that_reaches_it(book: Book) -> None:
    case_no = book.case()
    book.fine(case_no, "1000", at=OPENED)
    for amount, day in (("400", 1), ("600", 3), ("50", 5)):
        book.pay(case_no, amount, OPENED + timedelta(days=day))
    in_part = book.case()
    book.fine(in_part, "1000")
    book.pay(in_part, "999.99", OPENED + timedelta(days=1))
    assert book.took(Span.PAID) == dict.fromkeys((None, SALE), (1, timedelta(days=3), timedelta(days=3)))


def test_a_fine_is_paid_on_the_day_on_which_the_bank_had_it(book: Book) -> None:
    case_no = book.case()
    book.fine(case_no, "1000", at=shanghai("2026-03-02", "00:00"))
    book.pay(case_no, "600", shanghai("2026-03-09"), had_on=date(2026, 3, 5))
    book.pay(case_no, "400", shanghai("2026-03-03"), had_on=date(2026, 3, 3))  # recorded that morning
    book.pay(case_no, "500", shanghai("2026-03-07"))
    assert book.took(Span.PAID)[SALE][1] == timedelta(days=4)


def test_a_fine_that_had_been_paid_before_it_was_set_took_no_time(book: Book) -> None:
    case_no = book.case()
    book.pay(case_no, "1000", OPENED - timedelta(days=1))
    book.fine(case_no, "1000", at=OPENED)
    assert book.took(Span.PAID)[SALE][1] == timedelta()


# Money


def test_what_one_case_has_paid_too_much_does_not_lower_what_another_owes(book: Book) -> None:
    for amount, paid in (("2000", "2500.01"), ("1000", "599.99")):
        case_no = book.case()
        book.fine(case_no, amount)
        book.pay(case_no, paid)
    [money] = book.count().money
    assert (money.fines, money.fined, money.paid) == (2, Decimal(3000), Decimal(3100))
    assert (money.owed, money.owed_back) == (Decimal("400.01"), Decimal("500.01"))


def test_what_was_paid_for_a_fine_that_is_void_is_owed_back_until_it_is_refunded(book: Book) -> None:
    for refunded in (False, True):
        case_no = book.case(FRAUD, Stage.OVERTURNED)
        book.fine(case_no, "30000", status=FineStatus.VOID)
        book.pay(case_no, "30000", refunded=refunded)
    [money] = book.count().money
    assert (money.fines, money.fined, money.voided) == (0, ZERO, Decimal(60000))
    assert (money.paid, money.owed_back, money.refunded) == (Decimal(30000),) * 3


def test_what_was_returned_of_a_payment_is_paid_no_more_and_counts_as_refunded(book: Book) -> None:
    stands, undone = book.case(), book.case(FRAUD, Stage.OVERTURNED)
    book.fine(stands, "1000")
    book.pay(stands, "1500")
    book.pay(stands, "-500")
    # Returned in part while it stood, and refunded in whole when it was undone.
    book.fine(undone, "30000", status=FineStatus.VOID)
    for amount in ("30500", "-500"):
        book.pay(undone, amount, refunded=True)
    money = {one.kind: (one.paid, one.owed, one.owed_back, one.refunded) for one in book.count().money}
    assert money[SALE] == (Decimal(1000), ZERO, ZERO, Decimal(500))
    assert money[FRAUD] == (ZERO, ZERO, ZERO, Decimal(30500))


def test_a_fine_was_paid_when_it_was_though_some_of_it_was_returned_later(book: Book) -> None:
    case_no = book.case()
    book.fine(case_no, "1000", at=OPENED)
    book.pay(case_no, "1500", OPENED + timedelta(days=2))
    book.pay(case_no, "-500", OPENED + timedelta(days=9))
    assert book.took(Span.PAID)[SALE] == (1, timedelta(days=2), timedelta(days=2))


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_add_up_to_the_fen_and_to_the_case(book: Book, seed: int) -> None:
    random = Random(seed)
    balances: dict[Kind, list[Balance]] = {kind: [] for kind in Kind}
    for _ in range(40):
        kind, outcome = random.choice(list(Kind)), random.choice([None, Stage.SETTLED, Stage.DISMISSED])
        case_no = book.case(kind, outcome, sources=(random.choice("甲乙丙"),))
        fine, paid = ZERO, ZERO
        if random.random() < 0.7:
            amount = Decimal(random.randrange(1, 3_000_000)) / 100
            void = random.random() < 0.3
            book.fine(case_no, str(amount), status=FineStatus.VOID if void else FineStatus.DUE)
            fine = ZERO if void else amount
        for _ in range(random.randrange(3)):
            amount, refunded = Decimal(random.randrange(1, 2_000_000)) / 100, random.random() < 0.2
            book.pay(case_no, str(amount), refunded=refunded)
            paid += ZERO if refunded else amount
        balances[kind].append(Balance(fine=fine, paid=paid))
    counted = book.count()
    for money in counted.money:
        of_kind = balances[money.kind]
        assert money.fined == sum(b.fine for b in of_kind) == money.paid + money.owed - money.owed_back
        assert (money.owed, money.owed_back) == (
            sum(b.due for b in of_kind),
            sum(b.owed_back for b in of_kind),
        )
    ended = sum(one.cases for one in counted.ended)
    assert sum(one.cases for one in counted.open) + ended == 40
    undone = sum(one.cases for one in counted.ended if one.outcome.undone)
    for shares in (counted.undone_by_kind, counted.undone_by_source):
        assert (sum(s.ended for s in shares), sum(s.undone for s in shares)) == (ended, undone)
    of_spans = Counter(t.span for t in counted.times for _ in range(t.cases) if t.kind)
    assert of_spans == {t.span: t.cases for t in counted.times if t.kind is None}


# What did not stand, and who repeats


def test_a_case_that_did_not_stand_goes_to_the_source_whose_report_opened_it(book: Book) -> None:
    book.case(SALE, Stage.OVERTURNED, sources=("hotline", "monitor"))
    book.case(SALE, Stage.RECTIFIED, sources=("hotline",))
    book.case(FRAUD, Stage.DISMISSED, sources=("monitor",))
    book.case(SALE, None, sources=("hotline",))
    counted = book.count()
    assert counted.undone_by_source == (
        Undone(of="hotline", ended=2, undone=1),
        Undone(of="monitor", ended=1, undone=1),
    )
    assert counted.undone_by_kind == (
        Undone(of="secondary-sale", ended=2, undone=1),
        Undone(of="fraud", ended=1, undone=1),
    )
    assert [one.share for one in counted.undone_by_source] == [0.5, 1.0]


def test_only_offences_that_count_make_an_agent_a_repeat_offender(book: Book) -> None:
    book.agent("A2", name="再犯通信有限公司")
    for agent, kind, status in [
        *(("A1", SALE, FineStatus.SETTLED), ("A1", SALE, FineStatus.VOID), ("A1", FRAUD, FineStatus.DUE)),
        *(("A2", SALE, FineStatus.SETTLED), ("A2", SALE, FineStatus.DUE), ("A2", SALE, FineStatus.DUE)),
    ]:
        book.fine(book.case(kind, agent=agent), status=status)
    counted = book.count()
    assert counted.repeat_offenders == (
        Offender(agent_id="A2", name="再犯通信有限公司", kind=SALE, offences=3),
    )
    assert set(counted.offences) == {
        Offences(kind=FRAUD, offences=1, agents=1),
        Offences(kind=SALE, offences=1, agents=1),
        Offences(kind=SALE, offences=3, agents=1),
    }


# What is to come


def test_limits_that_run_fall_due_on_their_last_day(book: Book) -> None:
    for kind, letter in ((SALE, ORDER), (SERVICE, SERVICE_ORDER), (FRAUD, PUNISHMENT)):
        book.notice(book.case(kind), "2026-03-05", letter)
    fined = book.case()
    book.notice(fined, "2026-03-04")
    book.notice(fined, "2026-03-11", PUNISHMENT, at=NOW)
    for last_day in ("2026-03-03", "2026-03-17", "2026-03-18"):
        book.notice(book.case(), last_day)
    days = {day.day: day for day in book.count().days if day.rectification or day.service or day.payment}
    assert list(days.values()) == [
        Day(day=date(2026, 3, 5), works=True, rectification=1, service=1, payment=1),
        Day(day=date(2026, 3, 11), works=True, payment=1),
        Day(day=date(2026, 3, 17), works=True, rectification=1),
    ]


def test_a_limit_that_does_not_run_falls_due_on_no_day(book: Book) -> None:
    book.notice(book.case(), "2026-03-05", stopped_at=OPENED)
    book.notice(book.case(), "2026-03-05", bounced_at=OPENED)
    book.notice(book.case(), "2026-03-05", served_at=None, counted_from=None)
    book.notice(book.case(outcome=Stage.RECTIFIED), "2026-03-05")
    assert sum(day.rectification for day in book.count().days) == 0


def test_the_coming_days_are_worked_as_the_calendar_on_record_says(book: Book) -> None:
    book._add(CalendarDay(day=date(2026, 2, 25), closing=True, works=False, reason="盘点"))
    days = book.count(shanghai("2026-02-12", "00:10")).days
    assert (days[0].day, days[-1].day) == (date(2026, 2, 12), date(2026, 2, 25))
    # The 14th is a Saturday that is made up for Spring Festival.
    assert [day.day.day for day in days if day.works] == [12, 13, 14, 24]


# Officers


def test_officers_see_what_waits_for_them_and_how_long_things_have_waited(book: Book) -> None:
    first, second, third = (book.case() for _ in range(3))
    book.wait(first, Awaiting.VERIFICATION, shanghai("2026-02-27"))
    book.wait(second, Awaiting.VERIFICATION, shanghai("2026-03-03"))
    book.wait(third, Awaiting.VERIFICATION, shanghai("2026-02-26"), shanghai("2026-03-03"))
    [of] = book.count().officers
    # The 28th is a Saturday that is made up, the 1st a Sunday.
    assert (of.what, of.waiting, of.longest) == (Awaiting.VERIFICATION, 2, 3)
    assert of.waited
    assert (of.waited.count, of.waited.median) == (1, 3)
    assert book.count(since=date(2026, 3, 4)).officers[0].waited is None


def test_figures_of_one_snapshot_see_nothing_that_came_later(book: Book) -> None:
    book.case()
    with snapshot(book.on_record) as session:
        before = figures(session, NOW)
        book.case(outcome=Stage.RECTIFIED)
        assert figures(session, NOW) == before
    with book.on_record() as session:
        assert len(session.scalars(select(Case)).all()) == 2
