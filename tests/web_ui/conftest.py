"""The Web UI in a browser: the system's Chromium, and a Temporal server of its own that serves the Web UI."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright, expect
from temporalio.client import Client

from starter import connect as to_servers
from starter import local
from starter.settings import Settings

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    # The Web UI asks for news at its maker's: nothing outside is looked up here.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def found_chromium() -> str | None:
    """The path of the system's Chromium, if there is one."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium. Skips the tests that need it where there is none."""
    path = found_chromium()
    if path is None:
        pytest.skip(f"the Web UI is not looked at: no {', '.join(CHROMIUM)} is on PATH")
    return path


@pytest.fixture(scope="session")
async def browser(chromium: str) -> AsyncIterator[BrowserContext]:
    expect.set_options(timeout=15_000)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=QUIET)
        context = await started.new_context(viewport={"width": 1500, "height": 1000})
        context.set_default_timeout(15_000)
        yield context
        await started.close()


@pytest.fixture
async def page(browser: BrowserContext) -> AsyncIterator[Page]:
    page = await browser.new_page()
    yield page
    await page.close()


@pytest.fixture(scope="session")
def served(home: Path, chromium: str) -> Iterator[Settings]:
    """The settings of a Temporal server with virtual time that serves the Web UI too."""
    settings = Settings(home=home / "web-ui")
    with local.temporal(settings, time_skipping=True):
        yield settings


@pytest.fixture(scope="session")
async def client(served: Settings) -> Client:
    """A client of that server."""
    client = await to_servers.temporal(served)
    await to_servers.register_attributes(client)
    return client


@pytest.fixture(scope="session")
def web(served: Settings) -> str:
    """Where the Web UI is: http://HOST:PORT."""
    return served.web_file.read_text("utf-8")
