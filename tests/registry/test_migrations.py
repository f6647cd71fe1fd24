"""The migrations build what the models describe, however often and by however many at once."""

from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

import registry
from registry.models import Base
from registry.session import connect, migrate

# Everything that a schema consists of but triggers and functions, which the models don't describe.
SCHEMA = """
select 'column', table_name::text, column_name::text,
       concat_ws(' ', data_type, character_maximum_length, numeric_precision, numeric_scale,
                 is_nullable, column_default, identity_generation)
    from information_schema.columns where table_schema = 'public'
union all
select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'index', tablename, indexname, indexdef from pg_indexes where schemaname = 'public'
union all
select 'sequence', sequencename, '', '' from pg_sequences where schemaname = 'public'
"""


@pytest.fixture
def bare(engine: Engine) -> Engine:
    """A database with nothing in it."""
    with engine.begin() as connection:
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    return engine


def _schema(engine: Engine) -> set[tuple[str, ...]]:
    with engine.connect() as connection:
        rows = {tuple(row) for row in connection.execute(text(SCHEMA))}
    return {row for row in rows if row[1] != "alembic_version"}


def test_the_migrations_leave_nothing_to_do(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_models_and_migrations_agree_to_the_last_constraint(bare: Engine) -> None:
    Base.metadata.create_all(bare)
    described = _schema(bare)
    Base.metadata.drop_all(bare)
    migrate(bare)
    assert _schema(bare) == described


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    before = _schema(engine)
    migrate(engine)
    assert _schema(engine) == before


def _start_up(url: str, start: Barrier) -> None:
    engine = connect(url)
    start.wait(60)
    migrate(engine)


def test_processes_that_start_together_may_all_migrate(bare: Engine, database_url: str) -> None:
    spawn = get_context("spawn")
    start = spawn.Barrier(2)
    processes = [spawn.Process(target=_start_up, args=(database_url, start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert ("sequence", "case_numbers", "", "") in _schema(bare)


def test_a_migration_can_be_taken_back_and_leaves_nothing_behind(engine: Engine) -> None:
    before = _schema(engine)
    config = Config()
    config.set_main_option("script_location", str(Path(registry.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert _schema(engine) == set()
    migrate(engine)
    assert _schema(engine) == before
