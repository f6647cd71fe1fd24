"""What must hold of the registry whatever has happened to cases of all kinds, rule by rule."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from enum import StrEnum

from registry.models import AuditLine, Case
from registry.session import Sessions
from rulebook.holds import account_status, number_status
from rulebook.vocabulary import (
    LEGAL_MOVES,
    SHANGHAI,
    AccountStatus,
    Awaiting,
    FilingKind,
    FilingStatus,
    FineStatus,
    Holder,
    Kind,
    NumberStatus,
    Stage,
    written,
)
from starter.agents import view
from tests.workflows.on_record import OnRecord, nobody_is_punished_early, of, offences_are_counted

Rule = Callable[[OnRecord, OnRecord], None]
"""What holds of what is there now, given what was there before."""

ENDS = {
    Kind.FRAUD: {Stage.SETTLED, Stage.SHUT_DOWN, Stage.CLOSED_FOR_GOOD},
    Kind.SECONDARY_SALE: {Stage.RECTIFIED, Stage.SETTLED, Stage.SHUT_DOWN},
    Kind.SERVICE_FAILURE: {Stage.RECTIFIED, Stage.TAKEN_BACK},
}
"""How a case of each kind may end, besides overtaken by another or undone."""
SAID_OF_ACCOUNTS = {
    AccountStatus.OPEN: ("reopened",),
    AccountStatus.SUSPENDED: ("suspended", "stays suspended"),
    AccountStatus.SHUT_DOWN: ("shut down", "stays shut-down"),
    AccountStatus.CLOSED: ("closed for good",),
}
SAID_OF_NUMBERS = {
    NumberStatus.ACTIVE: "unfrozen",
    NumberStatus.FROZEN: "frozen",
    NumberStatus.FREE: "is free",
}
HOLDERS = {
    NumberStatus.ACTIVE: {Holder.AGENT, Holder.PLATFORM},
    NumberStatus.FROZEN: {Holder.AGENT, Holder.PLATFORM},
    NumberStatus.QUARANTINED: {Holder.PLATFORM},
    NumberStatus.FREE: {Holder.NOBODY},
}
SHUT = (AccountStatus.SHUT_DOWN, AccountStatus.CLOSED)
TAKEN_BACK = (FilingStatus.WAIVED, FilingStatus.WITHDRAWING, FilingStatus.WITHDRAWN)


def _stands(case: Case) -> bool:
    return not (case.outcome and case.outcome.undone)


def _shutdowns(there: OnRecord) -> list[tuple[Case, AuditLine]]:
    """The cases that took all numbers of their agents back and still do, and the lines that say so."""
    reinstated = {line.case_no for line in there.trail if line.step.startswith("reinstate-account-")}
    cases = {case.case_no: case for case in there.cases if _stands(case) and case.case_no not in reinstated}
    return [
        (cases[line.case_no], line)
        for line in there.trail
        if line.case_no in cases and "numbers" in line.result and "quarantined_until" in line.result
    ]


def _new(before: OnRecord, there: OnRecord) -> list[AuditLine]:
    seen = {line.id for line in before.trail}
    return [line for line in there.trail if line.id not in seen]


def _leads(was: StrEnum, now: StrEnum) -> bool:
    """Whether legal moves lead from one status to the other."""
    reached = {was}
    while further := {after for moved, after in LEGAL_MOVES[type(was)] if moved in reached} - reached:
        reached |= further
    return now in reached


# 1, 2.5, 7: accounts and numbers


def a_shutdown_leaves_nothing_open(_: OnRecord, there: OnRecord) -> None:
    status = {account.agent_id: account.status for account in there.accounts}
    for case, _line in _shutdowns(there):
        assert status[case.agent_id] in SHUT
        assert all(n.holder is not Holder.AGENT for n in there.numbers if n.agent_id == case.agent_id)


def a_shutdown_ends_the_agents_cases(_: OnRecord, there: OnRecord) -> None:
    """But for those in which an appeal is still to be decided."""
    shut = {case.agent_id for case, _line in _shutdowns(there)}
    still_open = {c.case_no for c in there.cases if c.closed_at is None and c.agent_id in shut}
    assert still_open <= {appeal.case_no for appeal in there.appeals if appeal.decided_at is None}


def what_stands_is_what_is_held(_: OnRecord, there: OnRecord) -> None:
    held = [hold for hold in there.holds if hold.lifted_at is None]
    for account in there.accounts:
        assert account.status is account_status({h.kind for h in held if h.agent_id == account.agent_id})
    for number in (number for number in there.numbers if number.status is not NumberStatus.FREE):
        on_it = {hold.kind for hold in held if hold.number == number.number}
        assert (number.status, number.holder) == number_status(on_it)


def an_open_fraud_keeps_account_and_number_closed(_: OnRecord, there: OnRecord) -> None:
    accounts = {account.agent_id: account.status for account in there.accounts}
    numbers = {number.number: number.status for number in there.numbers}
    for case in there.cases:
        if case.kind is Kind.FRAUD and case.closed_at is None:
            steps = there.steps(case)
            assert not ("freeze" in steps and numbers[case.number] is NumberStatus.ACTIVE)
            assert not ("account-suspend" in steps and accounts[case.agent_id] is AccountStatus.OPEN)


def what_was_undone_holds_nothing(_: OnRecord, there: OnRecord) -> None:
    undone = {case.case_no for case in there.cases if not _stands(case)}
    assert not undone & {hold.case_no for hold in there.holds if hold.lifted_at is None}
    assert not undone & {fine.case_no for fine in there.fines if fine.status is not FineStatus.VOID}
    for case_no in undone:  # what had been returned before is not to be refunded once more
        kept = [payment.amount for payment in of(case_no, there.payments) if not payment.refund_due_at]
        assert sum(kept) == 0 and (not kept or min(kept) < 0)
    assert all(filing.status in TAKEN_BACK for filing in there.filings if filing.case_no in undone)


def each_number_is_in_one_hand(_: OnRecord, there: OnRecord) -> None:
    kinds = {case.case_no: case.kind for case in there.cases}
    for number in there.numbers:
        assert number.holder in HOLDERS[number.status]
        assert (number.holder is Holder.AGENT) == (number.reclaimed_by is None)
        assert (number.status is NumberStatus.FROZEN) == (number.frozen_by is not None)
        if number.holder is Holder.PLATFORM and number.status is not NumberStatus.QUARANTINED:
            assert kinds[number.reclaimed_by or ""] is Kind.SERVICE_FAILURE


def accounts_move_as_they_may_and_a_line_says_so(before: OnRecord, there: OnRecord) -> None:
    agents = {case.case_no: case.agent_id for case in there.cases}
    for was, now in zip(before.accounts, there.accounts, strict=True):
        assert _leads(was.status, now.status)
        if was.status is not now.status:
            said = tuple(f"Account of agent {now.agent_id} {how}" for how in SAID_OF_ACCOUNTS[now.status])
            told = [line for line in _new(before, there) if agents.get(line.case_no or "") == now.agent_id]
            assert any(line.text.startswith(said) for line in told)


def numbers_move_as_they_may_and_a_line_says_so(before: OnRecord, there: OnRecord) -> None:
    new = _new(before, there)
    for was, now in zip(before.numbers, there.numbers, strict=True):
        assert _leads(was.status, now.status)
        told = [line.text for line in new if line.text.startswith(f"Number {written(now.number)} ")]
        taken = any(now.number in line.result.get("numbers", ()) for line in new)
        returned = any("returned to their agent" in line.text for line in new)
        if was.status is not now.status and now.status is NumberStatus.QUARANTINED:
            assert taken
        elif was.status is not now.status:
            said = any(f" {SAID_OF_NUMBERS[now.status]}" in text for text in told)
            assert said or (was.status is NumberStatus.QUARANTINED and returned)
        if was.holder is not now.holder:
            direct = any("taken back into direct service" in text for text in told)
            assert taken or direct or returned or now.status is NumberStatus.FREE


def no_quarantine_ends_early(_: OnRecord, there: OnRecord) -> None:
    for line in there.trail:
        if line.step.startswith("quarantine-"):
            ended = date.fromisoformat(line.step.split("-", 2)[2])
            assert ended < line.at.astimezone(SHANGHAI).date()


# Cases


def each_case_ends_once_as_its_kind_may(_: OnRecord, there: OnRecord) -> None:
    still_open = Counter((case.number, case.kind) for case in there.cases if case.closed_at is None)
    assert set(still_open.values()) <= {1}
    for case in there.cases:
        assert (case.outcome is None) == (case.closed_at is None)
        by_another = case.outcome is Stage.OVERTAKEN or not _stands(case)
        assert case.outcome is None or by_another or case.outcome in ENDS[case.kind]


def nobody_is_overtaken_but_by_a_loss(_: OnRecord, there: OnRecord) -> None:
    agents = {case.case_no: case.agent_id for case in there.cases}
    for case in (case for case in there.cases if case.outcome is Stage.OVERTAKEN):
        closed = there.line(case.case_no, "close")
        before = [line for line in there.trail if line.id < closed.id and line.case_no != case.case_no]
        losses = [line for line in before if agents[line.case_no or ""] == case.agent_id]
        assert any(line.step in ("account-shutdown", "take-back") or _approves(line) for line in losses)


def nobody_who_set_it_right_is_punished(_: OnRecord, there: OnRecord) -> None:
    right = {
        line.case_no
        for line in there.trail
        if line.step == "customer-confirmed" or line.text.startswith("Verification passed")
    }
    assert not right & {line.case_no for line in there.trail if line.step in ("fine", "take-back")}


# 5.5, 6, 7.3: offences and money


def offences_count_what_stood(_: OnRecord, there: OnRecord) -> None:
    for agent, kind in {(fine.agent_id, fine.kind) for fine in there.fines}:
        fines = {f.case_no: f for f in there.fines if (f.agent_id, f.kind) == (agent, kind)}
        standing = set[str]()
        for line in there.trail:
            if line.case_no in fines and line.step == "fine":
                standing.add(line.case_no)
                assert fines[line.case_no].offence == len(standing)
            elif line.case_no in fines and line.step == "fine-void":
                standing.discard(line.case_no)


def each_payment_counts_once(_: OnRecord, there: OnRecord) -> None:
    told = [line for line in there.trail if line.step.startswith("payment-")]
    assert sorted((line.step, line.case_no, Decimal(line.result["amount"])) for line in told) == sorted(
        (f"payment-{one.reference}", one.case_no, one.amount) for one in there.payments if one.amount > 0
    )
    returned = [line for line in there.trail if line.step.startswith("returned-")]
    assert sorted((line.step, line.case_no) for line in returned) == sorted(
        (f"returned-{one.reference}", one.case_no) for one in there.payments if one.amount < 0
    )


def debt_is_what_is_left_of_the_fines(there: OnRecord, on_record: Sessions) -> None:
    for account in there.accounts:
        left = Decimal(0)
        for case in (case for case in there.cases if case.agent_id == account.agent_id):
            fined = sum(f.amount for f in of(case.case_no, there.fines) if f.status is not FineStatus.VOID)
            paid = sum(payment.amount for payment in of(case.case_no, there.payments))
            left += max(fined - paid, Decimal(0))
        assert view(on_record, account.agent_id).debt == left


def what_is_owed_back_waits_for_an_officer(_: OnRecord, there: OnRecord) -> None:
    for case in there.cases:
        paid = sum(payment.amount for payment in of(case.case_no, there.payments) if not payment.refunded_at)
        stands = [fine for fine in of(case.case_no, there.fines) if fine.status is not FineStatus.VOID]
        owed = case.closed_at is not None and paid > sum(fine.amount for fine in stands)
        assert (Awaiting.REFUND in {wait.what for wait in of(case.case_no, there.waits)}) is owed


# 1.6: closed for good


def only_two_officers_close_an_account_for_good(_: OnRecord, there: OnRecord) -> None:
    disqualified = {agent.agent_id for agent in there.agents if agent.disqualified_at}
    for account in there.accounts:
        closed = account.status is AccountStatus.CLOSED
        assert closed == (account.closed_by is not None) == (account.agent_id in disqualified)
        if account.closed_by:
            [approved] = _approvals(there, account.closed_by)
            proposed = there.line(account.closed_by, approved.step.replace("-close", "-proposed"))
            assert approved.actor != proposed.actor


def only_an_appeal_overturns_what_two_officers_have_closed(_: OnRecord, there: OnRecord) -> None:
    dismissed = [case.case_no for case in there.cases if case.outcome is Stage.DISMISSED]
    assert [case_no for case_no in dismissed if _approvals(there, case_no)] == []


def filings_are_made_of_what_was_closed_for_good(_: OnRecord, there: OnRecord) -> None:
    cases = {case.case_no: case for case in there.cases}
    closed = {account.agent_id for account in there.accounts if account.status is AccountStatus.CLOSED}
    for case_no in {filing.case_no for filing in there.filings}:
        agent = cases[case_no].agent_id
        assert agent in closed or not _stands(cases[case_no])
        assert _approvals(there, case_no)
        recipients = [(filing.kind, filing.recipient) for filing in of(case_no, there.filings)]
        assert len(set(recipients)) == len(recipients)
        assert {to for kind, to in recipients if kind is FilingKind.OPERATOR} == {
            number.operator for number in there.numbers if number.agent_id == agent
        }
        assert {kind for kind, _to in recipients} == set(FilingKind)


def filings_move_as_they_may(before: OnRecord, there: OnRecord) -> None:
    was = {filing.filing_no: filing.status for filing in before.filings}
    new = _new(before, there)
    for filing in there.filings:
        if filing.status is not was.get(filing.filing_no, filing.status):
            assert _leads(was[filing.filing_no], filing.status)
            said = f"Filing {filing.filing_no} to {filing.recipient} {filing.status}"
            assert any(
                line.text.startswith(said) or (line.case_no, line.step) == (filing.case_no, "undo-filings")
                for line in new
            )


def _approves(line: AuditLine) -> bool:
    return line.step.startswith("serious-") and line.step.endswith("-close")


def _approvals(there: OnRecord, case_no: str) -> list[AuditLine]:
    return [line for line in of(case_no, there.trail) if _approves(line)]


ALWAYS: Iterable[Rule] = (
    a_shutdown_leaves_nothing_open,
    an_open_fraud_keeps_account_and_number_closed,
    what_stands_is_what_is_held,
    each_number_is_in_one_hand,
    accounts_move_as_they_may_and_a_line_says_so,
    numbers_move_as_they_may_and_a_line_says_so,
    no_quarantine_ends_early,
    each_case_ends_once_as_its_kind_may,
    nobody_is_overtaken_but_by_a_loss,
    nobody_who_set_it_right_is_punished,
    offences_count_what_stood,
    each_payment_counts_once,
    only_two_officers_close_an_account_for_good,
    only_an_appeal_overturns_what_two_officers_have_closed,
    filings_are_made_of_what_was_closed_for_good,
    filings_move_as_they_may,
    lambda _, there: nobody_is_punished_early(there),
    lambda _, there: offences_are_counted(there),
)
AT_REST: Iterable[Rule] = (
    a_shutdown_ends_the_agents_cases,
    what_was_undone_holds_nothing,
    what_is_owed_back_waits_for_an_officer,
)
"""What holds as soon as nothing is under way."""
