"""The intake on every store: what is told by parts, and not after an older version did; and who it is."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.log import Log
from tests.support.webhooks import (
    OUR_ID,
    PHONE,
    WABA,
    body,
    entry,
    message_value,
    system_message,
    text_message,
)
from whatsapp.contacts import Contacts
from whatsapp.events import build_event
from whatsapp.identity import Address
from whatsapp.intake import Intake
from whatsapp.webhook import BadPayload

NOW = 1_750_000_000_000
CALL = {"id": "wacid.A", "event": "connect", "from": PHONE, "timestamp": "1749999999"}
RINGING = {"id": "wacid.B", "type": "call", "status": "RINGING", "recipient_id": PHONE}
CALLS = message_value(calls=[CALL], statuses=[RINGING])


@pytest.fixture
def contacts(store: Store) -> Contacts:
    return Contacts(store)


@pytest.fixture
def intake(io_loop: IOLoop, store: Store, contacts: Contacts) -> Intake:
    log = Log(store)
    io_loop.run_sync(log.start)
    return Intake(log, contacts, store, now_ms=lambda: NOW)


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


async def test_what_is_made_to_grow_without_bound_is_refused_whole(store: Store, intake: Intake) -> None:
    messages = [text_message(f"wamid.{n}") for n in range(1000)]
    value = message_value(messages=messages) | {"metadata": {"phone_number_id": OUR_ID, "x": "x" * 100_000}}
    with pytest.raises(BadPayload):
        await intake.take(body(entry(value)))
    assert await names(store) == []


# -- who it is ---------------------------------------------------------------------------------------------

USER, NEW_USER = "US.1", "US.2"


def said(wamid: str, at: int, **who: Any) -> bytes:
    """A text by somebody, at a second."""
    return body(entry(message_value(messages=[text_message(wamid, timestamp=str(at), **who)])))


async def test_two_keys_that_are_one_person_become_one_and_it_is_told(
    store: Store, intake: Intake, contacts: Contacts
) -> None:
    await contacts.resolve([Address(PHONE)])  # dialled
    await intake.take(said("wamid.1", 1_749_999_000, **{"from": None}, from_user_id=USER))
    both = said("wamid.2", 1_749_999_001, from_user_id=USER)
    for _ in range(2):
        await intake.take(both)
    assert await names(store) == [
        ("message.received", USER),
        ("contact.merged", USER),
        ("message.received", USER),
    ]
    merged = msgspec.json.decode((await store.events_after(0, 10))[1].body)["data"]
    assert merged == {"kept": USER, "gone": PHONE}
    assert await Contacts(store).resolve([Address(PHONE)]) == {Address(PHONE): USER}


async def test_a_webhook_that_comes_late_gives_a_phone_to_nobody(
    store: Store, intake: Intake, contacts: Contacts
) -> None:
    first = said("wamid.1", 1_749_000_000, from_user_id=USER)
    await intake.take(first)
    await intake.take(said("wamid.2", 1_749_500_000, from_user_id=NEW_USER))
    late = said("wamid.3", 1_749_000_001, from_user_id=USER)
    for webhook in (late, first):
        await intake.take(webhook)
    assert [contact for _, contact in await names(store)] == [PHONE, NEW_USER, PHONE]
    assert await Contacts(store).resolve([Address(PHONE)]) == {Address(PHONE): NEW_USER}


async def test_a_change_that_comes_after_what_followed_it_splits_nobody(
    store: Store, intake: Intake, contacts: Contacts
) -> None:
    await intake.take(said("wamid.1", 1_749_000_000, from_user_id=USER))
    await intake.take(said("wamid.2", 1_749_000_009, **{"from": "16505550009"}, from_user_id=NEW_USER))
    change = system_message(
        "user_changed_number", wa_id="16505550009", user_id=NEW_USER, previous_user_id=USER
    )
    for _ in range(2):
        await intake.take(body(entry(message_value(messages=[change | {"timestamp": "1749000005"}]))))
    asked = [Address("16505550009"), Address("", USER), Address("", NEW_USER)]
    assert await Contacts(store).resolve(asked) == dict.fromkeys(asked, PHONE)
    assert ("contact.merged", PHONE) in await names(store)
