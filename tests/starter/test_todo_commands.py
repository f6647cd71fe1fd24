"""`enforce todo` and `enforce due`: what waits for officers (5.7), and which limits end when."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from typer.main import get_command

from activities.advice import command
from registry import inbox, waits
from registry.models import Incoming, Notice, Wait
from rulebook.deadlines import Deadline
from rulebook.vocabulary import Awaiting, IncomingStatus, Stage
from starter.cli import program
from tests.starter.conftest import Enforce
from tests.world import World, a_report, an_agent, shanghai


async def _begin(world: World, number: str, since: str, what: Awaiting = Awaiting.VERIFICATION) -> str:
    """Let something of a new case wait since a day; the case's number."""
    case_no = await (await world.open(a_report(number))).case_no()
    with world.on_record.begin() as session:
        waits.begin(session, case_no, what, shanghai(since))
    return case_no


async def _listed(enforce: Enforce, case_no: str, *words: str, **env: str) -> list[dict[str, Any]]:
    """What of this case is in the list: the registry is shared with other tests."""
    told = await enforce("todo", "--json", "--limit", "100000", *words, **env)
    assert told.code == 0, told.err
    return [task for task in told.json if task["case_no"] == case_no]


async def test_what_waits_is_listed_with_the_command_to_type_until_it_is_done(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case_no = await (await world.open(a_report(number))).case_no()
    assert await _listed(enforce, case_no) == []
    await enforce("rectified", number)
    [task] = await _listed(enforce, case_no)
    assert (task["number"], task["what"], task["working_days"]) == (number, "verification", 0)
    assert task["next"] == f"enforce verify {case_no} --pass"
    told = (await enforce("case", case_no, "--json")).json
    assert datetime.fromisoformat(task["deadline"]) == Deadline.model_validate(told["deadline"]).at

    await enforce(*task["next"].split()[1:])
    assert await _listed(enforce, case_no) == []


async def test_a_case_that_is_held_is_not_forgotten(world: World, enforce: Enforce) -> None:
    held, settled = an_agent(world.on_record, numbers=2)
    cases = [await world.open(a_report(number)) for number in (held, settled)]
    case_no, other = [await case.case_no() for case in cases]
    for number in (held, settled):
        await enforce("hold", number, "--reason", "等待公安机关反馈")
    [task] = await _listed(enforce, case_no)
    assert (task["what"], task["next"]) == ("resumption", f"enforce resume {case_no}")
    listed = await enforce("cases", "--awaiting", "resumption", "--number", held, "--json")
    assert [case["case_no"] for case in listed.json] == [case_no]

    await enforce(*task["next"].split()[1:])
    assert await _listed(enforce, case_no) == []
    assert (await cases[0].story()).awaiting == ()

    await enforce("rectified", settled)
    await enforce("verify", settled, "--pass")
    assert (await cases[1].ended()).outcome is Stage.RECTIFIED
    assert await _listed(enforce, other) == []


async def test_what_was_taken_to_the_supervisor_comes_first_then_the_nearest_deadline(
    world: World, enforce: Enforce
) -> None:
    numbers = an_agent(world.on_record, numbers=3)
    later, sooner = [await _begin(world, number, "2026-01-07") for number in numbers[:2]]
    escalated = await _begin(world, numbers[2], "2026-01-08")
    with world.on_record.begin() as session:
        for wait in session.query(Wait).where(Wait.case_no == escalated):
            wait.raised, wait.raised_on, wait.escalated_on = 5, date(2026, 1, 14), date(2026, 1, 12)
        for notice in session.query(Notice).where(Notice.case_no == sooner):
            notice.last_day = date(2026, 1, 9)
    mine = [later, sooner, escalated]
    told = (await enforce("todo", "--json", "--limit", "100000")).json
    assert [task["case_no"] for task in told if task["case_no"] in mine] == [escalated, sooner, later]


async def test_an_appeal_stops_the_clock_and_so_has_no_deadline(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), "2038-03-01")
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT
    await case.appeal()
    [task] = await _listed(enforce, await case.case_no())
    assert (task["what"], task["deadline"]) == ("appeal", None)


