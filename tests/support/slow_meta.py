"""A Meta that answers each send when the test tells it to, and a Graph client at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.waiting import GUARD_S
from whatsapp.graph import Graph

__all__ = ["SlowMeta", "calling"]


class SlowMeta:
    """Answers each POST when it is told to; notes what came. There is nothing to GET."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.requests: asyncio.Queue[str] = asyncio.Queue()
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    def answer(self, wamid: str = "wamid.1") -> None:
        """Take one more request, under this id."""
        self._answers.put_nowait(b'{"messages":[{"id":"%s"}]}' % wamid.encode())

    def close(self) -> None:
        """End its connections."""
        for writer in self._writers:
            writer.close()
            self._answers.put_nowait(None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self._writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    continue
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests.put_nowait(body.decode())
                answer = await self._answers.get()
                if answer is None:
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


@asynccontextmanager
async def calling(connections: int) -> AsyncIterator[tuple[SlowMeta, Graph]]:
    """A client with so many connections at most."""
    meta = SlowMeta()
    server = await asyncio.start_server(meta.serve, "127.0.0.1", 0)
    meta.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    graph = Graph(meta.url, "v26.0", "T", connections=connections)
    await graph.open()
    try:
        async with asyncio.timeout(GUARD_S):
            yield meta, graph
    finally:
        await graph.close()
        meta.close()
        server.close()
