"""What the rules do in an open case if nobody acts, as if the agent had no other."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import func, select

from registry.models import Fine, Notice, Number
from rulebook.deadlines import Deadline, later
from rulebook.money import Balance, yuan
from rulebook.policy import in_force
from rulebook.vocabulary import Awaiting, FineStatus, Holder, NoticeKind, NumberStatus, day_of, written
from rulebook.working_days import Calendar, deadline
from starter.explain.record import Record
from starter.explain.rules import rules_of
from starter.explain.told import Next

_FOLLOWS = {
    NoticeKind.RECTIFICATION_ORDER: "fine",
    NoticeKind.PUNISHMENT: "account-shutdown",
    NoticeKind.SERVICE_ORDER: "take-back",
}


def course(of: Record, days: Calendar, as_of: datetime) -> Iterator[Next]:
    """What follows when the limit ends that runs now, and what follows from that."""
    limit, settled = of.limit, "fine" in of.steps and of.balance.settled
    follows = _FOLLOWS.get(limit.kind) if limit else None
    if limit is None or follows is None or follows in of.steps or settled:
        yield Next(at=as_of, text="its next step is under way")
        return
    ends = reckoned(limit, days)
    at = max(ends.at + of.policy.clock.spread(of.case.case_no), as_of)
    match limit.kind:
        case NoticeKind.SERVICE_ORDER:
            number = written(of.case.number)
            told = f"the limit to serve ends: number {number} is taken back and served directly"
            yield Next(at=at, limit=ends, text=told, rules=rules_of("take-back", of.case.kind))
            yield renewal(of, at)
        case NoticeKind.RECTIFICATION_ORDER:
            yield from _fine(of, days, at, ends)
        case _:
            yield from _shutdown(of, at, ends, of.balance)


def _fine(of: Record, days: Calendar, at: datetime, ends: Deadline) -> Iterator[Next]:
    offence = _offences(of) + 1
    fine = of.policy.fine(of.case.kind, offence)
    told = f"the limit to rectify ends: fined {yuan(fine)} (offence {offence} as of now), punishment notice"
    yield Next(at=at, limit=ends, text=told, rules=(*rules_of("fine", of.case.kind), "2.4"))
    then = Balance(fine=fine, paid=of.balance.paid)
    if then.settled:
        yield Next(at=at, text="what was paid already settles it: the case ends", rules=("6.2",))
        return
    ends = deadline(at, of.policy.secondary_sale.pay_within, days)
    yield from _shutdown(of, ends.at + of.policy.clock.spread(of.case.case_no), ends, then)


def _shutdown(of: Record, at: datetime, ends: Deadline, then: Balance) -> Iterator[Next]:
    told = (
        f"the limit to pay ends with {yuan(then.due)} due: the account is shut down, "
        f"{_numbers(of)} numbers (as of now) are taken back"
    )
    yield Next(at=at, limit=ends, text=told, rules=rules_of("account-shutdown", of.case.kind))
    last_day = day_of(at) + timedelta(days=of.policy.quarantine.days)
    rests = Deadline(last_day=last_day, provisional=ends.provisional)
    yield Next(at=rests.at, limit=rests, text="their quarantine ends: they are free", rules=("5.3",))


def reckoned(notice: Notice, days: Calendar) -> Deadline:
    """The deadline of a notice as it is computed anew when its timer fires (4.3)."""
    assert notice.counted_from and notice.working_days and notice.last_day
    promised = Deadline(last_day=notice.last_day, provisional=notice.provisional)
    return later(promised, deadline(notice.counted_from, notice.working_days, days))


def renewal(of: Record, as_of: datetime) -> Next:
    """The next renewal of a number in direct service (3.3)."""
    due = Deadline(last_day=of.number.renewal_due)
    notice = in_force(day_of(as_of)).service_failure.renewal_notice
    brought_up = due.last_day - timedelta(days=notice)
    return Next(
        at=due.at,
        limit=due,
        text=f"the platform renews number {written(of.case.number)} by then; brought up on {brought_up}",
        rules=("3.3",),
        command=of.typed(Awaiting.RENEWAL),
    )


def _offences(of: Record) -> int:
    """How many cases count as earlier offences as of now (5.5)."""
    of_this_kind = (Fine.agent_id == of.case.agent_id) & (Fine.kind == of.case.kind)
    counted = select(func.count(Fine.case_no.distinct())).where(of_this_kind, Fine.status != FineStatus.VOID)
    return of.session.scalar(counted) or 0


def _numbers(of: Record) -> int:
    """How many numbers a shutdown would take from the agent as of now."""
    counted = select(func.count()).where(
        Number.agent_id == of.case.agent_id,
        Number.status != NumberStatus.FREE,
        Number.holder == Holder.AGENT,
    )
    return of.session.scalar(counted) or 0
