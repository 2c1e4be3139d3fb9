"""From our request fields to Meta's content, and Meta's paths back to our fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from whatsapp import compose
from whatsapp.compose import Names, addressed, encode, media, media_source, reword, translate
from whatsapp.compose_interactive import (
    Button,
    ListRow,
    ListSection,
    interactive,
    list_message,
    reply_buttons,
)
from whatsapp.compose_template import template
from whatsapp.identity import Address
from whatsapp.payloads import Content
from whatsapp.validate import Findings, validate

URL = "https://example.com/a"
YES = Button(id="y", title="Yes")


def check(content: dict[str, Any]) -> None:
    """Fail where the payload types find a fault."""
    findings = Findings()
    validate(content, Content, findings)
    assert (findings.problems, findings.passed) == ([], []), content


# -- shapes ------------------------------------------------------------------------------------------------


def test_a_message_is_its_content_in_an_envelope() -> None:
    content = compose.text('hello "ñ"', context="wamid.A").content
    check(content)
    assert json.loads(addressed(Address(phone="5215550001111"), encode(content))) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+5215550001111",
        "type": "text",
        "text": {"body": 'hello "ñ"', "preview_url": True},
        "context": {"message_id": "wamid.A"},
    }
    message = json.loads(addressed(Address(user_id="US.1"), encode(content)))
    assert (message["recipient"], message.get("to")) == ("US.1", None)


def test_what_is_not_given_is_not_in_the_content() -> None:
    contents = [
        compose.text("x").content,
        media("image", link=URL).content,
        interactive(body_text="x", buttons=[YES]).content,
        interactive(body_text="x", button_text="a", button_url=URL).content,
        list_message(
            body_text="x", button_text="a", sections=[ListSection(rows=[ListRow("1", "x")])]
        ).content,
        template(template_name="x", language="es").content,
        compose.location_request("x").content,
    ]
    for content in contents:
        check(content)
        assert "null" not in json.dumps(content) and '""' not in json.dumps(content)
        assert not {"header", "footer"} & set(content.get("interactive", {}))


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("881", "id"),
        (881, "id"),
        ("abc_DEF-1", "id"),
        (URL, "link"),
        ("HTTP://example.com", "link"),
        ("ftp://example.com", "link"),
        ("example.com/a.png", "link"),
        ("a b", "link"),
        ("", "link"),
    ],
)
def test_one_field_is_a_media_id_or_a_link(given: str | int, source: str) -> None:
    assert media_source(given) == {source: str(given)}


@pytest.mark.parametrize("kind", compose.MEDIA_KINDS)
def test_media_of_every_kind(kind: str) -> None:
    for fields in ({"media_id": "1"}, {"id": 1}, {"link": URL}, {"id": 1, "media_id": "1"}):
        composed = media(kind, **fields)  # type: ignore[arg-type]
        assert not composed.problems
        check(composed.content)
    captioned = media(kind, link=URL, caption="x")
    assert [path for path, _ in captioned.problems] == (
        [] if "caption" in captioned.content[kind] else ["caption"]
    )
    named = media(kind, link=URL, filename="x")
    assert [path for path, _ in named.problems] == ([] if kind == "document" else ["filename"])


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"header_type": "image"}, ["header_content"]),
        ({"header_content": URL}, ["header_type"]),
        ({"header_type": "gif", "header_content": URL}, ["header_type"]),
        ({"button_text": "x"}, ["button_url"]),
        ({"button_url": URL}, ["button_text"]),
        ({"button_text": "x", "button_url": URL, "buttons": [YES]}, ["button_text"]),
        ({"button_url": URL, "header_type": "text"}, ["button_text", "header_content"]),
        ({"button_url": URL, "buttons": [YES], "header_content": 1}, ["button_url", "header_type"]),
        ({"header_type": "image", "header_content": URL, "body_text": ""}, ["body_text"]),
        ({}, []),
        ({"header_type": "document", "header_content": "1"}, []),
    ],
)
def test_fields_that_do_not_go_together_are_told(fields: dict[str, Any], paths: list[str]) -> None:
    composed = interactive(**{"body_text": "x", **fields})
    assert [path for path, _ in composed.problems] == paths


def test_without_a_button_header_and_footer_are_lines_of_their_own() -> None:
    head = {"header_type": "text", "header_content": "Today", "footer_text": "bye"}
    assert interactive(body_text="x", **head).content["text"]["body"] == "Today\n\nx\n\nbye"
    image = {"header_type": "image", "header_content": "1", "footer_text": "bye"}
    assert interactive(body_text="x", **image).content == {
        "type": "image",
        "image": {"id": "1", "caption": "x\n\nbye"},
    }
    assert interactive(body_text="", **head).content["text"]["body"] == ""


def test_ids_may_be_numbers() -> None:
    content = reply_buttons("x", [Button(id=7, title="A")]).content
    assert content["interactive"]["action"]["buttons"][0]["reply"]["id"] == "7"
    content = list_message(
        body_text="x", button_text="y", sections=[ListSection(rows=[ListRow(7, "A")])]
    ).content
    assert content["interactive"]["action"]["sections"] == [{"rows": [{"id": "7", "title": "A"}]}]


def test_components_win_over_parameters_and_go_as_they_are() -> None:
    components: list[Any] = [{"type": "body", "parameters": [{"type": "text", "text": "a"}], "more": None}]
    content = template(template_name="x", language="es", parameters=["b"], components=components).content
    assert content["template"]["components"] is components
    content = template(template_name="x", language="es", parameters=["b", 1, 2.5]).content
    texts = [each["text"] for each in content["template"]["components"][0]["parameters"]]
    assert texts == ["b", "1", "2.5"]


# -- names -------------------------------------------------------------------------------------------------

NAMES: Names = (
    ("a.b[].c", "x[].y"),
    ("a.b[0].d", "first"),
    ("a.e*", "e*"),
    ("a", "rest"),
)


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("a.b[3].c", "x[3].y"),
        ("a.b[3].c.more[1]", "x[3].y"),
        ("a.b[0].d", "first"),
        ("a.b[1].d", "rest"),
        ("a.e", "e"),
        ("a.e[4].f[2]", "e[4].f[2]"),
        ("a.ee", "rest"),
        ("a", "rest"),
        ("ab", "ab"),
        ("", ""),
    ],
)
def test_a_path_is_translated_by_the_first_name_that_fits(path: str, ours: str) -> None:
    assert translate(path, NAMES) == ours


INTERACTIVE = interactive(body_text="x", buttons=[YES]).names
LIST = list_message(body_text="x", button_text="y", sections=[]).names
BY_PARAMETERS = template(template_name="x", language="es", parameters=["a"]).names
BY_COMPONENTS = template(template_name="x", language="es", components=[{}]).names
TABLE: list[tuple[Names, str, str]] = [
    (compose.text("x").names, "text.body", "message"),
    (compose.text("x").names, "context.message_id", "context_message_id"),
    (INTERACTIVE, "interactive.body.text", "body_text"),
    (INTERACTIVE, "interactive.footer.text", "footer_text"),
    (INTERACTIVE, "interactive.header.text", "header_content"),
    (INTERACTIVE, "interactive.header.image.link", "header_content"),
    (INTERACTIVE, "interactive.action.buttons[1].reply.title", "buttons[1].title"),
    (INTERACTIVE, "interactive.action.buttons[2].reply.id", "buttons[2].id"),
    (INTERACTIVE, "interactive.action.buttons", "buttons"),
    (INTERACTIVE, "interactive.action.parameters.display_text", "button_text"),
    (INTERACTIVE, "interactive.action.parameters.url", "button_url"),
    (INTERACTIVE, "text.body", "body_text"),
    (INTERACTIVE, "video.caption", "body_text"),
    (INTERACTIVE, "video.link", "header_content"),
    (INTERACTIVE, "document", "header_content"),
    (LIST, "interactive.header.text", "header_text"),
    (LIST, "interactive.action.button", "button_text"),
    (LIST, "interactive.action.sections[1].rows[2].description", "sections[1].rows[2].description"),
    (LIST, "interactive.action.sections", "sections"),
    (BY_PARAMETERS, "template.name", "template_name"),
    (BY_PARAMETERS, "template.language.code", "language"),
    (BY_PARAMETERS, "template.components[0].parameters[3].text", "parameters[3]"),
    (BY_COMPONENTS, "template.components[0].parameters[3].text", "components[0].parameters[3].text"),
    (media("image", link=URL).names, "image.link", "link"),
    (media("image", link=URL).names, "image", "media_id"),
    (media("document", link=URL).names, "document.filename", "filename"),
    (compose.location_request("x").names, "interactive.body.text", "body_text"),
]


@pytest.mark.parametrize(("names", "path", "ours"), TABLE)
def test_every_shape_has_the_callers_names(names: Names, path: str, ours: str) -> None:
    assert translate(path, names) == ours


@pytest.mark.parametrize(
    ("names", "problem", "ours"),
    [
        (INTERACTIVE, "is the same as buttons[0].reply.id", "is the same as buttons[0].id"),
        (LIST, "is the same as sections[0].rows[2].id", "is the same as sections[0].rows[2].id"),
        (INTERACTIVE, "4 items, at most 3", "4 items, at most 3"),
        (INTERACTIVE, "is no unknown[3].thing", "is no unknown[3].thing"),
    ],
)
def test_a_problem_names_other_fields_as_callers_do(names: Names, problem: str, ours: str) -> None:
    assert reword(problem, names) == ours


@pytest.mark.parametrize("text", ["x" * 100_000, "x[1]" * 25_000, "x." * 50_000, "[" * 100_000])
def test_a_problem_may_be_as_long_as_a_callers_text(text: str) -> None:
    reword(text, INTERACTIVE)
