"""A worker tells of its health and figures: a process of its own, as it runs in production."""

import asyncio
import os
import socket
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text
from temporalio.client import Client

from activities.channels import Letter, Undeliverable
from registry.session import Sessions
from rulebook.vocabulary import Kind, Stage, workflow_id
from starter import local
from starter.health import Counted
from starter.settings import Settings
from starter.virtual_time import VirtualTime
from tests.starter.conftest import run
from tests.starter.screen import ENFORCE
from tests.world import CaseInTime, World, a_report, an_agent


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Told(NamedTuple):
    """What a worker answers."""

    http: httpx.AsyncClient
    sdk: str

    async def once_it_answers(self, status: int) -> httpx.Response:
        async with asyncio.timeout(30):
            while (health := await self.http.get("/healthz")).status_code != status:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)
        return health

    async def figures(self) -> dict[str, float]:
        lines = (await self.http.get("/metrics")).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


@asynccontextmanager
async def a_worker(env: dict[str, str]) -> AsyncIterator[Told]:
    ports = _port(), _port()
    at = [f"127.0.0.1:{port}" for port in ports]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}
    process = await asyncio.create_subprocess_exec(
        ENFORCE, "worker", "--http", at[0], "--sdk-metrics", at[1], env=clean | env, stdout=PIPE
    )
    assert process.stdout
    try:
        assert b"serving task queue" in await asyncio.wait_for(process.stdout.readline(), 60)
        async with httpx.AsyncClient(base_url=f"http://{at[0]}", timeout=30, trust_env=False) as http:
            yield Told(http, f"http://{at[1]}/metrics")
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)
    assert process.returncode == 0


@pytest.fixture
def env(client: Client, database_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "ENFORCE_DATABASE_URL": database_url,
        "ENFORCE_TASK_QUEUE": f"told-{os.getpid()}-{tmp_path.name}",
        "ENFORCE_OUTBOX": str(tmp_path / "outbox"),
    }


def _world(client: Client, on_record: Sessions, env: dict[str, str]) -> World:
    queue, outbox = env["ENFORCE_TASK_QUEUE"], Path(env["ENFORCE_OUTBOX"])
    return World(client, VirtualTime(client), on_record, queue, outbox)


async def test_a_worker_tells_how_the_cases_stand_and_what_it_has_sent(
    client: Client, on_record: Sessions, env: dict[str, str]
) -> None:
    [open_, unpaid, paid] = an_agent(on_record, numbers=3)
    async with a_worker(env) as told:
        world = _world(client, on_record, env)
        cases = [CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, n)) for n in (open_, unpaid, paid)]
        for number, case in zip((open_, unpaid, paid), cases, strict=True):
            await world.report(a_report(number))
            await case.once(lambda case: case.stage is Stage.RECTIFICATION)
        await cases[1].handle.execute_update("rectified", {})
        await cases[2].handle.execute_update("rectified", {})
        await cases[2].handle.execute_update("verify", {"officer": "李敏", "passed": True})
        await cases[2].handle.result()
        health = await told.http.get("/healthz")
        figures = await told.figures()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            sdk = (await http.get(told.sdk)).text
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert figures["enforce_temporal_up"] == figures["enforce_registry_up"] == 1
    assert figures['enforce_cases_open{kind="secondary-sale",state="rectification"}'] == 1
    assert figures['enforce_cases_open{kind="secondary-sale",state="verification"}'] == 1
    assert figures['enforce_cases_ended{kind="secondary-sale",outcome="rectified"}'] == 1
    assert figures['enforce_deadlines{limit="rectification",result="met"}'] == 1
    assert figures['enforce_deadlines{limit="rectification",result="missed"}'] == 0
    assert figures['enforce_officers_waiting{what="verification"}'] == 1
    assert figures['enforce_officers_longest_working_days{what="verification"}'] == 0
    assert figures['enforce_letters_total{channel="outbox",result="delivered"}'] == 4
    assert figures['enforce_letters_total{channel="outbox",result="failed"}'] == 0
    assert 'temporal_workflow_completed_total{namespace="default"' in sdk


