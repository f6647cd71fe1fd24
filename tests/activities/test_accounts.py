"""Rulebook 1.2, 1.4 to 1.6, 2.5 and 7.1: accounts suspended, reopened, shut down, closed for good."""

from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import select

from activities.accounts import AccountMoved
from activities.fines import balance
from activities.step import Refused
from registry import audit
from registry.models import Account, Agent, Case
from registry.session import Sessions
from rulebook.vocabulary import AccountStatus, Kind, Stage
from tests.activities.conftest import Steps
from tests.registry.conftest import at_once
from tests.world import an_agent, shanghai

AT = shanghai("2026-03-10", "00:05")
LATER = shanghai("2026-03-11")


def accounts(on_record: Sessions) -> dict[str, Account]:
    with on_record() as session:
        return {account.agent_id: account for account in session.scalars(select(Account))}


def test_only_the_account_of_the_case_s_agent_is_shut_down(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record, agent_id="punished")
    an_agent(on_record, agent_id="innocent")
    case_no = steps.open(number).case_no
    first, again = steps.shut_down(case_no, AT), steps.shut_down(case_no, LATER)
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


def account(on_record: Sessions) -> Account:
    [only] = accounts(on_record).values()
    return only


def frauds(on_record: Sessions, steps: Steps, cases: int = 2) -> list[str]:
    """Open cases of fraud of one agent, A7, each about a number of its own."""
    held = an_agent(on_record, numbers=cases, agent_id="A7")
    return [steps.open(number, kind=Kind.FRAUD).case_no for number in held]


def test_an_account_is_suspended_once_and_every_case_knows_by_whom(on_record: Sessions, steps: Steps) -> None:
    first, second = frauds(on_record, steps)
    an_agent(on_record, agent_id="innocent")
    suspended, again = steps.suspend(first, AT), steps.suspend(first, LATER)
    assert (suspended, suspended.already_by) == (again, None)
    assert steps.suspend(second, LATER).already_by == first
    held = accounts(on_record)
    assert (held["A7"].status, held["A7"].suspended_by, held["A7"].since) == (
        AccountStatus.SUSPENDED,
        first,
        AT,
    )
    assert held["innocent"].status is AccountStatus.OPEN
    with on_record() as session:
        assert audit.trail(session, second)[-1].text == (
            f"Account of agent A7 is suspended already, by case {first}"
        )


@pytest.mark.parametrize("status", [AccountStatus.SHUT_DOWN, AccountStatus.CLOSED])
def test_an_account_that_is_shut_is_not_suspended_any_more(
    on_record: Sessions, steps: Steps, status: AccountStatus
) -> None:
    first, second = frauds(on_record, steps)
    steps.suspend(first)
    steps.shut_down(first) if status is AccountStatus.SHUT_DOWN else steps.close_account(first)
    assert steps.suspend(second).already_by == first
    assert account(on_record).status is status


def test_an_officer_reopens_the_account_of_a_fraud_that_was_paid(on_record: Sessions, steps: Steps) -> None:
    [case_no] = frauds(on_record, steps, 1)
    steps.suspend(case_no)
    steps.settle(case_no)
    reopened, again = steps.reopen(case_no, AT), steps.reopen(case_no, LATER)
    assert reopened == again
    assert (reopened.line.by, reopened.line.text) == ("李敏", "Account of agent A7 reopened")
    now = account(on_record)
    assert (now.status, now.suspended_by, now.since) == (AccountStatus.OPEN, None, AT)


