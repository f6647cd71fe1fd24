"""Take the pictures of docs/web-ui.md anew: play the demo, then look at one of its cases in the Web UI."""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, async_playwright

from starter import local, serve
from starter.settings import Settings
from tests.web_ui.conftest import QUIET, found_chromium

IMAGES = Path(__file__).parents[2] / "docs" / "images"
CASE, AGENT = "secondary-sale-4001925397", "A013"


async def _take(page: Page, web: str) -> None:
    async def keep(name: str, width: int, height: int) -> None:
        await page.set_viewport_size({"width": width, "height": height})
        await page.wait_for_load_state("networkidle")
        await page.get_by_role("main").screenshot(path=IMAGES / f"web-ui-{name}.png")
        print(f"taken: web-ui-{name}.png")  # noqa: T201

    workflows = f"{web}/namespaces/default/workflows"
    await page.goto(f"{workflows}/{CASE}")
    await page.get_by_text("Wait for payment").wait_for()
    await keep("timeline", 1500, 1250)
    await page.get_by_role("tab", name="Event History").click()
    await page.get_by_role("button", name="Compact").click()
    await page.get_by_text("Serve the closing notice").wait_for()
    await keep("history", 1800, 1300)
    await page.get_by_role("tab", name="User Metadata").click()
    await page.frame_locator("iframe").last.get_by_text("Case closed").wait_for()
    await keep("story", 1500, 1050)
    await page.goto(f"{workflows}?query=Agent%3D%22{AGENT}%22")
    await page.get_by_role("link", name="secondary-sale").first.wait_for()
    await keep("view", 1500, 500)


async def _look(settings: Settings, web: str) -> None:
    async with serve.cases(settings), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found_chromium(), args=QUIET)
        page = await browser.new_page()
        await _take(page, web)
        await browser.close()


def main() -> None:
    """Play and take."""
    enforce = Path(sys.executable).parent / "enforce"
    with tempfile.TemporaryDirectory(prefix="e4-") as folder:
        subprocess.run([enforce, "demo", "--exit"], cwd=folder, check=True)
        settings = Settings(home=Path(folder) / ".enforce-demo", channel="outbox")
        with local.servers(settings, time_skipping=True) as temporal:
            asyncio.run(_look(settings, temporal.web))


if __name__ == "__main__":
    main()
