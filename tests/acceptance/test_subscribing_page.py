"""The clients of docs/subscribing.md, as whoever copies them has them: each goes on where it was when the
gateway comes back after ``kill -9``.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from tests.support.browser import visit
from tests.support.pages import page
from tests.support.process import NOTHING_SET, Installation, Process
from tests.support.waiting import eventually

_PRINTED = "127.0.0.1:5000"
_PAGE = page("docs/subscribing.md")


def example(kind: str) -> str:
    """The one block of this kind on the page."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", _PAGE, re.DOTALL)
    return str(block)


async def written(session: aiohttp.ClientSession, url: str, text: str) -> None:
    """A customer writes."""
    message = {"from": "5215550001111", "text": text}
    async with session.post(f"{url}/sandbox/inbound", json=message) as answer:
        assert answer.status == 200, await answer.text()


async def offsets_of(session: aiohttp.ClientSession, url: str, types: str = "") -> list[int]:
    """Of the events that there are."""
    async with session.get(f"{url}/api/events?limit=1000&types={types}") as answer:
        return [event["offset"] for event in (await answer.json())["events"]]


async def _has_all(
    session: aiohttp.ClientSession, url: str, types: str, least: int, seen: Callable[[], Awaitable[list[int]]]
) -> bool:
    wanted = await offsets_of(session, url, types)
    return len(wanted) >= least and set(wanted) <= set(await seen())


async def connected(url: str) -> bool:
    """Whether anybody reads the log."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/subscribers") as answer:
        return any(one["connected"] for one in (await answer.json())["subscribers"])


class Running:
    """A gateway on its sandbox, over its lives."""

    def __init__(self, installation: Installation, process: Process) -> None:
        self.url = installation.url
        self.port = installation.port
        self._installation = installation
        self._process = process

    async def kill_and_start(self) -> None:
        """``kill -9``, and back again."""
        await self._process.kill()
        self._process = await self._installation.spawn()
        await self._installation.greeted(self._process)

    async def end(self) -> None:
        """For good."""
        await self._process.kill()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    """One that is there until the end."""
    installation = Installation(folder, **NOTHING_SET, AUTOREPLY_ENABLED="false")
    gateway = Running(installation, await installation.start())
    try:
        yield gateway
    finally:
        await gateway.end()


async def goes_on(gateway: Running, seen: Callable[[], Awaitable[list[int]]], types: str = "") -> None:
    """Have events come, kill the gateway and start it again twice; fails where the client missed one."""
    async with aiohttp.ClientSession() as session:
        for turn in range(3):
            for n in range(5):
                await written(session, gateway.url, f"hola {turn} {n}")

            await eventually(partial(_has_all, session, gateway.url, types, 5 * turn + 5, seen), "all events")
            if turn < 2:
                await gateway.kill_and_start()
        wanted = await offsets_of(session, gateway.url, types)
        first_times = [offset for offset in dict.fromkeys(await seen()) if offset <= wanted[-1]]
        assert first_times == wanted


async def test_the_named_client_in_python_misses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        text = example("python").replace(_PRINTED, f"127.0.0.1:{gateway.port}")
        client = await Process.start([sys.executable, "-c", text], tmp_path, {})
        offsets: list[int] = []

        async def note() -> None:
            while line := await client.line():
                offsets.append(int(line.split()[0]))

        async def seen() -> list[int]:
            if noting.done():
                noting.result()
            return offsets

        noting = asyncio.create_task(note())
        try:
            await eventually(partial(connected, gateway.url), "the client")
            await goes_on(gateway, seen)
        finally:
            noting.cancel()
            await asyncio.wait({noting})
            await client.kill()


async def test_the_client_in_a_browser_misses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway, visit() as visited:
        answer = await visited.page.goto(f"{gateway.url}/docs")
        assert answer is not None and answer.status == 200
        await visited.page.evaluate(
            "(text) => { window.seen = [];"
            " console.log = (event) => { window.seen.push(event.offset); };"
            " (0, eval)(text); }",
            example("js"),
        )

        async def seen() -> list[int]:
            found: list[int] = await visited.page.evaluate("window.seen")
            return found

        await eventually(partial(connected, gateway.url), "the browser")
        await goes_on(gateway, seen, "message.received")
