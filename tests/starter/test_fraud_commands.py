"""What officers decide in a case of fraud, at the command line."""

from datetime import date, datetime, timedelta

from registry.models import Number
from rulebook.vocabulary import SHANGHAI, Kind, Stage
from tests.starter.conftest import Enforce
from tests.world import World, a_report, an_agent
from workflows.daily import DailyRound


async def test_serious_circumstances_need_a_second_officer_and_every_filing_done(
    world: World, enforce: Enforce
) -> None:
    [number, other] = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(number, kind=Kind.FRAUD))
    proposed = await enforce("serious", number, "--reason", "涉案金额巨大", "--evidence", "报案回执")
    assert "it awaits approval by another officer" in proposed.out, proposed.err
    again = await enforce("serious", number, "--reason", "x")
    assert (again.code, "are proposed already" in again.err) == (1, True)
    assert "next: enforce approve" in (await enforce("case", number)).out
    alone = await enforce("approve", number)
    assert (alone.code, "another officer has to approve" in alone.err) == (1, True)
    approved = await enforce("approve", number, "--officer", "王静")
    assert "closed for good" in approved.out, approved.err

    assert (await case.ended()).outcome is Stage.CLOSED_FOR_GOOD
    assert await world.found(f"Number = '{number}' and Awaiting = 'filing'")
    told = (await enforce("case", number, "--json")).json
    assert told["awaiting"] == ["filing"]
    filings = [filing["filing_no"] for filing in told["filings"]]
    early = await enforce("filing", filings[0], "acknowledged")
    assert (early.code, "it can't become acknowledged" in early.err) == (1, True)
    bare = await enforce("filing", filings[0], "waived")
    assert (bare.code, "needs a reason" in bare.err) == (1, True)
    for left, filing in reversed(list(enumerate(reversed(filings)))):
        waived = await enforce("filing", filing, "waived", "--reason", "演练")
        assert f"{left} left to do" in waived.out, waived.err
    assert not await world.found(f"Number = '{number}' and Awaiting = 'filing'", expected=0)
    assert (await enforce("case", number, "--json")).json["awaiting"] == []

    agent = (await enforce("agent", (await case.story()).agent_id, "--json")).json
    assert (agent["account"], agent["qualified"], agent["debt"]) == ("closed", False, "30000.00")
    assert [resting["number"] for resting in agent["quarantine"]] == sorted([number, other])


async def test_a_paid_fraud_is_reopened_and_unfrozen_by_separate_commands(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.FRAUD))
    early = await enforce("reopen", number)
    assert (early.code, "is still open" in early.err) == (1, True)
    await enforce("paid", number, "30000", "--reference", f"ICBC-{number}")
    assert (await case.ended()).outcome is Stage.SETTLED
    agent_id = (await case.story()).agent_id
    assert "suspended, by case FR-" in (await enforce("agent", agent_id)).out
    assert "reopened" in (await enforce("reopen", number)).out
    assert "unfrozen" in (await enforce("unfreeze", number)).out
    twice = await enforce("unfreeze", number)
    assert (twice.code, "is active, not frozen" in twice.err) == (1, True)
    late = await enforce("serious", number, "--reason", "x")
    assert (late.code, "has been reopened since: too late" in late.err) == (1, True)
    assert "numbers        1 active, agent" in (await enforce("agent", agent_id)).out


async def test_serious_circumstances_are_for_fraud_only(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number))
    said = await enforce("serious", number, "--reason", "x")
    assert (said.code, "there is no case of fraud" in said.err) == (1, True)
    assert (await enforce("approve", number)).code == 1
    assert (await enforce("agent", "nobody")).err == "error: no agent nobody is in the registry\n"


async def test_a_renewal_of_direct_service_is_listed_and_recorded(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.SERVICE_FAILURE), on="2038-03-01")
    assert await case.until("2038-03-05") is Stage.TAKEN_BACK
    due, later = (str(datetime.now(SHANGHAI).date() + timedelta(days=days)) for days in (10, 375))
    with world.on_record.begin() as session:
        session.get_one(Number, number).renewal_due = date.fromisoformat(due)
    queue = world.task_queue
    await world.client.execute_workflow(DailyRound.run, id=f"round-{number}", task_queue=queue)

    listed = (await enforce("renewals", "--json")).json
    assert (number, due) in [(renewal["number"], renewal["due"]) for renewal in listed]
    early = await enforce("renewed", number, "--until", due)
    assert (early.code, f"the next renewal comes after {due}" in early.err) == (1, True)
    done = await enforce("renewed", number, "--until", later)
    assert f"next renewal {later}" in done.out, done.err
    assert "is waiting" in (await enforce("renewed", number, "--until", later)).err
