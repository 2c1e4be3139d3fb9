"""When a window is closed, what opens it, and which messages need one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Event
from tests.support.webhooks import (
    OUR_ID,
    PHONE,
    SAMPLES,
    USER_ID,
    body,
    entry,
    message_value,
    status,
    system_message,
    text_message,
)
from whatsapp.events import build_event
from whatsapp.identity import Address
from whatsapp.webhook import parse
from whatsapp.window import LATE_MS, OPEN_MS, Heard, Reading, WindowState, judge, needs_window, read

Json = dict[str, Any]

NOW = 1_750_000_000_000
KEY = "someone"
"""The key of whom a test's events are about."""


# -- the verdict -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ago", "verdict"),
    [
        (0, WindowState.OPEN),
        (24 * 3600 * 1000, WindowState.OPEN),
        (OPEN_MS - 1, WindowState.OPEN),
        (OPEN_MS, WindowState.CLOSED),
        (40 * OPEN_MS, WindowState.CLOSED),
        # A customer's clock, or ours, is wrong.
        (-5000, WindowState.OPEN),
    ],
)
def test_a_window_closes_24_hours_and_a_minute_after_the_last_word(ago: int, verdict: WindowState) -> None:
    assert judge(NOW - ago, 0, NOW) is verdict
    assert OPEN_MS == (24 * 60 + 1) * 60 * 1000


@pytest.mark.parametrize("since", [None, NOW, NOW - OPEN_MS + 1])
def test_no_window_is_closed_while_a_word_may_have_been_missed(since: int | None) -> None:
    assert judge(NOW - 2 * OPEN_MS, since, NOW) is WindowState.UNKNOWN
    assert judge(NOW - OPEN_MS + 1, since, NOW) is WindowState.OPEN


def test_who_was_never_heard_from_has_no_known_window() -> None:
    assert judge(None, 0, NOW) is WindowState.UNKNOWN


MINUTES = st.integers(0, 5 * 24 * 60)


@given(st.lists(MINUTES, max_size=12), st.lists(st.tuples(MINUTES, MINUTES), max_size=3), MINUTES)
def test_no_window_is_closed_that_meta_has_open(
    words: list[int], gaps: list[tuple[int, int]], now: int
) -> None:
    """Against all that a customer said, of which what fell into a gap of the intake is not known."""
    gaps = [(min(gap), max(gap)) for gap in gaps]
    said = [at for at in words if at <= now]
    known = [at for at in said if not any(first <= at <= last for first, last in gaps)]
    ended = [last for first, last in gaps if first <= now]
    since = None if any(first <= now < last for first, last in gaps) else max(ended, default=0)
    verdict = judge(
        max(known) * 60_000 if known else None, None if since is None else since * 60_000, now * 60_000
    )
    is_open = bool(said) and now - max(said) < 24 * 60
    if verdict is WindowState.CLOSED:
        assert known and not is_open
    if verdict is WindowState.OPEN:
        assert now - max(known) <= 24 * 60
    if verdict is WindowState.UNKNOWN and known:
        # There was a gap within the last day and a minute.
        assert now - max(known) > 24 * 60 and (since is None or now - since <= 24 * 60)


# -- what opens a window -----------------------------------------------------------------------------------


def events(value: Any, field: str = "messages", *, at: int = NOW) -> list[Event]:
    """As the intake has them in the log."""
    return [
        build_event(
            update.type,
            update.key,
            at,
            update.data,
            phone_number_id=update.phone_number_id,
            contact=KEY if update.address else "",
        ).placed(n, n - 1)
        for n, update in enumerate(parse(body(entry(value, field))), 1)
    ]


def one(value: Any, field: str = "messages", *, at: int = NOW) -> Reading:
    (event,) = events(value, field, at=at)
    return read(event)


