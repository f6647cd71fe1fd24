"""Undoing what a case did, newest first, each effect once (rulebook 5.2)."""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased
from temporalio import activity

from activities.accounts import account_of
from activities.fines import balance, paid_in_time
from activities.numbers import Renewal
from activities.step import Refused, Step, standing_case, the_case
from registry import audit, holds, waits
from registry.models import (
    Account,
    Appeal,
    AuditLine,
    Case,
    Filing,
    Fine,
    HoldRow,
    Number,
    Payment,
)
from registry.session import Sessions
from registry.shown import Line
from rulebook.money import ZERO, Balance, yuan
from rulebook.vocabulary import Awaiting, FineStatus, Hold, Holder, Stage, written


class UndoCase(Step):
    """Find that a case did not stand: `outcome` is dismissed or overturned."""

    outcome: Stage
    text: str


class Effect(BaseModel):
    """One thing that a case did, by the step that did it."""

    model_config = ConfigDict(frozen=True)

    step: str
    what: Literal["hold", "fine", "filings"]
    text: str


class CaseUndone(audit.Done):
    """What is to be undone, the newest first; `refund` in yuan is what was paid in the case."""

    effects: tuple[Effect, ...]
    refund: Decimal = ZERO


class LiftHold(Step):
    """Lift what the case has held since its step `of`."""

    of: str


class HoldLifted(audit.Done):
    """What became of the numbers.

    `returned` are their agent's again; `lost` can't be returned any more; the platform had served those that
    are `no_longer_direct`.
    """

    returned: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    no_longer_direct: tuple[Renewal, ...] = ()


class ReinstateCase(Step):
    """An officer takes back the shutdown of a case (6.3); or, with `keep`, finds that it stays as it is."""

    reason: str
    keep: bool = False


class CaseReinstated(audit.Done):
    """How the case has ended now, what its money stands at, the other lines, and the numbers that are lost.

    `in_time`: the bank had the fine in time.
    """

    outcome: Stage
    balance: Balance
    in_time: bool = False
    lines: tuple[Line, ...] = ()
    lost: tuple[str, ...] = ()


class Undoing:
    """The activities that undo."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def undo_case(self, order: UndoCase) -> CaseUndone:
        """Put on record that the case did not stand, and say what it has done that is to be undone.

        From then on it counts as no offence (5.5), and nothing is done in its name any more. Raises `Refused`
        if it was undone before, or is to be dismissed though two officers have closed the account for good.
        """
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, CaseUndone, order.opened):
                return done
            if case.outcome and case.outcome.undone:
                raise Refused(f"case {case.case_no} was {case.outcome} already")
            closed = holds.standing(session, case.agent_id, [Hold.CLOSURE], case.case_no)
            if order.outcome is Stage.DISMISSED and closed:
                raise Refused(
                    f"case {case.case_no} has closed the account for good, found by two officers: "
                    "only an appeal overturns it"
                )
            case.outcome, case.closed_at = order.outcome, case.closed_at or order.at
            waits.end(session, case.case_no, None, order.at)
            pending = select(Appeal).where(Appeal.case_no == case.case_no, Appeal.decided_at.is_(None))
            for appeal in session.scalars(pending):
                appeal.decided_at, appeal.decided_by = order.at, order.by
                appeal.upheld, appeal.reasons = False, order.text
            paid = session.scalars(select(Payment).where(Payment.case_no == case.case_no)).all()
            refund = sum((payment.amount for payment in paid), ZERO)
            if refund:
                for payment in paid:
                    payment.refund_due_at = order.at
                waits.begin(session, case.case_no, Awaiting.REFUND, order.at)
            undone = CaseUndone(
                line=audit.line(order.at, order.by, order.text),
                effects=_effects(session, case),
                refund=refund,
            )
            return audit.record(session, order.case_no, order.step, undone)

    @activity.defn
    def lift_hold(self, order: LiftHold) -> HoldLifted:
        """Lift what the case holds since a step: account and numbers are what they would be without it.

        A number whose quarantine has ended is nobody's any more, and lost to the agent (5.3).
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, HoldLifted, order.opened):
                return done
            lifted = _lift(session, session.get_one(Case, order.case_no), order)
            return audit.record(session, order.case_no, order.step, lifted)

    @activity.defn
    def reinstate_case(self, order: ReinstateCase) -> CaseReinstated:
        """Take back the shutdown of a case and the taking back of its numbers, newest first (6.3).

        The fine stands, and so does the offence. It is one transaction: an undo comes before it, and it is
        refused, or after it, and finds that done already. Raises `Refused` where the case is open, was undone
        or keeps no account shut down, the account is closed for good, or nothing was paid.
        """
        with self._sessions.begin() as session:
            the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, CaseReinstated, order.opened):
                return done
            case = standing_case(session, order.case_no)
            if case.outcome is None:
                raise Refused(f"case {case.case_no} is open: nothing is taken back before it has ended")
            now = balance(session, case.case_no)
            if order.keep:
                if Awaiting.REINSTATEMENT not in waits.of(session, case.case_no):
                    raise Refused(
                        f"no reinstatement waits in case {case.case_no}: its shutdown stays in any case"
                    )
                line = audit.line(order.at, order.by, f"The shutdown stays ({order.reason})")
                kept = CaseReinstated(line=line, outcome=case.outcome, balance=now)
                waits.end(session, case.case_no, Awaiting.REINSTATEMENT, order.at)
                return audit.record(session, case.case_no, order.step, kept)
            mine = _to_reinstate(session, case)
            in_time = paid_in_time(session, case, now)
            waits.end(session, case.case_no, Awaiting.REINSTATEMENT, order.at)
            case.outcome = Stage.SETTLED if now.settled else Stage.SHUT_DOWN
            lifted = {}
            for effect in _effects(session, case):
                if effect.step in mine:
                    step = f"reinstate-{effect.step}"
                    lift = LiftHold(case_no=case.case_no, step=step, at=order.at, by=order.by, of=effect.step)
                    lifted[step] = _lift(session, case, lift)
            due = f"{yuan(now.due)} of its fine stays due" if now.due else "its fine is settled, and stands"
            overtook = _overtaken_by(session, case)
            stay = f"; {', '.join(overtook)}, which it overtook, stay ended" if overtook else ""
            reinstated = CaseReinstated(
                line=audit.line(order.at, order.by, f"Shutdown taken back: {due}{stay} ({order.reason})"),
                outcome=case.outcome,
                balance=now,
                in_time=in_time,
                lines=tuple(one.line for one in lifted.values()),
                lost=tuple(number for one in lifted.values() for number in one.lost),
            )
            audit.record(session, case.case_no, order.step, reinstated)
            for step, one in lifted.items():
                audit.record(session, case.case_no, step, one)
            return reinstated


