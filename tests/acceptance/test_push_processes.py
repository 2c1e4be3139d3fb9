"""Two processes on one MongoDB push to the same receiver: one does the work, any takes a person's word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.load import post_webhook
from tests.support.mongod import database_url, shared_mongod
from tests.support.process import Installation
from tests.support.receiver import Receiver, receiving
from tests.support.waiting import GUARD_S, eventually

Json = dict[str, Any]


def _installation(folder: Path, name: str, store: str, receiver: Receiver) -> Installation:
    place = folder / name
    place.mkdir()
    hook = {"name": "crm", "url": receiver.url, "types": ["message.received"]}
    return Installation(
        place,
        STORE_URL=store,
        HOOKS_ENDPOINTS=json.dumps([hook]),
        LEASE_TTL_S=3,
        AUTOREPLY_ENABLED="false",
    )


async def _write(session: aiohttp.ClientSession, installation: Installation, text: str) -> None:
    async def taken() -> bool:
        message = (f"wamid.{text}", "5215550001111", text)
        return (await post_webhook(session, installation.url, [message])).status == 200

    await eventually(taken)


async def _hook(session: aiohttp.ClientSession, installation: Installation) -> Json:
    async with session.get(f"{installation.url}/api/hooks/crm") as answer:
        found: Json = await answer.json()
        return found


async def _word(session: aiohttp.ClientSession, installation: Installation, word: str) -> Json:
    async with session.post(f"{installation.url}/api/hooks/crm/{word}") as answer:
        assert answer.status == 200, await answer.text()
        found: Json = (await answer.json())["hook"]
        return found


def _texts(receiver: Receiver) -> list[str]:
    return [event["data"]["text"] for post in receiver.taken for event in post.events]


async def test_one_process_pushes_another_goes_on_when_it_dies_and_each_takes_a_word(tmp_path: Path) -> None:
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    with shared_mongod(tmp_path / "mongo") as server:
        store = database_url(server, "push")
        async with receiving() as receiver, aiohttp.ClientSession(timeout=timeout) as session:
            installations = [_installation(tmp_path, name, store, receiver) for name in ("one", "two")]
            processes = {one.url: await one.start() for one in installations}
            try:
                await _write(session, installations[0], "a")
                await _write(session, installations[1], "b")
                await receiver.took(2)
                assert _texts(receiver) == ["a", "b"]

                states = [await _hook(session, one) for one in installations]
                assert sorted(state["here"] for state in states) == [False, True]
                worker, idle = sorted(
                    installations, key=lambda one: not states[installations.index(one)]["here"]
                )
                assert (await _word(session, idle, "pause"))["state"] == "paused"
                await _write(session, worker, "c")
                assert (await _hook(session, worker))["state"] == "paused"
                assert len(receiver.posts) == 2
                await _word(session, idle, "resume")
                await receiver.took(3)

                await processes[worker.url].kill()
                await _write(session, idle, "d")
                await receiver.wait(lambda: "d" in _texts(receiver), "what came after the death")
                # The last before it may come again: its place was saved a moment later, or not at all.
                assert list(dict.fromkeys(_texts(receiver))) == ["a", "b", "c", "d"]
                assert (await _hook(session, idle))["here"]
                assert (await _word(session, idle, "replay?from=0"))["state"] == "running"
                await receiver.wait(lambda: _texts(receiver)[-4:] == ["a", "b", "c", "d"], "all of it anew")
            finally:
                for process in processes.values():
                    await process.kill()
            for one in installations:
                one.check_logs()
