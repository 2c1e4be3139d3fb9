"""docs/relay.md in the hands of who tries it: the receivers that it prints, with a gateway on its sandbox."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from tests.support.pages import page, section
from tests.support.ports import free_port
from tests.support.process import NOTHING_SET, Installation, Process
from tests.support.waiting import GUARD_S, eventually

PAGE = page("docs/relay.md")
HOOKS_PORT, RELAY_PORT = "9000", "9001"


class _Reader:
    """Who runs the receivers of the page, on a port of their own, and has the gateway push to them."""

    def __init__(self, folder: Path, heading: str, port: str, **variables: str) -> None:
        (code,) = re.findall(r"```python\n(.*?)```", section(PAGE, heading).text, re.DOTALL)
        free = str(free_port())
        self._folder = folder
        self._script = folder / "receiver.py"
        self._script.write_text(code.replace(port, free))
        changed = {name: value.replace(port, free) for name, value in variables.items()}
        self.gateway = Installation(folder, **NOTHING_SET, **changed)

    async def receive(self) -> Process:
        """A receiver that runs."""
        return await Process.start([sys.executable, self._script], self._folder, {})

    async def write(self, session: aiohttp.ClientSession) -> None:
        """A customer writes, as on the page."""
        (message,) = re.findall(r"/sandbox/inbound .* -d '(.*)'", PAGE)
        async with session.post("/sandbox/inbound", json=json.loads(message)) as answer:
            assert answer.status == 200, await answer.text()


async def _sees(receiver: Process, event: str) -> None:
    while event not in (line := await receiver.line()):
        assert line, receiver.errors


async def _tried(reader: _Reader, name: str, events: Sequence[str]) -> None:
    """Something happens, the receiver goes away, something happens, it comes back."""
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    receiver = await reader.receive()
    process = await reader.gateway.start()
    try:
        async with aiohttp.ClientSession(reader.gateway.url, timeout=timeout) as session:
            await reader.write(session)
            for event in events:
                await _sees(receiver, event)
            await receiver.kill()
            await reader.write(session)

            async def failing() -> bool:
                async with session.get("/api/hooks") as answer:
                    (hook,) = (await answer.json())["hooks"]
                    return bool(hook["state"] == "failing")

            await eventually(failing)
            receiver = await reader.receive()
            async with session.post(f"/api/hooks/{name}/resume") as answer:
                assert answer.status == 200
            await _sees(receiver, "message.received")
    finally:
        await receiver.kill()
        await process.kill()
    reader.gateway.check_logs()


async def test_the_hook_of_the_page_is_told_what_happens_and_misses_nothing(tmp_path: Path) -> None:
    (endpoints,) = re.findall(r"HOOKS_ENDPOINTS='(.*)' make run", PAGE)
    reader = _Reader(tmp_path, "Try it", HOOKS_PORT, HOOKS_ENDPOINTS=endpoints)
    await _tried(reader, "try", ["message.received", "task.created"])


async def test_the_server_of_the_page_is_told_what_came_from_meta_and_misses_nothing(tmp_path: Path) -> None:
    (url, ack) = re.findall(r"WEBSOCKET_URL=(\S+) RELAY_ACK=(\S+) make run", PAGE)[0]
    reader = _Reader(tmp_path, "The relay", RELAY_PORT, WEBSOCKET_URL=url, RELAY_ACK=ack)
    await _tried(reader, "relay", ["message.received", "message.delivered"])
