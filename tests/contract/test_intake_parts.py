"""Webhooks whose parts are told one by one, on every store: once, and not after an older version did."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.log import Log
from tests.support.webhooks import OUR_ID, PHONE, WABA, body, entry, message_value, text_message
from whatsapp.contacts import Contacts
from whatsapp.events import build_event
from whatsapp.intake import Intake

NOW = 1_750_000_000_000
CALL = {"id": "wacid.A", "event": "connect", "from": PHONE, "timestamp": "1749999999"}
RINGING = {"id": "wacid.B", "type": "call", "status": "RINGING", "recipient_id": PHONE}
CALLS = message_value(calls=[CALL], statuses=[RINGING])


@pytest.fixture
def intake(io_loop: IOLoop, store: Store) -> Iterator[Intake]:
    log = Log(store)
    io_loop.run_sync(log.start)
    yield Intake(log, Contacts(store), store, now_ms=lambda: NOW)


def former_key(field: str, value: Any) -> str:
    """That of the whole change, as versions wrote it that did not look into it."""
    content = msgspec.json.encode([OUR_ID, "", value], order="sorted")
    return f"up:{WABA}::{field}:{hashlib.sha256(content).hexdigest()}"


async def names(store: Store) -> list[tuple[str, str]]:
    return [(event.type, event.contact) for event in await store.events_after(0, 10_000)]


async def test_parts_are_told_once_however_often_they_come(store: Store, intake: Intake) -> None:
    for _ in range(3):
        await intake.take(body(entry(CALLS, "calls")))
    assert await names(store) == [("call.connected", PHONE), ("call.status", PHONE)]
    # In another company they are the same.
    await intake.take(body(entry(message_value(calls=[CALL]), "calls")))
    assert len(await names(store)) == 2


async def test_what_an_older_version_told_as_one_is_not_told_again_by_parts(
    store: Store, intake: Intake
) -> None:
    told = build_event("webhook.other", former_key("calls", CALLS), NOW, {"field": "calls", "value": CALLS})
    await store.append_events([told])
    await intake.take(body(entry(CALLS, "calls")))
    assert await names(store) == [("webhook.other", "")]
    new = message_value(calls=[{**CALL, "event": "terminate"}])
    await intake.take(
        body(entry(CALLS, "calls"), entry(new, "calls"), entry(message_value(messages=[text_message()])))
    )
    assert await names(store) == [
        ("webhook.other", ""),
        ("call.terminated", PHONE),
        ("message.received", PHONE),
    ]


async def test_a_history_of_thousands_is_one_webhook(store: Store, intake: Intake) -> None:
    threads = [
        {"id": str(16500000000 + n), "messages": [text_message(f"wamid.{n}.{m}") for m in range(50)]}
        for n in range(100)
    ]
    part = {"metadata": {"phase": 0, "chunk_order": 1, "progress": 100}, "threads": threads}
    whole = body(entry(message_value(history=[part]), "history"))
    for _ in range(2):
        await intake.take(whole)
    found = await names(store)
    assert found[:-1] == [("history.message", str(16500000000 + n)) for n in range(100) for _ in range(50)]
    assert found[-1] == ("history.progress", "")
