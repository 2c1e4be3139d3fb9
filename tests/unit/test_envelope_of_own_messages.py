"""What becomes of Meta's own object on its way to the outbox."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from handlers.own_messages import Envelope
from whatsapp.compose import addressed, as_marketing, is_marketing
from whatsapp.drafts import Draft
from whatsapp.identity import Address
from whatsapp.validate import Findings

TEXT = b'{ "body": "caf\\u00e9", "new": 123456789012345678901234567890, "f": 1.10 }'


def draft(
    value: Any, *, name: str = "to", group: bool = False, beside: bool = False, **more: bytes
) -> tuple[Draft | None, list[tuple[str, str]]]:
    fields = {"type": b'"text"', "text": TEXT, **more}
    envelope = Envelope({key: msgspec.Raw(raw) for key, raw in fields.items()}, name, group, beside)
    findings = Findings()
    return envelope.draft_to(findings, value, f"{name}[3]"), findings.problems


@pytest.mark.parametrize("phone", ["+1 (650) 555-1234", "16505551234", 16505551234])
def test_a_phone_goes_with_its_plus_and_all_else_byte_by_byte(phone: Any) -> None:
    made, faults = draft(phone)
    assert made is not None and not faults
    assert made.address == Address("16505551234") and made.contact == ""
    assert made.payload == (
        b'{"messaging_product":"whatsapp","recipient_type":"individual","to":"+16505551234",'
        b'"type":"text","text":' + TEXT + b"}"
    )


@pytest.mark.parametrize("name", ["to", "recipient"])
def test_a_user_id_goes_as_recipient(name: str) -> None:
    made, faults = draft("US.13491208655302741918", name=name)
    assert made is not None and not faults
    assert made.address == Address(user_id="US.13491208655302741918")
    message = json.loads(made.payload)
    assert message["recipient"] == "US.13491208655302741918" and "to" not in message


def test_what_is_filled_in_is_there_once() -> None:
    given = {"messaging_product": b'"whatsapp"', "recipient_type": b'"individual"'}
    made, _ = draft("16505551234", **given)
    assert made is not None
    assert made.payload.count(b"messaging_product") == made.payload.count(b"recipient_type") == 1


def test_a_group_is_a_contact_without_an_address() -> None:
    made, faults = draft('Y2Fw"==', group=True)
    assert made is not None and not faults
    assert (made.address, made.contact) == (Address(), 'group:Y2Fw"==')
    message = json.loads(made.payload)
    assert (message["recipient_type"], message["to"]) == ("group", 'Y2Fw"==')


@pytest.mark.parametrize(
    ("value", "name", "group", "words"),
    [
        ("12", "to", False, "must be a phone in international digits, or a user id"),
        (None, "to", False, "is required"),
        (True, "to", False, "must be text or a number"),
        ({}, "to", False, "must be text or a number"),
        ("16505551234", "recipient", False, "must be a user id"),
        (7, "to", True, "must be the id of a group, text of at most 256 characters"),
        ("", "to", True, "must be the id of a group, text of at most 256 characters"),
        ("x" * 257, "to", True, "must be the id of a group, text of at most 256 characters"),
    ],
)
def test_who_is_nobody_is_told_where_it_stands(value: Any, name: str, group: bool, words: str) -> None:
    _, faults = draft(value, name=name, group=group)
    assert faults == [(f"{name}[3]", words)]


def test_two_user_ids_are_one_too_many() -> None:
    assert draft("US.1", beside=True, recipient=b'"US.2"')[1] == [
        ("recipient", "does not go with a user id in to")
    ]
    made, faults = draft("16505551234", beside=True, recipient=b'"US.2"')
    assert made is not None and not faults
    assert json.loads(made.payload)["recipient"] == "US.2"


@pytest.mark.parametrize(
    ("field", "raw"), [("product_policy", b'"STRICT"'), ("message_activity_sharing", b"false")]
)
def test_a_marketing_message_says_so_by_its_first_bytes(field: str, raw: bytes) -> None:
    made, _ = draft("16505551234", **{field: raw})
    assert made is not None and is_marketing(made.payload)
    assert json.loads(made.payload)[field] == json.loads(raw)
    assert made.payload.count(field.encode()) == 1


def test_no_other_message_is_taken_for_one_of_marketing() -> None:
    content = b'{"type":"text","text":{"body":"{\\"product_policy\\":"}}'
    plain = addressed(Address("16505551234"), content)
    assert not is_marketing(plain)
    both = as_marketing({"message_activity_sharing": True, "product_policy": "STRICT", "to": 1}, plain)
    assert json.loads(both) == {"product_policy": "STRICT", "message_activity_sharing": True} | json.loads(
        plain
    )
    assert is_marketing(both)
