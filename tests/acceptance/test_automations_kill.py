"""``kill -9`` while rules answer, hand over and take opt-outs: each message has each of them once."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.follower import read_log
from tests.support.killing import STORES, installed
from tests.support.load import LEASED
from tests.support.process import Installation
from tests.support.receiver import Delivery, receiving
from tests.support.waiting import GUARD_S, eventually
from tests.support.writers import Writers, kill_amid

Json = dict[str, Any]

_KILLS = {"sqlite": 8, "mongo": 4}
_RULES = [
    {"name": "echo", "patterns": [r"(\d+)"], "text": "You said {1}.", "stop": False, "cooldown_s": 0},
    {"name": "bot", "always": True, "hand_over": "shop", "cooldown_s": 0},
]


def _message(number: int) -> tuple[str, str]:
    """Each writes once; every third opts out."""
    return f"52155500{number:05}", "stop" if number % 3 == 0 else f"text {number}"


async def _two_messages(delivery: Delivery, request: web.Request) -> web.StreamResponse:
    said = json.loads(delivery.body)["offset"]
    messages = [{"type": "text", "text": {"body": f"{place} of {said}"}} for place in ("one", "two")]
    return web.json_response({"messages": messages})


async def _settled(installation: Installation) -> list[Json]:
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
            customers = Writers(installation.url, _message)
            rng = random.Random("automations")
            process = await kill_amid(installation, customers, _KILLS[store], rng, most=25)
            try:
                log = await _settled(installation)
            finally:
                await process.kill()
            installation.check_logs()
    total, leavers = len(customers.acknowledged), customers.acknowledged.count("stop")
    told = Counter(event["event"] for event in log)
    assert told["message.received"] == total
    assert told["automation.handover"] == total
    assert told["contact.suppressed"] == leavers
    assert told["automation.failed"] == told["automation.limited"] == 0
    sources = Counter(event["data"]["source"] for event in log if event["event"] == "task.created")
    assert sources == {"autoreply:echo": total - leavers, "autoreply:bot": 2 * total}
    handed = Counter(json.loads(post.body)["offset"] for post in shop.posts)
    assert len(handed) == total
