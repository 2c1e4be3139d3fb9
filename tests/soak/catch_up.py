"""A subscriber, or a receiver, that is a long log behind catches up, and those who are live feel nothing.

Fills a store with events before the gateway starts, has webhooks come at a steady rate, and measures how long
each takes to a live subscriber: first alone, then while others read the log from its beginning, or have it
pushed to them (``pushed.py``), each in a process of its own. The gateway's memory is looked at all the while.

As a program of its own it is such a reader: ``python -m tests.soak.catch_up URL OFFSET`` reads up to the
offset and prints how many events it was given; it ends with an error where one is missing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from store.base import Store
from store.mongo import MongoStore
from store.records import Cursor, NewEvent
from store.sqlite import SqliteStore
from tests.soak.pushed import Pushed, pushing
from tests.support.gateway import signed
from tests.support.killing import installed
from tests.support.process import ROOT, SECRET, Installation, Process
from tests.support.webhooks import body, entry, message_value, text_message
from whatsapp.events import EventType, build_event

__all__ = ["SOCKET", "Behind", "catch_up"]

SOCKET = "ws"

_AT_ONCE = 1000
_SIZE = 500
_RATE = 100
"""Webhooks a second."""
_ALONE_S = 20.0
_LOOK_S = 0.2
_MB = 1024 * 1024
_MOST_S = 3600.0


class Behind(NamedTuple):
    """How far, how many, on which store."""

    store: str
    events: int
    readers: int
    by: str = SOCKET
    """How they get the log: by ``/ws``, or as ``pushed.py`` has it."""


async def catch_up(folder: Path, wanted: Behind) -> dict[str, Any]:
    """One run in this folder. Fails where a reader or the live subscriber misses an event."""
    settings: dict[str, object] = {"AUTOREPLY_ENABLED": "false", "MEDIA_DAYS": 0}
    async with AsyncExitStack() as stack:
        pushed = None
        if wanted.by != SOCKET:
            pushed = await stack.enter_async_context(pushing(wanted.by, wanted.readers, wanted.events))
            settings |= pushed.settings
        installation = stack.enter_context(installed(folder, wanted.store, settings))
        await _fill(installation, wanted, pushed)
        process = await installation.start()
        try:
            found = await _measure(installation, process, wanted, pushed)
        finally:
            await process.kill()
        installation.check_logs()
    return {**wanted._asdict(), **found}


async def _fill(installation: Installation, wanted: Behind, pushed: Pushed | None) -> None:
    """Put the past into the store. The gateway's own consumers have it behind them, and are not measured."""
    store = _store_of(installation)
    await store.open()
    data = {"text": "x" * (_SIZE - 200)}
    try:
        for first in range(0, wanted.events, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, wanted.events))
            await _append(
                store, [build_event(EventType.WEBHOOK_OTHER, f"past:{n}", 1, data) for n in numbers]
            )
        head = (await store.log_bounds()).head
        for name in ("tracker", "windows", "suppressions", "autoreply", "media", "conversations"):
            await store.save_cursor(Cursor(name, head))
        if pushed is not None:
            await pushed.prepare(store)
    finally:
        await store.close()


def _store_of(installation: Installation) -> Store:
    url = installation.variables["STORE_URL"]
    if url.startswith("sqlite"):
        return SqliteStore(installation.database, answer_s=_MOST_S)
    return MongoStore(url, answer_s=_MOST_S)


async def _append(store: Store, events: Sequence[NewEvent]) -> None:
    added = await store.append_events(events)
    assert len(added) == len(events)


