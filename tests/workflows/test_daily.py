"""What comes round every day: quarantines end (rulebook 5.3), renewals of direct service come up (3.3)."""

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from temporalio.client import (
    ScheduleBackfill,
    ScheduleOverlapPolicy,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from registry.models import AuditLine, Number
from rulebook.vocabulary import Awaiting, Holder, Kind, NumberStatus, Stage
from starter import connect
from starter.settings import Refused
from tests.world import World, a_report, an_agent, shanghai, unschedule
from workflows.messages import Answer


async def _reclaimed(world: World, number: str) -> str:
    """A fraud whose fine is not paid: its agent's numbers rest from 9 March to 8 April; its case number."""
    case = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    assert await case.until("2038-03-09", "00:11") is Stage.SHUT_DOWN
    return (await case.ended()).case_no


async def _served_directly(world: World, number: str) -> str:
    """A number that the platform serves directly since 5 March, due for renewal on 1 December; its case."""
    case = await world.open(a_report(number, kind=Kind.SERVICE_FAILURE), on="2038-03-01")
    assert await case.until("2038-03-05", "00:11") is Stage.TAKEN_BACK
    return (await case.ended()).case_no


def _numbers(world: World) -> dict[str, tuple[NumberStatus, Holder]]:
    return {row.number: (row.status, row.holder) for row in world.rows(Number)}


def _renewal(world: World, number: str, due: str = "2038-12-01") -> WorkflowHandle[Any, None]:
    return world.client.get_workflow_handle(f"renewal-{number}-{due}")


async def _came_up(world: World, number: str, due: str = "2038-12-01") -> bool:
    try:
        await _renewal(world, number, due).describe()
    except RPCError as error:
        assert error.status is RPCStatusCode.NOT_FOUND
        return False
    return True


async def _renewed(renewal: WorkflowHandle[Any, None], until: str, officer: str = "李敏") -> str:
    said = {"officer": officer, "until": until}
    answer: Answer = await renewal.execute_update("renewed", said, result_type=Answer)
    return answer.text


# 5.3: quarantine


async def test_a_quarantine_ends_by_itself_after_30_days_and_not_earlier(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case_no = await _reclaimed(world, number)

    await world.round(on="2038-04-08")
    assert set(_numbers(world).values()) == {(NumberStatus.QUARANTINED, Holder.PLATFORM)}

    await world.round(on="2038-04-09")
    await world.round(on="2038-04-09")
    assert _numbers(world) == dict.fromkeys((number, other), (NumberStatus.FREE, Holder.NOBODY))
    freed = [line for line in world.rows(AuditLine) if "is free" in line.text]
    assert len(freed) == 2
    assert {(line.case_no, line.actor) for line in freed} == {(case_no, "enforce")}
    assert all("its quarantine ended 2038-04-08" in line.text for line in freed)


async def test_a_free_number_is_not_reported_against_the_agent_who_had_it(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _reclaimed(world, number)
    await world.round(on="2038-04-09")
    with pytest.raises(Refused, match="not in an agent's hands: free"):
        await world.report(a_report(number, kind=Kind.FRAUD))


async def test_the_round_is_made_each_day_half_an_hour_after_midnight_in_china(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _reclaimed(world, number)
    with world.on_record.begin() as session:
        session.execute(update(Number).values(quarantined_until=date(2026, 1, 1)))
    await unschedule(world.client)
    await connect.schedule_rounds(world.client, world.task_queue)
    await connect.schedule_rounds(world.client, world.task_queue)  # another worker starts
    daily = world.client.get_schedule_handle("daily-round")
    try:
        midnight = shanghai("2026-01-05", "00:00")
        await daily.backfill(
            ScheduleBackfill(midnight, midnight + timedelta(days=2), ScheduleOverlapPolicy.ALLOW_ALL)
        )
        rounds = await world.found("WorkflowId STARTS_WITH 'daily-round-2026-01-'", expected=2)
        assert rounds == ["daily-round-2026-01-04T16:30:00Z", "daily-round-2026-01-05T16:30:00Z"]
        for made in rounds:
            await asyncio.wait_for(world.client.get_workflow_handle(made).result(), 20)
        assert _numbers(world) == {number: (NumberStatus.FREE, Holder.NOBODY)}
    finally:
        await unschedule(world.client)


# 3.3: renewals


async def test_a_renewal_comes_up_30_days_before_it_is_due_and_not_earlier(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _served_directly(world, number)

    await world.round(on="2038-10-31")
    assert not await _came_up(world, number)

    await world.round(on="2038-11-01")
    assert await _came_up(world, number)
    assert await world.found(f"Awaiting = '{Awaiting.RENEWAL}' AND Number = '{number}'") == [
        f"renewal-{number}-2038-12-01"
    ]
    shown = (await _renewal(world, number).describe()).typed_search_attributes
    assert shanghai("2038-12-01", "24:00") in [pair.value for pair in shown]


async def test_a_renewal_that_waits_does_not_come_up_again(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _served_directly(world, number)
    await world.round(on="2038-11-01")
    first = (await _renewal(world, number).describe()).run_id
    await world.round(on="2038-11-02")
    assert (await _renewal(world, number).describe()).run_id == first


async def test_a_renewed_number_comes_up_again_before_its_next_renewal(world: World) -> None:
    [number] = an_agent(world.on_record)
    case_no = await _served_directly(world, number)
    await world.round(on="2038-11-01")

    assert "next renewal 2039-01-15" in await _renewed(_renewal(world, number), "2039-01-15")

    await asyncio.wait_for(_renewal(world, number).result(), 10)
    [row] = world.rows(Number)
    assert (row.renewal_due, row.holder) == (date(2039, 1, 15), Holder.PLATFORM)
    line = world.rows(AuditLine)[-1]
    assert (line.case_no, line.actor) == (case_no, "李敏")
    assert await world.found(f"Awaiting = '{Awaiting.RENEWAL}' AND Number = '{number}'", expected=0) == []

    await world.round(on="2038-12-15")
    assert not await _came_up(world, number, "2039-01-15")
    await world.round(on="2038-12-16")
    assert await _came_up(world, number, "2039-01-15")


async def test_a_command_that_makes_no_sense_renews_nothing(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _served_directly(world, number)
    await world.round(on="2038-11-01")
    for until in ("2038-12-01", "2037-12-01"):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await _renewed(_renewal(world, number), until)
        assert "the next renewal comes after 2038-12-01" in str(refused.value.cause)
    with pytest.raises(WorkflowUpdateFailedError):
        await _renewal(world, number).execute_update("renewed", None)
    assert world.rows(Number)[0].renewal_due == date(2038, 12, 1)


async def test_a_number_that_two_officers_renew_at_once_is_renewed_once(world: World) -> None:
    [number] = an_agent(world.on_record)
    await _served_directly(world, number)
    await world.round(on="2038-11-01")
    renewal = _renewal(world, number)
    said = await asyncio.gather(
        _renewed(renewal, "2039-12-01", "李敏"),
        _renewed(renewal, "2040-12-01", "张伟"),
        return_exceptions=True,
    )
    renewed = [line for line in world.rows(AuditLine) if "renewed, next renewal" in line.text]
    assert len(renewed) == 1
    told = [one for one in said if isinstance(one, str)]
    assert told
    assert set(told) == {renewed[0].text}
    assert str(world.rows(Number)[0].renewal_due) in renewed[0].text


async def test_only_numbers_in_direct_service_come_up(world: World) -> None:
    [held], [reclaimed] = an_agent(world.on_record), an_agent(world.on_record)
    await _reclaimed(world, reclaimed)
    await world.round(on="2038-11-15")
    assert not await _came_up(world, held)
    assert not await _came_up(world, reclaimed)


async def test_a_frozen_number_in_direct_service_comes_up_too(world: World) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-02")
    await _served_directly(world, number)
    assert _numbers(world) == {number: (NumberStatus.FROZEN, Holder.PLATFORM)}
    await world.round(on="2038-11-15")
    assert await _came_up(world, number)
