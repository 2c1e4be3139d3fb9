"""The commands that the pages print, in the hands of whoever copies them: each works, and answers as its page
says."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.curl import HAS_CURL, Ran, run
from tests.support.pages import Command, differences, lines_of, page, section, sections
from tests.support.process import NOTHING_SET, Installation
from tests.support.waiting import GUARD_S, eventually

_PRINTED = "http://127.0.0.1:5000"
_KEEPS = re.compile(r"([A-Z]+)=the-(\w+)-of-the-answer\n")
_SETS = re.compile(r"([A-Z]+=.*\n)+")
_LOOK_S = 0.05


class Reader:
    """Who copies the commands of a page, in its order, into one shell."""

    def __init__(self, url: str, folder: Path, *, with_curl: bool) -> None:
        self.url = url
        self._folder = folder
        self._with_curl = with_curl
        self._variables = ""
        self._before: dict[str, str] = {}
        self.answer: dict[str, Any] = {}
        """The last one that was an object."""

    async def copy(self, command: Command) -> None:
        """Run a command. Fails where it does not answer as the page says."""
        if kept := _KEEPS.fullmatch(command.text):
            self._variables += f"{kept[1]}={self.answer[kept[2]]}\n"
        elif _SETS.fullmatch(command.text):
            self._variables += command.text
        else:
            ran, wrong = await self._answered(command)
            assert not wrong, f"{command.text}\n{wrong}\n{ran}"
            self._compare_repetition(command.text, ran.output)

    async def run(self, text: str) -> Ran:
        """Run a command whatever it answers."""
        script = self._variables + text.replace(_PRINTED, self.url)
        ran = await run(script, self._folder, with_curl=self._with_curl)
        if ran.output.startswith("{"):
            self.answer = json.loads(ran.output)
        return ran

    async def _answered(self, command: Command) -> tuple[Ran, list[str]]:
        """The answer, and where it is not as the page says. What only asks is asked again until it is: what
        it asks for is under way."""
        deadline = time.monotonic() + GUARD_S
        asks = command.called[0] == "GET"
        while True:
            ran = await self.run(command.text)
            wrong = _wrong(command, ran)
            if not wrong or not asks or time.monotonic() > deadline:
                return ran, wrong
            await asyncio.sleep(_LOOK_S)

    def _compare_repetition(self, text: str, output: str) -> None:
        if "Idempotency-Key" in text:
            assert self._before.setdefault(text, output) == output


def _wrong(command: Command, ran: Ran) -> list[str]:
    if ran.exit != 0:
        return [f"exit status {ran.exit}"]
    if ran.status != (command.status if command.called[0] else 0):
        return [f"HTTP {ran.status}, and {command.status} on the page"]
    if not command.kind:
        return ["it prints something"] if ran.output else []
    try:
        told = command.read(ran.output)
    except ValueError as error:
        return [f"no {command.kind}: {error}"]
    return list(differences(command.shown, told))


@asynccontextmanager
async def _reading(folder: Path, *, with_curl: bool) -> AsyncIterator[Reader]:
    """The gateway on its sandbox as a process, and somebody with a page."""
    # Retries that a person would wait seconds for.
    installation = Installation(folder, **NOTHING_SET, RETRY_BASE_S=0.05)
    process = await installation.start()
    try:
        yield Reader(installation.url, folder, with_curl=with_curl)
    finally:
        await process.kill()
    installation.check_logs()


@pytest.mark.parametrize("with_curl", [True, False], ids=["with curl", "without"])
async def test_every_command_of_the_api_page_answers_as_it_says(tmp_path: Path, with_curl: bool) -> None:
    if with_curl and not HAS_CURL:
        pytest.skip("there is no curl here")
    commands = [command for one in sections(page("docs/api.md")) for command in one.commands()]
    assert sum(command.called[0] != "" for command in commands) > 40
    async with _reading(tmp_path, with_curl=with_curl) as reader:
        for command in commands:
            await reader.copy(command)


async def test_every_command_of_the_tour_does_what_it_says(tmp_path: Path) -> None:
    lines = lines_of(section(page("README.md"), "The sandbox tour").text)
    calls = [line for line in lines if line.startswith("curl ")]
    # Whoever watches is in test_start.py.
    assert [line for line in lines if line not in calls] == [".venv/bin/python server.py --watch"]
    assert len(calls) >= 9
    async with _reading(tmp_path, with_curl=HAS_CURL) as reader:
        for call in calls:
            text = call.replace("THE_TASK_ID", str(reader.answer.get("task_id")))
            ran = await reader.run(text)
            assert (ran.exit, ran.status) == (0, 200), (text, ran)
            assert json.loads(ran.output).get("success", True) is True, (text, ran)


async def test_every_command_of_what_meta_tells_does_what_it_says(tmp_path: Path) -> None:
    calls = lines_of(section(page("docs/sandbox.md"), "Meta tells something else").text)
    paused, disabled, status, send, approved, resume, once, twice = calls
    async with _reading(tmp_path, with_curl=HAS_CURL) as reader:

        async def copy(call: str) -> dict[str, Any]:
            ran = await reader.run(call.replace("THE_TASK_ID", str(reader.answer.get("task_id"))))
            assert (ran.exit, ran.status) == (0, 200), (call, ran)
            return reader.answer

        async def troubled() -> list[str]:
            return [one["name"] for one in (await copy(status))["trouble"] if "resume" in one["why"]]

        async def state_of(task_id: str) -> str:
            path = f"curl -s {_PRINTED}/api/tasks/{task_id}/messages"
            state: str = (await copy(path))["messages"][0]["state"]
            return state

        async def is_read(task_id: str) -> bool:
            return await state_of(task_id) == "read"

        async def troubled_by(*names: str) -> bool:
            return await troubled() == list(names)

        async def runs() -> bool:
            return (await copy(status))["lanes"][0]["state"] == "running"

        # Who is not there yet does not hear of it.
        await eventually(runs)
        await copy(paused)
        await eventually(lambda: troubled_by("promo"))
        await copy(disabled)
        await eventually(lambda: troubled_by("promo", "offer"))
        waiting = (await copy(send))["task_id"]
        assert await state_of(waiting) == "queued"
        await copy(approved)
        await eventually(lambda: is_read(waiting))
        assert await troubled_by("offer")
        assert (await copy(resume))["phone_number_ids"] == ["100000000000001"]
        assert await troubled_by()
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{reader.url}/ws") as socket:
            await copy(once)
            await copy(twice)
            async with asyncio.timeout(GUARD_S):
                while (frame := await socket.receive_json()).get("event") != "message.doubled":
                    pass
        assert "wamid.SECOND" in frame["data"]["wamids"]
