"""The story of a case, as the Web UI shows it."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from markdown_it import MarkdownIt
from temporalio.api.sdk.v1 import WorkflowMetadata

from registry.shown import Line, Story
from rulebook.deadlines import Deadline
from rulebook.money import Balance
from rulebook.vocabulary import Awaiting, Kind, Stage, workflow_id, written
from tests.world import CaseInTime, World, a_report, an_agent, shanghai
from workflows.messages import CaseStart
from workflows.secondary_sale import SecondarySaleCase
from workflows.story import markdown


def _story(**said: Any) -> Story:
    known = {
        "workflow_id": "secondary-sale-4001234567",
        "kind": Kind.SECONDARY_SALE,
        "number": "4001234567",
        "case_no": "SS-2038-00001",
        "customer": "上海乙商贸有限公司",
        "agent_id": "A0001",
        "agent_name": "甲通信有限公司",
        "stage": Stage.RECTIFICATION,
    }
    return Story(**(known | said))


def _line(text: str, by: str = "enforce") -> Line:
    return Line(at=shanghai("2038-03-01"), by=by, text=text)


def _shown(story: Story) -> str:
    return str(MarkdownIt("commonmark").render(markdown(story)))


HOSTILE = {
    "markup": "**乙** _商贸_ `公司` ~~旧~~",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "link": "[点此缴款](https://evil.example)",
    "image": "![x](https://evil.example/x.png)",
    "autolink": "<https://evil.example>",
    "reference": "[乙]: https://evil.example",
    "heading": "乙\n\n# 已结案\n\n- Stage: **rectified**",
    "table": "| a | b |\n|---|---|\n| 1 | 2 |",
    "backslash": "\\*乙\\* \\[x\\](https://evil.example)",
    "code": "```\n乙\n```",
    "direction": "乙\u202e司公",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_text_from_outside_stays_text(text: str) -> None:
    harmless = _shown(
        _story(customer="乙", agent_name="乙", agent_id="乙", lines=(_line("乙", by="乙"), _line("乙")))
    )
    shown = _shown(
        _story(customer=text, agent_name=text, agent_id=text, lines=(_line(text, by=text), _line(text)))
    )
    for tag in ("<a ", "<img", "<script", "<strong>", "<em>", "<code>", "<h1", "<h2", "<h3", "<li>", "<p>"):
        assert shown.count(tag) == harmless.count(tag), tag
    assert "\u202e" not in shown


def test_text_from_outside_is_shown_as_it_was_written() -> None:
    assert "5 * 3 &lt; 16_[注]" in _shown(_story(customer="5 * 3 < 16_[注]"))


def test_where_the_case_stands_comes_first() -> None:
    shown = markdown(
        _story(
            stage=Stage.PAYMENT,
            deadline=Deadline(last_day=date(2038, 3, 12), provisional=True),
            awaiting=(Awaiting.REFUSED_MESSAGE,),
            offence=2,
            balance=Balance(fine=Decimal(2000), paid=Decimal("400.10")),
            lines=(_line("Case SS opened"),),
        )
    )
    where_it_stands, _, story = shown.partition("### Story")
    assert "number 400-123-4567, 私自转售 · secondary sale" in where_it_stands
    assert "- Stage: **payment**" in where_it_stands
    assert "- Deadline: 2038-03-12 24:00 (Asia/Shanghai, provisional)" in where_it_stands
    assert "- Awaiting an officer: **refused-message**" in where_it_stands
    assert "- Fine: ¥2,000.00 (offence 2), paid ¥400.10" in where_it_stands
    assert "- `2038-03-01 10:00` Case SS opened (enforce)" in story


def test_a_long_story_shows_its_newest_lines_and_how_many_are_left_out() -> None:
    shown = markdown(_story(lines=tuple(_line(f"line {serial}.") for serial in range(100))))
    assert "line 99." in shown
    assert "line 0." not in shown
    left_out = next(line for line in shown.splitlines() if "earlier lines are in the registry" in line)
    assert int(left_out.split()[1]) == 100 - shown.count("(enforce)")


async def _details(case: CaseInTime) -> str:
    """The current details, asked for as the Web UI does."""
    asked: WorkflowMetadata = await case.handle.query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    return asked.current_details


async def test_the_details_show_stage_and_deadline(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    assert "- Stage: **rectification**\n- Deadline: 2038-03-04 24:00" in await _details(case)

    await case.until("2038-03-05", "00:11")

    details = await _details(case)
    assert "- Stage: **payment**\n- Deadline: 2038-03-12 24:00" in details
    assert "- Fine: ¥1,000.00 (offence 1), paid ¥0.00" in details


async def test_the_details_follow_every_message(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.rectified(statement="号码已收回")
    assert "- Awaiting an officer: **verification**" in await _details(case)
    await case.paid("10", "工行-1")
    assert "¥10.00 paid, reference 工行" in await _details(case)
    await case.verify(passed=False, reason="仍在使用")
    details = await _details(case)
    assert "仍在使用 (李敏)" in details
    assert "Awaiting an officer" not in details


async def test_hostile_names_stay_text_in_the_details(world: World) -> None:
    [number] = an_agent(world.on_record, name="甲 [点此](https://evil.example) <img src=x> **公司**")
    case = await world.open(a_report(number))
    shown = MarkdownIt("commonmark").render(await _details(case))
    assert "甲 [点此](https://evil.example) &lt;img src=x&gt; **公司**" in shown
    assert 'href="https' not in shown


async def test_the_story_of_a_closed_case_can_still_be_told(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.rectified()
    await case.verify(passed=True)
    ended = await case.ended()
    story = await case.story()
    assert (story.case_no, story.stage, story.deadline) == (ended.case_no, Stage.RECTIFIED, None)
    assert [notice.notice_no for notice in story.notices] == [f"{ended.case_no}-N1", f"{ended.case_no}-N2"]
    assert "Case closed: rectified" in [line.text for line in story.lines]
    assert "- Stage: **rectified**" in await _details(case)


async def test_a_case_without_a_report_says_that_it_is_not_open(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
    await world.client.start_workflow(
        SecondarySaleCase.run, CaseStart(), id=case.id, task_queue=world.task_queue
    )
    story = await case.story()
    assert (story.stage, story.number, story.case_no) == (Stage.OPENING, number, "")
    assert f"- Case: not opened yet, number {written(number)}" in await _details(case)
