"""Agents' accounts."""

from sqlalchemy import select
from temporalio import activity

from activities.step import Step
from registry import audit
from registry.models import Account, Case
from registry.session import Sessions
from rulebook.vocabulary import AccountStatus


class ShutDownAccount(Step):
    """Shut the account of a case's agent down."""


class AccountShutDown(audit.Done):
    """The account is shut down; `already_by` names the case that had done it before (7.1)."""

    already_by: str | None = None


class Accounts:
    """The activities on accounts."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def shut_down_account(self, order: ShutDownAccount) -> AccountShutDown:
        """Shut the account down (2.5). Two cases may come here at once: it happens once, both know (7.1)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, AccountShutDown):
                return done
            case = session.get_one(Case, order.case_no)
            account = session.execute(
                select(Account).where(Account.agent_id == case.agent_id).with_for_update()
            ).scalar_one()
            already = account.shut_down_by if account.status is AccountStatus.SHUT_DOWN else None
            if already is None:
                account.status, account.shut_down_by = AccountStatus.SHUT_DOWN, order.case_no
                account.since = order.at
            text = (
                f"Account of agent {case.agent_id} was shut down by case {already} already"
                if already
                else f"Account of agent {case.agent_id} shut down"
            )
            shut = AccountShutDown(line=audit.line(order.at, order.by, text), already_by=already)
            return audit.record(session, order.case_no, order.step, shut)
