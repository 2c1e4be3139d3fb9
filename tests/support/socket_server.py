"""An outside WebSocket server that events are pushed to: it keeps what it hears, and may behave badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

__all__ = ["SocketServer", "pushed_to"]

Json = dict[str, Any]
_WITHIN_S = 20.0


class SocketServer:
    """Use within :func:`pushed_to`. It reads, and says nothing unless it is told to."""

    def __init__(self, max_size: int) -> None:
        """``max_size``: bytes of a frame that it takes."""
        self._max_size = max_size
        self.port = 0
        self.hellos: list[Json] = []
        """The first frame of each connection."""
        self.events: list[Json] = []
        """All that came, repeats too."""
        self.closes: list[int | None] = []
        """How each connection ended."""
        self.requests: list[Request] = []
        self.connection: ServerConnection | None = None
        """The last one."""
        self.refuse: Callable[[ServerConnection], Response] | None = None
        """In place of a handshake."""
        self.on_event: Callable[[ServerConnection, Json], Awaitable[None]] | None = None
        self._server: Server | None = None
        self._grown = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where it is, or was."""
        return f"ws://127.0.0.1:{self.port}/push"

    @property
    def texts(self) -> list[str]:
        """Of the messages that came, repeats too."""
        return [event["data"]["text"] for event in self.events]

    async def start(self) -> None:
        """Listen; again on the same port."""
        self._server = await serve(
            self._take,
            "127.0.0.1",
            self.port,
            process_request=self._look,
            ping_interval=None,
            max_size=self._max_size,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be away: connections break, and new ones are refused."""
        server, self._server = self._server, None
        if server is not None:
            for connection in tuple(server.connections):
                connection.transport.abort()
            server.close()
            await server.wait_closed()

    async def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Return once this holds; looked at whenever something comes, or a connection ends."""
        try:
            async with asyncio.timeout(_WITHIN_S), self._grown:
                await self._grown.wait_for(ready)
        except TimeoutError:
            raise AssertionError(f"did not come: {what}; {self.texts}") from None

    async def got(self, count: int) -> list[str]:
        """The texts, once there were so many events."""
        await self.wait(lambda: len(self.events) >= count, f"{count} events")
        return self.texts

    async def greeted(self, count: int) -> None:
        """Return once so many connections were made."""
        await self.wait(lambda: len(self.hellos) >= count, f"{count} connections")

    async def _look(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return self.refuse(connection) if self.refuse else None

    async def _take(self, connection: ServerConnection) -> None:
        self.connection = connection
        try:
            async for text in connection:
                frame = json.loads(text)
                (self.hellos if frame["type"] == "hello" else self.events).append(frame)
                await self._tell()
                if self.on_event and frame["type"] == "event":
                    await self.on_event(connection, frame)
        except websockets.ConnectionClosed:
            pass
        finally:
            self.closes.append(connection.close_code)
            await self._tell()

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()


@asynccontextmanager
async def pushed_to(max_size: int = 2**20) -> AsyncIterator[SocketServer]:
    """A server that listens; gone at the end."""
    server = SocketServer(max_size)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
