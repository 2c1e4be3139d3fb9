"""A sandbox that plays Meta, with a client that calls it and a receiver that it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from tests.support.waiting import GUARD_S, until
from tests.support.webhook_sink import WebhookSink
from whatsapp.sandbox import Sandbox, SandboxSettings
from whatsapp.sandbox_payloads import user_id_of

__all__ = ["NUMBER", "PERSON", "TEXT", "WABA", "Meta", "playing", "settled", "until"]

NUMBER = "100000000000001"
WABA = "200000000000001"
PERSON = user_id_of("16505551234")
"""The user id of who has the phone of :data:`TEXT`."""
TEXT = {"messaging_product": "whatsapp", "to": "+16505551234", "type": "text", "text": {"body": "Hello"}}
AT_ONCE = (0.0, 0.0, 0.0)


class Meta(NamedTuple):
    """A running sandbox, who it tells, and a client that has its token."""

    sandbox: Sandbox
    sink: WebhookSink
    client: aiohttp.ClientSession

    async def graph(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """(HTTP status, JSON) of a Graph call."""
        url = f"{self.sandbox.base_url}/v26.0/{path}"
        async with self.client.request(method, url, **options) as answer:
            return answer.status, await answer.json()

    async def send(self, **changes: Any) -> tuple[int, Any]:
        return await self.graph("POST", f"{NUMBER}/messages", json={**TEXT, **changes})

    async def control(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """(HTTP status, JSON) of one of the sandbox's own calls, made without the token."""
        url = f"{self.sandbox.base_url}/sandbox/{path}"
        async with aiohttp.request(method, url, **options) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def playing(*, sink_up: bool = True, told: bool = True, **settings: Any) -> AsyncIterator[Meta]:
    """A sandbox on a free port that tells a sink of everything at once."""
    sink = WebhookSink()
    if sink_up:
        await sink.start()
    url = sink.url if told else None
    sandbox = Sandbox(SandboxSettings(**{"webhook_url": url, "status_delays": AT_ONCE, "seed": 5} | settings))
    await sandbox.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer sandbox-token"}) as client:
            yield Meta(sandbox, sink, client)
    finally:
        await sandbox.stop()
        await sink.stop()


async def settled(meta: Meta) -> None:
    """Wait until nothing is left to be told."""
    async with asyncio.timeout(GUARD_S):
        await meta.sandbox.settled()
