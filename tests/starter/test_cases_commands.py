"""Cases in a terminal: the story with its timeline, the lists, a case that is watched."""

import asyncio
import re

import pytest
from rich.cells import cell_len

from rulebook.vocabulary import Kind, Stage, written
from tests.starter.conftest import Enforce
from tests.starter.screen import CTRL_C, Officer
from tests.world import World, a_report, an_agent

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9]+)*m")
LONG = "广西壮族自治区南宁市青秀山风景名胜旅游开发区企业通信服务有限责任公司"


async def test_the_story_is_drawn_as_a_line_of_days_down_to_the_limit_that_runs(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01", at="09:30")
    assert await case.until("2038-03-05") is Stage.PAYMENT
    drawn = (await enforce("case", number)).out.partition("Asia/Shanghai")[2].partition("the limit ends")
    line = [row for row in f"{drawn[0]}{drawn[1]}".splitlines() if row.strip()]
    moments = [row[:16] for row in line if "●" in row]
    assert moments == sorted(moments)
    assert moments[0] == "2038-03-01 09:30"
    [passed] = [n for n, row in enumerate(line[:-2]) if "┊" in row]
    assert line[passed].split() == ["┊", "3", "days"]
    assert (line[passed - 1][:10], line[passed + 1][:10]) == ("2038-03-01", "2038-03-05")
    assert line[-1].split() == ["2038-03-12", "24:00", "○", "the", "limit", "ends"]


async def test_the_line_of_a_case_that_has_ended_has_no_limit(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.dismiss("登记信息已于举报前变更")
    await case.ended()
    drawn = (await enforce("case", number)).out
    assert "登记信息已于举报前变更" in drawn
    assert "○" not in drawn


@pytest.mark.parametrize("columns", [80, 160])
async def test_every_line_fits_the_terminal_with_the_longest_names(
    world: World, officer: Officer, columns: int
) -> None:
    [number] = an_agent(world.on_record, name=LONG, contact=LONG)
    case = await world.open(a_report(number, facts=LONG * 3))
    await case.rectified(statement=LONG * 3)
    await case.verify(passed=False, reason=LONG * 2)
    await case.appeal(statement=LONG * 3)
    story = await case.once(lambda told: bool(told.awaiting))
    await world.found(f"Number = '{number}' AND Awaiting = 'appeal'")
    for words in (
        ("case", number),
        ("cases", "--number", number),
        ("todo", "--limit", "1000"),
        ("agent", story.agent_id),
    ):
        async with officer(*words, columns=columns) as screen:
            assert await screen.ended() == 0, screen.text
        shown = CONTROL.sub("", screen.text).split("\r\n")
        assert (words, [row for row in shown if cell_len(row) > columns]) == (words, [])
        assert (words, written(number) in screen.text or story.case_no in screen.text) == (words, True)


async def test_a_terminal_has_colours_unless_they_are_not_wanted(
    world: World, officer: Officer, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number))
    async with officer("case", number) as screen:
        await screen.ended()
    assert COLOUR.search(screen.text)
    async with officer("case", number, more={"NO_COLOR": "1"}) as screen:
        await screen.ended()
    assert "rectification" in screen.text
    assert not COLOUR.search(screen.text)
    assert "\x1b" not in (await enforce("case", number)).out


async def test_who_watches_through_a_pipe_gets_each_line_once_until_the_case_ends(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    watching = asyncio.ensure_future(enforce("watch", number))
    await case.rectified(statement="已收回号码")
    await case.verify(passed=True)
    ran = await watching
    assert (ran.code, ran.err) == (0, "")
    told = [row.partition(" ")[2] for row in ran.out.splitlines()]
    lines = (await enforce("case", number, "--json")).json["lines"]
    assert len(told) == len(lines)
    assert all(line["text"] in row for line, row in zip(lines, told, strict=True))


async def test_who_watches_at_a_terminal_sees_the_story_drawn_anew_until_the_case_ends(
    world: World, officer: Officer
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    async with officer("watch", number) as screen:
        await screen.shows("the limit ends")
        mode = screen.mode()
        await case.rectified(statement="已收回号码")
        await screen.shows("已收回号码")
        await case.verify(passed=True)
        assert await screen.ended() == 0
        assert screen.mode() == mode
    last = screen.text.rpartition("Asia/Shanghai")[2]
    assert "Case closed: rectified" in last
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")


async def test_ctrl_c_ends_the_watching_and_leaves_the_terminal_in_order(
    world: World, officer: Officer
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    async with officer("watch", number) as screen:
        mode = screen.mode()
        await screen.shows("the limit ends")
        screen.type(CTRL_C)
        assert await screen.ended() == 130
        assert screen.mode() == mode
    assert "Traceback" not in screen.text
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")
    assert await case.stage() is Stage.RECTIFICATION


async def test_a_list_opens_in_the_web_ui_as_the_terminal_shows_it(world: World, enforce: Enforce) -> None:
    words = ("--kind", Kind.FRAUD, "--agent", "A 1", "--web")
    shown = await enforce("cases", *words, BROWSER="true")
    assert shown.code == 0, shown.err
    assert shown.out.startswith(
        "http://web.example/namespaces/default/workflows?query=WorkflowType%20IN%20%28"
    )
    assert "ExecutionStatus%20%3D%20%27Running%27" in shown.out
    assert "Agent%20%3D%20%27A%201%27" in shown.out
