"""What the fields of a webhook become, what its broken parts cost, and which keys repeat."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from tests.support.webhooks import (
    CONTACT,
    GROUP,
    OUR_ID,
    PHONE,
    ROW,
    USER_ID,
    WABA,
    body,
    entry,
    message_value,
    read,
    read_one,
    status,
    system_message,
    text_message,
)
from whatsapp.events import EventType
from whatsapp.identity import Address
from whatsapp.webhook import parse
from whatsapp.webhook_fields import MESSAGE_FIELDS, PARTS, WHOLE

Json = dict[str, Any]

UNPARSED = EventType.WEBHOOK_UNPARSED

# Errors, actions, and lists that are new


def test_errors_stand_alone_or_beside_messages() -> None:
    error = {"code": 131000, "title": "Unsupported webhook payload"}
    alone = read_one(errors=[error])
    message, beside = read(message_value(messages=[text_message()], errors=[error]))
    assert (alone.type, message.type, beside.type) == ("webhook.error", "message.received", "webhook.error")
    assert alone.data == {
        "error": error,
        "field": "messages",
        "metadata": message_value()["metadata"],
        "entry_id": WABA,
        "time": None,
    }
    assert beside.phone_number_id == OUR_ID
    assert alone.key != beside.key


def test_the_same_error_beside_another_message_is_another_error() -> None:
    error = {"code": 131000, "title": "Unsupported webhook payload"}
    values = [
        message_value(messages=[text_message(wamid)], errors=[error]) for wamid in ("wamid.1", "wamid.2")
    ]
    assert len({read(value)[1].key for value in values}) == 2


def test_user_actions_and_lists_not_known_are_passed_on_one_by_one() -> None:
    actions = [{"action_type": "marketing_messages_link_click", "n": n} for n in range(2)]
    updates = read(message_value(user_actions=actions, novelties=[{"a": 1}], novelty={"b": 2}, count=3))
    assert [update.type for update in updates] == ["contact.action"] * 2 + ["webhook.other"] * 3
    parts = [(update.data["part"], update.data["value"]) for update in updates]
    assert parts == [
        ("user_actions", actions[0]),
        ("user_actions", actions[1]),
        ("novelties", {"a": 1}),
        ("novelty", {"b": 2}),
        ("count", 3),
    ]
    assert len({update.key for update in updates}) == 5


@pytest.mark.parametrize(
    "parts", [{}, {"contacts": [CONTACT]}, {"messages": []}, {"statuses": None}], ids=repr
)
def test_a_value_that_holds_nothing_is_passed_on_whole(parts: Json) -> None:
    update = read_one(**parts)
    assert (update.type, update.data["value"]) == ("webhook.other", message_value(**parts))


# Other fields


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("smb_message_echoes", "message_echoes"),
        ("message_echoes", "messages"),
        ("messages", "message_echoes"),
    ],
)
def test_an_echo_is_ours_to_the_customer(field: str, part: str) -> None:
    message = text_message(**{"from": "15550783881"}, to=PHONE)
    update = read_one(field, **{part: [message]}, contacts=[CONTACT])
    assert (update.type, update.inbound, update.address) == ("message.echo", False, Address(PHONE, USER_ID))
    assert update.key == f"in:{field}:wamid.A"
    expected = {
        "message": message,
        "contact": CONTACT,
        "metadata": message_value()["metadata"],
        "text": "Hello",
    }
    assert update.data == (expected if field == "messages" else expected | {"field": field})


def test_an_echo_of_type_system_is_an_echo() -> None:
    message = system_message("user_changed_number", wa_id="12195555358") | {"to": PHONE}
    update = read_one("smb_message_echoes", message_echoes=[message])
    assert (update.type, update.change, update.address) == ("message.echo", None, Address(PHONE))


def test_what_metas_agent_answers_is_recorded_and_not_received() -> None:
    message, echo = text_message(), text_message("wamid.B", to=PHONE)
    value = message_value(
        messages=[message], message_echoes=[echo], statuses=[status(biz_opaque_callback_data=f"{ROW}.1")]
    )
    first, second, third = read(value, "standby")
    assert (first.type, first.inbound, first.key) == ("standby.message", False, "in:standby:wamid.A")
    assert (first.data["field"], first.data["message"], first.data["text"]) == ("standby", message, "Hello")
    assert first.address == Address(PHONE)
    assert (second.type, second.data["message"], second.key) == ("standby.echo", echo, "in:standby:wamid.B")
    assert (third.type, third.message_id, third.data["field"]) == ("message.delivered", ROW, "standby")
    assert third.key == f"st:wamid.A:delivered:{PHONE}"


@pytest.mark.parametrize(
    ("field", "type"),
    [
        ("message_template_status_update", "template.status"),
        ("message_template_quality_update", "template.status"),
        ("message_template_components_update", "template.status"),
        ("template_category_update", "template.status"),
        ("template_correct_category_detection", "template.status"),
        ("account_update", "account.update"),
        ("account_review_update", "account.update"),
        ("account_alerts", "account.update"),
        ("account_settings_update", "account.update"),
        ("phone_number_quality_update", "account.update"),
        ("phone_number_name_update", "account.update"),
        ("business_capability_update", "account.update"),
        ("business_username_update", "account.update"),
        ("business_username_updates", "account.update"),
        ("partner_solutions", "account.update"),
        ("payment_configuration_update", "account.update"),
        ("security", "account.update"),
        ("flows", "flow.update"),
        ("messaging_handovers", "standby.handover"),
        ("consumer_profile", "contact.profile"),
        ("automatic_events", "marketing.event"),
        ("tracking_events", "marketing.event"),
        ("field_of_next_year", "webhook.other"),
    ],
)
def test_a_field_that_is_passed_on_whole(field: str, type: str) -> None:
    value = {
        "event": "APPROVED",
        "messages": [text_message()],
        "statuses": [status()],
        "id": 1689556908129832,
    }
    (update,) = read(value, field, time=1739321024)
    assert update.type == type
    assert update.data == {"field": field, "value": value, "entry_id": WABA, "time": 1739321024}
    assert update.key.startswith(f"up:{WABA}:1739321024:{field}:")
    assert (update.phone_number_id, update.address, update.inbound) == ("", Address(), False)
    assert update.former_key == ""


ITEM_FIELDS = [
    ("calls", "calls", {"event": "connect", "from": PHONE}, "call.connected", Address(PHONE, USER_ID)),
    (
        "calls",
        "calls",
        {"event": "terminate", "direction": "BUSINESS_INITIATED", "from": "15550783881", "to": PHONE},
        "call.terminated",
        Address(PHONE, USER_ID),
    ),
    ("calls", "calls", {"event": "hologram", "from_user_id": "US.2"}, "call.update", Address("", "US.2")),
    ("calls", "statuses", {"type": "call", "status": "RINGING"}, "call.status", Address()),
    (
        "calls",
        "statuses",
        {"status": "ACCEPTED", "recipient_id": PHONE},
        "call.status",
        Address(PHONE, USER_ID),
    ),
    ("group_lifecycle_update", "groups", {"type": "group_delete"}, "group.lifecycle", Address()),
    ("group_participants_update", "groups", {"wa_id": PHONE}, "group.participants", Address()),
    ("group_participant_update", "groups", {"wa_id": PHONE}, "group.participants", Address()),
    ("group_settings_update", "groups", {"group_subject": {"text": "a"}}, "group.settings", Address()),
    ("group_status_update", "groups", {"type": "group_suspend"}, "group.status", Address()),
    (
        "user_preferences",
        "user_preferences",
        {"wa_id": PHONE, "category": "marketing_messages", "value": "stop"},
        "contact.preferences",
        Address(PHONE, USER_ID),
    ),
    ("user_preferences", "user_preferences", {"user_id": "US.2"}, "contact.preferences", Address("", "US.2")),
    (
        "smb_app_state_sync",
        "state_sync",
        {"type": "contact", "action": "add", "contact": {"phone_number": f"+{PHONE}", "full_name": "Ann"}},
        "contact.synced",
        Address(PHONE, USER_ID),
    ),
    ("smb_app_state_sync", "state_sync", {"contact": "odd"}, "contact.synced", Address()),
    ("messages", "user_actions", {"from": PHONE}, "contact.action", Address(PHONE, USER_ID)),
]


@pytest.mark.parametrize(("field", "part", "item", "type", "address"), ITEM_FIELDS, ids=str)
def test_a_field_whose_items_are_told_one_by_one(
    field: str, part: str, item: Json, type: str, address: Address
) -> None:
    items = [{**item, "n": n} for n in range(2)]
    value = message_value(**{part: items}, contacts=[CONTACT])
    updates = read(value, field, time=5)
    assert [update.type for update in updates] == [type] * 2
    assert len({update.key for update in updates}) == 2
    for update, each in zip(updates, items, strict=True):
        assert update.data == {
            "field": field,
            "part": part,
            "value": each,
            "entry_id": WABA,
            "time": 5,
            "contact": CONTACT if address.phone else None,
            "metadata": value["metadata"],
        }
        assert (update.phone_number_id, update.address, update.inbound) == (OUR_ID, address, False)
        assert update.key.startswith(f"up:{WABA}:5:{field}:")


def test_what_is_new_in_such_a_field_is_passed_on() -> None:
    call, other = read(message_value(calls=[{"event": "connect"}], transcripts=[{"a": 1}]), "calls")
    assert (call.type, other.type, other.data["part"]) == ("call.connected", "webhook.other", "transcripts")
    # Without any list that is known it stays in one piece.
    (whole,) = read({"group_id": "g", "type": "group_create"}, "group_lifecycle_update")
    assert (whole.type, whole.data["value"]) == (
        "webhook.other",
        {"group_id": "g", "type": "group_create"},
    )


@pytest.mark.parametrize("field", [*PARTS, *WHOLE])
def test_a_field_that_has_a_name_must_be_an_object(field: str) -> None:
    (update,) = read("text", field)
    assert (update.type, update.data["raw"]) == (UNPARSED, {"field": field, "value": "text"})


@pytest.mark.parametrize("field", [field for field in PARTS if field not in MESSAGE_FIELDS])
def test_what_an_earlier_version_told_as_one_is_known_by_that_key(field: str) -> None:
    part = next(iter(PARTS[field]))
    value = message_value(**{part: [{"n": 1}, 5]}, more=[1])
    updates = read(value, field, time=7)
    # As it was made of the whole value then.
    content = msgspec.json.encode([OUR_ID, "", value], order="sorted")
    former = f"up:{WABA}:7:{field}:{hashlib.sha256(content).hexdigest()}"
    assert {update.former_key for update in updates} == {former}
    assert former not in {update.key for update in updates}
    assert len(updates) == 3


# History


def _thread(*messages: Any, **fields: Any) -> Json:
    return {"id": PHONE, "context": {"wa_id": PHONE, "username": "ann"}, "messages": list(messages), **fields}


def test_history_is_told_message_by_message_and_then_its_progress() -> None:
    said = text_message("wamid.1", history_context={"status": "READ"})
    answered = text_message("wamid.2", **{"from": "15550783881"}, to=PHONE)
    part = {"metadata": {"phase": 1, "chunk_order": 2, "progress": 55}, "threads": [_thread(said, answered)]}
    first, second, progress = read(message_value(history=[part]), "history")
    about = {"id": PHONE, "context": {"wa_id": PHONE, "username": "ann"}}
    metadata = message_value()["metadata"]
    assert (first.type, first.key, first.inbound) == ("history.message", "in:history:wamid.1", False)
    assert first.data == {
        "message": said,
        "contact": None,
        "metadata": metadata,
        "text": "Hello",
        "field": "history",
        "thread": about,
        "ours": False,
    }
    assert (second.data["message"], second.data["ours"]) == (answered, True)
    assert first.address == second.address == Address(PHONE)
    assert progress.type == "history.progress"
    assert progress.data == {
        "field": "history",
        "part": "history",
        "value": {"metadata": part["metadata"]},
        "threads": 1,
        "messages": 2,
        "contact": None,
        "metadata": metadata,
        "entry_id": WABA,
        "time": None,
    }


@pytest.mark.parametrize(
    ("thread", "address"),
    [
        ({"id": PHONE}, Address(PHONE)),
        ({"id": None, "context": {"wa_id": PHONE, "user_id": USER_ID}}, Address(PHONE, USER_ID)),
        ({"id": GROUP, "context": {"user_id": USER_ID}}, Address("", USER_ID)),
        ({"id": GROUP, "context": "odd"}, Address()),
        ({}, Address()),
    ],
)
def test_whose_thread_it_is(thread: Json, address: Address) -> None:
    part = {"threads": [{**thread, "messages": [text_message()]}]}
    message, _ = read(message_value(history=[part]), "history")
    assert message.address == address


def test_a_note_of_the_systems_in_the_history_changes_nobody() -> None:
    note = system_message("user_changed_number", wa_id="12195555358")
    message, _ = read(message_value(history=[{"threads": [_thread(note)]}]), "history")
    assert (message.type, message.change) == ("history.message", None)


def test_the_file_of_a_message_comes_after_it_with_its_id() -> None:
    before = text_message(text=None, type="media_placeholder")
    after = text_message(text=None, type="image", image={"id": "1", "caption": "cat"})
    told, _ = read(message_value(history=[{"threads": [_thread(before)]}]), "history")
    (file,) = read(message_value(messages=[after], contacts=[CONTACT]), "history")
    assert (told.type, file.type) == ("history.message", "history.message")
    assert told.key != file.key == "in:history.file:wamid.A"
    assert (file.data["thread"], file.data["text"], file.address) == (None, "cat", Address(PHONE, USER_ID))
    assert not file.inbound


def test_a_history_that_is_refused_tells_the_error() -> None:
    error = {"code": 2593109, "title": "not shared"}
    refusal, progress = read(message_value(history=[{"errors": [error]}]), "history")
    assert (refusal.type, refusal.data["error"], refusal.data["field"]) == ("webhook.error", error, "history")
    assert (progress.data["value"], progress.data["messages"]) == ({"errors": [error]}, 0)


@pytest.mark.parametrize(
    ("part", "where", "raw"),
    [
        (5, "", 5),
        ({"threads": {"id": 1}}, ".threads", {"id": 1}),
        ({"threads": [5]}, ".threads[0]", 5),
        ({"threads": [{"messages": "x"}]}, ".threads[0].messages", "x"),
        ({"threads": [{"messages": [5]}]}, ".threads[0].messages[0]", 5),
        ({"threads": [{"messages": [{"type": 5}]}]}, ".threads[0].messages[0]", {"type": 5}),
        ({"errors": 5}, ".errors", 5),
        ({"errors": [5]}, ".errors[0]", 5),
    ],
)
def test_a_broken_part_of_the_history_costs_the_rest_nothing(part: Any, where: str, raw: Any) -> None:
    good = {"threads": [_thread(text_message())]}
    updates = read(message_value(history=[good, part, good]), "history")
    broken = [update for update in updates if update.type == UNPARSED]
    assert [(update.data["where"], update.data["raw"]) for update in broken] == [
        (f"entry[0].changes[0].value.history[1]{where}", raw)
    ]
    assert [update.key for update in updates].count("in:history:wamid.A") == 2


def test_thousands_of_messages_are_thousands_of_small_events() -> None:
    threads = [_thread(*(text_message(f"wamid.{n}.{m}") for m in range(300))) for n in range(10)]
    updates = read(message_value(history=[{"metadata": {"progress": 100}, "threads": threads}]), "history")
    assert len({update.key for update in updates}) == len(updates) == 3001
    assert max(len(msgspec.json.encode(update.data)) for update in updates) < 1000


@pytest.mark.parametrize("value", [None, "text", 5, [1, {"a": 2}]], ids=repr)
def test_a_field_not_known_may_have_any_value(value: object) -> None:
    (update,) = read(value, "field_of_next_year")
    assert (update.type, update.data["value"]) == ("webhook.other", value)


def test_a_template_paused_twice_is_told_twice() -> None:
    value = {"event": "PAUSED", "message_template_id": 1}
    once, later = (read(value, "message_template_status_update", time=time)[0] for time in (1, 2))
    assert once.key != later.key


@pytest.mark.parametrize(
    "change",
    [
        {"id": WABA, "changes": [{"value": {"event": "PARTNER_ADDED", "field": "account_update"}}]},
        {"id": WABA, "field": "account_update", "changes": [{"value": {"event": "PARTNER_ADDED"}}]},
    ],
)
def test_a_field_named_a_level_off_is_found(change: Json) -> None:
    (update,) = parse(body(change))
    assert (update.type, update.data["field"]) == ("account.update", "account_update")


# Broken parts


@pytest.mark.parametrize(
    ("entry_item", "where", "raw"),
    [
        ("text", "entry[1]", "text"),
        (None, "entry[1]", None),
        ({"id": WABA}, "entry[1]", {"id": WABA}),
        ({"changes": {}}, "entry[1]", {"changes": {}}),
        ({"changes": [5]}, "entry[1].changes[0]", 5),
        ({"changes": [{"value": {}}]}, "entry[1].changes[0]", {"value": {}}),
        ({"changes": [{"field": 5, "value": {}}]}, "entry[1].changes[0]", {"field": 5, "value": {}}),
        ({"changes": [{"field": "messages"}]}, "entry[1].changes[0]", {"field": "messages"}),
        (entry([], "messages"), "entry[1].changes[0]", {"field": "messages", "value": []}),
        (entry("x", "security"), "entry[1].changes[0]", {"field": "security", "value": "x"}),
        (entry(message_value(messages={"id": 1})), "entry[1].changes[0].value.messages", {"id": 1}),
        (entry(message_value(messages=[[]])), "entry[1].changes[0].value.messages[0]", []),
        (entry(message_value(messages=[{"type": 5}])), "entry[1].changes[0].value.messages[0]", {"type": 5}),
        (entry(message_value(statuses="x")), "entry[1].changes[0].value.statuses", "x"),
        (entry(message_value(statuses=[None])), "entry[1].changes[0].value.statuses[0]", None),
        (
            entry(message_value(statuses=[{"status": 1}])),
            "entry[1].changes[0].value.statuses[0]",
            {"status": 1},
        ),
        (
            entry(message_value(statuses=[{"type": []}])),
            "entry[1].changes[0].value.statuses[0]",
            {"type": []},
        ),
        (entry(message_value(errors=["x"])), "entry[1].changes[0].value.errors[0]", "x"),
        (entry(message_value(errors={"code": 1})), "entry[1].changes[0].value.errors", {"code": 1}),
    ],
    ids=repr,
)
def test_a_broken_part_is_kept_and_costs_the_rest_nothing(entry_item: Any, where: str, raw: Any) -> None:
    good = entry(message_value(messages=[text_message()]))
    updates = parse(body(good, entry_item, good))
    assert [update.type for update in updates] == ["message.received", UNPARSED, "message.received"]
    data = updates[1].data
    assert (data["where"], data["raw"]) == (where, raw)
    assert data["why"]
    assert updates[1].key.startswith("up:")


def test_broken_contacts_and_metadata_are_kept_beside_their_message() -> None:
    value = message_value(messages=[text_message()], contacts=[5, CONTACT]) | {"metadata": "x"}
    contact, metadata, message = read(value)
    assert (contact.data["where"], contact.data["raw"]) == ("entry[0].changes[0].value.contacts[0]", 5)
    assert (metadata.data["where"], metadata.data["raw"]) == ("entry[0].changes[0].value.metadata", "x")
    assert (message.type, message.phone_number_id) == ("message.received", "")
    assert (message.data["contact"], message.data["metadata"]) == (CONTACT, None)
    (whole, again) = read(message_value(messages=[text_message()], contacts={"wa_id": PHONE}))
    assert (whole.data["where"], again.data["contact"]) == ("entry[0].changes[0].value.contacts", None)


def test_null_stands_for_missing() -> None:
    value = message_value(messages=[text_message()], statuses=None, errors=None, contacts=None) | {
        "metadata": None
    }
    (update,) = read(value)
    assert (update.type, update.data["contact"], update.data["metadata"]) == ("message.received", None, None)


def test_the_number_of_a_broken_item_is_known() -> None:
    assert read_one(messages=[7]).phone_number_id == OUR_ID


# Batches and repeated deliveries


def _mixed_batch(count: int) -> list[Json]:
    """As many items over many entries and changes, every tenth of them broken."""
    entries: list[Json] = []
    for n in range(count):
        if n % 10 == 9:
            value = message_value(**[{"messages": [n]}, {"statuses": [n]}, {"errors": [n]}][n // 10 % 3])
        elif n % 10 == 8:
            value = {"event": "APPROVED", "message_template_id": n}
        elif n % 2:
            value = message_value(statuses=[status(id=f"wamid.{n}", biz_opaque_callback_data=f"{ROW}.{n}")])
        else:
            value = message_value(messages=[text_message(f"wamid.{n}", str(n))], contacts=[CONTACT])
        field = "message_template_status_update" if "event" in value else "messages"
        if entries and n % 7:
            entries[-1]["changes"].append({"field": field, "value": value})
        else:
            entries.append(entry(value, field, time=n))
    return entries


def test_a_batch_of_a_thousand_gives_a_thousand_in_order() -> None:
    updates = parse(body(*_mixed_batch(1000)))
    assert len(updates) == 1000
    for n, update in enumerate(updates):
        if n % 10 == 9:
            assert (update.type, update.data["raw"]) == (UNPARSED, n)
        elif n % 10 == 8:
            assert (update.type, update.data["value"]["message_template_id"]) == ("template.status", n)
        elif n % 2:
            assert (update.type, update.data["wamid"], update.attempt) == (
                "message.delivered",
                f"wamid.{n}",
                n,
            )
        else:
            assert (update.type, update.data["text"], update.inbound) == ("message.received", str(n), True)
    assert len({update.key for update in updates}) == 1000


def test_a_repeated_delivery_gives_the_same_keys_wherever_its_parts_stand() -> None:
    entries = _mixed_batch(200)
    keys = {update.key for update in parse(body(*entries))}
    reordered = msgspec.json.encode(
        {"entry": entries[::-1], "object": "whatsapp_business_account"}, order="sorted"
    )
    assert {update.key for update in parse(reordered)} == keys
    assert {update.key for single in entries for update in parse(body(single))} == keys


def test_the_order_of_names_within_an_item_does_not_change_its_key() -> None:
    one, two = ({"event": "PAUSED", "info": {"a": 1, "b": 2}}, {"info": {"b": 2, "a": 1}, "event": "PAUSED"})
    assert read(one, "template_category_update")[0].key == read(two, "template_category_update")[0].key


def test_the_same_item_in_two_lists_is_two_updates() -> None:
    first, second = read(message_value(user_actions=[{"a": 1}], novelties=[{"a": 1}]))
    assert first.key != second.key


def test_an_update_that_is_in_a_body_twice_comes_out_twice() -> None:
    first, second = read(message_value(messages=[text_message(), text_message()]))
    assert first == second


def test_one_id_in_two_fields_is_two_updates() -> None:
    keys = {
        read_one(field, **{part: [text_message()]}).key
        for field, part in [
            ("messages", "messages"),
            ("standby", "messages"),
            ("smb_message_echoes", "message_echoes"),
        ]
    }
    assert len(keys) == 3


def test_the_same_content_for_two_of_our_numbers_is_two_updates() -> None:
    action = {"action_type": "marketing_messages_link_click"}
    other = {"display_phone_number": "15550783882", "phone_number_id": "2"}
    one = read_one(user_actions=[action])
    (two,) = read(message_value(user_actions=[action]) | {"metadata": other})
    assert one.key != two.key


@pytest.mark.parametrize("odd", ["x" * 5000, {"a": 1}, [], 1.5, 10**40], ids=lambda value: repr(value)[:12])
def test_no_key_grows_without_bound(odd: Any) -> None:
    entries = [
        {"id": odd, "time": odd, "changes": [{"field": "f" * 5000, "value": {}}]},
        entry(message_value(statuses=[status(str(odd) * 100, id=odd, recipient_id=odd)]), id=odd),
        entry(message_value(messages=[text_message() | {"id": odd}])),
    ]
    updates = parse(body(*entries))
    assert len(updates) == 3
    assert all(0 < len(update.key) <= 512 for update in updates)
