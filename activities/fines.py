"""Fines and the money that comes in for them (rulebook 2.3, 6 and 7.3)."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Date, cast, func, select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.step import Refused, Step, the_case
from registry import audit, holds, waits
from registry.models import Account, Agent, Case, Fine, Notice, Payment
from registry.session import Sessions
from registry.shown import Raised
from rulebook.money import ZERO, Balance, yuan
from rulebook.policy import in_force
from rulebook.vocabulary import SHANGHAI, Awaiting, FineStatus, Hold, NoticeKind, Stage, day_of


class ImposeFine(Step):
    """Fine the agent of a case for it."""


class FineImposed(audit.Done):
    """The fine, the agent's nth offence of this kind, and what the money stands at."""

    offence: int
    balance: Balance


class RecordPayment(Step):
    """Money that came in for a case; `amount` in yuan.

    `on` is the day on which the bank had it, in Asia/Shanghai; none is the day on which it is recorded.
    """

    reference: str
    amount: Decimal
    on: date | None = None


class PaymentRecorded(audit.Done):
    """What the money stands at after a payment.

    `to_refund` tells that the case was undone, `in_time` that it has shut the account down though its fine
    was paid in time.
    """

    amount: Decimal
    balance: Balance
    to_refund: bool = False
    in_time: bool = False


class VoidFine(Step):
    """Take a fine back."""


class FineVoided(audit.Done):
    """What the money stands at after the fine was taken back, and which later fines it had raised."""

    balance: Balance
    raised: tuple[Raised, ...] = ()


class ReviewFine(Step):
    """An officer reviews the fine of a case after an earlier offence was undone: lowers it, or keeps it.

    `because_of` is the case that was undone; with the `last` of its reviews, none waits any more.
    """

    because_of: str
    lower: bool
    reason: str
    last: bool = False


class FineReviewed(audit.Done):
    """What the money stands at after the review."""

    balance: Balance
    lowered: bool


class RefundPayments(Step):
    """What was paid for a fine that is void was given back, under a bank reference."""

    reference: str


class ReturnOwedBack(Step):
    """What a case that has ended owes back was given back (6.2), under a bank reference of its own."""

    reference: str


def balance(session: Session, case_no: str) -> Balance:
    """What is due and what was paid on a case, and not given back, in yuan."""
    fined = select(func.sum(Fine.amount)).where(Fine.case_no == case_no, Fine.status != FineStatus.VOID)
    paid = select(func.sum(Payment.amount)).where(Payment.case_no == case_no, Payment.refunded_at.is_(None))
    fine, money = session.execute(select(fined.scalar_subquery(), paid.scalar_subquery())).one()
    return Balance(fine=fine or ZERO, paid=money or ZERO)


def paid_in_time(session: Session, case: Case, now: Balance) -> bool:
    """Whether a case keeps the account shut down though the bank had its fine within the limit (6.2)."""
    if case.outcome and case.outcome.undone:
        return False
    if not holds.standing(session, case.agent_id, [Hold.SHUTDOWN], case.case_no):
        return False
    last_day = select(Notice.last_day).where(
        Notice.case_no == case.case_no, Notice.kind == NoticeKind.PUNISHMENT
    )
    recorded_on = cast(func.timezone(SHANGHAI.key, Payment.received_at), Date)
    in_time = select(func.sum(Payment.amount)).where(
        *(Payment.case_no == case.case_no, Payment.refunded_at.is_(None)),
        func.coalesce(Payment.had_on, recorded_on) <= last_day.scalar_subquery(),
    )
    return (session.scalar(in_time) or ZERO) >= now.fine


def bring_up_if_in_time(session: Session, case: Case, now: Balance, at: datetime) -> bool:
    """Have a shutdown wait for an officer whose fine was paid in time, and known too late (4.5)."""
    in_time = paid_in_time(session, case, now)
    if in_time:
        waits.begin(session, case.case_no, Awaiting.REINSTATEMENT, at)
    return in_time


