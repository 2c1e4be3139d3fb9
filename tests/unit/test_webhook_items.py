"""What a message or a status becomes: its event, data, key and person."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.webhooks import (
    CONTACT,
    GROUP,
    OUR_ID,
    PHONE,
    ROW,
    TASK,
    USER_ID,
    WABA,
    message_value,
    read,
    read_one,
    status,
    system_message,
    text_message,
)
from whatsapp.error_table import policy_of
from whatsapp.errors import error_of_status
from whatsapp.events import EventType
from whatsapp.identity import Address
from whatsapp.webhook import Update

Json = dict[str, Any]


# Messages and who wrote them


def test_a_message_comes_with_contact_metadata_and_text() -> None:
    message = text_message()
    update = read_one(messages=[message], contacts=[CONTACT])
    assert update == Update(
        key="in:messages:wamid.A",
        type="message.received",
        phone_number_id=OUR_ID,
        address=Address(PHONE, USER_ID),
        data={
            "message": message,
            "contact": CONTACT,
            "metadata": message_value()["metadata"],
            "text": "Hello",
        },
        inbound=True,
        at=1749416383999,
    )


@pytest.mark.parametrize(
    ("message", "contact", "address", "found"),
    [
        ({"from": PHONE}, {"wa_id": PHONE}, Address(PHONE), True),
        ({"from": PHONE}, {"wa_id": PHONE, "user_id": USER_ID}, Address(PHONE, USER_ID), True),
        ({"from": None, "from_user_id": USER_ID}, {"user_id": USER_ID}, Address("", USER_ID), True),
        (
            {"from": None, "from_user_id": USER_ID},
            {"wa_id": PHONE, "user_id": USER_ID},
            Address(PHONE, USER_ID),
            True,
        ),
        ({"from_user_id": USER_ID}, {"user_id": USER_ID}, Address(PHONE, USER_ID), True),
        ({"from_user_id": USER_ID}, {"wa_id": PHONE}, Address(PHONE, USER_ID), True),
        ({"from_user_id": USER_ID}, {"wa_id": PHONE, "user_id": "US.2"}, Address(PHONE, USER_ID), False),
        ({"from_user_id": USER_ID}, {"wa_id": "1", "user_id": USER_ID}, Address(PHONE, USER_ID), True),
        (
            {"from": "", "from_user_id": USER_ID},
            {"wa_id": "", "user_id": USER_ID},
            Address("", USER_ID),
            True,
        ),
        ({"from": PHONE, "from_user_id": ""}, {"wa_id": PHONE, "user_id": ""}, Address(PHONE), True),
        ({"from": int(PHONE)}, {"wa_id": PHONE}, Address(PHONE), True),
        ({"from": PHONE}, {"wa_id": int(PHONE)}, Address(PHONE), True),
        ({"from": "+" + PHONE}, {"wa_id": PHONE}, Address(PHONE), True),
        ({"from": PHONE}, {"wa_id": "19835552319", "user_id": USER_ID}, Address(PHONE), False),
        ({"from": PHONE}, {"user_id": USER_ID}, Address(PHONE), False),
        ({"from": None}, {"wa_id": PHONE}, Address(), False),
        ({"from": ""}, {"wa_id": ""}, Address(), False),
        ({"from": True}, {"wa_id": True}, Address(), False),
        ({"from": {"phone": PHONE}}, {"wa_id": PHONE}, Address(), False),
        ({"from": GROUP}, {"wa_id": PHONE}, Address(), False),
        ({"from_user_id": "US." + "1" * 300}, {"user_id": "US." + "1" * 300}, Address(PHONE), False),
    ],
    ids=repr,
)
def test_who_wrote_and_which_contact_it_is(
    message: Json, contact: Json, address: Address, found: bool
) -> None:
    update = read_one(messages=[text_message(**message)], contacts=[contact])
    assert update.address == address
    assert update.data["contact"] == (contact if found else None)
    assert update.type == EventType.MESSAGE_RECEIVED
    assert update.inbound


def _no_phone(user_id: str) -> Json:
    return {"from": None, "from_user_id": user_id}


def test_contacts_are_found_by_address_and_not_by_position() -> None:
    ann, bob = {"wa_id": "16505550001", "user_id": "US.1"}, {"wa_id": "16505550002", "user_id": "US.2"}
    messages = [
        text_message("wamid.1", **{"from": "16505550002"}),
        text_message("wamid.2", **_no_phone("US.1")),
        text_message("wamid.3", **{"from": "16505550003"}),
    ]
    updates = read(message_value(messages=messages, contacts=[ann, bob]))
    assert [update.data["contact"] for update in updates] == [bob, ann, None]
    assert [update.address for update in updates] == [
        Address("16505550002", "US.2"),
        Address("16505550001", "US.1"),
        Address("16505550003"),
    ]


def test_of_two_contacts_with_one_phone_the_first_counts_unless_the_user_id_tells() -> None:
    first, second = {"wa_id": PHONE, "user_id": "US.1"}, {"wa_id": PHONE, "user_id": "US.2"}
    messages = [text_message("wamid.1"), text_message("wamid.2", from_user_id="US.2")]
    updates = read(message_value(messages=messages, contacts=[first, second]))
    assert [update.data["contact"] for update in updates] == [first, second]


def test_a_message_to_a_group_is_its_senders() -> None:
    message = text_message(group_id=GROUP)
    update = read_one(messages=[message], contacts=[CONTACT])
    assert update.address == Address(PHONE, USER_ID)
    assert update.data["message"]["group_id"] == GROUP


def test_a_type_not_known_is_received_all_the_same() -> None:
    message = text_message(type="hologram", text=None, hologram={"body": "shine", "depth": [1, 2.5, None]})
    update = read_one(messages=[message])
    assert (update.type, update.data["text"], update.inbound) == ("message.received", "shine", True)
    assert update.data["message"] == message


def test_a_message_without_type_or_text_is_received() -> None:
    update = read_one(messages=[{"id": "wamid.A"}])
    assert (update.type, update.key, update.data["text"]) == ("message.received", "in:messages:wamid.A", "")


@pytest.mark.parametrize("odd", [None, "", {}, [], True, 1.5, "x" * 600], ids=repr)
def test_a_message_without_a_usable_id_is_known_by_its_content(odd: object) -> None:
    first = read_one(messages=[text_message(text="a") | {"id": odd}])
    again = read_one(messages=[text_message(text="a") | {"id": odd}])
    other = read_one(messages=[text_message(text="b") | {"id": odd}])
    assert first.key == again.key != other.key
    assert first.key.startswith(f"up:{WABA}::messages:")
    assert first.type == EventType.MESSAGE_RECEIVED


def test_an_id_that_is_a_number_is_an_id() -> None:
    assert read_one(messages=[text_message() | {"id": 5}]).key == "in:messages:5"


# System messages


@pytest.mark.parametrize(
    ("message", "old", "new"),
    [
        (system_message("user_changed_number", wa_id="12195555358"), Address(PHONE), Address("12195555358")),
        (
            system_message(
                "user_changed_number", wa_id="12195555358", user_id="US.2", previous_user_id="US.1"
            ),
            Address(PHONE, "US.1"),
            Address("12195555358", "US.2"),
        ),
        (
            system_message("user_changed_number", user="US.2", wa_id="12195555358", user_id="US.2"),
            Address(PHONE),
            Address("12195555358", "US.2"),
        ),
        (
            system_message("user_changed_number", user="US.1", wa_id="12195555358", user_id="US.2"),
            Address(PHONE, "US.1"),
            Address("12195555358", "US.2"),
        ),
        (
            system_message("user_changed_user_id", sender=None, user_id="US.2", previous_user_id="US.1"),
            Address("", "US.1"),
            Address("", "US.2"),
        ),
        (system_message("user_changed_user_id", sender=None, user_id="US.2"), Address(), Address("", "US.2")),
        (
            system_message("customer_changed_number", sender=None, customer=PHONE, new_wa_id="12195555358"),
            Address(PHONE),
            Address("12195555358"),
        ),
        (system_message("user_changed_number", wa_id=["odd"], user_id={}), Address(PHONE), Address()),
    ],
    ids=lambda value: value["system"]["type"] if isinstance(value, dict) else None,
)
def test_an_identity_change_tells_old_and_new(message: Json, old: Address, new: Address) -> None:
    update = read_one(messages=[message])
    assert update.type == EventType.CONTACT_CHANGED
    assert update.change is not None
    assert (update.change.old, update.change.new) == (old, new)
    assert update.address == (old or new)
    assert update.data["change"] == {
        "old_phone": old.phone or None,
        "new_phone": new.phone or None,
        "old_user_id": old.user_id or None,
        "new_user_id": new.user_id or None,
    }
    assert (update.data["message"], update.data["text"]) == (message, "changed")
    assert (update.key, update.inbound) == ("in:messages:wamid.A", False)


def test_a_new_security_code_changes_the_contact_but_no_address() -> None:
    message = system_message("customer_identity_changed") | {"identity": {"hash": "h", "acknowledged": False}}
    update = read_one(messages=[message], contacts=[CONTACT])
    assert (update.type, update.change, update.data["change"]) == ("contact.changed", None, None)
    assert update.address == Address(PHONE, USER_ID)
    assert update.data["contact"] == CONTACT


@pytest.mark.parametrize("kind", ["group_renamed", None, 5, ["user_changed_number"]], ids=repr)
def test_any_other_system_message_is_nothing_to_answer(kind: object) -> None:
    message = system_message(kind)
    update = read_one(messages=[message])
    assert (update.type, update.inbound, update.change) == ("message.system", False, None)
    assert (update.data["message"], update.data["text"]) == (message, "changed")


@pytest.mark.parametrize(
    ("content", "type", "text"),
    [
        (
            {
                "type": "edit",
                "edit": {
                    "original_message_id": "wamid.B",
                    "message": {"type": "text", "text": {"body": "Better"}},
                },
            },
            "message.edited",
            "Better",
        ),
        ({"type": "revoke", "revoke": {"original_message_id": "wamid.B"}}, "message.revoked", ""),
    ],
)
def test_what_a_customer_changes_or_takes_back_is_told_as_that(content: Json, type: str, text: str) -> None:
    message = text_message(text=None, **content)
    update = read_one(messages=[message], contacts=[CONTACT])
    assert (update.type, update.key, update.inbound) == (type, "in:messages:wamid.A", True)
    assert update.data == {
        "message": message,
        "contact": CONTACT,
        "metadata": message_value()["metadata"],
        "text": text,
    }
    standby = read_one("standby", messages=[message])
    assert (standby.type, standby.inbound) == ("standby.message", False)
    echo = read_one("smb_message_echoes", message_echoes=[message])
    assert (echo.type, echo.inbound, echo.data["text"]) == ("message.echo", False, text)


# Statuses


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("sent", "message.status"),
        ("delivered", "message.delivered"),
        ("read", "message.read"),
        ("played", "message.played"),
        ("failed", "message.failed"),
        ("deleted", "message.status"),
        ("teleported", "message.status"),
    ],
)
def test_a_status_and_the_row_that_it_settles(name: str, type: str) -> None:
    item = status(name, biz_opaque_callback_data=f"{ROW}.2")
    update = read_one(statuses=[item], contacts=[CONTACT])
    assert update == Update(
        key=f"st:wamid.A:{name}:{PHONE}",
        type=type,
        phone_number_id=OUR_ID,
        address=Address(PHONE, USER_ID),
        message_id=ROW,
        attempt=2,
        at=1750030073999,
        data={
            "status": item,
            "contact": CONTACT,
            "metadata": message_value()["metadata"],
            "task_id": TASK,
            "message_id": ROW,
            "wamid": "wamid.A",
            "attempt": 2,
            "callback_data": None,
            **({"error": error_of_status(None)} if name == "failed" else {}),
        },
    )


@pytest.mark.parametrize("reference", [None, "", "order-17", f"{ROW}", f"{ROW}.x", 5, {}], ids=repr)
def test_a_status_that_is_not_ours_names_no_row(reference: object) -> None:
    update = read_one(statuses=[status(biz_opaque_callback_data=reference)])
    assert (update.message_id, update.attempt) == ("", 0)
    assert [update.data[name] for name in ("task_id", "message_id", "attempt")] == [None, None, None]
    assert update.data["wamid"] == "wamid.A"


def test_a_failure_without_contacts_keeps_its_errors() -> None:
    errors = [
        {"code": 131049, "title": "Not delivered", "error_data": {"details": "limit"}, "href": "https://x"}
    ]
    update = read_one(statuses=[status("failed", errors=errors, biz_opaque_callback_data=f"{ROW}.1")])
    assert (update.type, update.message_id, update.data["contact"]) == ("message.failed", ROW, None)
    assert update.data["status"]["errors"] == errors
    error = update.data["error"]
    assert (error["code"], error["title"], error["details"]) == (131049, "Not delivered", "limit")
    policy = policy_of(131049)
    assert policy is not None and (error["name"], error["advice"]) == (policy.name, policy.operator)
    assert update.address == Address(PHONE)


@pytest.mark.parametrize(
    ("fields", "address", "recipient"),
    [
        ({}, Address(PHONE), PHONE),
        ({"recipient_id": int(PHONE)}, Address(PHONE), PHONE),
        ({"recipient_user_id": USER_ID}, Address(PHONE, USER_ID), PHONE),
        ({"recipient_id": None, "recipient_user_id": USER_ID}, Address("", USER_ID), USER_ID),
        ({"recipient_id": "", "recipient_user_id": USER_ID}, Address("", USER_ID), USER_ID),
        ({"recipient_id": None}, Address(), ""),
        ({"recipient_id": GROUP, "recipient_type": "group"}, Address(), GROUP),
        ({"recipient_id": "120363222771963067", "recipient_type": "group"}, Address(), "120363222771963067"),
        ({"recipient_id": GROUP}, Address(), GROUP),
        (
            {"recipient_id": GROUP, "recipient_type": "group", "recipient_participant_id": PHONE},
            Address(PHONE),
            PHONE,
        ),
        (
            {"recipient_id": GROUP, "recipient_type": "group", "participant_recipient_id": PHONE},
            Address(PHONE),
            PHONE,
        ),
        (
            {"recipient_id": GROUP, "recipient_type": "group", "recipient_participant_user_id": USER_ID},
            Address("", USER_ID),
            USER_ID,
        ),
        (
            {
                "recipient_id": GROUP,
                "recipient_participant_id": PHONE,
                "recipient_participant_user_id": USER_ID,
            },
            Address(PHONE, USER_ID),
            PHONE,
        ),
    ],
    ids=repr,
)
def test_whom_a_status_is_about(fields: Json, address: Address, recipient: str) -> None:
    update = read_one(statuses=[status(**fields)])
    assert update.address == address
    assert update.key == f"st:wamid.A:delivered:{recipient}"


def test_one_message_to_a_group_has_a_status_for_each_participant() -> None:
    group = {"recipient_id": GROUP, "recipient_type": "group"}
    ids = ["16505550001", "16505550002"]
    updates = read(message_value(statuses=[status(**group, recipient_participant_id=each) for each in ids]))
    assert [update.address.phone for update in updates] == ids
    assert len({update.key for update in updates}) == 2


@pytest.mark.parametrize(
    ("kind", "type"),
    [("call", "call.status"), ("payment", "payment.status"), ("hologram", "webhook.other")],
)
def test_a_status_of_something_else_is_none_of_a_message(kind: str, type: str) -> None:
    item = status("failed", type=kind, biz_opaque_callback_data=f"{ROW}.1")
    update = read_one(statuses=[item], contacts=[CONTACT])
    assert (update.type, update.message_id, update.attempt) == (type, "", 0)
    assert update.data == {
        "field": "messages",
        "part": "statuses",
        "value": item,
        "entry_id": WABA,
        "time": None,
        "contact": CONTACT,
        "metadata": message_value()["metadata"],
    }
    assert update.key.startswith(f"up:{WABA}::messages:")


@pytest.mark.parametrize("fields", [{"id": None}, {"id": {}}, {"name": None}, {"name": ""}], ids=repr)
def test_a_status_without_id_or_name_is_known_by_its_content(fields: Json) -> None:
    first, again = (read_one(statuses=[status(**fields)]) for _ in range(2))
    other = read_one(statuses=[status(**fields, timestamp="1750030074")])
    assert first.key == again.key != other.key
    assert first.key.startswith("up:")
    assert first.type == ("message.status" if "name" in fields else "message.delivered")
