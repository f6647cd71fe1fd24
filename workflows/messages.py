"""What crosses the Temporal boundary: inputs, signals, updates and answers. On the wire it is plain JSON."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from registry.shown import FilingShown, Raised, Shown
from rulebook.money import Amount, Balance
from rulebook.report import Report
from rulebook.vocabulary import FilingStatus, Number400, OneLine, Prose, Stage, Told

Reason = Annotated[Told, Field(max_length=2000)]
Reference = Annotated[OneLine, BeforeValidator(lambda v: str(v) if type(v) is int else v)]
"""A bank reference; one that is all digits may come as a JSON number."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""The hash under which a file is on record as evidence."""


class Message(BaseModel):
    """A message to a case. A field that isn't known is an error: nothing that was meant gets lost.

    Its validator is built when it is first needed: an officer's command needs few of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def build() -> None:
    """Build the validators of messages and of what is shown, once, before a worker's threads ask for them."""
    for model in (*Message.__subclasses__(), *Shown.__subclasses__()):
        model.model_rebuild()


class CaseStart(Message):
    """How a case workflow starts: with nothing; its first report follows as a signal.

    `reports` are those that came in after the case before it had closed.
    """

    reports: tuple[Report, ...] = ()


class AccountClosed(Message):
    """Another case has closed the agent's account (7.2). Signal `account_closed`."""

    in_case: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}-[0-9]{4}-[0-9]{5,}$")]


class RectificationReported(Message):
    """The agent says that it has rectified (2.2), or has served the customer (3.2).

    Signal `rectification_reported`, update `rectified`.
    """

    by: OneLine = "agent"
    statement: Prose = Field(default="", max_length=4000)


class PaymentReceived(Message):
    """Money came in (6.1); `amount` in yuan. Signal `payment_received`, update `paid`.

    `on` is the day on which the bank had it, in Asia/Shanghai; none is the day on which it is recorded.
    """

    reference: Reference
    amount: Amount
    by: OneLine = "bank"
    on: date | None = None


class Verify(Message):
    """An officer has checked the rectification (2.2)."""

    officer: OneLine
    passed: bool
    reason: Prose = Field(default="", max_length=2000)


class CustomerConfirmed(Message):
    """The customer says that it has been served (3.2). Signal `customer_confirmed`."""

    by: OneLine = "customer"
    statement: Prose = Field(default="", max_length=4000)


class Extend(Message):
    """An officer gives more working days (4.4)."""

    officer: OneLine
    working_days: int = Field(ge=1, le=60)
    reason: Reason


class Dismiss(Message):
    """An officer finds that the case has no ground (5.2)."""

    officer: OneLine
    reason: Reason


class LookAgain(Message):
    """The calendar has changed, or the case's fine was reviewed: look at the registry again.

    Signals `calendar_changed` (4.2), `fine_reviewed` (5.5).
    """


class HoldCase(Message):
    """An officer stops the clock of a case (4.4)."""

    officer: OneLine
    reason: Reason


class ResumeCase(Message):
    """An officer lets the clock of a case go on."""

    officer: OneLine
    reason: Prose = Field(default="", max_length=2000)


class AppealReceived(Message):
    """The agent appeals (5.1); `evidence` are the hashes of files that are on record. Update `appeal`."""

    by: OneLine
    statement: Annotated[Told, Field(max_length=20000)]
    evidence: tuple[Sha256, ...] = Field(default=(), max_length=100)


class Decide(Message):
    """An officer decides an appeal: `upheld` says that the case stands, else it is overturned (5.1)."""

    officer: OneLine
    upheld: bool
    reason: Reason


class ServedByHand(Message):
    """An officer has served a notice that could not be delivered (4.6).

    `on` is the day, in Asia/Shanghai; `proof` is the hash of a file that is on record. Update `served`.
    """

    officer: OneLine
    method: OneLine
    on: date
    proof: Sha256


class NoticeBounced(Message):
    """A notice came back as undeliverable after its channel had taken it (4.6). Signal `notice_bounced`."""

    notice_no: OneLine
    reason: OneLine
    by: OneLine = "mail"


class CaseUndone(Message):
    """The case was dismissed or overturned (5.2). Signal `case_undone` to what goes on beside it."""

    officer: OneLine


class AppealStart(Message):
    """An appeal against a case that has ended (5.1)."""

    case_no: str
    appeal: AppealReceived


class DismissalStart(Message):
    """A case that has ended is found to have no ground (5.2)."""

    case_no: str
    dismissal: Dismiss


class RestitutionStart(Message):
    """What officers still do after a case was undone (5.2); `refund` in yuan. Signal `more_is_left`."""

    case_no: str
    refund: Decimal
    lost: tuple[str, ...] = ()
    filings: tuple[FilingShown, ...] = ()
    raised: tuple[Raised, ...] = ()


class Refunded(Message):
    """An officer has given back what was paid, or what is owed back, under a bank reference."""

    officer: OneLine
    reference: Reference


class Substituted(Message):
    """An officer has dealt with a number that can't be returned; `reason` says why without a substitute."""

    officer: OneLine
    number: Number400
    substitute: Number400 | None = None
    reason: Prose = Field(default="", max_length=2000)


class FineReviewed(Message):
    """An officer has reviewed a fine that an offence had raised which was undone (5.5)."""

    officer: OneLine
    case_no: str
    lower: bool
    reason: Reason


class Answer(Message):
    """What a case says to an officer's command."""

    text: str


class CaseEnded(Message):
    """How a case ended."""

    case_no: str
    outcome: Stage
    balance: Balance


class SeriousProposed(Message):
    """An officer finds the circumstances of a fraud serious (1.6); another one has to approve."""

    case_no: str
    officer: OneLine
    reasons: Reason
    evidence: tuple[OneLine, ...] = ()


class Approve(Message):
    """A second officer approves the finding of serious circumstances."""

    officer: OneLine


class Reject(Message):
    """A second officer rejects the finding of serious circumstances."""

    officer: OneLine
    reason: Reason


class FilingReported(Message):
    """An officer says what became of a filing; refused and waived need a reason."""

    officer: OneLine
    filing_no: str
    status: FilingStatus
    reason: Prose = Field(default="", max_length=2000)


class SeriousEnded(Message):
    """How the finding of serious circumstances ended."""

    case_no: str
    outcome: Stage


class OfficerAct(Message):
    """An officer's act on a case that has ended.

    Reopen the account, or unfreeze the number (1.4); or what it owes back was given back, under a bank
    `reference` (6.2).
    """

    case_no: str
    act: Literal["reopen", "unfreeze", "refunded"]
    officer: OneLine
    reference: Reference | None = None


class Renewed(Message):
    """An officer has renewed a number; `until` is its next renewal."""

    officer: OneLine
    until: date


class LatePaymentStart(Message):
    """A payment for a case that has ended (6.3)."""

    case_no: str
    payment: PaymentReceived


class PaidLate(Balance):
    """What the money stands at after a payment for a case that has ended.

    `in_time`: the fine was paid in time, though it was known after the account had been shut down.
    """

    in_time: bool = False


class ReinstatementStart(Message):
    """An officer takes the shutdown of a case that has ended back (6.3), or finds that it stays: `keep`."""

    case_no: str
    officer: OneLine
    reason: Reason
    keep: bool = False
