"""Tells the webhook what the sandbox has to tell: in batches, signed, again and again until it is answered
200.

Owns the only outgoing connections of the sandbox. Updates that are due within the same hundredth of a second
leave in one POST, at most 1,000 of them and 3 MB (CLOUD_API.md 3); eight POSTs are under way at most. One
that fails waits its backoff outside these eight. Order is not kept, as Meta does not keep it.
"""

from __future__ import annotations

import asyncio
import heapq
import io
import itertools
import logging
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp

from whatsapp.sandbox_payloads import Update
from whatsapp.sandbox_rules import retry_delay
from whatsapp.sandbox_settings import require_loopback
from whatsapp.signature import HEADER, sign

__all__ = ["Courier"]

_log = logging.getLogger(__name__)

_TICK_S = 0.01
_UPDATES_LIMIT = 1000
_BYTES_LIMIT = 3_000_000
_ENVELOPE_BYTES = 1000
"""Room kept free in a POST for what surrounds the updates, for each number and kind; more than is needed."""
_ONE_PIECE = 1024 * 1024
_IN_FLIGHT = 8
_ANSWER_WITHIN_S = 10.0


class _Post(NamedTuple):
    due: float
    seq: int
    body: bytes
    signature: str
    updates: int
    since: float
    tries: int


class Courier:
    """Takes updates at any time after :meth:`run` was started; ``encode`` makes one POST's body of them."""

    def __init__(
        self,
        encode: Callable[[Sequence[Update]], bytes],
        secret: str,
        url: str | None,
        *,
        retry_s: float,
        rng: random.Random,
    ) -> None:
        self._encode = encode
        self._secret = secret
        self._url = url
        self._retry_s = retry_s
        self._rng = rng
        self._buckets: dict[int, deque[Update]] = {}
        self._ticks: list[int] = []
        self._retries: list[_Post] = []
        self._seq = itertools.count()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._pending = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._counts = {"posts": 0, "updates": 0, "retries": 0, "given_up": 0}

    @property
    def url(self) -> str | None:
        """Where updates go; setting it raises SandboxError for anything but loopback."""
        return self._url

    @url.setter
    def url(self, url: str | None) -> None:
        self._url = None if url is None else require_loopback(url, "webhook_url")

    @property
    def is_open(self) -> bool:
        """Whether anybody is to be told."""
        return self._url is not None

    def put(self, update: Update, delay: float) -> None:
        """Have this told ``delay`` seconds from now, or up to a hundredth later."""
        tick = math.ceil((asyncio.get_running_loop().time() + delay) / _TICK_S)
        self._pending += 1
        self._settled.clear()
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.append(update)
            return
        self._buckets[tick] = deque((update,))
        heapq.heappush(self._ticks, tick)
        if self._ticks[0] == tick:
            self._wake.set()

    async def settled(self) -> None:
        """Return once nothing waits to be told: all was taken with a 200, or given up."""
        await self._settled.wait()

    def stats(self) -> dict[str, int]:
        """POSTs answered 200, their updates, failed tries, updates given up; and those that wait now."""
        return self._counts | {"pending": self._pending}

    async def run(self) -> None:
        """Post until cancelled."""
        connector = aiohttp.TCPConnector(limit=_IN_FLIGHT)
        timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as posts,
        ):
            while True:
                await self._slots.acquire()
                post = await self._next_post()
                posts.create_task(self._deliver(session, post), name="sandbox-webhook")

    async def _next_post(self) -> _Post:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            if self._retries and self._retries[0].due <= now:
                return heapq.heappop(self._retries)
            if updates := self._collect(now):
                body = self._encode(updates)
                signature = sign(self._secret, body)
                return _Post(now, next(self._seq), body, signature, len(updates), since=now, tries=0)
            await self._wait_until(self._next_due())

    def _collect(self, now: float) -> list[Update]:
        updates: list[Update] = []
        room = _BYTES_LIMIT
        kinds: set[tuple[str, str]] = set()
        while self._ticks and self._ticks[0] * _TICK_S <= now:
            bucket = self._buckets[self._ticks[0]]
            while bucket:
                update = bucket[0]
                kinds.add((update.number, update.kind))
                room -= update.size
                if len(updates) == _UPDATES_LIMIT or (updates and room < len(kinds) * _ENVELOPE_BYTES):
                    return updates
                updates.append(bucket.popleft())
            del self._buckets[heapq.heappop(self._ticks)]
        return updates

    def _next_due(self) -> float | None:
        dues = [post.due for post in self._retries[:1]] + [tick * _TICK_S for tick in self._ticks[:1]]
        return min(dues, default=None)

    async def _wait_until(self, due: float | None) -> None:
        self._wake.clear()
        timer = None if due is None else asyncio.get_running_loop().call_at(due, self._wake.set)
        await self._wake.wait()
        if timer is not None:
            timer.cancel()

    async def _deliver(self, session: aiohttp.ClientSession, post: _Post) -> None:
        try:
            taken = await self._post(session, post)
        finally:
            self._slots.release()
        if taken:
            self._counts["posts"] += 1
            self._counts["updates"] += post.updates
            self._settle(post)
            return
        self._counts["retries"] += 1
        now = asyncio.get_running_loop().time()
        tries = post.tries + 1
        due = now + retry_delay(tries, self._rng)
        if due - post.since > self._retry_s:
            _log.warning("webhook given up", extra={"updates": post.updates, "tries": tries})
            self._counts["given_up"] += post.updates
            self._settle(post)
            return
        heapq.heappush(self._retries, post._replace(due=due, seq=next(self._seq), tries=tries))
        self._wake.set()

    async def _post(self, session: aiohttp.ClientSession, post: _Post) -> bool:
        if self._url is None:
            return False
        headers = {"Content-Type": "application/json", HEADER: post.signature}
        # aiohttp warns of larger bodies as bytes, since it would write them in one piece.
        data = post.body if len(post.body) <= _ONE_PIECE else io.BytesIO(post.body)
        try:
            async with session.post(self._url, data=data, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def _settle(self, post: _Post) -> None:
        self._pending -= post.updates
        if not self._pending:
            self._settled.set()
