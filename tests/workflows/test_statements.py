"""How many statements a case may take: they are most of what a worker does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, event

from rulebook.vocabulary import Kind, workflow_id
from tests.world import CaseInTime, World, a_report, an_agent
from worker import Queue


@contextmanager
def _said_to_the_registry() -> Iterator[list[str]]:
    """The statements of activities, as they come; a transaction's beginning and end aren't among them."""
    said: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.current_thread().name.startswith(Queue.CASES):
            said.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


async def test_a_rectified_case_takes_at_most_47_statements(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
    with _said_to_the_registry() as said:
        await world.report(a_report(number))
        await world.found(f"WorkflowId = '{case.id}' AND Stage = 'rectification'")
        await case.rectified()
        await case.verify(passed=True)
        await case.ended()
    assert 30 < len(said) <= 47, "\n".join(said)


async def test_a_case_that_ends_in_a_shutdown_takes_at_most_97_statements(world: World) -> None:
    [number] = an_agent(world.on_record)
    with _said_to_the_registry() as said:
        case = await world.open(a_report(number))
        await world.time.forward(case.id, timedelta(days=60))
        await case.ended()
    assert 30 < len(said) <= 97, "\n".join(said)
