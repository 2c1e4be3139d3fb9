"""A real browser: the Chromium that is installed, without a window, cut off from every machine but this one.

``BROWSER_TESTS`` in the environment says that there must be one: its tests then fail where they would
otherwise be skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from urllib.parse import urlsplit

import pytest
from playwright.async_api import ConsoleMessage, Page, ViewportSize, async_playwright

from tests.support.waiting import GUARD_S

__all__ = ["PHONE_WIDTH", "PUBLIC_NAME", "Visit", "visit"]

PUBLIC_NAME = "gateway.example"
"""A name by which the browser finds this machine. A page may do more at a name than at a loopback address."""
PHONE_WIDTH = 390
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    # Root may not start it otherwise; it sees nothing but the gateway's pages.
    "--no-sandbox",
    "--disable-gpu",
    # In a container it may be too small.
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    f"--host-resolver-rules=MAP {PUBLIC_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Visit:
    """A page, and what happened in it from its beginning."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        """Whom it asked for something, with the port."""
        self.complaints: list[str] = []
        """Warnings and errors of the console, those of the Content-Security-Policy among them."""
        page.on("request", lambda request: self._note_host(request.url))
        page.on("websocket", lambda socket: self._note_host(socket.url))
        page.on("console", self._note_complaint)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    async def width(self) -> int:
        """How wide the page is, with what can be reached only by scrolling to the side."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth")
        return width

    def _note_host(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.hosts.add(urlsplit(url).netloc)

    def _note_complaint(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url')})")


@asynccontextmanager
async def visit(*, phone: bool = False) -> AsyncIterator[Visit]:
    """An empty page of a browser of its own, as wide as a desk's or a phone's. Skips where there is none."""
    path = _chromium()
    if path is None:
        reason = "no Chromium was found: apt install chromium (Debian), dnf install chromium (Fedora)"
        if os.environ.get("BROWSER_TESTS"):
            pytest.fail(f"BROWSER_TESTS is set, and {reason}")
        pytest.skip(reason)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            page = await browser.new_page(
                viewport=ViewportSize(width=PHONE_WIDTH if phone else 1280, height=850),
                is_mobile=phone,
                has_touch=phone,
            )
            page.set_default_timeout(GUARD_S * 1000)
            yield Visit(page)
        finally:
            await browser.close()


@cache
def _chromium() -> str | None:
    """The first that answers: what Ubuntu has under this name only tells of another package."""
    for name in _NAMES:
        path = shutil.which(name)
        if path is None:
            continue
        answer = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True)
        if answer.returncode == 0:
            return path
    return None
