"""The policy: amounts, limits and schedules as dated data (rulebook, preamble and 5.4).

A policy is a TOML file beside this module, named by the day from which it is in force. It is checked
against these models when it is loaded; flow stays code.
"""

import tomllib
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Self

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from rulebook.vocabulary import Business, Kind


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clock(_Section):
    """How time is kept: the minutes after midnight over which cases spread."""

    spread_minutes: PositiveInt


class FineSchedule(_Section):
    """Rulebook 2.3: what each further offence costs, in whole yuan."""

    first: PositiveInt
    second: PositiveInt
    each_further: PositiveInt
    ceiling: PositiveInt

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

    rectify_regular: PositiveInt
    rectify_irregular: PositiveInt
    pay_within: PositiveInt
    fine: FineSchedule

    def rectify_within(self, business: Business) -> int:
        """Working days to rectify (2.1)."""
        return self.rectify_irregular if business is Business.IRREGULAR else self.rectify_regular


class Fraud(_Section):
    """Rulebook 1.3: the fine for each number in whole yuan, and the limit to pay it in working days."""

    fine_per_number: PositiveInt
    pay_within: PositiveInt


class ServiceFailure(_Section):
    """Rulebook 3: the limit to serve the customer, in working days; renewals of direct service, in days."""

    serve_within: PositiveInt
    renewal_notice: PositiveInt


class Quarantine(_Section):
    """How long reclaimed numbers rest (5.3), in calendar days."""

    days: PositiveInt


class Policy(_Section):
    """One published policy."""

    effective: date
    clock: Clock
    fraud: Fraud
    secondary_sale: SecondarySale
    service_failure: ServiceFailure
    quarantine: Quarantine

    def fine(self, kind: Kind, offence: int) -> Decimal:
        """The fine in yuan for an agent's nth offence of a kind, counted from 1.

        Raises `LookupError` for a kind that isn't fined.
        """
        if kind is Kind.FRAUD:
            return Decimal(self.fraud.fine_per_number)
        if kind is Kind.SECONDARY_SALE:
            return Decimal(self.secondary_sale.fine.amount(offence))
        raise LookupError(f"the rulebook sets no fine for {kind}")


def load(text: str) -> Policy:
    """Read a policy from TOML.

    Raises `ValueError` (`tomllib.TOMLDecodeError` or `pydantic.ValidationError`) that names what is wrong.
    """
    return Policy.model_validate(tomllib.loads(text))


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
