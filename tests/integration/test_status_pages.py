"""``/api/health``, ``/api/ready`` and ``/api/status`` (contract.md, Status)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from settings import Secret
from tests.support.gateway import NUMBER, Client, Harness, serving, serving_on_its_sandbox
from tests.support.waiting import eventually
from tests.support.webhooks import WABA, body, entry, message_value, text_message

PHONE = "5215550001111"


async def until_ready(gateway: Client, status: int = 200) -> None:
    """Return once ``/api/ready`` answers so: the store is asked in a beat of its own."""

    async def ask() -> bool | None:
        return (await gateway.get("/api/ready")).status == status or None

    await eventually(ask)


async def test_a_gateway_that_is_well_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"rate": 80.0}) as gateway:
        await until_ready(gateway)
        assert (await gateway.get("/api/health")).ok == {"status": "ok"}
        assert (await gateway.get("/api/ready")).ok == {"status": "ready"}
        await gateway.lane_when(lambda lane: lane["state"] == "running")
        status = await gateway.status()
        assert (status["status"], status["trouble"]) == ("healthy", [])
        assert status["services"] == {
            "webhook": True,
            "whatsapp_service": True,
            "queue_service": True,
            "websocket_service": True,
        }
        assert status["version"] and status["uptime_s"] >= 0
        assert status["sandbox"] is False
        assert status["store"] == {"up": True, "kind": "sqlite", "epoch": gateway.store.epoch, "head": 0}
        (lane,) = status["lanes"]
        assert (lane["phone_number_id"], lane["state"], lane["why"]) == (NUMBER, "running", None)
        assert (lane["rate"], lane["limit"]) == (80.0, 80.0)
        assert status["depth"] == {NUMBER: {"queued": 0, "sending": 0, "unknown": 0}}
        assert status["last_webhook_at"] is None
        assert datetime.fromisoformat(status["unbroken_since"]) <= datetime.now(UTC)
        assert status["refused"] == {}


async def test_the_depth_is_what_waits(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.hold("mark_sending")
        for n in range(3):
            await gateway.queue(PHONE, str(n))
        assert (await gateway.status())["depth"][NUMBER]["queued"] == 3
        gateway.store.heal()
        await gateway.events.wait("message.sent", 3)
        assert (await gateway.status())["depth"] == {NUMBER: {"queued": 0, "sending": 0, "unknown": 0}}


async def test_the_last_webhook_and_the_subscribers_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        before = datetime.now(UTC)
        content = body(entry(message_value(messages=[text_message("wamid.A")])))
        assert (await gateway.webhook(content)).status == 200
        status = await gateway.status()
        assert status["subscribers"]["subscribers"] == 0
        assert status["store"]["head"] == 1
        told = datetime.fromisoformat(status["last_webhook_at"])
        assert (told - before).total_seconds() > -0.002  # told in whole milliseconds
        async with gateway.http.ws_connect(f"{gateway.url}/ws") as socket:
            await socket.receive_json()
            assert (await gateway.status())["subscribers"]["subscribers"] == 1


async def test_a_store_that_is_away_degrades_it_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as gateway:
        await until_ready(gateway)
        gateway.store.fail_all()
        await until_ready(gateway, 503)
        assert "the store is away" in caplog.text
        caplog.clear()
        status = await gateway.status()
        assert status["status"] == "degraded"
        assert status["store"]["up"] is False
        assert [one["what"] for one in status["trouble"]] == ["store"]
        assert status["services"]["webhook"] is status["services"]["queue_service"] is False
        assert (await gateway.get("/api/health")).ok == {"status": "ok"}
        gateway.store.heal()
        await until_ready(gateway)
        status = await gateway.status()
        assert (status["status"], status["store"]["up"]) == ("healthy", True)
        assert status["depth"][NUMBER]["queued"] == 0
        assert caplog.text.count("the store answers again") == 1


async def test_an_event_that_was_stepped_over_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as gateway:
        await until_ready(gateway)
        (consumer,) = [one for one in (await gateway.status())["consumers"] if one["name"] == "tracker"]
        assert (consumer["fault"], consumer["skipped"], consumer["last_skipped"]) == (None, 0, None)
        gateway.store.fail("find_by_wamid", ZeroDivisionError("not this one"))
        status = {"id": "wamid.A", "status": "read", "timestamp": "1700000000", "recipient_id": PHONE}
        assert (await gateway.webhook(body(entry(message_value(statuses=[status]))))).status == 200

        async def skipped() -> dict[str, Any] | None:
            told = await gateway.status()
            return told if any(one["skipped"] for one in told["consumers"]) else None

        told = await eventually(skipped)
        (consumer,) = [one for one in told["consumers"] if one["name"] == "tracker"]
        assert (consumer["skipped"], consumer["last_skipped"]) == (1, told["store"]["head"])
        assert (consumer["fault"], consumer["lag"]) == (None, 0)
        assert told["status"] == "healthy"
    assert "stepped over the event" in caplog.text
    caplog.clear()


async def test_a_parked_lane_degrades_it_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, lane={"probe_s": 600.0}) as gateway:
        await until_ready(gateway)
        gateway.sandbox.set_faults({"bad_token": True})
        await gateway.queue(PHONE)
        lane = await gateway.lane_when(lambda lane: lane["state"] == "parked")
        assert "access token" in lane["why"]
        assert "parked" in caplog.text
        caplog.clear()
        status = await gateway.status()
        assert status["status"] == "degraded"
        assert status["services"]["whatsapp_service"] is False
        assert status["trouble"] == [{"what": "number", "why": lane["why"], "phone_number_id": NUMBER}]
        assert status["services"]["webhook"] is True
        assert (await gateway.get("/api/ready")).status == 503
        assert (await gateway.get("/api/health")).status == 200


async def test_a_token_that_meta_refuses_is_told_from_the_start_though_nothing_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(
        tmp_path, whatsapp={"access_token": Secret("withdrawn")}, lane={"probe_s": 600.0}
    ) as gateway:
        lane = await gateway.lane_when(lambda lane: lane["state"] == "parked")
        assert "access token" in lane["why"] and lane["why"] in caplog.text
        assert (await gateway.get("/api/ready")).status == 503
        status = await gateway.status()
        assert [(one["what"], one["why"]) for one in status["trouble"]] == [("number", lane["why"])]
        assert gateway.calls.all == []
        caplog.clear()


async def test_a_meta_that_cannot_be_reached_is_a_pause(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.sandbox.stop()
        await gateway.queue(PHONE)
        await gateway.lane_when(lambda lane: lane["state"] == "paused")


async def test_what_was_refused_is_counted_by_its_code(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.send("12")
        await gateway.send("12")
        await gateway.get("/api/nothing")
        await gateway.webhook(b"{}", "wrong")
        expected: dict[str, Any] = {"invalid_request": 2, "not_found": 1, "webhook.bad_signature": 1}
        assert (await gateway.status())["refused"] == expected


async def test_a_gateway_on_its_sandbox_says_so(tmp_path: Path) -> None:
    async with serving_on_its_sandbox(tmp_path) as gateway:
        await until_ready(gateway)
        status = (await gateway.get("/api/status")).ok
        assert (status["status"], status["sandbox"]) == ("healthy", True)


async def test_a_restriction_of_the_account_is_told_and_stops_nothing_by_itself(tmp_path: Path) -> None:
    restricted = {
        "event": "ACCOUNT_RESTRICTION",
        "restriction_info": [{"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING"}],
    }
    reinstated = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}}
    now = int(datetime.now(UTC).timestamp())
    async with serving(tmp_path) as gateway:
        await gateway.webhook(body(entry(restricted, "account_update", time=now)))
        await until_memo(gateway)
        await gateway.restart()
        await until_ready(gateway)

        async def ask() -> dict[str, Any] | None:
            status = await gateway.status()
            found = [one for one in status["trouble"] if one["what"] == "account"]
            return found[0] if found and status["status"] == "degraded" else None

        trouble = await eventually(ask)
        assert trouble["account"] == WABA
        assert "RESTRICTED_BIZ_INITIATED_MESSAGING" in trouble["why"]
        assert (await gateway.get("/api/ready")).status == 200
        assert (await gateway.send(PHONE)).status == 200
        await gateway.webhook(body(entry(reinstated, "account_update", time=now + 1)))
        assert (await gateway.status())["trouble"] == []


async def until_memo(gateway: Harness) -> None:
    """Return once what stands against the account is in the store."""

    async def look() -> bool:
        return await gateway.store.as_store().find_memo("accounts") is not None

    await eventually(look)
