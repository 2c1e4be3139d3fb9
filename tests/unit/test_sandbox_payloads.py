"""The shapes of the sandbox's webhooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.identity import Address, parse_address
from whatsapp.sandbox_payloads import (
    Update,
    Wamids,
    any_update,
    ascii_json,
    encode_post,
    inbound_update,
    status_updates,
    user_id_of,
    wa_id_of,
)
from whatsapp.sandbox_rules import Refused, Send

AT = 1_750_030_073.4
DELAYS = (1.0, 2.0, 3.0)
USER_ID = "US.13491208655302741918"
PERSON = user_id_of("16505551234")
METADATA = {
    "1": ascii_json({"display_phone_number": "15550000001", "phone_number_id": "1"}),
    "2": ascii_json({"display_phone_number": "15550000002", "phone_number_id": "2"}),
}


def sent(
    phone: str = "16505551234",
    user_id: str = "",
    group: str = "",
    type: str = "text",
    callback: str | None = None,
) -> Send:
    return Send(
        input=phone or user_id or group,
        phone=phone,
        user_id=user_id,
        group=group,
        type=type,
        callback=callback,
    )


def items(send: Send, **options: Any) -> list[tuple[float, dict[str, Any], Any]]:
    """(delay, status, contact) of each update."""
    updates = status_updates(send, "wamid.A", "1", AT, DELAYS, **options)
    return [
        (delay, json.loads(update.item), json.loads(update.contact or b"null")) for delay, update in updates
    ]


def post(*updates: Update) -> Any:
    return json.loads(encode_post("99", METADATA, updates))


# -- ids ---------------------------------------------------------------------------------------------------


def test_a_user_id_is_one_and_always_the_same() -> None:
    assert parse_address(PERSON) == Address(user_id=PERSON)
    assert PERSON == user_id_of("16505551234") != user_id_of("16505551235")


def test_message_ids_are_new_in_every_run_and_within_one() -> None:
    first, second = Wamids(b"12345678"), Wamids(b"87654321")
    ids = [wamids.next() for wamids in (first, second) for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(id.startswith("wamid.") for id in ids)


@pytest.mark.parametrize(
    ("phone", "wa_id"),
    [("525512345678", "5215512345678"), ("5215512345678", "5215512345678"), ("16505551234", "16505551234")],
)
def test_mexican_numbers_are_known_by_another_wa_id(phone: str, wa_id: str) -> None:
    assert wa_id_of(phone) == wa_id


# -- JSON --------------------------------------------------------------------------------------------------


def test_json_is_escaped_as_meta_does() -> None:
    assert ascii_json({"a": "café 😀 1/2"}) == rb'{"a":"caf\u00e9 \ud83d\ude00 1\/2"}'


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_escaped_json_says_the_same(value: Any) -> None:
    body = ascii_json(value)
    assert body.isascii()
    assert json.loads(body) == value


# -- statuses ----------------------------------------------------------------------------------------------


def test_statuses_by_phone() -> None:
    told = items(sent(callback="row.1"), name="Ann")
    assert [(delay, item["status"], item["timestamp"]) for delay, item, _ in told] == [
        (1.0, "sent", "1750030074"),
        (2.0, "delivered", "1750030075"),
        (3.0, "read", "1750030076"),
    ]
    for _, item, contact in told:
        assert item["id"] == "wamid.A"
        assert item["recipient_id"] == "16505551234"
        assert item["recipient_user_id"] == PERSON
        assert item["biz_opaque_callback_data"] == "row.1"
        assert "conversation" not in item and "errors" not in item
        assert contact == {"profile": {"name": "Ann"}, "wa_id": "16505551234", "user_id": PERSON}
    assert ["pricing" in item for _, item, _ in told] == [True, True, False]
    assert told[0][1]["pricing"]["category"] == "service"


def test_statuses_by_user_id_show_no_phone() -> None:
    for _, item, contact in items(sent(phone="", user_id=USER_ID)):
        assert "recipient_id" not in item
        assert item["recipient_user_id"] == USER_ID
        assert "biz_opaque_callback_data" not in item
        assert contact == {"user_id": USER_ID}


def test_a_failed_status_says_why_and_has_no_contact() -> None:
    ((delay, item, contact),) = items(sent(callback="row.1"), failure=Refused(131026))
    assert (delay, item["status"], contact) == (2.0, "failed", None)
    assert item["errors"][0]["code"] == 131026
    assert item["biz_opaque_callback_data"] == "row.1"
    assert "pricing" not in item


def test_reversed_statuses_keep_their_own_times() -> None:
    told = items(sent(), reverse=True)
    assert [(delay, item["status"], item["timestamp"]) for delay, item, _ in told] == [
        (3.0, "sent", "1750030074"),
        (2.0, "delivered", "1750030075"),
        (1.0, "read", "1750030076"),
    ]


def test_a_reaction_is_only_sent() -> None:
    assert [item["status"] for _, item, _ in items(sent(type="reaction"))] == ["sent"]


def test_a_group_is_named_as_one() -> None:
    ((_, item, contact),) = items(sent(phone="", group="R3JvdXA"))
    assert (item["recipient_id"], item["recipient_type"], contact) == ("R3JvdXA", "group", None)


def test_a_template_is_billed() -> None:
    pricing = items(sent(type="template"))[0][1]["pricing"]
    assert (pricing["billable"], pricing["type"], pricing["pricing_model"]) == (True, "regular", "PMP")


# -- inbound -----------------------------------------------------------------------------------------------


def inbound(message: dict[str, Any], wa_id: str = "16505551234", user_id: str = PERSON) -> tuple[Any, Any]:
    update = inbound_update(message, "1", wamid="wamid.I", at=AT, wa_id=wa_id, user_id=user_id, name="Ann")
    assert update.kind == "messages"
    return json.loads(update.item), json.loads(update.contact or b"null")


def test_an_inbound_message_by_phone() -> None:
    item, contact = inbound({"type": "text", "text": {"body": "Hi"}})
    assert item == {
        "from": "16505551234",
        "from_user_id": PERSON,
        "id": "wamid.I",
        "timestamp": "1750030073",
        "type": "text",
        "text": {"body": "Hi"},
    }
    assert contact == {"profile": {"name": "Ann"}, "wa_id": "16505551234", "user_id": PERSON}


def test_an_inbound_message_of_a_hidden_phone_has_no_phone_field() -> None:
    item, contact = inbound({"type": "text", "text": {"body": "Hi"}, "from": "1"}, wa_id="", user_id=USER_ID)
    assert "from" not in item
    assert item["from_user_id"] == USER_ID
    assert contact == {"profile": {"name": "Ann"}, "user_id": USER_ID}


def test_an_inbound_message_keeps_its_own_id_and_time() -> None:
    item, _ = inbound({"type": "text", "text": {"body": "Hi"}, "id": "wamid.X", "timestamp": "1"})
    assert (item["id"], item["timestamp"]) == ("wamid.X", "1")


def test_a_system_message_has_no_contact() -> None:
    _, contact = inbound({"type": "system", "system": {"type": "user_changed_number", "wa_id": "1"}})
    assert contact is None


# -- a POST ------------------------------------------------------------------------------------------------


def test_a_post_has_metas_envelope() -> None:
    update = inbound_update(
        {"type": "text", "text": {"body": "Hi"}}, "1", wamid="w", at=AT, wa_id="1", user_id="US.1", name="Ann"
    )
    body = post(update)
    assert body["object"] == "whatsapp_business_account"
    ((entry),) = body["entry"]
    assert entry.keys() == {"id", "changes"}
    assert entry["id"] == "99"
    (change,) = entry["changes"]
    assert change["field"] == "messages"
    value = change["value"]
    assert value.keys() == {"messaging_product", "metadata", "contacts", "messages"}
    assert value["metadata"] == {"display_phone_number": "15550000001", "phone_number_id": "1"}


def test_what_is_given_as_it_is_stands_in_an_entry_of_its_own_with_its_time() -> None:
    value = {"event": "PAUSED", "message_template_name": "promo"}
    told = any_update("99", "message_template_status_update", value, AT)
    own = {
        "id": "99",
        "time": int(AT),
        "changes": [{"field": "message_template_status_update", "value": value}],
    }
    assert post(told)["entry"] == [own]
    (_, status), *_ = status_updates(sent(), "wamid.A", "1", AT, DELAYS)
    first, second = post(status, told)["entry"]
    assert first == own and second["changes"][0]["field"] == "messages"


def test_updates_of_a_kind_share_a_change_and_failed_ones_keep_apart() -> None:
    taken = [update for _, update in status_updates(sent(), "wamid.A", "1", AT, DELAYS)]
    again = [update for _, update in status_updates(sent(), "wamid.B", "1", AT, DELAYS)]
    failed = [
        update for _, update in status_updates(sent(), "wamid.C", "1", AT, DELAYS, failure=Refused(131026))
    ]
    other = [update for _, update in status_updates(sent(), "wamid.D", "2", AT, DELAYS)]
    (entry,) = post(*taken, *again, *failed, *other)["entry"]
    values = [change["value"] for change in entry["changes"]]
    assert [[item["id"] for item in value["statuses"]] for value in values[:3]] == [
        ["wamid.A", "wamid.B"]
    ] * 3
    assert all(len(value["contacts"]) == 1 for value in values[:3])
    assert [item["status"] for item in values[3]["statuses"]] == ["failed"]
    assert "contacts" not in values[3]
    assert {value["metadata"]["phone_number_id"] for value in values[4:]} == {"2"}
