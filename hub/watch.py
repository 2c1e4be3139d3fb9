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

from store.errors import GatewayError

__all__ = ["WatchRefused", "watch"]

_RECONNECT_S = 1.0
_REFUSALS = {4400: "--since is no position", 4401: "API_KEY is missing or wrong"}


class WatchRefused(GatewayError):
    """The gateway will not have this client, however often it comes."""

    code = "watch_refused"


async def watch(
    url: str, token: str, since: str, *, show: Callable[[str], None], tell: Callable[[str], None]
) -> None:
    """Show the frames of ``url`` until cancelled, and tell of connections that fail.

    ``since``: a position to begin after; empty: the head. Raises WatchRefused.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            try:
                since = await _listen(session, url, since, show)
            except aiohttp.WSServerHandshakeError as error:
                if error.status < 500:
                    why = f"{url} refuses: HTTP {error.status}; look at API_KEY and --since"
                    raise WatchRefused(why) from error
                tell(f"{url} answers HTTP {error.status}")
            except aiohttp.ClientError as error:
                tell(f"cannot connect to {url}: {error}")
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
        if socket.close_code in _REFUSALS:
            raise WatchRefused(f"{url} refuses: {_REFUSALS[socket.close_code]}")
    return since
