"""The policy: amounts, limits and schedules as dated data (rulebook, preamble and 5.4).

A policy is a TOML file beside this module, named by the day from which it is in force. It is checked
against these models when it is loaded; flow stays code.
"""

import tomllib
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Annotated, Self
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from rulebook.vocabulary import Business, Kind

# The upper ends only catch a slip of the pen: no rule needs more.
Days = Annotated[int, Field(ge=1, le=365)]
Minutes = Annotated[int, Field(ge=1, le=720)]
Yuan = Annotated[int, Field(ge=1, le=10_000_000)]
Count = Annotated[int, Field(ge=1, le=1000)]


class _Section(BaseModel):
    # Strict: in TOML, `true` or "5" is no number of days.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Clock(_Section):
    """How time is kept: the minutes after midnight over which cases spread."""

    spread_minutes: Minutes

    def spread(self, case_no: str) -> timedelta:
        """How long after midnight a case looks at its deadline: a time of its own, never before midnight."""
        return timedelta(seconds=crc32(case_no.encode()) % (60 * self.spread_minutes))


class FineSchedule(_Section):
    """Rulebook 2.3: what each further offence costs, in whole yuan."""

    first: Yuan
    second: Yuan
    each_further: Yuan
    ceiling: Yuan

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.first <= self.second <= self.ceiling:
            raise ValueError("a fine must not fall with a further offence: first ≤ second ≤ ceiling")
        return self

    def amount(self, offence: int) -> int:
        """The fine in yuan for the agent's nth offence, counted from 1."""
        if offence < 1:
            raise ValueError(f"offences are counted from 1, not {offence}")
        if offence == 1:
            return self.first
        return min(self.second + (offence - 2) * self.each_further, self.ceiling)


class SecondarySale(_Section):
    """The limits (in working days) and fines of rulebook 2."""

    rectify_regular: Days
    rectify_irregular: Days
    pay_within: Days
    fine: FineSchedule

    def rectify_within(self, business: Business) -> int:
        """Working days to rectify (2.1)."""
        return self.rectify_irregular if business is Business.IRREGULAR else self.rectify_regular


class Fraud(_Section):
    """Rulebook 1.3: the fine for each number in whole yuan, and the limit to pay it in working days."""

    fine_per_number: Yuan
    pay_within: Days


class ServiceFailure(_Section):
    """Rulebook 3: the limit to serve the customer, in working days; renewals of direct service, in days."""

    serve_within: Days
    renewal_notice: Days


class Quarantine(_Section):
    """How long reclaimed numbers rest (5.3), in calendar days."""

    days: Days


class Appeal(_Section):
    """How long an agent may appeal after its case has ended (5.1), in calendar days."""

    within: Days


class Officers(_Section):
    """When what waits for an officer is brought up again, and escalated (5.7), in working days."""

    raise_after: Days
    escalate_after: Days


class Detection(_Section):
    """From what on the platform's own checks report a violation (rulebook/detection.py).

    `unanswered_for` is in working days, what ends in `_within` in calendar days, the others are counts.
    """

    unanswered_for: Days
    observed_differently: Count
    observed_within: Days
    fraud_complaints: Count
    fraud_within: Days


class Policy(_Section):
    """One published policy."""

    effective: date
    clock: Clock
    fraud: Fraud
    secondary_sale: SecondarySale
    service_failure: ServiceFailure
    quarantine: Quarantine
    appeal: Appeal
    officers: Officers
    detection: Detection

    def fine(self, kind: Kind, offence: int) -> Decimal:
        """The fine in yuan for an agent's nth offence of a kind, counted from 1.

        Raises `LookupError` for a kind that isn't fined.
        """
        if kind is Kind.FRAUD:
            return Decimal(self.fraud.fine_per_number)
        if kind is Kind.SECONDARY_SALE:
            return Decimal(self.secondary_sale.fine.amount(offence))
        raise LookupError(f"the rulebook sets no fine for {kind}")

    def values(self) -> dict[str, int | date]:
        """All that the policy sets, by `section.key`, in the order of the file."""
        return dict(_values(self))


def _values(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, int | date]]:
    for key, value in section:
        if isinstance(value, BaseModel):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def load(text: str) -> Policy:
    """Read a policy from TOML.

    Raises `ValueError` (`tomllib.TOMLDecodeError` or `pydantic.ValidationError`) that names what is wrong.
    """
    return Policy.model_validate(tomllib.loads(text))


_IN_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "int_type": "must be a whole number, not {input!r}",
    "int_from_float": "must be a whole number, not {input!r}",
    "date_type": "must be a day such as 2027-01-01, not {input}",
    "model_type": "must be a section",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "value_error": "{error}",
}


def faults(text: str) -> list[str]:
    """All that is wrong with a draft in TOML, each with its key, in words; nothing if it is a policy."""
    try:
        load(text)
    except ValidationError as invalid:
        return [f"{'.'.join(map(str, error['loc']))}: {_in_words(error)}" for error in invalid.errors()]
    except tomllib.TOMLDecodeError as unreadable:
        return [f"not readable as TOML: {unreadable}"]
    return []


def _in_words(error: ErrorDetails) -> str:
    words = _IN_WORDS.get(error["type"])
    return words.format(input=error["input"], **error.get("ctx", {})) if words else error["msg"]


@cache
def published() -> tuple[Policy, ...]:
    """All policies that ship with the program, oldest first."""
    files = [f for f in resources.files("rulebook").iterdir() if f.name.endswith(".toml")]
    policies = sorted((load(f.read_text("utf-8")) for f in files), key=lambda p: p.effective)
    names = {f.name.removesuffix(".toml") for f in files}
    if names != {p.effective.isoformat() for p in policies}:
        raise ValueError(f"a policy file must be named by the day it takes effect: {sorted(names)}")
    return tuple(policies)


def in_force(on: date) -> Policy:
    """The policy in force on a day (Asia/Shanghai). Raises `LookupError` before the first one."""
    for policy in reversed(published()):
        if policy.effective <= on:
            return policy
    raise LookupError(f"no policy was in force on {on}")
