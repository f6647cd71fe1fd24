"""Workers killed outright, or stopped one after the other, while cases run: nothing is lost or done twice."""

import asyncio
import random
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from email import message_from_bytes
from pathlib import Path
from typing import Any

from sqlalchemy import select
from temporalio.api.enums.v1 import EventType
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
from tests.mail_server import ACCEPTED, mail_server
from tests.processes import a_worker, env_of
from tests.world import CaseInTime, World, a_report, an_agent, shanghai
from worker import Queue
from workflows import names
from workflows.messages import CaseStart

CASES, KILLS, FOR_EVER = rounds(60, 200), rounds(4, 6), 3600
ROLLED, ROLLS = rounds(24, 200), rounds(1, 4)
LATER = "451 4.3.0 try again later"
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

    async def served(notices: int) -> None:
        while len((await _insist(case.story)).notices) < notices:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.2)

    await world.client.start_workflow(clause, CaseStart(), id=case.id, task_queue=world.task_queue)
    await until("2038-03-01")
    await world.report(a_report(number))
    await served(1)
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
            await served(2)
            await until("2038-03-13")
    await case.handle.result()


async def _live_and_die(env: dict[str, str], lives: Iterable[float]) -> None:
    """Run a worker process that is killed after so many seconds, another one after it, and so on."""
    for life in lives:
        async with a_worker(env):
            await asyncio.sleep(life)


async def _play_all(world: World, fates: dict[str, Stage]) -> None:
    places = asyncio.Semaphore(60)

    async def play(number: str, fate: Stage) -> None:
        async with places:
            await _play(world, number, fate)

    async with asyncio.timeout(180), asyncio.TaskGroup() as playing:
        for number, fate in fates.items():
            playing.create_task(play(number, fate))


async def test_a_worker_killed_at_random_moments_loses_and_doubles_nothing(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    fates = {number: FATES[i % 4] for i in range(CASES) for number in an_agent(on_record)}
    world = World(client, VirtualTime(client), on_record, "killed", tmp_path / "outbox")
    kills = [random.uniform(0.2, 4) for _ in range(KILLS)]
    worker = asyncio.create_task(_live_and_die(env_of(world, database_url), [*kills, FOR_EVER]))
    try:
        await _play_all(world, fates)
        assert not worker.done()
    finally:
        worker.cancel()
    notices = _each_thing_was_done_once(on_record, fates)
    assert len(world.letters()) == len(notices)


async def test_workers_exchanged_one_after_the_other_leave_nothing_undone_and_fail_no_task(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    fates = {number: FATES[i % 4] for i in range(ROLLED) for number in an_agent(on_record)}
    world = World(client, VirtualTime(client), on_record, "exchanged", tmp_path)
    stopped: list[int | None] = []
    async with AsyncExitStack() as running:
        # Every third letter can't leave on the spot, so that the deliveries have work.
        server = running.enter_context(mail_server(answers=[ACCEPTED, ACCEPTED, LATER] * ROLLED))
        by_mail = {"CHANNEL": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": server.port, "SMTP_TLS": "none"}
        env = env_of(world, database_url) | {f"ENFORCE_{name}": str(said) for name, said in by_mail.items()}

        async def start(queue: Queue) -> Process:
            return await running.enter_async_context(a_worker(env, "--only", queue))

        workers = [(queue, await start(queue)) for queue in (*Queue, *Queue)]
        playing = asyncio.create_task(_play_all(world, fates))
        [queue, killed], *others = workers
        await asyncio.sleep(1)
        killed.kill()
        workers = [*others, (queue, await start(queue))]
        for _ in range(ROLLS):
            for queue, worker in workers[:]:
                await asyncio.sleep(random.uniform(0.2, 1))
                worker.terminate()
                workers.append((queue, await start(queue)))
                stopped.append(await asyncio.wait_for(worker.wait(), 60))
                workers.remove((queue, worker))
        await playing
    notices = _each_thing_was_done_once(on_record, fates)
    left = {str(message_from_bytes(letter.content)["Message-ID"]) for letter in server.received}
    assert len(left) == len(notices)
    assert stopped == [0] * 4 * ROLLS
    assert [failed async for failed in _failed_tasks(world, fates)] == []


async def _failed_tasks(world: World, numbers: Iterable[str]) -> AsyncIterator[str]:
    """The workflow tasks of these cases that failed, and why: not those that a dead worker left to others."""
    for number in numbers:
        case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
        async for event in case.handle.fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                yield event.workflow_task_failed_event_attributes.failure.message


def _each_thing_was_done_once(on_record: Sessions, fates: dict[str, Stage]) -> list[Notice]:
    """Every case has its fate, and its record bears each effect and each step once; returns its notices."""
    with on_record() as session:
        cases = {case.number: case for case in session.scalars(select(Case))}
        fines = session.scalars(select(Fine)).all()
        payments = session.scalars(select(Payment)).all()
        accounts = session.scalars(select(Account)).all()
        numbers = session.scalars(select(Number)).all()
        notices = list(session.scalars(select(Notice).order_by(Notice.notice_no)))
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
    return notices
