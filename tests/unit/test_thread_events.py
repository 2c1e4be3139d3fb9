"""What the log says of conversations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Event
from store.states import State
from store.threads import Moved, Said, Thread
from tests.support.rows import LANE, TASK, make_row, make_view
from whatsapp.events import EVENT_TYPES, EventType, build_event
from whatsapp.outcome import died, expired, proved, requeued
from whatsapp.thread_events import Change, Told, read_event
from whatsapp.unheard import unheard

ANN = "16505551234"
ROW = f"{TASK}-0"


def placed(type: str, data: Any, key: str = "in:messages:wamid.A", **fields: str) -> Event:
    fields = {"contact": ANN, "phone_number_id": LANE, **fields}
    return build_event(type, key, 1000, data, **fields).placed(7, 6)


def written(event: str = EventType.MESSAGE_RECEIVED, plain: object = "hola", /, **message: object) -> Event:
    whole = {"id": "wamid.A", "from": ANN, "type": "text", "text": {"body": "hola"}, **message}
    contact = {"profile": {"name": "Ann"}, "wa_id": ANN}
    return placed(event, {"message": whole, "contact": contact, "metadata": None, "text": plain})


def told(said: object) -> Told:
    assert isinstance(said, Said)
    return msgspec.json.decode(said.body, type=Told)


@pytest.mark.parametrize(
    ("type", "kind", "name"),
    [
        (EventType.MESSAGE_RECEIVED, "in", "Ann"),
        (EventType.MESSAGE_ECHO, "echo", ""),
        (EventType.STANDBY_MESSAGE, "standby", "Ann"),
        (EventType.STANDBY_ECHO, "echo", ""),
    ],
)
def test_what_came_in_stands_in_its_thread_as_it_came(type: str, kind: str, name: str) -> None:
    said = read_event(written(type))
    assert isinstance(said, Said)
    assert (said.offset, said.contact, said.phone_number_id, said.at) == (7, ANN, LANE, 1000)
    assert (said.kind, said.wamid, said.name, said.message_id) == (kind, "wamid.A", name, "")
    kept = told(said)
    assert (kept.type, kept.text) == ("text", "hola")
    assert isinstance(kept.message, msgspec.Raw)
    assert msgspec.json.decode(kept.message)["text"] == {"body": "hola"}


def test_what_it_answers_is_known() -> None:
    assert told(read_event(written(context={"id": "wamid.B"}))).reply_to == "wamid.B"
    assert told(read_event(written(context={"forwarded": True}))).reply_to == ""


def test_what_is_written_in_a_group_is_the_groups() -> None:
    said = read_event(written(group_id="G"))
    assert isinstance(said, Said)
    assert (said.contact, said.name, told(said).sender) == ("group:G", "", ANN)


def test_what_is_too_large_is_left_to_the_event() -> None:
    kept = told(
        read_event(written(EventType.MESSAGE_RECEIVED, "x" * 100_000, image={"caption": "y" * 20_000}))
    )
    assert kept.message is msgspec.UNSET
    assert len(kept.text) == 8192
    said = read_event(written(id="w" * 1000, type="t" * 1000))
    assert isinstance(said, Said)
    assert (said.wamid, told(said).type) == ("", "")


@pytest.mark.parametrize(
    "type", [EventType.MESSAGE_EDITED, EventType.MESSAGE_RECEIVED, EventType.MESSAGE_ECHO]
)
def test_an_edit_changes_the_message_that_it_names(type: str) -> None:
    new = {"type": "image", "image": {"id": "1", "caption": "new"}}
    change = read_event(written(type, type="edit", edit={"original_message_id": "wamid.O", "message": new}))
    assert isinstance(change, Change)
    assert (change.wamid, change.told.type, change.told.text) == ("wamid.O", "image", "new")
    assert (change.told.edited_at, change.said.offset) == (1000, 7)


def test_a_revoke_takes_back_the_message_that_it_names() -> None:
    event = written(EventType.MESSAGE_REVOKED, type="revoke", revoke={"original_message_id": "wamid.O"})
    change = read_event(event)
    assert isinstance(change, Change)
    assert (change.wamid, change.told) == ("wamid.O", Told(revoked_at=1000))


@pytest.mark.parametrize("kind", ["edit", "revoke"])
@pytest.mark.parametrize("what", [None, {}, {"original_message_id": 5}, {"original_message_id": ""}, "x"])
def test_a_change_that_names_no_message_stands_by_itself(kind: str, what: object) -> None:
    assert isinstance(read_event(written(type=kind, **{kind: what})), Said)


def test_a_message_of_ours_has_its_place_where_meta_first_took_it() -> None:
    row = make_row(attempt=1)
    said = read_event(proved(row, "wamid.A", State.SENT, 5).placed(9, 8))
    assert said == Said(9, row.contact, LANE, 5, "out", ROW)
    assert read_event(proved(make_row(retried=1), "wamid.B", State.SENT, 5).placed(9, 8)) is None


def test_a_message_that_ends_before_meta_took_it_has_its_place_there() -> None:
    failed = make_row(state=State.FAILED, attempt=1)
    said = read_event(died(make_view(failed)).placed(9, 8))
    assert said == Said(9, failed.contact, LANE, 0, "end", ROW)
    # It has its place: where it was taken, or where it failed for the first time.
    assert read_event(died(make_view(failed, "wamid.A")).placed(9, 8)) is None
    assert read_event(died(make_view(msgspec.structs.replace(failed, retried=1))).placed(9, 8)) is None


def test_of_what_expires_only_what_never_left_gets_a_place_by_that() -> None:
    change = expired(make_row(), 5)
    assert change.event is not None
    assert read_event(change.event.placed(9, 8)) == Said(9, ANN, LANE, 5, "end", ROW)
    late = unheard(make_view(make_row(), "wamid.A"), 5)
    assert late.event is not None
    assert read_event(late.event.placed(9, 8)) is None


def test_what_is_tried_again_is_no_message() -> None:
    change = requeued(make_row(), 5)
    assert change.event is not None
    assert read_event(change.event.placed(9, 8)) is None


def test_a_mark_and_a_preference_are_news_of_the_thread() -> None:
    mark = placed(EventType.CONVERSATION_READ, {"wamid": "wamid.A", "position": 5})
    assert read_event(mark) == Thread(ANN, LANE, read_offset=5)
    preference = placed(EventType.CONTACT_PREFERENCES, {"value": {"value": "stop"}})
    assert read_event(preference) == Thread(ANN, LANE, preferences=b'{"value":"stop"}')


def test_two_contacts_who_are_one_person_have_one_thread() -> None:
    event = placed(EventType.CONTACT_MERGED, {"gone": "5", "kept": "US.1"}, contact="US.1")
    assert read_event(event) == Moved("5", "US.1")
    assert read_event(placed(EventType.CONTACT_MERGED, {"gone": "5", "kept": "5"})) is None


def test_of_nobody_nothing_is_kept() -> None:
    event = placed(EventType.MESSAGE_RECEIVED, {"message": {"id": "w"}}, contact="")
    assert read_event(event) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = ["id", "type", "group_id", "context", "edit", "revoke", "text", "message", "original_message_id"]
_MESSAGE = st.dictionaries(st.sampled_from(_FIELDS), JSON | st.sampled_from(["edit", "revoke"]))


_DATA = st.builds(lambda message, text: {"message": message, "text": text}, _MESSAGE | JSON, JSON)


@given(type=st.sampled_from(EVENT_TYPES), data=_MESSAGE | _DATA)
def test_whatever_meta_sends_is_read_without_a_fault(type: str, data: dict[str, Any]) -> None:
    found = read_event(placed(type, data))
    if isinstance(found, Said) and found.body:
        told(found)
    elif isinstance(found, Change):
        msgspec.json.encode(found.told)
