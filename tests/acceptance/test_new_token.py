"""A token that Meta refuses parks its number; a new one is taken over without a restart, and all goes out."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.process import TOKEN, Installation, Process, SandboxProcess, running_sandbox
from tests.support.waiting import GUARD_S, eventually

_MESSAGES = 5


class Running:
    """A gateway whose token Meta refuses, with messages that wait."""

    def __init__(
        self, installation: Installation, process: Process, meta: SandboxProcess, http: aiohttp.ClientSession
    ) -> None:
        self.installation = installation
        self.process = process
        self.meta = meta
        self._http = http

    def write(self, token: str, **more: str) -> None:
        write(self.installation.folder, token, **more)

    async def queue(self) -> None:
        for n in range(_MESSAGES):
            body = {"phone": f"4915155{n:06d}", "message": "hello", "use_queue": True}
            async with self._http.post(f"{self.installation.url}/api/send-message", json=body) as answer:
                assert answer.status == 200, await answer.text()

    async def lane(self) -> dict[str, Any]:
        async with self._http.get(f"{self.installation.url}/api/status") as answer:
            (lane,) = (await answer.json())["lanes"]
            found: dict[str, Any] = lane
            return found

    async def parks(self) -> None:
        async def parked() -> bool:
            return (await self.lane())["state"] == "parked"

        await eventually(parked, "the lane to park")

    async def logs(self, text: str) -> None:
        async def logged() -> bool:
            return text in self.process.errors

        await eventually(logged, f"{text!r} in the log")

    async def sends_all(self) -> None:
        async def sent() -> bool:
            return len(await self.meta.accepted()) >= _MESSAGES

        await eventually(sent, "all messages to be sent")
        accepted = await self.meta.accepted()
        # Each once, and each but the first, which was refused, at its first attempt.
        assert sorted(item["to"] for item in accepted) == [f"4915155{n:06d}" for n in range(_MESSAGES)]


def write(folder: Path, token: str, **more: str) -> None:
    lines = {"ACCESS_TOKEN": token, **more}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))


@asynccontextmanager
async def refused_token(folder: Path) -> AsyncIterator[Running]:
    # Probed by itself it would be after an hour.
    installation = Installation(folder, ACCESS_TOKEN=None, LANE_PROBE_S=3600)
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    async with (
        running_sandbox(folder, installation.port, "--status-delays", "none") as meta,
        aiohttp.ClientSession(timeout=timeout) as http,
    ):
        installation.send_to(meta.base_url)
        write(folder, "a-token-that-was-withdrawn")
        process = await installation.start()
        running = Running(installation, process, meta, http)
        try:
            await running.queue()
            await running.parks()
            yield running
        finally:
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0
            installation.check_logs()


async def test_a_file_that_changes_brings_the_new_token(tmp_path: Path) -> None:
    async with refused_token(tmp_path) as running:
        assert "access token" in (await running.lane())["why"]
        running.write(TOKEN)
        await running.sends_all()
        assert (await running.lane())["state"] == "running"
        assert TOKEN not in running.process.errors


async def test_a_file_of_its_own_brings_the_new_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with refused_token(tmp_path) as running:
        token.write_text(TOKEN)
        (tmp_path / ".env").write_text(f"ACCESS_TOKEN_FILE={token}\n")
        await running.sends_all()
        assert TOKEN not in running.process.errors


async def test_sighup_has_the_number_probed_with_what_is_there(tmp_path: Path) -> None:
    async with refused_token(tmp_path) as running:
        # Still withdrawn: the probe that the signal asks for fails, and the next signal asks again.
        running.process.signal(signal.SIGHUP)
        await running.logs("no access token has changed")
        assert (await running.lane())["state"] == "parked"
        running.write(TOKEN)
        running.process.signal(signal.SIGHUP)
        await running.sends_all()


@pytest.mark.parametrize("how", ["file", "signal"])
async def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path, how: str) -> None:
    async with refused_token(tmp_path) as running:
        running.write("two words", LANE_RATE="fast")
        if how == "signal":
            running.process.signal(signal.SIGHUP)
        await running.logs("the old ones stay")
        await running.logs("LANE_RATE: must be a number")
        assert (await running.lane())["state"] == "parked"
        running.write(TOKEN)
        await running.sends_all()
