"""What is left of events about who is erased, and who counts as mentioned (``whatsapp/erasure_rules.py``)."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.erasing import Mentions
from store.records import Event
from tests.support.pages import page
from whatsapp.erasure_rules import digests, erased_event, hidden_key, left_of
from whatsapp.events import EventType, build_event

PHONE, USER_ID, KEY = "16505551234", "US.13491208655302741918", "16505551234/16505551234"
WHO = Mentions([PHONE, KEY], [PHONE, USER_ID, KEY])


@pytest.mark.parametrize(
    ("text", "is_mentioned"),
    [
        (PHONE, True),
        (f"+{PHONE}", True),
        (f"call\\n{PHONE}!", True),
        (f"NO.{PHONE}", True),
        (f"x{PHONE}y", True),
        (f"1{PHONE}", False),
        (f"{PHONE}0", False),
        (f'"{USER_ID}"', True),
        (f"x{USER_ID}", True),
        (f"{USER_ID}0", False),
        (USER_ID[:-1], False),
        (KEY, True),
        ("16505551235", False),
        ("", False),
    ],
)
def test_an_address_counts_where_it_stands_by_itself(text: str, is_mentioned: bool) -> None:
    assert WHO.among(text) == WHO.among(text.encode()) == is_mentioned
    assert (WHO.without(text, "*") != text) == is_mentioned
    assert not WHO.among(WHO.without(text, "*"))


def test_nobody_is_mentioned_where_nobody_is_meant() -> None:
    nobody = Mentions([], [])
    assert not nobody.among(PHONE) and not nobody.among(b"") and not nobody.claims("autoreply:rule:")


def event(
    contact: str, data: object, key: str = "in:messages:wamid.A", type: str = "message.received"
) -> Event:
    new = build_event(type, key, 1_750_000_000_000, {"x": data}, phone_number_id="100", contact=contact)
    return new.placed(7, 6)


def test_an_event_of_theirs_is_emptied_in_its_place() -> None:
    left = left_of(event(PHONE, "secret"), WHO)
    assert left is not None
    assert (left.offset, left.prev, left.at, left.phone_number_id) == (7, 6, 1_750_000_000_000, "100")
    assert (left.type, left.contact, left.message_id) == (EventType.EVENT_ERASED, "", "")
    assert msgspec.json.decode(left.body)["data"] == {"was": "message.received"}
    assert left.key == hidden_key("in:messages:wamid.A") != "in:messages:wamid.A"
    # A repetition changes nothing more.
    assert left_of(left, WHO) is None
    assert hidden_key(left.key) == left.key


@pytest.mark.parametrize("key", [f"contact:{PHONE}:1000:suppressed", f"merged:{PHONE}:US.1", "row:a-0:sent"])
def test_no_phone_can_be_found_by_trying_out_what_a_key_may_have_been(key: str) -> None:
    left = left_of(event(PHONE, "", key, "contact.suppressed"), WHO)
    assert left is not None and left.key == "gone:7"


def test_what_is_erased_for_somebody_else_too_keeps_the_key_that_it_got() -> None:
    blotted = left_of(event("17", f"ask {PHONE}", f"in:{PHONE}"), WHO)
    assert blotted is not None
    emptied = left_of(blotted, Mentions(["17"], ["17"]))
    assert emptied is not None and emptied.key == blotted.key == hidden_key(f"in:{PHONE}")


def test_an_event_of_another_loses_their_address_alone() -> None:
    data = {"text": f"ask {PHONE}", PHONE: [int(PHONE), USER_ID, 1.5, None, True]}
    left = left_of(event("17", data), WHO)
    assert left is not None
    assert (left.type, left.contact, left.key) == ("message.received", "17", "in:messages:wamid.A")
    assert msgspec.json.decode(left.body)["data"]["x"] == {
        "text": "ask [erased]",
        "[erased]": [None, "[erased]", 1.5, None, True],
    }
    assert left_of(left, WHO) is None


def test_an_event_of_nobody_that_mentions_them_is_emptied() -> None:
    left = left_of(event("", f"raw {PHONE}", "up:1:2:x:abc", "webhook.unparsed"), WHO)
    assert left is not None
    assert (left.type, left.key) == (EventType.EVENT_ERASED, "up:1:2:x:abc")


def test_what_is_not_about_them_stays() -> None:
    assert left_of(event("17", "hello"), WHO) is None
    assert left_of(event("", "hello"), WHO) is None


@given(st.text("0123456789US.+ /", max_size=60))
def test_after_the_blotting_no_address_is_left(text: str) -> None:
    who = Mentions([], ["12345", "US.1", "5/5"])
    assert not who.among(who.without(text, "*"))
    assert who.among(text) == who.among(text.encode())


def test_a_digest_is_found_by_who_knows_the_address() -> None:
    assert digests("salt", [PHONE]) != digests("other", [PHONE])
    assert set(digests("salt", [PHONE])) < set(digests("salt", [PHONE, USER_ID]))


def test_the_receiver_on_the_page_finds_whom_it_knows() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", page("docs/privacy.md"), re.DOTALL)
    there: dict[str, Any] = {}
    exec(code, there)
    told = erased_event("id", "salt", [PHONE, USER_ID], ["4711"], 1_750_000_000_000)
    event = msgspec.json.decode(told.body)
    assert there["erased"](event, ["16505557777", PHONE, "US.1"]) == [PHONE]
