"""A subscriber for the terminal: prints every frame of a running gateway, and resumes where it was when the
line breaks.

``python server.py --watch``. An example of a client as much as a tool: it needs nothing but the protocol of
``/ws``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

__all__ = ["watch"]

_RECONNECT_S = 1.0


async def watch(url: str, token: str, since: str, show: Callable[[str], None]) -> None:
    """Show the frames of ``url`` until cancelled. ``since``: a position to begin after; empty: the head."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            try:
                since = await _listen(session, url, since, show)
            except aiohttp.ClientError as error:
                show(f"cannot connect to {url}: {error}")
            await asyncio.sleep(_RECONNECT_S)


async def _listen(session: aiohttp.ClientSession, url: str, since: str, show: Callable[[str], None]) -> str:
    epoch = ""
    async with session.ws_connect(url, params={"since": since} if since else {}) as socket:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            show(message.data)
            frame = msgspec.json.decode(message.data, type=dict[str, Any])
            epoch = frame.get("epoch", epoch)
            if "offset" in frame:
                since = f"{epoch}:{frame['offset']}"
    return since
