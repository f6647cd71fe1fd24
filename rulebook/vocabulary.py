"""The words of the rulebook, and the moves of status that it allows."""

from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, StringConstraints

SHANGHAI = ZoneInfo("Asia/Shanghai")
"""Rulebook 4.1: every limit is counted in this time zone."""


class Kind(StrEnum):
    """The kinds of violation, each with its clause."""

    SECONDARY_SALE = "secondary-sale"

    @property
    def prefix(self) -> str:
        """The letters that open its case numbers, e.g. `SS` in SS-2026-00042."""
        return {Kind.SECONDARY_SALE: "SS"}[self]

    @property
    def label(self) -> str:
        """The kind in the words of the announcement, Chinese first."""
        return {Kind.SECONDARY_SALE: "私自转售 · secondary sale"}[self]


class Business(StrEnum):
    """What the end user does with the number (2.1): it decides how long the agent has to rectify."""

    REGULAR = "regular"
    IRREGULAR = "irregular"


class Stage(StrEnum):
    """Where a case stands; once it has ended, how (the last five)."""

    OPENING = "opening"
    RECTIFICATION = "rectification"
    PUNISHMENT = "punishment"
    PAYMENT = "payment"
    SHUTDOWN = "shutdown"
    RECTIFIED = "rectified"
    SETTLED = "settled"
    SHUT_DOWN = "shut-down"
    DISMISSED = "dismissed"
    ALREADY_HANDLED = "already-handled"

    @property
    def ended(self) -> bool:
        """Whether a case in this stage has ended."""
        return self in _ENDED


_ENDED = frozenset({Stage.RECTIFIED, Stage.SETTLED, Stage.SHUT_DOWN, Stage.DISMISSED, Stage.ALREADY_HANDLED})


class Awaiting(StrEnum):
    """What an officer must do before a case can go on, or ought to look at."""

    VERIFICATION = "verification"
    DELIVERY = "delivery"
    REFUSED_MESSAGE = "refused-message"


class NoticeKind(StrEnum):
    """The letters that an agent may get; each is a template of the same name."""

    RECTIFICATION_ORDER = "rectification-order"
    PUNISHMENT = "punishment"
    SHUTDOWN = "shutdown"
    CLOSING = "closing"


class AccountStatus(StrEnum):
    """The status of an agent's account."""

    OPEN = "open"
    SHUT_DOWN = "shut-down"


class NumberStatus(StrEnum):
    """The status of a 400 number."""

    ACTIVE = "active"
    QUARANTINED = "quarantined"


class FineStatus(StrEnum):
    """The status of a fine."""

    DUE = "due"
    SETTLED = "settled"
    VOID = "void"


LEGAL_MOVES: dict[type[StrEnum], frozenset[tuple[StrEnum, StrEnum]]] = {
    AccountStatus: frozenset({(AccountStatus.OPEN, AccountStatus.SHUT_DOWN)}),
    NumberStatus: frozenset({(NumberStatus.ACTIVE, NumberStatus.QUARANTINED)}),
    FineStatus: frozenset(
        {
            (FineStatus.DUE, FineStatus.SETTLED),
            (FineStatus.DUE, FineStatus.VOID),
            (FineStatus.SETTLED, FineStatus.VOID),
        }
    ),
}
"""Which status may follow which. The database refuses any other move (registry/migrations)."""


def plain_number(number: object) -> object:
    """A 400 number without what people write between its digits."""
    return number.replace("-", "").replace(" ", "") if isinstance(number, str) else number


Number400 = Annotated[str, BeforeValidator(plain_number), StringConstraints(pattern=r"^400[0-9]{7}$")]
"""A 400 number as ten digits; `400-800-1234` is understood too."""


def written(number: str) -> str:
    """A 400 number as people write it: 400-800-1234."""
    return f"{number[:3]}-{number[3:6]}-{number[6:]}"


def one_line(text: str) -> str:
    """Text from outside, made harmless for one line of a letter, header or table."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


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


OneLine = Annotated[str, AfterValidator(_not_empty), StringConstraints(max_length=200)]
"""Text from outside for one line of a letter, a header or a table: no control characters, at most 200."""


def workflow_id(kind: Kind, number: str) -> str:
    """The id under which a violation is one workflow: Temporal keeps it to one open case for each."""
    return f"{kind}-{number}"