def bring_up_owed_back(session: Session, case: Case, now: Balance, at: datetime) -> None:
    """Have what a case owes back wait for an officer (6.2), once it has ended: a fine may meet it before.

    One that was undone owes all that was paid (5.2), also in the moment before its fine is void.
    """
    if case.outcome and (now.paid if case.outcome.undone else now.owed_back):
        waits.begin(session, case.case_no, Awaiting.REFUND, at)


def _settle(session: Session, case: Case) -> Balance:
    now = balance(session, case.case_no)
    if now.settled:
        due = select(Fine).where(Fine.case_no == case.case_no, Fine.status == FineStatus.DUE)
        for fine in session.scalars(due):
            fine.status = FineStatus.SETTLED
        if case.outcome is Stage.SHUT_DOWN and holds.was_lifted(session, case.case_no, Hold.SHUTDOWN):
            case.outcome = Stage.SETTLED
    return now


def _stands(now: Balance) -> str:
    if now.due:
        return f"{yuan(now.due)} still due"
    return f"settled, {yuan(now.owed_back)} owed back" if now.owed_back else "settled"


class Fines:
    """The activities on fines and payments."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def impose_fine(self, order: ImposeFine) -> FineImposed:
        """Fine the agent by the case's policy, counting its earlier offences in the same transaction (7.3).

        1. The case is locked: a second attempt finds the first one's answer.
        2. The agent is locked: of two cases of one agent, one counts after the other has committed, so
           they cannot both be the first.

        An offence is a case of this kind in which a fine was set and stands (5.5).
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, FineImposed, order.opened):
                return done
            case = session.get_one(Case, order.case_no)
            _lock_agent(session, case)
            earlier = session.scalar(
                select(func.count(Fine.case_no.distinct())).where(
                    Fine.agent_id == case.agent_id, Fine.kind == case.kind, Fine.status != FineStatus.VOID
                )
            )
            offence = (earlier or 0) + 1
            fine = Fine(
                case_no=case.case_no,
                step=order.step,
                agent_id=case.agent_id,
                kind=case.kind,
                offence=offence,
                amount=in_force(case.policy).fine(case.kind, offence),
                set_at=order.at,
            )
            session.add(fine)
            session.flush()
            now = _settle(session, case)
            text = f"Fined {yuan(fine.amount)}: offence {offence} of the agent under this rule"
            if now.paid:
                text += f"; {yuan(now.paid)} had been paid, {_stands(now)}"
            imposed = FineImposed(line=audit.line(order.at, order.by, text), offence=offence, balance=now)
            return audit.record(session, order.case_no, order.step, imposed)

    @activity.defn
    def record_payment(self, order: RecordPayment) -> PaymentRecorded:
        """Count a payment towards the case, once for its bank reference (6.1).

        Raises `Refused` if the reference was counted for another case, with another amount or of another day,
        if that day is still to come, or if there is no such case.
        """
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            done = audit.recorded(session, order.case_no, order.step, PaymentRecorded, order.opened)
            if known := session.get(Payment, order.reference):
                had_on = known.had_on or day_of(known.received_at)
                if done and done.amount == order.amount and order.on in (None, had_on):
                    return done
                raise _counted(known, order.case_no)
            if order.on and order.on > day_of(order.at):
                raise Refused(f"the bank can't have had it on {order.on}: today is {day_of(order.at)}")
            undone = bool(case.outcome and case.outcome.undone)
            session.add(
                Payment(
                    reference=order.reference,
                    case_no=order.case_no,
                    amount=order.amount,
                    received_at=order.at,
                    had_on=order.on,
                    recorded_by=order.by,
                    refund_due_at=order.at if undone else None,
                )
            )
            session.flush()
            now = _settle(session, case)
            bring_up_owed_back(session, case, now, order.at)
            in_time = bring_up_if_in_time(session, case, now, order.at)
            text = f"{yuan(order.amount)} paid, reference {order.reference}"
            text += f", had by the bank on {order.on}" if order.on else ""
            text += f": {_stands(now)}"
            text += "; in time, though the account is shut down: an officer reinstates it" if in_time else ""
            paid = PaymentRecorded(
                line=audit.line(order.at, order.by, text),
                amount=order.amount,
                balance=now,
                to_refund=undone,
                in_time=in_time,
            )
            return audit.record(session, order.case_no, order.step, paid)

    @activity.defn
    def void_fine(self, order: VoidFine) -> FineVoided:
        """Take the case's fine back; what was paid is owed back (5.2).

        Raises `Refused` if the case holds the account closed for good.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, FineVoided, order.opened):
                return done
            case = session.get_one(Case, order.case_no)
            closed = session.scalar(select(Account.closed_by).where(Account.closed_by == order.case_no))
            if closed and not (case.outcome and case.outcome.undone):
                raise Refused(f"the account was closed for good in case {order.case_no}: its fine stands")
            _lock_agent(session, case)
            for fine in session.scalars(select(Fine).where(Fine.case_no == order.case_no)):
                fine.status = FineStatus.VOID
            session.flush()
            if raised := _raised(session, case):
                waits.begin(session, case.case_no, Awaiting.REVIEW, order.at)
            now = balance(session, order.case_no)
            refund = f"; {yuan(now.owed_back)} to be refunded" if now.owed_back else ""
            voided = FineVoided(
                line=audit.line(order.at, order.by, f"Fine voided{refund}"),
                balance=now,
                raised=raised,
            )
            return audit.record(session, order.case_no, order.step, voided)

    @activity.defn
    def review_fine(self, order: ReviewFine) -> FineReviewed:
        """Lower the case's fine to what it is without the offences that were undone, or keep it (5.5).

        Raises `Refused` where it stands no more, or is not too high (any more).
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, FineReviewed, order.opened):
                return done
            case = session.get_one(Case, order.case_no)
            _lock_agent(session, case)
            fine = session.scalar(
                select(Fine).where(Fine.case_no == case.case_no, Fine.status != FineStatus.VOID)
            )
            if fine is None:
                raise Refused(f"no fine of case {case.case_no} stands")
            offence, amount = _without(session, case, fine)
            if amount >= fine.amount:
                raise Refused(f"the fine of case {case.case_no} is {yuan(fine.amount)}, as it should be")
            if order.lower:
                what = f"lowered from {yuan(fine.amount)} to {yuan(amount)}, offence {offence}"
                fine.amount, fine.offence = amount, offence
                session.flush()
            else:
                what = f"kept at {yuan(fine.amount)}"
            if order.last:
                waits.end(session, order.because_of, Awaiting.REVIEW, order.at)
            now = _settle(session, case)
            bring_up_if_in_time(session, case, now, order.at)
            bring_up_owed_back(session, case, now, order.at)
            why = f"{order.because_of} was undone: {order.reason}"
            reviewed = FineReviewed(
                line=audit.line(order.at, order.by, f"Fine {what} ({why}); {_stands(now)}"),
                balance=now,
                lowered=order.lower,
            )
            return audit.record(session, order.case_no, order.step, reviewed)

    @activity.defn
    def refund_payments(self, order: RefundPayments) -> audit.Done:
        """Put on record that the payments marked for refund were given back. Raises `Refused` if none is."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            due = to_refund(session, order.case_no)
            if not due:
                raise Refused(f"no refund is due in case {order.case_no}")
            for payment in due:
                payment.refunded_at, payment.refund_reference = order.at, order.reference
            waits.end(session, order.case_no, Awaiting.REFUND, order.at)
            total = sum((payment.amount for payment in due), ZERO)
            text = f"{yuan(total)} refunded, reference {order.reference}"
            line = audit.line(order.at, order.by, text)
            return audit.record(session, order.case_no, order.step, audit.Done(line=line))

    @activity.defn
    def return_owed_back(self, order: ReturnOwedBack) -> audit.Done:
        """Put on record that all that a case owes back was given back (6.2), once for its bank reference.

        Raises `Refused` if nothing is owed back, the case is open or there is no such case, if the reference
        was counted already, or if what was paid is to be refunded since the case was undone.
        """
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            if known := session.get(Payment, order.reference):
                raise _counted(known, order.case_no)
            if case.outcome is None:
                raise Refused(f"case {case.case_no} is open: what was paid in it may yet be met by a fine")
            if to_refund(session, case.case_no):
                raise Refused(
                    f"case {case.case_no} was {case.outcome}, and its refund is only being prepared: try "
                    "again in a moment; where that doesn't help, `enforce reconcile` says why"
                )
            owed = balance(session, case.case_no).owed_back
            if not owed:
                raise Refused(f"nothing is owed back in case {case.case_no} (any more)")
            session.add(
                Payment(
                    reference=order.reference,
                    case_no=case.case_no,
                    amount=-owed,
                    received_at=order.at,
                    recorded_by=order.by,
                )
            )
            waits.end(session, case.case_no, Awaiting.REFUND, order.at)
            line = audit.line(order.at, order.by, f"{yuan(owed)} returned, reference {order.reference}")
            return audit.record(session, case.case_no, order.step, audit.Done(line=line))


def to_refund(session: Session, case_no: str) -> Sequence[Payment]:
    """The payments that an undo has marked for refund, and that were not given back yet."""
    marked = select(Payment).where(Payment.case_no == case_no, Payment.refund_due_at.is_not(None))
    return session.scalars(marked.where(Payment.refunded_at.is_(None))).all()


def _counted(known: Payment, case_no: str) -> Refused:
    """What to say of a bank reference that is on record already."""
    where = "" if known.case_no == case_no else f" for case {known.case_no}"
    returned = " returned" if known.amount < 0 else ""
    return Refused(
        f"bank reference {known.reference} was counted already{where}, "
        f"with {yuan(abs(known.amount))}{returned} of {known.had_on or day_of(known.received_at)}"
    )


def _lock_agent(session: Session, case: Case) -> None:
    """Of two cases of one agent that touch its fines, one does after the other has committed."""
    session.execute(
        select(Agent.agent_id).where(Agent.agent_id == case.agent_id).with_for_update(key_share=True)
    ).one()


def _raised(session: Session, case: Case) -> tuple[Raised, ...]:
    """The later fines of the agent under this rule that are higher than its standing offences make them."""
    own = select(func.min(Fine.id)).where(Fine.case_no == case.case_no).scalar_subquery()
    later = session.execute(
        select(Fine, Case)
        .join(Case, Case.case_no == Fine.case_no)
        .where(Fine.agent_id == case.agent_id, Fine.kind == case.kind, Fine.status != FineStatus.VOID)
        .where(Fine.id > own)
        .order_by(Fine.id)
    ).all()
    raised = []
    for fine, of in later:
        _, amount = _without(session, of, fine)
        if amount < fine.amount:
            raised.append(
                Raised(
                    case_no=of.case_no,
                    workflow_id=of.workflow_id,
                    amount=fine.amount,
                    offence=fine.offence,
                    would_be=amount,
                )
            )
    return tuple(raised)


def _without(session: Session, case: Case, fine: Fine) -> tuple[int, Decimal]:
    """Which offence a fine is for, counting those before it that stand, and what it comes to then."""
    earlier = session.scalar(
        select(func.count(Fine.case_no.distinct())).where(
            Fine.agent_id == fine.agent_id,
            Fine.kind == fine.kind,
            Fine.status != FineStatus.VOID,
            Fine.id < fine.id,
        )
    )
    offence = (earlier or 0) + 1
    return offence, in_force(case.policy).fine(fine.kind, offence)
