"""The worker, killed outright again and again while cases run: nothing is lost, nothing happens twice."""

import asyncio
import os
import random
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import select
from temporalio.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError

from registry.models import Account, AuditLine, Case, Fine, Notice, Number, Payment
from registry.session import Sessions
from rulebook.vocabulary import (
    AccountStatus,
    FineStatus,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
    workflow_id,
)
from starter.virtual_time import VirtualTime
from tests.conftest import rounds
from tests.starter.screen import ENFORCE
from tests.world import CaseInTime, World, a_report, an_agent, shanghai
from workflows import names
from workflows.messages import CaseStart

CASES, KILLS, FOR_EVER = rounds(60, 200), rounds(4, 6), 3600
FATES = (Stage.RECTIFIED, Stage.SETTLED, Stage.SHUT_DOWN, Stage.DISMISSED)
NOTICES = {
    Stage.RECTIFIED: [NoticeKind.RECTIFICATION_ORDER, NoticeKind.CLOSING],
    Stage.SETTLED: [NoticeKind.RECTIFICATION_ORDER, NoticeKind.PUNISHMENT, NoticeKind.CLOSING],
    Stage.SHUT_DOWN: [NoticeKind.RECTIFICATION_ORDER, NoticeKind.PUNISHMENT, NoticeKind.SHUTDOWN],
    Stage.DISMISSED: [NoticeKind.RECTIFICATION_ORDER, NoticeKind.PUNISHMENT, NoticeKind.UNDONE],
}


async def _insist(call: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until there is an answer: a worker that is being killed gives none."""
    while True:
        try:
            return await call()
        except (RPCError, WorkflowUpdateRPCTimeoutOrCancelledError):
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            await asyncio.sleep(0.2)


async def _play(world: World, number: str, fate: Stage) -> None:
    case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
    clause = names.CLAUSES[Kind.SECONDARY_SALE]

    async def command(name: str, **said: object) -> None:
        # Under one id a command is carried out once, however often it is asked for.
        await _insist(lambda: case.handle.execute_update(name, said, id=name))

    async def until(day: str) -> None:
        await world.time.until(case.id, shanghai(day))

    await world.client.start_workflow(clause, CaseStart(), id=case.id, task_queue=world.task_queue)
    await until("2038-03-01")
    await world.report(a_report(number))
    await _insist(lambda: case.once(lambda told: told.stage is Stage.RECTIFICATION))
    if fate is Stage.RECTIFIED:
        await until("2038-03-02")
        await command("rectified")
        await command("verify", officer="李敏", passed=True)
    else:
        await until("2038-03-05")
        if fate is Stage.SETTLED:
            await command("paid", reference=f"{number}-1", amount="400")
            await case.signal("payment_received", {"reference": f"{number}-2", "amount": "600"})
        elif fate is Stage.DISMISSED:
            await command("dismiss", officer="李敏", reason="wrong number")
        else:
            await until("2038-03-13")
    await case.handle.result()


async def _live_and_die(env: dict[str, str], lives: Iterable[float]) -> None:
    """Run a worker process that is killed after so many seconds, another one after it, and so on."""
    for life in lives:
        worker = await asyncio.create_subprocess_exec(
            ENFORCE, "worker", env=os.environ | env, stdout=PIPE, stderr=DEVNULL
        )
        try:
            assert worker.stdout
            await worker.stdout.readline()
            # A pipe that nobody reads fills up, and stops the worker that logs into it.
            reading = asyncio.create_task(worker.stdout.read())
            await asyncio.sleep(life)
            reading.cancel()
        finally:
            worker.kill()
            await worker.wait()


async def test_a_worker_killed_at_random_moments_loses_and_doubles_nothing(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    fates = {number: FATES[i % 4] for i in range(CASES) for number in an_agent(on_record)}
    world = World(client, VirtualTime(client), on_record, "killed", tmp_path / "outbox")
    env = {
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "ENFORCE_DATABASE_URL": database_url,
        "ENFORCE_TASK_QUEUE": world.task_queue,
        "ENFORCE_OUTBOX": str(world.outbox),
    }
    places = asyncio.Semaphore(60)

    async def play(number: str, fate: Stage) -> None:
        async with places:
            await _play(world, number, fate)

    kills = [random.uniform(0.2, 4) for _ in range(KILLS)]
    worker = asyncio.create_task(_live_and_die(env, [*kills, FOR_EVER]))
    try:
        async with asyncio.timeout(180), asyncio.TaskGroup() as playing:
            for number, fate in fates.items():
                playing.create_task(play(number, fate))
        assert not worker.done()
    finally:
        worker.cancel()
    with on_record() as session:
        cases = {case.number: case for case in session.scalars(select(Case))}
        fines = session.scalars(select(Fine)).all()
        payments = session.scalars(select(Payment)).all()
        accounts = session.scalars(select(Account)).all()
        numbers = session.scalars(select(Number)).all()
        notices = session.scalars(select(Notice).order_by(Notice.notice_no)).all()
        steps = Counter((line.case_no, line.step) for line in session.scalars(select(AuditLine)))
    fined = Counter(fine.case_no for fine in fines)
    void = {fine.case_no for fine in fines if fine.status is FineStatus.VOID}
    paid = Counter(payment.case_no for payment in payments)
    shut = Counter(a.shut_down_by for a in accounts if a.status is AccountStatus.SHUT_DOWN)
    taken = Counter(n.reclaimed_by for n in numbers if n.status is NumberStatus.QUARANTINED)
    assert {number: case.outcome for number, case in cases.items()} == fates
    for number, fate in fates.items():
        case_no = cases[number].case_no
        assert [n.kind for n in notices if n.case_no == case_no and n.served_at] == NOTICES[fate]
        assert fined[case_no] == (fate is not Stage.RECTIFIED)
        assert (case_no in void) == (fate is Stage.DISMISSED)
        assert paid[case_no] == (2 if fate is Stage.SETTLED else 0)
        assert shut[case_no] == taken[case_no] == (fate is Stage.SHUT_DOWN)
    assert set(steps.values()) == {1}
    assert len(world.letters()) == len(notices)
