"""Sends, from the REST call to what Meta got, and back by Meta's statuses (contract.md, Messages and
Answers)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import NUMBER, Harness, serving
from tests.support.webhooks import body, entry, message_value
from whatsapp.sandbox import SandboxSettings

PHONE = "5215550001111"
OTHER = "5215550002222"
USER_ID = "US.13491208655302741918"
QUIET = SandboxSettings(enforce_limits=False, status_delays=None)
"""A Meta that tells no statuses."""


def people(count: int) -> list[str]:
    """So many phones, all different."""
    return [str(5215560000000 + n) for n in range(count)]


async def unknown_row(gateway: Harness) -> dict[str, Any]:
    """Queue a message that Meta takes without answering; the data of its ``message.unknown``."""
    gateway.sandbox.set_faults({"drop_answers": 1.0, "statuses": False})
    task_id = await gateway.queue(PHONE)
    (data,) = await gateway.events.wait("message.unknown", task_id=task_id)
    gateway.sandbox.set_faults({"drop_answers": 0.0})
    return data


def failed_status(gateway: Harness) -> dict[str, Any]:
    """A webhook value: Meta says that the message it took first has failed."""
    taken = gateway.sandbox.accepted()["items"][0]
    status = {"id": taken["wamid"], "status": "failed", "timestamp": "1", "recipient_id": PHONE}
    status["biz_opaque_callback_data"] = taken["callback"]
    status["errors"] = [{"code": 131026, "title": "Message undeliverable"}]
    value = message_value(statuses=[status])
    value["metadata"]["phone_number_id"] = NUMBER
    return value


# -- direct ------------------------------------------------------------------------------------------------


async def test_a_direct_send_is_answered_with_metas_own_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.send(PHONE, "hello ñ 👋")
        ((sent,), (taken,)) = (gateway.events.of("message.sent"), gateway.sandbox.accepted()["items"])
        assert answer.ok == {
            "success": True,
            "message": "the message was sent",
            "data": {
                "messaging_product": "whatsapp",
                "contacts": [{"input": f"+{PHONE}", "wa_id": PHONE}],
                "messages": [{"id": taken["wamid"]}],
            },
            "task_id": sent["task_id"],
        }
        assert sent["answer"] == answer.body["data"]
        assert (await gateway.task(sent["task_id"]))["status"] == "SUCCESS"


async def test_meta_gets_the_message_with_its_plus_and_our_reference(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.send(PHONE, "a reply", context_message_id="wamid.BEFORE")
        (call,) = gateway.calls.all
        assert call.message == {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": f"+{PHONE}",
            "type": "text",
            "text": {"body": "a reply", "preview_url": True},
            "context": {"message_id": "wamid.BEFORE"},
            "biz_opaque_callback_data": f"{answer.ok['task_id']}-0.1",
        }


async def test_every_spelling_of_a_phone_reaches_the_same_person(tmp_path: Path) -> None:
    spellings: list[object] = [
        PHONE,
        int(PHONE),
        f"+{PHONE}",
        "+52 1 555 000 1111",
        "(521) 555-000-1111",
        f"  {PHONE} ",
        "52-1-5550001111",
    ]
    async with serving(tmp_path) as gateway:
        for spelling in spellings:
            assert (await gateway.send(spelling)).status == 200, spelling
        assert [call.message["to"] for call in gateway.calls.all] == [f"+{PHONE}"] * len(spellings)
        contacts = {event.contact for event in gateway.events.all if event.type == "message.sent"}
        assert contacts == {PHONE}


async def test_a_user_id_is_a_recipient_of_its_own_kind(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.send(USER_ID)
        (call,) = gateway.calls.all
        assert call.message["recipient"] == USER_ID
        assert "to" not in call.message
        assert answer.ok["data"]["contacts"] == [{"input": USER_ID, "user_id": USER_ID}]
        await gateway.task_when(answer.body["task_id"], lambda task: task["counts"]["read"] == 1)


async def test_null_is_a_field_left_out_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        nulls: dict[str, Any] = dict.fromkeys(("use_queue", "context_message_id", "priority"))
        answer = await gateway.send(PHONE, **nulls)
        assert "warnings" not in answer.ok
        assert "context" not in gateway.calls.all[0].message
        answer = await gateway.send(PHONE, preview=True, colour=None)
        assert answer.ok["warnings"] == [
            "preview: unknown field, ignored",
            "colour: unknown field, ignored",
        ]
        answer = await gateway.send(PHONE, preview=True, use_queue=True)
        assert answer.ok["warnings"] == ["preview: unknown field, ignored"]


async def test_a_slow_answer_is_not_waited_for_and_the_message_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, direct={"timeout_s": 0.05}) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 400})
        answer = await gateway.send(PHONE, preview=True)
        assert answer.status == 202
        assert answer.body["success"] is True
        assert answer.body["warnings"]
        (sent,) = await gateway.events.wait("message.sent")
        assert sent["task_id"] == answer.body["task_id"]
        assert len(gateway.calls.all) == 1


async def test_an_answer_that_does_not_come_tells_where_the_message_is_and_why(tmp_path: Path) -> None:
    async with serving(tmp_path, direct={"timeout_s": 0.5}, retry={"base_s": 60.0, "cap_s": 60.0}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 1}})
        answer = await gateway.send(PHONE)
        assert answer.status == 202
        assert "queued" in answer.body["message"]
        assert "131016" in answer.body["message"]


async def test_a_failure_that_comes_in_place_of_the_answer_is_answered_with_metas_words(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, sandbox=QUIET, direct={"timeout_s": 2.0}) as gateway:
        gateway.sandbox.set_faults({"drop_answers": 1.0})
        sending = asyncio.ensure_future(gateway.send(PHONE))
        (unknown,) = await gateway.events.wait("message.unknown")
        await gateway.webhook(body(entry(failed_status(gateway))))
        answer = await sending
        assert (answer.status, answer.body["code"]) == (400, "meta_refused")
        assert answer.body["meta"]["code"] == 131026
        assert answer.body["task_id"] == unknown["task_id"]


async def test_a_store_that_is_away_when_time_runs_out_takes_nothing_back(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, direct={"timeout_s": 0.3}) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 1000})
        gateway.store.fail("find_rows")
        assert (await gateway.send(PHONE)).status == 202
        gateway.store.heal()
        await gateway.events.wait("message.sent")
        assert len(gateway.calls.all) == 1


async def test_a_status_that_overtakes_the_answer_is_as_good(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 400})
        answer = await gateway.send(PHONE)
        (taken,) = gateway.sandbox.accepted()["items"]
        assert answer.ok["data"]["messages"] == [{"id": taken["wamid"]}]
        assert answer.body["data"]["contacts"] == [{"input": f"+{PHONE}", "wa_id": PHONE}]
        assert (await gateway.lane_when(lambda lane: lane["in_flight"] == 0))["state"] == "running"
        assert gateway.events.counts["message.sent"] == 1


async def test_a_refusal_of_metas_is_answered_with_its_words(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.send("5215599131026")
        assert answer.status == 400
        meta = answer.body.pop("meta")
        assert set(meta) == {"code", "subcode", "title", "details", "fbtrace_id"}
        assert (meta["code"], meta["subcode"]) == (131026, None)
        assert meta["title"] and meta["details"] and meta["fbtrace_id"]
        task_id = answer.body.pop("task_id")
        assert answer.body.pop("advice").startswith("The recipient is not on WhatsApp")
        assert answer.body == {"success": False, "error": meta["details"], "code": "meta_refused"}
        task = await gateway.task(task_id)
        assert task["status"] == "FAILURE"
        assert task["result"] == {"total": 1, "sent": 0, "failed": 1}
        assert [(error["code"], error["count"]) for error in task["errors"]] == [(131026, 1)]
        assert (await gateway.status())["refused"] == {"meta_refused": 1}


# -- queued ------------------------------------------------------------------------------------------------


async def test_a_queued_send_is_answered_at_once_and_followed_by_its_task(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.hold("mark_sending")
        answer = await gateway.send(PHONE, use_queue=True)
        task_id = answer.ok["task_id"]
        assert answer.body == {"success": True, "message": "the message is queued", "task_id": task_id}
        task = await gateway.task(task_id)
        assert (task["status"], task["progress"], task["completed_at"]) == ("PENDING", 0, None)
        assert task["result"] == {"total": 1, "sent": 0, "failed": 0}
        gateway.store.heal()
        await gateway.events.wait("task.completed", task_id=task_id)
        task = await gateway.task_when(task_id, lambda task: task["counts"]["read"] == 1)
        assert (task["status"], task["progress"], task["eta_seconds"]) == ("SUCCESS", 1, 0)
        assert task["result"] == {"total": 1, "sent": 1, "failed": 0}
        assert sum(task["counts"].values()) == 1
        assert task["completed_at"] > task["created_at"]


async def test_a_task_is_started_while_meta_is_asked_and_retry_while_one_waits(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"base_s": 300.0, "cap_s": 300.0}) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 300})
        task_id = await gateway.queue(PHONE)
        await gateway.calls.wait(1)
        assert (await gateway.task(task_id))["status"] == "STARTED"
        await gateway.events.wait("message.sent")
        gateway.sandbox.set_faults({"delay_ms": 0, "error": {"code": 131016}})
        task_id = await gateway.queue(OTHER)
        await gateway.events.wait("message.retrying")
        assert (await gateway.task(task_id))["status"] == "RETRY"


async def test_what_is_queued_is_sent_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail("mark_sending")
        tasks = [await gateway.queue(PHONE, str(n)) for n in range(3)]
        assert gateway.calls.all == []
        await gateway.restart()
        await gateway.events.wait("task.completed", 3)
        assert [call.text for call in gateway.calls.all] == ["0", "1", "2"]
        assert [(await gateway.task(task_id))["status"] for task_id in tasks] == ["SUCCESS"] * 3


async def test_a_task_that_nobody_made_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.get("/api/task-status/0190163d-8694-739b-aea5-966c26f8ad91")
        assert (answer.status, answer.body["code"]) == (404, "not_found")


# -- many --------------------------------------------------------------------------------------------------


async def test_a_large_broadcast_is_stored_in_chunks_and_sent_whole(tmp_path: Path) -> None:
    recipients = [{"phone": phone, "message": f"to {phone}"} for phone in people(3000)]
    async with serving(tmp_path, sandbox=QUIET, lane={"rate": 100_000.0}) as gateway:
        task_id = (await gateway.bulk(recipients)).ok["task_id"]
        assert gateway.store.calls["add_rows"] == 6
        await gateway.events.wait("task.completed", task_id=task_id)
        assert Counter((call.to, call.text) for call in gateway.calls.taken) == Counter(
            (f"+{each['phone']}", each["message"]) for each in recipients
        )
        task = await gateway.task(task_id)
        assert (task["status"], task["result"]) == ("SUCCESS", {"total": 3000, "sent": 3000, "failed": 0})
        assert gateway.events.counts["message.sent"] == 3000


async def test_no_row_of_a_broadcast_leaves_before_all_are_stored(tmp_path: Path) -> None:
    recipients = [{"phone": phone, "message": "hello"} for phone in people(501)]
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.store.hold("mark_ready")
        broadcast = asyncio.create_task(gateway.bulk(recipients))
        await gateway.store.arrived("mark_ready")
        assert (await gateway.send(OTHER)).status == 200  # the lane has looked at the outbox since
        assert len(gateway.calls.all) == 1
        assert not broadcast.done()
        gateway.store.heal()
        assert (await broadcast).status == 200
        await gateway.events.wait("message.sent", 502)


async def test_a_broadcast_that_the_store_breaks_off_leaves_nothing_to_send(tmp_path: Path) -> None:
    recipients = [{"phone": phone, "message": "hello"} for phone in people(501)]
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        for call in ("add_rows", "mark_ready"):
            gateway.store.fail(call)
            answer = await gateway.bulk(recipients)
            assert (answer.status, answer.body["code"]) == (503, "store_unavailable")
            gateway.store.heal()
        assert (await gateway.send(OTHER)).status == 200
        assert len(gateway.calls.all) == 1
        assert gateway.events.counts["task.created"] == 1


async def test_many_sent_directly_are_answered_with_their_result(tmp_path: Path) -> None:
    refused = "5215599131026"
    recipients = [{"phone": phone, "message": "hello"} for phone in (PHONE, refused, OTHER)]
    async with serving(tmp_path) as gateway:
        answer = await gateway.bulk(recipients, use_queue=False)
        assert answer.ok["result"] == {
            "total": 3,
            "successful": 2,
            "failed": 1,
            "errors": ["recipients[1]: The sandbox refuses numbers that end like this one. (131026)"],
        }
        task = await gateway.task(answer.body["task_id"])
        assert task["result"] == {"total": 3, "sent": 2, "failed": 1}


async def test_many_that_take_too_long_are_answered_with_their_task(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, direct={"timeout_s": 0.05}) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 400})
        answer = await gateway.bulk([{"phone": PHONE, "message": "hello"}], use_queue=False)
        assert answer.status == 202
        await gateway.events.wait("task.completed", task_id=answer.body["task_id"])


async def test_one_invalid_recipient_refuses_all_and_is_named(tmp_path: Path) -> None:
    recipients: list[Any] = [{"phone": phone, "message": "hello"} for phone in people(20)]
    recipients[17]["phone"] = "12"
    async with serving(tmp_path) as gateway:
        for use_queue in (True, False):
            answer = await gateway.bulk(recipients, use_queue=use_queue)
            assert (answer.status, answer.body["code"]) == (400, "invalid_request")
            assert [detail["path"] for detail in answer.body["details"]] == ["recipients[17].phone"]
            assert answer.body["error"].startswith("recipients[17].phone: ")
        assert gateway.events.all == []


async def test_of_many_invalid_recipients_a_hundred_are_named(tmp_path: Path) -> None:
    recipients: list[Any] = [{"phone": "12", "message": "hello"} for _ in range(150)]
    async with serving(tmp_path) as gateway:
        answer = await gateway.bulk(recipients)
        assert len(answer.body["details"]) == 100
        assert "149 more" in answer.body["error"]
        answer = await gateway.bulk(recipients, on_invalid="skip")
        assert answer.status == 400
        assert gateway.events.all == []


async def test_invalid_recipients_may_be_skipped(tmp_path: Path) -> None:
    recipients: list[Any] = [
        {"phone": PHONE, "message": "hello", "name": "unknown"},
        {"phone": "12", "message": "hello"},
        "nobody",
        {"phone": OTHER},
        {"phone": "5215599131026", "message": "hello"},
        {"phone": OTHER, "message": "hello"},
    ]
    async with serving(tmp_path) as gateway:
        answer = await gateway.bulk(recipients, on_invalid="skip", use_queue=False)
        result = answer.ok["result"]
        assert (result["total"], result["successful"], result["failed"]) == (6, 2, 4)
        assert {error.partition(":")[0] for error in result["errors"]} == {
            "recipients[1].phone",
            "recipients[2]",
            "recipients[3].message",
            "recipients[4]",
        }
        assert answer.body["warnings"] == ["recipients[0].name: unknown field, ignored"]
        answer = await gateway.bulk(recipients, on_invalid="skip")
        assert len([warning for warning in answer.ok["warnings"] if "skipped" in warning]) == 3
        await gateway.events.wait("task.completed", task_id=answer.body["task_id"])
        assert len(gateway.calls.taken) == 4


# -- retries -----------------------------------------------------------------------------------------------


async def test_a_failure_that_passes_is_retried_to_success(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 2}})
        answer = await gateway.send(PHONE)
        assert answer.status == 200
        references = [call.reference for call in gateway.calls.all]
        row_id = f"{answer.body['task_id']}-0"
        assert references == [f"{row_id}.1", f"{row_id}.2", f"{row_id}.3"]
        assert [data["error"]["code"] for data in gateway.events.of("message.retrying")] == [131016] * 2
        assert (await gateway.task(answer.body["task_id"]))["status"] == "SUCCESS"


async def test_when_the_attempts_are_used_up_the_message_has_failed_with_its_error(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 2, "base_s": 0.01}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 9}})
        answer = await gateway.send(PHONE)
        assert (answer.status, answer.body["meta"]["code"]) == (400, 131016)
        assert len(gateway.calls.all) == 2
        task = await gateway.task(answer.body["task_id"])
        assert (task["status"], task["counts"]["failed"]) == ("FAILURE", 1)
        (error,) = task["errors"]
        assert (error["code"], error["count"]) == (131016, 1)
        assert error["title"] and error["details"] and error["fbtrace_id"]


async def test_a_bad_token_parks_the_lane_until_it_works_and_burns_no_attempt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, retry={"max_attempts": 1}) as gateway:
        # Read already: else it would park before a message is refused.
        await gateway.lane_when(lambda lane: bool(lane.get("level")))
        gateway.sandbox.set_faults({"bad_token": True})
        tasks = [await gateway.queue(PHONE, str(n)) for n in range(3)]
        await gateway.events.wait("message.retrying")
        lane = await gateway.lane_when(lambda lane: lane["state"] == "parked")
        assert "access token" in lane["why"]
        assert "parked" in caplog.text
        caplog.clear()
        status = await gateway.status()
        assert status["status"] == "degraded"
        assert status["services"]["whatsapp_service"] is False
        assert (await gateway.get("/api/ready")).status == 503
        assert [(await gateway.task(task_id))["counts"]["queued"] for task_id in tasks] == [1, 1, 1]
        gateway.sandbox.set_faults({"bad_token": False})
        await gateway.events.wait("message.sent", 3)
        assert [call.text for call in gateway.calls.taken] == ["0", "1", "2"]
        assert (await gateway.lane())["state"] == "running"
        assert (await gateway.get("/api/ready")).status == 200


async def test_a_row_that_is_refused_although_the_number_works_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, retry={"max_attempts": 2, "base_s": 0.01}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 190, "count": 9}})
        task_id = await gateway.queue(PHONE)
        (data,) = await gateway.events.wait("message.failed", task_id=task_id)
        assert (data["error"]["code"], data["attempt"]) == (190, 3)
        gateway.sandbox.set_faults({"reset": True})
        assert (await gateway.send(OTHER)).status == 200
        assert "parked" in caplog.text
        caplog.clear()


async def test_a_meta_that_cannot_be_reached_costs_no_attempt(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 1}) as gateway:
        assert (await gateway.send(PHONE, "before")).status == 200
        await gateway.sandbox.stop()
        task_id = await gateway.queue(PHONE, "meanwhile")
        (data, *_) = await gateway.events.wait("message.retrying", task_id=task_id)
        assert data["error"]["name"] == "not_sent"
        assert (await gateway.task(task_id))["status"] == "RETRY"
        assert "cannot be reached" in (await gateway.lane())["why"]
        assert (await gateway.get("/api/status")).body["status"] == "degraded"
        await gateway.start_sandbox(gateway.sandbox_port)
        await gateway.events.wait("message.sent", task_id=task_id)
        await gateway.lane_when(lambda lane: lane["why"] is None)
        assert [call.text for call in gateway.calls.all] == ["before", "meanwhile"]


async def test_a_store_that_is_away_during_a_call_gets_its_outcome_later(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 200})
        task_id = await gateway.queue(PHONE)
        await gateway.calls.wait(1)
        gateway.store.fail("apply")
        await gateway.store.arrived("apply")
        gateway.store.heal()
        await gateway.events.wait("task.completed", task_id=task_id)
        assert (await gateway.task(task_id))["counts"]["sent"] == 1
        assert len(gateway.calls.all) == 1


async def test_a_store_that_refuses_a_claim_gets_the_row_back(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 1}) as gateway:
        gateway.store.fail("mark_sending")
        task_id = await gateway.queue(PHONE)
        await gateway.store.arrived("mark_sending")
        assert gateway.calls.all == []
        gateway.store.heal()
        await gateway.events.wait("message.sent", task_id=task_id)
        assert len(gateway.calls.all) == 1


async def test_a_store_that_is_away_refuses_sends_and_takes_them_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for call in ("create_task", "find_task"):
            gateway.store.fail(call)
        for use_queue in (True, False):
            answer = await gateway.send(PHONE, use_queue=use_queue)
            assert (answer.status, answer.body["code"]) == (503, "store_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        assert (await gateway.get("/api/task-status/x")).status == 503
        gateway.store.heal()
        assert (await gateway.send(PHONE)).status == 200
        assert len(gateway.calls.all) == 1


async def test_while_it_stops_sends_are_put_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.gateway._outbox.drain()
        answer = await gateway.send(PHONE)
        assert (answer.status, answer.body["code"]) == (503, "draining")
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_retry_does_not_wait_for_the_end_of_a_broadcast(tmp_path: Path) -> None:
    # Its row lies before what the lane reads next of the broadcast.
    async with serving(tmp_path, sandbox=QUIET, lane={"read_ahead": 20, "concurrency": 4}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 1}})
        await gateway.bulk([{"phone": phone, "message": "news"} for phone in people(1500)])
        await gateway.events.wait("message.sent", 1500)
        refused = next(call for call in gateway.calls.all if call.status != 200)
        _, again = (n for n, call in enumerate(gateway.calls.all) if call.to == refused.to)
        assert again < 1000


async def test_a_lane_that_is_lost_lets_its_calls_end_and_claims_nothing_more(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, lease={"ttl_s": 1.0}) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 1500})
        await gateway.queue(PHONE, "first")
        await gateway.calls.wait(1)
        await gateway.queue(PHONE, "second")
        stolen = await gateway.steal_lane()
        await gateway.events.wait("message.sent")
        await gateway.lane_when(lambda lane: lane["state"] == "elsewhere")
        assert [call.text for call in gateway.calls.all] == ["first"]
        assert gateway.events.counts["message.unknown"] == 0
        await gateway.store.as_store().release_lease(stolen)
        await gateway.events.wait("message.sent", 2)
        assert [call.text for call in gateway.calls.all] == ["first", "second"]


async def test_without_trust_in_its_lease_a_lane_sends_nothing_and_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, sandbox=QUIET, lease={"ttl_s": 0.6}) as gateway:
        gateway.store.fail("acquire_lease")
        # Four renewals are twice its time.
        await gateway.store.arrived("acquire_lease", 4)
        await gateway.queue(PHONE, "later")
        gateway.store.calls["acquire_lease"] = 0
        await gateway.store.arrived("acquire_lease", 2)
        assert gateway.calls.all == []
        gateway.store.heal()
        await gateway.events.wait("message.sent")
        assert gateway.events.counts["message.retrying"] == 0


# -- unknown outcomes --------------------------------------------------------------------------------------


async def test_a_lost_answer_is_settled_by_the_status_and_nothing_is_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 1}) as gateway:
        gateway.sandbox.set_faults({"drop_answers": 1.0})
        task_id = await gateway.queue(PHONE)
        await gateway.events.wait("message.unknown", task_id=task_id)
        await gateway.events.wait("message.sent", task_id=task_id)
        task = await gateway.task_when(task_id, lambda task: task["counts"]["read"] == 1)
        assert task["status"] == "SUCCESS"
        assert len(gateway.calls.all) == 1
        assert gateway.events.counts["message.sent"] == 1
        assert (await gateway.lane_when(lambda lane: lane["unknown"] == 0))["state"] == "running"


async def test_a_status_before_the_call_breaks_off_holds_nobody_back(tmp_path: Path) -> None:
    # By the time the call is given up the row is read; an unknown one would hold the next back for good.
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 60_000})
        task_id = await gateway.queue(PHONE, "first")
        await gateway.events.wait("message.read", task_id=task_id)
        await gateway.consumed("tracker")
        await gateway.sandbox.stop()
        await gateway.start_sandbox(gateway.sandbox_port)
        assert (await gateway.send(PHONE, "second")).status == 200
        assert (await gateway.task(task_id))["counts"]["read"] == 1
        assert [call.text for call in gateway.calls.all] == ["first", "second"]
        assert gateway.events.counts["message.unknown"] == 0


async def test_without_a_word_it_is_sent_again_and_a_double_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path, unknown={"grace_s": 0.3}) as gateway:
        unknown = await unknown_row(gateway)
        (first,) = gateway.sandbox.accepted()["items"]
        (sent,) = await gateway.events.wait("message.sent")
        assert (unknown["attempt"], sent["attempt"]) == (1, 2)
        assert [call.status for call in gateway.calls.all] == [0, 200]
        assert gateway.events.counts["message.doubled"] == 0
        # Now Meta's word about the first attempt comes after all.
        status = {"id": first["wamid"], "status": "delivered", "timestamp": "1", "recipient_id": PHONE}
        status["biz_opaque_callback_data"] = first["callback"]
        value = message_value(statuses=[status])
        value["metadata"]["phone_number_id"] = NUMBER
        assert (await gateway.webhook(body(entry(value)))).status == 200
        (doubled,) = await gateway.events.wait("message.doubled")
        assert sorted(doubled["wamids"]) == sorted([first["wamid"], sent["wamid"]])
        assert doubled["message_id"] == unknown["message_id"]
        task = await gateway.task_when(sent["task_id"], lambda task: task["counts"]["delivered"] == 1)
        assert task["result"] == {"total": 1, "sent": 1, "failed": 0}


async def test_a_send_without_a_word_is_answered_as_one_of_which_nobody_knows(tmp_path: Path) -> None:
    async with serving(
        tmp_path, sandbox=QUIET, unknown={"grace_s": 0.3, "action": "fail"}, direct={"timeout_s": 20.0}
    ) as gateway:
        gateway.sandbox.set_faults({"drop_answers": 1.0})
        answer = await gateway.send(PHONE)
        assert (answer.status, answer.body["code"]) == (502, "graph_no_answer")
        assert "no answer and no status" in answer.body["error"]
        assert "meta" not in answer.body


async def test_without_a_word_it_fails_where_that_is_wanted(tmp_path: Path) -> None:
    async with serving(tmp_path, unknown={"grace_s": 0.3, "action": "fail"}) as gateway:
        unknown = await unknown_row(gateway)
        (failed,) = await gateway.events.wait("message.failed")
        assert failed["error"]["name"] == "no_word"
        task = await gateway.task(unknown["task_id"])
        assert (task["status"], task["counts"]["failed"]) == ("FAILURE", 1)
        assert len(gateway.calls.all) == 1


async def test_a_page_of_a_proxy_leaves_the_outcome_open(tmp_path: Path) -> None:
    async with serving(tmp_path, unknown={"grace_s": 0.3}) as gateway:
        gateway.sandbox.set_faults({"http_5xx": {"status": 503}})
        task_id = await gateway.queue(PHONE)
        (unknown,) = await gateway.events.wait("message.unknown", task_id=task_id)
        assert (unknown["error"]["name"], unknown["error"]["code"]) == ("http_503", None)
        assert (await gateway.task(task_id))["counts"]["unknown"] == 1
        await gateway.events.wait("message.sent", task_id=task_id)
        assert len(gateway.calls.taken) == 1


async def test_an_unknown_row_holds_back_its_own_priority_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"drop_answers": 1.0, "statuses": False})
        await gateway.queue(PHONE, "first", priority="low")
        await gateway.events.wait("message.unknown")
        gateway.sandbox.set_faults({"drop_answers": 0.0})
        await gateway.queue(PHONE, "second", priority="low")
        assert (await gateway.send(PHONE, "urgent")).status == 200
        assert (await gateway.send(OTHER, "somebody else")).status == 200
        assert [call.text for call in gateway.calls.all] == ["first", "urgent", "somebody else"]


# -- statuses ----------------------------------------------------------------------------------------------


async def test_statuses_move_a_row_forward_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"reorder_webhooks": True, "duplicate_webhooks": 1.0})
        task_id = (await gateway.send(PHONE)).ok["task_id"]
        await gateway.sandbox.settled()
        await gateway.consumed("tracker")
        assert (await gateway.task(task_id))["counts"]["read"] == 1
        counts = gateway.events.counts
        assert [counts[f"message.{name}"] for name in ("sent", "delivered", "read", "failed")] == [1, 1, 1, 0]


async def test_a_failure_that_meta_tells_later_changes_the_counts_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = (await gateway.send("5215577131026")).ok["task_id"]
        (failed,) = await gateway.events.wait("message.failed", task_id=task_id)
        assert failed["status"]["errors"][0]["code"] == 131026
        task = await gateway.task_when(task_id, lambda task: task["counts"]["failed"] == 1)
        assert task["status"] == "SUCCESS"
        assert task["result"] == {"total": 1, "sent": 1, "failed": 1}
        assert [(error["code"], error["count"]) for error in task["errors"]] == [(131026, 1)]


# -- order and pace ----------------------------------------------------------------------------------------


async def test_a_persons_messages_keep_their_order_while_the_first_is_retried(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "count": 1}})
        texts = [str(n) for n in range(12)]
        await gateway.bulk([{"phone": PHONE, "message": text} for text in texts])
        await gateway.calls.wait(1)
        assert (await gateway.send(OTHER)).status == 200  # others do not wait
        await gateway.events.wait("message.sent", 13)
        assert [call.text for call in gateway.calls.to(PHONE)] == ["0", *texts]


async def test_a_message_of_high_priority_overtakes_a_queued_broadcast(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, lane={"rate": 40.0}) as gateway:
        await gateway.bulk([{"phone": phone, "message": "news"} for phone in people(60)])
        before = len(await gateway.calls.wait(8))
        assert (await gateway.send(PHONE, "a reply")).status == 200
        place = [call.text for call in gateway.calls.all].index("a reply")
        assert place <= before + 5  # what had been released by then
        await gateway.events.wait("message.sent", 61)


async def test_a_lane_at_eighty_a_second_draws_no_refusal(tmp_path: Path) -> None:
    strict = SandboxSettings(enforce_limits=True, rate_per_number=80, status_delays=None)
    async with serving(tmp_path, sandbox=strict, lane={"rate": 80.0}) as gateway:
        await gateway.bulk([{"phone": phone, "message": "news"} for phone in people(170)])
        await gateway.events.wait("message.sent", 170)
        assert "error_130429" not in gateway.sandbox.stats()
        times = [call.at for call in gateway.calls.all]
        assert max(sum(start <= at < start + 0.95 for at in times) for start in times) <= 80


async def test_a_number_that_is_too_quick_for_meta_slows_down_and_loses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, retry={"max_attempts": 1}) as gateway:
        gateway.sandbox.set_faults({"rate_limit": 10})
        await gateway.bulk([{"phone": phone, "message": "news"} for phone in people(15)])
        await gateway.events.wait("message.retrying")
        lane = await gateway.lane()
        assert lane["rate"] < lane["limit"] == 1000
        gateway.sandbox.set_faults({"rate_limit": None})
        await gateway.events.wait("message.sent", 15)
        assert {data["error"]["code"] for data in gateway.events.of("message.retrying")} == {130429}
        await gateway.lane_when(lambda now: now["rate"] > lane["rate"])


async def test_to_one_person_a_burst_leaves_at_once_and_not_more(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, lane={"pair_burst": 45, "pair_interval_s": 600.0}) as gateway:
        task_id = (await gateway.bulk([{"phone": PHONE, "message": str(n)} for n in range(50)])).ok["task_id"]
        await gateway.events.wait("message.sent", 45)
        assert (await gateway.send(OTHER)).status == 200  # others do not wait
        assert [call.text for call in gateway.calls.to(PHONE)] == [str(n) for n in range(45)]
        counts = (await gateway.task(task_id))["counts"]
        assert (counts["sent"], counts["queued"]) == (45, 5)


async def test_to_one_person_what_is_over_the_burst_leaves_later(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, lane={"pair_burst": 3, "pair_interval_s": 0.1}) as gateway:
        await gateway.bulk([{"phone": PHONE, "message": str(n)} for n in range(10)])
        await gateway.events.wait("message.sent", 10)
        assert [call.text for call in gateway.calls.all] == [str(n) for n in range(10)]
        times = [call.at for call in gateway.calls.all]
        # In any T seconds at most the burst and T / interval; the calls reach Meta a little after they left.
        assert all(times[n + 5] - times[n] > 0.2 for n in range(5))


async def test_a_pair_that_meta_refuses_waits_alone_and_burns_no_attempt(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, retry={"max_attempts": 1}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131056, "count": 1}})
        await gateway.queue(PHONE)
        await gateway.events.wait("message.retrying")
        assert (await gateway.send(OTHER)).status == 200
        assert len(gateway.calls.to(PHONE)) == 1
        await gateway.events.wait("message.sent", 2)


async def test_a_brake_for_quality_stops_the_broadcast_and_not_the_replies(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131048, "count": 1}})
        await gateway.queue(PHONE, "news", priority="low")
        await gateway.events.wait("message.retrying")
        await gateway.queue(OTHER, "news", priority="low")
        assert (await gateway.send(OTHER, "a reply")).status == 200
        assert [call.text for call in gateway.calls.all] == ["news", "a reply"]
        assert (await gateway.lane())["broadcasts_paused_s"] > 3600


async def test_a_restart_remembers_what_backs_off(tmp_path: Path) -> None:
    # The first waits for its retry when the gateway stops; the second must not overtake it afterwards.
    async with serving(tmp_path, sandbox=QUIET, retry={"base_s": 300.0, "cap_s": 300.0}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "count": 1}})
        await gateway.queue(PHONE, "first")
        await gateway.events.wait("message.retrying")
        await gateway.queue(PHONE, "second")
        await gateway.restart()
        assert (await gateway.send(OTHER)).status == 200
        assert [call.text for call in gateway.calls.to(PHONE)] == ["first"]


async def test_a_stop_lets_calls_in_flight_end_and_keeps_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET, lane={"concurrency": 2}) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 200})
        await gateway.bulk([{"phone": phone, "message": "news"} for phone in people(6)])
        await gateway.calls.wait(2)
        gateway.sandbox.set_faults({"delay_ms": 0})
        await gateway.restart()
        await gateway.events.wait("message.sent", 6)
        assert gateway.events.counts["message.unknown"] == 0
        assert len(gateway.calls.all) == 6


async def test_events_of_a_send_carry_their_row_and_its_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = (await gateway.send(PHONE)).ok["task_id"]
        await gateway.events.wait("message.read", task_id=task_id)
        for event in gateway.events.all:
            if event.type.startswith("message."):
                data = json.loads(event.body)["data"]
                assert (data["task_id"], data["message_id"]) == (task_id, f"{task_id}-0"), event.type
                assert data["wamid"] and data["attempt"] == 1
                assert (event.phone_number_id, event.contact) == (NUMBER, PHONE)
