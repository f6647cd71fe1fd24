"""What the database itself refuses, whoever asks."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import product
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from registry import audit
from registry.models import (
    Account,
    Base,
    CalendarDay,
    Case,
    Filing,
    Fine,
    Notice,
    Number,
    Payment,
    ReportRow,
)
from registry.session import Sessions
from rulebook.vocabulary import (
    LEGAL_MOVES,
    AccountStatus,
    FilingKind,
    FilingStatus,
    FineStatus,
    Holder,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
)
from tests.world import shanghai

DAY = date(2026, 3, 2)
AT = shanghai("2026-03-02")


def a_case(case: Case, **said: Any) -> Case:
    described = {
        "case_no": "SS-2026-00002",
        "kind": case.kind,
        "number": case.number,
        "agent_id": case.agent_id,
        "workflow_id": case.workflow_id,
        "run_id": "another run",
        "policy": case.policy,
        "opened_at": AT,
        "opened_by": "monitor",
    }
    return Case(**described | said)


def a_fine(case: Case, **said: Any) -> Fine:
    described = {
        "case_no": case.case_no,
        "step": "fine",
        "agent_id": case.agent_id,
        "kind": Kind.SECONDARY_SALE,
        "offence": 1,
        "amount": Decimal(1000),
        "set_at": AT,
    }
    return Fine(**described | said)


def a_notice(case: Case, **said: Any) -> Notice:
    described = {
        "notice_no": f"{case.case_no}-N1",
        "case_no": case.case_no,
        "step": "notice",
        "kind": NoticeKind.CLOSING,
        "recipient": "a@agent.example",
        "content": b"",
        "sha256": "0" * 64,
        "drafted_at": AT,
    }
    return Notice(**described | said)


def a_payment(case: Case, **said: Any) -> Payment:
    described = {
        "reference": "B1",
        "case_no": case.case_no,
        "amount": Decimal("0.01"),
        "received_at": AT,
        "recorded_by": "bank",
    }
    return Payment(**described | said)


def a_number(case: Case, **said: Any) -> Number:
    described = {
        "number": "4009999999",
        "agent_id": case.agent_id,
        "customer": "乙商贸有限公司",
        "customer_email": "office@customer.example",
        "certificate": "91310000MA1FL0000X",
        "operator": "中国电信",
        "renewal_due": DAY,
    }
    return Number(**described | said)


def a_filing(case: Case, **said: Any) -> Filing:
    described = {
        "filing_no": f"{case.case_no}-F1",
        "case_no": case.case_no,
        "kind": FilingKind.MIIT,
        "recipient": "工业和信息化部",
        "document": "",
        "attachment": {},
        "sha256": "0" * 64,
        "since": AT,
    }
    return Filing(**described | said)


def in_status(case: Case, status: StrEnum) -> dict[str, Any]:
    """What a number needs to have beside its status."""
    needs: dict[StrEnum, dict[str, Any]] = {
        NumberStatus.ACTIVE: {"holder": Holder.AGENT},
        NumberStatus.FROZEN: {"holder": Holder.AGENT, "frozen_by": case.case_no},
        NumberStatus.QUARANTINED: {"holder": Holder.PLATFORM, "quarantined_until": DAY},
        NumberStatus.FREE: {"holder": Holder.NOBODY},
    }
    return {"status": status} | needs[status]


ROWS: dict[type[StrEnum], Callable[[Case, StrEnum], Base]] = {
    AccountStatus: lambda case, status: Account(agent_id=case.agent_id, status=status),
    FineStatus: lambda case, status: a_fine(case, status=status),
    FilingStatus: lambda case, status: a_filing(case, status=status),
    NumberStatus: lambda case, status: a_number(case, **in_status(case, status)),
}


@pytest.mark.parametrize("words", LEGAL_MOVES)
def test_a_status_moves_only_as_the_rulebook_allows(
    on_record: Sessions, case: Case, words: type[StrEnum]
) -> None:
    assert {
        move for move in product(words, words) if _may_move(on_record, case, ROWS[words], *move)
    } == LEGAL_MOVES[words] | {(status, status) for status in words}


def _may_move(
    on_record: Sessions,
    case: Case,
    row: Callable[[Case, StrEnum], Base],
    before: StrEnum,
    after: StrEnum,
) -> bool:
    with on_record() as session:
        session.execute(text("delete from accounts"))
        held = row(case, before)
        session.add(held)
        session.flush()
        wanted = row(case, after)
        for field in ("status", "holder", "quarantined_until", "frozen_by"):
            if hasattr(held, field):
                setattr(held, field, getattr(wanted, field))
        try:
            session.flush()
        except IntegrityError as error:
            assert "a status may not go from" in str(error)
            return False
        return True


CONTRADICTIONS: dict[str, tuple[str, Callable[[Case], list[Base]]]] = {
    "two open cases of a number and kind": ("uq_cases_open", lambda c: [a_case(c)]),
    "two fines in a step": ("uq_fines", lambda c: [a_fine(c), a_fine(c, offence=2)]),
    "a reference twice": ("pk_payments", lambda c: [a_payment(c), a_payment(c, amount=Decimal(2))]),
    "a report twice": (
        "uq_reports",
        lambda c: [ReportRow(source="s", report_id="1", payload={}) for _ in range(2)],
    ),
    "two notices in a step": ("uq_notices", lambda c: [a_notice(c), a_notice(c, notice_no="N2")]),
    "two accounts of an agent": ("pk_accounts", lambda c: [Account(agent_id=c.agent_id)]),
    "a fine of nothing": ("ck_fines_amount", lambda c: [a_fine(c, amount=Decimal(0))]),
    "offence no. 0": ("ck_fines_offence", lambda c: [a_fine(c, offence=0)]),
    "a payment of nothing": ("ck_payments_amount", lambda c: [a_payment(c, amount=Decimal(0))]),
    "no ten digits": ("ten_digits", lambda c: [a_number(c, number="400-800-1234")]),
    "endless quarantine": (
        "quarantine",
        lambda c: [a_number(c, status=NumberStatus.QUARANTINED, holder=Holder.PLATFORM)],
    ),
    "an active number in quarantine": ("quarantine", lambda c: [a_number(c, quarantined_until=DAY)]),
    "frozen by no case": ("frozen_by_a_case", lambda c: [a_number(c, status=NumberStatus.FROZEN)]),
    "a freeze on an active number": ("frozen_by_a_case", lambda c: [a_number(c, frozen_by=c.case_no)]),
    "two filings to one recipient": ("uq_filings", lambda c: [a_filing(c), a_filing(c, filing_no="F2")]),
    "closed without an outcome": ("closed_with_an_outcome", lambda c: [a_case(c, closed_at=AT)]),
    "an outcome while open": ("closed_with_an_outcome", lambda c: [a_case(c, outcome=Stage.SETTLED)]),
    "a limit without a deadline": ("limit_has_a_deadline", lambda c: [a_notice(c, working_days=3)]),
    "no sha256": ("ck_notices_sha256", lambda c: [a_notice(c, sha256="0")]),
    "a closing day that is worked": (
        "closing_days_are_off",
        lambda c: [CalendarDay(day=DAY, closing=True, works=True, reason="?")],
    ),
}


def test_the_registry_refuses_what_contradicts_the_rulebook(on_record: Sessions, case: Case) -> None:
    accepted = {
        what for what, (rule, rows) in CONTRADICTIONS.items() if _accepts(on_record, rows(case), rule)
    }
    assert accepted == set()


def test_a_number_has_one_holder_whatever_its_status(on_record: Sessions, case: Case) -> None:
    accepted = {
        (status, holder)
        for status, holder in product(NumberStatus, Holder)
        if _accepts(on_record, [a_number(case, **in_status(case, status) | {"holder": holder})], "one_holder")
    }
    assert accepted == {
        (NumberStatus.ACTIVE, Holder.AGENT),
        (NumberStatus.ACTIVE, Holder.PLATFORM),
        (NumberStatus.FROZEN, Holder.AGENT),
        (NumberStatus.FROZEN, Holder.PLATFORM),
        (NumberStatus.QUARANTINED, Holder.PLATFORM),
        (NumberStatus.FREE, Holder.NOBODY),
    }


def _accepts(on_record: Sessions, rows: list[Base], rule: str) -> bool:
    with on_record() as session:
        session.add_all(rows)
        try:
            session.flush()
        except IntegrityError as error:
            assert rule in str(error.orig)
            return False
        return True


def test_a_closed_case_does_not_stand_in_the_way_of_the_next(on_record: Sessions, case: Case) -> None:
    with on_record.begin() as session:
        held = session.get_one(Case, case.case_no)
        held.outcome, held.closed_at = Stage.RECTIFIED, AT
        session.flush()
        session.add(a_case(case))


@pytest.mark.parametrize(
    "change",
    ["update audit_trail set text = 'nothing happened'", "delete from audit_trail", "truncate audit_trail"],
)
def test_a_line_of_the_audit_trail_is_never_changed_or_deleted(
    on_record: Sessions, case: Case, change: str
) -> None:
    with on_record.begin() as session:
        line = audit.line(AT, "李敏", "Case opened")
        audit.record(session, case.case_no, "open", audit.Done(line=line))
    with on_record() as session, pytest.raises(IntegrityError, match="lines are only ever added"):
        session.execute(text(change))


def test_a_case_that_has_a_story_cannot_be_deleted(on_record: Sessions, case: Case) -> None:
    with on_record.begin() as session:
        audit.record(session, case.case_no, "open", audit.Done(line=audit.line(AT, "李敏", "Case opened")))
    with on_record() as session, pytest.raises(IntegrityError, match="fk_audit_trail_case_no"):
        session.execute(text("delete from cases"))
