"""What waits for an officer: since when, and until when (rulebook 5.7)."""

from collections import defaultdict
from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from functools import cache
from statistics import median

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from registry.calendar import calendar
from registry.models import Case, Wait
from rulebook.vocabulary import SHANGHAI, Awaiting, Kind, day_of
from rulebook.working_days import Calendar, working_days


class Waiting(BaseModel):
    """Something of a case that waits for an officer, and since how many full working days."""

    model_config = ConfigDict(frozen=True)

    id: int
    case_no: str
    kind: Kind
    number: str
    agent_id: str
    agent_name: str
    what: Awaiting
    since: datetime
    working_days: int
    raised: int
    raised_on: date | None
    escalated_on: date | None


class Figure(BaseModel):
    """How long one kind of work has waited: of all that was done since a day, in full working days.

    Nine in ten waited no longer than `p90`; `raised` were brought up again.
    """

    model_config = ConfigDict(frozen=True)

    what: Awaiting
    count: int
    median: float
    p90: int
    raised: int


def begin(session: Session, case_no: str, what: Awaiting, at: datetime) -> None:
    """Something of a case begins to wait; what waits already goes on waiting."""
    session.execute(
        insert(Wait).values(case_no=case_no, what=what, since=at, raised=0).on_conflict_do_nothing()
    )


def end(
    session: Session,
    case_no: str,
    what: Awaiting | None,
    at: datetime,
    unless: ColumnElement[bool] | None = None,
) -> None:
    """It waits no more; with `what` none, nothing of the case does. `unless` says that it does after all."""
    waiting = update(Wait).where(Wait.case_no == case_no, Wait.ended_at.is_(None)).values(ended_at=at)
    if what is not None:
        waiting = waiting.where(Wait.what == what)
    if unless is not None:
        waiting = waiting.where(~unless)
    session.execute(waiting, execution_options={"synchronize_session": False})


def of(session: Session, case_no: str) -> set[Awaiting]:
    """What of a case waits."""
    return by_case(session, [case_no])[case_no]


def by_case(session: Session, case_nos: Collection[str]) -> defaultdict[str, set[Awaiting]]:
    """What of each of these cases waits."""
    found: defaultdict[str, set[Awaiting]] = defaultdict(set)
    unended = select(Wait.case_no, Wait.what).where(Wait.case_no.in_(case_nos), Wait.ended_at.is_(None))
    for case_no, what in session.execute(unended):
        found[case_no].add(what)
    return found


def waiting(session: Session, at: datetime) -> list[Waiting]:
    """All that waits as of a moment, the longest first."""
    rows = session.execute(
        select(Wait, Case)
        .join(Case, Case.case_no == Wait.case_no)
        .options(joinedload(Case.agent))
        .where(Wait.ended_at.is_(None))
        .order_by(Wait.since, Wait.id)
    )
    days = _Waited(calendar(session))
    return [
        Waiting(
            id=wait.id,
            case_no=case.case_no,
            kind=case.kind,
            number=case.number,
            agent_id=case.agent_id,
            agent_name=case.agent.name,
            what=wait.what,
            since=wait.since,
            working_days=days.waited(wait.since, at),
            raised=wait.raised,
            raised_on=wait.raised_on,
            escalated_on=wait.escalated_on,
        )
        for wait, case in rows
    ]


def figures(session: Session, since: date) -> list[Figure]:
    """How long officers have let things wait, by what, of all that waits no more since a day (5.7)."""
    days = _Waited(calendar(session))
    ended: defaultdict[Awaiting, list[tuple[int, bool]]] = defaultdict(list)
    first = datetime.combine(since, time(), SHANGHAI)
    done = select(Wait.what, Wait.since, Wait.ended_at, Wait.raised).where(Wait.ended_at >= first)
    for what, begun, until, raised in session.execute(done):
        if until:
            ended[what].append((days.waited(begun, until), raised > 0))
    return [_figure(what, ended[what]) for what in Awaiting if what in ended]


def _figure(what: Awaiting, ended: list[tuple[int, bool]]) -> Figure:
    waited = sorted(days for days, _ in ended)
    return Figure(
        what=what,
        count=len(waited),
        median=median(waited),
        p90=waited[(9 * len(waited) - 1) // 10],
        raised=sum(raised for _, raised in ended),
    )


class _Waited:
    """Counts working days between many moments: those between the same two days are counted once."""

    def __init__(self, days: Calendar) -> None:
        self._days = days
        self._between = cache(self._count)

    def waited(self, since: datetime, until: datetime) -> int:
        """The working days that have passed in full: neither the first day nor the last one counts."""
        first, last = (day_of(moment) for moment in (since, until))
        return self._between(first, last)

    def _count(self, first: date, last: date) -> int:
        return working_days(first + timedelta(days=1), last - timedelta(days=1), self._days)
