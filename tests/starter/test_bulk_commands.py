"""One command of an officer for all cases that a filter finds: each gets it once, and answers."""

import asyncio

import pytest
from sqlalchemy import select
from temporalio.service import RPCError, RPCStatusCode

from registry.models import AuditLine, Number
from rulebook.vocabulary import Awaiting, Kind, Stage
from starter.cli.many import carry_out
from starter.settings import Unreachable
from tests.starter.conftest import Enforce
from tests.starter.screen import CTRL_C, Officer
from tests.world import CaseInTime, World, a_report, an_agent


async def some_cases(world: World, count: int) -> tuple[str, list[CaseInTime]]:
    """An agent with so many open cases, whose limits run."""
    numbers = an_agent(world.on_record, numbers=count)
    with world.on_record() as session:
        agent_id = session.get_one(Number, numbers[0]).agent_id
    cases = [await world.open(a_report(number)) for number in numbers]
    for case in cases:
        await case.once(lambda told: told.deadline is not None)
    await world.found(f"Agent = '{agent_id}' AND Stage = 'rectification'", expected=count)
    return agent_id, cases


def done(world: World, words: str) -> list[str]:
    """The cases in whose trail this stands, as often as it does."""
    with world.on_record() as session:
        lines = select(AuditLine.case_no).where(AuditLine.text.contains(words, autoescape=True))
        return sorted(str(case_no) for case_no in session.scalars(lines))


async def numbers_of(cases: list[CaseInTime]) -> list[str]:
    return sorted([await case.case_no() for case in cases])


async def test_each_case_that_the_filter_finds_is_extended_and_no_other(
    world: World, enforce: Enforce
) -> None:
    agent_id, cases = await some_cases(world, 3)
    _, [other] = await some_cases(world, 1)
    before = await cases[0].last_day()
    told = await enforce("bulk", "extend", "2", "--agent", agent_id, "--reason", "台风停工", "--yes")
    assert (told.code, told.err) == (0, "")
    assert "3 of 3 cases done" in told.out
    assert done(world, "Limit extended by 2 working days (台风停工)") == await numbers_of(cases)
    assert [await case.last_day() for case in (*cases, other)] != [before] * 4
    assert await other.last_day() == before


async def test_the_same_command_again_extends_none_twice(world: World, enforce: Enforce) -> None:
    agent_id, cases = await some_cases(world, 2)
    words = ("bulk", "extend", "2", "--agent", agent_id, "--yes", "--json", "--reason")
    await enforce("extend", cases[0].id, "2", "--reason", "台风停工")
    told = await enforce(*words, "台风停工")
    assert [case["workflow_id"] for case in told.json["cases"]] == [cases[1].id]
    assert told.json["done_before"] == [await cases[0].case_no()]
    assert (await enforce(*words, "台风停工")).json["cases"] == []
    assert done(world, "Limit extended") == await numbers_of(cases)
    another = await enforce(*words, "台风停工，第二次")
    assert [case["outcome"] for case in another.json["cases"]] == ["done", "done"]


async def test_clocks_are_held_and_go_on_together(world: World, enforce: Enforce) -> None:
    agent_id, cases = await some_cases(world, 2)
    held = await enforce("bulk", "hold", "--agent", agent_id, "--reason", "等待公安机关反馈", "--yes")
    assert (held.code, "2 of 2 cases done" in held.out) == (0, True), held.err
    for case in cases:
        assert (await case.once(lambda told: told.deadline is None)).deadline is None
    resumed = await enforce("bulk", "resume", "--agent", agent_id, "--yes")
    assert (resumed.code, "2 of 2 cases done" in resumed.out) == (0, True), resumed.err
    for case in cases:
        assert (await case.once(lambda told: told.deadline is not None)).deadline


async def test_what_awaits_verification_is_verified_together(world: World, enforce: Enforce) -> None:
    agent_id, cases = await some_cases(world, 3)
    for case in cases[:2]:
        await case.rectified()
    awaiting = ("--awaiting", Awaiting.VERIFICATION, "--agent", agent_id)
    await world.found(f"Agent = '{agent_id}' AND Awaiting = 'verification'", expected=2)
    told = await enforce("bulk", "verify", *awaiting, "--pass", "--yes")
    assert (told.code, "2 of 2 cases done" in told.out) == (0, True), told.err
    assert [(await case.ended()).outcome for case in cases[:2]] == [Stage.RECTIFIED] * 2
    assert await cases[2].stage() is Stage.RECTIFICATION


async def test_a_case_that_refuses_is_told_and_the_others_are_done(world: World, enforce: Enforce) -> None:
    agent_id, cases = await some_cases(world, 3)
    await cases[1].hold()
    told = await enforce("bulk", "hold", "--agent", agent_id, "--reason", "等待反馈", "--yes", "--json")
    assert told.code == 1
    assert {case["workflow_id"]: (case["outcome"], case["text"]) for case in told.json["cases"]} == {
        cases[0].id: ("done", "held: the clock stands still until it is resumed"),
        cases[1].id: ("refused", "the case is held already"),
        cases[2].id: ("done", "held: the clock stands still until it is resumed"),
    }


