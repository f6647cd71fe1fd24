"""Cases per second, and what each costs, ours against the floor: rectified, paid, shut down.

Each of ours does all that the rulebook asks: it is on record, its letters are written in three forms and
delivered, its deadlines are reckoned by the calendar, its lines are a chain of hashes. Rounds alternate.
"""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from sqlalchemy import select
from temporalio.client import Client, WorkflowHandle

from bench import yardstick
from bench.floor import QUEUE, Floor
from bench.machine import Machine, Worker, cpu, floors, machine, ours
from registry.models import Case, Notice
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import Kind
from rulebook.working_days import Calendar, deadline
from starter import connect, desk, lookup, reports
from starter.virtual_time import VirtualTime
from workflows.messages import RectificationReported, Verify

T = TypeVar("T")

AT_ONCE = 40
FATES = ("rectified", "settled", "shut-down")
_PAST_A_LIMIT = timedelta(days=20)


class Cost(NamedTuple):
    """What so many cases took: seconds, CPU seconds of worker and Temporal server, events and bytes each."""

    cases: int
    seconds: float
    worker: float
    server: float
    events: float
    size: float

    @property
    def rate(self) -> float:
        """Cases per second."""
        return self.cases / self.seconds


class Player:
    """Plays cases to their end, so many at once."""

    def __init__(self, client: Client, on: Machine) -> None:
        self.client, self.on = client, on
        self.time = VirtualTime(client)
        self._fresh = iter(on.numbers)
        self._served: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def measured(self, worker: Worker, cases: int, fate: str, *, floor: bool = False) -> Cost:
        """Play so many cases, and say what they took."""
        names = [f"floor-{uuid4()}" for _ in range(cases)] if floor else list(islice(self._fresh, cases))
        play = self.floor(fate) if floor else self.ours(fate)
        before = worker.cpu, cpu(self.on.temporal_pid)
        begun = time.perf_counter()
        if not floor:
            await asyncio.to_thread(reports.record, self.on.on_record, list(map(a_report, names)))
        watching = asyncio.create_task(self._watch(names))
        handles = await each(names, play)
        watching.cancel()
        seconds = time.perf_counter() - begun
        used = worker.cpu - before[0], cpu(self.on.temporal_pid) - before[1]
        events = size = 0
        for handle in handles[:10]:
            info = (await handle.describe()).raw_description.workflow_execution_info
            events, size = events + info.history_length, size + info.history_size_bytes
        return Cost(len(names), seconds, *used, events / 10, size / 10)

    def floor(self, fate: str) -> Callable[[str], Awaitable[WorkflowHandle[Any, Any]]]:
        """How a case of the floor is played."""

        async def play(name: str) -> WorkflowHandle[Any, Any]:
            handle = await self.client.start_workflow(Floor.run, id=name, task_queue=QUEUE)
            await handle.signal(Floor.told, "reported")
            if fate == "rectified":
                await handle.signal(Floor.told, fate)
            elif fate == "settled":
                await self.time.forward(name, timedelta(days=3, hours=1))
                await handle.signal(Floor.told, "paid")
            else:
                await self.time.forward(name, _PAST_A_LIMIT)
            assert await handle.result() == fate
            return handle

        return play

    def ours(self, fate: str) -> Callable[[str], Awaitable[WorkflowHandle[Any, Any]]]:
        """How a case of ours is played, the number of which was reported."""

        async def play(number: str) -> WorkflowHandle[Any, Any]:
            named = await reports.start(self.client, "cases", a_report(number))
            handle = self.client.get_workflow_handle(named)
            await self._served[number].wait()  # nobody acts on a case before its notice
            if fate == "rectified":
                case = lookup.Case(named, "", "", "", (), open=True, number=number)
                await desk.act(self.client, case, "rectified", RectificationReported(by="李敏"))
                await desk.act(self.client, case, "verify", Verify(officer="李敏", passed=True))
            elif fate == "settled":
                await self.time.until(named, fined_at(datetime.now(UTC)))
                await handle.signal("payment_received", {"reference": f"R-{number}", "amount": "1000"})
            else:
                await self.time.forward(named, _PAST_A_LIMIT)
            ended = await handle.result()
            assert ended["outcome"] == fate, ended
            return handle

        return play

    async def _watch(self, numbers: Sequence[str]) -> None:
        while True:
            for number in served(self.on, numbers):
                self._served[number].set()
            await asyncio.sleep(0.05)


