"""A reader of server-sent events, as a browser takes them apart (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from tests.support.waiting import GUARD_S

__all__ = ["Message", "Stream", "streaming"]


class Message(NamedTuple):
    """One message of a stream."""

    event: str
    """``message`` where it says none."""
    id: str
    """The last that was given."""
    data: dict[str, Any]


class Stream:
    """A connection that is open."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.retry_ms = 0
        self.comments = 0
        self._id = ""

    async def message(self) -> Message | None:
        """The next one; None once the stream has ended."""
        event, data = "message", []
        async with asyncio.timeout(GUARD_S):
            while True:
                raw = await self.response.content.readuntil(b"\n")
                if not raw:
                    return None
                line = raw.decode().removesuffix("\n")
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if not line:
                    if data:
                        return Message(event, self._id, json.loads("\n".join(data)))
                elif name == "data":
                    data.append(value)
                elif name == "id":
                    self._id = value
                elif name == "event":
                    event = value
                elif name == "retry":
                    self.retry_ms = int(value)
                else:
                    assert not name, line
                    self.comments += 1

    async def events(self, last: int) -> list[Message]:
        """Events of the log up to this offset, whatever else comes between."""
        found: list[Message] = []
        while not found or found[-1].data["offset"] < last:
            message = await self.message()
            assert message is not None, "the stream has ended"
            if message.event == "message":
                found.append(message)
        return found


@asynccontextmanager
async def streaming(url: str, *, buffer_bytes: int = 2**24, **headers: str) -> AsyncIterator[Stream]:
    """A stream; underscores in the names of headers stand for dashes. ``buffer_bytes``: so much is taken from
    the network before anybody asks for it, and no line may be longer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout, read_bufsize=buffer_bytes) as session,
        session.get(url, headers=named) as response,
    ):
        assert response.status == 200, await response.text()
        yield Stream(response)
