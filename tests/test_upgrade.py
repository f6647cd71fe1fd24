"""A release later than the one under which a case began: both serve it for a while, and it ends right."""

import asyncio
import shutil
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from registry.models import AuditLine, Case, Notice
from registry.session import Sessions
from rulebook.vocabulary import Stage
from starter.virtual_time import VirtualTime
from tests.processes import a_worker, env_of
from tests.world import CaseInTime, World, a_report, an_agent

ROOT = Path(__file__).parents[1]
PLACE = "\n        # 2.2 Rectified and verified"
STEP = 'await self.add_line("called", "enforce", "The agent was called")'
GUARDED = f'\n        if workflow.patched("the-agent-is-called"):\n            {STEP}\n'
UNGUARDED = f"\n        {STEP}\n"


def _later_release(folder: Path, change: str) -> dict[str, str]:
    """This release with one step more in a clause; the variable by which a worker is of it."""
    shutil.copytree(ROOT / "workflows", folder / "workflows", ignore=shutil.ignore_patterns("__pycache__"))
    clause = folder / "workflows/secondary_sale.py"
    text = clause.read_text("utf-8")
    assert text.count(PLACE) == 1
    clause.write_text(text.replace(PLACE, change + PLACE), "utf-8")
    return {"PYTHONPATH": str(folder)}


async def test_cases_of_two_releases_that_serve_side_by_side_end_as_they_should(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    world = World(client, VirtualTime(client), on_record, "upgraded", tmp_path / "outbox")
    env, later = env_of(world, database_url), _later_release(tmp_path, GUARDED)
    before, between, after = (an_agent(on_record, 4) for _ in range(3))
    async with asyncio.timeout(120), AsyncExitStack() as running:
        old = await running.enter_async_context(a_worker(env))
        cases = await asyncio.gather(*(_noticed(world, number) for number in before))
        await running.enter_async_context(a_worker(env | later))
        cases += await asyncio.gather(*(_noticed(world, number) for number in between))
        await asyncio.gather(*(_end(case) for case in cases[::2]))  # while both serve
        old.terminate()
        assert await old.wait() == 0
        cases += await asyncio.gather(*(_noticed(world, number) for number in after))
        await asyncio.gather(*(_end(case) for case in (*cases[1:8:2], *cases[8:])))
        ended = [await case.ended() for case in cases]
    assert {one.outcome for one in ended} == {Stage.RECTIFIED}
    of = {row.number: row.case_no for row in world.rows(Case)}
    trail = world.rows(AuditLine)
    steps = Counter((line.case_no, line.step) for line in trail)
    assert set(steps.values()) == {1}
    called = {line.case_no for line in trail if line.step == "called"}
    # Who was past the place goes on as it began.
    assert {of[number] for number in after} <= called <= {of[number] for number in (*between, *after)}
    assert len(world.letters()) == len(world.rows(Notice)) == 2 * 12


async def test_a_later_release_without_a_patch_strands_the_cases_and_the_old_one_takes_them_up_again(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    [number] = an_agent(on_record)
    world = World(client, VirtualTime(client), on_record, "stranded", tmp_path / "outbox")
    env, later = env_of(world, database_url), _later_release(tmp_path, UNGUARDED)
    async with a_worker(env):
        case = await _noticed(world, number)
    async with a_worker(env | later):
        await case.handle.signal("rectification_reported", {})
        failed = await _failed(case)
    async with a_worker(env):
        await case.once(lambda told: bool(told.awaiting))
        await case.verify(passed=True)
        ended = await case.ended()
    assert "Nondeterminism" in failed or "TMPRL1100" in failed
    assert ended.outcome is Stage.RECTIFIED
    assert [line.step for line in world.rows(AuditLine) if line.step == "called"] == []


async def _noticed(world: World, number: str) -> CaseInTime:
    case = await world.open(a_report(number))
    await case.once(lambda told: bool(told.notices))
    return case


async def _end(case: CaseInTime) -> None:
    await case.rectified()
    await case.verify(passed=True)


async def _failed(case: CaseInTime) -> str:
    """Why a task of the case has failed, once one has."""
    async for event in case.handle.fetch_history_events(wait_new_event=True):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            return event.workflow_task_failed_event_attributes.failure.message
    pytest.fail("no task has failed")
