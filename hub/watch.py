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
_BAD_REQUEST = 4400
_BAD_TOKEN = 4401


class _Refusal(msgspec.Struct):
    error: str


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
                since = await _listen(session, url, token, since, show)
            except aiohttp.WSServerHandshakeError as error:
                if error.status < 500:
                    why = await _reason(session, url, since) or f"HTTP {error.status}"
                    raise WatchRefused(f"{url} refuses: {why}") from error
                tell(f"{url} answers HTTP {error.status}")
            except aiohttp.ClientError as error:
                tell(f"cannot connect to {url}: {error}")
            await asyncio.sleep(_RECONNECT_S)


async def _listen(
    session: aiohttp.ClientSession, url: str, token: str, since: str, show: Callable[[str], None]
) -> str:
    epoch = ""
    async with session.ws_connect(url, params=_query(since)) as socket:
        if not token:
            # One that needs a key would wait for it, and nobody here would learn why it is silent.
            await socket.send_json({"op": "auth", "token": ""})
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            show(message.data)
            frame = msgspec.json.decode(message.data, type=dict[str, Any])
            epoch = frame.get("epoch", epoch)
            if "offset" in frame:
                since = f"{epoch}:{frame['offset']}"
        if socket.close_code == _BAD_TOKEN:
            why = "this is not its API_KEY" if token else "it needs its API_KEY, and none is set here"
            raise WatchRefused(f"{url} refuses: {why}")
        if socket.close_code == _BAD_REQUEST:
            raise WatchRefused(f"{url} refuses what was asked for, see the error before")
    return since


async def _reason(session: aiohttp.ClientSession, url: str, since: str) -> str:
    """The gateway's own sentence for a refusal; empty where there is none.

    A handshake that failed does not hand over its answer, so it is asked once more, without an upgrade.
    """
    try:
        async with session.get(f"http{url.removeprefix('ws')}", params=_query(since)) as answer:
            return msgspec.json.decode(await answer.read(), type=_Refusal).error
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _query(since: str) -> dict[str, str]:
    return {"since": since} if since else {}