async def test_a_dry_run_lists_the_cases_and_does_nothing(world: World, enforce: Enforce) -> None:
    agent_id, cases = await some_cases(world, 2)
    words = ("bulk", "extend", "2", "--agent", agent_id, "--reason", "台风停工", "--dry-run")
    told = await enforce(*words)
    assert (told.code, told.err) == (0, "")
    assert all(case_no in told.out for case_no in await numbers_of(cases))
    assert {case["outcome"] for case in (await enforce(*words, "--json")).json["cases"]} == {"not tried"}
    assert done(world, "Limit extended") == []


async def test_the_filters_narrow_each_other_as_those_of_the_list_do(world: World, enforce: Enforce) -> None:
    agent_id, cases = await some_cases(world, 2)
    number = cases[0].id[-10:]
    last_day = str(await cases[0].last_day())

    async def found(*words: str) -> list[str]:
        told = await enforce("bulk", "resume", "--agent", agent_id, *words, "--dry-run", "--json")
        return sorted(case["workflow_id"] for case in told.json["cases"])

    assert await found("--number", number) == [cases[0].id]
    assert await found("--kind", Kind.SECONDARY_SALE, "--due", last_day) == [case.id for case in cases]
    assert await found("--kind", Kind.FRAUD) == []
    assert await found("--stage", Stage.PAYMENT) == []
    assert await found("--due", "2026-01-01") == []


async def test_nothing_is_done_unasked_where_nobody_sits(world: World, enforce: Enforce) -> None:
    agent_id, _ = await some_cases(world, 1)
    told = await enforce("bulk", "extend", "2", "--agent", agent_id, "--reason", "台风停工")
    assert (told.code, "say --yes" in told.err) == (1, True)
    assert done(world, "Limit extended") == []


async def test_a_person_is_asked_how_many_cases_it_is_for(world: World, officer: Officer) -> None:
    agent_id, cases = await some_cases(world, 2)
    words = ("bulk", "extend", "2", "--agent", agent_id, "--reason", "台风停工")
    for answer, code, extended in (("n", 1, []), ("y", 0, await numbers_of(cases))):
        async with officer(*words) as screen:
            await screen.shows("extend 2 cases by 2 working days? [y/N]")
            assert done(world, "Limit extended") == []
            screen.type(f"{answer}\n")
            assert await screen.ended() == code, screen.text
        assert done(world, "Limit extended") == extended
    assert "2 of 2 cases done" in screen.text


async def test_ctrl_c_stops_and_the_same_command_does_the_rest(
    world: World, enforce: Enforce, officer: Officer
) -> None:
    agent_id, cases = await some_cases(world, 24)
    words = ("bulk", "extend", "1", "--agent", agent_id, "--reason", "台风停工", "--yes")

    async with officer(*words) as screen:
        for _ in range(1500):
            if done(world, "Limit extended"):
                break
            await asyncio.sleep(0.02)  # nothing tells when the first one is
        screen.type(CTRL_C)
        assert await screen.ended() == 130, screen.text
    extended = len(done(world, "Limit extended"))
    assert 0 < extended < 24
    assert f"{extended} of 24 cases done" in screen.text
    again = await enforce(*words)
    assert f"{24 - extended} of {24 - extended} cases done" in again.out, again.err
    assert done(world, "Limit extended") == await numbers_of(cases)


async def test_no_more_are_begun_when_nobody_answers() -> None:
    async def in_vain(nth: int) -> str:
        raise (
            Unreachable("no worker answered") if nth % 2 else RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
        )

    run = await carry_out("cases", range(100), in_vain)
    assert (run.exit_code, run.interrupted) == (3, False)
    assert 10 <= sum(told is not None for told in run.told) < 20


async def test_one_case_that_does_not_answer_keeps_no_other_from_being_done() -> None:
    async def once(nth: int) -> str:
        if nth % 3 == 0:
            raise Unreachable("no worker answered")
        return "done"

    run = await carry_out("cases", range(100), once)
    assert run.exit_code == 3
    assert sum(told is not None and told.refused is None for told in run.told) == 66


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("extend", "2", "--reason", "x"), 2, "which cases? Say --kind"),
        (("verify", "--pass"), 2, "which cases? Say --kind"),
        (("hold", "--agent", "A1"), 2, "--reason"),
        (("verify", "--agent", "A1"), 1, "--pass or --fail"),
        (("extend", "100", "--agent", "A1", "--reason", "x"), 1, "working_days: Input should be less than"),
        (("hold", "--number", "123", "--reason", "x"), 1, "number: String should match"),
        (("resume", "--stage", "nowhere"), 2, "'nowhere' is not one of"),
    ],
)
async def test_what_cannot_be_done_is_said_in_words(
    enforce: Enforce, words: tuple[str, ...], code: int, why: str
) -> None:
    told = await enforce("bulk", *words, "--yes")
    assert (told.code, told.out) == (code, "")
    assert why in told.err


async def test_no_case_matches_is_said_and_is_no_fault(enforce: Enforce) -> None:
    told = await enforce("bulk", "resume", "--agent", "NOBODY", "--yes")
    assert told == (0, "no case matches\n", "")
