"""Settings, from the environment (prefix `ENFORCE_`), and the files that the embedded servers leave."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

_PREFIX = "ENFORCE_"


class Refused(Exception):
    """A command can't be carried out; the text says why, and what to do."""

    exit_code = 1


class Unreachable(Refused):
    """A server or worker that is needed doesn't answer."""

    exit_code = 3


def wrong(error: ValidationError, prefix: str = "") -> str:
    """What is wrong with which variable, in words; never what a variable holds, it may be a secret."""
    return "; ".join(
        _PREFIX
        + f"{prefix}{fault['loc'][0]}".upper()
        + (" is not set" if fault["type"] == "missing" else f": {fault['msg'].removeprefix('Value error, ')}")
        for fault in error.errors(include_input=False, include_url=False)
        if fault["type"] != "default_factory_not_called"  # only because of another fault
    )


def _postgres(url: str) -> str:
    scheme, _, rest = url.partition("://")
    try:
        _ = urlsplit(f"//{rest.rpartition('@')[2]}").port
    except ValueError:
        scheme = ""
    if url and scheme.partition("+")[0] != "postgresql":
        raise ValueError("has to be postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    return url


def _address(text: str) -> str:
    if not re.fullmatch(r"[^\s@,;<>\"]+@[^\s@,;<>\"]+", text) or not text.isprintable():
        raise ValueError("is no mail address")
    return text


def _addresses(text: str) -> str:
    return ", ".join(_address(part.strip()) for part in text.split(","))


class Settings(BaseModel):
    """Where things are. The Temporal connection itself is Temporal's own configuration (TEMPORAL_*).

    What is set for a channel (`ENFORCE_SMTP_*`, `ENFORCE_WEBHOOK_*`) is looked at when the channel is used.
    Raises `Refused`.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    home: Path = Path(".enforce")
    database_url: Annotated[str, AfterValidator(_postgres), Field(repr=False)] = ""
    web_url: str = ""
    outbox: Path | None = None
    sender: Annotated[str, AfterValidator(_address)] = "compliance@platform.example"
    officers: Annotated[str, AfterValidator(_addresses)] = "compliance@platform.example"
    supervisor: Annotated[str, AfterValidator(_addresses)] = "supervisor@platform.example"
    task_queue: str = "cases"
    letters_per_second: Annotated[float | None, Field(gt=0)] = None
    sources: Path | None = None
    channel: Literal["outbox", "smtp", "webhook"] = "outbox"

    def __init__(self, **given: Any) -> None:
        variables = {name: os.environ.get(f"{_PREFIX}{name.upper()}") for name in type(self).model_fields}
        # An empty variable says nothing, as in a compose file that passes on what isn't set.
        said = {name: value for name, value in variables.items() if value}
        try:
            super().__init__(**said | given)
        except ValidationError as error:
            # Not chained: a traceback would show what the variables hold.
            raise Refused(wrong(error)) from None

    def of_channel(self) -> dict[str, Any]:
        """What is set for the channel that is used."""
        prefix = f"{_PREFIX}{self.channel}_".upper()
        variables = os.environ.items()
        return {
            name.removeprefix(prefix).lower(): value
            for name, value in variables
            if value and name.startswith(prefix)
        }

    @property
    def temporal_file(self) -> Path:
        """Where the embedded Temporal server says how it is reached."""
        return self.home / "temporal.toml"

    @property
    def web_file(self) -> Path:
        """Where the embedded Temporal server says at which address its Web UI is."""
        return self.home / "web-url"

    @property
    def database_file(self) -> Path:
        """Where the embedded PostgreSQL says how it is reached."""
        return self.home / "database-url"

    @property
    def outbox_folder(self) -> Path:
        """Where notices are delivered."""
        return self.outbox or self.home / "outbox"

    @property
    def notices_go(self) -> str:
        """Where notices go, for people."""
        return str(self.outbox_folder.resolve()) if self.channel == "outbox" else f"by {self.channel}"

    @property
    def reports_folder(self) -> Path:
        """The folder whose report files `enforce up` takes in."""
        return self.home / "reports"

    def registry_url(self) -> str:
        """The URL of the registry. Raises `Unreachable` where none is configured."""
        if self.database_url:
            return self.database_url
        if self.database_file.exists():
            return self.database_file.read_text("utf-8").strip()
        raise Unreachable(
            "no registry is configured: start one with `enforce up`, or set ENFORCE_DATABASE_URL "
            f"(looked for {self.database_file})"
        )

    def temporal_config(self) -> str | None:
        """The Temporal configuration file of the embedded server, unless the user points elsewhere."""
        elsewhere = ("TEMPORAL_ADDRESS", "TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE")
        if any(name in os.environ for name in elsewhere) or not self.temporal_file.exists():
            return None
        return str(self.temporal_file)

    def web_page(self, namespace: str, workflow_id: str, run_id: str) -> str:
        """The page of a case in the Temporal Web UI. Raises `Refused` where its address isn't known."""
        return f"{self._web(namespace)}/{workflow_id}/{run_id}/timeline"

    def web_view(self, namespace: str, query: str) -> str:
        """The page of a list of cases there. Raises `Refused` where the address isn't known."""
        return f"{self._web(namespace)}?query={quote(query)}"

    def _web(self, namespace: str) -> str:
        web = self.web_url
        if not web and self.web_file.exists():
            web = self.web_file.read_text("utf-8").strip()
        if not web:
            raise Refused("the address of the Temporal Web UI isn't known: set ENFORCE_WEB_URL")
        return f"{web.rstrip('/')}/namespaces/{namespace}/workflows"
