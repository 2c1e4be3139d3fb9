"""The clients of docs/subscribing.md, as whoever copies them has them: each goes on where it was when the
gateway comes back after ``kill -9``.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
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


async def goes_on(
    gateway: Installation, process: Process, seen: Callable[[], Awaitable[list[int]]], types: str = ""
) -> Process:
    """Have events come, kill the gateway and start it again twice; fails where the client missed one."""
    async with aiohttp.ClientSession() as session:
        for turn in range(3):
            for n in range(5):
                await written(session, gateway.url, f"hola {turn} {n}")

            await eventually(partial(_has_all, session, gateway.url, types, 5 * turn + 5, seen), "all events")
            if turn < 2:
                await process.kill()
                process = await gateway.start()
        wanted = await offsets_of(session, gateway.url, types)
        first_times = list(dict.fromkeys(await seen()))
        assert first_times == sorted(first_times) and first_times == wanted
    return process


async def test_the_named_client_in_python_misses_nothing(tmp_path: Path) -> None:
    gateway = Installation(tmp_path, **NOTHING_SET, AUTOREPLY_ENABLED="false")
    process = await gateway.start()
    try:
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
            process = await goes_on(gateway, process, seen)
        finally:
            noting.cancel()
            await asyncio.wait({noting})
            await client.kill()
    finally:
        await process.kill()


async def test_the_client_in_a_browser_misses_nothing(tmp_path: Path) -> None:
    gateway = Installation(tmp_path, **NOTHING_SET, AUTOREPLY_ENABLED="false")
    process = await gateway.start()
    try:
        async with visit() as seen_by:
            answer = await seen_by.page.goto(f"{gateway.url}/docs")
            assert answer is not None and answer.status == 200
            await seen_by.page.evaluate(
                "(text) => { window.seen = []; const log = console.log;"
                " console.log = (event) => { window.seen.push(event.offset); };"
                " (0, eval)(text); }",
                example("js"),
            )

            await eventually(partial(connected, gateway.url), "the browser")

            async def seen() -> list[int]:
                found: list[int] = await seen_by.page.evaluate("window.seen")
                return found

            process = await goes_on(gateway, process, seen, "message.received")
    finally:
        await process.kill()
