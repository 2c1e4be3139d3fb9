"""Every sample of Meta's, and the updates that a reader of it would expect."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from tests.support.webhooks import OUR_ID, PHONE, SAMPLES
from whatsapp.events import EventType
from whatsapp.identity import Address
from whatsapp.webhook import parse


class Expected(NamedTuple):
    type: str
    key: str
    """Its beginning."""
    phone: str = PHONE
    inbound: bool = True
    text: str | None = None
    name: str | None = "Sheena Nelson"


RECEIVED = EventType.MESSAGE_RECEIVED
_A = "in:messages:wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQz"

EXPECTED: dict[str, Expected] = {
    "button-message": Expected(RECEIVED, f"{_A}QUU0M0MxQzQzMUJCMTMwNUZFOQA=", text="Unsubscribe"),
    "contact-sharing-message": Expected(RECEIVED, f"{_A}QTRBNjU5OUFFRTAzODEwMTQ0RgA=", text="Lucía Gómez"),
    "group-create-message": Expected(
        EventType.GROUP_LIFECYCLE, "up:102290129340398::group_lifecycle_update:", "", False
    ),
    # Its item says group_create: a slip of Meta's. The field tells.
    "group-remove-participants": Expected(
        EventType.GROUP_PARTICIPANTS, "up:102290129340398::group_participants_update:", "", False
    ),
    "group-settings-update": Expected(
        EventType.GROUP_SETTINGS, "up:102290129340398::group_settings_update:", "", False
    ),
    "image-message": Expected(RECEIVED, f"{_A}QTRBNjU5OUFFRTAzODEwMTQ0RgA=", text="Taj Mahal"),
    "interactive-button-reply-message": Expected(
        RECEIVED, f"{_A}QTZBQzg0MzQ4QjRCM0NGNkVGOAA=", text="Cancel"
    ),
    "interactive-list-reply-message": Expected(
        RECEIVED, f"{_A}QUJDQ0NDM0FEODY4ODkzOTc5RgA=", text="Priority Mail Express"
    ),
    "location-message": Expected(
        RECEIVED,
        f"{_A}QTU2MjZEMDBGRkE3MENEMDE0RQA=",
        text="Philz Coffee, 101 Forest Ave, Palo Alto, CA 94301",
    ),
    "order-message": Expected(RECEIVED, f"{_A}QTEyQjFGNzI1QTQxMjI5QTMyOQA=", text=""),
    "reaction-message": Expected(RECEIVED, f"{_A}QTRBNjU5OUFFRTAzODEwMTQ0RgA=", text="👍"),
    "system-message": Expected(
        EventType.CONTACT_CHANGED,
        "in:messages:wamid.HBgLMTk4MzU1NTE5NzQVAgASGAoxMTgyMDg2MjY3AA==",
        inbound=False,
        text="User Sheena Nelson changed from 16505551234 to 12195555358",
        name=None,
    ),
    "text-message": Expected(
        RECEIVED, f"{_A}QTRBNjU5OUFFRTAzODEwMTQ0RgA=", text="Does it come in another color?"
    ),
    "text-message-from-click-to-whatsapp-ad": Expected(
        RECEIVED, f"{_A}QUQ0N0VFMDA2MTQ0RkJFNkNDNAA=", text="Hello! Can I get more info on this?"
    ),
    "text-message-with-context-product-inquiry": Expected(
        RECEIVED, f"{_A}QTA2NTUwRkNEMDdFQjJCRUU0NQA=", text="Is this still available?"
    ),
    "unsupported-message": Expected(
        RECEIVED,
        "in:messages:wamid.HBgLMTQyMDU1NTA3NDkVAgASGBI5N0MwRjg0RTVBNUI1RDA2OTkA",
        text="Message type unknown",
    ),
}


def test_every_sample_is_in_the_table() -> None:
    assert {path.stem for path in SAMPLES.glob("*.json")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_sample_gives_the_expected_update(name: str) -> None:
    raw = (SAMPLES / f"{name}.json").read_bytes()
    expected = EXPECTED[name]
    (update,) = parse(raw)
    assert update.type == expected.type
    assert update.key.startswith(expected.key)
    assert update.key == expected.key or update.key.startswith("up:")
    assert update.phone_number_id == OUR_ID
    assert update.address == Address(expected.phone)
    assert update.inbound is expected.inbound
    assert update.data.get("text") == expected.text
    assert (update.message_id, update.attempt) == ("", 0)
    value = _value(raw)
    if update.type.startswith("group."):
        (group,) = value["groups"]
        assert update.data == {
            "field": update.key.split(":")[3],
            "part": "groups",
            "value": group,
            "entry_id": "102290129340398",
            "time": None,
            "contact": None,
            "metadata": value["metadata"],
        }
    else:
        assert update.data["message"] == value["messages"][0]
        assert update.data["metadata"] == value["metadata"]
        assert update.data["contact"] == (value["contacts"][0] if expected.name else None)
        assert not expected.name or update.data["contact"]["profile"]["name"] == expected.name


def test_the_changed_number_is_told_old_and_new() -> None:
    (update,) = parse((SAMPLES / "system-message.json").read_bytes())
    assert update.change is not None
    assert (update.change.old, update.change.new) == (Address(PHONE), Address("12195555358"))
    assert update.data["change"] == {
        "old_phone": PHONE,
        "new_phone": "12195555358",
        "old_user_id": None,
        "new_user_id": None,
    }


def test_participants_with_numbers_as_ids_pass_unchanged() -> None:
    (update,) = parse((SAMPLES / "group-create-message.json").read_bytes())
    assert update.data["value"]["added_participants"][0] == {"input": 16505551234, "wa_id": 16505551234}


def _value(raw: bytes) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.json.decode(raw)["entry"][0]["changes"][0]["value"]
    return value
