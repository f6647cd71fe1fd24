"""What comes next in a case if nobody acts, and what waits for an officer."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from registry.calendar import calendar
from registry.models import Account, Case
from rulebook.deadlines import Deadline
from rulebook.policy import in_force
from rulebook.vocabulary import Awaiting, NoticeKind, day_of
from rulebook.working_days import Calendar, deadline
from starter.explain.afterwards import afterwards
from starter.explain.course import course, reckoned
from starter.explain.record import Record
from starter.explain.told import Next


def coming(of: Record, as_of: datetime) -> tuple[Next, ...]:
    """What comes next as of a moment: first what waits for officers, then what has a date."""
    days = calendar(of.session)
    waiting = tuple(_waiting(of, days, as_of))
    if of.case.closed_at:
        return (*waiting, *afterwards(of, as_of))
    if any(what.holds_up for what in waiting):
        return waiting
    return (*waiting, *_among_others(of, days, as_of))


# What waits for an officer


def _waiting(of: Record, days: Calendar, as_of: datetime) -> Iterator[Next]:
    """What waits for an officer; while a case is open, most of it holds everything else up."""
    is_open = of.case.closed_at is None
    # With the account closed, the case has left its clause, and no limit runs any more.
    limit = None if "account-closed" in of.steps else of.limit

    def waits(what: Awaiting, told: str, rules: str, holds_up: bool = is_open) -> Next:
        if what in of.waits:
            told = f"{told}; {_brought_up(of.waits[what], days, as_of)}"
        return Next(text=told, rules=(*rules.split(), "5.7"), command=of.typed(what), holds_up=holds_up)

    left = ""
    if is_open and limit and limit.stopped_at:
        left = f"; then {limit.working_days} working days of the limit are left"
    if notice := of.unserved:
        clock = ", and no clock starts before it is" if notice.last_day else ""
        told = f"notice {notice.notice_no} ({notice.kind}) is not served yet{clock}"
        holds_up = is_open and notice.kind is not NoticeKind.FINE_LOWERED
        if notice.bounced_at:
            holds_up = notice is limit
            until = ", and nobody is punished on its limit before it is" if holds_up else ""
            told = f"notice {notice.notice_no} ({notice.kind}) has bounced: it has to be served again{until}"
        yield waits(Awaiting.DELIVERY, told, "4.6", holds_up)
    if Awaiting.APPEAL in of.waits:
        told = f"appeal {of.appeals[-1].appeal_no} waits for an officer who had no part in the case{left}"
        yield waits(Awaiting.APPEAL, told, "5.1 4.4" if is_open else "5.1")
    if is_open and limit and (held := of.held):
        told = f"held by {held.actor}: the clock stands still until the case is resumed{left}"
        yield waits(Awaiting.RESUMPTION, told, "4.4")
    if Awaiting.VERIFICATION in of.waits and limit:
        ends = reckoned(limit, days)
        rest = f"; if it fails, the limit {'ends' if ends.at > as_of else 'has ended'} {ends.last_day} 24:00"
        told = f"rectification is reported: no penalty before an officer has verified it{left or rest}"
        yield waits(Awaiting.VERIFICATION, told, f"4.5 {of.case.kind.clause}.2")
    if Awaiting.APPROVAL in of.waits:
        told = "serious circumstances are proposed: nothing follows from it until a second officer approves"
        yield waits(Awaiting.APPROVAL, told, "1.6", False)


def _brought_up(since: datetime, days: Calendar, as_of: datetime) -> str:
    """When what waits is brought up (5.7): on the working day after so many full ones."""
    limits = in_force(day_of(as_of)).officers
    again = deadline(since, limits.raise_after + 1, days).last_day
    higher = deadline(since, limits.escalate_after + 1, days).last_day
    return f"it is brought up each working day from {again}, to the supervisor from {higher}"


# What the rules do, among the agent's other cases


class _Shutdown(NamedTuple):
    """When another case shuts the agent's account down, or has done so."""

    at: datetime
    by: str
    limit: Deadline | None = None


def _among_others(of: Record, days: Calendar, as_of: datetime) -> list[Next]:
    """What the rules do in an open case if nobody acts, unless another case shuts the account first (7.2)."""
    own = list(course(of, days, as_of))
    first = min(_shutdowns(of, days, as_of), key=lambda shutdown: shutdown[:2], default=None)
    ends = next((what.at for what in own if what.at and _ends(what)), None)
    if first is None or (ends and ends < first.at):
        return own
    told = (
        f"case {first.by} has shut the account down by then: this case ends, and a fine that is set stays due"
    )
    overtaken = Next(at=first.at, limit=first.limit, text=told, rules=("7.2",))
    return [*(what for what in own if what.at and what.at < first.at), overtaken]


def _shutdowns(of: Record, days: Calendar, as_of: datetime) -> Iterator[_Shutdown]:
    """The shutdowns of the agent's account by other cases, each as if it were the only one."""
    account = of.session.get_one(Account, of.case.agent_id)
    if (already := account.closed_by or account.shut_down_by) and already != of.case.case_no:
        yield _Shutdown(as_of, already)
    still_open = select(Case).where(Case.agent_id == of.case.agent_id, Case.closed_at.is_(None))
    for case in of.session.scalars(still_open.where(Case.case_no != of.case.case_no)):
        other = Record.of(of.session, case)
        if not any(what.holds_up for what in _waiting(other, days, as_of)):
            for what in course(other, days, as_of):
                if what.at and _shuts(what):
                    yield _Shutdown(what.at, case.case_no, what.limit)


def _shuts(what: Next) -> bool:
    return not {"1.5", "2.5"}.isdisjoint(what.rules)


def _ends(what: Next) -> bool:
    return _shuts(what) or not {"3.3", "6.2"}.isdisjoint(what.rules)
