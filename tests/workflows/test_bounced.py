"""Rulebook 4.6: a notice that comes back was not served; its clock counts from when an officer serves it."""

import pytest

from registry.models import Notice, Wait
from rulebook.vocabulary import Awaiting, Stage
from starter.explain import explain
from tests.world import CaseInTime, World, a_report, an_agent, shanghai

WHY = "550 5.1.1 no such mailbox"


async def _ordered(world: World) -> CaseInTime:
    """A case whose order to rectify was served on Monday, 1 March 2038: 3 working days."""
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    assert await case.last_day() == "2038-03-04"
    return case


async def _bounce(case: CaseInTime, notice: str = "N1") -> None:
    notice_no = f"{await case.case_no()}-{notice}"
    await case.signal("notice_bounced", {"notice_no": notice_no, "reason": WHY})
    await case.once(lambda told: any(f"{notice_no} bounced" in line.text for line in told.lines))


async def test_nobody_is_fined_on_the_limit_of_a_notice_that_has_bounced(world: World) -> None:
    case = await _ordered(world)
    await _bounce(case)
    assert await case.until("2038-03-20") is Stage.RECTIFICATION
    assert (await case.attributes())["Awaiting"] == [Awaiting.DELIVERY]
    assert [wait.ended_at for wait in world.rows(Wait) if wait.what is Awaiting.DELIVERY] == [None]
    assert any(WHY in line and "outbox: " in line for line in await case.told())


async def test_the_limit_counts_anew_from_the_day_on_which_it_is_served_another_way(world: World) -> None:
    case = await _ordered(world)
    await _bounce(case)
    await case.until("2038-03-08")
    await case.served("2038-03-08", world.evidence())
    assert await case.last_day() == "2038-03-11"
    assert "Awaiting" not in await case.attributes()
    assert await case.until("2038-03-11") is Stage.RECTIFICATION
    assert await case.until("2038-03-12", "00:11") is Stage.PAYMENT
    [order] = [notice for notice in world.rows(Notice) if notice.kind == "rectification-order"]
    assert order.bounced_at is None
    assert str(order.receipt).startswith("by hand")


async def test_a_promised_deadline_is_no_earlier_after_it_was_served_again(world: World) -> None:
    case = await _ordered(world)
    await case.extend(5)
    promised = await case.last_day()
    await _bounce(case)
    await case.served("2038-03-01", world.evidence())
    assert await case.last_day() == promised


async def test_the_explanation_foretells_no_fine_on_the_limit_of_a_notice_that_has_bounced(
    world: World,
) -> None:
    case = await _ordered(world)
    await _bounce(case)
    [next_] = explain(world.on_record, case.id, shanghai("2038-03-02")).next
    assert "has bounced" in next_.text
    assert (next_.holds_up, next_.command.split()[:2]) == (True, ["enforce", "served"])
    await case.served("2038-03-01", world.evidence())
    assert not explain(world.on_record, case.id, shanghai("2038-03-02")).next[0].holds_up


async def test_what_the_agent_did_all_the_same_counts(world: World) -> None:
    case = await _ordered(world)
    await _bounce(case)
    await case.rectified()
    await case.verify(passed=True)
    assert (await case.ended()).outcome is Stage.RECTIFIED


async def test_a_bounce_that_is_reported_twice_waits_once(world: World) -> None:
    case = await _ordered(world)
    await _bounce(case)
    await _bounce(case)
    await case.served("2038-03-01", world.evidence())
    await _bounce(case)  # the mail system says so once more
    assert "Awaiting" not in await case.attributes()
    assert sum("bounced" in line for line in await case.told()) == 1
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT


async def test_another_letter_that_arrives_does_not_hide_the_one_that_has_bounced(world: World) -> None:
    case = await _ordered(world)
    await _bounce(case)
    await case.extend(1)
    await case.once(lambda told: len(told.notices) == 2)
    assert (await case.attributes())["Awaiting"] == [Awaiting.DELIVERY]
    assert [wait.ended_at for wait in world.rows(Wait) if wait.what is Awaiting.DELIVERY] == [None]


@pytest.mark.parametrize("notice_no", ["SS-2026-00001-N1", "N1", ""])
async def test_a_bounce_of_a_letter_that_the_case_never_sent_ends_where_an_officer_sees_it(
    world: World, notice_no: str
) -> None:
    case = await _ordered(world)
    await case.signal("notice_bounced", {"notice_no": notice_no, "reason": WHY})
    await case.once(lambda told: Awaiting.REFUSED_MESSAGE in told.awaiting)
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT


async def test_what_had_not_arrived_when_the_case_ended_is_asked_for_no_more(world: World) -> None:
    case = await _ordered(world)
    await _bounce(case)
    await case.dismiss()
    assert (await case.ended()).outcome is Stage.DISMISSED
    assert [wait.what for wait in world.rows(Wait) if wait.ended_at is None] == []
