"""A program that the gateway posts to: it keeps what it got, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

__all__ = ["Answer", "Delivery", "Receiver", "endless", "receiving"]

_WITHIN_S = 20.0
Answer = Callable[["Delivery", web.Request], Awaitable[web.StreamResponse]]


class Delivery(NamedTuple):
    """One POST."""

    body: bytes
    headers: Mapping[str, str]

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it holds."""
        found = json.loads(self.body)
        return found if isinstance(found, list) else [found]


class Receiver:
    """Use within :func:`receiving`. Answers 200 unless :attr:`answer` is set."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self.posts: list[Delivery] = []
        """All that came, whatever it was answered."""
        self.taken: list[Delivery] = []
        """What was answered 2xx."""
        self.answer: Answer | None = None
        self.held = asyncio.Event()
        """What an answer may wait for; set at the latest when the receiver goes away."""
        self._grown = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it is, or was before it went away."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/events"

    @property
    def offsets(self) -> list[int]:
        """Of the events that were taken, repeats too."""
        return [event["offset"] for post in self.taken for event in post.events]

    async def start(self) -> None:
        """Listen; again on the same port."""
        self.held = asyncio.Event()
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/events", self._take)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be away: connections are refused."""
        self.held.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def answers(self, *statuses: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next POSTs with these, the last of them from then on."""
        left = list(statuses)

        async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
            status = left.pop(0) if len(left) > 1 else left[0]
            return web.Response(status=status, headers=headers)

        self.answer = answer

    async def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Return once this holds; looked at after each POST."""
        try:
            async with asyncio.timeout(_WITHIN_S), self._grown:
                await self._grown.wait_for(ready)
        except TimeoutError:
            raise AssertionError(f"did not come: {what}; {len(self.posts)} posts came") from None

    async def got(self, count: int) -> list[Delivery]:
        """The POSTs, once there were so many."""
        await self.wait(lambda: len(self.posts) >= count, f"{count} posts")
        return self.posts

    async def took(self, count: int) -> list[Delivery]:
        """Those that were taken, once there were so many."""
        await self.wait(lambda: len(self.taken) >= count, f"{count} posts that were taken")
        return self.taken

    async def _take(self, request: web.Request) -> web.StreamResponse:
        delivery = Delivery(await request.read(), dict(request.headers))
        self.posts.append(delivery)
        await self._tell()
        answer = await self.answer(delivery, request) if self.answer else web.Response()
        if 200 <= answer.status < 300:
            self.taken.append(delivery)
            await self._tell()
        return answer

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that listens; gone at the end."""
    receiver = Receiver(tls)
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


async def endless(delivery: Delivery, request: web.Request) -> web.StreamResponse:
    """An answer that ends only with its connection."""
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b"x" * 65536)
    except ConnectionError:
        return response