async def each(names: Sequence[str], do: Callable[[str], Awaitable[T]]) -> list[T]:
    """Do it for each name, so many at once; what came of it, in their order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> T:
        async with places:
            return await do(name)

    return await asyncio.gather(*map(one, names))


def served(on: Machine, numbers: Sequence[str]) -> set[str]:
    """The numbers of which a case has its notice."""
    cases = select(Case.number).join(Notice, Notice.case_no == Case.case_no)
    with on.on_record() as session:
        return set(session.scalars(cases.where(Case.number.in_(numbers), Notice.served_at.is_not(None))))


async def put_to_sleep(client: Client, on: Machine, numbers: Sequence[str]) -> None:
    """Start a case for each number, and wait until each has its notice; some hundreds at a time."""
    for first in range(0, len(numbers), 500):
        batch = numbers[first : first + 500]
        await asyncio.to_thread(reports.record, on.on_record, list(map(a_report, batch)))
        await each(batch, lambda number: reports.start(client, "cases", a_report(number)))
        while len(served(on, batch)) < len(batch):  # noqa: ASYNC110 - nobody is told of a notice
            await asyncio.sleep(0.2)


def fined_at(now: datetime) -> datetime:
    """When a case that is opened now is fined at the latest: its limit and the spread have ended."""
    policy = in_force(now.date())
    limit = deadline(now, policy.secondary_sale.rectify_regular, Calendar())
    return limit.at + timedelta(minutes=policy.clock.spread_minutes, seconds=30)


def a_report(number: str) -> Report:
    """A report on a number."""
    return Report(
        source="bench",
        report_id=number,
        kind=Kind.SECONDARY_SALE,
        number=number,
        facts="拨测接听方与登记客户不符，且拒绝说明身份",
        observed_at=datetime.now(UTC),
    )


async def measure(on: Machine, cases: int, rounds: int) -> dict[str, float]:
    """Ours against the floor, for each fate, medians of paired rounds; and against the yardstick."""
    client = await connect.temporal(on.settings)
    player = Player(client, on)
    figures: dict[str, float] = {}
    with ours(on) as our_worker, floors(on) as floor_worker:
        for fate in FATES:  # what is imported and read once isn't counted
            await player.measured(our_worker, 10, fate)
            await player.measured(floor_worker, 10, fate, floor=True)
        for fate in FATES:
            pairs = [
                (
                    await player.measured(our_worker, cases, fate),
                    await player.measured(floor_worker, cases, fate, floor=True),
                )
                for _ in range(rounds)
            ]
            figures |= {
                f"{fate}: cases per second": median(mine.rate for mine, _ in pairs),
                f"{fate}: floor's": median(other.rate for _, other in pairs),
                f"{fate}: rate / floor": median(mine.rate / other.rate for mine, other in pairs),
                f"{fate}: worker CPU ms": median(1000 * mine.worker / cases for mine, _ in pairs),
                f"{fate}: worker CPU / floor": median(mine.worker / other.worker for mine, other in pairs),
                f"{fate}: server CPU ms": median(1000 * mine.server / cases for mine, _ in pairs),
                f"{fate}: server CPU / floor": median(mine.server / other.server for mine, other in pairs),
                f"{fate}: events": pairs[0][0].events,
                f"{fate}: floor's events": pairs[0][1].events,
                f"{fate}: history bytes": pairs[0][0].size,
                f"{fate}: floor's bytes": pairs[0][1].size,
            }
    played = yardstick.play(on.settings.registry_url(), cases, AT_ONCE, FATES)
    for fate, (rate, milliseconds) in played.items():
        figures[f"{fate}: yardstick's cases per second"] = rate
        figures[f"{fate}: rate / yardstick's"] = figures[f"{fate}: cases per second"] / rate
        figures[f"{fate}: yardstick's CPU ms"] = milliseconds
    return figures


def main(cases: int = 150, rounds: int = 3) -> dict[str, float]:
    """Measure; give the figures."""
    numbers = len(FATES) * (cases * rounds + 10)
    with machine(numbers, agents=numbers) as on:
        return asyncio.run(measure(on, cases, rounds))


if __name__ == "__main__":
    for name, figure in main(*map(int, sys.argv[1:])).items():
        print(f"{name:34}{figure:10.2f}")
