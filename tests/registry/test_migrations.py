"""The migrations build what the models describe, however often and by however many at once."""

from datetime import date, datetime
from decimal import Decimal
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import registry
from registry.migrations import migrate
from registry.models import Account, Base, Number, Payment, Wait
from registry.proof import examine_all
from registry.session import connect
from rulebook.vocabulary import SHANGHAI, AccountStatus, Awaiting, Holder, NumberStatus

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


def _take_back_to(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(registry.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def test_a_migration_can_be_taken_back_and_leaves_nothing_behind(engine: Engine) -> None:
    before = _schema(engine)
    _take_back_to(engine, "base")
    assert _schema(engine) == set()
    migrate(engine)
    assert _schema(engine) == before


# A registry as it was before the whole rulebook: one number in use, one taken back by a shutdown.
BEFORE_0002 = """
insert into agents values ('A1', '甲通信有限公司', '王芳', 'a1@agent.example', '13800000000');
insert into numbers values
    ('4008000001', 'A1', '乙商贸有限公司', '91310000MA1FL0000X', '中国电信', 'active', null, null),
    ('4008000002', 'A1', '丙商贸有限公司', '91310000MA1FL0000X', '中国电信', 'active', null, null);
insert into cases values
    ('SS-2026-00001', 'secondary-sale', '4008000002', 'A1', 'secondary-sale-4008000002', 'run',
     '2017-02-16', now(), 'monitor', 'shut-down', now());
insert into accounts values ('A1', 'shut-down', 'SS-2026-00001', now());
insert into fines (case_no, step, agent_id, kind, offence, amount, status, set_at) values
    ('SS-2026-00001', 'fine', 'A1', 'secondary-sale', 1, 1000, 'due', now());
update numbers set status = 'quarantined', quarantined_until = '2026-04-01', reclaimed_by = 'SS-2026-00001'
    where number = '4008000002';
insert into audit_trail (case_no, step, at, actor, text, result)
    select case when n % 3 > 0 then 'SS-2026-00001' end, 'step-' || n, '2017-02-16 23:59:59.000001+08',
        '李敏', '第' || n || '行',
        jsonb_build_object('说', E'"\\t\\u2028𠮷', 'of', n / 7.0, 'a', array[1e30, -0.50])
    from generate_series(1, 2500) as n;
"""
PAID_BEFORE_0008 = """
insert into payments (reference, case_no, amount, received_at, recorded_by) values
    ('ICBC-1', 'SS-2026-00001', 400, '2026-03-16 00:10:00+08', '李敏');
"""
HELD_BEFORE_0009 = """
insert into numbers
    select '400800000' || n, 'A1', '乙商贸有限公司', '91310000MA1FL0000X', '中国电信', 'active', null, null
    from generate_series(3, 5) as n;
insert into cases (case_no, kind, number, agent_id, workflow_id, run_id, policy, opened_at, opened_by)
    select 'SS-2026-0000' || n, 'secondary-sale', '400800000' || n + 1, 'A1', 'w' || n, 'r' || n,
        '2017-02-16', now(), 'monitor' from generate_series(2, 4) as n;
insert into audit_trail (case_no, step, at, actor, text, result) values
    ('SS-2026-00001', 'hold-1', '2026-01-05 12:00:00+08', '李敏', '', '{}'),
    ('SS-2026-00002', 'hold-1', '2026-01-05 12:00:00+08', '李敏', '', '{}'),
    ('SS-2026-00002', 'resume-2', '2026-01-06 12:00:00+08', '李敏', '', '{}'),
    ('SS-2026-00002', 'hold-3', '2026-01-07 12:00:00+08', '李敏', '', '{}'),
    ('SS-2026-00003', 'hold-1', '2026-01-08 12:00:00+08', '李敏', '', '{}'),
    ('SS-2026-00003', 'resume-2', '2026-01-09 12:00:00+08', '李敏', '', '{}'),
    ('SS-2026-00004', 'verify-1', '2026-01-09 12:00:00+08', '李敏', '', '{}');
"""
OWED_BEFORE_0010 = """
insert into numbers (
    number, agent_id, customer, certificate, operator, status, holder, customer_email, renewal_due
)
    select '400800001' || n, 'A1', '乙商贸有限公司', '91310000MA1FL0000X', '中国电信', 'active', 'agent', '',
        '2027-01-01'
    from generate_series(1, 7) as n;
insert into cases (
    case_no, kind, number, agent_id, workflow_id, run_id, policy, opened_at, opened_by, outcome, closed_at
)
    select 'SS-2026-0010' || n, 'secondary-sale', '400800001' || n, 'A1', 'w' || n, 'r', '2017-02-16',
        '2026-01-01 12:00+08', 'monitor', outcome,
        case when outcome is not null then timestamptz '2026-01-20 12:00+08' end
    from (values
        (1, 'settled'), (2, 'settled'), (3, 'rectified'), (4, 'overturned'), (5, null), (6, 'overtaken'),
        (7, 'settled')
    ) as ended (n, outcome);
insert into fines (case_no, step, agent_id, kind, offence, amount, status, set_at)
    select 'SS-2026-0010' || n, 'fine', 'A1', 'secondary-sale', 1, 1000, status, '2026-01-05 12:00+08'
    from (values (1, 'settled'), (2, 'settled'), (4, 'void'), (6, 'due'), (7, 'settled'))
        as fined (n, status);
insert into payments (reference, case_no, amount, received_at, recorded_by, refund_due_at) values
    ('B1', 'SS-2026-00101', 400, '2026-01-10 12:00+08', '李敏', null),
    ('B2', 'SS-2026-00101', 600.01, '2026-01-25 12:00+08', '李敏', null),
    ('B3', 'SS-2026-00102', 1000, '2026-01-10 12:00+08', '李敏', null),
    ('B4', 'SS-2026-00103', 300, '2026-01-10 12:00+08', '李敏', null),
    ('B5', 'SS-2026-00104', 1000, '2026-01-10 12:00+08', '李敏', '2026-01-21 12:00+08'),
    ('B6', 'SS-2026-00105', 300, '2026-01-10 12:00+08', '李敏', null),
    ('B7', 'SS-2026-00107', 2000, '2026-01-10 12:00+08', '李敏', null);
insert into waits (case_no, what, since, raised) values
    ('SS-2026-00104', 'refund', '2026-01-21 12:00+08', 2);
insert into audit_trail (case_no, step, at, actor, text, result, serial, hash) values (
    'SS-2026-00107', 'review-after-SS-2026-00104', '2026-01-28 12:00+08', '李敏', '', '{}', 1, repeat('0', 64)
);
"""
ROWS = " union all ".join(
    f"select '{table}', to_jsonb({table}) from {table}"
    for table in ("agents", "accounts", "numbers", "cases", "fines", "audit_trail")
)
TRIGGERS = "select tgrelid::regclass::text, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal"


@pytest.fixture
def earlier(bare: Engine) -> Engine:
    """A registry of revision 0001 with some rows on record."""
    with bare.begin() as connection:
        command.upgrade(_config(connection), "0001")
        connection.execute(text(BEFORE_0002))
    return bare


def _on_record(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return sorted((tuple(row) for row in connection.execute(text(ROWS))), key=str)


def _rows_of(engine: Engine, table: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return list(connection.scalars(text(f"select to_jsonb({table}) from {table}")))


def _triggers(engine: Engine) -> set[tuple[str, ...]]:
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(text(TRIGGERS))}


def test_what_is_on_record_outlives_the_migration_to_the_whole_rulebook_and_back(earlier: Engine) -> None:
    rows, schema, triggers = _on_record(earlier), _schema(earlier), _triggers(earlier)
    migrate(earlier)
    with Session(earlier) as session:
        used, rests = (session.get_one(Number, f"400800000{n}") for n in (1, 2))
        assert (used.status, used.holder) == (NumberStatus.ACTIVE, Holder.AGENT)
        assert (rests.status, rests.holder) == (NumberStatus.QUARANTINED, Holder.PLATFORM)
        assert rests.quarantined_until == date(2026, 4, 1)
    for (table, before), (same_table, after) in zip(rows, _on_record(earlier), strict=True):
        assert (table, before.items() <= after.items()) == (same_table, True)
    _take_back_to(earlier, "0001")
    assert (_on_record(earlier), _schema(earlier), _triggers(earlier)) == (rows, schema, triggers)


def test_a_payment_from_before_bank_days_has_none_and_outlives_the_migration_and_back(
    earlier: Engine,
) -> None:
    with earlier.begin() as connection:
        command.upgrade(_config(connection), "0007")
        connection.execute(text(PAID_BEFORE_0008))
    rows, schema = _rows_of(earlier, "payments"), _schema(earlier)
    migrate(earlier)
    with Session(earlier) as session:
        payment = session.get_one(Payment, "ICBC-1")
        assert (payment.amount, payment.had_on) == (Decimal("400.00"), None)
    assert _rows_of(earlier, "payments") == [{**row, "had_on": None} for row in rows]
    _take_back_to(earlier, "0007")
    assert (_rows_of(earlier, "payments"), _schema(earlier)) == (rows, schema)


def test_a_case_that_was_held_before_waits_for_its_resumption_since_then(earlier: Engine) -> None:
    with earlier.begin() as connection:
        connection.execute(text(HELD_BEFORE_0009))
    migrate(earlier)
    with Session(earlier) as session:
        [wait] = session.scalars(select(Wait))  # of a case that has ended, or was resumed, nothing waits
        assert (wait.case_no, wait.what, wait.ended_at) == ("SS-2026-00002", Awaiting.RESUMPTION, None)
        assert wait.since == datetime(2026, 1, 7, 12, tzinfo=SHANGHAI)


def test_what_cases_that_have_ended_owed_back_before_waits_since_then(earlier: Engine) -> None:
    with earlier.begin() as connection:
        command.upgrade(_config(connection), "0009")
        connection.execute(text(OWED_BEFORE_0010))
    rows, schema = _rows_of(earlier, "waits"), _schema(earlier)
    migrate(earlier)
    with Session(earlier) as session:
        waiting = {
            wait.case_no: (wait.what, wait.since, wait.raised) for wait in session.scalars(select(Wait))
        }
    assert waiting == {
        "SS-2026-00101": (Awaiting.REFUND, datetime(2026, 1, 25, 12, tzinfo=SHANGHAI), 0),
        "SS-2026-00103": (Awaiting.REFUND, datetime(2026, 1, 20, 12, tzinfo=SHANGHAI), 0),
        "SS-2026-00104": (Awaiting.REFUND, datetime(2026, 1, 21, 12, tzinfo=SHANGHAI), 2),
        "SS-2026-00107": (Awaiting.REFUND, datetime(2026, 1, 28, 12, tzinfo=SHANGHAI), 0),
    }
    _take_back_to(earlier, "0009")
    assert (_rows_of(earlier, "waits"), _schema(earlier)) == (rows, schema)


def test_lines_from_before_they_were_chained_prove_themselves_and_stay_as_they_are(earlier: Engine) -> None:
    migrate(earlier)
    with Session(earlier) as session:
        assert [(proof.case_no, proof.lines, proof.faults) for proof in examine_all(session)] == [
            ("SS-2026-00001", 1667, ()),
            (None, 833, ()),
        ]
        with pytest.raises(IntegrityError, match="lines are only ever added"):
            session.execute(text("update audit_trail set text = ''"))


def test_a_migration_is_not_taken_back_over_what_it_alone_can_say(earlier: Engine) -> None:
    migrate(earlier)
    with Session(earlier) as session, session.begin():
        number = session.get_one(Number, "4008000001")
        number.status, number.frozen_by = NumberStatus.FROZEN, "SS-2026-00001"
    with pytest.raises(IntegrityError, match="ck_numbers_numberstatus"):
        _take_back_to(earlier, "0001")
    with Session(earlier) as session:
        assert session.get_one(Number, "4008000001").status is NumberStatus.FROZEN
        assert session.get_one(Account, "A1").status is AccountStatus.SHUT_DOWN
