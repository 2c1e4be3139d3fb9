"""``kill -9`` again and again while somebody is erased: in the end nothing of them is left but of others."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.gateway import signed
from tests.support.process import SECRET, Installation
from tests.support.waiting import eventually
from tests.support.webhooks import PHONE, body, entry, message_value, text_message

OTHER = "16505557777"
WORDS = "what she said in confidence"
KILLS = 6


async def post(session: aiohttp.ClientSession, url: str, messages: list[dict[str, Any]]) -> None:
    content = body(entry(message_value(messages=messages)))
    async with session.post(f"{url}/webhook", data=content, headers=signed(content, SECRET)) as answer:
        assert answer.status == 200


async def fill(session: aiohttp.ClientSession, url: str) -> None:
    """People write in turn, and something is queued for one of them; Meta cannot be reached."""
    for n in range(60):
        texts = [text_message(f"wamid.{n}.{m}", f"{WORDS} {n}") for m in range(5)]
        others = [text_message(f"wamid.o{n}.{m}", "hi", **{"from": OTHER}) for m in range(5)]
        await post(session, url, texts + others)
    message = {"phone": PHONE, "message": WORDS, "use_queue": True}
    for _ in range(5):
        async with session.post(f"{url}/api/send-message", json=message) as answer:
            assert answer.status == 200


def left(folder: Path) -> list[str]:
    """Files of the store with something of hers."""
    marks = (PHONE.encode(), WORDS.encode())
    files = sorted(folder.glob("gateway.db*"))
    return [path.name for path in files if any(mark in path.read_bytes() for mark in marks)]


@pytest.mark.timeout(300)
async def test_an_erasure_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    rng = random.Random("erase")
    gateway = Installation(tmp_path, AUTOREPLY_ENABLED="false")
    process = await gateway.start()
    try:
        async with aiohttp.ClientSession() as session:
            await fill(session, gateway.url)
            assert left(tmp_path)
            async with session.delete(f"{gateway.url}/api/contacts/{PHONE}") as answer:
                assert answer.status == 202
                asked = (await answer.json())["erasure"]
            for _ in range(KILLS):
                await asyncio.sleep(rng.uniform(0, 1.5))
                await process.kill()
                process = await gateway.start()

            async def done() -> dict[str, Any] | None:
                async with session.get(f"{gateway.url}/api/erasures/{asked}") as answer:
                    told: dict[str, Any] = await answer.json()
                    return told if told["state"] == "done" else None

            await eventually(done)
            assert left(tmp_path) == []
            async with session.get(f"{gateway.url}/api/events?limit=1000") as answer:
                events = (await answer.json())["events"]
            names = [event["event"] for event in events]
            assert names.count("contact.erased") == 1
            assert [event["contact"] for event in events].count(OTHER) == 300
            assert [event["prev"] for event in events[1:]] == [event["offset"] for event in events[:-1]]
    finally:
        await process.kill()
    gateway.check_logs()
