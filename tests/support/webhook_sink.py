"""A webhook receiver that keeps what it got, says what it is told to say, and can be away."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, NamedTuple

from aiohttp import web

from tests.support.waiting import GUARD_S

__all__ = ["Received", "WebhookSink"]


class Received(NamedTuple):
    """One POST."""

    body: bytes
    signature: str
    content_type: str

    def values(self) -> list[dict[str, Any]]:
        """``value`` of every change."""
        envelope = json.loads(self.body)
        return [change["value"] for entry in envelope["entry"] for change in entry["changes"]]

    def items(self, kind: str) -> list[dict[str, Any]]:
        """Everything in ``messages`` or ``statuses``."""
        return [item for value in self.values() for item in value.get(kind, [])]


class WebhookSink:
    """Its port is taken from the beginning; until :meth:`start`, connections to it are refused."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._runner: web.AppRunner | None = None
        self._grown = asyncio.Condition()
        self.posts: list[Received] = []
        """What was answered 200."""
        self.refused: list[Received] = []
        self.refuse_next = 0
        """So many POSTs are answered 500 first."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/webhook"

    async def start(self) -> None:
        application = web.Application(client_max_size=4_000_000)
        application.router.add_post("/webhook", self._take)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.close()

    def items(self, kind: str) -> list[dict[str, Any]]:
        """All ``messages`` or ``statuses`` so far."""
        return [item for post in self.posts for item in post.items(kind)]

    async def wait_for(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The ``messages`` or ``statuses``, once there are ``count``."""
        async with asyncio.timeout(GUARD_S), self._grown:
            await self._grown.wait_for(lambda: len(self.items(kind)) >= count)
        return self.items(kind)

    async def _take(self, request: web.Request) -> web.Response:
        received = Received(
            await request.read(), request.headers["X-Hub-Signature-256"], request.headers["Content-Type"]
        )
        if self.refuse_next:
            self.refuse_next -= 1
            self.refused.append(received)
            return web.Response(status=500)
        self.posts.append(received)
        async with self._grown:
            self._grown.notify_all()
        return web.Response()
