"""A person's word that what is held may go on, in the store of each kind and over processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from server import Gateway
from settings import Secret
from store.mongo import MongoStore
from tests.support.gateway import NUMBER, Client, settings_for, signed, stop_whole
from tests.support.waiting import GUARD_S, eventually
from tests.support.webhooks import template_update
from whatsapp.sandbox import Sandbox, SandboxSettings


@asynccontextmanager
async def running(directory: Path, base_url: str, mongo_url: str) -> AsyncIterator[Client]:
    """One of several gateways on a database."""
    settings = settings_for(directory, base_url, {"store": {"url": Secret(mongo_url)}})
    gateway, client = Gateway(settings, store=MongoStore(mongo_url, answer_s=GUARD_S)), Client()
    async with aiohttp.ClientSession() as client.http:
        await gateway.start()
        client.port = gateway.port
        try:
            yield client
        finally:
            await stop_whole(gateway)


async def test_a_word_that_one_process_is_given_reaches_the_lane_in_another(
    tmp_path: Path, mongo_url: str
) -> None:
    sandbox = Sandbox(SandboxSettings())
    await sandbox.start()
    try:
        async with (
            running(tmp_path, sandbox.base_url, mongo_url) as owner,
            running(tmp_path, sandbox.base_url, mongo_url) as other,
        ):

            async def lane(of: Client) -> dict[str, object]:
                found: dict[str, object] = (await of.get("/api/status")).ok["lanes"][0]
                return found

            async def works() -> bool:
                return (await lane(owner))["state"] == "running"

            async def holds() -> bool:
                return bool((await lane(owner))["templates"])

            async def holds_none() -> bool:
                return not await holds()

            await eventually(works)
            assert await lane(other) == {"phone_number_id": NUMBER, "state": "elsewhere"}
            paused = template_update("PAUSED")
            headers = signed(paused, sandbox.settings.app_secret)
            assert (await other.request("POST", "/webhook", data=paused, headers=headers)).status == 200
            await eventually(holds)
            told = (await other.post("/api/templates/resume", {"template_name": "promo"})).ok
            assert told["phone_number_ids"] == []
            await eventually(holds_none)
    finally:
        await sandbox.stop()
