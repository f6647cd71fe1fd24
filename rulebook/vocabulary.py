"""The words of the rulebook, and the moves of status that it allows."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationError

SHANGHAI = ZoneInfo("Asia/Shanghai")
"""Rulebook 4.1: every limit is counted in this time zone."""


def day_of(moment: datetime) -> date:
    """The day of a moment in Asia/Shanghai."""
    return moment.astimezone(SHANGHAI).date()


class Kind(StrEnum):
    """The kinds of violation, each with its clause of the rulebook."""

    FRAUD = "fraud"
    SECONDARY_SALE = "secondary-sale"
    SERVICE_FAILURE = "service-failure"

    @property
    def clause(self) -> str:
        """The number of its clause."""
        return _KINDS[self][0]

    @property
    def prefix(self) -> str:
        """The letters that open its case numbers, e.g. `SS` in SS-2026-00042."""
        return _KINDS[self][1]

    @property
    def zh(self) -> str:
        """The kind in the words of the announcement."""
        return _KINDS[self][2]

    @property
    def en(self) -> str:
        """The kind in English."""
        return self.replace("-", " ")

    @property
    def label(self) -> str:
        """The kind in both languages, Chinese first."""
        return f"{self.zh} · {self.en}"


_KINDS = {
    Kind.FRAUD: ("1", "FR", "诈骗"),
    Kind.SECONDARY_SALE: ("2", "SS", "私自转售"),
    Kind.SERVICE_FAILURE: ("3", "SF", "服务失职"),
}


class Business(StrEnum):
    """What the end user does with the number (2.1): it decides how long the agent has to rectify."""

    REGULAR = "regular"
    IRREGULAR = "irregular"


class Stage(StrEnum):
    """Where a case stands; once it has ended, how (from `rectified` on)."""

    OPENING = "opening"
    RECTIFICATION = "rectification"
    PUNISHMENT = "punishment"
    PAYMENT = "payment"
    SHUTDOWN = "shutdown"
    TAKE_BACK = "take-back"
    APPROVAL = "approval"
    CLOSURE = "closure"
    FILING = "filing"
    APPEAL = "appeal"
    RESTITUTION = "restitution"

    RECTIFIED = "rectified"
    SETTLED = "settled"
    SHUT_DOWN = "shut-down"
    TAKEN_BACK = "taken-back"
    OVERTAKEN = "overtaken"
    CLOSED_FOR_GOOD = "closed-for-good"
    REJECTED = "rejected"
    DISMISSED = "dismissed"
    OVERTURNED = "overturned"
    UPHELD = "upheld"
    RESTORED = "restored"
    ALREADY_HANDLED = "already-handled"

    @property
    def ended(self) -> bool:
        """Whether a case in this stage has ended."""
        return self in _ENDED

    @property
    def undone(self) -> bool:
        """Whether a case that ended so did not stand: what it did is undone (5.2), it is no offence (5.5)."""
        return self in (Stage.DISMISSED, Stage.OVERTURNED)


_ENDED = frozenset(list(Stage)[list(Stage).index(Stage.RECTIFIED) :])


class Awaiting(StrEnum):
    """What an officer must do before a case can go on, or ought to look at."""

    VERIFICATION = "verification"
    APPEAL = "appeal"
    APPROVAL = "approval"
    FILING = "filing"
    DELIVERY = "delivery"
    RESUMPTION = "resumption"
    RENEWAL = "renewal"
    REINSTATEMENT = "reinstatement"
    REFUND = "refund"
    SUBSTITUTE = "substitute"
    WITHDRAWAL = "withdrawal"
    REVIEW = "review"
    REFUSED_MESSAGE = "refused-message"


class NoticeKind(StrEnum):
    """The letters that an agent, or a customer, may get; each is a template of the same name."""

    RECTIFICATION_ORDER = "rectification-order"
    SERVICE_ORDER = "service-order"
    PUNISHMENT = "punishment"
    SHUTDOWN = "shutdown"
    TAKE_BACK = "take-back"
    TAKE_BACK_CUSTOMER = "take-back-customer"
    PERMANENT_CLOSURE = "permanent-closure"
    DEADLINE = "deadline"
    APPEAL_DECISION = "appeal-decision"
    UNDONE = "undone"
    UNDONE_CUSTOMER = "undone-customer"
    FINE_LOWERED = "fine-lowered"
    REINSTATED = "reinstated"
    CLOSING = "closing"

    @property
    def to_customer(self) -> bool:
        """Whether it goes to the customer; all others go to the agent."""
        return self in (NoticeKind.TAKE_BACK_CUSTOMER, NoticeKind.UNDONE_CUSTOMER)


class AccountStatus(StrEnum):
    """The status of an agent's account: suspended can be reopened (1.2), closed can't (1.6)."""

    OPEN = "open"
    SUSPENDED = "suspended"
    SHUT_DOWN = "shut-down"
    CLOSED = "closed"


class NumberStatus(StrEnum):
    """The status of a 400 number."""

    ACTIVE = "active"
    FROZEN = "frozen"
    QUARANTINED = "quarantined"
    FREE = "free"


class Hold(StrEnum):
    """What a case holds against an agent's account or a number, until it is lifted."""

    SUSPENSION = "suspension"
    SHUTDOWN = "shutdown"
    CLOSURE = "closure"
    FREEZE = "freeze"
    TAKE_BACK = "take-back"
    RECLAIM = "reclaim"


