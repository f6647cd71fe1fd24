"""Bringing the registry's schema up to date; whoever only asks the registry does not import this."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; several processes may do so at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        # Two workers that start together must not both create the tables.
        connection.exec_driver_sql("select pg_advisory_xact_lock(400)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
