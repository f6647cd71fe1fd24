"""The platform's own checks, hour by hour: from evidence on record through the inbox to a case."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count

import pytest
from sqlalchemy import select
from temporalio.client import ScheduleBackfill, ScheduleOverlapPolicy

from activities.detection import Detected
from registry.models import AuditLine, Base, Complaint, Incoming, ObservedUse, OperatorAlert, ReportRow
from rulebook.vocabulary import ComplaintKind, IncomingStatus, Kind, Stage, workflow_id
from starter import connect, monitor
from tests.world import CaseInTime, World, an_agent, shanghai, unschedule, wording
from workflows.detection import DetectionRound

Check = Callable[[str, str], Awaitable[Detected]]
_serial = count(1)


@pytest.fixture
def check(world: World) -> Check:
    """Have the checks of a moment made."""

    async def made(on: str, at: str) -> Detected:
        named = f"detection-{world.task_queue}-{next(_serial)}"
        delay = shanghai(on, at) - world.time.now(named)
        handle = await world.client.start_workflow(
            DetectionRound.run, id=named, task_queue=world.task_queue, start_delay=delay
        )
        await world.time.forward(named, delay + timedelta(seconds=1))
        return await asyncio.wait_for(handle.result(), 20)

    return made


def _put(world: World, *rows: Base) -> None:
    with world.on_record.begin() as session:
        session.add_all(rows)


def _a_use(number: str, named: str, on: str) -> ObservedUse:
    observed = shanghai(on)
    return ObservedUse(
        observation_id=named, number=number, observed_at=observed, user="武汉安顺搬家", how="拨测"
    )


def _an_alert(number: str, on: str) -> OperatorAlert:
    raised = shanghai(on)
    return OperatorAlert(
        operator="中国电信", alert_id=f"A{number}", number=number, raised_at=raised, text="涉诈"
    )


async def _handed_over(world: World) -> dict[IncomingStatus, int]:
    ids = [row.id for row in world.rows(Incoming)]
    return await monitor.settle(world.client, world.on_record, world.task_queue, ids)


async def test_a_complaint_is_reported_in_the_hour_after_its_limit_and_not_before(
    world: World, check: Check
) -> None:
    [number] = an_agent(world.on_record)
    _put(
        world,
        Complaint(
            channel="热线",
            complaint_id="C1",
            number=number,
            kind=ComplaintKind.SERVICE,
            received_at=shanghai("2038-03-01"),
            text="三次申请均未办理",
        ),
    )
    assert await check("2038-03-04", "23:15") == Detected(reports={}, evidence=0)
    assert await check("2038-03-05", "00:15") == Detected(reports={Kind.SERVICE_FAILURE: 1}, evidence=1)
    assert await check("2038-03-05", "01:15") == Detected(reports={}, evidence=0)
    [row] = world.rows(Incoming)
    assert (row.source, row.payload["number"], row.payload["kind"]) == (
        "detection",
        number,
        "service-failure",
    )
    assert row.payload["facts"].startswith("客户投诉逾3个工作日未获答复，共1件：2038-03-01 10:00 热线投诉 C1")
    [line] = world.rows(AuditLine)
    assert shanghai("2038-03-05", "00:15") <= line.at < shanghai("2038-03-05", "00:16")


async def test_evidence_of_a_secondary_sale_opens_a_case_and_more_of_it_joins(
    world: World, check: Check
) -> None:
    [number] = an_agent(world.on_record)
    _put(world, _a_use(number, f"{number}-1", "2038-03-01"), _a_use(number, f"{number}-2", "2038-03-02"))
    await check("2038-03-02", "11:15")
    assert await _handed_over(world) == {IncomingStatus.HANDED: 1}
    case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
    await case.once(lambda told: told.stage is Stage.RECTIFICATION)
    [order] = world.letters()
    assert f"{number}-2：实际使用者为“武汉安顺搬家”" in wording(order)

    _put(world, _a_use(number, f"{number}-3", "2038-03-02"), _a_use(number, f"{number}-4", "2038-03-03"))
    await check("2038-03-03", "11:15")
    await _handed_over(world)
    await case.once(lambda told: "joined the case" in told.lines[-1].text)

    case_no = await case.case_no()
    assert [row.case_no for row in world.rows(ReportRow)] == [case_no, case_no]


async def test_an_alert_about_a_number_that_is_not_on_record_is_refused_where_officers_see_it(
    world: World, check: Check
) -> None:
    _put(world, _an_alert("4009999999", "2038-03-01"))
    await check("2038-03-02", "11:15")
    assert await _handed_over(world) == {IncomingStatus.REFUSED: 1}
    [row] = world.rows(Incoming)
    assert row.reason == "number 400-999-9999 is not in the registry"


async def test_the_checks_are_made_a_quarter_past_each_hour_once_however_many_workers_there_are(
    world: World,
) -> None:
    [number] = an_agent(world.on_record)
    await unschedule(world.client)
    await connect.schedule_rounds(world.client, world.task_queue)
    await connect.schedule_rounds(world.client, world.task_queue)  # another worker starts
    checks = world.client.get_schedule_handle("detection")
    try:
        # A backfilled round has the time of the server, whatever hour it is made up for.
        _put(world, _an_alert(number, f"{world.time.now('none').date() - timedelta(days=1)}"))
        noon = shanghai("2026-01-05", "12:00")
        await checks.backfill(
            ScheduleBackfill(noon, noon + timedelta(hours=3), ScheduleOverlapPolicy.ALLOW_ALL)
        )
        made = await world.found("WorkflowId STARTS_WITH 'detection-2026-01-05'", expected=3)
        assert made == [f"detection-2026-01-05T0{hour}:15:00Z" for hour in (4, 5, 6)]
        for one in made:
            await asyncio.wait_for(world.client.get_workflow_handle(one).result(), 20)
    finally:
        await unschedule(world.client)
    with world.on_record() as session:
        [row] = session.scalars(select(Incoming))
    assert row.payload["number"] == number
