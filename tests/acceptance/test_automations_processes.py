"""Two processes on one MongoDB: rules act once whoever takes the message, also when one dies, and an
opt-out at one counts at the other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.follower import read_log
from tests.support.load import post_webhook
from tests.support.mongod import database_url, shared_mongod
from tests.support.process import Installation
from tests.support.receiver import Delivery, receiving
from tests.support.waiting import GUARD_S, eventually

Json = dict[str, Any]

_RULES = [
    {"name": "echo", "keywords": ["text"], "text": "You said {match}.", "stop": False, "cooldown_s": 0},
    {"name": "bot", "always": True, "hand_over": "shop"},
]


async def _answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
    return web.json_response({"messages": [{"type": "text", "text": {"body": "noted"}}]})


def _phone(number: int) -> str:
    return f"52155500{number:05}"


async def _write(session: aiohttp.ClientSession, installation: Installation, number: int, text: str) -> None:
    async def taken() -> bool:
        message = (f"wamid.{number}", _phone(number), text)
        return (await post_webhook(session, installation.url, [message])).status == 200

    await eventually(taken)


async def _log(session: aiohttp.ClientSession, installation: Installation) -> list[Json]:
    async with session.get(f"{installation.url}/api/status") as answer:
        head = (await answer.json())["store"]["head"]
    return await read_log(installation.socket_url, head)


def _answers(log: list[Json]) -> Counter[str]:
    return Counter(event["data"]["source"] for event in log if event["event"] == "task.created")


async def test_rules_act_once_whoever_takes_the_message_and_an_opt_out_counts_everywhere(
    tmp_path: Path,
) -> None:
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    with shared_mongod(tmp_path / "mongo") as server:
        async with receiving() as shop, aiohttp.ClientSession(timeout=timeout) as session:
            shop.answer = _answer
            installations = []
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                installations.append(
                    Installation(
                        tmp_path / name,
                        STORE_URL=database_url(server, "rules"),
                        LEASE_TTL_S=3,
                        AUTOREPLY_RULES=json.dumps(_RULES),
                        AUTOREPLY_HANDOVERS=json.dumps([{"name": "shop", "url": shop.url}]),
                    )
                )
            one, two = installations
            processes = [await installation.start() for installation in installations]
            try:
                for number in range(10):
                    await _write(session, installations[number % 2], number, f"text {number}")
                wanted = {"autoreply:echo": 10, "autoreply:bot": 10}

                async def all_answered() -> bool:
                    return _answers(await _log(session, two)) == wanted

                await eventually(all_answered)

                await _write(session, one, 10, "stop")

                async def told() -> bool:
                    return any(event["event"] == "contact.suppressed" for event in await _log(session, two))

                await eventually(told)
                to_both = [{"phone": _phone(number), "message": "new: tea"} for number in (9, 10)]
                async with session.post(f"{two.url}/api/send-bulk", json={"recipients": to_both}) as answer:
                    body = await answer.json()
                assert (body["skipped"], body["suppressed"]) == (1, 1)

                # The one of the two that acts, or the other: both must leave no message behind.
                await processes[0].kill()
                for number in range(11, 16):
                    await _write(session, two, number, f"text {number}")
                wanted = {"autoreply:echo": 15, "autoreply:bot": 16, "api": 1}
                await eventually(all_answered)
            finally:
                for process in processes:
                    await process.kill()
            for installation in installations:
                installation.check_logs()
    offsets = Counter(json.loads(post.body)["offset"] for post in shop.posts)
    assert len(offsets) == 16
