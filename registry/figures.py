"""The figures: cases, the time they take, money, cases that did not stand, repeat offenders, what falls due.

All is counted in the database, in a few statements; called within one snapshot (registry/session.py), the
figures agree with each other to the fen.
"""

from collections import Counter
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import (
    ColumnElement,
    DateTime,
    Integer,
    Interval,
    Select,
    Subquery,
    Text,
    case,
    cast,
    func,
    literal,
    select,
    tuple_,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session

from registry import waits
from registry.calendar import calendar
from registry.models import Agent, Case, Fine, HoldRow, Incoming, Notice, Payment, ReportRow, Wait
from rulebook.money import ZERO
from rulebook.policy import published
from rulebook.vocabulary import SHANGHAI, Awaiting, FineStatus, Hold, Kind, NoticeKind, Stage, day_of

AHEAD = 14
"""For how many days it is told what falls due, today included."""


class State(StrEnum):
    """What an open case waits for, as far as the registry tells; of several, the last one of these.

    `overdue`: its limit has ended, and what follows is not on record yet. `penalty`: its account is shut down
    or closed, or its number taken back, and the rest of that is under way. `held`: the clock stands still.
    """

    OPENING = "opening"
    RECTIFICATION = "rectification"
    PAYMENT = "payment"
    OVERDUE = "overdue"
    PENALTY = "penalty"
    HELD = "held"
    DELIVERY = "delivery"
    VERIFICATION = "verification"
    APPEAL = "appeal"


class Span(StrEnum):
    """What a time is counted from, and until when.

    A report counts from when it came into the inbox, a limit from its 24:00, and a fine is paid with the
    payment that reaches it (6.2). `notice-to-rectification` ends with the agent's last report that it has
    rectified, `notice-to-rectified` with the end of the case.
    """

    NOTICE = "report-to-notice"
    RECTIFICATION = "notice-to-rectification"
    RECTIFIED = "notice-to-rectified"
    FINE = "deadline-to-fine"
    PAID = "fine-to-paid"
    CLOSED = "opened-to-closed"


class _Counted(BaseModel):
    model_config = ConfigDict(frozen=True)


class Open(_Counted):
    """How many cases of a kind are open in a state."""

    kind: Kind
    state: State
    cases: int


class Ended(_Counted):
    """How many cases of a kind have ended so."""

    kind: Kind
    outcome: Stage
    cases: int


class Took(_Counted):
    """How long something took in so many cases of a kind, or of all kinds where it is none.

    Nine in ten took no longer than `p90`.
    """

    span: Span
    kind: Kind | None
    cases: int
    median: timedelta
    p90: timedelta


class Money(_Counted):
    """The money of the cases of a kind, in yuan; `fined` = `paid` + `owed` - `owed_back`, also of each case.

    `fined` are the fines that stand, `voided` those taken back; `paid` is what was not given back,
    `refunded` what was.
    """

    kind: Kind
    fines: int
    fined: Decimal
    paid: Decimal
    owed: Decimal
    owed_back: Decimal
    voided: Decimal
    refunded: Decimal


class Undone(_Counted):
    """How many of the ended cases of a kind, or of a source of reports, were dismissed or overturned (5.2).

    A case goes by the source of the report that opened it.
    """

    of: str
    ended: int
    undone: int

    @property
    def share(self) -> float:
        """The share that was undone, from 0 to 1."""
        return self.undone / self.ended


class Offences(_Counted):
    """How many agents have committed so many offences of a kind that count (5.5)."""

    kind: Kind
    offences: int
    agents: int


class Offender(_Counted):
    """An agent with more than one offence of a kind that counts (5.5)."""

    agent_id: str
    name: str
    kind: Kind
    offences: int


class Day(_Counted):
    """How many limits that run end with a day (Asia/Shanghai), and whether it is worked (4.2)."""

    day: date
    works: bool
    rectification: int = 0
    service: int = 0
    payment: int = 0


class OfOfficers(_Counted):
    """What waits for officers now, for at most so many full working days; and what has waited (5.7)."""

    what: Awaiting
    waiting: int
    longest: int
    waited: waits.Figure | None


class Figures(_Counted):
    """All figures as of a moment, of the cases opened on a day or later.

    Not so `days`, which are of all open cases, nor `officers`: of these, what waited ended on that day or
    later, and what waits is of all cases.
    """

    as_of: datetime
    since: date | None
    open: tuple[Open, ...]
    ended: tuple[Ended, ...]
    times: tuple[Took, ...]
    money: tuple[Money, ...]
    undone_by_kind: tuple[Undone, ...]
    undone_by_source: tuple[Undone, ...]
    offences: tuple[Offences, ...]
    repeat_offenders: tuple[Offender, ...]
    days: tuple[Day, ...]
    officers: tuple[OfOfficers, ...]


def figures(session: Session, as_of: datetime, since: date | None = None) -> Figures:
    """The figures as of a moment, of the cases opened on a day (Asia/Shanghai) or later, or of all."""
    counted = Case.opened_at >= datetime.combine(since or published()[0].effective, time(), SHANGHAI)
    today = day_of(as_of)
    cases = _cases(session, counted, today)
    return Figures(
        as_of=as_of,
        since=since,
        open=tuple(
            Open(kind=kind, state=state, cases=count)
            for kind in Kind
            for state in State
            if (count := cases.open[kind, state])
        ),
        ended=tuple(
            Ended(kind=kind, outcome=outcome, cases=count)
            for kind in Kind
            for outcome in Stage
            if (count := cases.ended[kind, outcome])
        ),
        times=_times(session, counted),
        money=_money(session, counted),
        undone_by_kind=_undone(cases.by_kind),
        undone_by_source=_undone(cases.by_source),
        offences=_offences(session, counted),
        repeat_offenders=_repeat_offenders(session, counted),
        days=_days(session, today),
        officers=_officers(session, as_of, since),
    )


# Cases


class _Cases:
    """Cases counted in several ways; `by_kind` and `by_source` have how many ended so."""

    def __init__(self) -> None:
        self.open = Counter[tuple[Kind, State]]()
        self.ended = Counter[tuple[Kind, Stage]]()
        self.by_kind = Counter[tuple[str, Stage]]()
        self.by_source = Counter[tuple[str, Stage]]()


def _cases(session: Session, counted: ColumnElement[bool], today: date) -> _Cases:
    limit = newest_limits()
    first = select(func.min(ReportRow.id)).where(ReportRow.case_no.is_not(None)).group_by(ReportRow.case_no)
    opened_it = select(ReportRow.case_no, ReportRow.source).where(ReportRow.id.in_(first)).subquery()
    source, state = func.coalesce(opened_it.c.source, ""), _state(limit, today)
    rows = session.execute(
        select(Case.kind, Case.outcome, state, source, func.count())
        .outerjoin(limit, limit.c.case_no == Case.case_no)
        .outerjoin(opened_it, opened_it.c.case_no == Case.case_no)
        .where(counted)
        .group_by(Case.kind, Case.outcome, state, source)
    )
    cases = _Cases()
    for kind, outcome, stands, reported_by, count in rows:
        if outcome is None:
            cases.open[kind, State(stands)] += count
        else:
            cases.ended[kind, outcome] += count
            cases.by_kind[kind, outcome] += count
            cases.by_source[reported_by, outcome] += count
    return cases


def newest_limits() -> Subquery:
    """Of each open case, the notice whose limit was set last: where it runs, the case's deadline."""
    newest_first = func.row_number().over(partition_by=Notice.case_no, order_by=Notice.drafted_at.desc())
    limits = (
        select(
            *(Notice.case_no, Notice.kind, Notice.served_at, Notice.bounced_at),
            *(Notice.stopped_at, Notice.last_day, newest_first.label("nth")),
        )
        .join(Case, Case.case_no == Notice.case_no)
        .where(Case.closed_at.is_(None), Notice.last_day.is_not(None))
        .subquery()
    )
    return select(limits).where(limits.c.nth == 1).subquery()


def _state(limit: Subquery, today: date) -> ColumnElement[str | None]:
    def waits_for(what: Awaiting) -> ColumnElement[bool]:
        return Case.case_no.in_(select(Wait.case_no).where(Wait.what == what, Wait.ended_at.is_(None)))

    carried_out = select(HoldRow.case_no).where(
        HoldRow.kind.in_([Hold.SHUTDOWN, Hold.CLOSURE, Hold.TAKE_BACK]), HoldRow.lifted_at.is_(None)
    )
    due = select(Fine.case_no).where(Fine.status == FineStatus.DUE)
    return case(
        (Case.closed_at.is_not(None), None),
        (waits_for(Awaiting.APPEAL), State.APPEAL.value),
        (waits_for(Awaiting.VERIFICATION), State.VERIFICATION.value),
        (waits_for(Awaiting.DELIVERY), State.DELIVERY.value),
        (limit.c.stopped_at.is_not(None), State.HELD.value),
        (Case.case_no.in_(carried_out), State.PENALTY.value),
        (limit.c.served_at.is_not(None) & (limit.c.last_day < today), State.OVERDUE.value),
        (Case.case_no.in_(due), State.PAYMENT.value),
        (limit.c.served_at.is_not(None), State.RECTIFICATION.value),
        else_=State.OPENING.value,
    )


def _undone(counted: Counter[tuple[str, Stage]]) -> tuple[Undone, ...]:
    """What ended and what did not stand, by what it is counted by, the most cases first."""
    ended, undone = Counter[str](), Counter[str]()
    for (of, outcome), count in counted.items():
        ended[of] += count
        undone[of] += count if outcome.undone else 0
    in_order = sorted(ended, key=lambda of: (-ended[of], of))
    return tuple(Undone(of=of, ended=ended[of], undone=undone[of]) for of in in_order)


# Times

_ORDERS = (NoticeKind.RECTIFICATION_ORDER, NoticeKind.SERVICE_ORDER)


def _times(session: Session, counted: ColumnElement[bool]) -> tuple[Took, ...]:
    spans = union_all(
        *(
            query.add_columns(literal(span, Text()).label("span")).where(counted)
            for span, query in _spans().items()
        )
    ).subquery()
    took = spans.c.took
    rows = session.execute(
        select(
            spans.c.span,
            spans.c.kind,
            func.count(),
            func.percentile_cont(0.5).within_group(took),
            func.percentile_disc(0.9).within_group(took),
        ).group_by(func.grouping_sets(tuple_(spans.c.span, spans.c.kind), spans.c.span))
    ).all()
    times = [
        Took(span=Span(span), kind=kind, cases=count, median=median, p90=p90)
        for span, kind, count, median, p90 in rows
    ]
    spans_in_order, kinds_in_order = list(Span), [None, *Kind]
    return tuple(sorted(times, key=lambda t: (spans_in_order.index(t.span), kinds_in_order.index(t.kind))))


def _spans() -> dict[Span, Select[Any]]:
    """How long each case took, by what is counted: its kind, and the time."""
    came_in = (
        select(ReportRow.case_no, func.min(Incoming.received_at).label("at"))
        .join(Incoming, (Incoming.source == ReportRow.source) & (Incoming.report_id == ReportRow.report_id))
        .group_by(ReportRow.case_no)
        .subquery()
    )
    limits = (
        select(Notice.case_no, Notice.kind, Notice.served_at, Notice.last_day)
        .where(Notice.working_days.is_not(None), Notice.served_at.is_not(None))
        .cte()
    )
    first = (
        select(limits.c.case_no, func.min(limits.c.served_at).label("at"))
        .group_by(limits.c.case_no)
        .subquery()
    )
    reported = (
        select(Wait.case_no, func.max(Wait.since).label("at"))
        .where(Wait.what == Awaiting.VERIFICATION)
        .group_by(Wait.case_no)
        .subquery()
    )
    paid = _paid()
    ordered = select(Case.kind).join(limits, (limits.c.case_no == Case.case_no) & limits.c.kind.in_(_ORDERS))
    rectified = ordered.where(Case.outcome == Stage.RECTIFIED)
    deadline = _end_of(limits.c.last_day)

    def took(query: Select[Any], start: Any, end: Any) -> Select[Any]:
        return query.add_columns(type_coerce(end - start, Interval()).label("took"))

    return {
        Span.NOTICE: took(
            select(Case.kind)
            .join(first, first.c.case_no == Case.case_no)
            .outerjoin(came_in, came_in.c.case_no == Case.case_no),
            func.least(Case.opened_at, came_in.c.at),  # a later report joins what is open already
            first.c.at,
        ),
        Span.RECTIFICATION: took(
            rectified.join(reported, reported.c.case_no == Case.case_no), limits.c.served_at, reported.c.at
        ),
        Span.RECTIFIED: took(rectified, limits.c.served_at, Case.closed_at),
        Span.FINE: took(ordered.join(Fine, Fine.case_no == Case.case_no), deadline, Fine.set_at),
        Span.PAID: took(
            select(Case.kind).join(paid, paid.c.case_no == Case.case_no), paid.c.set_at, paid.c.at
        ),
        Span.CLOSED: took(
            select(Case.kind).where(Case.closed_at.is_not(None)), Case.opened_at, Case.closed_at
        ),
    }


def _end_of(day: Any) -> ColumnElement[datetime]:
    """24:00 of a day in Asia/Shanghai."""
    return func.timezone(SHANGHAI.key, cast(day + 1, DateTime()), type_=DateTime(timezone=True))


def _paid() -> Subquery:
    """When each case's fine was set, and when payments reached it: with it, where they had come before.

    A payment that was recorded later than the bank had it counts as of the end of that day.
    """
    had_at = func.least(Payment.received_at, _end_of(Payment.had_on))
    fined = (
        select(Fine.case_no, func.sum(Fine.amount).label("amount"), func.min(Fine.set_at).label("set_at"))
        .where(Fine.status != FineStatus.VOID)
        .group_by(Fine.case_no)
        .subquery()
    )
    so_far = (
        select(
            fined,
            had_at.label("had_at"),
            func.sum(Payment.amount)
            .over(partition_by=Payment.case_no, order_by=(had_at, Payment.reference))
            .label("paid"),
        )
        .join(Payment, Payment.case_no == fined.c.case_no)
        .subquery()
    )
    return (
        select(
            so_far.c.case_no,
            so_far.c.set_at,
            func.greatest(func.min(so_far.c.had_at), so_far.c.set_at).label("at"),
        )
        .where(so_far.c.paid >= so_far.c.amount)
        .group_by(so_far.c.case_no, so_far.c.set_at)
        .subquery()
    )


# Money


def _money(session: Session, counted: ColumnElement[bool]) -> tuple[Money, ...]:
    void = Fine.status == FineStatus.VOID
    fines = (
        select(
            Fine.case_no,
            func.count().filter(~void).label("fines"),
            func.sum(Fine.amount).filter(~void).label("fined"),
            func.sum(Fine.amount).filter(void).label("voided"),
        )
        .group_by(Fine.case_no)
        .subquery()
    )
    back = Payment.refunded_at.is_not(None)
    payments = (
        select(
            Payment.case_no,
            func.sum(Payment.amount).filter(~back).label("paid"),
            # What goes back of it is below zero: all that came in is either `paid` still, or `refunded`.
            (
                func.sum(Payment.amount).filter(Payment.amount > 0)
                - func.coalesce(func.sum(Payment.amount).filter(~back), ZERO)
            ).label("refunded"),
        )
        .group_by(Payment.case_no)
        .subquery()
    )
    fined, paid = func.coalesce(fines.c.fined, ZERO), func.coalesce(payments.c.paid, ZERO)

    def total(amount: ColumnElement[Any]) -> ColumnElement[Decimal]:
        return func.coalesce(func.sum(amount), ZERO)

    rows = session.execute(
        select(
            Case.kind,
            cast(func.coalesce(func.sum(fines.c.fines), 0), Integer()).label("fines"),
            total(fined).label("fined"),
            total(paid).label("paid"),
            total(func.greatest(fined - paid, ZERO)).label("owed"),
            total(func.greatest(paid - fined, ZERO)).label("owed_back"),
            total(fines.c.voided).label("voided"),
            total(payments.c.refunded).label("refunded"),
        )
        .outerjoin(fines, fines.c.case_no == Case.case_no)
        .outerjoin(payments, payments.c.case_no == Case.case_no)
        .where(counted)
        .group_by(Case.kind)
    ).mappings()
    by_kind = {row["kind"]: Money(**row) for row in rows}
    return tuple(by_kind[kind] for kind in Kind if kind in by_kind)


# Offences


def _by_agent(counted: ColumnElement[bool]) -> Subquery:
    """How many offences of a kind an agent has committed that count, as fines count them (5.5, 7.3)."""
    return (
        select(Fine.agent_id, Fine.kind, func.count(Fine.case_no.distinct()).label("offences"))
        .join(Case, Case.case_no == Fine.case_no)
        .where(counted, Fine.status != FineStatus.VOID)
        .group_by(Fine.agent_id, Fine.kind)
        .subquery()
    )


def _offences(session: Session, counted: ColumnElement[bool]) -> tuple[Offences, ...]:
    by_agent = _by_agent(counted).c
    rows = session.execute(
        select(by_agent.kind, by_agent.offences, func.count())
        .group_by(by_agent.kind, by_agent.offences)
        .order_by(by_agent.kind, by_agent.offences)
    )
    return tuple(Offences(kind=kind, offences=offences, agents=agents) for kind, offences, agents in rows)


def _repeat_offenders(session: Session, counted: ColumnElement[bool]) -> tuple[Offender, ...]:
    by_agent = _by_agent(counted).c
    rows = session.execute(
        select(by_agent.agent_id, Agent.name, by_agent.kind, by_agent.offences)
        .join(Agent, Agent.agent_id == by_agent.agent_id)
        .where(by_agent.offences > 1)
        .order_by(by_agent.offences.desc(), by_agent.agent_id, by_agent.kind)
    ).mappings()
    return tuple(Offender(**row) for row in rows)


# What is to come, and what waits


_FALLS_DUE = {
    NoticeKind.RECTIFICATION_ORDER: "rectification",
    NoticeKind.SERVICE_ORDER: "service",
    NoticeKind.PUNISHMENT: "payment",
}


def _days(session: Session, today: date) -> tuple[Day, ...]:
    """What falls due on each day from today on: limits that run, neither stopped nor to be served anew."""
    limit = newest_limits().c
    ahead = [today + timedelta(days=day) for day in range(AHEAD)]
    rows = session.execute(
        select(limit.last_day, limit.kind, func.count())
        .where(limit.served_at.is_not(None), limit.bounced_at.is_(None), limit.stopped_at.is_(None))
        .where(limit.last_day.between(ahead[0], ahead[-1]))
        .group_by(limit.last_day, limit.kind)
    ).all()
    works = calendar(session).works
    return tuple(
        Day(day=day, works=works(day), **{_FALLS_DUE[kind]: count for on, kind, count in rows if on == day})
        for day in ahead
    )


def _officers(session: Session, as_of: datetime, since: date | None) -> tuple[OfOfficers, ...]:
    now = waits.waiting(session, as_of)
    waited = {f.what: f for f in waits.figures(session, since or published()[0].effective)}
    waiting = Counter(wait.what for wait in now)
    return tuple(
        OfOfficers(
            what=what,
            waiting=waiting[what],
            longest=max((wait.working_days for wait in now if wait.what is what), default=0),
            waited=waited.get(what),
        )
        for what in Awaiting
        if what in waiting or what in waited
    )
