"""Placing and lifting what cases hold, and bringing accounts and numbers to what follows from it."""

from collections.abc import Collection, Iterable
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.models import Account, HoldRow, Number
from rulebook.holds import account_status, number_status
from rulebook.vocabulary import Hold, NumberStatus


def place(
    session: Session,
    *,
    case_no: str,
    step: str,
    kind: Hold,
    agent_id: str,
    at: datetime,
    numbers: Iterable[str] | None = None,
    until: date | None = None,
) -> None:
    """Let a case hold the agent's account, or these numbers; `until` is the last day of a quarantine."""
    for number in [None] if numbers is None else numbers:
        session.add(
            HoldRow(
                case_no=case_no,
                step=step,
                kind=kind,
                agent_id=agent_id,
                number=number,
                quarantined_until=until,
                since=at,
            )
        )
    session.flush()


def standing(
    session: Session, agent_id: str, kinds: Collection[Hold] = tuple(Hold), case_no: str | None = None
) -> list[HoldRow]:
    """The holds of these kinds that stand against an agent, of one case if it is named; the oldest first."""
    held = select(HoldRow).where(
        HoldRow.agent_id == agent_id, HoldRow.lifted_at.is_(None), HoldRow.kind.in_(kinds)
    )
    if case_no is not None:
        held = held.where(HoldRow.case_no == case_no)
    return list(session.scalars(held.order_by(HoldRow.id)))


def was_lifted(session: Session, case_no: str, kind: Hold) -> bool:
    """Whether a hold of this kind that the case had placed stands no more."""
    lifted = select(HoldRow.id).where(
        HoldRow.case_no == case_no, HoldRow.kind == kind, HoldRow.lifted_at.is_not(None)
    )
    return session.scalar(lifted.limit(1)) is not None


def lift(session: Session, held: Iterable[HoldRow], at: datetime, by: str) -> None:
    """Lift holds; `by` says what lifted them: a case, or the end of a quarantine."""
    for hold in held:
        hold.lifted_at, hold.lifted_by = at, by
    session.flush()


def bring_account(session: Session, account: Account, at: datetime) -> None:
    """Bring an account, which the caller has locked, to the status that follows from the holds."""
    oldest: dict[Hold, HoldRow] = {}
    for hold in standing(session, account.agent_id):
        oldest.setdefault(hold.kind, hold)
    status = account_status(oldest.keys())
    if status is not account.status:
        account.status, account.since = status, at
    account.suspended_by = _case(oldest.get(Hold.SUSPENSION))
    account.shut_down_by = _case(oldest.get(Hold.SHUTDOWN))
    account.closed_by = _case(oldest.get(Hold.CLOSURE))
    closure = oldest.get(Hold.CLOSURE)
    account.agent.disqualified_at = closure.since if closure else None
    session.flush()


def bring_numbers(session: Session, agent_id: str, numbers: Collection[str]) -> list[Number]:
    """Bring these numbers of an agent to the status that follows from the holds; returns those that moved.

    A number that is free has left the agent for good.
    """
    rows = session.scalars(
        select(Number)
        .where(Number.number.in_(numbers))
        .order_by(Number.number)
        .with_for_update(key_share=True)
    ).all()
    oldest: dict[str, dict[Hold, HoldRow]] = {}
    for hold in standing(session, agent_id, (Hold.FREEZE, Hold.TAKE_BACK, Hold.RECLAIM)):
        oldest.setdefault(hold.number or "", {}).setdefault(hold.kind, hold)
    moved = []
    for number in rows:
        if number.status is NumberStatus.FREE:
            continue
        held = oldest.get(number.number, {})
        before = number.status, number.holder
        number.status, number.holder = number_status(held.keys())
        resting = number.status is NumberStatus.QUARANTINED
        number.quarantined_until = held[Hold.RECLAIM].quarantined_until if resting else None
        number.frozen_by = _case(held.get(Hold.FREEZE)) if number.status is NumberStatus.FROZEN else None
        number.reclaimed_by = _case(held.get(Hold.TAKE_BACK) or held.get(Hold.RECLAIM))
        if (number.status, number.holder) != before:
            moved.append(number)
    session.flush()
    return moved


def _case(hold: HoldRow | None) -> str | None:
    return hold.case_no if hold else None
