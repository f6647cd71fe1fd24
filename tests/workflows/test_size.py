"""How long the history of a case may be: events are what a case costs."""

from datetime import timedelta

from rulebook.vocabulary import Kind, workflow_id
from tests.world import CaseInTime, World, a_report, an_agent


async def _events(case: CaseInTime) -> int:
    """The events that the production server would have too."""
    history = await case.handle.fetch_history()
    clock_moved = (
        "workflow_execution_time_skipping_transitioned_event_attributes",
        "workflow_execution_options_updated_event_attributes",
    )
    return sum(event.WhichOneof("attributes") not in clock_moved for event in history.events)


async def test_a_rectified_case_needs_at_most_30_events(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
    await world.report(a_report(number))
    # Not by asking the case: a query that falls into its first task splits it in two.
    await world.found(f"WorkflowId = '{case.id}' AND Stage = 'rectification'")
    await case.rectified()
    await case.verify(passed=True)
    await case.ended()
    assert await _events(case) <= 30


async def test_a_case_that_ends_in_a_shutdown_needs_at_most_60_events(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await world.time.forward(case.id, timedelta(days=60))
    await case.ended()
    assert await _events(case) <= 60
