"""Agents' accounts: suspended and reopened, shut down, closed for good."""

from sqlalchemy import select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.fines import balance
from activities.step import Refused, Step, standing_case, the_case
from registry import audit, holds, waits
from registry.models import Account, Case, Fine
from registry.session import Sessions
from rulebook.vocabulary import AccountStatus, Awaiting, FineStatus, Hold, Kind


class SuspendAccount(Step):
    """Suspend the account of a case's agent (1.2)."""


class ReopenAccount(Step):
    """Reopen an account that a case had suspended: an officer's act (1.4), or its `undo` (5.2)."""

    undo: bool = False


class ShutDownAccount(Step):
    """Shut the account of a case's agent down."""


class CloseAccount(Step):
    """Close the account of a case's agent for good, and cancel its qualification (1.6)."""


class ConfirmClosure(Step):
    """Another case says that it has closed the account of this case's agent (7.2)."""

    in_case: str


class AccountMoved(audit.Done):
    """The account is in the status that was asked for; `already_by` names the case that had done it."""

    already_by: str | None = None


class Accounts:
    """The activities on accounts. Two cases may come to one account at once: it is locked first."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def suspend_account(self, order: SuspendAccount) -> AccountMoved:
        """Suspend the account at once (1.2); one that is shut stays so."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved, order.opened):
                return done
            case, account = _standing_case_and_account(session, order.case_no)
            already = account.closed_by or account.shut_down_by or account.suspended_by
            what = f"is {account.status} already, by case {already}" if already else "suspended"
            _hold(session, order, case, account, Hold.SUSPENSION)
            return _moved(session, order, account, what, already)

    @activity.defn
    def reopen_account(self, order: ReopenAccount) -> AccountMoved:
        """Reopen the account that a fraud case had suspended, once its fine is paid (1.4).

        Undone, it stays suspended where another case of fraud stands. Raises `Refused` if it isn't suspended,
        the case is of another kind, still open or its fine unpaid, or another case of fraud is open.
        """
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved, order.opened):
                return done
            account = account_of(session, order.case_no)
            if case.kind is not Kind.FRAUD:
                raise Refused(f"case {case.case_no} is no case of fraud: it has suspended no account")
            if account.status is not AccountStatus.SUSPENDED:
                raise Refused(f"the account of agent {account.agent_id} is {account.status}, not suspended")
            if case.closed_at is None:
                raise Refused(f"case {case.case_no} is still open")
            if not order.undo and not balance(session, case.case_no).settled:
                raise Refused(f"the fine of case {case.case_no} is not paid")
            still_open = select(Case.case_no).where(
                Case.agent_id == case.agent_id, Case.kind == Kind.FRAUD, Case.closed_at.is_(None)
            )
            if not order.undo and (other := session.scalar(still_open.limit(1))):
                raise Refused(f"case {other} is open and keeps the account suspended")
            suspended = holds.standing(session, case.agent_id, [Hold.SUSPENSION])
            lifted = [h for h in suspended if not order.undo or h.case_no == case.case_no]
            holds.lift(session, lifted, order.at, case.case_no)
            holds.bring_account(session, account, order.at)
            by = account.suspended_by
            return _moved(session, order, account, f"stays suspended, by case {by}" if by else "reopened", by)

    @activity.defn
    def shut_down_account(self, order: ShutDownAccount) -> AccountMoved:
        """Shut the account down (1.5, 2.5). Of two cases that come at once, one does it; both know (7.1)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved, order.opened):
                return done
            case, account = _standing_case_and_account(session, order.case_no)
            already = account.closed_by or account.shut_down_by
            _hold(session, order, case, account, Hold.SHUTDOWN)
            what = f"was shut down by case {already} already" if already else "shut down"
            return _moved(session, order, account, what, already)

    @activity.defn
    def close_account(self, order: CloseAccount) -> AccountMoved:
        """Close the account for good and cancel the agency's qualification (1.6).

        Raises `Refused` if the case was undone, or the account reopened since: then it is too late.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved, order.opened):
                return done
            case, account = _standing_case_and_account(session, order.case_no)
            void = select(Fine.id).where(Fine.case_no == case.case_no, Fine.status == FineStatus.VOID)
            if session.scalar(void):
                raise Refused(f"case {case.case_no} was dismissed")
            if reopened_since(session, case):
                raise Refused(f"the account of agent {account.agent_id} has been reopened since: too late")
            already = account.closed_by
            _hold(session, order, case, account, Hold.CLOSURE)
            waits.end(session, case.case_no, Awaiting.APPROVAL, order.at)
            what = (
                f"was closed for good by case {already} already"
                if already
                else "closed for good, the agency's qualification cancelled"
            )
            return _moved(session, order, account, what, already)

    @activity.defn
    def confirm_closure(self, order: ConfirmClosure) -> audit.Done:
        """Put on record that the account was closed in another case (7.2). Raises `Refused` if it wasn't."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            account = account_of(session, order.case_no)
            other = session.get(Case, order.in_case)
            shut = account.status in (AccountStatus.SHUT_DOWN, AccountStatus.CLOSED)
            if other is None or other.agent_id != account.agent_id or not shut:
                raise Refused(
                    f"case {order.in_case} has not closed the account of agent {account.agent_id}: "
                    f"it is {account.status}"
                )
            text = f"The account was closed in case {order.in_case}: no more is asked here, a fine stays due"
            line = audit.line(order.at, order.by, text)
            return audit.record(session, order.case_no, order.step, audit.Done(line=line))


def account_of(session: Session, case_no: str) -> Account:
    """The account of a case's agent, locked until the transaction ends."""
    case = session.get_one(Case, case_no)
    return session.execute(
        select(Account).where(Account.agent_id == case.agent_id).with_for_update(key_share=True)
    ).scalar_one()


def _standing_case_and_account(session: Session, case_no: str) -> tuple[Case, Account]:
    case = standing_case(session, case_no)
    return case, account_of(session, case_no)


def _hold(session: Session, order: Step, case: Case, account: Account, kind: Hold) -> None:
    holds.place(
        session,
        case_no=case.case_no,
        step=order.step,
        kind=kind,
        agent_id=case.agent_id,
        at=order.at,
    )
    holds.bring_account(session, account, order.at)


def reopened_since(session: Session, case: Case) -> bool:
    """Whether an officer has reopened the agent's account after the case had suspended it."""
    return holds.was_lifted(session, case.case_no, Hold.SUSPENSION)


def _moved(
    session: Session, order: Step, account: Account, what: str, already_by: str | None = None
) -> AccountMoved:
    line = audit.line(order.at, order.by, f"Account of agent {account.agent_id} {what}")
    moved = AccountMoved(line=line, already_by=already_by)
    return audit.record(session, order.case_no, order.step, moved)
