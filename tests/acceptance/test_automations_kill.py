"""``kill -9`` while rules answer, hand over and take opt-outs: each message has each of them once."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.follower import read_log
from tests.support.killing import STORES, installed
from tests.support.load import LEASED, post_webhook
from tests.support.process import Installation, Process
from tests.support.receiver import Delivery, receiving
from tests.support.waiting import GUARD_S, eventually, until

Json = dict[str, Any]

_KILLS = {"sqlite": 8, "mongo": 4}
_RULES = [
    {"name": "echo", "patterns": [r"(\d+)"], "text": "You said {1}.", "stop": False, "cooldown_s": 0},
    {"name": "bot", "always": True, "hand_over": "shop", "cooldown_s": 0},
]


class _Customers:
    """Each writes once, until that is answered 200; every third opts out."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.wrote: list[str] = []
        self.ends = False

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=GUARD_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for number in itertools.count():
                if self.ends:
                    return
                text = "stop" if number % 3 == 0 else f"text {number}"
                await eventually(lambda n=number, t=text: self._post(session, n, t))
                self.wrote.append(text)

    async def _post(self, session: aiohttp.ClientSession, number: int, text: str) -> bool:
        try:
            message = (f"wamid.{number}", f"52155500{number:05}", text)
            return (await post_webhook(session, self._url, [message])).status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


async def _two_messages(delivery: Delivery, request: web.Request) -> web.StreamResponse:
    said = json.loads(delivery.body)["offset"]
    messages = [{"type": "text", "text": {"body": f"{place} of {said}"}} for place in ("one", "two")]
    return web.json_response({"messages": messages})


async def _kill_again_and_again(installation: Installation, customers: _Customers, kills: int) -> Process:
    rng = random.Random("automations")
    process = await installation.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(customers.run())
            for _ in range(kills):
                wanted = len(customers.wrote) + rng.randint(3, 25)
                await until(lambda n=wanted: len(customers.wrote) >= n)
                await process.kill()
                process = await installation.start()
            customers.ends = True
    except BaseException:
        await process.kill()
        raise
    return process


async def _settled(installation: Installation, wrote: Sequence[str]) -> list[Json]:
    """The log, once every message has had all that follows from it."""
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def done() -> bool:
            async with session.get(f"{installation.url}/api/status") as answer:
                found = await answer.json()
            waits = ("autoreply", "handover:shop", "suppressions")
            return all(one["lag"] <= 0 for one in found["consumers"] if one["name"] in waits)

        async def all_there() -> int | None:
            # What the consumers do is in the log too, so that their lag ends last.
            return await _head(session, installation) if await done() else None

        head = await eventually(all_there)
        return await read_log(installation.socket_url, head)


async def _head(session: aiohttp.ClientSession, installation: Installation) -> int:
    async with session.get(f"{installation.url}/api/status") as answer:
        return int((await answer.json())["store"]["head"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", STORES)
async def test_kills_while_rules_act_leave_no_message_without_and_none_with_two_answers(
    store: str, tmp_path: Path
) -> None:
    async with receiving() as shop:
        shop.answer = _two_messages
        settings: dict[str, object] = {
            **(LEASED if store == "mongo" else {}),
            "AUTOREPLY_RULES": json.dumps(_RULES),
            "AUTOREPLY_HANDOVERS": json.dumps([{"name": "shop", "url": shop.url}]),
            "AUTOREPLY_ENABLED": "true",
            "AUTOREPLY_MAX_AGE_S": 3600,
        }
        with installed(tmp_path, store, settings) as installation:
            customers = _Customers(installation.url)
            process = await _kill_again_and_again(installation, customers, _KILLS[store])
            try:
                log = await _settled(installation, customers.wrote)
            finally:
                await process.kill()
            installation.check_logs()
    total, leavers = len(customers.wrote), customers.wrote.count("stop")
    told = Counter(event["event"] for event in log)
    assert told["message.received"] == total
    assert told["automation.handover"] == total
    assert told["contact.suppressed"] == leavers
    assert told["automation.failed"] == told["automation.limited"] == 0
    sources = Counter(event["data"]["source"] for event in log if event["event"] == "task.created")
    assert sources == {"autoreply:echo": total - leavers, "autoreply:bot": 2 * total}
    handed = Counter(json.loads(post.body)["offset"] for post in shop.posts)
    assert len(handed) == total
