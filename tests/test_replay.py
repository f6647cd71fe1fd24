"""Cases that were begun under an older release go on under this one."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

with workflow.unsafe.imports_passed_through():
    from rulebook.vocabulary import Stage
    from worker import WORKFLOWS
    from workflows.messages import CaseEnded, CaseStart
    from workflows.secondary_sale import SecondarySaleCase

FILES = sorted((Path(__file__).parent / "histories").glob("*.json"))
HISTORIES = {file.stem: file.read_text("utf-8") for file in FILES}


SALES = [name for name in HISTORIES if name.startswith("secondary-sale-")]


async def _replay(recorded: str, workflows: Sequence[type], runner: WorkflowRunner) -> None:
    replayer = Replayer(workflows=workflows, data_converter=pydantic_data_converter, workflow_runner=runner)
    await replayer.replay_workflow(WorkflowHistory.from_json(recorded, HISTORIES[recorded]))


@pytest.mark.parametrize("runner", [UnsandboxedWorkflowRunner(), SandboxedWorkflowRunner()])
@pytest.mark.parametrize("recorded", HISTORIES)
async def test_a_recorded_history_replays_as_in_a_worker_and_where_the_clock_is_forbidden(
    recorded: str, runner: WorkflowRunner
) -> None:
    await _replay(recorded, WORKFLOWS, runner)


class _OneWaitMore(SecondarySaleCase):
    """What a later release may make of the clause."""

    guarded = False

    async def clause(self) -> Stage:
        if not self.guarded or workflow.patched("one-wait-more"):
            await workflow.sleep(60)
        return await super().clause()


@workflow.defn(name="SecondarySaleCase")
class _Unguarded(_OneWaitMore):
    @workflow.run
    async def run(self, start: CaseStart) -> CaseEnded:
        return await self.conduct(start)


@workflow.defn(name="SecondarySaleCase")
class _Guarded(_OneWaitMore):
    guarded = True

    @workflow.run
    async def run(self, start: CaseStart) -> CaseEnded:
        return await self.conduct(start)


@pytest.mark.parametrize("recorded", SALES)
async def test_a_wait_that_no_recorded_case_knows_is_found_out(recorded: str) -> None:
    with pytest.raises(workflow.NondeterminismError):
        await _replay(recorded, [_Unguarded], UnsandboxedWorkflowRunner())


@pytest.mark.parametrize("recorded", SALES)
async def test_the_same_wait_behind_a_patch_strands_no_case(recorded: str) -> None:
    await _replay(recorded, [_Guarded], UnsandboxedWorkflowRunner())


def test_there_is_a_recorded_history_of_every_kind_of_workflow() -> None:
    told = "".join(HISTORIES.values())
    assert [w.__name__ for w in WORKFLOWS if f'"name": "{w.__name__}"' not in told] == []
