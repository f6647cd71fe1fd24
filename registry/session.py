"""Connecting to the registry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

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
