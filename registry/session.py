"""Connecting to the registry, and bringing its schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

Sessions: TypeAlias = sessionmaker[Session]


def connect(url: str, pool_size: int = 5) -> Engine:
    """An engine for a PostgreSQL URL; at most `pool_size` connections, each checked before use."""
    url = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    return create_engine(url, pool_size=pool_size, max_overflow=0, pool_pre_ping=True)


def sessions(engine: Engine) -> Sessions:
    """A factory of sessions; objects stay readable after their transaction."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def snapshot(on_record: Sessions) -> Iterator[Session]:
    """A session that sees the registry as of one moment, and changes nothing."""
    with on_record() as session:
        as_of_one_moment(session)
        yield session


def as_of_one_moment(session: Session) -> None:
    """Have a session that has asked nothing yet see the registry as of one moment, and change nothing."""
    session.execute(text("set transaction isolation level repeatable read, read only"))


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; several processes may do so at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        # Two workers that start together must not both create the tables.
        connection.exec_driver_sql("select pg_advisory_xact_lock(400)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
