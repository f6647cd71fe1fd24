"""What a calendar change costs: N sleeping cases, a tenth of which get a later deadline.

Run by hand, with the machine to itself: `.venv/bin/python bench/calendar_import.py [N]`. Its servers run in a
temporary folder. The figures are those of this machine: read the ratios.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, func, select
from temporalio.client import Client

from activities.calendars import OpenCases, moved_deadlines
from registry.calendar import Day, What, calendar, load
from registry.models import Account, Agent, Notice, Number
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import SHANGHAI, Business, Kind, NoticeKind, workflow_id
from rulebook.working_days import deadline
from starter import calendars, connect, local, serve
from starter.reports import submit
from starter.settings import Settings
from workflows.calendar import Walk

AGENTS = 100
STARTS_AT_ONCE = 50
MOVED = 10  # one case in so many
SETTLE = 2  # seconds


def _register(on_record: Sessions, numbers: list[str]) -> None:
    with on_record.begin() as session:
        for n in range(AGENTS):
            described = {"name": f"甲{n}通信有限公司", "contact": "王芳", "email": f"a{n}@agent.example"}
            session.add(Agent(agent_id=f"A{n:03}", phone="13800000000", account=Account(), **described))
        session.flush()
        session.add_all(
            Number(
                number=number,
                agent_id=f"A{n % AGENTS:03}",
                customer=f"乙{n}商贸有限公司",
                customer_email=f"office{n}@customer.example",
                certificate="91310000MA1FL0000X",
                operator="中国电信",
                renewal_due=datetime.now(SHANGHAI).date() + timedelta(days=300),
            )
            for n, number in enumerate(numbers)
        )


async def _open(client: Client, on_record: Sessions, queue: str, numbers: list[str]) -> None:
    """One case a number; every tenth gets three working days and sleeps longer, the others one."""
    places = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start(n: int, number: str) -> None:
        report = Report(
            kind=Kind.SECONDARY_SALE,
            number=number,
            business=Business.IRREGULAR if n % MOVED else Business.REGULAR,
            source="bench",
            report_id=str(n),
            facts="登记客户与实际用户不一致",
        )
        async with places:
            await submit(client, on_record, queue, report)

    await asyncio.gather(*(start(n, number) for n, number in enumerate(numbers)))
    await _until(lambda: _served(on_record, NoticeKind.RECTIFICATION_ORDER) == len(numbers))


def _served(on_record: Sessions, kind: NoticeKind) -> int:
    with on_record() as session:
        served = select(func.count()).where(Notice.kind == kind, Notice.served_at.is_not(None))
        return session.execute(served).scalar_one()


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(2 * 3600):
        if holds():
            await asyncio.sleep(SETTLE)  # the last steps are in the registry before they are in the history
            return
        await asyncio.sleep(0.5)
    raise TimeoutError


async def _events(client: Client, number: str) -> int:
    handle = client.get_workflow_handle(workflow_id(Kind.SECONDARY_SALE, number))
    return (await handle.describe()).raw_description.workflow_execution_info.history_length


def _look(on_record: Sessions, at: datetime) -> tuple[float, Counter[str], int]:
    """Look at all open cases as the walk does; the seconds, the statements, and how many move."""
    statements: Counter[str] = Counter()

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements["notices" if "notices" in statement else "calendar"] += 1

    with on_record() as session:
        event.listen(session.get_bind(), "before_cursor_execute", count)
        began, moved, after = time.perf_counter(), 0, ""
        while True:
            page = moved_deadlines(session, OpenCases(at=at, after=after, limit=Walk().page))
            moved += len(page.moved)
            if page.after is None:
                break
            after = page.after
        took = time.perf_counter() - began
        event.remove(session.get_bind(), "before_cursor_execute", count)
    return took, statements, moved


async def _measure(settings: Settings, size: int) -> None:
    numbers = [f"400{n:07}" for n in range(1, size + 1)]
    touched, untouched = numbers[MOVED], numbers[MOVED + 1]
    async with serve.cases(settings) as client:
        on_record = connect.on_record(settings)
        _register(on_record, numbers)
        began = time.perf_counter()
        await _open(client, on_record, settings.task_queue, numbers)
        opened = time.perf_counter() - began - SETTLE
        before = await _events(client, touched), await _events(client, untouched)

        now = datetime.now(UTC)
        with on_record.begin() as session:
            third_day = deadline(now, 3, calendar(session)).last_day
            load(session, {2: Day(day=third_day, what=What.CLOSING, reason="停业")}, now, "bench")
        scan, statements, moving = _look(on_record, now)
        began = time.perf_counter()
        walked = await calendars.walk(client, settings.task_queue, lambda walked: None)
        told = time.perf_counter() - began
        await _until(lambda: _served(on_record, NoticeKind.DEADLINE) == walked.moved)
        done = time.perf_counter() - began - SETTLE
        after = await _events(client, touched), await _events(client, untouched)

    print(f"N                      {size} open cases, opened in {opened:.0f} s")
    print(f"moved                  {walked.moved} of {walked.looked_at} (the scan alone found {moving})")
    print(f"scan alone             {scan:.2f} s, statements: {dict(statements)}")
    print(f"all cases told         {told:.1f} s, {told / walked.moved * 1000:.0f} ms a moved case")
    print(f"all letters served     {done:.1f} s, {done / walked.moved * 1000:.0f} ms a moved case")
    print(f"events, touched case   {before[0]} before, {after[0]} after")
    print(f"events, untouched case {before[1]} before, {after[1]} after")


def main() -> None:
    """Measure with N cases, 10,000 if nothing else is said."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="e4-", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder))
        with local.postgres(settings), local.temporal(settings, web=False):
            asyncio.run(_measure(settings, size))


if __name__ == "__main__":
    main()
