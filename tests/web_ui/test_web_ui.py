"""The Temporal Web UI tells whoever traces a case its story, and finds the cases that need somebody."""

import re
from pathlib import Path

from playwright.async_api import Page, expect

from rulebook.vocabulary import Kind, workflow_id, written
from tests.world import CaseInTime, World, a_report, an_agent
from workflows.messages import CaseStart
from workflows.secondary_sale import SecondarySaleCase

DOCS = Path(__file__).parents[2] / "docs" / "web-ui.md"
VIEWS = dict(
    re.findall(
        r"\[([^\]]+)\]\(http://127\.0\.0\.1:8233(/namespaces/default/[^)]+)\)", DOCS.read_text("utf-8")
    )
)


async def _look_at(page: Page, web: str, case: CaseInTime, tab: str = "Timeline") -> None:
    await page.goto(f"{web}/namespaces/default/workflows/{case.id}")
    await page.get_by_role("tab", name=tab).click()


async def test_a_case_shows_its_stage_its_deadline_its_story_and_what_it_is_found_by(
    world: World, page: Page, web: str
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.rectified(statement="号码已收回")

    await _look_at(page, web, case, "User Metadata")

    about, told = page.frame_locator("iframe").first, page.frame_locator("iframe").last
    await expect(about.get_by_text(f"私自转售 · secondary sale · {written(number)}")).to_be_visible()
    await expect(told.get_by_text("Stage: rectification")).to_be_visible()
    await expect(told.get_by_text(f"Deadline: {await case.last_day()} 24:00 (Asia/Shanghai)")).to_be_visible()
    await expect(told.get_by_text("Awaiting an officer: verification")).to_be_visible()
    await expect(told.get_by_text("Rectification reported: 号码已收回 (agent)")).to_be_visible()

    await page.get_by_role("tab", name="Search Attributes").click()

    found_by = page.get_by_role("textbox", name="Search Attributes")
    for attribute in (
        f'"Number": "{number}"',
        '"Stage": "rectification"',
        '"Deadline": "2',
        '"verification"',
    ):
        await expect(found_by).to_contain_text(attribute)


async def test_its_story_leads_to_the_other_cases_of_its_agent(world: World, page: Page, web: str) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    [others] = an_agent(world.on_record)
    case = await world.open(a_report(first))
    other = await world.open(a_report(second))
    somebody_elses = await world.open(a_report(others))
    agent = (await case.attributes())["Agent"]
    await world.found(f"Agent = '{agent}'", expected=2)

    await _look_at(page, web, case, "User Metadata")
    async with page.context.expect_page() as opened:
        await page.frame_locator("iframe").last.get_by_role("link", name="all cases of this agent").click()

    found = await opened.value
    await expect(found.get_by_role("link", name=other.id)).to_be_visible()
    await expect(found.get_by_role("link", name=somebody_elses.id)).to_have_count(0)
    await found.close()


async def test_text_from_outside_is_shown_as_written_and_is_neither_link_nor_markup(
    world: World, page: Page, web: str
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    said = "见 https://evil.example **已结案** <img src=x> 共$5或$6 [点此](https://evil.example) -- 完"
    await case.rectified(statement=said)
    await case.rectified(statement="😀" * 4000)

    await _look_at(page, web, case, "User Metadata")

    told = page.frame_locator("iframe").last
    await expect(told.get_by_text(f"Rectification reported: {said} (agent)")).to_be_visible()
    await expect(told.locator("a[href*=evil], img, .math")).to_have_count(0)
    await page.get_by_role("tab", name="Event History").click()
    await expect(page.get_by_text(f"Rectification reported: {said}", exact=True)).to_be_visible()
    await expect(page.get_by_text(re.compile("^Rectification reported: (😀){1,70}…$"))).to_be_visible()


async def test_the_timeline_says_in_plain_words_what_the_case_waits_for_and_what_was_decided(
    world: World, page: Page, web: str
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")

    await _look_at(page, web, case)

    line = page.get_by_role("button")
    await expect(line.filter(has_text="Wait for rectification until 2038-03-04 24:00")).to_be_visible()
    await expect(line.filter(has_text="Impose the fine")).to_be_visible()
    await expect(line.filter(has_text="Wait for payment until 2038-03-12 24:00")).to_be_visible()
    await line.filter(has_text="open_case").click()
    await expect(page.get_by_text(re.compile("^Open a case on report monitor/R"))).to_be_visible()


async def test_the_history_reads_as_the_story_of_the_case(world: World, page: Page, web: str) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.rectified(statement="号码已收回")
    await case.verify(passed=True)
    await case.ended()

    await _look_at(page, web, case, "Event History")
    await page.get_by_role("button", name="Compact").click()

    for told in (
        "Serve the rectification order notice, limit of 3 working days",
        "Wait for rectification until 2038-03-04 24:00 (Asia/Shanghai, provisional)",
        "Rectification reported: 号码已收回",
        "Verification passed",
        "Case closed: rectified",
        "Serve the closing notice",
    ):
        await expect(page.get_by_text(told).first).to_be_visible()


async def test_each_saved_view_finds_its_cases_and_no_other(world: World, page: Page, web: str) -> None:
    [rectified_number], [idle_number] = an_agent(world.on_record), an_agent(world.on_record)
    rectified = await world.open(a_report(rectified_number), on="2038-03-01")
    await rectified.rectified()
    idle = await world.open(a_report(idle_number), on="2038-03-02")
    unknown = workflow_id(Kind.SECONDARY_SALE, "4009999999")
    await world.client.start_workflow(
        SecondarySaleCase.run,
        CaseStart(),
        id=unknown,
        task_queue=world.task_queue,
        start_signal="report_received",
        start_signal_args=[a_report("4009999999")],
    )
    await world.found(f"WorkflowId = '{unknown}' AND ExecutionStatus = 'Failed'")
    await world.found(f"WorkflowId = '{rectified.id}' AND Awaiting = 'verification'")
    await world.found(f"WorkflowId = '{idle.id}' AND Deadline IS NOT NULL")
    agent = (await rectified.attributes())["Agent"]
    today = {"2026-12-05": "2038-03-05", "A013": agent}

    finds = {
        "Waiting for verification": (rectified.id, idle.id),
        "Due today": (rectified.id, idle.id),
        "One agent's cases": (rectified.id, idle.id),
        "Failed": (unknown, rectified.id),
        "What waits for officers": (rectified.id, idle.id),
    }
    assert set(finds) == set(VIEWS)
    for view, (belongs, does_not) in finds.items():
        link = VIEWS[view]
        for example, now in today.items():
            link = link.replace(example, now)
        await page.goto(web + link)
        await expect(page.get_by_role("link", name=belongs), view).to_be_visible()
        await expect(page.get_by_role("link", name=does_not), view).to_have_count(0)
