"""Receivers that events are pushed to, each a process of its own: hooks, or the server of the relay.

As a program of its own it is such a receiver: ``python -m tests.soak.pushed KIND EVENTS`` prints its port,
takes what comes, and ends once it has so many events of the past; with an error where one is missing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from hub.delivery import Record
from settings import RELAY
from store.base import Store
from store.records import Memo
from tests.support.process import ROOT
from whatsapp.events import EventType

__all__ = ["KINDS", "Pushed", "pushing"]

KINDS = ("hooks", "relay")
_MOST_S = 3600.0


class Pushed:
    """Receivers that wait for their events. Use within :func:`pushing`."""

    def __init__(self, kind: str, processes: list[asyncio.subprocess.Process], ports: list[int]) -> None:
        self._processes = processes
        self._names = [RELAY] if kind == "relay" else [f"hook-{n}" for n in range(len(ports))]
        self.settings: dict[str, object] = {"RELAY_TYPES": "*"}
        """Of the gateway that pushes to them."""
        if kind == "relay":
            self.settings["WEBSOCKET_URL"] = f"ws://127.0.0.1:{ports[0]}/"
        else:
            endpoints = [
                {"name": name, "url": f"http://127.0.0.1:{port}/", "types": ["*"], "batch": 100}
                for name, port in zip(self._names, ports, strict=True)
            ]
            self.settings["HOOKS_ENDPOINTS"] = json.dumps(endpoints)

    async def prepare(self, store: Store) -> None:
        """Have each begin with the oldest event, once it is resumed."""
        record = Record(paused_at=1, reason="person", go_to=0)
        for name in self._names:
            assert await store.put_memo(Memo(f"outlet:{name}", 1, msgspec.json.encode(record)))

    async def catch_up(self, session: aiohttp.ClientSession, url: str) -> None:
        """Let them go, and return once each has the past. One that misses an event takes no more, and fails
        this by its time."""
        for name in self._names:
            async with session.post(f"{url}/api/hooks/{name}/resume") as answer:
                assert answer.status == 200, await answer.text()
        async with asyncio.timeout(_MOST_S):
            for process in self._processes:
                assert await process.wait() == 0, "a receiver failed"


@asynccontextmanager
async def pushing(kind: str, count: int, events: int) -> AsyncIterator[Pushed]:
    """So many receivers, of which the relay has one; gone at the end."""
    command = [sys.executable, "-m", "tests.soak.pushed", kind, str(events)]
    processes, ports = [], []
    try:
        for _ in range(1 if kind == "relay" else count):
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
            processes.append(process)
            assert process.stdout is not None
            ports.append(int(await process.stdout.readline()))
        yield Pushed(kind, processes, ports)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


class _Event(msgspec.Struct):
    event: str
    offset: int
    prev: int


class _Receiver:
    """Takes the past, and what comes meanwhile."""

    def __init__(self, events: int) -> None:
        self._left = events
        self._place = 0
        self.done = asyncio.Event()

    async def post(self, request: web.Request) -> web.Response:
        """A hook's batch."""
        for event in msgspec.json.decode(await request.read(), type=list[_Event]):
            self._take(event)
        return web.Response()

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """The relay's connection."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()  # its hello
        decode = msgspec.json.Decoder(_Event).decode
        async for message in socket:
            self._take(decode(message.data))
        return socket

    def _take(self, event: _Event) -> None:
        assert event.prev == self._place, (event, self._place)
        self._place = event.offset
        self._left -= event.event == EventType.WEBHOOK_OTHER
        if self._left == 0:
            self.done.set()


async def _receive(events: int) -> None:
    receiver = _Receiver(events)
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/", receiver.post)
    application.router.add_get("/", receiver.socket)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: Any = runner.addresses[0][1]
    print(port, flush=True)
    await receiver.done.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_receive(int(sys.argv[2])))
