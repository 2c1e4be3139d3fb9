"""docs/events.md against the code: every event has a section, whose example is what the code makes of it."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.event_examples import examples
from tests.support.event_page import PAGE, SECTION, written
from tests.support.pages import ROOT, page, section, table
from whatsapp.events import EVENT_TYPES, EventType
from whatsapp.webhook_fields import HISTORY, MESSAGE_FIELDS, PARTS, WHOLE

TEXT = page("docs/events.md")
SECTIONS = {found[1]: found[2] for found in SECTION.finditer(TEXT)}


def test_every_event_has_its_section_in_order() -> None:
    assert PAGE == ROOT / "docs" / "events.md"
    assert list(SECTIONS) == list(EVENT_TYPES)


def test_every_event_has_an_example() -> None:
    assert set(examples()) == set(EVENT_TYPES)


def test_the_examples_on_the_page_are_those_of_the_code() -> None:
    assert written(TEXT) == TEXT, "write them anew: python -m tests.support.event_page"


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_section_shows_its_event_and_the_page_names_its_fields(name: str) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", SECTIONS[name], re.MULTILINE | re.DOTALL)
    event = json.loads(example)
    assert list(event) == ["event", "at", "phone_number_id", "contact", "data"]
    assert event["event"] == name
    named = TEXT.partition("## Each event")[0] + SECTIONS[name].partition("```")[0]
    assert [field for field in event["data"] if f"`{field}`" not in named] == []
    assert re.search(r"[Tt]old once|\. The rest", SECTIONS[name].partition("```")[0]), (
        "say when it is told again"
    )


def test_every_field_of_metas_has_its_line() -> None:
    rows = table(section(TEXT, "Meta's fields").text, "field")
    told = {field: (how, events) for names, how, events in rows for field in re.findall(r"`(\w+)`", names)}
    assert set(told) == {*PARTS, *WHOLE}
    for field, (how, events) in told.items():
        assert how == ("item by item" if field in PARTS else "as one"), field
        if field in WHOLE:
            assert events == f"`{WHOLE[field]}`", field


def test_every_event_that_a_field_becomes_is_in_its_line() -> None:
    rows = table(section(TEXT, "Meta's fields").text, "field")
    lines = {field: events for names, _, events in rows for field in re.findall(r"`(\w+)`", names)}
    shown = [json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0]) for text in SECTIONS.values()]
    for event in shown:
        field = event["data"].get("field")
        name = event["event"]
        if field in PARTS and name not in (EventType.WEBHOOK_ERROR, EventType.WEBHOOK_OTHER):
            assert f"`{name}`" in lines[field], (field, name)
    assert {*MESSAGE_FIELDS, HISTORY} <= set(lines)
