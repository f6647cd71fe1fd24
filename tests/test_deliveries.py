"""Letters have a queue of their own: who doesn't take them holds up nothing but what waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from temporalio.api.enums.v1 import EventType, PendingActivityState, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.channels import Channel, Outbox
from activities.smtp import Smtp
from registry.models import Notice
from registry.session import Sessions
from rulebook.vocabulary import Awaiting
from starter import health, http
from starter.health import Counted
from starter.virtual_time import VirtualTime
from tests.conftest import ADDRESSES
from tests.mail_server import HANG, mail_server
from tests.world import CaseInTime, World, a_report, an_agent
from worker import Queue, serving
from workflows.names import deliveries


@pytest.fixture
def world(client: Client, on_record: Sessions, tmp_path: Path) -> World:
    """A world without a worker."""
    return World(client, VirtualTime(client), on_record, f"apart-{tmp_path.name}", tmp_path / "outbox")


@pytest.fixture
def serve(world: World, database_url: str) -> "Serve":
    return Serve(world, database_url)


class Serve:
    """Workers of one world, by what they serve."""

    def __init__(self, world: World, database_url: str) -> None:
        self.world, self._url = world, database_url

    @asynccontextmanager
    async def __call__(
        self, only: Queue | None = None, channel: Channel | None = None, rate: float | None = None
    ) -> AsyncIterator[None]:
        leaves_by = channel or Outbox(self.world.outbox)
        # Of one client no two workers may serve the same queue.
        server = self.world.client.service_client.config.target_host
        own = await Client.connect(server, data_converter=pydantic_data_converter)
        to = (own, self.world.task_queue, self._url, leaves_by, ADDRESSES)
        async with serving(*to, only=only, letters_per_second=rate):
            yield


async def test_a_mail_server_that_hangs_holds_up_no_other_case(
    world: World, on_record: Sessions, serve: Serve
) -> None:
    commanded, hanging = an_agent(on_record, 10), an_agent(on_record, 40)
    with mail_server() as server:
        letters = Counted(Smtp(server.as_told(timeout=20)), "smtp")
        async with serve(channel=letters):
            cases = [await world.open(a_report(number)) for number in commanded]
            before = len(server.received)
            server.answer = HANG
            for number in hanging:
                await world.report(a_report(number))
            while len(server.received) < before + 10:  # noqa: ASYNC110 (nothing tells when they hang)
                await asyncio.sleep(0.05)
            await asyncio.gather(*(case.rectified() for case in cases))
            told = [await case.story() for case in cases]
            # Each letter hangs for 20 seconds, and the first one still does.
            gave_up = letters.metrics.get_sample_value(
                "enforce_letters_total", {"channel": "smtp", "result": "failed"}
            )
            server.answer = "250 2.0.0 Ok"
    assert {story.awaiting for story in told} == {(Awaiting.VERIFICATION,)}
    assert gave_up == 0


async def test_a_letter_that_leaves_at_once_needs_nobody_who_serves_the_deliveries(
    world: World, on_record: Sessions, serve: Serve
) -> None:
    [number] = an_agent(on_record)
    async with serve(Queue.CASES):
        case = await world.open(a_report(number), on="2038-03-01")
        assert await case.last_day() == "2038-03-04"
    assert await _scheduled(case) == []


async def test_a_letter_waits_in_sight_for_somebody_who_serves_the_deliveries(
    world: World, on_record: Sessions, serve: Serve
) -> None:
    [number] = an_agent(on_record)
    async with AsyncExitStack() as of_deliveries, serve(Queue.CASES):
        with world.undeliverable():
            case = await world.open(a_report(number), on="2038-03-01")
        waiting = await case.story()
        [pending] = (await case.handle.describe()).raw_description.pending_activities
        assert world.letters() == []

        await of_deliveries.enter_async_context(serve(Queue.DELIVERIES))
        await case.once(lambda told: bool(told.notices))
        assert await case.last_day() == "2038-03-04"
    assert (waiting.awaiting, waiting.deadline) == ((Awaiting.DELIVERY,), None)
    assert pending.activity_type.name == "serve_notice"
    assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    assert await _scheduled(case) == [("serve_notice", deliveries(world.task_queue))]
    assert [notice.receipt is not None for notice in world.rows(Notice)] == [True]


async def test_a_letter_on_which_a_worker_hangs_that_is_stopped_is_delivered_by_another(
    world: World, on_record: Sessions, serve: Serve
) -> None:
    [number] = an_agent(on_record)
    with mail_server(answers=[HANG]) as server:
        channel = Smtp(server.as_told(timeout=12))
        async with AsyncExitStack() as first, AsyncExitStack() as second:
            # With a rate each letter goes straight to the deliveries.
            await first.enter_async_context(serve(channel=channel, rate=1000))
            case = await world.open(a_report(number), on="2038-03-01")
            while not server.received:  # noqa: ASYNC110 (nothing tells when it hangs)
                await asyncio.sleep(0.05)
            await second.enter_async_context(serve(channel=channel, rate=1000))
            await first.aclose()
            await case.once(lambda told: bool(told.notices))
            assert await case.last_day() == "2038-03-04"
    assert len(server.received) == 2
    assert len({letter.content for letter in server.received}) == 1


async def test_the_officers_daily_mail_is_a_delivery_too(
    world: World, on_record: Sessions, serve: Serve
) -> None:
    [number] = an_agent(on_record)
    async with serve():
        case = await world.open(a_report(number), on="2038-03-01")
        await case.rectified()
        await world.round("2038-03-08")
    told = [letter["To"] for letter in world.letters()]
    assert told.count(ADDRESSES.officers) == 1
    rounds = [
        execution async for execution in world.client.list_workflows(f"TaskQueue = '{world.task_queue}'")
    ]
    raised = [
        where
        for execution in rounds
        for step, where in await _scheduled(CaseInTime(world, execution.id))
        if step == "raise_waits"
    ]
    assert raised == [deliveries(world.task_queue)]


async def test_with_a_rate_each_letter_goes_through_the_queue_that_keeps_it(
    world: World, on_record: Sessions, serve: Serve
) -> None:
    numbers = an_agent(on_record, 3)
    async with serve(rate=50):
        cases = [await world.open(a_report(number)) for number in numbers]
        await asyncio.gather(*(case.once(lambda told: bool(told.notices)) for case in cases))
        kept = (await _described(world)).effective_rate_limit.requests_per_second
    assert kept == 50
    for case in cases:
        assert await _scheduled(case) == [("serve_notice", deliveries(world.task_queue))]
    assert len(world.letters()) == 3


async def test_every_worker_tells_how_long_what_nobody_serves_has_waited(
    world: World, on_record: Sessions, serve: Serve, database_url: str
) -> None:
    [number] = an_agent(on_record)
    letters = Counted(Outbox(world.outbox), "outbox")
    to = (world.client, world.task_queue, database_url, letters, ADDRESSES)
    async with AsyncExitStack() as of_deliveries, serving(*to, only=Queue.CASES) as workers:
        api = health.app(world.client, workers, world.task_queue, on_record, letters)
        async with (
            http.listening(api, "127.0.0.1", 0) as url,
            httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as asked,
        ):
            with world.undeliverable():
                case = await world.open(a_report(number))
            waits = await _once(asked, lambda lag: lag["deliveries"] > 0)
            await of_deliveries.enter_async_context(serve(Queue.DELIVERIES))
            await case.once(lambda told: bool(told.notices))
            passed = await _once(asked, lambda lag: lag["deliveries"] == 0)
    assert waits["deliveries"] > 0
    assert passed == {"cases": 0, "deliveries": 0}


async def _once(asked: httpx.AsyncClient, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """How long each queue's oldest has waited as soon as this holds of it; as it then is if it doesn't."""
    lag: dict[str, float] = {}
    for _ in range(100):
        figures = (await asked.get("/metrics")).text.splitlines()
        said = [line.split(" ") for line in figures if line.startswith("enforce_queue_lag_seconds{")]
        lag = {name.split('"')[1]: float(value) for name, value in said}
        if holds(lag):
            break
        await asyncio.sleep(0.1)
    return lag


async def _described(world: World) -> DescribeTaskQueueResponse:
    return await world.client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=world.client.namespace,
            task_queue=TaskQueue(name=deliveries(world.task_queue)),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_config=True,
        )
    )


async def _scheduled(case: CaseInTime) -> list[tuple[str, str]]:
    """The steps that were handed to the server, and in which queue."""
    return [
        (
            event.activity_task_scheduled_event_attributes.activity_type.name,
            event.activity_task_scheduled_event_attributes.task_queue.name,
        )
        async for event in case.handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
