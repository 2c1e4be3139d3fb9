"""Errors that Meta tells by a status, over real sockets: what is sent again, and what waits with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings import NumberSettings
from tests.support.gateway import NUMBER, serving
from tests.support.webhooks import body, entry, message_value, status
from whatsapp.sandbox import SandboxSettings

PHONE = "5215550001111"
OTHER = "5215550002222"
ANOTHER_NUMBER = "100000000000002"
TWO = SandboxSettings(
    enforce_limits=False,
    status_delays=(0.0, 0.01, 0.02),
    phone_numbers=((NUMBER, "15550000001"), (ANOTHER_NUMBER, "15550000002")),
)


async def test_what_meta_takes_and_fails_for_now_is_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "later": True}})
        task_id = await gateway.queue(PHONE)
        (again,) = await gateway.events.wait("message.retrying", task_id=task_id)
        assert again["error"]["name"] == "service_unavailable"
        await gateway.events.wait("message.delivered", task_id=task_id)
        assert [call.reference[-2:] for call in gateway.calls.taken] == [".1", ".2"]
        await gateway.consumed("tracker")
        assert gateway.events.counts["message.doubled"] == 0
        assert len(gateway.events.of("message.sent", task_id=task_id)) == 2


async def test_its_attempts_are_used_up_in_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 3}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "count": 3, "later": True}})
        task_id = await gateway.queue(PHONE)
        task = await gateway.task_when(task_id, lambda task: task["counts"]["failed"] == 1)
        assert len(gateway.calls.all) == 3
        assert [(error["code"], error["count"]) for error in task["errors"]] == [(131016, 1)]


async def test_a_number_that_cannot_send_parks_by_status_while_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = (NumberSettings(phone_number_id=ANOTHER_NUMBER),)
    async with serving(
        tmp_path, sandbox=TWO, whatsapp={"numbers": numbers}, lane={"probe_s": 30.0}
    ) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131042, "later": True}})
        task_id = await gateway.queue(PHONE)
        await gateway.events.wait("message.retrying", task_id=task_id, holds="number")
        lanes = {lane["phone_number_id"]: lane for lane in (await gateway.status())["lanes"]}
        assert lanes[NUMBER]["state"] == "parked"
        assert "payment" in lanes[NUMBER]["why"]
        assert lanes[ANOTHER_NUMBER]["state"] == "running"
        assert (await gateway.send(OTHER, phone_number_id=ANOTHER_NUMBER)).status == 200
        assert (await gateway.task(task_id))["counts"]["queued"] == 1
        assert "parked" in caplog.text
        caplog.clear()


async def test_a_parked_number_goes_on_when_the_probe_says_so_and_sends_what_was_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131042, "later": True}})
        task_id = await gateway.queue(PHONE)
        await gateway.events.wait("message.delivered", task_id=task_id)
        assert len(gateway.calls.all) == 2
        assert "parked" in caplog.text
        caplog.clear()


async def test_a_pair_that_is_limited_by_status_waits_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131056, "later": True}})
        task_id = await gateway.queue(PHONE)
        await gateway.events.wait("message.retrying", task_id=task_id, holds="pair")
        assert (await gateway.send(OTHER)).status == 200
        assert len(gateway.calls.to(PHONE)) == 1
        await gateway.events.wait("message.sent", 2, task_id=task_id)


async def test_a_brake_for_quality_that_comes_by_status_holds_the_broadcast_and_not_the_replies(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131048, "later": True}})
        await gateway.queue(PHONE, "news", priority="low")
        await gateway.events.wait("message.retrying", holds="broadcast")
        await gateway.queue(OTHER, "news", priority="normal")
        assert (await gateway.send(OTHER, "a reply")).status == 200
        assert [call.text for call in gateway.calls.all] == ["news", "a reply"]
        assert (await gateway.lane())["broadcasts_paused_s"] > 3600


async def test_maintenance_pauses_the_number(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131057, "later": True}})
        await gateway.queue(PHONE)
        await gateway.events.wait("message.retrying", holds="number")
        assert (await gateway.lane())["state"] == "paused"


async def test_a_probe_ends_the_parking_and_not_the_pause_that_another_error_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, lane={"probe_s": 0.05}) as gateway:
        gateway.sandbox.set_faults({"statuses": False})
        assert (await gateway.send(PHONE)).status == (await gateway.send(OTHER)).status == 200
        for n, sent in enumerate(await gateway.events.wait("message.sent", 2)):
            failed = status("failed", id=sent["wamid"], errors=[{"code": (131057, 131042)[n], "title": "no"}])
            await gateway.webhook(body(entry(message_value(statuses=[failed]))))
            await gateway.events.wait("message.retrying", n + 1, holds="number")
        lane = await gateway.lane_when(lambda lane: lane["state"] != "parked")
        assert (lane["state"], "working on the number" in lane["why"]) == ("paused", True)
        assert "parked" in caplog.text
        caplog.clear()