async def test_a_decision_that_another_officer_has_to_take_says_so(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case_no = await (await world.open(a_report(number))).case_no()
    await enforce("rectified", number)
    await enforce("verify", number, "--fail", "--reason", "仍由原使用人接听", ENFORCE_OFFICER="张伟")
    await enforce("appeal", number, "--statement", "号码一直由登记客户使用")
    assert [task["by_another"] for task in await _listed(enforce, case_no, ENFORCE_OFFICER="张伟")] == [True]
    assert [task["by_another"] for task in await _listed(enforce, case_no, ENFORCE_OFFICER="王静")] == [False]


async def test_mine_is_what_i_may_do_in_cases_that_i_have_had_a_hand_in(
    world: World, enforce: Enforce
) -> None:
    mine, others = an_agent(world.on_record, numbers=2)
    me = f"李敏{mine}"
    first = await (await world.open(a_report(mine))).case_no()
    second = await (await world.open(a_report(others))).case_no()
    await enforce("rectified", mine, ENFORCE_OFFICER=me)
    await enforce("rectified", others, ENFORCE_OFFICER="张伟")
    told = (await enforce("todo", "--mine", "--json", ENFORCE_OFFICER=me)).json
    assert [task["case_no"] for task in told] == [first] != [second]


async def test_a_message_that_was_refused_waits_for_an_officer_too(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    case_no = await case.case_no()
    await case.signal("payment_received", {"amount": "viel"})
    await case.once(lambda told: Awaiting.REFUSED_MESSAGE in told.awaiting)
    for _ in range(100):  # until visibility, which is eventual, has it
        if found := await _listed(enforce, case_no):
            break
    [task] = found
    assert (task["what"], task["next"]) == ("refused-message", f"enforce case {case_no}")


async def test_a_case_that_was_ended_by_force_waits_until_a_report_takes_it_up_again(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    case_no = await case.case_no()
    await case.handle.terminate()
    for _ in range(100):  # until visibility, which is eventual, has it
        if found := await _listed(enforce, case_no):
            break
    [task] = found
    assert (task["what"], task["next"]) == ("failed", f"enforce case {case_no} --web")
    again = await world.open(a_report(number))
    assert await again.case_no() == case_no
    assert await _listed(enforce, case_no) == []


async def test_a_report_that_was_parked_waits_for_an_officer_too(world: World, enforce: Enforce) -> None:
    named = f"R-{uuid4()}"
    with world.on_record.begin() as session:
        inbox.put(session, [inbox.Arrival("dial-back", named, {"kind": "?"})], "sql")
        [row] = session.query(Incoming).where(Incoming.report_id == named)
        row.status, row.reason = IncomingStatus.PARKED, "the registry raises"
        row.settled_at = datetime.now(UTC)
    told = (await enforce("todo", "--json", "--limit", "100000")).json
    [task] = [task for task in told if named in task["about"]]
    assert task["what"] == "report"
    assert (await enforce(*task["next"].split()[1:])).code == 0


async def test_the_limits_that_end_on_a_day_are_listed_with_what_follows(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    deadline = (await case.story()).deadline
    assert deadline
    day = deadline.last_day
    for _ in range(100):
        found = [e for e in (await enforce("due", str(day), "--json")).json if e["number"] == number]
        if found:
            break
    [entry] = found
    assert (entry["stage"], entry["then"]) == ("rectification", "the agent is fined")
    before = await enforce("due", str(day - timedelta(days=1)), "--json")
    after = await enforce("due", str(day + timedelta(days=1)), "--json")
    assert number not in before.out + after.out


async def test_a_day_that_is_none_is_not_understood(enforce: Enforce) -> None:
    ran = await enforce("due", "someday")
    assert (ran.code, ran.out) == (2, "")
    assert "is none of today, tomorrow, week, or a date like 2026-12-01" in ran.err


async def test_names_from_outside_cannot_act_in_the_terminal(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record, name="[red]甲\x1b[0m\n1")
    await _begin(world, number, "2026-01-06")
    shown = (await enforce("todo", "--limit", "100000")).out
    assert "[red]甲 [0m 1" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("what", Awaiting)
def test_every_command_that_officers_are_told_to_type_exists(what: Awaiting) -> None:
    enforce, name, *words = command(what, "SS-2026-00001", "4008001234").split()
    known = get_command(program()).commands[name].params  # type: ignore[attr-defined]
    options = {option for known_one in known for option in (*known_one.opts, *known_one.secondary_opts)}
    assert enforce == "enforce"
    assert {word for word in words if word.startswith("--")} <= options