def _lift(session: Session, case: Case, order: LiftHold) -> HoldLifted:
    account = account_of(session, order.case_no)
    own = select(HoldRow).where(HoldRow.case_no == order.case_no, HoldRow.step == order.of)
    # Their quarantine may end at this moment: it does so before this or after it.
    its_numbers = select(Number.number).where(Number.number.in_(own.with_only_columns(HoldRow.number)))
    session.execute(its_numbers.order_by(Number.number).with_for_update(key_share=True)).all()
    placed = session.scalars(own.order_by(HoldRow.id)).all()
    stood = [hold for hold in placed if hold.lifted_at is None]
    holds.lift(session, stood, order.at, case.case_no)
    lost: list[str] = []
    returned: list[str] = []
    direct: tuple[Renewal, ...] = ()
    if placed[0].number is None:
        holds.bring_account(session, account, order.at)
        what = _account(account, stood)
    else:
        numbers = [hold.number for hold in placed if hold.number]
        moved = holds.bring_numbers(session, case.agent_id, numbers)
        returned = [n.number for n in moved if n.holder is Holder.AGENT]
        if placed[0].kind is Hold.RECLAIM:
            lost = [h.number for h in placed if h.number and _lost_by_it_alone(session, h)]
        if placed[0].kind is Hold.TAKE_BACK:
            direct = tuple(Renewal(number=n.number, due=n.renewal_due) for n in moved)
        what = _numbers(session, placed[0].kind, numbers, moved, lost)
    if lost:
        waits.begin(session, case.case_no, Awaiting.SUBSTITUTE, order.at)
    return HoldLifted(
        line=audit.line(order.at, order.by, what),
        returned=tuple(returned),
        lost=tuple(lost),
        no_longer_direct=direct,
    )


_SHUTS = (Hold.SHUTDOWN, Hold.RECLAIM)


