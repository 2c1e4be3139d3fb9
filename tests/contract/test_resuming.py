"""A person's word that what is held may go on, in the store of each kind and over processes."""

from __future__ import annotations

from pathlib import Path

from server import Gateway
from settings import Secret
from store.mongo import MongoStore
from tests.support.gateway import NUMBER, Client, running, settings_for, signed
from tests.support.waiting import GUARD_S, eventually
from tests.support.webhooks import template_update
from whatsapp.sandbox import Sandbox, SandboxSettings


def on_database(directory: Path, base_url: str, mongo_url: str) -> Gateway:
    """One of several gateways on a database."""
    settings = settings_for(directory, base_url, {"store": {"url": Secret(mongo_url)}})
    return Gateway(settings, store=MongoStore(mongo_url, answer_s=GUARD_S))


async def test_a_word_that_one_process_is_given_reaches_the_lane_in_another(
    tmp_path: Path, mongo_url: str
) -> None:
    sandbox = Sandbox(SandboxSettings())
    await sandbox.start()
    try:
        async with (
            running(on_database(tmp_path, sandbox.base_url, mongo_url)) as owner,
            running(on_database(tmp_path, sandbox.base_url, mongo_url)) as other,
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
