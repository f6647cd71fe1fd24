"""Rulebook 4.2 and 4.3: the open cases follow a calendar that changes; the arrangement of 2039 is assumed."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select
from temporalio.client import Client

from activities.channels import Outbox
from registry.models import Fine, Notice
from registry.session import Sessions
from rulebook.vocabulary import Kind, Stage
from starter import calendars
from starter.settings import Refused, Unreachable
from starter.virtual_time import VirtualTime
from tests.conftest import ADDRESSES
from tests.world import CaseInTime, World, a_report, an_agent, wording
from worker import serving
from workflows.calendar import CALENDAR_CHANGED, CalendarChanged, Walk, Walked

# Tuesday 1 March: three working days end on Friday the 4th. Wednesday is off, made up on Saturday the 5th.
PUBLISHED = {"2039-03-02": False, "2039-03-05": True}


async def _follow(world: World) -> Walked:
    """Bring the open cases to the calendar on record, as an import does."""
    return await asyncio.wait_for(calendars.walk(world.client, world.task_queue, lambda _: None), 20)


async def _ordered(world: World, on: str = "2039-03-01") -> CaseInTime:
    """A case whose agent has been ordered to rectify within three working days."""
    [number] = an_agent(world.on_record)
    return await world.open(a_report(number), on=on)


async def _restated(case: CaseInTime, last_day: str) -> None:
    """The deadline has been restated to the agent as the 24:00 of this day."""
    story = await case.once(lambda told: [n.kind for n in told.notices][-1:] == ["deadline"])
    assert story.deadline
    assert (str(story.deadline.last_day), story.notices[-1].kind) == (last_day, "deadline")


async def _events(case: CaseInTime) -> int:
    return len((await case.handle.fetch_history()).events)


async def test_a_deadline_in_a_year_that_is_published_meanwhile_moves_later_and_the_agent_is_told(
    world: World,
) -> None:
    case = await _ordered(world)
    story = await case.story()
    assert story.deadline
    assert (str(story.deadline.last_day), story.deadline.provisional) == ("2039-03-04", True)
    world.arrange(PUBLISHED)

    assert await _follow(world) == Walked(looked_at=1, moved=1, firm=1)

    await _restated(case, "2039-03-05")
    _, letter = world.letters()
    assert "期限重新计算通知书" in letter["Subject"]
    assert "2039年3月5日 24:00" in wording(letter)
    assert "暂定期限" not in wording(letter)
    assert await case.until("2039-03-05", "23:59") is Stage.RECTIFICATION
    assert world.rows(Fine) == []
    assert await case.until("2039-03-06", "00:11") is Stage.PAYMENT


async def test_a_deadline_that_would_move_earlier_stays_as_promised(world: World) -> None:
    case = await _ordered(world, on="2039-03-04")
    assert await case.last_day() == "2039-03-09"
    world.arrange({"2039-03-05": True, "2039-03-06": True})

    assert await _follow(world) == Walked(looked_at=1, moved=0, firm=1)

    story = await case.once(lambda told: bool(told.deadline and not told.deadline.provisional))
    assert story.deadline
    assert (str(story.deadline.last_day), story.deadline.provisional) == ("2039-03-09", False)
    assert await case.until("2039-03-09", "23:59") is Stage.RECTIFICATION
    assert await case.until("2039-03-10", "00:11") is Stage.PAYMENT
    assert [notice.kind for notice in world.rows(Notice)] == ["rectification-order", "punishment"]


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_closing_day_moves_the_deadline_of_every_kind_of_case(world: World, kind: Kind) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=kind), on="2039-03-01")
    first = (await case.story()).deadline
    world.arrange({"2039-03-03": False}, closing=True)

    assert await _follow(world) == Walked(looked_at=1, moved=1, firm=0)

    promised = {"2039-03-04": "2039-03-07", "2039-03-08": "2039-03-09"}
    assert first
    await _restated(case, promised[str(first.last_day)])


async def test_the_deadline_for_payment_moves_too(world: World) -> None:
    case = await _ordered(world)
    assert await case.until("2039-03-05", "00:11") is Stage.PAYMENT
    assert await case.last_day() == "2039-03-11"
    world.arrange({"2039-03-09": False}, closing=True)
    assert (await _follow(world)).moved == 1
    await _restated(case, "2039-03-14")


async def test_a_case_that_does_not_move_hears_nothing(world: World) -> None:
    moves, stays = await _ordered(world), await _ordered(world)
    await moves.extend(2)
    await _restated(moves, "2039-03-08")
    before = await _events(stays)
    world.arrange({"2039-03-07": False}, closing=True)

    assert await _follow(world) == Walked(looked_at=2, moved=1, firm=0)

    await moves.once(lambda told: str(told.deadline).startswith("2039-03-09"))
    assert await moves.last_day() == "2039-03-09"
    assert await _events(stays) == before


async def test_a_calendar_that_is_followed_twice_moves_no_case_again(world: World) -> None:
    case = await _ordered(world)
    world.arrange(PUBLISHED)
    await _follow(world)
    await _restated(case, "2039-03-05")
    before = await _events(case)

    assert await _follow(world) == Walked(looked_at=1, moved=0, firm=0)

    assert await _events(case) == before
    assert len(world.letters()) == 2


async def test_a_case_whose_clock_stands_still_is_not_told(world: World) -> None:
    case = await _ordered(world)
    await case.hold("等待核实")
    await case.once(lambda told: told.deadline is None)
    world.arrange(PUBLISHED)
    assert await _follow(world) == Walked(looked_at=1, moved=0, firm=0)


async def test_a_case_whose_workflow_is_gone_holds_no_other_up(world: World) -> None:
    gone, goes_on = await _ordered(world), await _ordered(world)
    await gone.handle.terminate()
    world.arrange(PUBLISHED)
    assert await _follow(world) == Walked(looked_at=2, moved=1, firm=1)
    await _restated(goes_on, "2039-03-05")


async def test_a_walk_takes_the_cases_page_by_page_each_page_in_a_run_of_its_own(world: World) -> None:
    cases = [await _ordered(world) for _ in range(5)]
    world.arrange(PUBLISHED)
    walking = await world.client.start_workflow(
        CalendarChanged.run, Walk(page=2), id=f"walk-{world.task_queue}", task_queue=world.task_queue
    )
    assert await asyncio.wait_for(walking.result(), 20) == Walked(looked_at=5, moved=5, firm=5)
    assert len(await world.found(f"WorkflowId = '{walking.id}'", expected=3)) == 3
    for case in cases:
        await _restated(case, "2039-03-05")


async def test_the_daily_round_brings_along_what_an_import_did_not(world: World) -> None:
    case = await _ordered(world)
    world.arrange(PUBLISHED)
    await _nobody_walks(world.client)
    await world.round(on="2039-03-02")
    walking = world.client.get_workflow_handle(CALENDAR_CHANGED, result_type=Walked)
    assert await asyncio.wait_for(walking.result(), 20) == Walked(looked_at=1, moved=1, firm=1)
    await _restated(case, "2039-03-05")


async def _nobody_walks(client: Client) -> None:
    """End a walk that an earlier test has begun with its daily round, and no worker serves any more."""
    async for left in client.list_workflows(
        "WorkflowType = 'CalendarChanged' AND ExecutionStatus = 'Running'"
    ):
        await client.get_workflow_handle(left.id).terminate()


async def test_without_a_worker_the_cases_follow_once_one_is_back(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = tmp_path / "outbox"
    world = World(client, VirtualTime(client), on_record, f"deserted-{tmp_path.name}", outbox)
    worker = (client, world.task_queue, database_url, Outbox(outbox), ADDRESSES)
    async with serving(*worker):
        case = await _ordered(world)
    world.arrange(PUBLISHED)
    monkeypatch.setattr(calendars, "_ANSWER_WITHIN", 1)

    with pytest.raises(Unreachable, match="The open cases follow when a worker is back"):
        await _follow(world)

    with on_record() as session:
        assert not session.scalars(select(Fine)).all()
    async with serving(*worker):
        walking = client.get_workflow_handle(CALENDAR_CHANGED, result_type=Walked)
        assert (await asyncio.wait_for(walking.result(), 20)).moved == 1
        await _restated(case, "2039-03-05")


async def test_a_walk_that_a_later_import_begins_anew_says_so(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    world = World(client, VirtualTime(client), on_record, f"deserted-{tmp_path.name}", tmp_path)
    first = asyncio.create_task(_follow(world))
    await world.found(f"WorkflowId = '{CALENDAR_CHANGED}' AND TaskQueue = '{world.task_queue}'")
    second = asyncio.create_task(_follow(world))
    with pytest.raises(Refused, match="with another import or the next daily round"):
        await first
    async with serving(client, world.task_queue, database_url, Outbox(tmp_path), ADDRESSES):
        assert await second == Walked()
