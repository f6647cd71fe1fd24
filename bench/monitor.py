"""What the inbox costs: reports into it against a bare INSERT and COPY, and out of it to their cases against
a bare loop of `start_workflow` with as many on their way at once.

Run by hand, with the machine to itself: `.venv/bin/python bench/monitor.py [N]`. Its servers run in a
temporary folder, and no worker serves the cases. Runs alternate; the ratios are what counts.
"""

import asyncio
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import text
from temporalio.client import Client

from registry import inbox
from registry.importer import decode, load, read
from registry.inbox import Arrival
from registry.session import Sessions, connect, migrate, sessions
from rulebook.vocabulary import Kind
from starter import connect as to_servers
from starter import feeds, local, monitor
from starter.settings import Settings
from workflows import names
from workflows.messages import CaseStart

ROUNDS = 3
BATCH = 500


def _reports(numbers: Sequence[str], named: str) -> list[dict[str, Any]]:
    return [
        {
            "source": "bench",
            "report_id": f"{named}-{n}",
            "kind": list(Kind)[n % 3],
            "number": numbers[(n // 3) % len(numbers)],
            "facts": "拨测接听方与登记客户不符，且拒绝说明身份",
        }
        for n in range(3 * len(numbers))
    ]


def _timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _by_insert(on_record: Sessions, reports: list[dict[str, Any]]) -> None:
    insert = text("insert into inbox (source, report_id, payload) values (:s, :i, cast(:p as jsonb))")
    for at in range(0, len(reports), BATCH):
        with on_record.begin() as session:
            rows = [
                {"s": r["source"], "i": r["report_id"], "p": json.dumps(r, ensure_ascii=False)}
                for r in reports[at : at + BATCH]
            ]
            session.execute(insert, rows)


def _by_copy(on_record: Sessions, reports: list[dict[str, Any]]) -> None:
    for at in range(0, len(reports), BATCH):
        lines = (
            f"{r['source']}\t{r['report_id']}\t{json.dumps(r, ensure_ascii=False)}\n"
            for r in reports[at : at + BATCH]
        )
        with on_record.begin() as session:
            cursor: Any = session.connection().connection.cursor()
            cursor.copy_from(io.StringIO("".join(lines)), "inbox", columns=("source", "report_id", "payload"))


def _by_put(on_record: Sessions, reports: list[dict[str, Any]]) -> None:
    for at in range(0, len(reports), BATCH):
        arrivals = [Arrival(r["source"], r["report_id"], r) for r in reports[at : at + BATCH]]
        with on_record.begin() as session:
            inbox.put(session, arrivals, "bench")


def _by_file(on_record: Sessions, reports: list[dict[str, Any]], folder: Path) -> Callable[[], object]:
    file = folder / f"{reports[0]['report_id']}.jsonl"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in reports), "utf-8")
    return lambda: feeds.read_on(on_record, file, complete=True)


def _into(on_record: Sessions, numbers: Sequence[str], folder: Path) -> None:
    ways: dict[str, Callable[[list[dict[str, Any]]], Callable[[], object]]] = {
        "bare COPY": lambda reports: lambda: _by_copy(on_record, reports),
        "bare INSERT": lambda reports: lambda: _by_insert(on_record, reports),
        "inbox.put": lambda reports: lambda: _by_put(on_record, reports),
        "a file": lambda reports: _by_file(on_record, reports, folder),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for n in range(ROUNDS):
        for way, made in ways.items():
            took[way].append(_timed(made(_reports(numbers, f"{way}-{n}"))))
    insert = median(took["bare INSERT"])
    for way, times in took.items():
        rate = 3 * len(numbers) / median(times)
        print(
            f"into the inbox by {way:12}{rate:8,.0f} a second, {insert / median(times):.2f} of a bare INSERT"
        )
    with on_record.begin() as session:
        session.execute(text("delete from inbox"))


async def _bare(client: Client, reports: list[dict[str, Any]]) -> None:
    places = asyncio.Semaphore(monitor.AT_ONCE)

    async def start(report: dict[str, Any]) -> None:
        async with places:
            await client.start_workflow(
                names.CLAUSES[report["kind"]],
                CaseStart(),
                id=f"bare-{report['report_id']}",
                task_queue="nobody",
                start_signal="report_received",
                start_signal_args=[report],
                static_summary=f"{report['kind'].label} · {report['number']}",
            )

    await asyncio.gather(*map(start, reports))


async def _out(client: Client, on_record: Sessions, numbers: Sequence[str]) -> None:
    ratios = []
    for n in range(ROUNDS):
        begun = time.perf_counter()
        await _bare(client, _reports(numbers[n::ROUNDS], f"bare-{n}"))
        bare = time.perf_counter() - begun
        reports = _reports(numbers[n::ROUNDS], f"monitor-{n}")
        _by_put(on_record, reports)
        begun = time.perf_counter()
        while (await monitor.hand_over(client, on_record, "nobody")).settled:
            pass
        rate = len(reports) / (time.perf_counter() - begun)
        ratios.append(rate / (len(reports) / bare))
        print(f"from inbox to started case: {rate:,.0f} a second, {ratios[-1]:.2f} of a bare loop")
    print(f"median {median(ratios):.2f} of a bare loop of start_workflow")


def main(cases: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="b4", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder))
        with local.servers(settings):
            engine = connect(settings.registry_url(), pool_size=10)
            migrate(engine)
            on_record = sessions(engine)
            rows = read(decode(Path("samples/registry.csv").read_bytes()))
            with on_record.begin() as session:
                load(session, rows, datetime.now(UTC), "bench")
            numbers = [row.number for row in rows.values()][: cases // 3]

            async def run() -> None:
                client = await to_servers.temporal(settings)
                await to_servers.register_attributes(client)
                await _out(client, on_record, numbers)

            _into(on_record, numbers, Path(folder))
            asyncio.run(run())
            engine.dispose()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 900)