def test_an_account_that_was_reopened_can_be_suspended_anew(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    for _ in range(2):
        case_no = steps.open(number, kind=Kind.FRAUD).case_no
        assert steps.suspend(case_no).already_by is None
        assert account(on_record).suspended_by == case_no
        steps.settle(case_no)
        steps.reopen(case_no)


def test_an_account_is_reopened_after_a_fraud_that_was_dismissed_though_nothing_was_paid(
    on_record: Sessions, steps: Steps
) -> None:
    [case_no] = frauds(on_record, steps, 1)
    steps.suspend(case_no)
    steps.fine(case_no)
    steps.void(case_no)
    steps.close(case_no, Stage.DISMISSED)
    steps.reopen(case_no, undo=True)
    assert account(on_record).status is AccountStatus.OPEN


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("dismissed_first", [True, False])
def test_a_case_that_is_dismissed_leaves_the_account_to_another_that_stands(
    on_record: Sessions, steps: Steps, settled: bool, dismissed_first: bool
) -> None:
    dismissed, stands = case_nos = frauds(on_record, steps)
    for case_no in case_nos if dismissed_first else reversed(case_nos):
        steps.suspend(case_no)
    if settled:
        steps.settle(stands)
    steps.close(dismissed, Stage.DISMISSED)
    undone = steps.reopen(dismissed, undo=True)
    assert undone.line.text == f"Account of agent A7 stays suspended, by case {stands}"
    now = account(on_record)
    assert (now.status, now.suspended_by) == (AccountStatus.SUSPENDED, stands)
    assert steps.close_account(stands).already_by is None  # nobody has reopened it: not too late


def test_an_account_is_open_once_every_case_that_suspended_it_is_dismissed(
    on_record: Sessions, steps: Steps
) -> None:
    case_nos = frauds(on_record, steps)
    for case_no in case_nos:
        steps.suspend(case_no)
    statuses = []
    for case_no in case_nos:
        steps.close(case_no, Stage.DISMISSED)
        steps.reopen(case_no, undo=True)
        statuses.append(account(on_record).status)
    assert statuses == [AccountStatus.SUSPENDED, AccountStatus.OPEN]


def test_a_case_after_which_the_account_was_reopened_does_not_keep_it_when_another_is_dismissed(
    on_record: Sessions, steps: Steps
) -> None:
    number, other = an_agent(on_record, numbers=2)
    reopened = steps.open(number, kind=Kind.FRAUD).case_no
    steps.suspend(reopened)
    steps.settle(reopened)
    steps.reopen(reopened)
    dismissed = steps.open(other, kind=Kind.FRAUD).case_no
    steps.suspend(dismissed)
    steps.close(dismissed, Stage.DISMISSED)
    steps.reopen(dismissed, undo=True)
    assert account(on_record).status is AccountStatus.OPEN


def test_an_account_is_not_reopened_while_its_case_is_open_or_unpaid(
    on_record: Sessions, steps: Steps
) -> None:
    [case_no] = frauds(on_record, steps, 1)
    with pytest.raises(Refused, match="the account of agent A7 is open, not suspended"):
        steps.reopen(case_no)
    steps.suspend(case_no)
    with pytest.raises(Refused, match=f"case {case_no} is still open"):
        steps.reopen(case_no)
    steps.fine(case_no)
    steps.pay(case_no, "29999.99", "B1")
    steps.close(case_no, Stage.OVERTAKEN)
    with pytest.raises(Refused, match=f"the fine of case {case_no} is not paid"):
        steps.reopen(case_no)
    steps.pay(case_no, "0.01", "B2")
    steps.reopen(case_no)
    assert account(on_record).status is AccountStatus.OPEN


@pytest.mark.parametrize("shut", [Steps.shut_down, Steps.close_account])
def test_an_account_that_is_shut_is_not_reopened(
    on_record: Sessions, steps: Steps, shut: Callable[[Steps, str], AccountMoved]
) -> None:
    [case_no] = frauds(on_record, steps, 1)
    steps.suspend(case_no)
    steps.settle(case_no)
    shut(steps, case_no)
    with pytest.raises(Refused, match=r"is (shut-down|closed), not suspended"):
        steps.reopen(case_no)


def test_another_open_case_of_fraud_keeps_the_account_suspended(on_record: Sessions, steps: Steps) -> None:
    [number, other] = an_agent(on_record, numbers=2)
    paid, goes_on = (steps.open(one, kind=Kind.FRAUD).case_no for one in (number, other))
    steps.open(other)  # a secondary sale keeps no account suspended
    steps.suspend(paid)
    steps.settle(paid)
    with pytest.raises(Refused, match=f"case {goes_on} is open and keeps the account suspended"):
        steps.reopen(paid)
    steps.settle(goes_on)
    steps.reopen(paid)
    assert account(on_record).status is AccountStatus.OPEN


def test_a_case_of_another_kind_does_not_reopen_what_an_open_fraud_has_suspended(
    on_record: Sessions, steps: Steps
) -> None:
    [number, other] = an_agent(on_record, numbers=2)
    steps.suspend(steps.open(number, kind=Kind.FRAUD).case_no)
    sale = steps.open(other).case_no
    steps.settle(sale)
    with pytest.raises(Refused, match=r"fraud|FR-"):
        steps.reopen(sale)
    assert account(on_record).status is AccountStatus.SUSPENDED


def test_an_account_is_closed_for_good_once_and_its_qualification_cancelled(
    on_record: Sessions, steps: Steps
) -> None:
    first, second = frauds(on_record, steps)
    steps.suspend(first)
    closed, again = steps.close_account(first, AT), steps.close_account(first, LATER)
    assert (closed, closed.already_by) == (again, None)
    assert steps.close_account(second, LATER).already_by == first
    assert steps.shut_down(second, LATER).already_by == first
    now = account(on_record)
    assert (now.status, now.closed_by, now.since) == (AccountStatus.CLOSED, first, AT)
    with on_record() as session:
        assert session.get_one(Agent, "A7").disqualified_at == AT


def test_an_account_that_was_shut_down_can_still_be_closed_for_good(
    on_record: Sessions, steps: Steps
) -> None:
    [case_no] = frauds(on_record, steps, 1)
    steps.suspend(case_no)
    steps.shut_down(case_no)
    assert steps.close_account(case_no).already_by is None
    now = account(on_record)
    assert (now.status, now.shut_down_by, now.closed_by) == (AccountStatus.CLOSED, case_no, case_no)


def test_an_account_that_was_reopened_is_not_closed_for_the_same_case(
    on_record: Sessions, steps: Steps
) -> None:
    [case_no] = frauds(on_record, steps, 1)
    steps.suspend(case_no)
    steps.settle(case_no)
    steps.reopen(case_no)
    with pytest.raises(Refused, match="the account of agent A7 has been reopened since: too late"):
        steps.close_account(case_no)
    with on_record() as session:
        assert session.get_one(Agent, "A7").disqualified_at is None


def test_no_account_is_closed_for_good_for_a_case_that_is_being_dismissed(
    on_record: Sessions, steps: Steps
) -> None:
    voided, closed = frauds(on_record, steps)
    steps.suspend(voided)
    steps.fine(voided)
    steps.void(voided)  # a dismissal begins with this
    steps.close(closed, Stage.DISMISSED)
    for case_no in (voided, closed):
        with pytest.raises(Refused, match=f"case {case_no} was dismissed"):
            steps.close_account(case_no)
    assert account(on_record).status is AccountStatus.SUSPENDED


def test_a_case_that_closed_the_account_for_good_is_not_dismissed_any_more(
    on_record: Sessions, steps: Steps
) -> None:
    [case_no] = frauds(on_record, steps, 1)
    steps.suspend(case_no)
    steps.fine(case_no)
    steps.close_account(case_no)
    with pytest.raises(Refused, match=f"closed for good in case {case_no}: its fine stands"):
        steps.void(case_no)
    steps.close(case_no, Stage.DISMISSED)
    with on_record() as session:
        assert session.get_one(Case, case_no).outcome is Stage.CLOSED_FOR_GOOD
        assert balance(session, case_no).due == 30000


def test_a_new_suspension_does_not_make_it_less_late_for_the_case_before(
    on_record: Sessions, steps: Steps
) -> None:
    number, other = an_agent(on_record, numbers=2)
    first = steps.open(number, kind=Kind.FRAUD).case_no
    steps.suspend(first)
    steps.settle(first)
    steps.reopen(first, AT)
    second = steps.open(other, LATER, Kind.FRAUD).case_no
    steps.suspend(second, LATER)
    with pytest.raises(Refused, match="has been reopened since: too late"):
        steps.close_account(first, LATER)
    assert steps.close_account(second, LATER).already_by is None


@pytest.mark.parametrize(
    ("does", "status"),
    [
        ((Steps.suspend, Steps.suspend), AccountStatus.SUSPENDED),
        ((Steps.close_account, Steps.close_account), AccountStatus.CLOSED),
        ((Steps.close_account, Steps.shut_down), AccountStatus.CLOSED),
        ((Steps.shut_down, Steps.close_account), AccountStatus.CLOSED),
    ],
)
def test_two_cases_that_come_to_one_account_at_once_leave_it_in_the_graver_status(
    on_record: Sessions,
    steps: Steps,
    does: tuple[Callable[[Steps, str, datetime], AccountMoved], ...],
    status: AccountStatus,
) -> None:
    *case_nos, earlier = frauds(on_record, steps, 3)
    if status is AccountStatus.CLOSED:
        steps.suspend(earlier)
    moved = at_once(
        on_record,
        select(Account),
        *(
            lambda do=do, case_no=case_no: do(steps, case_no, AT)
            for do, case_no in zip(does, case_nos, strict=True)
        ),
    )
    now = account(on_record)
    assert now.status is status
    if does[0] is does[1]:
        assert {one.already_by for one in moved} == {None, now.closed_by or now.suspended_by}
    else:
        assert now.closed_by == case_nos[does.index(Steps.close_account)]
