"""Messages that a program answers with: as ``POST /api/messages`` takes them, but for whom."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.handed_messages import reader_of
from whatsapp.drafts import HIGH, LOW
from whatsapp.failures import InvalidRequest
from whatsapp.identity import Address

NOW = 1_764_000_000_000
PHONE, USER = Address("5215550001111"), Address(user_id="MX.1")
read = reader_of(lambda: NOW)


def text(body: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": {"body": body}, **fields}


def test_a_message_goes_to_who_wrote_as_it_came() -> None:
    (one,) = read([text("hi", context={"message_id": "wamid.A"}, new_field={"a": 1})], PHONE)
    assert json.loads(one.draft.payload) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+5215550001111",
        **text("hi", context={"message_id": "wamid.A"}, new_field={"a": 1}),
    }
    assert (one.kind, one.priority, one.draft.heeds_opt_out) == ("text", HIGH, False)
    (one,) = read([text("hi")], USER)
    assert json.loads(one.draft.payload)["recipient"] == "MX.1"


def test_options_are_ours_and_do_not_reach_meta() -> None:
    fallback = {"template_name": "hello_world", "language": "en_US"}
    given_options = {"priority": "low", "callback_data": "c", "expires_at": "2026-12-01T00:00:00Z"}
    (one,) = read([text("hi", fallback_template=fallback, **given_options)], PHONE)
    assert set(json.loads(one.draft.payload)) == {"messaging_product", "recipient_type", "to", "type", "text"}
    assert (one.priority, one.terms.callback_data, bool(one.terms.expires_at)) == (LOW, "c", True)
    assert json.loads(one.draft.fallback)["template"]["name"] == "hello_world"


def test_a_marketing_message_heeds_an_opt_out() -> None:
    template = {"name": "sale", "language": {"code": "en"}}
    (one,) = read([{"type": "template", "template": template, "product_policy": "STRICT"}], PHONE)
    assert one.draft.heeds_opt_out
    assert one.draft.payload.startswith(b'{"product_policy":')


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ("hi", "messages[0]"),
        ({}, "messages[0].text"),
        ({"type": "sms"}, "messages[0].type"),
        (text("hi", to="1"), "messages[0].to"),
        (text("hi", recipient="MX.1"), "messages[0].recipient"),
        (text("hi", phone_number_id="1"), "messages[0].phone_number_id"),
        (text("hi", send_at="2001-01-01T00:00:00Z"), "messages[0].send_at"),
        (text("hi", biz_opaque_callback_data="x"), "messages[0].biz_opaque_callback_data"),
        (text("hi", fallback_template={"template_name": ""}), "messages[0].fallback_template"),
        (
            {"type": "template", "template": {"name": "a", "language": {"code": "en"}},
             "fallback_template": {"template_name": "b"}},
            "messages[0].fallback_template",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_named(item: Any, path: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read([item], PHONE)
    assert error.value.details[0][0].startswith(path), error.value


KEYS = st.sampled_from(
    """type text body to context message_id send_at priority ordered template name language code image link
    fallback_template product_policy callback_data interactive""".split()
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(
    LEAVES | st.sampled_from(["text", "image", "template", "high"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
)


@given(st.lists(JSON, max_size=3))
def test_whatever_a_program_answers_is_messages_or_a_refusal(given: list[Any]) -> None:
    try:
        given = msgspec.json.decode(msgspec.json.encode(given))
        prepared = read(given, PHONE)
    except InvalidRequest:
        return
    for one in prepared:
        assert json.loads(one.draft.payload)["to"] == "+5215550001111"