def message(**fields: Any) -> Json:
    said = {"timestamp": str(NOW // 1000 - 5), "from_user_id": USER_ID}
    return message_value(messages=[text_message(**{**said, **fields})])


HEARD = Heard(OUR_ID, KEY, Address(), True, NOW - 5000 + 999)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "image", "image": {"id": "1"}},
        {"type": "reaction", "reaction": {"message_id": "wamid.B", "emoji": "x"}},
        {"type": "button", "button": {"payload": "a", "text": "b"}},
        {"type": "request_welcome"},
        {"type": "unsupported", "errors": [{"code": 131051}]},
        {"type": "edit", "edit": {}},
        {"type": "revoke", "revoke": {"original_message_id": "wamid.B"}},
        {"type": "what Meta may add"},
    ],
)
def test_every_message_of_a_customers_opens_the_window(content: Json) -> None:
    assert one(message(**content)) == Reading((HEARD,))
    (event,) = events(message(**content), "standby")
    assert read(event) == Reading((HEARD,))


def test_a_contact_beside_the_message_names_the_user_too() -> None:
    value = message(from_user_id=None)
    assert [heard.whole for heard in one(value).heard] == [False]
    value["contacts"] = [{"wa_id": PHONE, "user_id": USER_ID}]
    assert [heard.whole for heard in one(value).heard] == [True]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", message_value(statuses=[status("delivered")])),
        ("messages", message_value(statuses=[status("failed", errors=[{"code": 131047}])])),
        ("messages", message_value(messages=[system_message("user_changed_number", wa_id="16505550000")])),
        ("messages", message_value(messages=[system_message("what Meta may add")])),
        ("standby", message_value(messages=[system_message("what Meta may add")])),
        ("message_echoes", message_value(message_echoes=[text_message(to=PHONE)])),
        ("messages", message_value(errors=[{"code": 1}])),
        ("account_update", {"event": "VERIFIED_ACCOUNT"}),
        ("calls", message_value(statuses=[{"id": "a", "type": "call", "status": "RINGING"}])),
        ("what Meta may add", "text"),
    ],
)
def test_nothing_else_opens_it(field: str, value: Json) -> None:
    assert [read(event) for event in events(value, field)] == [Reading()]


