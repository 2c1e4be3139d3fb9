"""The clients that docs/events.md shows, as they stand there: each event once, whoever is restarted."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from playwright.async_api import Page

from tests.support.browser import visit
from tests.support.gateway import Harness, serving
from tests.support.pages import page, section
from tests.support.ports import free_port
from tests.support.waiting import GUARD_S, until

CLIENTS = section(page("docs/events.md"), "A client that resumes").text
CUSTOMER = "5215550001111"


def client(kind: str, port: int) -> str:
    """The one on the page in this language, for a gateway at this port."""
    (code,) = re.findall(rf"^```{kind}\n(.*?)^```$", CLIENTS, re.MULTILINE | re.DOTALL)
    assert code.count("127.0.0.1:5000") == 1
    return str(code).replace("127.0.0.1:5000", f"127.0.0.1:{port}")


class Told:
    """What a client has said that it acts on, customers' messages alone."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._grown = asyncio.Event()

    def take(self, line: str) -> None:
        event, _, text = line.strip().partition(" ")
        if event == "message.received":
            self.texts.append(text)
            self._grown.set()

    async def until(self, *texts: str) -> None:
        async with asyncio.timeout(GUARD_S):
            while self.texts[-1:] != list(texts[-1:]):
                self._grown.clear()
                await self._grown.wait()
        assert self.texts == list(texts)


@asynccontextmanager
async def at_a_port(directory: Path) -> AsyncIterator[Harness]:
    """A gateway that keeps its port when it is restarted, as one in service does."""
    async with serving(directory, server={"port": free_port()}) as gateway:
        yield gateway


async def test_the_one_in_python_goes_on_after_each_restart(tmp_path: Path) -> None:
    @asynccontextmanager
    async def running(port: int) -> AsyncIterator[None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", client("python", port), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        reading = asyncio.create_task(read(process.stdout))
        try:
            yield
        finally:
            process.kill()
            await process.wait()
            await reading

    async def read(output: asyncio.StreamReader) -> None:
        async for line in output:
            told.take(line.decode())

    told, kept = Told(), tmp_path / "position.txt"
    async with at_a_port(tmp_path) as gateway:
        async with running(gateway.port):
            await gateway.sandbox.inbound(CUSTOMER, "one")
            await told.until("one")
            await gateway.restart()
            await gateway.sandbox.inbound(CUSTOMER, "two")
            await told.until("one", "two")
            await until(lambda: kept.read_text().endswith(f":{gateway.gateway._log.head}"))
        await gateway.sandbox.inbound(CUSTOMER, "three")
        async with running(gateway.port):
            await told.until("one", "two", "three")


async def test_the_one_in_a_browser_goes_on_after_each_restart(tmp_path: Path) -> None:
    @asynccontextmanager
    async def running(tab: Page) -> AsyncIterator[None]:
        await tab.goto(f"http://127.0.0.1:{site}/")
        yield
        await tab.goto("about:blank")

    told = Told()
    async with visit() as seen, at_a_port(tmp_path) as gateway, serving_page(gateway.port) as site:
        seen.page.on("console", lambda message: told.take(message.text))
        async with running(seen.page):
            await gateway.sandbox.inbound(CUSTOMER, "one")
            await told.until("one")
            await gateway.restart()
            await gateway.sandbox.inbound(CUSTOMER, "two")
            await told.until("one", "two")
        await gateway.sandbox.inbound(CUSTOMER, "three")
        async with running(seen.page):
            await told.until("one", "two", "three")


@asynccontextmanager
async def serving_page(gateway: int) -> AsyncIterator[int]:
    """The port of a site of this machine's, whose page is the client."""

    async def get(request: web.Request) -> web.Response:
        script = f"<script>{client('js', gateway)}</script>"
        return web.Response(text=f"<!doctype html><title>t</title>{script}", content_type="text/html")

    site = web.Application()
    site.router.add_get("/", get)
    runner = web.AppRunner(site)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
