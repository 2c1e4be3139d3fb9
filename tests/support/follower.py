"""A subscriber of ``/ws`` that stays: it comes back by its position whenever the connection breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import websockets

from tests.support.waiting import GUARD_S

__all__ = ["Follower", "following", "read_log"]

Json = dict[str, Any]
_AGAIN_S = 0.02


class Follower:
    """Follows and keeps the whole log. Fails where the server cannot go on from a position that it gave."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.events: list[Json] = []
        """Every event frame, as it came."""
        self._types: Counter[str] = Counter()
        self.closes: list[int | None] = []
        """The code with which each connection ended; None where it broke."""
        self.connections = 0
        self._position = "0"

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            with suppress(OSError, TimeoutError, websockets.InvalidHandshake, websockets.ConnectionClosed):
                await self._listen()
            await asyncio.sleep(_AGAIN_S)

    async def until(
        self, condition: Callable[[], bool], what: Callable[[], object], within_s: float = GUARD_S
    ) -> None:
        """Return once ``condition`` holds; it is looked at after every frame and every close.

        ``what``: what is waited for, told when it takes too long.
        """
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, future))
        try:
            async with asyncio.timeout(within_s):
                await future
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what()}; {len(self.events)} events came") from None

    def count(self, type: str) -> int:
        """How many events of this type came."""
        return self._types[type]

    async def _listen(self) -> None:
        url = f"{self._url}?since={self._position}"
        async with websockets.connect(url, max_size=None, proxy=None) as socket:
            try:
                async for message in socket:
                    self._take(msgspec.json.decode(message))
            finally:
                self.closes.append(socket.protocol.close_rcvd.code if socket.protocol.close_rcvd else None)
                self._look()

    def _take(self, frame: Json) -> None:
        if frame["type"] == "hello":
            assert frame["recovered"], frame
            self.connections += 1
            self._position = f"{frame['epoch']}:{frame['offset']}"
        elif frame["type"] == "event":
            self.events.append(frame)
            self._types[frame["event"]] += 1
            self._position = f"{self._position.partition(':')[0]}:{frame['offset']}"
        else:
            raise AssertionError(f"an unexpected frame: {frame}")
        self._look()

    def _look(self) -> None:
        for waiting in tuple(self._waiting):
            condition, future = waiting
            if future.done():
                self._waiting.remove(waiting)
            elif condition():
                future.set_result(None)


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Follower]:
    """A follower at work; fails the test at the end if it failed."""
    follower = Follower(url)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def read_log(url: str, head: int) -> list[Json]:
    """All of the log up to ``head``, read from its beginning by a client that comes anew."""
    async with following(url) as follower:
        await follower.until(
            lambda: bool(follower.events) and follower.events[-1]["offset"] >= head, lambda: f"offset {head}"
        )
        return follower.events