class _Live:
    """A live subscriber, and when each message reached it."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.ready = asyncio.Event()
        self.place = 0

    async def run(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.ws_connect(url, max_msg_size=0) as socket:
            async for message in socket:
                frame = msgspec.json.decode(message.data)
                if frame["type"] == "event":
                    assert frame["prev"] == self.place, "a live subscriber missed an event"
                    if frame["event"] == EventType.MESSAGE_RECEIVED:
                        self.seen[frame["data"]["message"]["id"]] = time.perf_counter()
                self.place = frame["offset"]
                self.ready.set()
        raise AssertionError(f"the live subscriber was closed with {socket.close_code}")


async def _measure(
    installation: Installation, process: Process, wanted: Behind, pushed: Pushed | None
) -> dict[str, Any]:
    live, posted = _Live(), dict[str, float]()
    memory: list[float] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        tasks = [
            asyncio.create_task(live.run(session, installation.socket_url)),
            asyncio.create_task(_post(session, installation.url, posted)),
            asyncio.create_task(_look(process, memory)),
        ]
        try:
            await live.ready.wait()
            await asyncio.sleep(_ALONE_S)
            alone, before = set(posted), max(memory)
            memory.clear()
            began = time.perf_counter()
            goal = live.place
            if pushed is not None:
                await pushed.catch_up(session, installation.url)
            else:
                await asyncio.gather(
                    *(_read(installation.socket_url, goal, wanted.events) for _ in range(wanted.readers))
                )
            seconds = time.perf_counter() - began
            beside = set(posted) - alone
            await asyncio.sleep(1.0)
            for task in tasks:
                assert not task.done(), task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    return {
        "seconds_to_catch_up": round(seconds, 1),
        "per_s": round(wanted.events * wanted.readers / seconds),
        "mb_before": round(before, 1),
        "mb_most": round(max(memory), 1),
        "alone_ms": _delays(posted, live.seen, alone),
        "beside_ms": _delays(posted, live.seen, beside),
    }


async def _post(session: aiohttp.ClientSession, url: str, posted: dict[str, float]) -> None:
    began = time.perf_counter()
    n = 0
    while True:
        n += 1
        await asyncio.sleep(max(0.0, began + n / _RATE - time.perf_counter()))
        wamid = f"wamid.{n:08}"
        content = body(entry(message_value(messages=[text_message(wamid)])))
        posted[wamid] = time.perf_counter()
        async with session.post(f"{url}/webhook", data=content, headers=signed(content, SECRET)) as answer:
            assert answer.status == 200, await answer.text()


async def _look(process: Process, memory: list[float]) -> None:
    while True:
        memory.append(process.resident_bytes / _MB)
        await asyncio.sleep(_LOOK_S)


async def _read(url: str, goal: int, least: int) -> None:
    """Have a reader come, in a process of its own, and wait for its end."""
    command = [sys.executable, "-m", "tests.soak.catch_up", url, str(goal)]
    reader = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await reader.communicate()
    assert reader.returncode == 0, "a reader missed an event"
    assert int(output) >= least, output


def _delays(posted: dict[str, float], seen: dict[str, float], which: set[str]) -> dict[str, float]:
    delays = sorted((seen[wamid] - posted[wamid]) * 1000 for wamid in which if wamid in seen)
    assert len(delays) >= len(which) - _RATE, "webhooks did not reach the live subscriber"
    return {
        "p50": round(delays[len(delays) // 2], 1),
        "p99": round(delays[int(len(delays) * 0.99)], 1),
        "most": round(delays[-1], 1),
    }


async def _be_a_reader(url: str, goal: int) -> int:
    place, count = -1, 0
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}?since=0", max_msg_size=0) as socket,
    ):
        decode = msgspec.json.Decoder(_Frame).decode
        async for message in socket:
            frame = decode(message.data)
            if frame.type == "event":
                assert frame.prev == place, (frame, place)
                count += 1
            place = frame.offset
            if place >= goal:
                return count
    raise AssertionError(f"closed with {socket.close_code} at {place}")


class _Frame(msgspec.Struct):
    type: str
    offset: int
    prev: int = 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        print(asyncio.run(_be_a_reader(sys.argv[1], int(sys.argv[2]))))
