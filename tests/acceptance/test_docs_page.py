"""``/docs`` as a person sees it: in a real browser, served by the program as it is started."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import FilePayload, Locator, Page

from handlers.operations import EXAMPLES, operations
from tests.support.browser import PHONE_WIDTH, PUBLIC_NAME, Visit, visit
from tests.support.process import NOTHING_SET, Installation

_KEY = "k&<+%"
_SEND = "/api/send-message"


@asynccontextmanager
async def _gateway(folder: Path, **variables: object) -> AsyncIterator[Installation]:
    """A gateway on its sandbox, which has no reason to complain either."""
    installation = Installation(folder, **NOTHING_SET, **variables)
    process = await installation.start()
    try:
        yield installation
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0, process.errors
        installation.check_logs()
    finally:
        await process.kill()


async def _open(seen: Visit, url: str) -> None:
    """Open the page, and return when it shows the operations."""
    answer = await seen.page.goto(url)
    assert answer is not None and answer.status == 200
    await seen.page.locator(".opblock").first.wait_for()


async def _check_quiet(seen: Visit, host: str) -> None:
    """Only the gateway was asked for anything, and the browser found nothing to complain of."""
    await seen.page.wait_for_load_state("networkidle")
    assert seen.hosts == {host}
    assert seen.complaints == []


async def _try_out(page: Page, path: str) -> Locator:
    """Unfold what posts to this path, and make it ready to be filled in."""
    operation = page.locator(".opblock-post").filter(has=page.locator(f'[data-path="{path}"]'))
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    return operation


async def _execute(operation: Locator) -> tuple[int, dict[str, Any]]:
    """Send it; the status and the body that the page shows."""
    await operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table tbody .response")
    status = await shown.locator(".response-col_status").inner_text()
    body: dict[str, Any] = json.loads(await shown.locator(".highlight-code code").first.inner_text())
    return int(status), body


async def test_all_operations_are_listed(tmp_path: Path) -> None:
    async with visit() as seen, _gateway(tmp_path) as gateway:
        await _open(seen, f"{gateway.url}/docs")
        assert await seen.page.title() == "WhatsApp gateway: API"
        told = []
        for summary in await seen.page.locator(".opblock-summary-control").all():
            method = await summary.locator(".opblock-summary-method").inner_text()
            path = await summary.locator(".opblock-summary-path").get_attribute("data-path")
            told.append((method, path, await summary.locator(".opblock-summary-description").inner_text()))
        assert sorted(told) == sorted((one.method, one.path, one.summary) for one in operations())
        await _check_quiet(seen, f"127.0.0.1:{gateway.port}")


async def test_a_message_is_sent_from_the_page(tmp_path: Path) -> None:
    async with visit() as seen, _gateway(tmp_path) as gateway:
        await _open(seen, f"{gateway.url}/docs")
        operation = await _try_out(seen.page, _SEND)
        assert json.loads(await operation.locator("textarea").input_value()) == EXAMPLES[_SEND]
        status, body = await _execute(operation)
        assert status == 200 and body["success"], body
        answer = await seen.page.request.get(f"{gateway.url}/api/task-status/{body['task_id']}")
        assert answer.status == 200 and sum((await answer.json())["counts"].values()) == 1
        await _check_quiet(seen, f"127.0.0.1:{gateway.port}")


@pytest.mark.parametrize(
    ("path", "file", "field"),
    [
        ("/api/media", FilePayload(name="a.txt", mimeType="text/plain", buffer=b"Tea"), "media_id"),
        (
            "/api/broadcasts",
            FilePayload(name="a.csv", mimeType="text/csv", buffer=b"phone\n5215550001111\n"),
            "preview",
        ),
    ],
)
async def test_a_form_needs_only_its_file(tmp_path: Path, path: str, file: FilePayload, field: str) -> None:
    async with visit() as seen, _gateway(tmp_path) as gateway:
        await _open(seen, f"{gateway.url}/docs")
        operation = await _try_out(seen.page, path)
        await operation.locator("input[type=file]").set_input_files(file)
        status, body = await _execute(operation)
        assert status == 200 and body["success"] and body[field], body
        await _check_quiet(seen, f"127.0.0.1:{gateway.port}")


async def test_with_a_key_the_page_opens_by_its_token_and_hands_it_on(tmp_path: Path) -> None:
    async with visit() as seen, _gateway(tmp_path, API_KEY=_KEY) as gateway:
        host = f"{PUBLIC_NAME}:{gateway.port}"
        await _open(seen, f"http://{host}/docs?token={quote(_KEY)}")
        operation = await _try_out(seen.page, _SEND)
        async with seen.page.expect_request(f"**{_SEND}") as sent:
            status, body = await _execute(operation)
        assert (await sent.value).headers["x-api-key"] == _KEY
        assert status == 200 and body["task_id"], body
        await _check_quiet(seen, host)


@pytest.mark.parametrize("query", ["", "?token=another"])
async def test_with_a_key_the_page_is_refused_without_it(tmp_path: Path, query: str) -> None:
    async with visit() as seen, _gateway(tmp_path, API_KEY=_KEY) as gateway:
        answer = await seen.page.goto(f"http://{PUBLIC_NAME}:{gateway.port}/docs{query}")
        assert answer is not None and answer.status == 401
        assert "unauthorized" in await seen.page.locator("body").inner_text()
        assert await seen.page.locator("#swagger-ui").count() == 0


async def test_on_a_phone_nothing_has_to_be_scrolled_to_the_side(tmp_path: Path) -> None:
    async with visit(phone=True) as seen, _gateway(tmp_path) as gateway:
        await _open(seen, f"{gateway.url}/docs")
        picture = tmp_path / "phone.png"
        await seen.page.screenshot(path=picture)
        assert await seen.width() <= PHONE_WIDTH, picture
        operation = await _try_out(seen.page, _SEND)
        assert (await _execute(operation))[0] == 200
        await operation.screenshot(path=picture)
        assert await seen.width() <= PHONE_WIDTH, picture
        await _check_quiet(seen, f"127.0.0.1:{gateway.port}")
