"""``Idempotency-Key``: what is repeated has its effect once (contract.md, Part 2)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from handlers import idempotency
from tests.support.gateway import Answer, Harness, serving
from whatsapp.sandbox import SandboxSettings

PHONE = "5215550001111"
SEND = "/api/send-message"
REPLAYED = "Idempotency-Replayed"


async def keyed(gateway: Harness, body: Any, key: str = "k-1", path: str = SEND) -> Answer:
    return await gateway.post(path, body, **{"Idempotency-Key": key})


def message(**fields: object) -> dict[str, object]:
    return {"phone": PHONE, "message": "hello", **fields}


@pytest.fixture(autouse=True)
def quick_polls() -> Iterator[None]:
    """Whoever waits for another process looks often."""
    with mock.patch.object(idempotency, "_POLL_S", (0.001,)):
        yield


@pytest.mark.parametrize("use_queue", [True, False])
async def test_a_repetition_is_answered_as_before_and_sends_nothing(tmp_path: Path, use_queue: bool) -> None:
    async with serving(tmp_path) as gateway:
        first = await keyed(gateway, message(use_queue=use_queue))
        again = await keyed(gateway, message(use_queue=use_queue))
        assert (again.status, again.body) == (200, first.ok)
        assert REPLAYED not in first.headers and again.headers[REPLAYED] == "true"
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
        await gateway.events.wait("message.sent")
        assert len(gateway.calls.all) == gateway.events.counts["task.created"] == 1


async def test_keys_are_told_apart_and_so_are_paths(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        tasks = set()
        body = {"recipients": [{"phone": PHONE, "message": "x"}]}
        for key in ("a", "b", "~" * 255):
            tasks.add((await keyed(gateway, message(use_queue=True), key)).ok["task_id"])
            tasks.add((await keyed(gateway, body, key, "/api/send-bulk")).ok["task_id"])
        assert len(tasks) == 6
        assert (await gateway.send(PHONE, use_queue=True)).ok["task_id"] not in tasks


async def test_another_body_under_a_key_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first = await keyed(gateway, message())
        for other in (message(message="other"), json.dumps(message(), indent=1).encode(), b"{"):
            answer = await keyed(gateway, other)
            assert (answer.status, answer.body["code"]) == (422, "idempotency_mismatch")
            assert "Idempotency-Key" in answer.body["error"]
        assert (await keyed(gateway, message())).ok == first.body
        assert len(gateway.calls.all) == 1


@pytest.mark.parametrize("key", ["", "a b", "ñ", "~" * 256, "a\tb"])
async def test_a_key_that_cannot_be_one_is_refused(tmp_path: Path, key: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await keyed(gateway, message(), key)
        assert (answer.status, answer.body["code"]) == (400, "invalid_request")
        assert answer.body["details"][0]["path"] == "Idempotency-Key"
        assert gateway.calls.all == []


async def test_a_refusal_is_kept_and_a_key_elsewhere_means_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first = await keyed(gateway, {"phone": "12"})
        again = await keyed(gateway, {"phone": "12"})
        assert (first.status, again.status) == (400, 400)
        assert again.body == first.body and again.headers[REPLAYED] == "true"
        for method, path, status in (("GET", "/api/tasks", 200), ("POST", "/api/nothing", 404)):
            for _ in range(2):
                answer = await gateway.request(method, path, headers={"Idempotency-Key": ""})
                assert answer.status == status and REPLAYED not in answer.headers
        assert (await keyed(gateway, message(), "", "/api/health")).status == 405


@pytest.mark.parametrize("use_queue", [True, False])
async def test_of_twenty_at_once_one_sends(tmp_path: Path, use_queue: bool) -> None:
    async with serving(tmp_path) as gateway:
        answers = await asyncio.gather(*(keyed(gateway, message(use_queue=use_queue)) for _ in range(20)))
        assert all(answer.ok == answers[0].body for answer in answers)
        assert sum(REPLAYED not in answer.headers for answer in answers) == 1
        await gateway.events.wait("message.sent")
        assert len(gateway.calls.all) == gateway.events.counts["task.created"] == 1


async def test_those_who_wait_for_another_body_are_told_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.hold("create_task")
        first = asyncio.ensure_future(keyed(gateway, message()))
        await gateway.store.arrived("create_task")
        assert (await keyed(gateway, message(message="other"))).status == 422
        gateway.store.heal()
        assert (await first).status == 200


async def test_a_repetition_after_a_restart_is_answered_as_before(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first = await keyed(gateway, message())
        await gateway.restart()
        again = await keyed(gateway, message())
        assert again.ok == first.ok and again.headers[REPLAYED] == "true"
        assert len(gateway.calls.all) == 1


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("use_queue", [True, False])
async def test_a_crash_between_the_task_and_the_answer_does_not_send_twice(
    tmp_path: Path, restart: bool, use_queue: bool
) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail("keep_answer")
        first = await keyed(gateway, message(use_queue=use_queue))
        await gateway.events.wait("message.sent")
        gateway.store.heal()
        if restart:
            await gateway.restart()
        again = await keyed(gateway, message(use_queue=use_queue))
        assert REPLAYED not in again.headers
        assert again.ok["task_id"] == first.ok["task_id"]
        if not use_queue:
            assert again.body["data"]["messages"] == first.body["data"]["messages"]
        third = await keyed(gateway, message(use_queue=use_queue))
        assert third.ok == again.body and third.headers[REPLAYED] == "true"
        assert len(gateway.calls.all) == 1


@pytest.mark.parametrize("count", [3, 700])
@pytest.mark.parametrize("use_queue", [True, False])
async def test_many_recipients_are_not_sent_to_twice_either(
    tmp_path: Path, count: int, use_queue: bool
) -> None:
    body = {
        "recipients": [{"phone": str(5215560000000 + n), "message": "x"} for n in range(count)],
        "use_queue": use_queue,
    }
    async with serving(tmp_path) as gateway:
        gateway.store.fail("keep_answer")
        first = await keyed(gateway, body, path="/api/send-bulk")
        await gateway.events.wait("task.completed")
        await gateway.consumed("tracker")
        gateway.store.heal()
        again = await keyed(gateway, body, path="/api/send-bulk")
        assert again.ok == first.ok
        assert len(gateway.calls.all) == count


async def test_a_storing_that_broke_off_is_made_good_by_the_repetition(tmp_path: Path) -> None:
    recipients = [{"phone": str(5215560000000 + n), "message": "x"} for n in range(1100)]
    async with serving(tmp_path) as gateway:
        gateway.store.fail("mark_ready")
        answer = await keyed(gateway, {"recipients": recipients}, path="/api/send-bulk")
        assert answer.status == 503
        gateway.store.heal()
        task_id = (await keyed(gateway, {"recipients": recipients}, path="/api/send-bulk")).ok["task_id"]
        task = await gateway.task_when(task_id, lambda task: task["completed_at"] is not None)
        assert task["result"] == {"total": 1100, "sent": 1100, "failed": 0}
        assert len(gateway.calls.all) == 1100


async def test_what_the_gateway_failed_at_is_tried_anew(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail("create_task")
        for _ in range(2):
            answer = await keyed(gateway, message())
            assert (answer.status, answer.body["code"]) == (503, "store_unavailable")
            assert REPLAYED not in answer.headers
        gateway.store.heal()
        # What it may have stored was the other body's task.
        assert (await keyed(gateway, message(message="other"))).status == 422
        assert REPLAYED not in (await keyed(gateway, message())).headers
        assert len(gateway.calls.all) == 1


async def test_without_the_store_nothing_is_begun(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail("claim_answer")
        assert (await keyed(gateway, message())).status == 503
        gateway.store.heal()
        assert (await keyed(gateway, message())).status == 200
        assert len(gateway.calls.all) == 1


async def test_a_caller_who_went_away_gets_the_answer_when_it_asks_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.hold("create_task")
        first = asyncio.ensure_future(keyed(gateway, message()))
        await gateway.store.arrived("create_task")
        first.cancel()
        again = asyncio.ensure_future(keyed(gateway, message()))
        gateway.store.heal()
        answer = await again
        assert answer.status == 200 and answer.headers[REPLAYED] == "true"
        assert len(gateway.calls.all) == 1


async def test_who_waits_for_another_process_gets_its_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        store = gateway.store.as_store()
        name = f"{SEND}\nk-1"
        digest = hashlib.sha256(json.dumps(message()).encode()).hexdigest()
        # By its clock the other has hundreds of years left.
        await store.claim_answer(name, digest, "another", 2**43, hold_ms=1, keep_ms=1)
        waiting = asyncio.ensure_future(keyed(gateway, message()))
        await gateway.store.arrived("claim_answer", 4)
        await store.keep_answer(name, 200, b'{"success":true}')
        answer = await waiting
        assert answer.ok == {"success": True} and answer.headers[REPLAYED] == "true"
        assert gateway.calls.all == []


async def test_a_cancel_and_a_retry_are_repeated_as_they_were_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131047, "http": 400, "count": 1}})
        task_id = await gateway.queue(PHONE)
        await gateway.events.wait("task.completed")
        path = f"/api/tasks/{task_id}/retry"
        first = await keyed(gateway, {}, path=path)
        assert first.ok["retried"] == 1
        await gateway.events.wait("task.completed", 2)
        assert (await keyed(gateway, {}, path=path)).ok == first.body
        assert gateway.events.counts["task.retried"] == 1
        assert len(gateway.calls.all) == 2


async def test_stopping_lets_nobody_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.hold("create_task")
        first = asyncio.ensure_future(keyed(gateway, message(use_queue=True)))
        await gateway.store.arrived("create_task")
        waits = asyncio.ensure_future(keyed(gateway, message(use_queue=True)))
        gateway.gateway._idempotency.drain()
        second = await waits
        assert (second.status, second.body["code"]) == (503, "draining")
        gateway.store.heal()
        assert (await first).status == 200


async def test_who_still_waits_when_the_gateway_stops_is_answered_and_again_so(tmp_path: Path) -> None:
    quiet = SandboxSettings(enforce_limits=False, status_delays=None)
    async with serving(tmp_path, sandbox=quiet, drain={"timeout_s": 0.1}) as gateway:
        gateway.sandbox.set_faults({"delay_ms": 2000})
        waiting = asyncio.ensure_future(keyed(gateway, message()))
        await gateway.calls.wait(1)
        await gateway.restart()
        first = await waiting
        assert first.status == 202
        again = await keyed(gateway, message())
        assert (again.status, again.body) == (202, first.body)
        assert again.headers[REPLAYED] == "true"
        assert gateway.events.counts["task.created"] == 1
