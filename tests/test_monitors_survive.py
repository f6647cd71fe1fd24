"""Reports by three ways at once, to monitors that are killed, with servers that restart: each counts once."""

import asyncio
import json
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from standardwebhooks import Webhook

from registry.migrations import migrate
from registry.models import Case, Incoming, ReportRow
from registry.session import Sessions, connect, sessions
from rulebook.vocabulary import IncomingStatus, Kind
from starter import local
from starter.settings import Settings
from tests.conftest import rounds
from tests.starter.screen import ENFORCE
from tests.world import an_agent

REPORTS = rounds(450, 20_000)
SECRET = "whsec_" + "c2VjcmV0IG9mIGRpYWwtYmFjayBzeXN0ZW1z"
SOURCES = ("by-sql", "by-file", "by-http")


@dataclass
class Traffic:
    """What is sent, and what has to come of it."""

    lines: dict[str, list[str]]
    cases: set[tuple[Kind, str]]
    taken: set[tuple[str, str]]
    refused: dict[tuple[str, str], str]
    malformed: int = 0
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))

    @property
    def progress(self) -> float:
        """The share of all lines that has been sent."""
        return sum(self.sent.values()) / sum(map(len, self.lines.values()))


def _traffic(numbers: Sequence[str], chance: random.Random) -> Traffic:
    """Reports of which a tenth come twice, 5% are malformed and 2% are about numbers that nobody knows."""
    made = Traffic({source: [] for source in SOURCES}, set(), set(), {})
    for serial in range(REPORTS):
        source = SOURCES[serial % 3]
        kind, number, report_id = chance.choice(list(Kind)), chance.choice(numbers), f"R-{serial}"
        report: dict[str, Any] = {
            **{"source": source, "report_id": report_id, "kind": kind, "number": number},
            "facts": f"第{serial}次拨测与登记客户不符",
        }
        lot = chance.random()
        if lot < 0.05:
            # A broken line has no name to go by; over HTTP and SQL a report with a wrong field stands for it.
            report["business"] = "odd"
            made.refused[source, report_id] = "business"
            if source == "by-http":
                del made.refused[source, report_id]
                made.malformed += 1
        elif lot < 0.07:
            report["number"] = f"4009{serial:06}"
            made.refused[source, report_id] = "is not in the registry"
        else:
            made.cases.add((kind, number))
            made.taken.add((source, report_id))
        made.lines[source] += [json.dumps(report, ensure_ascii=False)] * (2 if chance.random() < 0.1 else 1)
    for lines in made.lines.values():
        chance.shuffle(lines)
    return made


class House:
    """Both servers in a folder of their own, which can be restarted, and the processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder / "h")
        self.spool = folder / "spool"
        self.spool.mkdir()
        self._servers: dict[str, ExitStack] = {}
        self.env: dict[str, str] = {}
        self._started = 0
        sources = folder / "sources.toml"
        sources.write_text(f'[by-http]\nsecrets = ["{SECRET}"]\nrate = 100000\n')
        self.sources = str(sources)

    @contextmanager
    def open(self) -> Iterator[Sessions]:
        """Run both servers until the context ends."""
        try:
            url = self._start("postgres", local.postgres(self.settings))
            engine = connect(url, pool_size=10)
            migrate(engine)
            running = self._start("temporal", local.temporal(self.settings, web=False))
            clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}
            self.env = clean | {
                "TEMPORAL_ADDRESS": running.address,
                "ENFORCE_DATABASE_URL": url,
                "ENFORCE_OUTBOX": str(self.settings.home / "outbox"),
                "ENFORCE_SOURCES": self.sources,
            }
            yield sessions(engine)
            engine.dispose()
        finally:
            for server in self._servers.values():
                server.close()

    def _start(self, name: str, server: Any) -> Any:
        self._servers[name] = ExitStack()
        return self._servers[name].enter_context(server)

    def restart_postgres(self) -> None:
        """Stop PostgreSQL, whoever uses it, and start it again."""
        self._servers["postgres"].close()
        self._start("postgres", local.postgres(self.settings))

    def restart_temporal(self) -> None:
        """Stop Temporal, and start it again at its address."""
        port = int(self.env["TEMPORAL_ADDRESS"].rpartition(":")[2])
        self._servers["temporal"].close()
        self._start("temporal", local.temporal(self.settings, web=False, port=port))

    @asynccontextmanager
    async def process(self, *words: str, says: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run `enforce` until the context ends; it begins once the process says that it is ready."""
        running = await self.start(*words, says=says)
        try:
            yield running
        finally:
            with suppress(ProcessLookupError):
                running.send_signal(signal.SIGKILL)
            await running.wait()

    async def start(self, *words: str, says: str) -> asyncio.subprocess.Process:
        """Start `enforce`, and wait until it says that it is ready."""
        self._started += 1
        said = self.settings.home / f"{words[0]}-{self._started}.log"
        # Into a file: a pipe that nobody reads fills up, and stops the process that writes to it.
        with said.open("wb") as log:
            running = await asyncio.create_subprocess_exec(
                str(ENFORCE), *words, env=self.env, stdout=log, stderr=log
            )
        for _ in range(600):
            if says in said.read_text():
                return running
            if running.returncode is not None:
                break
            await asyncio.sleep(0.1)
        raise AssertionError(said.read_text())


