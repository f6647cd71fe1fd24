"""The audit trail, which is also the memory of what was done already.

Every step of a case has a business key, (case, step), unique in the audit trail. An activity asks
`recorded` first and, when the step is new, ends its transaction with `record`: the effect, the line and
the answer come into being together. Run twice, it returns what the first run returned.
"""

from datetime import datetime
from typing import Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.models import AuditLine, Case
from rulebook.vocabulary import one_line


class Line(BaseModel):
    """One line of a case's story, as people read it."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    by: str
    text: str

    @classmethod
    def of(cls, row: AuditLine) -> Self:
        """The line as it stands in the registry."""
        return cls(at=row.at, by=row.actor, text=row.text)


class Done(BaseModel):
    """What every step answers: at least its line. Subclasses add what the workflow needs to know."""

    model_config = ConfigDict(frozen=True)

    line: Line


T = TypeVar("T", bound=Done)


def lock(session: Session, case_no: str) -> None:
    """Keep the case to this transaction: always before what belongs to it, or two wait for each other."""
    # What the session knew of it before it waited here may be old.
    anew = select(Case).where(Case.case_no == case_no).with_for_update(key_share=True)
    session.execute(anew.execution_options(populate_existing=True)).scalar_one()


def recorded(session: Session, case_no: str, step: str, result: type[T]) -> T | None:
    """What this step answered if it was done before, else None.

    Locks the case until the transaction ends, so that of two attempts at one step the second waits here
    and then finds the first one's answer.
    """
    lock(session, case_no)
    found = session.scalar(
        select(AuditLine.result).where(AuditLine.case_no == case_no, AuditLine.step == step)
    )
    return None if found is None else result.model_validate(found)


def record(session: Session, case_no: str | None, step: str, result: T) -> T:
    """Add the line of a step and its answer to the audit trail, and give the answer back."""
    session.add(
        AuditLine(
            case_no=case_no,
            step=step,
            at=result.line.at,
            actor=result.line.by,
            text=result.line.text,
            result=result.model_dump(mode="json"),
        )
    )
    session.flush()
    return result


def line(at: datetime, by: str, text: str) -> Line:
    """A line of the story; what comes from outside in it is made harmless."""
    return Line(at=at, by=one_line(by), text=one_line(text))


def trail(session: Session, case_no: str, steps: str = "%") -> list[Line]:
    """The story of a case, oldest first; of the steps that match, or the whole of it."""
    lines = select(AuditLine).where(AuditLine.case_no == case_no, AuditLine.step.like(steps))
    rows = session.scalars(lines.order_by(AuditLine.id))
    return [Line.of(row) for row in rows]
