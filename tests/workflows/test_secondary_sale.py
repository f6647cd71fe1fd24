"""Rulebook 2, as stories with dates."""

from decimal import Decimal

from rulebook.vocabulary import Stage
from tests.world import World, a_report, an_agent


async def test_rectified_and_verified_in_time_ends_without_a_fine(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2027-03-01")
    assert await case.stage() is Stage.RECTIFICATION
    assert await case.until("2027-03-03") is Stage.RECTIFICATION
    await case.rectified(statement="returned to its customer")
    await case.verify(passed=True)
    ended = await case.ended()
    assert (ended.outcome, ended.balance.fine) == (Stage.RECTIFIED, Decimal(0))
