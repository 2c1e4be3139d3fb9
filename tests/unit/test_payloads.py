"""Meta's message object as a whole, the plain kinds, and what is no message: marks and marketing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.fields import warnings_of
from tests.support.payloads import (
    INTERACTIVE,
    LEFT_OUT,
    MESSAGES,
    TEMPLATES,
    changed,
    interactive,
    passed,
    problems,
)
from whatsapp.compose import text_message
from whatsapp.identity import Address
from whatsapp.payloads import KINDS, MarketingMessage, Message, ReadMark, check_message
from whatsapp.validate import Checked, Findings, validate

NO_ADDRESS = "must be a phone in international digits, or a user id"
ONE_SOURCE = "needs an id or a link, and not both"


def faults(value: Any, kind: type[Checked]) -> list[tuple[str, str]]:
    """Faults of a body of that type."""
    findings = Findings()
    validate(value, kind, findings)
    return findings.problems


@pytest.mark.parametrize("kind", MESSAGES)
def test_each_kind_passes_as_it_is_documented(kind: str) -> None:
    assert passed(MESSAGES[kind]) == []


def test_there_is_an_example_of_each_kind() -> None:
    assert set(KINDS) == {*MESSAGES, "interactive", "template"}


@pytest.mark.parametrize("to", [Address("16505551234"), Address("", "US.13491208655302741918")])
def test_what_we_compose_passes(to: Address) -> None:
    assert passed(msgspec.json.decode(text_message(to, "hello", "wamid.HBg"))) == []


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "limit"),
    [
        ("text", "text.body", 4096),
        ("image", "image.caption", 1024),
        ("video", "video.caption", 1024),
        ("document", "document.caption", 1024),
        ("document", "document.filename", 240),
        ("reaction", "reaction.message_id", 512),
        ("reaction", "reaction.emoji", 64),
        ("pin", "pin.message_id", 512),
    ],
)
def test_a_text_is_as_long_as_its_limit_and_no_longer(kind: str, path: str, limit: int) -> None:
    assert problems(changed(MESSAGES[kind], path, "\U0001d11e" * limit)) == []
    longer = changed(MESSAGES[kind], path, "\U0001d11e" * (limit + 1))
    assert problems(longer) == [(path, f"{limit + 1} characters, at most {limit}")]


@pytest.mark.parametrize(
    ("kind", "path", "value", "problem"),
    [
        ("text", "text.body", "", "must not be empty"),
        ("text", "text.preview_url", "yes", "must be true or false, got text"),
        ("text", "text", LEFT_OUT, "is required where type is text"),
        ("text", "image", {"id": "1"}, "does not go with type text"),
        ("text", "type", "fax", f"must be one of {', '.join(KINDS)}"),
        ("text", "messaging_product", "sms", "must be one of whatsapp"),
        ("text", "recipient_type", "crowd", "must be one of individual, group"),
        ("text", "biz_opaque_callback_data", "mine", "is the gateway's own: use callback_data"),
        ("image", "image", {}, ONE_SOURCE),
        ("video", "video", {"id": "1", "link": "https://example.com/a"}, ONE_SOURCE),
        ("audio", "audio", {"voice": True}, ONE_SOURCE),
        ("sticker", "sticker.id", "", "must not be empty"),
        ("image", "image.link", "file:///etc/passwd", "must be an http or https URL"),
        ("image", "image.link", f"https://{'a' * 1993}", "2001 characters, at most 2000"),
        ("location", "location.latitude", "90.1", "must be a number from -90 to 90"),
        ("location", "location.longitude", -181, "must be a number from -180 to 180"),
        ("location", "location.longitude", "west", "must be a number from -180 to 180"),
        ("location", "location.longitude", "nan", "must be a number from -180 to 180"),
        ("contacts", "contacts", [], "must not be empty"),
        ("contacts", "contacts[0].name", LEFT_OUT, "is required"),
        ("contacts", "contacts[0].name.formatted_name", "", "must not be empty"),
        ("contacts", "contacts[0].birthday", "31.12.1999", "must be a date such as 1999-12-31"),
        ("contacts", "contacts[0].phones[0].phone", 7, "must be text, got a whole number"),
        ("reaction", "reaction.emoji", LEFT_OUT, "is required"),
        (
            "reaction",
            "context",
            {"message_id": "wamid.A"},
            "does not go with a reaction, which names its message itself",
        ),
        ("pin", "pin.type", "glue", "must be one of pin, unpin"),
        ("pin", "pin.expiration_days", LEFT_OUT, "is required: 1 to 30"),
        ("pin", "pin.expiration_days", 31, "must be a whole number <= 30"),
    ],
)
def test_a_fault_is_told_with_its_place(kind: str, path: str, value: Any, problem: str) -> None:
    assert problems(changed(MESSAGES[kind], path, value)) == [(path, problem)]


def test_what_is_quoted_has_an_id() -> None:
    assert problems({**MESSAGES["text"], "context": {"message_id": "wamid.A"}}) == []
    assert problems({**MESSAGES["text"], "context": {}}) == [("context.message_id", "is required")]


def test_a_pin_goes_to_groups_only() -> None:
    value = {**MESSAGES["pin"], "recipient_type": "individual", "to": "+16505551234"}
    assert problems(value) == [("type", "pin goes to groups only")]


def test_a_message_has_as_many_contacts_as_meta_takes() -> None:
    contact = MESSAGES["contacts"]["contacts"][0]
    assert problems(changed(MESSAGES["contacts"], "contacts", [contact] * 257)) == []
    found = problems(changed(MESSAGES["contacts"], "contacts", [contact] * 258))
    assert found == [("contacts", "258 items, at most 257")]


def test_an_empty_emoji_takes_a_reaction_away() -> None:
    assert problems(changed(MESSAGES["reaction"], "reaction.emoji", "")) == []


# -- to whom -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whom", "expected"),
    [
        ({"to": "+16505551234"}, []),
        ({"to": "(650) 555-1234"}, []),
        ({"recipient": "US.13491208655302741918"}, []),
        ({"recipient": "US.ENT.11815799212886844830"}, []),
        ({"to": "+16505551234", "recipient": "US.1349"}, []),
        ({"to": "Y2FwaV9ncm91cA==", "recipient_type": "group"}, []),
        ({}, [("to", "is required, or recipient")]),
        ({"to": "nobody"}, [("to", NO_ADDRESS)]),
        ({"recipient": "+16505551234"}, [("recipient", "must be a user id")]),
        ({"recipient": "me"}, [("recipient", "must be a user id")]),
        ({"recipient_type": "group"}, [("to", "is required: the id of the group")]),
        (
            {"to": "g", "recipient": "US.1349", "recipient_type": "group"},
            [("recipient", "does not go with a group")],
        ),
    ],
)
def test_a_message_goes_to_a_phone_a_user_id_or_a_group(
    whom: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    assert problems({"text": {"body": "hello"}, **whom}) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_takes_some_kinds_only(kind: str) -> None:
    example = {**MESSAGES, "interactive": interactive(INTERACTIVE["list"]), "template": TEMPLATES["bare"]}[
        kind
    ]
    found = problems({**example, "to": "g", "recipient_type": "group"})
    refused = kind in ("location", "contacts", "reaction", "interactive")
    assert found == ([("type", f"{kind} does not go to a group")] if refused else [])


def test_every_fault_is_told_at_once() -> None:
    wrong = {"type": "text", "image": {"id": "1"}, "context": {"message_id": "m"}, "recipient": "x"}
    assert problems(wrong) == [
        ("text", "is required where type is text"),
        ("image", "does not go with type text"),
        ("recipient", "must be a user id"),
    ]


# -- what is not known -------------------------------------------------------------------------------------


def test_fields_that_meta_added_are_passed_on_and_told() -> None:
    value = changed(MESSAGES["text"], "text.font", "big") | {"recipient_tpye": "individual", "ttl": None}
    findings = check_message(value)
    assert findings.problems == []
    assert warnings_of(findings) == [
        "text.font: unknown field, passed on as it is",
        "recipient_tpye: unknown field, passed on as it is; did you mean `recipient_type`?",
        "ttl: unknown field, passed on as it is",
    ]
    assert passed({**TEMPLATES["bare"], "product_policy": "strict"}) == [
        ("product_policy", "unknown value, passed on as it is")
    ]


# -- marks and marketing -----------------------------------------------------------------------------------


def test_a_mark_names_the_message_that_was_read() -> None:
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.HBg"}
    assert faults(mark, ReadMark) == []
    assert faults({**mark, "typing_indicator": {"type": "text"}}, ReadMark) == []
    assert faults({"status": "seen", "typing_indicator": {}}, ReadMark) == [
        ("message_id", "is required"),
        ("status", "must be one of read"),
        ("typing_indicator.type", "is required"),
    ]


def test_marketing_is_a_template_to_a_phone_or_a_user_id() -> None:
    value = {**TEMPLATES["gif header"], "product_policy": "STRICT", "message_activity_sharing": True}
    assert faults(value, MarketingMessage) == []
    del value["to"]
    assert faults({**value, "recipient": "US.1349"}, MarketingMessage) == []
    assert faults(MESSAGES["text"], MarketingMessage) == [("type", "must be template")]


# -- anything ----------------------------------------------------------------------------------------------

EXAMPLES = [*MESSAGES.values(), *map(interactive, INTERACTIVE.values()), *TEMPLATES.values()]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


def places(value: Any, path: str = "") -> list[str]:
    """Every path within a value that can be written down."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.isidentifier():
                found += places(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, f"{path}[{number}]")
    return found


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """An example with some of its parts replaced, taken from another place, or left out."""
    value = draw(st.sampled_from(EXAMPLES))
    other = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 3))):
        parts = st.sampled_from([*other.values()]) | st.just(LEFT_OUT)
        if where := places(value):
            value = changed(value, draw(st.sampled_from(where)), draw(JSON | parts))
    return value


@given(JSON | damaged())
def test_any_value_is_a_message_or_its_faults_are_told(value: Any) -> None:
    findings = Findings()
    message = validate(value, Message, findings)
    assert (message is None) == bool(findings.problems)
    assert all(problem for _, problem in findings.problems + findings.passed)
    assert findings.unknown == []


@given(damaged())
def test_a_field_too_many_changes_no_fault(value: dict[str, Any]) -> None:
    """What is right is converted in one go, what has such a field is walked through: both find the same."""
    more = check_message({**value, "hologram": 1})
    less = check_message(value)
    assert sorted(more.problems) == sorted(less.problems)


def test_the_types_describe_themselves() -> None:
    (schema,), parts = msgspec.json.schema_components([Message])
    assert schema == {"$ref": "#/$defs/Message"}
    assert {"Message", "ButtonMessage", "ListMessage", "BodyComponent", "TextParameter"} <= set(parts)
    kinds = next(one for one in parts["Message"]["properties"]["interactive"]["anyOf"] if "anyOf" in one)
    assert len(kinds["anyOf"]) == 15
