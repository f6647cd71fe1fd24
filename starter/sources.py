"""Those who may report violations by HTTP: how each is known by its signature, and how much it may send."""

import re
import time
import tomllib
from collections.abc import Mapping
from hmac import compare_digest
from typing import Annotated, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from activities.webhook import sign
from rulebook.vocabulary import faults, one_line
from starter.settings import Refused, Settings

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a source is called that reports by HTTP."""

_TOLERANCE = 300  # seconds by which the clocks of a source and of this system may differ
_MOST_SIGNATURES = 20  # that a request may offer
_BURST = 10  # seconds of its rate that a source may send at once
_NOBODY = SecretStr("whsec_" + "A" * 32)


def _secret(secret: SecretStr) -> SecretStr:
    sign(secret.get_secret_value(), "", 0, b"")
    return secret


class Source(BaseModel):
    """A system that may report: the secrets that it signs with, and how many reports a second it may send.

    It has two secrets while it changes from one to the next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secrets: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_secret)], ...], Field(min_length=1, max_length=10)
    ]
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 500


Sources: TypeAlias = Mapping[str, Source]

_SOURCES: TypeAdapter[dict[str, Source]] = TypeAdapter(
    Annotated[dict[Annotated[str, StringConstraints(pattern=NAME)], Source], Field(min_length=1)]
)


def of(settings: Settings) -> Sources:
    """The sources of the file that the settings name. Raises `Refused`, with no word of what is secret."""
    path = settings.sources
    if path is None:
        raise Refused("ENFORCE_SOURCES is not set: it names a file with the secrets of those who may report")
    where = f"ENFORCE_SOURCES: {path}"
    try:
        return _SOURCES.validate_python(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise Refused(f"{where}: {error.strerror}") from error
    except ValidationError as error:
        why = one_line(faults(error))
    except ValueError as error:
        place = re.search(r"\(at [^()]*\)$", str(error))
        why = f"is no TOML {place[0] if place else ''}".strip()
    # Not chained: a traceback would show what the file holds.
    raise Refused(f"{where}: {why}")


def signer(sources: Sources, headers: Mapping[str, str], body: bytes) -> str | None:
    """The source that signed this body a moment ago, as Standard Webhooks has it; None if none did."""
    name, webhook_id, timestamp, signatures = (
        headers.get(header, "")
        for header in ("x-source", "webhook-id", "webhook-timestamp", "webhook-signature")
    )
    at = int(timestamp) if re.fullmatch("[0-9]{1,12}", timestamp) else 0
    offered = [one.encode() for one in signatures.split() if one.startswith("v1,")][:_MOST_SIGNATURES]
    source = sources.get(name)
    signed = False
    # A stranger costs as much time as a source: how long the answer takes doesn't tell who is one.
    for secret in source.secrets if source else (_NOBODY,):
        wanted = sign(secret.get_secret_value(), webhook_id, at, body).encode()
        for one in offered:
            signed |= compare_digest(wanted, one)
    in_time = abs(time.time() - at) <= _TOLERANCE
    return name if source and webhook_id and signed and in_time else None


class Allowance:
    """How many reports a source may send now; a request that goes over it is paid off by waiting."""

    def __init__(self, rate: float) -> None:
        self._rate, self._left, self._at = rate, rate * _BURST, time.monotonic()

    def wait(self) -> float:
        """How many seconds until the source may send again."""
        now = time.monotonic()
        self._left = min(self._rate * _BURST, self._left + self._rate * (now - self._at))
        self._at = now
        return max(0.0, -self._left / self._rate)

    def take(self, reports: int) -> None:
        """Count reports that the source has sent."""
        self._left -= reports