class Holder(StrEnum):
    """Who has a number: its agent, the platform (direct service, quarantine), or nobody."""

    AGENT = "agent"
    PLATFORM = "platform"
    NOBODY = "nobody"


class FineStatus(StrEnum):
    """The status of a fine."""

    DUE = "due"
    SETTLED = "settled"
    VOID = "void"


class ComplaintKind(StrEnum):
    """What a complaint is about: how the agent serves, or fraud."""

    SERVICE = "service"
    FRAUD = "fraud"


class IncomingStatus(StrEnum):
    """What became of a report that came in: handed to its case, refused, or parked for an officer."""

    WAITING = "waiting"
    HANDED = "handed"
    REFUSED = "refused"
    PARKED = "parked"
    DISCARDED = "discarded"


class FilingStatus(StrEnum):
    """The status of a filing (1.6)."""

    PREPARED = "prepared"
    SUBMITTED = "submitted"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    WAIVED = "waived"
    WITHDRAWING = "withdrawing"
    WITHDRAWN = "withdrawn"

    @property
    def done(self) -> bool:
        """Whether nothing is left to do about it."""
        return self in (FilingStatus.ACKNOWLEDGED, FilingStatus.WAIVED, FilingStatus.WITHDRAWN)


class FilingKind(StrEnum):
    """To whom the serious circumstances of a fraud are brought (1.6); each is a template of the same name."""

    OPERATOR = "operator"
    MIIT = "miit"
    ANNOUNCEMENT = "announcement"
    PUBLIC_SECURITY = "public-security"

    @property
    def recipient(self) -> str:
        """Who gets it; operators go by their own names."""
        return _RECIPIENTS.get(self, "")


_RECIPIENTS = {
    FilingKind.MIIT: "工业和信息化部",
    FilingKind.ANNOUNCEMENT: "社会公告",
    FilingKind.PUBLIC_SECURITY: "公安机关",
}


def _moves(*allowed: tuple[StrEnum, StrEnum]) -> frozenset[tuple[StrEnum, StrEnum]]:
    return frozenset(allowed)


