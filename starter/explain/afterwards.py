"""What comes of a case that has ended: what is left to officers, and what it still holds."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select

from registry.models import AuditLine, Number
from rulebook.deadlines import Deadline
from rulebook.money import ZERO, yuan
from rulebook.vocabulary import Awaiting, FilingStatus, Hold, NumberStatus, Stage, day_of, written
from starter.explain.course import renewal
from starter.explain.record import Record
from starter.explain.told import Next


def afterwards(of: Record, as_of: datetime) -> list[Next]:
    """What comes of a case that has ended, by date; what has none, as of now."""
    undone = of.case.outcome and of.case.outcome.undone
    after = [*_left_to_officers(of), *(_reviews(of) if undone else _while_it_stands(of, as_of))]
    return sorted(after, key=lambda what: what.at or as_of)


def _left_to_officers(of: Record) -> Iterator[Next]:
    """What is left to officers: filings; and, where the case was undone, what it can't give back."""
    for filing in of.filings:
        if not filing.status.done:
            withdrawing = filing.status is FilingStatus.WITHDRAWING
            typed = of.typed(Awaiting.WITHDRAWAL if withdrawing else Awaiting.FILING)
            yield Next(
                text=f"filing {filing.filing_no} to {filing.recipient} is {filing.status}",
                rules=("5.2",) if withdrawing else ("1.6",),
                command=typed.replace("FILING", filing.filing_no),
            )
    unpaid = [p.amount for p in of.payments if p.refund_due_at and not p.refunded_at]
    if unpaid:
        told = f"{yuan(sum(unpaid, ZERO))} is to be refunded"
        yield Next(text=told, rules=("5.2",), command=of.typed(Awaiting.REFUND))
    for line in of.lines:
        for number in line.result.get("lost", ()):
            if f"substitute-{number}" not in of.steps:
                told = f"number {written(number)} can't be returned: a substitute is to be found"
                typed = of.typed(Awaiting.SUBSTITUTE).replace("NUMBER", number, 1)
                yield Next(text=told, rules=("5.2", "5.3"), command=typed)


def _reviews(of: Record) -> Iterator[Next]:
    """The later fines that the undone offence had raised, and that no officer has reviewed yet (5.5)."""
    voided = of.steps.get("fine-void")
    for raised in voided.result.get("raised", ()) if voided else ():
        reviewed = select(AuditLine.id).where(
            AuditLine.case_no == raised["case_no"], AuditLine.step == f"review-after-{of.case.case_no}"
        )
        if of.session.scalar(reviewed) is None:
            amount, would_be = (yuan(Decimal(raised[key])) for key in ("amount", "would_be"))
            yield Next(
                text=f"the fine of {raised['case_no']} is to be reviewed: {amount} or {would_be}",
                rules=("5.5",),
                command=of.typed(Awaiting.REVIEW).replace("FINED", raised["case_no"]),
            )


def _while_it_stands(of: Record, as_of: datetime) -> Iterator[Next]:
    """Until when a case that stands can be contested, what stays due or owed, and what it still holds."""
    case = of.case
    assert case.closed_at
    last_day = day_of(case.closed_at) + timedelta(days=of.policy.appeal.within)
    until = Deadline(last_day=last_day)
    told = f"the agent {'can' if as_of < until.at else 'could'} appeal until then"
    typed = f'enforce appeal {case.case_no} --statement "..."'
    yield Next(at=until.at, limit=until, text=told, rules=("5.1",), command=typed)
    if of.balance.due:
        typed = f"enforce paid {case.case_no} AMOUNT --reference REFERENCE"
        yield Next(text=f"{yuan(of.balance.due)} stays due as debt", rules=("6.3",), command=typed)
    if of.balance.owed_back:
        typed = of.typed(Awaiting.REFUND)
        yield Next(text=f"{yuan(of.balance.owed_back)} is owed back", rules=("6.2",), command=typed)
    yield from _held(of, as_of)


def _held(of: Record, as_of: datetime) -> Iterator[Next]:
    standing = [hold for hold in of.holds if hold.lifted_at is None]
    if of.case.outcome is Stage.SETTLED:
        for hold in standing:
            frozen = hold.kind is Hold.FREEZE
            told = "the number stays frozen" if frozen else "the account stays suspended"
            typed = f"enforce {'unfreeze' if frozen else 'reopen'} {of.case.case_no}"
            yield Next(text=told, rules=("1.4",), command=typed)
    if of.balance.paid and any(hold.kind is Hold.SHUTDOWN for hold in standing):
        told = "the account stays shut down; since the agent has paid, an officer may take that back"
        if Awaiting.REINSTATEMENT in of.waits:
            told = "the fine was paid in time, and known too late: the shutdown is to be taken back"
        yield Next(text=told, rules=("6.3",), command=of.typed(Awaiting.REINSTATEMENT))
    if any(hold.kind is Hold.TAKE_BACK for hold in standing):
        yield renewal(of, as_of)
    resting = of.session.scalars(
        select(Number.quarantined_until).where(
            Number.number.in_([hold.number for hold in standing if hold.kind is Hold.RECLAIM]),
            Number.status == NumberStatus.QUARANTINED,
        )
    )
    for day, count in sorted(Counter(day for day in resting if day).items()):
        rests = Deadline(last_day=day)
        told = f"the quarantine of {count} numbers ends: they are free"
        yield Next(at=rests.at, limit=rests, text=told, rules=("5.3",))
