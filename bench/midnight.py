"""A midnight: so many cases whose limits end at the same instant, against as many plain timers of the floor.

Each case's clock is moved on to just before its own deadline and spread, so that all their timers fire at one
instant of the server: the harshest midnight that there can be. In service they spread over ten minutes: 5,000
cases have 8 timers fire a second, which is what `python -m bench.midnight 500 8` measures.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from statistics import quantiles

from sqlalchemy import Select, func, select, text
from temporalio.client import Client

from bench.cases import each, put_to_sleep
from bench.floor import QUEUE, Floor
from bench.machine import Machine, floors, machine, ours
from registry.models import Case, Fine, Notice
from rulebook.deadlines import Deadline
from rulebook.policy import in_force
from rulebook.vocabulary import Kind, NoticeKind, workflow_id
from starter import connect
from starter.virtual_time import VirtualTime

_CONNECTIONS = text("select count(*) from pg_stat_activity where datname = current_database()")
_SLEEPING = "WorkflowType = 'Floor' AND ExecutionStatus = 'Running'"


def _instant(cases: int) -> datetime:
    """When they all fire: once every clock was moved."""
    return datetime.now(UTC) + timedelta(seconds=10 + cases / 25)


async def _until(moment: datetime) -> None:
    left = (moment - datetime.now(UTC)).total_seconds()
    assert left > 0, "the clocks took too long to move"
    await asyncio.sleep(left)


async def floor(client: Client, cases: int) -> float:
    """How long the floor's timers take to drain, in seconds."""
    clock, fires = VirtualTime(client), _instant(2 * cases)

    async def start(name: str) -> None:
        started = datetime.now(UTC)
        await client.start_workflow(Floor.run, True, id=name, task_queue=QUEUE)
        await clock.forward(name, timedelta(days=3) - (fires - started))

    await each([f"midnight-{n}" for n in range(cases)], start)
    await _until(fires)
    begun = time.perf_counter()
    while (await client.count_workflows(_SLEEPING)).count:  # noqa: ASYNC110 - nobody is told of a timer
        await asyncio.sleep(0.2)
    return time.perf_counter() - begun


class Drained:
    """How a midnight of ours went: seconds, connections at most, answers in seconds, how many came early."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.connections = self.early = 0
        self.idle: list[float] = []
        self.busy: list[float] = []


async def midnight(client: Client, on: Machine, cases: int, gap: timedelta) -> Drained:
    """Put so many cases to sleep, let their limits end with a gap between each, and see what happens."""
    numbers, drained = on.numbers[:cases], Drained()
    await put_to_sleep(client, on, numbers)
    asked = [client.get_workflow_handle(workflow_id(Kind.SECONDARY_SALE, n)) for n in numbers[:50]]

    async def ask(took: list[float]) -> None:
        for handle in asked:
            begun = time.perf_counter()
            await handle.query("story")
            took.append(time.perf_counter() - begun)

    await ask([])  # whoever was put out of the cache comes back
    await ask(drained.idle)
    fires = _instant(cases)
    await _to_their_last_second(client, on, fires, gap)
    await _until(fires)
    begun = time.perf_counter()
    asking = asyncio.create_task(_again_and_again(lambda: ask(drained.busy)))
    fined = select(func.count()).select_from(Notice)
    fined = fined.where(Notice.kind == NoticeKind.PUNISHMENT, Notice.served_at.is_not(None))
    drained.connections = await _counted(on, fined, cases)
    drained.seconds = time.perf_counter() - begun
    asking.cancel()
    drained.early = _early(on)
    return drained


async def _again_and_again(do: Callable[[], Awaitable[None]]) -> None:
    while True:
        await do()


async def _counted(on: Machine, what: Select[int], cases: int) -> int:
    """Wait until there are so many; the most connections that the registry had meanwhile."""
    most = 0
    while True:
        with on.on_record() as session:
            most = max(most, session.scalar(_CONNECTIONS) or 0)
            if (session.scalar(what) or 0) >= cases:
                return most
        await asyncio.sleep(0.2)


async def _to_their_last_second(client: Client, on: Machine, fires: datetime, gap: timedelta) -> None:
    clock = VirtualTime(client)
    with on.on_record() as session:
        limits = session.execute(
            select(Case.workflow_id, Case.case_no, Case.policy, Notice.last_day).join(
                Notice, Notice.case_no == Case.case_no
            )
        ).all()
    ends = {
        case_id: Deadline(last_day=day).at + in_force(policy).clock.spread(case_no) - serial * gap
        for serial, (case_id, case_no, policy, day) in enumerate(limits)
        if day
    }
    await each(list(ends), lambda case_id: clock.forward(case_id, ends[case_id] - fires))


def _early(on: Machine) -> int:
    """How many were fined before 24:00 of the last day of their limit."""
    with on.on_record() as session:
        rows = session.execute(select(Notice.case_no, Notice.kind, Notice.last_day, Notice.served_at)).all()
    ends = {
        no: Deadline(last_day=day).at for no, kind, day, _ in rows if day and kind != NoticeKind.PUNISHMENT
    }
    return sum(at < ends[no] for no, kind, _, at in rows if at and kind == NoticeKind.PUNISHMENT)


def p99(took: list[float]) -> float:
    """What 99 in 100 stayed below."""
    return quantiles(took, n=100)[98]


async def measure(on: Machine, cases: int, a_second: int) -> dict[str, float]:
    """A midnight of each; of ours alone if so many timers fire a second, not all at once."""
    client = await connect.temporal(on.settings)
    if a_second:
        against = {"timers a second": float(a_second)}
    else:
        with floors(on):
            against = {"floor's drain in seconds": await floor(client, cases)}
    with ours(on) as worker:
        drained = await midnight(client, on, cases, timedelta(seconds=1 / a_second if a_second else 0))
        megabytes = worker.memory / 2**20
    with on.on_record() as session:
        assert session.scalar(select(func.count()).select_from(Fine)) == cases
    expected = cases / a_second if a_second else against["floor's drain in seconds"]
    return {
        "cases at one midnight": cases,
        **against,
        "drained in seconds": drained.seconds,
        "all timers fired / drained" if a_second else "floor's drain / ours": expected / drained.seconds,
        "fined early": drained.early,
        "connections at most": drained.connections,
        "answer p99 ms, idle": 1000 * p99(drained.idle),
        "answer p99 in the burst / idle": p99(drained.busy) / p99(drained.idle),
        "worker MiB": megabytes,
    }


def main(cases: int = 1000, a_second: int = 0) -> dict[str, float]:
    """Measure; give the figures."""
    with machine(cases, agents=cases) as on:
        return asyncio.run(measure(on, cases, a_second))


if __name__ == "__main__":
    for name, figure in main(*map(int, sys.argv[1:])).items():
        print(f"{name:34}{figure:10.2f}")
