"""Conversations as a caller reads them: all of them, to their beginnings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.support.waiting import eventually

__all__ = ["read_threads"]

Json = dict[str, Any]
Get = Callable[[str], Awaitable[Json]]
_PAGE = 50


async def read_threads(head: int, url: str, *others: str) -> dict[str, list[Json]]:
    """What stands in the threads of each contact, as the first of these processes tells it, once any of them
    has kept all of the log up to this offset."""
    async with aiohttp.ClientSession() as session:

        async def get(path: str, where: str = url) -> Json:
            async with session.get(where + path) as answer:
                assert answer.status == 200, (path, await answer.text())
                found: Json = await answer.json()
                return found

        async def caught_up() -> bool:
            told = [one for where in (url, *others) for one in (await get("/api/status", where))["consumers"]]
            return any(one["name"] == "conversations" and one["offset"] >= head for one in told)

        await eventually(caught_up)
        return {contact: await _whole(get, contact) for contact in await _contacts(get)}


async def _contacts(get: Get) -> list[str]:
    listed: list[tuple[str, str]] = []
    page = await get(f"/api/conversations?limit={_PAGE}")
    while True:
        listed += [(one["contact"], one["phone_number_id"]) for one in page["conversations"]]
        if page["next"] is None:
            break
        page = await get(f"/api/conversations?limit={_PAGE}&before={page['next']}")
    assert len(listed) == len(set(listed)), "a conversation is on two pages"
    return sorted({contact for contact, _ in listed})


async def _whole(get: Get, contact: str) -> list[Json]:
    path = f"/api/conversations/{quote(contact, safe='')}/messages?limit={_PAGE}"
    page = await get(path)
    found: list[Json] = page["messages"]
    while page["older"] is not None:
        page = await get(f"{path}&before={page['older']}")
        found = page["messages"] + found
    return found