class Monitors:
    """Two monitors, of which now one and now the other is killed."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._running: list[asyncio.subprocess.Process] = []
        self.ports = [local._free_port(0) for _ in range(2)]
        self.killed = 0

    async def start(self, which: int) -> asyncio.subprocess.Process:
        """Start one; while a server is away, again and again, as a supervisor would."""
        words = ("monitor", "--follow", str(self._house.spool), "--http", f"127.0.0.1:{self.ports[which]}")
        for _ in range(60):
            with suppress(AssertionError):
                return await self._house.start(*words, says="taking reports in")
            await asyncio.sleep(0.5)
        raise AssertionError("a monitor doesn't start")

    async def run(self, chance: random.Random) -> None:
        """Keep both running, and kill one every few seconds."""
        try:
            self._running = [await self.start(which) for which in range(2)]
            while True:
                await asyncio.sleep(chance.uniform(1, 3))
                which = chance.randrange(2)
                self._running[which].kill()
                await self._running[which].wait()
                self.killed += 1
                self._running[which] = await self.start(which)
        finally:
            for one in self._running:
                with suppress(ProcessLookupError):
                    one.kill()
                await one.wait()


async def _by_sql(on_record: Sessions, traffic: Traffic) -> None:
    insert = text(
        "insert into inbox (source, report_id, payload) "
        "values (:source, :report_id, cast(:payload as jsonb)) on conflict do nothing"
    )
    for line in traffic.lines["by-sql"]:
        told = json.loads(line)
        row = {"source": told["source"], "report_id": told["report_id"], "payload": line}

        def put(row: dict[str, Any] = row) -> None:
            with on_record.begin() as session:
                session.execute(insert, row)

        await _until_it_works(lambda put=put: asyncio.to_thread(put), OperationalError)
        traffic.sent["by-sql"] += 1
        await asyncio.sleep(0)


async def _by_file(spool: Path, traffic: Traffic) -> None:
    """Into three files, one of which is rotated now and then."""
    for n, line in enumerate(traffic.lines["by-file"]):
        file = spool / f"feed-{n % 3}.jsonl"
        half = len(line) // 2
        with file.open("a") as growing:
            growing.write(line[:half])
            growing.flush()
            growing.write(line[half:] + "\n")
        traffic.sent["by-file"] += 1
        if n % 97 == 96 and file.exists():
            await asyncio.sleep(2)  # as log rotation does, it leaves the reader the time to see it
            file.rename(file.with_suffix(f".jsonl.{n}"))
        await asyncio.sleep(0.005)


async def _by_http(ports: Sequence[int], traffic: Traffic, chance: random.Random) -> int:
    refused = set()
    async with httpx.AsyncClient(timeout=20) as http:
        for n, line in enumerate(traffic.lines["by-http"]):
            body = line.encode()

            async def post(body: bytes = body, n: int = n) -> int:
                now = datetime.now(UTC)
                signature = Webhook(SECRET).sign(f"m-{n}", now, body.decode())
                headers = {
                    **{"content-type": "application/json", "x-source": "by-http", "webhook-id": f"m-{n}"},
                    **{"webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature},
                }
                url = f"http://127.0.0.1:{chance.choice(ports)}/reports"
                answer = await http.post(url, content=body, headers=headers)
                if answer.status_code in (429, 503):
                    raise httpx.TransportError(answer.text)
                return answer.status_code

            status = await _until_it_works(post, httpx.TransportError)
            assert status in (202, 400)
            if status == 400:
                refused.add(json.loads(line)["report_id"])
            traffic.sent["by-http"] += 1
    return len(refused)


async def _until_it_works(attempt: Any, trouble: type[Exception]) -> Any:
    for _ in range(600):
        try:
            return await attempt()
        except trouble:
            await asyncio.sleep(0.1)
    raise AssertionError("it never worked")


async def _restarts(house: House, traffic: Traffic) -> None:
    for share, restart in ((0.3, house.restart_temporal), (0.6, house.restart_postgres)):
        while traffic.progress < share:  # noqa: ASYNC110 - nothing tells when it is reached
            await asyncio.sleep(0.1)
        await asyncio.to_thread(restart)


async def _all_settled(on_record: Sessions, traffic: Traffic) -> None:
    """Wait until nothing waits in the inbox, and every report that counts has its case."""
    left = {"to come": -1}
    for _ in range(300 + REPORTS):
        with suppress(OperationalError), on_record() as session:
            there, waiting = session.execute(
                select(
                    func.count(), func.count().filter(Incoming.status == IncomingStatus.WAITING)
                ).select_from(Incoming)
            ).one()
            alone = select(func.count()).select_from(ReportRow).where(ReportRow.case_no.is_(None))
            left = {
                "to come": len(traffic.taken | traffic.refused.keys()) - there,
                "waiting": waiting,
                "without a case": session.execute(alone).scalar_one(),
            }
            if not any(left.values()):
                return
        await asyncio.sleep(0.3)
    raise AssertionError(f"left: {left}")


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
async def test_every_report_ends_in_one_case_or_with_its_reason_whatever_dies_meanwhile() -> None:
    chance = random.Random(400)
    with tempfile.TemporaryDirectory(prefix="e4-", ignore_cleanup_errors=True) as folder:
        house = House(Path(folder))
        with house.open() as on_record:
            numbers = [n for _ in range(4) for n in an_agent(on_record, numbers=max(5, REPORTS // 80))]
            traffic = _traffic(numbers, chance)
            monitors = Monitors(house)
            async with house.process("worker", says="serving task queue"):
                keeping = asyncio.create_task(monitors.run(chance))
                _, _, rejected, _ = await asyncio.gather(
                    _by_sql(on_record, traffic),
                    _by_file(house.spool, traffic),
                    _by_http(monitors.ports, traffic, chance),
                    _restarts(house, traffic),
                )
                await _all_settled(on_record, traffic)
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

            assert monitors.killed >= 2
            assert rejected == traffic.malformed
            with on_record() as session:
                opened = session.execute(select(Case.kind, Case.number)).tuples().all()
                assert len(opened) == len(set(opened))
                assert set(opened) == traffic.cases
                rows = session.scalars(select(Incoming)).all()
                assert {(r.source, r.report_id) for r in rows} == traffic.taken | traffic.refused.keys()
                handed = {(r.source, r.report_id) for r in rows if r.status is IncomingStatus.HANDED}
                assert handed == traffic.taken
                for row in rows:
                    if why := traffic.refused.get((row.source, row.report_id)):
                        assert (row.status, why in str(row.reason)) == (IncomingStatus.REFUSED, True)
                on_file = session.execute(select(ReportRow.source, ReportRow.report_id)).tuples().all()
                assert set(on_file) == traffic.taken
