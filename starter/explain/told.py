"""What is told of a case when it is explained."""

from datetime import date

from pydantic import AwareDatetime, BaseModel, ConfigDict

from registry.shown import FilingShown, Line
from rulebook.deadlines import Deadline
from rulebook.money import Balance
from rulebook.vocabulary import Kind, NoticeKind, Stage


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Proof(_Told):
    """Something that a deed rests on: a report, an officer's finding, a file; with its hash if it has one."""

    what: str
    says: str
    by: str
    at: AwareDatetime
    sha256: str = ""


class Letter(_Told):
    """A notice: served when and how, and until when its limit ran, with every extension and stop."""

    notice_no: str
    kind: NoticeKind
    sha256: str
    served_at: AwareDatetime | None
    how: str
    limit: Deadline | None
    stopped_at: AwareDatetime | None


class Warned(_Told):
    """The notice whose limit had to pass before a penalty, what moved it, and whether it had passed."""

    letter: Letter
    moved: tuple[Line, ...]
    passed: bool


class Later(_Told):
    """What became of a penalty afterwards: undone, or lifted, lowered, run out."""

    at: AwareDatetime
    by: str
    text: str
    undone: bool


class Deed(_Told):
    """One thing done in a case, by which clauses of the rulebook; `letter` is the notice that told of it.

    A penalty names what it rests on. `earlier` are the cases that counted before it as offences.
    """

    step: str
    at: AwareDatetime
    by: str
    text: str
    rules: tuple[str, ...]
    penalty: bool = False
    evidence: tuple[Proof, ...] = ()
    warned: Warned | None = None
    letter: Letter | None = None
    earlier: tuple[str, ...] = ()
    later: tuple[Later, ...] = ()


class Next(_Told):
    """What happens if nobody acts, and when; without `at`, nothing until an officer types the `command`.

    With `holds_up`, nothing else happens in the case before that.
    """

    at: AwareDatetime | None = None
    limit: Deadline | None = None
    text: str
    rules: tuple[str, ...] = ()
    command: str = ""
    holds_up: bool = False


class Other(_Told):
    """Another case of the same name; `outcome` is none while it is open."""

    case_no: str
    kind: Kind
    outcome: Stage | None


class Explained(_Told):
    """A case explained; `rules` says what each clause comes to that is named."""

    case_no: str
    workflow_id: str
    kind: Kind
    number: str
    customer: str
    agent_id: str
    agent_name: str
    policy: date
    outcome: Stage | None
    closed_at: AwareDatetime | None
    balance: Balance
    deeds: tuple[Deed, ...]
    filings: tuple[FilingShown, ...]
    next: tuple[Next, ...]
    rules: dict[str, str]
    others: tuple[Other, ...]
