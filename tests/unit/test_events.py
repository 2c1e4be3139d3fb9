"""How an event is built, and the references that travel through Meta and back."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import LANE, TASK
from whatsapp.events import (
    EVENT_TYPES,
    EventType,
    RowRef,
    build_event,
    rfc3339,
    task_key,
    task_of,
    task_of_key,
    unknown_types,
)

UUIDS = st.uuids(version=4).map(str)


# -- an event ----------------------------------------------------------------------------------------------


def test_the_body_is_what_subscribers_get() -> None:
    event = build_event(
        EventType.MESSAGE_SENT,
        "row:x:sent",
        1_764_662_828_123,
        {"n": 1, "text": "ñ 👋"},
        phone_number_id=LANE,
        contact="16505551234",
        message_id=f"{TASK}-0",
    )
    assert msgspec.json.decode(event.body) == {
        "event": "message.sent",
        "at": "2025-12-02T08:07:08.123Z",
        "phone_number_id": LANE,
        "contact": "16505551234",
        "data": {"n": 1, "text": "ñ 👋"},
    }
    assert (event.key, event.type, event.at) == ("row:x:sent", "message.sent", 1_764_662_828_123)
    assert (event.phone_number_id, event.contact, event.message_id) == (LANE, "16505551234", f"{TASK}-0")


def test_what_an_event_does_not_concern_is_null() -> None:
    body = msgspec.json.decode(build_event("task.completed", "key", 0, {}).body)
    assert (body["phone_number_id"], body["contact"]) == (None, None)


def test_the_body_begins_where_a_frame_is_put_before_it() -> None:
    # A subscriber's frame is made of this text without decoding it: an object, and not an empty one.
    assert re.match(rb'\{"event":"', build_event("task.completed", "key", 0, {}).body)


@pytest.mark.parametrize(
    ("wanted", "unknown"),
    [
        ([], []),
        (["message.sent", "message.*", "webhook.*", "*"], []),
        (EVENT_TYPES, []),
        (["nope.nope", "message.sent", "nope.*", "nope.nope"], ["nope.nope", "nope.*"]),
        (["message", "message.", "message.sen", "message.sent.*", "MESSAGE.SENT"], None),
    ],
)
def test_types_that_no_event_can_be_of(wanted: list[str], unknown: list[str] | None) -> None:
    assert unknown_types(wanted) == (wanted if unknown is None else unknown)


def test_no_two_names_are_the_same() -> None:
    names = [name for key, name in vars(EventType).items() if key.isupper()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+", name) for name in names)


# -- times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (1_700_000_000_000, "2023-11-14T22:13:20.000Z"),
        (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
    ],
)
def test_times(at: int, text: str) -> None:
    assert rfc3339(at) == text


@given(st.integers(0, 4_102_444_800_000))
def test_no_time_loses_a_millisecond(at: int) -> None:
    assert round(datetime.fromisoformat(rfc3339(at)).timestamp() * 1000) == at


# -- references --------------------------------------------------------------------------------------------


@given(UUIDS, st.integers(0, 999_999_999), st.integers(0, 999_999), st.booleans())
def test_a_reference_comes_back_as_it_left(task_id: str, n: int, attempt: int, has_data: bool) -> None:
    reference = RowRef(f"{task_id}-{n}", attempt, has_data)
    assert RowRef.parse(str(reference)) == reference
    assert task_of(reference.row_id) == task_id


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        ["a"],
        "",
        "order-7",
        TASK,
        f"{TASK}-0",
        f"{TASK}-0.",
        f"{TASK}-.1",
        f"{TASK}.1",
        f"{TASK}-0.1 ",
        f"{TASK}-0.1++",
        f" {TASK}-0.1",
        f"{TASK}-0.1\n",
        f"{TASK}-0.-1",
        f"{TASK}-0.1.1",
        f"{TASK}-0.x",
        f"{TASK.upper()}-0.1",
        f"{TASK}-1234567890.1",
        f"{TASK}-0.1234567",
        f"{TASK}-٣.1",
        f"x{TASK}-0.1",
        f"{TASK[:-1]}-0.1",
    ],
)
def test_what_is_not_ours_is_no_reference(text: Any) -> None:
    assert RowRef.parse(text) is None


@given(st.one_of(st.text(), st.binary(), st.none(), st.integers(), st.lists(st.text())))
def test_anything_may_be_asked(value: Any) -> None:
    assert RowRef.parse(value) is None


@given(UUIDS, st.sampled_from(["created", "completed"]))
def test_a_key_about_a_task_names_it(task_id: str, what: str) -> None:
    assert task_of_key(task_key(task_id, what)) == task_id


def test_keys_about_a_task_differ_by_what_happened() -> None:
    task_id = str(uuid.UUID(int=1))
    assert task_key(task_id, "created") != task_key(task_id, "completed")