@pytest.mark.parametrize(
    ("timestamp", "at"),
    [
        (None, NOW),
        ("soon", NOW),
        (NOW // 1000 - 5, NOW - 4001),
        (str(NOW // 1000 + 60), NOW),
        (str(NOW), NOW),
    ],
)
def test_metas_time_counts_unless_it_is_none_or_to_come(timestamp: object, at: int) -> None:
    assert [heard.at for heard in one(message(timestamp=timestamp)).heard] == [at]


@pytest.mark.parametrize("direction", ["USER_INITIATED", "BUSINESS_INITIATED", None])
def test_a_call_opens_it_for_the_customer_whoever_made_it(direction: str | None) -> None:
    ours, theirs = {"from": "15550783881"}, {"from": PHONE, "from_user_id": USER_ID}
    if direction == "BUSINESS_INITIATED":
        ends = {**ours, "to": PHONE, "to_user_id": USER_ID}
    else:
        ends = {**theirs, "to": "15550783881"}
    call = {
        "id": "wacid.A",
        "event": "connect",
        "timestamp": str(NOW // 1000),
        "direction": direction,
        **ends,
    }
    assert one(message_value(calls=[call]), "calls") == Reading((Heard(OUR_ID, KEY, Address(), True, NOW),))
    del call["to_user_id" if direction == "BUSINESS_INITIATED" else "from_user_id"]
    assert one(message_value(calls=[call]), "calls") == Reading((Heard(OUR_ID, KEY, Address(), False, NOW),))
    beside = message_value(calls=[call], contacts=[{"wa_id": PHONE, "user_id": USER_ID}])
    assert one(beside, "calls") == Reading((Heard(OUR_ID, KEY, Address(), True, NOW),))
    was_heard = Heard(OUR_ID, "", Address(PHONE), False, NOW)
    assert read(former("calls", message_value(calls=[call]))) == Reading((was_heard,))


TAKEN = {
    "id": "wacid.A",
    "type": "call",
    "status": "ACCEPTED",
    "timestamp": str(NOW // 1000 - 1),
    "recipient_id": PHONE,
}


def test_a_call_of_ours_that_was_taken_opens_it() -> None:
    heard = Heard(OUR_ID, KEY, Address(), False, NOW - 1)
    assert one(message_value(statuses=[TAKEN]), "calls") == Reading((heard,))


# -- what earlier versions wrote into the log --------------------------------------------------------------


def former(field: str, value: Any, **data: Any) -> Event:
    """A ``webhook.other`` of before calls and the field ``standby`` had events of their own."""
    body = {"field": field, "value": value, **data}
    contact = KEY if "part" in data else ""
    return build_event("webhook.other", "up:1", NOW, body, phone_number_id=OUR_ID, contact=contact).placed(
        1, 0
    )


def test_a_call_in_an_older_log_opens_it_too() -> None:
    heard = Heard(OUR_ID, "", Address(PHONE), False, NOW - 1)
    assert read(former("calls", message_value(statuses=[TAKEN]))) == Reading((heard,))
    assert read(former("calls", message_value(calls=["a"], statuses={}))) == Reading()


def test_a_word_of_standby_in_an_older_log_opens_it_too() -> None:
    (said,) = message()["messages"]
    assert read(former("standby", said, part="messages")) == Reading((HEARD,))
    note = system_message("what Meta may add")
    assert read(former("standby", note, part="messages")) == Reading()
    assert read(former("standby", said, part="message_echoes")) == Reading()


# -- what shows that something is missing ------------------------------------------------------------------


def test_what_comes_late_shows_that_something_was_missed() -> None:
    said = int(str(NOW // 1000 - 5)) * 1000 + 999
    assert not one(message(), at=said + LATE_MS).missed
    assert one(message(), at=said + LATE_MS + 1).missed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", "no object"),
        ("messages", message_value(messages=[{"type": 5}])),
        # Nobody knows whose.
        ("calls", message_value(calls=[{"id": "wacid.A", "timestamp": str(NOW // 1000)}])),
        ("calls", message_value(calls=["a"])),
        ("messages", {"messages": [text_message(timestamp=str(NOW // 1000))]}),
    ],
)
def test_what_cannot_be_read_or_placed_was_missed(field: str, value: Any) -> None:
    assert [read(event).missed for event in events(value, field)] == [True]


def test_no_sample_of_metas_is_too_much_for_it() -> None:
    samples = sorted(SAMPLES.glob("*.json"))
    assert samples
    for sample in samples:
        for update in parse(sample.read_bytes()):
            event = build_event(update.type, update.key, NOW, update.data, phone_number_id="1", contact=KEY)
            reading = read(event.placed(1, 0))
            assert bool(reading.heard) == update.inbound, sample


WORDS = st.sampled_from(
    ["calls", "from", "from_user_id", "timestamp", "direction", "statuses", "status", "id"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["ACCEPTED", PHONE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(["messages", "standby", "calls"]), JSON, JSON)
def test_whatever_meta_may_send_is_read(field: str, value: Any, item: Any) -> None:
    for content in (value, message_value(messages=[item]), message_value(calls=[item], statuses=[item])):
        for event in events(content, field):
            assert all(heard.at <= NOW for heard in read(event).heard)


# -- what needs one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "needs"),
    [
        ({"type": "text", "text": {"body": '"type":"template"'}}, True),
        ({"type": "interactive", "interactive": {"type": "template"}}, True),
        ({"to": "1", "type": "reaction"}, True),
        ({"text": {"body": "a"}}, True),
        ({"type": "template", "template": {"name": "a"}}, False),
        ({"category": "utility", "type": "text", "text": {"body": "a"}}, False),
    ],
)
def test_all_but_templates_need_an_open_window(payload: Json, needs: bool) -> None:
    assert needs_window(msgspec.json.encode(payload)) is needs
