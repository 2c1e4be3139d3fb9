"""From a JSON object to a typed request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from handlers.fields import convert, refuse_if
from whatsapp.failures import InvalidRequest
from whatsapp.validate import MAX_UNKNOWN, Checked


class Button(Checked, frozen=True):
    id: str
    title: Annotated[str, Meta(min_length=1, max_length=20)]


class Request(Checked, frozen=True):
    phone: str | int
    text: Annotated[str, Meta(min_length=1, max_length=4)]
    count: Annotated[int, Meta(ge=1)] = 1
    use_queue: bool = False
    buttons: Annotated[list[Button], Meta(min_length=1, max_length=3)] | None = None
    more: dict[str, int] = msgspec.field(default_factory=dict)
    sender: str = msgspec.field(default="", name="from")
    pace: Literal["fast", "slow"] = "fast"
    kind: Literal["text", "image"] | None = None


GOOD: dict[str, Any] = {"phone": "5215550001111", "text": "hola"}


def problems_of(body: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        convert(body, Request, **options)
    return list(caught.value.details)


# -- one object --------------------------------------------------------------------------------------------


def test_what_is_left_out_has_its_default() -> None:
    request, warnings = convert(GOOD, Request)
    assert request == Request("5215550001111", "hola")
    assert warnings == []


def test_what_is_given_is_taken() -> None:
    body = {
        **GOOD,
        "phone": 5215550001111,
        "count": 7,
        "use_queue": True,
        "buttons": [{"id": "a", "title": "A"}],
        "from": "me",
    }
    request, _ = convert(body, Request)
    assert request == Request(5215550001111, "hola", 7, True, [Button("a", "A")], {}, "me")
    request, _ = convert({**GOOD, "pace": "slow", "kind": "image"}, Request)
    assert (request.pace, request.kind) == ("slow", "image")


@pytest.mark.parametrize("name", ["count", "use_queue", "buttons", "more", "from", "kind"])
def test_null_is_left_out(name: str) -> None:
    assert convert({**GOOD, name: None}, Request) == convert(GOOD, Request)


@pytest.mark.parametrize(
    ("body", "path", "problem"),
    [
        ({"text": None}, "text", "is required"),
        ({"phone": None}, "phone", "is required"),
        ({"phone": 1.5}, "phone", "must be text or a number, got a number"),
        ({"phone": [1]}, "phone", "must be text or a number, got a list"),
        ({"text": 7}, "text", "must be text, got a whole number"),
        ({"text": ""}, "text", "must not be empty"),
        ({"text": "holas"}, "text", "5 characters, at most 4"),
        ({"count": "7"}, "count", "must be a whole number, got text"),
        ({"count": 0}, "count", "must be a whole number >= 1"),
        ({"count": True}, "count", "must be a whole number, got true or false"),
        ({"use_queue": 1}, "use_queue", "must be true or false, got a whole number"),
        ({"use_queue": "yes"}, "use_queue", "must be true or false, got text"),
        ({"buttons": {}}, "buttons", "must be a list"),
        ({"buttons": []}, "buttons", "must not be empty"),
        ({"buttons": [7]}, "buttons[0]", "must be an object"),
        ({"buttons": [{"id": "a"}]}, "buttons[0].title", "is required"),
        ({"more": {"a": "b"}}, "more", "must be a whole number, got text at `[...]`"),
        ({"from": 7}, "from", "must be text, got a whole number"),
        ({"pace": "medium"}, "pace", "must be one of fast, slow"),
        ({"pace": 7}, "pace", "must be one of fast, slow"),
        ({"kind": "video"}, "kind", "must be one of text, image"),
    ],
)
def test_a_fault_is_named_in_plain_words(body: dict[str, Any], path: str, problem: str) -> None:
    ((where, told),) = problems_of({**GOOD, **body})
    assert where == path
    assert problem in told


def test_every_fault_is_named_at_once() -> None:
    found = problems_of({"text": "too long", "count": 0, "use_queue": 1})
    assert [path for path, _ in found] == ["phone", "text", "count", "use_queue"]


def test_the_sentence_names_the_first_fault_and_counts_the_others() -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert({"text": "too long"}, Request)
    assert caught.value.message == "phone: is required (and 1 more)"
    with pytest.raises(InvalidRequest) as caught:
        convert({"text": "hola"}, Request)
    assert caught.value.message == "phone: is required"


def test_fields_we_do_not_know_are_named_and_ignored() -> None:
    request, warnings = convert({**GOOD, "txet": 1, "Phones": 1, "prio": None}, Request)
    assert request == Request("5215550001111", "hola")
    assert warnings == [
        "txet: unknown field, ignored; did you mean `text`?",
        "Phones: unknown field, ignored; did you mean `phone`?",
        "prio: unknown field, ignored",
    ]


def test_a_required_field_is_looked_for_among_those_we_do_not_know() -> None:
    body = {"phone": "5215550001111", "txet": "hola", "colour": "red"}
    assert problems_of(body) == [("text", "is required; `txet` is no field")]


def test_a_field_goes_by_the_name_callers_know() -> None:
    request, warnings = convert({**GOOD, "sender": "me"}, Request)
    assert request.sender == ""
    assert warnings == ["sender: unknown field, ignored"]


def test_where_it_is_strict_fields_we_do_not_know_are_at_fault() -> None:
    told = "is no field of this request; did you mean `text`?"
    assert problems_of({**GOOD, "txet": 1}, strict=True) == [("txet", told)]
    assert problems_of({"text": "hola", "txet": 1}, strict=True) == [("phone", "is required"), ("txet", told)]
    (far,) = problems_of({**GOOD, "colour": 1}, strict=True)
    takes = "phone, text, count, use_queue, buttons, more, from, pace, kind"
    assert far == ("colour", f"is no field of this request; it takes {takes}")
    many = problems_of({**GOOD, **{f"txet{n}": n for n in range(MAX_UNKNOWN + 1)}}, strict=True)
    assert len(many) == MAX_UNKNOWN
    assert all(problem.endswith("`text`?") for _, problem in many)


def test_warnings_are_bounded_in_number_and_length() -> None:
    _, warnings = convert({**GOOD, **{f"x{n}": n for n in range(1000)}, "y" * 9999: 1}, Request)
    assert len(warnings) == MAX_UNKNOWN
    _, warnings = convert({**GOOD, "y" * 9999: 1}, Request)
    assert warnings == [f"{'y' * 100}: unknown field, ignored"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
BODIES = st.dictionaries(st.sampled_from([*Request.__struct_fields__, "from"]) | st.text(), VALUES)


@given(BODIES, st.booleans())
def test_any_object_is_a_request_or_a_refusal_that_says_where(body: dict[str, Any], strict: bool) -> None:
    try:
        request, _ = convert(body, Request, strict=strict)
    except InvalidRequest as refusal:
        assert refusal.details
        assert refusal.message.startswith(f"{refusal.details[0][0]}: {refusal.details[0][1]}")
    else:
        assert msgspec.convert(msgspec.to_builtins(request), Request) == request


def test_nothing_at_fault_is_not_refused() -> None:
    refuse_if([])
    with pytest.raises(InvalidRequest) as caught:
        refuse_if([("a", "is wrong"), ("b", "too"), ("c", "too")])
    assert caught.value.message == "a: is wrong (and 2 more)"
    assert caught.value.details == (("a", "is wrong"), ("b", "too"), ("c", "too"))
