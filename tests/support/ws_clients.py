"""Three real WebSocket clients behind one face, so that a test can be run with each."""

from __future__ import annotations

from typing import Any, Protocol

import aiohttp
import msgspec
import tornado.websocket
import websockets

__all__ = ["AiohttpClient", "Closed", "TornadoClient", "WebsocketsClient", "WsClient"]


class Closed(Exception):
    """The server closed the connection."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class WsClient(Protocol):
    """A connection to a server."""

    async def open(self, url: str, headers: dict[str, str] | None = None) -> None:
        """Connect."""
        ...

    async def receive(self) -> dict[str, Any]:
        """The next frame; raises Closed once there is none any more."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Send a text or binary frame."""
        ...

    async def close(self) -> None:
        """Close, if it is open."""
        ...


class WebsocketsClient:
    """The ``websockets`` library. ``max_queue`` small: it leaves in the network what nobody receives."""

    def __init__(self, max_queue: int | None = 16) -> None:
        self._max_queue = max_queue
        self.connection: websockets.ClientConnection

    async def open(self, url: str, headers: dict[str, str] | None = None) -> None:
        self.connection = await websockets.connect(
            url, additional_headers=headers, max_queue=self._max_queue, max_size=None, proxy=None
        )

    async def receive(self) -> dict[str, Any]:
        try:
            frame: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
        except websockets.ConnectionClosed as error:
            raise Closed(error.rcvd.code if error.rcvd else None) from error
        return frame

    async def send(self, message: str | bytes) -> None:
        await self.connection.send(message)

    async def close(self) -> None:
        await self.connection.close()


class AiohttpClient:
    """The client of aiohttp."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession
        self._connection: aiohttp.ClientWebSocketResponse

    async def open(self, url: str, headers: dict[str, str] | None = None) -> None:
        self._session = aiohttp.ClientSession()
        try:
            self._connection = await self._session.ws_connect(url, headers=headers, max_msg_size=0)
        except BaseException:
            await self._session.close()
            raise

    async def receive(self) -> dict[str, Any]:
        message = await self._connection.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Closed(self._connection.close_code)
        frame: dict[str, Any] = msgspec.json.decode(message.data)
        return frame

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._connection.send_str(message)
        else:
            await self._connection.send_bytes(message)

    async def close(self) -> None:
        await self._connection.close()
        await self._session.close()


class TornadoClient:
    """The client of Tornado."""

    def __init__(self) -> None:
        self._connection: tornado.websocket.WebSocketClientConnection

    async def open(self, url: str, headers: dict[str, str] | None = None) -> None:
        request = tornado.httpclient.HTTPRequest(url, headers=headers)
        self._connection = await tornado.websocket.websocket_connect(request)

    async def receive(self) -> dict[str, Any]:
        message = await self._connection.read_message()
        if message is None:
            raise Closed(self._connection.close_code)
        frame: dict[str, Any] = msgspec.json.decode(message)
        return frame

    async def send(self, message: str | bytes) -> None:
        await self._connection.write_message(message, binary=isinstance(message, bytes))

    async def close(self) -> None:
        self._connection.close()
