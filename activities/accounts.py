"""Agents' accounts: suspended and reopened, shut down, closed for good."""

from sqlalchemy import select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.fines import balance
from activities.step import Refused, Step
from registry import audit
from registry.models import Account, Case
from registry.session import Sessions
from rulebook.vocabulary import AccountStatus, Stage


class SuspendAccount(Step):
    """Suspend the account of a case's agent (1.2)."""


class ReopenAccount(Step):
    """Reopen an account that a case had suspended (1.4)."""


class ShutDownAccount(Step):
    """Shut the account of a case's agent down."""


class CloseAccount(Step):
    """Close the account of a case's agent for good, and cancel its qualification (1.6)."""


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

        Raises `Refused` if it isn't suspended, the case is still open or its fine unpaid, or while another
        open case of fraud keeps the account suspended.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved):
                return done
            case = session.get_one(Case, order.case_no)
            account = _account_of(session, order.case_no)
            if account.status is not AccountStatus.SUSPENDED:
                raise Refused(f"the account of agent {account.agent_id} is {account.status}, not suspended")
            if case.closed_at is None:
                raise Refused(f"case {case.case_no} is still open")
            if case.outcome is not Stage.DISMISSED and not balance(session, case.case_no).settled:
                raise Refused(f"the fine of case {case.case_no} is not paid")
            keeps = session.scalar(
                select(Case.case_no).where(
                    Case.agent_id == case.agent_id, Case.kind == case.kind, Case.closed_at.is_(None)
                )
            )
            if keeps:
                raise Refused(f"case {keeps} is open and keeps the account suspended")
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

        Raises `Refused` if the account has been reopened since the case suspended it: then it is too late.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountMoved):
                return done
            account = _account_of(session, order.case_no)
            if account.status is AccountStatus.OPEN:
                raise Refused(f"the account of agent {account.agent_id} has been reopened since: too late")
            if account.closed_by:
                what = f"was closed for good by case {account.closed_by} already"
                return _moved(session, order, account, what, account.closed_by)
            account.status, account.since, account.closed_by = AccountStatus.CLOSED, order.at, order.case_no
            account.agent.disqualified_at = order.at
            return _moved(session, order, account, "closed for good, the agency's qualification cancelled")


def _account_of(session: Session, case_no: str) -> Account:
    case = session.get_one(Case, case_no)
    return session.execute(
        select(Account).where(Account.agent_id == case.agent_id).with_for_update()
    ).scalar_one()


def _moved(
    session: Session, order: Step, account: Account, what: str, already_by: str | None = None
) -> AccountMoved:
    line = audit.line(order.at, order.by, f"Account of agent {account.agent_id} {what}")
    moved = AccountMoved(line=line, already_by=already_by)
    return audit.record(session, order.case_no, order.step, moved)
