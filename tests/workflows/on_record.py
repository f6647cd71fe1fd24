"""What is on record of some agents, and what must hold there by itself."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Self, TypeVar

from sqlalchemy import inspect, select

from registry.models import (
    Account,
    Agent,
    Appeal,
    AuditLine,
    Case,
    Filing,
    Fine,
    HoldRow,
    Notice,
    Number,
    Payment,
    ReportRow,
    Wait,
)
from registry.session import Sessions
from rulebook.deadlines import Deadline
from rulebook.vocabulary import AccountStatus, FineStatus, Kind, NoticeKind, NumberStatus, Stage
from tests.world import World

T = TypeVar("T")

_RECKONED = re.compile(r"-deadline-\d{4}-").search
"""The step of a deadline that was computed anew, by its day."""


@dataclass(frozen=True)
class OnRecord:
    """The rows of the plan's agents."""

    agents: list[Agent]
    accounts: list[Account]
    numbers: list[Number]
    cases: list[Case]
    reports: list[ReportRow]
    notices: list[Notice]
    fines: list[Fine]
    payments: list[Payment]
    filings: list[Filing]
    appeals: list[Appeal]
    holds: list[HoldRow]
    trail: list[AuditLine]
    waits: list[Wait]

    @classmethod
    def of(cls, on_record: Sessions, numbers: Sequence[str]) -> Self:
        """All that is on record about these numbers, their agents and cases, as of one moment."""
        with on_record() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})

            def rows(table: type[T], *which: Any) -> list[T]:
                in_order = inspect(table).primary_key
                return list(session.scalars(select(table).where(*which).order_by(*in_order)))

            held = rows(Number, Number.number.in_(numbers))
            cases = rows(Case, Case.number.in_(numbers))
            cases.sort(key=lambda case: int(case.case_no.rpartition("-")[2]))
            agents, mine = {number.agent_id for number in held}, [case.case_no for case in cases]
            return cls(
                rows(Agent, Agent.agent_id.in_(agents)),
                rows(Account, Account.agent_id.in_(agents)),
                held,
                cases,
                rows(ReportRow, ReportRow.case_no.in_(mine)),
                rows(Notice, Notice.case_no.in_(mine)),
                rows(Fine, Fine.case_no.in_(mine)),
                rows(Payment, Payment.case_no.in_(mine)),
                rows(Filing, Filing.case_no.in_(mine)),
                rows(Appeal, Appeal.case_no.in_(mine)),
                rows(HoldRow, HoldRow.case_no.in_(mine)),
                rows(AuditLine, AuditLine.case_no.in_(mine)),
                rows(Wait, Wait.case_no.in_(mine), Wait.ended_at.is_(None)),
            )

    def steps(self, case: Case) -> list[str]:
        return [line.step for line in self.trail if line.case_no == case.case_no]

    def line(self, case_no: str, step: str) -> AuditLine:
        [line] = [line for line in self.trail if (line.case_no, line.step) == (case_no, step)]
        return line

    def served(self, case_no: str, kind: NoticeKind) -> Notice:
        [notice] = [n for n in self.notices if n.case_no == case_no and n.kind is kind]
        return notice


def of(case_no: str, rows: list[T]) -> list[T]:
    return [row for row in rows if getattr(row, "case_no", None) == case_no]


def nobody_is_punished_early(there: OnRecord) -> None:
    for fine in there.fines:
        if fine.kind is not Kind.FRAUD:  # 1.3: that one is set at once
            assert _limit(there, fine.case_no, NoticeKind.RECTIFICATION_ORDER) <= fine.set_at
    for taken in (line for line in there.trail if line.step == "take-back"):
        assert _limit(there, taken.case_no, NoticeKind.SERVICE_ORDER) <= taken.at
    for shut in (line for line in there.trail if line.step == "account-shutdown"):
        assert shut.case_no
        ends = _limit(there, shut.case_no, NoticeKind.PUNISHMENT)
        assert ends <= shut.at
        [fine] = of(shut.case_no, there.fines)
        before = {line.step for line in there.trail if line.id < shut.id}
        in_time = [
            p.amount
            for p in of(shut.case_no, there.payments)
            if p.received_at < ends and f"payment-{p.reference}" in before
        ]
        assert sum(in_time) < fine.amount


