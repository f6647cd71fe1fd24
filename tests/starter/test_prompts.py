"""What a person at a terminal is asked for, and nobody else."""

import json
import os
import signal
import subprocess

import pytest

from registry.models import AuditLine
from rulebook.vocabulary import Awaiting, Kind, Stage, written
from tests.starter.screen import CTRL_C, CTRL_D, ENFORCE, Officer
from tests.world import CaseInTime, World, a_report, an_agent


async def a_case(world: World, kind: Kind = Kind.SECONDARY_SALE) -> tuple[str, CaseInTime]:
    [number] = an_agent(world.on_record)
    return number, await world.open(a_report(number, kind=kind))


def done(world: World, words: str) -> list[str]:
    return [line.text for line in world.rows(AuditLine) if words in line.text]


@pytest.mark.parametrize("reason", ["台风 停工", "-1 天", "--yes"])
async def test_each_thing_that_is_missing_is_asked_for_and_the_command_then_done(
    world: World, officer: Officer, reason: str
) -> None:
    number, _ = await a_case(world)
    async with officer("extend") as screen:
        await screen.shows("CASE (case number, workflow id, or 400 number): ")
        screen.type(f"{written(number)}\n")
        await screen.shows("DAYS (working days to add): ")
        screen.type("2\n")
        await screen.shows("--reason: ")
        screen.type(f"{reason}\n")
        assert await screen.ended() == 0, screen.text
    assert len(done(world, f"Limit extended by 2 working days ({reason})")) == 1


@pytest.mark.parametrize("words", [("NUMBER",), ("--", "NUMBER"), ("--reason", "--", "NUMBER")])
async def test_what_was_given_keeps_its_place_before_what_is_asked_for(
    world: World, officer: Officer, words: tuple[str, ...]
) -> None:
    number, _ = await a_case(world)
    async with officer("extend", *(number if word == "NUMBER" else word for word in words)) as screen:
        await screen.shows("DAYS (working days to add): ")
        screen.type("2\n停工\n")
        await screen.ended()
    assert len(done(world, "extended by 2 working days")) == 1, screen.text


@pytest.mark.parametrize("answer", ["--help", "甲 乙"])
async def test_an_answer_is_never_taken_for_an_option(officer: Officer, answer: str) -> None:
    async with officer("case") as screen:
        await screen.shows("CASE")
        screen.type(f"{answer}\n")
        assert await screen.ended() == 1
    assert f"'{answer}' names no case" in screen.text


async def test_an_empty_answer_is_asked_for_again(world: World, officer: Officer) -> None:
    number, case = await a_case(world)
    async with officer("hold", number) as screen:
        await screen.shows("--reason (the agent reads it): ")
        screen.type("\n  \n")
        screen.type(b"\xb5\xc8\xb4\xfd\n")
        await screen.shows("that is not text in utf-8")
        screen.type("等待反馈\n")
        assert await screen.ended() == 0, screen.text
    assert screen.text.count("--reason (the agent reads it): ") == 4
    assert (await case.story()).deadline is None


@pytest.mark.parametrize("command", ["extend", "dismiss", "report", "watch"])
async def test_nobody_is_asked_where_input_is_no_terminal(officer: Officer, command: str) -> None:
    async with officer(command, stdin=subprocess.DEVNULL) as screen:
        assert await screen.ended() == 2
    assert "Missing argument" in screen.text
    assert "Traceback" not in screen.text


def test_nobody_is_asked_where_there_is_no_input_at_all() -> None:
    closed = f"exec {ENFORCE} verify 4008001234 <&-"
    ran = subprocess.run(["sh", "-c", closed], env={"ENFORCE_OFFICER": "x"}, capture_output=True, check=False)
    assert (ran.returncode, b"Say --pass or --fail" in ran.stderr) == (1, True), ran.stderr


async def test_who_verifies_is_asked_what_was_found(world: World, officer: Officer) -> None:
    number, case = await a_case(world)
    await case.rectified()
    async with officer("verify", number) as screen:
        await screen.shows("What was found? [pass/fail]: ")
        screen.type("perhaps\n")
        screen.type("P\n")
        assert await screen.ended() == 0, screen.text
    assert "reason" not in screen.text
    assert (await case.ended()).outcome is Stage.RECTIFIED


async def test_who_found_nothing_rectified_is_asked_why(world: World, officer: Officer) -> None:
    number, case = await a_case(world)
    await case.rectified()
    async with officer("verify", number) as screen:
        await screen.shows("What was found? [pass/fail]: ")
        screen.type("fail\n")
        await screen.shows("--reason (the agent reads it): ")
        screen.type("-回拨 仍由原使用人接听\n")
        assert await screen.ended() == 0, screen.text
    assert done(world, "-回拨 仍由原使用人接听")


