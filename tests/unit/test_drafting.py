"""From what stands in a request to a checked message, with every fault in the caller's own fields."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.drafting import ContentCheck, Read, address_of, read_fields, read_request, top_of, within
from handlers.requests import STAND_INS, InteractiveRequest, TemplateRequest
from handlers.sends import MANY, ONE, OneSend
from whatsapp import compose
from whatsapp.compose_interactive import interactive
from whatsapp.compose_template import template
from whatsapp.failures import InvalidRequest
from whatsapp.validate import MAX_UNKNOWN, Findings

PHONE = "5215550001111"
URL = "https://example.com/a"


def faults_of(send: OneSend, body: dict[str, Any]) -> tuple[list[tuple[str, str]], bytes | None]:
    """What is wrong with a body of this path, and its content."""
    findings = Findings()
    read = read_fields(body, send.request, findings)
    assert read is not None
    check = ContentCheck(findings)
    content = check.content(send.compose(read.fields), lambda path: within(path, read.faulty))
    return findings.problems, content


# -- fields ------------------------------------------------------------------------------------------------


def test_what_is_right_is_read_and_nothing_is_at_fault() -> None:
    findings = Findings()
    read = read_fields({"phone": 1, "body_text": "x", "colour": 1}, InteractiveRequest, findings)
    assert read == Read(InteractiveRequest(phone=1, body_text="x"), ())
    assert findings.problems == []
    assert ContentCheck(findings).warnings == ["colour: unknown field, ignored"]


def test_something_harmless_stands_for_what_is_at_fault() -> None:
    findings = Findings()
    body = {"body_text": 7, "buttons": [{"id": []}], "footer_text": "kept", "use_queue": True}
    read = read_fields(body, InteractiveRequest, findings, "recipients[3]")
    assert read is not None
    assert set(read.faulty) == {"phone", "body_text", "buttons"}
    assert {path for path, _ in findings.problems} == {
        "recipients[3].phone",
        "recipients[3].body_text",
        "recipients[3].buttons[0].id",
    }
    assert read.fields.body_text == STAND_INS["body_text"]
    assert (read.fields.buttons, read.fields.footer_text, read.fields.use_queue) == ([], "kept", True)


@pytest.mark.parametrize("value", [None, 5, "x", []])
def test_what_is_no_object_has_no_fields(value: Any) -> None:
    findings = Findings()
    assert read_fields(value, InteractiveRequest, findings, "recipients[3]") is None
    assert findings.problems == [("recipients[3]", "must be an object")]


def test_where_no_more_faults_are_told_no_fields_are_guessed() -> None:
    findings = Findings()
    for n in range(2000):
        findings.fault(str(n), "is wrong")
    assert read_fields({"phone": 1}, InteractiveRequest, findings) is None
    with pytest.raises(InvalidRequest) as caught:
        read_request({"parameters": [{}] * 5000, "components": 5}, TemplateRequest, Findings())
    assert len(caught.value.details) == 1000


KINDS = [send.request for send in (*ONE.values(), *MANY.values())]
KINDS += [send.recipient for send in MANY.values() if send.recipient]  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_is_required_has_a_stand_in(kind: type[Any]) -> None:
    findings = Findings()
    read = read_fields({}, kind, findings)
    assert read is not None
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    assert set(read.faulty) == {path for path, _ in findings.problems} == required


@pytest.mark.parametrize(("phone", "digits"), [("+52 1 555 000 1111", PHONE), (5215550001111, PHONE)])
def test_a_phone_is_an_address(phone: str | int, digits: str) -> None:
    findings = Findings()
    address = address_of(phone, findings, "phone")
    assert address is not None and address.phone == digits and not findings.problems
    assert address_of("12", findings, "recipients[1].phone") is None
    assert findings.problems == [
        ("recipients[1].phone", "must be a phone in international digits, or a user id")
    ]


@pytest.mark.parametrize(
    ("phone", "rounded"), [("5,21555E+12", True), ("5.2E+12", True), ("E.123", False), ("52155", False)]
)
def test_a_phone_that_a_spreadsheet_has_rounded_is_told_so(phone: str, rounded: bool) -> None:
    findings = Findings()
    assert address_of(phone, findings, "rows[2].phone") is None
    ((_, problem),) = findings.problems
    assert problem.endswith("format the column as text") == rounded


@pytest.mark.parametrize(
    ("path", "faulty", "prefix", "where"),
    [
        ("buttons[1].id", (), "recipients[3]", "recipients[3].buttons[1].id"),
        ("buttons[1].id", ("buttons",), "recipients[3]", None),
        ("buttons[1].id", ("button_text",), "", "buttons[1].id"),
        ("", ("x",), "", ""),
    ],
)
def test_a_path_is_put_below_its_prefix(
    path: str, faulty: Collection[str], prefix: str, where: str | None
) -> None:
    assert within(path, faulty, prefix) == where
    assert top_of("buttons[1].id") == "buttons"


# -- contents ----------------------------------------------------------------------------------------------


def test_a_fault_is_told_once_however_often_it_comes() -> None:
    findings = Findings()
    check = ContentCheck(findings)
    composed = interactive(body_text="x", button_text="y" * 21, button_url=URL, header_type="image")
    for _ in range(3):
        assert check.content(composed, lambda path: path) is None
    assert findings.problems == [
        ("header_content", "is required with header_type image"),
        ("button_text", "21 characters, at most 20"),
    ]


def test_what_is_told_already_by_the_fields_is_not_told_again() -> None:
    findings = Findings()
    composed = interactive(body_text="x", button_text="y" * 21)
    assert ContentCheck(findings).content(composed, lambda path: None) is None
    assert findings.problems == []


def test_what_is_not_known_of_metas_object_goes_on_and_is_told_once() -> None:
    check = ContentCheck(Findings())
    components = [{"type": "body", "parameters": [{"type": "text", "text": "x"}], "colour": 1}]
    composed = template(template_name="x", language="es", components=components)
    for _ in range(2):
        content = check.content(composed, lambda path: path)
        assert content is not None and b'"colour":1' in content
    (warning,) = check.warnings
    assert warning.startswith("components[0].colour: unknown field")


def test_warnings_are_bounded() -> None:
    check = ContentCheck(Findings())
    for n in range(2 * MAX_UNKNOWN):
        component = {"type": "body", "parameters": [{"type": "text", "text": "x"}], f"colour{n}": 1}
        check.content(template(template_name="x", language="es", components=[component]), lambda path: path)
    assert len(check.warnings) == MAX_UNKNOWN


def test_a_content_that_is_right_is_encoded() -> None:
    assert ContentCheck(Findings()).content(compose.text("x"), lambda path: path) == (
        b'{"type":"text","text":{"body":"x","preview_url":true}}'
    )


# -- all of it ---------------------------------------------------------------------------------------------

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=30)
    | st.sampled_from([URL, "image", "x" * 5000])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "title", "rows", "type", "parameters", "text"]), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("path", ONE)
@given(data=st.data())
def test_whatever_comes_is_a_message_or_is_refused_in_the_callers_fields(path: str, data: Any) -> None:
    send = ONE[path]
    fields = send.request.__struct_fields__
    body = data.draw(st.dictionaries(st.sampled_from(fields), VALUES))
    problems, content = faults_of(send, body)
    assert {top_of(where) for where, _ in problems} <= set(fields), problems
    assert len(set(problems)) == len(problems)
    assert problems or content is not None


def test_an_empty_text_is_a_field_left_out() -> None:
    send = ONE["/api/send-template"]
    left_out = {
        "language": "",
        "priority": "",
        "parameters": "",
        "use_queue": "",
        "on_unknown": "",
        "send_at": "",
    }
    problems, content = faults_of(send, {"phone": PHONE, "template_name": "a", **left_out})
    assert problems == [] and content is not None and b'"es"' in content
    problems, _ = faults_of(send, {"phone": PHONE, "template_name": ""})
    assert [path for path, _ in problems] == ["template_name"]


def test_no_fault_hides_another() -> None:
    send = OneSend("x", TemplateRequest, ONE["/api/send-template"].compose)
    body = {"template_name": 5, "language": 7, "parameters": ["", "x"], "priority": "urgent"}
    problems, content = faults_of(send, body)
    assert {path for path, _ in problems} == {
        "phone",
        "template_name",
        "language",
        "parameters[0]",
        "priority",
    }
    assert content is None