async def test_the_registry_counts_once_for_all_who_ask_within_a_minute(
    client: Client, on_record: Sessions, env: dict[str, str]
) -> None:
    [number] = an_agent(on_record)
    async with a_worker(env) as told:
        world = _world(client, on_record, env)
        case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
        await world.report(a_report(number))
        await case.once(lambda case: case.stage is Stage.RECTIFICATION)
        [before, *others] = await asyncio.gather(*[told.figures() for _ in range(20)])
        with on_record.begin() as session:
            session.execute(text("update notices set last_day = '2017-03-01'"))
        after = await told.figures()
    assert before['enforce_cases_open{kind="secondary-sale",state="rectification"}'] == 1
    assert others == [before] * 19
    assert after == before


async def test_a_worker_whose_registry_is_gone_says_so_and_comes_back(
    env: dict[str, str], database_url: str
) -> None:
    url = make_url(database_url)
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    async with a_worker(env) as told:
        before = await told.http.get("/healthz")
        with admin.connect() as connection:
            connection.execute(text(f"alter database {url.database} allow_connections false"))
            connection.execute(
                text("select pg_terminate_backend(pid) from pg_stat_activity where datname = :of"),
                {"of": url.database},
            )
        gone = await told.once_it_answers(503)
        without = await told.figures()
        with admin.connect() as connection:
            connection.execute(text(f"alter database {url.database} allow_connections true"))
        await told.once_it_answers(200)
    admin.dispose()
    assert before.status_code == 200
    assert [error["reason"] for error in gone.json()["errors"]] == ["the registry does not answer"]
    assert (without["enforce_registry_up"], without["enforce_temporal_up"]) == (0, 1)
    assert not any(name.startswith("enforce_cases") for name in without)


async def test_a_worker_whose_temporal_server_is_gone_says_so(database_url: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="e4-") as home, ExitStack() as server:
        running = server.enter_context(local.temporal(Settings(home=Path(home)), web=False))
        env = {"TEMPORAL_ADDRESS": running.address, "ENFORCE_DATABASE_URL": database_url}
        async with a_worker(env | {"ENFORCE_OUTBOX": str(tmp_path)}) as told:
            server.close()
            gone = await told.once_it_answers(503)
            without = await told.figures()
    assert [error["reason"] for error in gone.json()["errors"]] == ["the Temporal server does not answer"]
    assert (without["enforce_registry_up"], without["enforce_temporal_up"]) == (1, 0)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("--http", "8400"), "--http 8400: has to be HOST:PORT"),
        (("--sdk-metrics", "127.0.0.1"), "--sdk-metrics 127.0.0.1: has to be HOST:PORT"),
        (("--sdk-metrics", "localhost:1"), "can't serve the SDK's metrics at localhost:1: Invalid"),
    ],
)
async def test_an_address_that_is_none_is_refused_in_words(
    wrong: tuple[str, str], why: str, tmp_path: Path
) -> None:
    refused = await run("worker", *wrong, env={}, cwd=tmp_path)
    assert (refused.code, refused.err.startswith(f"error: {why}")) == (1, True)


async def test_a_port_that_somebody_has_is_refused_in_words(env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = await run("worker", "--http", f"127.0.0.1:{port}", env=env, cwd=tmp_path)
        without = await run("worker", "--sdk-metrics", f"127.0.0.1:{port}", env=env, cwd=tmp_path)
    assert (refused.code, without.code) == (1, 1)
    assert f"can't listen at 127.0.0.1:{port}" in refused.err
    assert f"can't serve the SDK's metrics at 127.0.0.1:{port}" in without.err


class _NeverAtHome:
    def deliver(self, letter: Letter) -> str:
        raise Undeliverable("no such mailbox") if letter.name == "N1" else ConnectionError("timed out")


def test_letters_that_do_not_arrive_are_counted_by_whether_they_are_tried_again() -> None:
    letters = Counted(_NeverAtHome(), "smtp")
    for name, why in (("N1", Undeliverable), ("N2", ConnectionError), ("N2", ConnectionError)):
        with pytest.raises(why):
            letters.deliver(Letter(name=name, to="a@agent.example", content=b""))
    ended = [
        letters.metrics.get_sample_value("enforce_letters_total", {"channel": "smtp", "result": result})
        for result in ("delivered", "refused", "failed")
    ]
    assert ended == [0, 1, 2]
