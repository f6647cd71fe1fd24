"""What is shown of a case's record, as plain data: also where nobody asks the database."""

from decimal import Decimal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from rulebook.deadlines import Deadline
from rulebook.money import Balance
from rulebook.vocabulary import Awaiting, FilingKind, FilingStatus, Kind, Stage


class Shown(BaseModel):
    """What is shown. Its validator is built when it is first needed: a list needs none of them."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class Line(Shown):
    """One line of a case's story, as people read it."""

    at: AwareDatetime
    by: str
    text: str


class FilingShown(Shown):
    """A filing in the story."""

    filing_no: str
    kind: FilingKind
    recipient: str
    status: FilingStatus
    sha256: str
    reason: str = ""


class Raised(Shown):
    """A later fine of another case that stands and is higher than it would be without the one taken back."""

    case_no: str
    workflow_id: str
    amount: Decimal
    offence: int
    would_be: Decimal


class NoticeShown(Shown):
    """A notice in the story."""

    notice_no: str
    kind: str
    served_at: AwareDatetime
    sha256: str


class Story(Shown):
    """All that can be said of a case: the query `story`, `enforce case`, and the Web UI's current details."""

    workflow_id: str
    kind: Kind
    number: str
    case_no: str = ""
    customer: str = ""
    agent_id: str = ""
    agent_name: str = ""
    stage: Stage
    deadline: Deadline | None = None
    awaiting: tuple[Awaiting, ...] = ()
    offence: int | None = None
    balance: Balance = Balance()
    notices: tuple[NoticeShown, ...] = ()
    filings: tuple[FilingShown, ...] = ()
    lines: tuple[Line, ...] = ()
