"""`enforce waits`: what waits for officers, and the figures of how long they let things wait (5.7)."""

from datetime import date

import pytest
from typer.main import get_command

from activities.advice import command
from registry import waits
from registry.models import Wait
from registry.session import Sessions
from rulebook.vocabulary import Awaiting
from starter.cli import app
from tests.starter.conftest import Enforce
from tests.world import World, a_report, an_agent, shanghai


async def _begin(world: World, number: str, since: str, what: Awaiting = Awaiting.VERIFICATION) -> str:
    """Let something of a new case wait since a day; the case's number."""
    case_no = await (await world.open(a_report(number))).case_no()
    with world.on_record.begin() as session:
        waits.begin(session, case_no, what, shanghai(since))
    return case_no


def _end(on_record: Sessions, case_no: str, on: str, what: Awaiting = Awaiting.VERIFICATION) -> None:
    with on_record.begin() as session:
        waits.end(session, case_no, what, shanghai(on))


async def test_what_waits_is_listed_with_the_command_to_type_until_it_is_done(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    assert (await enforce("waits")).out == "nothing waits for an officer\n"
    await enforce("rectified", number)
    case_no = await case.case_no()
    shown = await enforce("waits")
    assert shown.code == 0, shown.err
    assert case_no in shown.out
    assert "verification" in shown.out
    assert f"enforce verify {case_no} --pass" in shown.out
    [listed] = (await enforce("waits", "--json")).json
    assert (listed["case_no"], listed["number"], listed["what"]) == (case_no, number, "verification")
    assert (listed["working_days"], listed["raised"], listed["escalated_on"]) == (0, 0, None)
    assert listed["next"] == f"enforce verify {case_no} --pass"

    await enforce(*listed["next"].split()[1:])
    assert (await enforce("waits", "--json")).json == []


async def test_what_has_waited_longest_comes_first_with_how_often_it_was_brought_up(
    world: World, enforce: Enforce
) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    later = await _begin(world, first, "2026-01-07")
    longest = await _begin(world, second, "2026-01-06", Awaiting.APPEAL)
    with world.on_record.begin() as session:
        [wait] = (wait for wait in session.query(Wait) if wait.case_no == longest)
        wait.raised, wait.raised_on, wait.escalated_on = 5, date(2026, 1, 14), date(2026, 1, 12)
    listed = (await enforce("waits", "--json")).json
    assert [wait["case_no"] for wait in listed] == [longest, later]
    assert (listed[0]["raised"], listed[0]["escalated_on"]) == (5, "2026-01-12")
    assert listed[0]["working_days"] == listed[1]["working_days"] + 1
    heading, *rows = (await enforce("waits")).out.splitlines()
    assert [("5x" in row, "2026-01-12" in row) for row in rows] == [(True, True), (False, False)]
    assert heading.split()[0] == "case"


async def test_the_figures_tell_by_what_it_was_how_long_things_have_waited(
    world: World, enforce: Enforce
) -> None:
    numbers = an_agent(world.on_record, numbers=4)
    # Full working days in between: 0, 1 and 4 of the verifications, 8 of the appeal.
    for number, until in zip(numbers[:3], ("2026-02-03", "2026-02-04", "2026-02-09"), strict=True):
        _end(world.on_record, await _begin(world, number, "2026-02-02"), until)
    appeal = await _begin(world, numbers[3], "2026-01-20", Awaiting.APPEAL)
    _end(world.on_record, appeal, "2026-02-02", Awaiting.APPEAL)
    told = await enforce("waits", "--since", "2026-02-01", "--json")
    assert told.json == [
        {"what": "verification", "count": 3, "median": 1.0, "p90": 4, "raised": 0},
        {"what": "appeal", "count": 1, "median": 8.0, "p90": 8, "raised": 0},
    ]
    shown = (await enforce("waits", "--since", "2026-02-01")).out.splitlines()
    assert [row.split() for row in shown[1:]] == [
        ["verification", "3", "1", "4", "0"],
        ["appeal", "1", "8", "8", "0"],
    ]
    none = await enforce("waits", "--since", "2026-02-10")
    assert (none.code, none.out) == (0, "nothing that waited was done since then\n")


async def test_names_from_outside_cannot_act_in_the_terminal(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record, agent_id="[red]A\x1b[0m\n1")
    await _begin(world, number, "2026-01-06")
    shown = (await enforce("waits")).out
    assert "[red]A [0m 1" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("what", Awaiting)
def test_every_command_that_officers_are_told_to_type_exists(what: Awaiting) -> None:
    enforce, name, *words = command(what, "SS-2026-00001", "4008001234").split()
    known = get_command(app).commands[name].params  # type: ignore[attr-defined]
    options = {option for known_one in known for option in (*known_one.opts, *known_one.secondary_opts)}
    assert enforce == "enforce"
    assert {word for word in words if word.startswith("--")} <= options
