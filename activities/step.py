"""What every activity is told, and how it refuses."""

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy.orm import Session
from temporalio.exceptions import ApplicationError

from registry.models import Case

SYSTEM = "enforce"
"""The actor of what the rules do by themselves."""


class Step(BaseModel):
    """One step of one case: its business key is (case_no, step).

    `at` is the case's time, which the workflow passes in; `by` is the officer, the source or the system. A
    workflow tells when its case was `opened`: the step is done to that case alone, whatever bears its number.
    """

    model_config = ConfigDict(frozen=True)

    case_no: str
    step: str
    at: AwareDatetime
    by: str = SYSTEM
    opened: AwareDatetime | None = None


class Serious(BaseModel):
    """The finding of serious circumstances, by one officer and approved by another."""

    model_config = ConfigDict(frozen=True)

    reasons: str
    evidence: tuple[str, ...] = ()
    proposed_by: str
    approved_by: str


class Refused(ApplicationError):
    """The world says no, and will say so again: not retried, told to whoever asked."""

    def __init__(self, why: str) -> None:
        super().__init__(why, type="Refused", non_retryable=True)


def the_case(session: Session, case_no: str) -> Case:
    """The case of that number. Raises `Refused` where there is none."""
    case = session.get(Case, case_no)
    if case is None:
        raise Refused(f"there is no case {case_no}")
    return case


def standing_case(session: Session, case_no: str) -> Case:
    """The case of that number. Raises `Refused` if it was undone: nothing more is done in its name (5.2)."""
    case = the_case(session, case_no)
    if case.outcome and case.outcome.undone:
        raise Refused(f"case {case_no} was {case.outcome}")
    return case
