"""The record of one case, as the registry has it in one snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Self, TypeVar

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from activities.advice import command
from activities.fines import balance
from registry.models import (
    Appeal,
    AuditLine,
    Base,
    Case,
    Filing,
    HoldRow,
    Notice,
    Number,
    Payment,
    ReportRow,
    Wait,
)
from rulebook.money import Balance
from rulebook.policy import Policy, in_force
from rulebook.vocabulary import Awaiting, plain_number

_Row = TypeVar("_Row", bound=Base)


def cases_named(session: Session, named: str) -> Sequence[Case]:
    """The cases of a case number, workflow id or 400 number, the newest first."""
    meant = (
        (Case.case_no == named.upper()) | (Case.workflow_id == named) | (Case.number == plain_number(named))
    )
    newest_first = select(Case).where(meant).order_by(Case.opened_at.desc(), Case.case_no.desc())
    return session.scalars(newest_first).all()


@dataclass(frozen=True)
class Record:
    """What the registry has of one case; of what waited, only what waits still."""

    session: Session
    case: Case
    number: Number
    lines: Sequence[AuditLine]
    notices: Sequence[Notice]
    waits: dict[Awaiting, datetime]
    holds: Sequence[HoldRow]
    filings: Sequence[Filing]
    appeals: Sequence[Appeal]
    payments: Sequence[Payment]
    reports: Sequence[ReportRow]
    balance: Balance

    @classmethod
    def of(cls, session: Session, case: Case) -> Self:
        """The record of a case."""

        def rows(table: type[_Row]) -> Sequence[_Row]:
            own = select(table).where(table.__table__.c.case_no == case.case_no)
            return session.scalars(own.order_by(*inspect(table).primary_key)).all()

        return cls(
            session=session,
            case=case,
            number=session.get_one(Number, case.number),
            lines=rows(AuditLine),
            notices=sorted(rows(Notice), key=lambda n: int(n.notice_no.rpartition("-N")[2])),
            waits={wait.what: wait.since for wait in rows(Wait) if wait.ended_at is None},
            holds=rows(HoldRow),
            filings=rows(Filing),
            appeals=rows(Appeal),
            payments=rows(Payment),
            reports=rows(ReportRow),
            balance=balance(session, case.case_no),
        )

    @property
    def policy(self) -> Policy:
        """The policy that the case keeps (5.4)."""
        return in_force(self.case.policy)

    @cached_property
    def steps(self) -> dict[str, AuditLine]:
        """The lines by their steps."""
        return {line.step: line for line in self.lines}

    @property
    def limit(self) -> Notice | None:
        """The notice whose limit was set last."""
        return self.limit_before(None)

    def limit_before(self, line: AuditLine | None) -> Notice | None:
        """The notice whose limit was the last one set before a line; of all lines, without one."""
        limits = {notice.step: notice for notice in self.notices if notice.last_day}
        lines = self.lines if line is None else self.lines[: self.lines.index(line)]
        return next((limits[set_by.step] for set_by in reversed(lines) if set_by.step in limits), None)

    @property
    def unserved(self) -> Notice | None:
        """The newest notice, if it is drafted and not served; in an open case else one that has bounced."""
        if self.notices and self.notices[-1].served_at is None:
            return self.notices[-1]
        bounced = (notice for notice in self.notices if notice.bounced_at and self.case.closed_at is None)
        return next(bounced, None)

    @property
    def held(self) -> AuditLine | None:
        """The line with which an officer has held the case, unless it was resumed."""
        lines = [line for line in self.lines if line.step.startswith(("hold-", "resume-"))]
        return lines[-1] if lines and lines[-1].step.startswith("hold-") else None

    @cached_property
    def undone(self) -> AuditLine | None:
        """The line with which it was found that the case did not stand."""
        found = (line for line in self.lines if line.step.startswith("undo") and "effects" in line.result)
        return next(found, None)

    @property
    def ended(self) -> AuditLine | None:
        """The line with which the case ended."""
        return self.steps.get("close") or self.undone

    def typed(self, what: Awaiting) -> str:
        """What an officer types to do what waits, or would if it waited."""
        return command(what, self.case.case_no, self.case.number)
