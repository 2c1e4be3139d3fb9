"""What the pages list, against the code: states, events, faults, and the commands that set them."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import msgspec
import pytest

from store.states import State
from tests.support.pages import ROOT, page, table
from whatsapp.events import EVENT_TYPES
from whatsapp.sandbox_faults import _OBJECTS, FaultBook, Faults
from whatsapp.sandbox_rules import ERRORS, tour_refusal


def names(rows: list[list[str]]) -> list[str]:
    return [row[0].strip("`") for row in rows]


def test_every_state_of_a_row_has_its_sentence() -> None:
    rows = table(page("README.md"), "state")
    assert sorted(names(rows)) == sorted(State)
    assert all(len(row) == 2 and row[1] for row in rows)


def test_every_event_has_its_line() -> None:
    rows = table(page("docs/events.md"), "event")
    assert names(rows) == sorted(names(rows), key=EVENT_TYPES.index) == list(EVENT_TYPES)
    assert all(len(row) == 3 and all(row) for row in rows)


def test_the_example_of_an_event_is_one() -> None:
    example = re.findall(r"```json\n(.*?)```", page("docs/events.md"), re.DOTALL)[0]
    frame = json.loads(example)
    assert list(frame) == ["type", "offset", "prev", "event", "at", "phone_number_id", "contact", "data"]
    assert frame["type"] == "event" and frame["event"] in EVENT_TYPES


def _shown(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None or field.default == "":
        return "none"
    return f"{field.default:g}" if isinstance(field.default, float) else json.dumps(field.default)


def test_every_fault_has_its_line_with_its_default() -> None:
    expected = {}
    for fault in msgspec.structs.fields(Faults):
        expected[fault.name] = _shown(fault)
        if fault.name in _OBJECTS:
            for field in msgspec.structs.fields(_OBJECTS[fault.name]):
                expected[f"{fault.name}.{field.name}"] = _shown(field)
    rows = table(page("docs/sandbox.md"), "fault")
    assert {row[0].strip("`"): row[3] for row in rows} == expected
    assert all(len(row) == 5 and row[1] and row[4] for row in rows)


def _commands(name: str) -> list[Any]:
    """The bodies that a page's commands post to ``/sandbox/faults``."""
    text = page(name).replace("\\\n", " ")
    return [json.loads(body) for body in re.findall(r"curl .*/sandbox/faults .*-d '(.*)'", text)]


@pytest.mark.parametrize("name", ["README.md", "docs/sandbox.md"])
def test_every_command_that_sets_faults_can_be_used(name: str) -> None:
    bodies = _commands(name)
    assert len(bodies) >= 2
    for body in bodies:
        FaultBook(random.Random(1)).change(body)


def test_every_fault_has_a_command() -> None:
    assert {fault for body in _commands("docs/sandbox.md") for fault in body} == {
        *Faults.__struct_fields__,
        "reset",
    }


def test_every_code_that_a_number_may_end_with_is_named() -> None:
    section = page("docs/sandbox.md").split("## Numbers that are refused")[1].split("\n## ")[0]
    listed = section.split("knows:\n\n")[1].split(".\n")[0]
    codes = [int(code) for code in listed.replace("\n", " ").split(", ")]
    assert codes == [code for code in sorted(ERRORS) if tour_refusal(f"5215577{code:06}")]


def test_pages_lead_where_they_say() -> None:
    for source in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for link, anchor in re.findall(r"\]\(([^)#:\s]*)(#[^)]*)?\)", source.read_text("utf-8")):
            target = source.parent / link if link else source
            assert target.exists(), (source.name, link)
            if anchor:
                heads = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
                anchors = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
                assert anchor[1:] in anchors, (source.name, anchor)
