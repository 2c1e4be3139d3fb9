"""The pace that a number has by its level at Meta, and the limit that numbers of an app share."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import msgspec

from settings import NumberSettings
from tests.support.gateway import NUMBER, serving
from tests.support.waiting import eventually
from whatsapp.pacing import LanePacer
from whatsapp.sandbox_settings import SandboxSettings

PHONE = "5215550001111"
SECOND = "100000000000002"
DISPLAYED = "15550000001"
TWO = SandboxSettings(enforce_limits=False, phone_numbers=((NUMBER, DISPLAYED), (SECOND, "15550000002")))


def quality_update(event: str) -> bytes:
    value = {"display_phone_number": DISPLAYED, "event": event, "current_limit": "TIER_UNLIMITED"}
    return update("phone_number_quality_update", value)


def echo() -> bytes:
    """A message to a customer that was written in the Business app."""
    message = {"from": DISPLAYED, "to": PHONE, "id": "wamid.A", "timestamp": "1700000000", "type": "text"}
    return update(
        "smb_message_echoes",
        {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": DISPLAYED, "phone_number_id": NUMBER},
            "message_echoes": [message | {"text": {"body": "hola"}}],
        },
    )


def received(wamid: str, at: int) -> bytes:
    message = {"from": PHONE, "id": wamid, "timestamp": str(at), "type": "text", "text": {"body": "hola"}}
    metadata = {"display_phone_number": DISPLAYED, "phone_number_id": NUMBER}
    value = {"messaging_product": "whatsapp", "metadata": metadata, "messages": [message]}
    return update("messages", value)


def parked_without_a_fault_in_the_log() -> AbstractContextManager[object]:
    """That a number is parked is logged as an error, which no test may leave behind."""
    return mock.patch.object(logging.getLogger("whatsapp.parking"), "disabled", True)


def update(field: str, value: object) -> bytes:
    change = {"field": field, "value": value}
    entry = {"id": "1", "time": 1_700_000_000, "changes": [change]}
    return msgspec.json.encode({"object": "whatsapp_business_account", "entry": [entry]})


async def test_a_number_at_the_high_level_is_faster_from_its_start(tmp_path: Path) -> None:
    sandbox = SandboxSettings(rate_per_number=1000)
    async with serving(tmp_path, sandbox=sandbox, lane={"rate": 80.0}) as gateway:
        lane = await gateway.lane_when(lambda lane: lane.get("level") == "HIGH")
        assert (lane["limit"], lane["rate"], lane["coexistence"]) == (1000.0, 1000.0, False)


async def test_a_webhook_raises_and_lowers_it(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"rate": 80.0, "raised_rate": 500.0}) as gateway:
        assert (await gateway.lane_when(lambda lane: lane.get("level") == "STANDARD"))["limit"] == 80.0
        gateway.sandbox.set_faults({"level": "HIGH"})
        await gateway.webhook(quality_update("THROUGHPUT_UPGRADE"))
        assert (await gateway.lane_when(lambda lane: lane.get("level") == "HIGH"))["limit"] == 500.0
        gateway.sandbox.set_faults({"level": "STANDARD"})
        await gateway.webhook(quality_update("DOWNGRADE"))
        assert (await gateway.lane_when(lambda lane: lane.get("level") == "STANDARD"))["limit"] == 80.0


async def test_a_number_in_the_business_app_goes_at_twenty(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"rate": 80.0}) as gateway:
        await gateway.lane_when(lambda lane: lane.get("level") == "STANDARD")
        gateway.sandbox.set_faults({"coexistence": True})
        await gateway.restart()
        assert (await gateway.lane_when(lambda lane: lane.get("coexistence")))["limit"] == 20.0


async def test_a_message_written_in_the_business_app_shows_that_the_number_is_there(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"rate": 80.0}) as gateway:
        await gateway.lane_when(lambda lane: lane.get("level") == "STANDARD")
        await gateway.webhook(echo())
        assert (await gateway.lane_when(lambda lane: lane.get("coexistence")))["limit"] == 20.0


async def test_numbers_of_a_nearly_used_up_app_all_slow_down(tmp_path: Path) -> None:
    numbers = (NumberSettings(phone_number_id=SECOND),)
    async with serving(tmp_path, sandbox=TWO, whatsapp={"numbers": numbers}, lane={"rate": 80.0}) as gateway:
        gateway.sandbox.set_faults({"app_usage": 90})
        assert (await gateway.send(PHONE)).status == 200
        assert (await gateway.send(PHONE, phone_number_id=SECOND)).status == 200
        lanes = (await gateway.status())["lanes"]
        assert [lane["app_used_percent"] for lane in lanes] == [90.0, 90.0]
        assert [lane["rate"] for lane in lanes] == [40.0, 40.0]
        assert [lane["limit"] for lane in lanes] == [80.0, 80.0]


async def test_a_refusal_for_the_app_pauses_all_its_numbers(tmp_path: Path) -> None:
    numbers = (NumberSettings(phone_number_id=SECOND),)
    async with serving(tmp_path, sandbox=TWO, whatsapp={"numbers": numbers}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 4}})
        await gateway.queue(PHONE, "one")
        await gateway.events.wait("message.retrying")
        await gateway.queue(PHONE, "two", phone_number_id=SECOND)

        async def paused() -> bool | None:
            lanes = (await gateway.status())["lanes"]
            return all(lane["state"] == "paused" for lane in lanes) or None

        await eventually(paused)
        assert len(gateway.calls.all) == 1
        assert ["used up its calls" in lane["why"] for lane in (await gateway.status())["lanes"]] == [
            True
        ] * 2
        # As after SIGHUP: somebody says that it may be tried.
        gateway.gateway._lanes.probe()
        await gateway.events.wait("message.sent")


async def test_what_meta_repeats_after_an_outage_does_not_slow_the_replies(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with mock.patch.object(LanePacer, "inbound", autospec=True) as counted:
            old, now = 1_700_000_000, int(time.time())
            for n, at in enumerate([old, old, now, old]):
                assert (await gateway.webhook(received(f"wamid.{n}", at))).status == 200
            await gateway.events.wait("message.received", 4)
        assert [call.args[2] for call in counted.call_args_list] == [1]


async def test_the_level_is_read_again_once_a_parked_number_works(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"rate": 80.0, "probe_s": 0.05}) as gateway:
        await gateway.lane_when(lambda lane: lane.get("level") == "STANDARD")
        with parked_without_a_fault_in_the_log():
            gateway.sandbox.set_faults({"bad_token": True, "level": "HIGH"})
            await gateway.queue(PHONE, "one")
            await gateway.lane_when(lambda lane: lane["state"] == "parked")
            gateway.sandbox.set_faults({"bad_token": False})
            await gateway.lane_when(lambda lane: lane["level"] == "HIGH")


async def test_what_a_recipient_got_before_a_restart_still_counts(tmp_path: Path) -> None:
    pace = {"pair_burst": 3, "pair_interval_s": 600.0}
    async with serving(tmp_path, lane=pace) as gateway:
        assert (await gateway.send(PHONE, "one")).status == 200
        assert (await gateway.send(PHONE, "two")).status == 200
        assert (await gateway.send(PHONE, "three")).status == 200
        await gateway.restart()
        await gateway.queue(PHONE, "four")
        await gateway.queue("5215550002222", "five")
        await gateway.calls.wait(4)
        assert [call.text for call in gateway.calls.all] == ["one", "two", "three", "five"]
