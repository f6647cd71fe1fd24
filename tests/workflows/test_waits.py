"""Rulebook 5.7: the platform's own delays are on a clock too, which the daily round looks at."""

from datetime import date

from registry.models import AuditLine, Wait
from rulebook.vocabulary import Awaiting, Kind, Stage
from tests.conftest import ADDRESSES
from tests.world import CaseInTime, World, a_report, an_agent


async def _awaits_verification(world: World, on: str) -> CaseInTime:
    """A case whose agent reports rectification on that day."""
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on=on)
    await case.rectified()
    return case


async def _brought_up(world: World, *days: str) -> list[str]:
    """The mails that officers and their supervisor have got once the rounds of these days are made."""
    for day in days:
        await world.round(on=day)
    return sorted(
        letter["Subject"] + " → " + letter["To"].partition("@")[0]
        for letter in world.letters()
        if letter["To"] in (ADDRESSES.officers, ADDRESSES.supervisor)
    )


async def test_a_verification_that_waits_is_brought_up_each_working_day_until_it_is_done(
    world: World,
) -> None:
    # 2 March 2038 is a Tuesday.
    case = await _awaits_verification(world, on="2038-03-02")
    assert await _brought_up(world, "2038-03-02", "2038-03-03") == []
    once = "待办提醒：1 项工作等候合规人员处理"
    assert await _brought_up(world, "2038-03-04") == [f"{once} 2038-03-04 → officers"]
    again = await _brought_up(world, "2038-03-05", "2038-03-06", "2038-03-07")
    assert again == [f"{once} 2038-03-04 → officers", f"{once} 2038-03-05 → officers"]
    escalated = await _brought_up(world, "2038-03-08")
    assert escalated[2:] == [
        f"{once} 2038-03-08 → officers",
        "超期督办：1 项工作长期未处理 2038-03-08 → supervisor",
    ]
    [wait] = world.rows(Wait)
    assert (wait.what, wait.raised, wait.escalated_on) == (Awaiting.VERIFICATION, 3, date(2038, 3, 8))

    await case.until("2038-03-08", "15:00")
    await case.verify(passed=True)
    assert await _brought_up(world, "2038-03-09", "2038-03-10") == escalated
    assert (await case.ended()).outcome is Stage.RECTIFIED


async def test_the_agent_pays_nothing_for_the_officers_delay_and_the_trail_is_not_filled_with_it(
    world: World,
) -> None:
    case = await _awaits_verification(world, on="2038-03-02")
    await _brought_up(world, "2038-03-08")
    assert await case.until("2038-03-08", "15:00") is Stage.RECTIFICATION
    assert [line.text for line in world.rows(AuditLine) if "brought up" in line.text] == []
    assert len(await case.told()) == 3


async def test_a_rectification_reported_again_after_a_failed_verification_waits_anew(world: World) -> None:
    case = await _awaits_verification(world, on="2038-03-02")
    await case.until("2038-03-03", "15:00")
    await case.verify(passed=False)
    await case.until("2038-03-04", "10:00")
    await case.rectified()
    assert await _brought_up(world, "2038-03-04", "2038-03-05") == []
    assert len(await _brought_up(world, "2038-03-08")) == 1


async def test_holidays_of_the_platform_do_not_count_and_bring_nothing_up(world: World) -> None:
    world.arrange(dict.fromkeys(("2038-03-03", "2038-03-05"), False), closing=True)
    world.arrange({"2038-03-06": True})  # a Saturday that is made up
    await _awaits_verification(world, on="2038-03-02")
    assert await _brought_up(world, "2038-03-04", "2038-03-05") == []
    [brought_up] = await _brought_up(world, "2038-03-06", "2038-03-07")
    assert "2038-03-06" in brought_up


async def test_an_appeal_a_finding_and_an_undelivered_letter_are_on_the_clock_too(world: World) -> None:
    [appealing], [serious] = an_agent(world.on_record), an_agent(world.on_record)
    [away] = an_agent(world.on_record, email=" ")
    case = await world.open(a_report(appealing), on="2038-03-02")
    await case.appeal()
    fraud = await world.open(a_report(serious, kind=Kind.FRAUD), on="2038-03-02")
    await world.propose(await fraud.case_no(), on="2038-03-02")
    await world.open(a_report(away), on="2038-03-02")
    await _brought_up(world, "2038-03-04")
    waiting = sorted((wait.what, wait.raised) for wait in world.rows(Wait))
    assert waiting == [(Awaiting.APPEAL, 1), (Awaiting.APPROVAL, 1), (Awaiting.DELIVERY, 1)]
