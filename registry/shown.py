"""What is shown of a case's record, as plain data: also where nobody asks the database."""

from decimal import Decimal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from rulebook.vocabulary import FilingKind, FilingStatus


class Line(BaseModel):
    """One line of a case's story, as people read it."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    by: str
    text: str


class FilingShown(BaseModel):
    """A filing in the story."""

    model_config = ConfigDict(frozen=True)

    filing_no: str
    kind: FilingKind
    recipient: str
    status: FilingStatus
    sha256: str
    reason: str = ""


class Raised(BaseModel):
    """A later fine of another case that stands and is higher than it would be without the one taken back."""

    model_config = ConfigDict(frozen=True)

    case_no: str
    workflow_id: str
    amount: Decimal
    offence: int
    would_be: Decimal
