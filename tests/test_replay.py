"""Cases that were begun under an older release go on under this one."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from worker import WORKFLOWS

FILES = sorted((Path(__file__).parent / "histories").glob("*.json"))
HISTORIES = {file.stem: file.read_text("utf-8") for file in FILES}


@pytest.mark.parametrize("runner", [UnsandboxedWorkflowRunner(), SandboxedWorkflowRunner()])
@pytest.mark.parametrize("recorded", HISTORIES)
async def test_a_recorded_history_replays_as_in_a_worker_and_where_the_clock_is_forbidden(
    recorded: str, runner: WorkflowRunner
) -> None:
    replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter, workflow_runner=runner)
    await replayer.replay_workflow(WorkflowHistory.from_json(recorded, HISTORIES[recorded]))


def test_there_is_a_recorded_history_of_every_kind_of_workflow() -> None:
    told = "".join(HISTORIES.values())
    assert [w.__name__ for w in WORKFLOWS if f'"name": "{w.__name__}"' not in told] == []
