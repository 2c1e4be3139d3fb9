"""Conversations as a caller reads them: all of them, to their beginnings."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp

from tests.support.waiting import eventually

__all__ = ["read_threads"]

Json = dict[str, Any]
_PAGE = 50


async def read_threads(url: str, head: int) -> dict[str, list[Json]]:
    """What stands in each thread, by contact, once they have all of the log up to this offset."""
    async with aiohttp.ClientSession(url) as session:

        async def get(path: str) -> Json:
            async with session.get(path) as answer:
                assert answer.status == 200, (path, await answer.text())
                found: Json = await answer.json()
                return found

        async def caught_up() -> bool:
            consumers = (await get("/api/status"))["consumers"]
            return any(one["name"] == "conversations" and one["offset"] >= head for one in consumers)

        await eventually(caught_up)
        threads: dict[str, list[Json]] = {}
        before = ""
        while True:
            page = await get(f"/api/conversations?limit={_PAGE}{before}")
            for one in page["conversations"]:
                assert one["contact"] not in threads, "a conversation is on two pages"
                threads[one["contact"]] = await _whole(get, one["contact"])
            if page["next"] is None:
                return threads
            before = f"&before={page['next']}"


async def _whole(get: Any, contact: str) -> list[Json]:
    path = f"/api/conversations/{quote(contact, safe='')}/messages?limit={_PAGE}"
    page = await get(path)
    found: list[Json] = page["messages"]
    while page["older"] is not None:
        page = await get(f"{path}&before={page['older']}")
        found = page["messages"] + found
    return found
