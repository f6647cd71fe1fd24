"""How acts in any order are carried out on the real system, and what must hold of their workflows."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from typing import Any

from sqlalchemy import text
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Replayer

from tests.world import World
from worker import WORKFLOWS
from workflows.after_case import LatePayment
from workflows.messages import LatePaymentStart, PaymentReceived

_serial = count(1)


@contextmanager
def steps_held_up(world: World) -> Iterator[None]:
    """No step is done until the context ends: every step ends with its line in the audit trail."""
    with world.on_record() as holding:
        holding.execute(text("lock table audit_trail in share mode"))
        yield


def waiting_steps(world: World) -> int:
    """How many steps wait for a lock; they tell nobody."""
    waits = "datname = current_database() and wait_event_type = 'Lock'"
    with world.on_record() as session:
        found = session.execute(text(f"select count(*) from pg_stat_activity where {waits}"))
        return int(found.scalar_one())


async def pay_late(world: World, case_no: str, reference: str, amount: Decimal) -> bool:
    """Pay for a case that has ended; whether it was counted. What is refused is refused in words."""
    late = LatePaymentStart(case_no=case_no, payment=PaymentReceived(reference=reference, amount=amount))
    named = f"late-payment-{world.task_queue}-{next(_serial)}"
    try:
        await world.client.execute_workflow(LatePayment.run, late, id=named, task_queue=world.task_queue)
    except WorkflowFailureError as failure:
        refused_in_words(failure)
        return False
    return True


def refused_in_words(failure: WorkflowFailureError) -> None:
    """A workflow that failed was refused by the rulebook, and says why."""
    why = failure.cause.cause if isinstance(failure.cause, ActivityError) else failure.cause
    assert isinstance(why, ApplicationError) and why.type == "Refused" and why.message, why


async def histories_replay(runs: Iterable[WorkflowHandle[Any, Any]]) -> None:
    """The history of each run can be replayed, and no task of it failed."""
    replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter)
    await replayer.replay_workflows(_histories(runs))


async def _histories(runs: Iterable[WorkflowHandle[Any, Any]]) -> AsyncIterator[WorkflowHistory]:
    for run in runs:
        yield (history := await run.fetch_history())
        failed = [
            event.workflow_task_failed_event_attributes.cause
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        ]
        # That one says: something came in at the last moment, look at it first.
        assert set(failed) <= {WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND}
