"""``/docs`` in a real browser: what a person sees of the API and tries from it, without the internet."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, Request, async_playwright, expect

from handlers.operations import operations
from tests.support.process import Installation

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FOUND = next(filter(None, map(shutil.which, _BROWSERS)), None)
# As root there is no sandbox of its own; and it must not call home.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SANDBOX: dict[str, object] = dict.fromkeys(
    ("VERIFY_TOKEN", "ACCESS_TOKEN", "PHONE_NUMBER_ID", "APP_SECRET", "STORE_URL", "BASE_URL")
)
_PHONE = {"width": 390, "height": 844}
_DESK = {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(_FOUND is None, reason="no browser is here: apt install chromium")


class Visit:
    """A page, with all that it asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request))
        page.on(
            "console",
            lambda told: (
                self._complain(f"{told.text} {told.location['url']}") if told.type == "error" else None
            ),
        )
        page.on("pageerror", lambda error: self._complain(str(error)))

    def _complain(self, text: str) -> None:
        self.complaints.append(text)


@asynccontextmanager
async def visiting(size: dict[str, int]) -> AsyncIterator[Visit]:
    """A browser's empty page of this size."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_FOUND, args=list(_FLAGS))
        try:
            page = await browser.new_page(viewport=size)  # type: ignore[arg-type]
            yield Visit(page)
        finally:
            await browser.close()


@asynccontextmanager
async def on_its_sandbox(folder: Path, **variables: object) -> AsyncIterator[Installation]:
    """A gateway without credentials."""
    installation = Installation(folder, **_SANDBOX, **variables)
    process = await installation.start()
    try:
        yield installation
    finally:
        await process.kill()
    installation.check_logs()


async def open_docs(visit: Visit, installation: Installation, query: str = "") -> None:
    """Open the page, and return when it shows the operations."""
    await visit.page.goto(f"{installation.url}/docs{query}")
    await expect(visit.page.locator(".opblock").first).to_be_visible()


async def test_the_page_lists_every_operation_and_asks_nobody_else(tmp_path: Path) -> None:
    async with on_its_sandbox(tmp_path) as installation, visiting(_DESK) as visit:
        await open_docs(visit, installation)
        methods = await visit.page.locator(".opblock-summary-method").all_inner_texts()
        paths = await visit.page.locator(".opblock-summary-path").all_inner_texts()
        # The page lets long paths be broken after each slash.
        shown = sorted(zip(methods, (re.sub(r"\u200b|\s", "", path) for path in paths), strict=True))
        assert shown == sorted((operation.method, operation.path) for operation in operations())
        assert {request.url.split("/")[2] for request in visit.requests if "://" in request.url} == {
            installation.url.split("/")[2]
        }
        assert visit.complaints == []


async def test_a_send_that_is_tried_from_the_page_is_sent(tmp_path: Path) -> None:
    async with on_its_sandbox(tmp_path) as installation, visiting(_DESK) as visit:
        await open_docs(visit, installation)
        operation = visit.page.locator("#operations-messages-post_send_message")
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Try it out").click()
        await operation.get_by_role("button", name="Execute").click()
        live = operation.locator(".live-responses-table .response").first
        await expect(live.locator(".response-col_status")).to_contain_text("200")
        await expect(live).to_contain_text("the message is queued")
        await expect(live).to_contain_text('"task_id"')
        assert visit.complaints == []


async def test_where_a_key_is_needed_the_page_hands_on_the_one_in_its_address(tmp_path: Path) -> None:
    async with on_its_sandbox(tmp_path, API_KEY="the-key") as installation, visiting(_DESK) as visit:
        refused = await visit.page.request.get(f"{installation.url}/docs")
        assert refused.status == 401
        await open_docs(visit, installation, "?token=the-key")
        operation = visit.page.locator("#operations-status-get_status")
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Try it out").click()
        await operation.get_by_role("button", name="Execute").click()
        live = operation.locator(".live-responses-table .response").first
        await expect(live.locator(".response-col_status")).to_contain_text("200")
        (asked,) = (request for request in visit.requests if request.url.endswith("/api/status"))
        assert (await asked.all_headers())["x-api-key"] == "the-key"
        assert visit.complaints == []


async def test_on_a_phone_the_page_is_no_wider_than_the_screen(tmp_path: Path) -> None:
    async with on_its_sandbox(tmp_path) as installation, visiting(_PHONE) as visit:
        await open_docs(visit, installation)
        wider = "document.documentElement.scrollWidth - window.innerWidth"
        assert await visit.page.evaluate(wider) <= 0
