"""What the inbox costs: reports into it against a bare INSERT and COPY, and out of it to their cases against
a bare loop of `start_workflow` with as many on their way at once.

No worker serves the cases. Runs alternate.
"""

import asyncio
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import text
from temporalio.client import Client

from bench.machine import machine
from registry import inbox
from registry.inbox import Arrival
from registry.session import Sessions
from rulebook.vocabulary import Kind
from starter import connect, feeds, monitor
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


def _into(on_record: Sessions, numbers: Sequence[str], folder: Path) -> dict[str, float]:
    ways: dict[str, Callable[[list[dict[str, Any]]], Callable[[], object]]] = {
        "bare INSERT": lambda reports: lambda: _by_insert(on_record, reports),
        "bare COPY": lambda reports: lambda: _by_copy(on_record, reports),
        "inbox.put": lambda reports: lambda: _by_put(on_record, reports),
        "a file": lambda reports: _by_file(on_record, reports, folder),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for n in range(ROUNDS):
        for way, made in ways.items():
            took[way].append(_timed(made(_reports(numbers, f"{way}-{n}"))))
    with on_record.begin() as session:
        session.execute(text("delete from inbox"))
    insert = took.pop("bare INSERT")
    figures = {"reports a second by bare INSERT": 3 * len(numbers) / median(insert)}
    return figures | {f"{way} / bare INSERT": median(insert) / median(times) for way, times in took.items()}


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


async def _out(client: Client, on_record: Sessions, numbers: Sequence[str]) -> dict[str, float]:
    pairs = []
    for n in range(ROUNDS):
        begun = time.perf_counter()
        await _bare(client, _reports(numbers[n::ROUNDS], f"bare-{n}"))
        bare = time.perf_counter() - begun
        reports = _reports(numbers[n::ROUNDS], f"monitor-{n}")
        _by_put(on_record, reports)
        begun = time.perf_counter()
        while (await monitor.hand_over(client, on_record, "nobody")).settled:
            pass
        took = time.perf_counter() - begun
        pairs.append((len(reports) / took, bare / took))
    return {
        "reports a second to started cases": median(rate for rate, _ in pairs),
        "that / a bare loop of start_workflow": median(ratio for _, ratio in pairs),
    }


def main(cases: int = 900) -> dict[str, float]:
    """Measure; give the figures."""
    with machine(cases // 3) as on:

        async def out() -> dict[str, float]:
            client = await connect.temporal(on.settings)
            await connect.register_attributes(client)
            return await _out(client, on.on_record, on.numbers)

        return _into(on.on_record, on.numbers, on.settings.home) | asyncio.run(out())


if __name__ == "__main__":
    for name, figure in main(*map(int, sys.argv[1:])).items():
        print(f"{name:42}{figure:10.2f}")
