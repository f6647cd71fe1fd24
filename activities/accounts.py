"""Agents' accounts: suspended and reopened, shut down, closed for good."""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.fines import balance
from activities.step import Refused, Step, the_case
from registry import audit
from registry.models import Account, AuditLine, Case, Fine
from registry.session import Sessions
from rulebook.vocabulary import AccountStatus, FineStatus, Kind, Stage


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
        """Suspend the account at once (1.2); one that isn't open stays as it is."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved):
                return done
            account = _account_of(session, order.case_no)
            already = account.closed_by or account.shut_down_by or account.suspended_by
            if account.status is AccountStatus.OPEN:
                already = None
                account.status, account.since = AccountStatus.SUSPENDED, order.at
                account.suspended_by = order.case_no
            what = f"is {account.status} already, by case {already}" if already else "suspended"
            return _moved(session, order, account, what, already)

    @activity.defn
    def reopen_account(self, order: ReopenAccount) -> AccountMoved:
        """Reopen the account that a fraud case had suspended, once its fine is paid (1.4).

        Undone, it stays suspended where another case of fraud stands. Raises `Refused` if it isn't suspended,
        the case is of another kind, still open or its fine unpaid, or another case of fraud is open.
        """
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved):
                return done
            account = _account_of(session, order.case_no)
            if case.kind is not Kind.FRAUD:
                raise Refused(f"case {case.case_no} is no case of fraud: it has suspended no account")
            if account.status is not AccountStatus.SUSPENDED:
                raise Refused(f"the account of agent {account.agent_id} is {account.status}, not suspended")
            if case.closed_at is None:
                raise Refused(f"case {case.case_no} is still open")
            if not order.undo and not balance(session, case.case_no).settled:
                raise Refused(f"the fine of case {case.case_no} is not paid")
            for other in _frauds_since_reopened(session, case):
                if order.undo:
                    account.suspended_by = other.case_no
                    what = f"stays suspended, by case {other.case_no}"
                    return _moved(session, order, account, what, other.case_no)
                if other.closed_at is None:
                    raise Refused(f"case {other.case_no} is open and keeps the account suspended")
            account.status, account.since, account.suspended_by = AccountStatus.OPEN, order.at, None
            return _moved(session, order, account, "reopened")

    @activity.defn
    def shut_down_account(self, order: ShutDownAccount) -> AccountMoved:
        """Shut the account down (1.5, 2.5). Of two cases that come at once, one does it; both know (7.1)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved):
                return done
            account = _account_of(session, order.case_no)
            already = account.closed_by or account.shut_down_by
            if already:
                return _moved(session, order, account, f"was shut down by case {already} already", already)
            account.status, account.since = AccountStatus.SHUT_DOWN, order.at
            account.shut_down_by = order.case_no
            return _moved(session, order, account, "shut down")

    @activity.defn
    def close_account(self, order: CloseAccount) -> AccountMoved:
        """Close the account for good and cancel the agency's qualification (1.6).

        Raises `Refused` if the case was dismissed, or the account reopened since: then it is too late.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved):
                return done
            case = session.get_one(Case, order.case_no)
            account = _account_of(session, order.case_no)
            void = select(Fine.id).where(Fine.case_no == case.case_no, Fine.status == FineStatus.VOID)
            if case.outcome is Stage.DISMISSED or session.scalar(void):
                raise Refused(f"case {case.case_no} was dismissed")
            if reopened_since(session, case):
                raise Refused(f"the account of agent {account.agent_id} has been reopened since: too late")
            if account.closed_by:
                what = f"was closed for good by case {account.closed_by} already"
                return _moved(session, order, account, what, account.closed_by)
            account.status, account.since, account.closed_by = AccountStatus.CLOSED, order.at, order.case_no
            account.agent.disqualified_at = order.at
            return _moved(session, order, account, "closed for good, the agency's qualification cancelled")

    @activity.defn
    def confirm_closure(self, order: ConfirmClosure) -> audit.Done:
        """Put on record that the account was closed in another case (7.2). Raises `Refused` if it wasn't."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, audit.Done):
                return done
            account = _account_of(session, order.case_no)
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


def _account_of(session: Session, case_no: str) -> Account:
    case = session.get_one(Case, case_no)
    return session.execute(
        select(Account).where(Account.agent_id == case.agent_id).with_for_update()
    ).scalar_one()


def reopened_since(session: Session, case: Case) -> bool:
    """Whether the agent's account was reopened after the case was opened, in the order of the audit trail."""
    opened = select(AuditLine.id).where(AuditLine.case_no == case.case_no, AuditLine.step == "open")
    reopened = (
        select(AuditLine.id)
        .join(Case, Case.case_no == AuditLine.case_no)
        .where(Case.agent_id == case.agent_id, AuditLine.id > opened.scalar_subquery())
        .where(or_(AuditLine.step.like("reopen-%"), AuditLine.step == "account-reopen"))
        .where(AuditLine.result["already_by"].as_string().is_(None))
    )
    return session.scalar(reopened.limit(1)) is not None


def _frauds_since_reopened(session: Session, case: Case) -> list[Case]:
    """The agent's other cases of fraud that stand and for which the account was not reopened since."""
    others = session.scalars(
        select(Case)
        .where(Case.agent_id == case.agent_id, Case.kind == Kind.FRAUD, Case.case_no != case.case_no)
        .where(or_(Case.outcome.is_(None), Case.outcome != Stage.DISMISSED))
        .order_by(Case.opened_at)
    )
    return [other for other in others if not reopened_since(session, other)]


def _moved(
    session: Session, order: Step, account: Account, what: str, already_by: str | None = None
) -> AccountMoved:
    line = audit.line(order.at, order.by, f"Account of agent {account.agent_id} {what}")
    moved = AccountMoved(line=line, already_by=already_by)
    return audit.record(session, order.case_no, order.step, moved)
