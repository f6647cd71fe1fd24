"""Fines and the money that comes in for them (rulebook 2.3, 6 and 7.3)."""

from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.step import Refused, Step, the_case
from registry import audit
from registry.models import Account, Agent, Case, Fine, Payment
from registry.session import Sessions
from rulebook.money import ZERO, Balance, yuan
from rulebook.policy import in_force
from rulebook.vocabulary import FineStatus


class ImposeFine(Step):
    """Fine the agent of a case for it."""


class FineImposed(audit.Done):
    """The fine, the agent's nth offence of this kind, and what the money stands at."""

    offence: int
    balance: Balance


class RecordPayment(Step):
    """Money that came in for a case; `amount` in yuan."""

    reference: str
    amount: Decimal


class PaymentRecorded(audit.Done):
    """What the money stands at after a payment."""

    amount: Decimal
    balance: Balance


class VoidFine(Step):
    """Take a fine back."""


class FineVoided(audit.Done):
    """What the money stands at after the fine was taken back."""

    balance: Balance


def balance(session: Session, case_no: str) -> Balance:
    """What is due and what was paid on a case, in yuan."""
    fined = session.scalar(
        select(func.sum(Fine.amount)).where(Fine.case_no == case_no, Fine.status != FineStatus.VOID)
    )
    paid = session.scalar(select(func.sum(Payment.amount)).where(Payment.case_no == case_no))
    return Balance(fine=fined or ZERO, paid=paid or ZERO)


def _settle(session: Session, case_no: str) -> Balance:
    now = balance(session, case_no)
    if now.settled:
        due = select(Fine).where(Fine.case_no == case_no, Fine.status == FineStatus.DUE)
        for fine in session.scalars(due):
            fine.status = FineStatus.SETTLED
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
            if done := audit.recorded(session, order.case_no, order.step, FineImposed):
                return done
            case = session.get_one(Case, order.case_no)
            session.execute(
                select(Agent.agent_id).where(Agent.agent_id == case.agent_id).with_for_update(key_share=True)
            ).one()
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
            now = _settle(session, case.case_no)
            text = f"Fined {yuan(fine.amount)}: offence {offence} of the agent under this rule"
            if now.paid:
                text += f"; {yuan(now.paid)} had been paid, {_stands(now)}"
            imposed = FineImposed(line=audit.line(order.at, order.by, text), offence=offence, balance=now)
            return audit.record(session, order.case_no, order.step, imposed)

    @activity.defn
    def record_payment(self, order: RecordPayment) -> PaymentRecorded:
        """Count a payment towards the case, once for its bank reference (6.1).

        Raises `Refused` if the reference was counted for another case or with another amount, or if there is
        no such case.
        """
        with self._sessions.begin() as session:
            the_case(session, order.case_no)
            done = audit.recorded(session, order.case_no, order.step, PaymentRecorded)
            if done and done.amount == order.amount:
                return done
            if known := session.get(Payment, order.reference):
                where = "" if known.case_no == order.case_no else f" for case {known.case_no}"
                raise Refused(
                    f"bank reference {order.reference} was counted already{where}, with {yuan(known.amount)}"
                )
            session.add(
                Payment(
                    reference=order.reference,
                    case_no=order.case_no,
                    amount=order.amount,
                    received_at=order.at,
                    recorded_by=order.by,
                )
            )
            session.flush()
            now = _settle(session, order.case_no)
            text = f"{yuan(order.amount)} paid, reference {order.reference}: {_stands(now)}"
            paid = PaymentRecorded(
                line=audit.line(order.at, order.by, text), amount=order.amount, balance=now
            )
            return audit.record(session, order.case_no, order.step, paid)

    @activity.defn
    def void_fine(self, order: VoidFine) -> FineVoided:
        """Take the case's fine back; what was paid is owed back (5.2).

        Raises `Refused` if the case has closed the account for good meanwhile.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, FineVoided):
                return done
            if session.scalar(select(Account.closed_by).where(Account.closed_by == order.case_no)):
                raise Refused(f"the account was closed for good in case {order.case_no}: its fine stands")
            for fine in session.scalars(select(Fine).where(Fine.case_no == order.case_no)):
                fine.status = FineStatus.VOID
            session.flush()
            now = balance(session, order.case_no)
            refund = f"; {yuan(now.owed_back)} to be refunded" if now.owed_back else ""
            line = audit.line(order.at, order.by, f"Fine voided{refund}")
            return audit.record(session, order.case_no, order.step, FineVoided(line=line, balance=now))
