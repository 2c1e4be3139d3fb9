"""Erasing somebody over the API: nothing of them is left, beside the load, and over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from settings import HookSettings, Secret
from tests.support.gateway import NUMBER, Harness, serving
from tests.support.receiver import receiving
from tests.support.waiting import eventually
from tests.support.webhooks import body, entry, text_message
from whatsapp import erasure

PHONE, OTHER = "5215550004141", "5215550004242"
SECRET = "a thing that nobody is to know"


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with mock.patch.object(erasure, "_EVERY_S", 0.05), mock.patch.object(erasure, "_IN_TIME_S", 0.5):
        yield


def written(phone: str, wamid: str, text: str) -> bytes:
    metadata = {"display_phone_number": "15550000001", "phone_number_id": NUMBER}
    contacts = [{"profile": {"name": f"Name of {phone}"}, "wa_id": phone}]
    message = text_message(wamid, text, **{"from": phone})
    value = {"messaging_product": "whatsapp", "metadata": metadata, "contacts": contacts}
    return body(entry({**value, "messages": [message]}))


async def erased(gateway: Harness, contact: str) -> dict[str, Any]:
    answer = await gateway.request("DELETE", f"/api/contacts/{contact}")
    assert answer.status == 202, answer
    return await done(gateway, answer.body["erasure"])


async def done(gateway: Harness, id: str) -> dict[str, Any]:
    async def ask() -> dict[str, Any] | None:
        with suppress(OSError):
            told: dict[str, Any] = (await gateway.get(f"/api/erasures/{id}")).ok
            return told if told["state"] == "done" else None
        return None

    return await eventually(ask)


def traces(directory: Path) -> list[str]:
    """Files with something of the erased one in them."""
    marks = [mark.encode() for mark in (PHONE, SECRET)]
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path.name for path in files if any(mark in path.read_bytes() for mark in marks)]


async def test_nothing_of_somebody_is_left_once_the_erasure_is_done(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.webhook(written(PHONE, "wamid.1", SECRET))
        await gateway.webhook(written(OTHER, "wamid.2", "hello"))
        task = (await gateway.send(PHONE, f"about {SECRET}", callback_data=SECRET)).ok["task_id"]
        await gateway.send(OTHER, "hello")
        again = {"Idempotency-Key": "once"}
        await gateway.post("/api/send-message", {"phone": PHONE, "message": SECRET}, **again)
        later = await gateway.queue(PHONE, SECRET, send_at="2026-12-24T00:00:00Z")
        assert traces(tmp_path)
        told = await erased(gateway, PHONE)
        assert told["messages"] == 3
        assert traces(tmp_path) == []
        for path in (f"/api/task-status/{task}", f"/api/task-status/{later}", f"/api/contacts/{PHONE}"):
            assert (await gateway.get(path)).status == 404
        assert (await gateway.get(f"/api/conversations/{PHONE}/messages")).body["messages"] == []
        page = (await gateway.get("/api/events?limit=1000")).ok["events"]
        assert SECRET not in msgspec.json.encode(page).decode()
        assert [event["prev"] for event in page[1:]] == [event["offset"] for event in page[:-1]]
        assert (await gateway.get(f"/api/contacts/{OTHER}")).status == 200
        # What was sent is not sent again by a repetition of its request.
        calls = len(gateway.calls.to(f"+{PHONE}"))
        repeated = await gateway.post("/api/send-message", {"phone": PHONE, "message": SECRET}, **again)
        assert (repeated.status, len(gateway.calls.to(f"+{PHONE}"))) == (200, calls)
        (event,) = gateway.events.of("contact.erased")
        assert event["erasure"] == told["erasure"]
        assert (await gateway.status())["erasures"]["pending"] == 0


async def test_an_erasure_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.webhook(written(PHONE, "wamid.1", SECRET))
        gateway.store.hold("rewrite_events")
        asked = (await gateway.request("DELETE", f"/api/contacts/{PHONE}")).body
        await gateway.store.arrived("rewrite_events")
        assert (await gateway.get(f"/api/erasures/{asked['erasure']}")).ok["state"] == "running"
        same = (await gateway.request("DELETE", f"/api/contacts/{PHONE}")).body
        assert same["erasure"] == asked["erasure"]
        await gateway.restart()
        await done(gateway, asked["erasure"])
        assert traces(tmp_path) == []


async def test_an_erasure_outlasts_a_store_that_is_away(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.webhook(written(PHONE, "wamid.1", SECRET))
        gateway.store.fail("forget_contacts")
        asked = (await gateway.request("DELETE", f"/api/contacts/{PHONE}")).body
        await gateway.store.arrived("forget_contacts", 2)
        assert (await gateway.status())["erasures"]["fault"]
        gateway.store.heal()
        await done(gateway, asked["erasure"])
        assert traces(tmp_path) == []


async def test_webhooks_and_sends_go_on_beside_erasures(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await asyncio.gather(
            *(gateway.webhook(written(PHONE if n % 3 else OTHER, f"wamid.{n}", SECRET)) for n in range(60))
        )
        asked = (await gateway.request("DELETE", f"/api/contacts/{PHONE}")).body
        answers = await asyncio.gather(
            *(gateway.webhook(written(OTHER, f"wamid.more{n}", "hello")) for n in range(60)),
            *(gateway.send(OTHER, "hello") for _ in range(5)),
        )
        assert {answer.status for answer in answers} == {200}
        told = await done(gateway, asked["erasure"])
        assert told["events"] >= 40
        received = [event["contact"] for event in (await gateway.get("/api/events?limit=1000")).ok["events"]]
        assert PHONE not in received
        assert received.count(OTHER) >= 80


async def test_a_hook_that_was_behind_gets_nothing_of_who_was_erased(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answers(503)
        hook = HookSettings(name="crm", url=Secret(receiver.url), types=("*",))
        quick = {"retry_base_s": 0.01, "retry_cap_s": 0.02, "endpoints": (hook,)}
        async with serving(tmp_path, hooks=quick) as gateway:
            await gateway.webhook(written(PHONE, "wamid.1", SECRET))
            await receiver.got(2)
            assert SECRET in receiver.posts[-1].body.decode()
            await erased(gateway, PHONE)
            tried = len(receiver.posts)
            receiver.answers(200)
            await gateway.webhook(written(OTHER, "wamid.2", "hello"))
            await receiver.wait(lambda: any(b"wamid.2" in post.body for post in receiver.taken), "the other")
            posted = b"".join(post.body for post in receiver.posts[tried:])
            assert b"event.erased" in posted
            assert SECRET.encode() not in posted and PHONE.encode() not in posted


async def test_what_cannot_be_erased_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.request("DELETE", "/api/contacts/no-such%2Fkey")).status == 404
        assert (await gateway.get("/api/erasures/none")).status == 404
        # Somebody who was never met: then there is nothing to do, and that is done.
        assert (await erased(gateway, "5215550009999"))["events"] == 0