def _to_reinstate(session: Session, case: Case) -> set[str]:
    """The steps whose holds a reinstatement lifts. Raises `Refused` where it may not be."""
    account = account_of(session, case.case_no)
    if account.closed_by:
        raise Refused(
            f"the account of agent {account.agent_id} is closed for good, by case {account.closed_by}"
        )
    standing = holds.standing(session, case.agent_id, _SHUTS, case.case_no)
    if not any(hold.kind is Hold.SHUTDOWN for hold in standing):
        raise Refused(f"case {case.case_no} keeps no account shut down (any more)")
    if not balance(session, case.case_no).paid:
        raise Refused(f"nothing has been paid in case {case.case_no}")
    placed = select(HoldRow.step).where(HoldRow.case_no == case.case_no, HoldRow.kind.in_(_SHUTS))
    return set(session.scalars(placed))


def _overtaken_by(session: Session, case: Case) -> list[str]:
    """The cases that ended because this one had shut the account down (7.2)."""
    told = (
        select(AuditLine.case_no)
        .join(Case, Case.case_no == AuditLine.case_no)
        .where(Case.agent_id == case.agent_id, Case.outcome == Stage.OVERTAKEN)
        .where(AuditLine.step == "account-closed", AuditLine.text.contains(f" {case.case_no}"))
    )
    return [case_no for case_no in session.scalars(told.order_by(AuditLine.case_no)) if case_no]


def _lost_by_it_alone(session: Session, hold: HoldRow) -> bool:
    """Whether a number has left quarantine, in which no other case that stands would have put it.

    One that an officer has dealt with is not lost a second time, by an undo after a reinstatement.
    """
    if not (hold.lifted_by or "").startswith("quarant"):
        return False
    replaced = select(AuditLine.id).where(
        AuditLine.case_no == hold.case_no, AuditLine.step == f"substitute-{hold.number}"
    )
    if session.scalar(replaced) is not None:
        return False
    keeps = aliased(HoldRow)
    still_shut = (
        select(keeps.id)
        .where(keeps.case_no == HoldRow.case_no, keeps.lifted_at.is_(None))
        .where(keeps.kind.in_([Hold.SHUTDOWN, Hold.CLOSURE]))
        .exists()
    )
    others = (
        select(HoldRow.id)
        .join(Case, Case.case_no == HoldRow.case_no)
        .where(HoldRow.kind == Hold.RECLAIM, HoldRow.number == hold.number, HoldRow.case_no != hold.case_no)
        .where(HoldRow.lifted_by == hold.lifted_by, still_shut)
        .where(Case.outcome.is_(None) | Case.outcome.not_in([Stage.DISMISSED, Stage.OVERTURNED]))
    )
    return session.scalar(others.limit(1)) is None


def _effects(session: Session, case: Case) -> tuple[Effect, ...]:
    """What the case has done, the newest first, in the order of the audit trail."""
    held = session.scalars(select(HoldRow.step).where(HoldRow.case_no == case.case_no))
    steps: dict[str, Literal["hold", "fine", "filings"]] = dict.fromkeys(held, "hold")
    fines = select(Fine.step).where(Fine.case_no == case.case_no, Fine.status != FineStatus.VOID)
    steps |= dict.fromkeys(session.scalars(fines), "fine")
    if session.scalar(select(Filing.filing_no).where(Filing.case_no == case.case_no).limit(1)):
        steps["filings"] = "filings"
    done = session.execute(
        select(AuditLine.step, AuditLine.text)
        .where(AuditLine.case_no == case.case_no, AuditLine.step.in_(steps))
        .order_by(AuditLine.id.desc())
    )
    return tuple(Effect(step=step, what=steps[step], text=text) for step, text in done)


def _account(account: Account, stood: list[HoldRow]) -> str:
    by = account.closed_by or account.shut_down_by or account.suspended_by
    free = "reopened" if stood else "was reopened before"
    what = f"stays {account.status}, by case {by}" if by else free
    return f"Account of agent {account.agent_id} {what}"


def _numbers(session: Session, kind: Hold, numbers: list[str], moved: list[Number], lost: list[str]) -> str:
    if kind is Hold.FREEZE:
        [number] = session.scalars(select(Number).where(Number.number.in_(numbers)))
        what = f"stays frozen, by case {number.frozen_by}" if number.frozen_by else f"is {number.status}"
        return f"Number {written(number.number)} {'unfrozen' if moved else what}"
    returned = sum(number.holder is Holder.AGENT for number in moved)
    left = len(numbers) - returned - len(lost)
    said = [f"{returned} numbers returned to their agent"] if returned or not left else []
    if left:
        said.append(f"{left} numbers stay where another case has put them")
    if lost:
        said.append(f"out of quarantine and not to be returned: {', '.join(map(written, lost))}")
    return "; ".join(said)
