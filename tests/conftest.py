"""Real servers for every test: PostgreSQL, and the Temporal server with virtual time."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from temporalio.client import Client

from activities.channels import Addresses, Outbox
from registry.migrations import migrate
from registry.session import Sessions, connect, sessions
from starter import connect as to_servers
from starter import local
from starter.settings import Settings
from starter.virtual_time import VirtualTime
from tests.world import World
from worker import serving

ADDRESSES = Addresses(
    sender="compliance@platform.example",
    officers="officers@platform.example",
    supervisor="supervisor@platform.example",
)

# A shell that runs the tests in the background has them ignore Ctrl-C, and all that they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

_serial = count(1)
_ROOM = 2 << 30


def rounds(in_the_suite: int, at_full_length: int) -> int:
    """How often a random test plays: `FULL=1 make test` plays at full length."""
    return at_full_length if os.environ.get("FULL") == "1" else in_the_suite


# What takes longest, for it waits for processes that start, stop and die.
_LONG = {
    "test_worker",
    "test_monitors_survive",
    "test_undo_survives",
    "test_reconcile",
    "test_deliveries",
    "test_upgrade",
    "test_demo",
    "test_up",
    "test_undo",
    "test_backtest_agrees",
    "test_any_order",
    "test_all_kinds_in_any_order",
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, else in random order: a long test that comes last has a core wait for it."""
    items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    # Not pytest's own folder: the path of PostgreSQL's socket may not be long.
    folder = Path(tempfile.mkdtemp(prefix="e4-", dir=_in_memory()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> str | None:
    """Where files lie in memory, if it has room for the servers': a registry of a test's own is 300 files."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > _ROOM
    return str(shared) if roomy else None


@pytest.fixture(scope="session")
def postgres(home: Path) -> Iterator[str]:
    """The URL of a PostgreSQL whose database `template` has the schema."""
    with local.postgres(Settings(home=home)) as url:
        admin = create_engine(_named(url, "postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("create database template"))
            for safe in ("fsync", "full_page_writes"):  # no test outlives this server
                connection.execute(text(f"alter system set {safe} = off"))
            connection.execute(text("alter system set max_wal_size = '64MB'"))
            connection.execute(text("select pg_reload_conf()"))
        template = connect(_named(url, "template"))
        migrate(template)
        template.dispose()
        yield url
        admin.dispose()


def _named(url: str, database: str) -> str:
    named = make_url(url).set(drivername="postgresql+psycopg2", database=database)
    return named.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def admin(postgres: str) -> Iterator[Engine]:
    """Who makes databases and drops them."""
    engine = create_engine(_named(postgres, "postgres"), isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture
def database_url(postgres: str, admin: Engine) -> Iterator[str]:
    """A registry of the test's own, empty, with the newest schema."""
    serial = next(_serial)
    url = _named(postgres, f"registry_{serial}")
    with admin.connect() as connection:
        connection.execute(text(f"create database registry_{serial} template template strategy file_copy"))
    own = create_engine(url)
    with own.begin() as connection:
        # The tests share a Temporal server: no two of their cases may have the same number.
        connection.execute(text(f"alter sequence case_numbers restart with {serial}001"))
    own.dispose()
    yield url
    with admin.connect() as connection:
        connection.execute(text(f"drop database registry_{serial} with (force)"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def on_record(engine: Engine) -> Sessions:
    return sessions(engine)


@pytest.fixture(scope="session")
async def client(home: Path) -> AsyncIterator[Client]:
    """A client of a Temporal server with virtual time."""
    settings = Settings(home=home)
    with local.temporal(settings, time_skipping=True, web=False):
        client = await to_servers.temporal(settings)
        await to_servers.register_attributes(client)
        yield client


@pytest.fixture
async def world(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> AsyncIterator[World]:
    """A registry and a worker of the test's own."""
    outbox, task_queue = tmp_path / "outbox", f"cases-{next(_serial)}"
    world = World(client, VirtualTime(client), on_record, task_queue, outbox)
    async with serving(client, task_queue, database_url, Outbox(outbox), ADDRESSES):
        yield world