async def test_what_is_said_beside_the_output_does_not_get_into_it(world: World, officer: Officer) -> None:
    number, case = await a_case(world)
    await case.rectified()
    reads, writes = os.pipe()
    async with officer("verify", number, "--json", stdout=writes) as screen:
        os.close(writes)
        await screen.shows("What was found? [pass/fail]: ")
        screen.type("pass\n")
        assert await screen.ended() == 0, screen.text
    with os.fdopen(reads) as output:
        printed = output.read()
    assert printed.startswith("{")
    assert json.loads(printed)["workflow_id"] == case.id


async def test_who_decides_an_appeal_is_asked_how_and_undoes_nothing_by_a_slip(
    world: World, officer: Officer
) -> None:
    number, case = await a_case(world)
    await case.appeal()
    async with officer("decide", number, "--officer", "王静") as screen:
        await screen.shows("--reason (the agent reads it): ")
        screen.type("已复核\n")
        await screen.shows("does the case stand? [uphold/overturn]: ")
        screen.type("overturn\n")
        await screen.shows(f"type {number} to go on: ")
        screen.type("4000000000\n")
        assert await screen.ended() == 1
    assert f"that is not {number}: nothing was done" in screen.text
    assert (await case.story()).awaiting == (Awaiting.APPEAL,)

    async with officer("decide", number, "--officer", "王静", "--overturn", "--reason", "x") as screen:
        await screen.shows("everything that the case did is undone; this can't be undone easily")
        screen.type(f"{number}\n")
        assert await screen.ended() == 0, screen.text
    assert (await case.ended()).outcome is Stage.OVERTURNED


async def test_an_appeal_is_upheld_without_more_ado(world: World, officer: Officer) -> None:
    number, case = await a_case(world)
    await case.appeal()
    async with officer("decide", number, "--officer", "王静", "--reason", "x") as screen:
        await screen.shows("[uphold/overturn]: ")
        screen.type("up\n")
        assert await screen.ended() == 0, screen.text
    assert "to go on" not in screen.text
    assert (await case.story()).awaiting == ()


async def test_a_case_is_dismissed_once_its_number_is_typed(world: World, officer: Officer) -> None:
    number, case = await a_case(world)
    for typed, code in ((number[:-1], 1), ("yes", 1), (written(number), 0)):
        async with officer("dismiss", number, "--reason", "误报") as screen:
            await screen.shows(f"type {number} to go on: ")
            assert (await case.stage()).ended is False
            screen.type(f"{typed}\n")
            assert await screen.ended() == code, screen.text
    assert (await case.ended()).outcome is Stage.DISMISSED


async def test_a_shutdown_is_taken_back_once_the_number_is_typed(world: World, officer: Officer) -> None:
    number, case = await a_case(world)
    async with officer("reinstate", number, "--reason", "已缴清") as screen:
        await screen.shows("the shutdown is taken back")
        await screen.shows(f"type {number} to go on: ")
        screen.type("4000000000\n")
        assert await screen.ended() == 1, screen.text
    assert (await case.stage()).ended is False


async def test_an_agency_is_closed_for_good_once_the_number_is_typed(world: World, officer: Officer) -> None:
    number, case = await a_case(world, Kind.FRAUD)
    async with officer("serious", number, "--reason", "涉案金额巨大") as screen:
        assert await screen.ended() == 0, screen.text
    for typed, code in (("4000000000", 1), (written(number), 0)):
        assert (await case.stage()).ended is False
        async with officer("approve", number, "--officer", "王静") as screen:
            await screen.shows("the account is closed for good")
            await screen.shows(f"type {number} to go on: ")
            screen.type(f"{typed}\n")
            assert await screen.ended() == code, screen.text
    assert (await case.ended()).outcome is Stage.CLOSED_FOR_GOOD


@pytest.mark.parametrize(("keys", "code"), [(CTRL_C, -signal.SIGINT), (CTRL_D, 1)])
@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("extend", "NUMBER", "2"), "--reason: "),
        (("extend",), "CASE"),
        (("verify", "NUMBER"), "[pass/fail]: "),
        (("dismiss", "NUMBER", "--reason", "x"), "to go on: "),
        (("bulk", "hold", "--number", "NUMBER", "--reason", "x"), "[y/N]: "),
    ],
)
async def test_nothing_is_done_when_a_person_leaves_instead_of_answering(
    world: World, officer: Officer, words: tuple[str, ...], question: str, keys: str, code: int
) -> None:
    number, case = await a_case(world)
    await case.rectified()
    await world.found(f"Number = '{number}' AND Stage = 'rectification'")
    before = await case.told()
    async with officer(*(number if word == "NUMBER" else word for word in words)) as screen:
        await screen.shows(question)
        mode = screen.mode()
        screen.type(keys)
        assert await screen.ended() == code, screen.text
        assert screen.mode() == mode
    assert "Traceback" not in screen.text
    assert await case.told() == before
