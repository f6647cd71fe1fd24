"""Rulebook 2.5 and 7.1: accounts are shut down once, and every case knows."""

from sqlalchemy import select

from registry import audit
from registry.models import Account
from registry.session import Sessions
from rulebook.vocabulary import AccountStatus
from tests.activities.conftest import Steps
from tests.registry.conftest import at_once
from tests.world import an_agent, shanghai

AT = shanghai("2026-03-10", "00:05")


def accounts(on_record: Sessions) -> dict[str, Account]:
    with on_record() as session:
        return {account.agent_id: account for account in session.scalars(select(Account))}


def test_only_the_account_of_the_case_s_agent_is_shut_down(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record, agent_id="punished")
    an_agent(on_record, agent_id="innocent")
    case_no = steps.open(number).case_no
    first, again = steps.shut_down(case_no, AT), steps.shut_down(case_no, shanghai("2026-03-11"))
    assert first == again
    assert first.already_by is None
    shut, innocent = (accounts(on_record)[agent_id] for agent_id in ("punished", "innocent"))
    assert (shut.status, shut.shut_down_by, shut.since) == (AccountStatus.SHUT_DOWN, case_no, AT)
    assert (innocent.status, innocent.shut_down_by) == (AccountStatus.OPEN, None)


def test_two_cases_that_shut_one_account_down_at_once_do_it_once_and_both_know(
    on_record: Sessions, steps: Steps
) -> None:
    case_nos = [steps.open(number).case_no for number in an_agent(on_record, numbers=2)]
    at_once(
        on_record,
        select(Account),
        *(lambda case_no=case_no: steps.shut_down(case_no, AT) for case_no in case_nos),
    )
    [account] = accounts(on_record).values()
    assert account.shut_down_by in case_nos
    [other] = set(case_nos) - {account.shut_down_by}
    assert steps.shut_down(account.shut_down_by).already_by is None
    assert steps.shut_down(other).already_by == account.shut_down_by
    with on_record() as session:
        assert audit.trail(session, other)[-1].text == (
            f"Account of agent {account.agent_id} was shut down by case {account.shut_down_by} already"
        )