LEGAL_MOVES: dict[type[StrEnum], frozenset[tuple[StrEnum, StrEnum]]] = {
    AccountStatus: _moves(
        (AccountStatus.OPEN, AccountStatus.SUSPENDED),
        (AccountStatus.SUSPENDED, AccountStatus.OPEN),
        (AccountStatus.OPEN, AccountStatus.SHUT_DOWN),
        (AccountStatus.SUSPENDED, AccountStatus.SHUT_DOWN),
        (AccountStatus.SUSPENDED, AccountStatus.CLOSED),
        (AccountStatus.SHUT_DOWN, AccountStatus.CLOSED),
        (AccountStatus.SHUT_DOWN, AccountStatus.SUSPENDED),
        (AccountStatus.SHUT_DOWN, AccountStatus.OPEN),
        (AccountStatus.CLOSED, AccountStatus.SHUT_DOWN),
        (AccountStatus.CLOSED, AccountStatus.SUSPENDED),
        (AccountStatus.CLOSED, AccountStatus.OPEN),
    ),
    NumberStatus: _moves(
        (NumberStatus.ACTIVE, NumberStatus.FROZEN),
        (NumberStatus.FROZEN, NumberStatus.ACTIVE),
        (NumberStatus.ACTIVE, NumberStatus.QUARANTINED),
        (NumberStatus.FROZEN, NumberStatus.QUARANTINED),
        (NumberStatus.QUARANTINED, NumberStatus.FREE),
        (NumberStatus.QUARANTINED, NumberStatus.ACTIVE),
        (NumberStatus.QUARANTINED, NumberStatus.FROZEN),
    ),
    FineStatus: _moves(
        (FineStatus.DUE, FineStatus.SETTLED),
        (FineStatus.DUE, FineStatus.VOID),
        (FineStatus.SETTLED, FineStatus.VOID),
    ),
    FilingStatus: _moves(
        (FilingStatus.PREPARED, FilingStatus.SUBMITTED),
        (FilingStatus.SUBMITTED, FilingStatus.ACKNOWLEDGED),
        (FilingStatus.SUBMITTED, FilingStatus.REFUSED),
        (FilingStatus.REFUSED, FilingStatus.SUBMITTED),
        (FilingStatus.PREPARED, FilingStatus.WAIVED),
        (FilingStatus.SUBMITTED, FilingStatus.WAIVED),
        (FilingStatus.REFUSED, FilingStatus.WAIVED),
        (FilingStatus.PREPARED, FilingStatus.WITHDRAWN),
        (FilingStatus.REFUSED, FilingStatus.WITHDRAWN),
        (FilingStatus.SUBMITTED, FilingStatus.WITHDRAWING),
        (FilingStatus.ACKNOWLEDGED, FilingStatus.WITHDRAWING),
        (FilingStatus.WITHDRAWING, FilingStatus.WITHDRAWN),
    ),
}
"""Which status may follow which. The database refuses any other move (registry/migrations)."""

_OPERATORS = {
    "0": "中国联通",
    "6": "中国联通",
    "1": "中国移动",
    "7": "中国移动",
    "8": "中国电信",
    "9": "中国电信",
}


def operator_of(number: str) -> str:
    """The operator of a 400 number by its prefix: 4000 and 4006 China Unicom, and so on; "" if unknown."""
    return _OPERATORS.get(number[3:4], "")


def plain_number(number: object) -> object:
    """A 400 number without what people write between its digits."""
    return number.replace("-", "").replace(" ", "") if isinstance(number, str) else number


Number400 = Annotated[str, BeforeValidator(plain_number), StringConstraints(pattern=r"^400[0-9]{7}$")]
"""A 400 number as ten digits; `400-800-1234` is understood too."""


def written(number: str) -> str:
    """A 400 number as people write it: 400-800-1234."""
    return f"{number[:3]}-{number[3:6]}-{number[6:]}"


def printable(text: str) -> str:
    """Text without line ends, control characters, and marks that turn the direction of reading."""
    return "".join(c if c.isprintable() else " " for c in text)


def one_line(text: str) -> str:
    """Text from outside, made harmless for one line of a letter, header or table."""
    return " ".join(printable(text).split())


def prose(text: str) -> str:
    """Text from outside of any number of lines, without characters that no database or letter can hold."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


Prose = Annotated[str, AfterValidator(prose)]
"""Text from outside of any number of lines: no control characters but line ends and tabs."""


def _says_something(text: str) -> str:
    if not one_line(text):
        raise ValueError("must not be empty")
    return prose(text)


Told = Annotated[str, AfterValidator(_says_something)]
"""`Prose` that isn't blank."""


def _not_empty(text: str) -> str:
    if not one_line(text):
        raise ValueError("must not be empty")
    return one_line(text)


OneLine = Annotated[str, StringConstraints(max_length=200), AfterValidator(_not_empty)]
"""Text from outside for one line of a letter, a header or a table: no control characters, at most 200."""


def faults(error: ValidationError) -> str:
    """What is wrong with what came from outside, in one line for people."""
    found = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
    return "; ".join(f"{where}: {what}" if where else what for where, what in found)


def workflow_id(kind: Kind, number: str) -> str:
    """The id under which a violation is one workflow: Temporal keeps it to one open case for each."""
    return f"{kind}-{number}"
