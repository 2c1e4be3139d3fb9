"""A number whose own token Meta refuses: it alone is parked, and goes on with a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from settings import NumberSettings, Secret
from tests.support.gateway import NUMBER, Harness, serving
from tests.support.waiting import eventually
from whatsapp.sandbox import SandboxSettings

PHONE = "5215550001111"
OTHER = "5215550002222"
ANOTHER_NUMBER = "100000000000002"
TWO = SandboxSettings(
    enforce_limits=False,
    status_delays=(0.0, 0.01, 0.02),
    phone_numbers=((NUMBER, "15550000001"), (ANOTHER_NUMBER, "15550000002")),
)


def number(token: str) -> dict[str, Any]:
    return {"numbers": (NumberSettings(phone_number_id=ANOTHER_NUMBER, access_token=Secret(token)),)}


def states(status: dict[str, Any]) -> dict[str, str]:
    return {lane["phone_number_id"]: lane["state"] for lane in status["lanes"]}


def renew(gateway: Harness, token: str) -> str:
    """As the reloader does with settings that were read again."""
    before = gateway.gateway._settings
    whatsapp = msgspec.structs.replace(before.whatsapp, **number(token))
    return gateway.gateway.renew(msgspec.structs.replace(before, whatsapp=whatsapp))


async def eventually_parked(gateway: Harness) -> None:
    async def ask() -> bool | None:
        return states(await gateway.status()) == {NUMBER: "running", ANOTHER_NUMBER: "parked"} or None

    await eventually(ask)


async def test_it_alone_is_parked_and_a_new_token_of_its_own_lets_it_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(
        tmp_path, sandbox=TWO, whatsapp=number("withdrawn"), lane={"probe_s": 3600.0}
    ) as gateway:
        tasks = [await gateway.queue(PHONE, str(n), phone_number_id=ANOTHER_NUMBER) for n in range(3)]
        # Meta refuses to have its level read, and so before a message is tried.
        await eventually_parked(gateway)
        assert (await gateway.send(OTHER)).status == 200
        assert renew(gateway, "withdrawn") == "no access token has changed"
        assert renew(gateway, TWO.access_token) == f"new access tokens for {ANOTHER_NUMBER}"
        for task_id in tasks:
            await gateway.events.wait("message.sent", task_id=task_id)
        assert [call.text for call in gateway.calls.taken if call.to.endswith(PHONE)] == ["0", "1", "2"]
        (view,) = await gateway.store.as_store().task_rows(tasks[0], -1, 1)
        assert view.row.failures == 0
        assert states(await gateway.status()) == {NUMBER: "running", ANOTHER_NUMBER: "running"}
        assert "parked" in caplog.text
        caplog.clear()
