"""Rulebook 1, as stories with dates."""

from decimal import Decimal

from registry.models import Account, Number
from rulebook.vocabulary import AccountStatus, Kind, NumberStatus, Stage
from tests.world import World, a_report, an_agent


async def test_a_fraud_freezes_the_number_suspends_the_account_and_fines_30000(world: World) -> None:
    [number, other] = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    story = await case.story()
    assert (story.stage, story.balance.fine) == (Stage.PAYMENT, Decimal("30000.00"))
    [account] = world.rows(Account)
    assert account.status is AccountStatus.SUSPENDED
    assert {n.number: n.status for n in world.rows(Number)} == {
        number: NumberStatus.FROZEN,
        other: NumberStatus.ACTIVE,
    }
    assert await case.until("2038-03-09") is Stage.SHUT_DOWN
