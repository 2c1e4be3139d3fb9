"""docs/relay.md in the hands of who tries it: the receiver that it prints, and the gateway on its sandbox."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import aiohttp

from tests.support.pages import page, section
from tests.support.ports import free_port
from tests.support.process import NOTHING_SET, Installation, Process
from tests.support.waiting import GUARD_S, eventually

_PORT = "9000"


async def test_the_receiver_of_the_page_is_told_what_happens_and_misses_nothing(tmp_path: Path) -> None:
    text = section(page("docs/relay.md"), "Try it").text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (endpoints,) = re.findall(r"HOOKS_ENDPOINTS='(.*)' make run", text)
    (message,) = re.findall(r"/sandbox/inbound .* -d '(.*)'", text)
    port = str(free_port())
    script = tmp_path / "receiver.py"
    script.write_text(code.replace(_PORT, port))
    gateway = Installation(tmp_path, **NOTHING_SET, HOOKS_ENDPOINTS=endpoints.replace(_PORT, port))
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    receiver = await Process.start([sys.executable, script], tmp_path, {})
    process = await gateway.start()
    try:
        async with aiohttp.ClientSession(gateway.url, timeout=timeout) as session:

            async def write() -> None:
                async with session.post("/sandbox/inbound", json=json.loads(message)) as answer:
                    assert answer.status == 200, await answer.text()

            await write()
            seen = [(await receiver.line()).split(maxsplit=2)[1] for _ in range(3)]
            assert seen[0] == "message.received" and "task.created" in seen
            await receiver.kill()
            await write()

            async def failing() -> bool:
                async with session.get("/api/hooks") as answer:
                    (hook,) = (await answer.json())["hooks"]
                    return bool(hook["state"] == "failing")

            await eventually(failing)
            receiver = await Process.start([sys.executable, script], tmp_path, {})
            async with session.post("/api/hooks/try/resume") as answer:
                assert answer.status == 200
            while "message.received" not in await receiver.line():
                pass
    finally:
        await receiver.kill()
        await process.kill()