def _limit(there: OnRecord, case_no: str | None, kind: NoticeKind) -> datetime:
    assert case_no
    notice = there.served(case_no, kind)
    assert notice.served_at and notice.last_day
    ends = Deadline(last_day=notice.last_day).at
    assert notice.served_at < ends
    return ends


def everything_happens_once(there: OnRecord) -> None:
    still_open = Counter((case.number, case.kind) for case in there.cases if case.closed_at is None)
    fined = Counter(fine.case_no for fine in there.fines)
    told = Counter((n.case_no, n.kind) for n in there.notices if n.kind is not NoticeKind.DEADLINE)
    done = Counter((line.case_no, line.step) for line in there.trail)
    for times in (still_open, fined, told, done):
        assert set(times.values()) <= {1}


def offences_are_counted(there: OnRecord) -> None:
    for agent, kind in {(fine.agent_id, fine.kind) for fine in there.fines}:
        fines = [fine for fine in there.fines if (fine.agent_id, fine.kind) == (agent, kind)]
        if all(fine.status is not FineStatus.VOID for fine in fines):
            assert sorted(fine.offence for fine in fines) == list(range(1, len(fines) + 1))


def accounts_and_numbers_follow_the_cases(there: OnRecord) -> None:
    shut_down = {case.case_no: case.agent_id for case in there.cases if case.outcome is Stage.SHUT_DOWN}
    for account in there.accounts:
        assert (account.status is AccountStatus.SHUT_DOWN) == (account.agent_id in shut_down.values())
        if account.shut_down_by:
            assert shut_down[account.shut_down_by] == account.agent_id
    for number in there.numbers:
        assert (number.status is NumberStatus.QUARANTINED) == (number.agent_id in shut_down.values())
        if number.reclaimed_by:
            assert shut_down[number.reclaimed_by] == number.agent_id
            reclaim = there.line(number.reclaimed_by, "reclaim")
            assert number.number in reclaim.result["numbers"]


def every_effect_has_its_line(there: OnRecord) -> None:
    for case in there.cases:
        effects = {"open"} | {notice.step for notice in of(case.case_no, there.notices)}
        effects |= {f"payment-{payment.reference}" for payment in of(case.case_no, there.payments)}
        for fine in of(case.case_no, there.fines):
            effects |= {fine.step, "fine-void"} if fine.status is FineStatus.VOID else {fine.step}
        if case.outcome:
            effects |= {"undo" if case.outcome.undone else "close"}
        if case.outcome is Stage.SHUT_DOWN:
            effects |= {"account-shutdown", "reclaim"}
        if case.outcome is Stage.OVERTAKEN:
            effects |= {"account-closed"}
        told = ("report-", "rectification-", "verify-", "extend-", "refused-")
        lines = {step for step in there.steps(case) if not step.startswith(told) and not _RECKONED(step)}
        assert lines == effects


def whose_limit_has_moved_is_told(there: OnRecord, case: Case) -> bool:
    """Whether the agent has heard of the last move of its limit, unless the case has ended."""
    steps = there.steps(case)
    moves = [place for place, step in enumerate(steps) if step.startswith("extend-") or _RECKONED(step)]
    told = [place for place, step in enumerate(steps) if step.startswith("notice-deadline")]
    return case.closed_at is not None or (
        len(told) <= len(moves) and max(told, default=0) >= max(moves, default=0)
    )


def every_letter_is_on_record(there: OnRecord, world: World) -> None:
    letters = {
        letter.stem: sha256(letter.read_bytes()).hexdigest()
        for case in there.cases
        for letter in world.outbox.glob(f"{case.case_no}-*.eml")
    }
    assert letters == {notice.notice_no: notice.sha256 for notice in there.notices if notice.served_at}
