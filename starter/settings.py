"""Settings, from the environment (prefix `ENFORCE_`), and the files that the embedded servers leave."""

import os
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Refused(Exception):
    """A command can't be carried out; the text says why, and what to do."""

    exit_code = 1


class Unreachable(Refused):
    """A server or worker that is needed doesn't answer."""

    exit_code = 3


class Settings(BaseSettings):
    """Where things are. The Temporal connection itself is Temporal's own configuration (TEMPORAL_*)."""

    model_config = SettingsConfigDict(env_prefix="ENFORCE_")

    home: Path = Path(".enforce")
    database_url: str = ""
    web_url: str = ""
    outbox: Path | None = None
    sender: str = "compliance@platform.example"
    officers: str = "compliance@platform.example"
    supervisor: str = "supervisor@platform.example"
    task_queue: str = "cases"

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
        web = self.web_url
        if not web and self.web_file.exists():
            web = self.web_file.read_text("utf-8").strip()
        if not web:
            raise Refused("the address of the Temporal Web UI isn't known: set ENFORCE_WEB_URL")
        return f"{web.rstrip('/')}/namespaces/{namespace}/workflows/{workflow_id}/{run_id}/timeline"
