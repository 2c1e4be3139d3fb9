"""Places in answers: what is filled in is text, and never more than Meta takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.places import fill, places_of, settled

BUTTONS: dict[str, Any] = {
    "type": "interactive",
    "interactive": {
        "type": "button",
        "body": {"text": "Hi {name|there}"},
        "action": {"buttons": [{"type": "reply", "reply": {"id": "b1", "title": "I am {name|it}"}}]},
    },
}


def text(body: str) -> dict[str, Any]:
    return {"type": "text", "text": {"body": body}}


def said(body: str, **values: str) -> str:
    filled, findings = settled(text(body), values)
    assert not findings.problems
    return str(filled["text"]["body"])


@pytest.mark.parametrize(
    ("body", "values", "filled"),
    [
        ("Hi {name}!", {"name": "Ana"}, "Hi Ana!"),
        ("Hi {name|friend}!", {"name": ""}, "Hi friend!"),
        ("Hi {name}!", {}, "Hi !"),
        ("{match}: {1} {2|none}", {"match": "order 7", "1": "7", "2": ""}, "order 7: 7 none"),
        ("{name}", {"name": "{match} {1}", "match": "no", "1": "no"}, "{match} {1}"),
        ('{"a": 1} { name } {}', {"name": "Ana"}, '{"a": 1} { name } {}'),
        ("Hi {name}", {"name": " *Ana*\n\t_B_ \u202e"}, "Hi Ana B"),
        ("{match}", {"match": "A_1 *b*\n c"}, "A_1 *b* c"),
    ],
)
def test_places_are_filled_and_other_braces_left(body: str, values: dict[str, str], filled: str) -> None:
    assert said(body, **values) == filled


def test_all_places_are_found_and_filled_wherever_they_stand() -> None:
    assert list(places_of(BUTTONS)) == ["name", "name"]
    assert list(places_of({"a": [["{1}"], 7, None]})) == ["1"]
    filled, findings = settled(BUTTONS, {"name": "Ana"})
    assert not findings.problems
    assert json.dumps(filled).count("Ana") == 2
    assert json.dumps(BUTTONS).count("Ana") == 0


def test_a_long_name_is_cut_to_what_metas_limits_leave() -> None:
    filled, findings = settled(BUTTONS, {"name": "Maria de los Angeles Fernandez"})
    assert not findings.problems
    title = filled["interactive"]["action"]["buttons"][0]["reply"]["title"]
    assert title.startswith("I am Maria") and title.endswith("…") and len(title) <= 20


def test_a_long_match_is_cut_and_the_rest_of_a_long_text_stays() -> None:
    body = "x" * 4090 + "{match}"
    assert said(body, match="y" * 4096).endswith("x" + "y" * 5 + "…")


def test_what_does_not_fit_even_without_values_is_told() -> None:
    _, findings = settled(text("x" * 4096 + "{match}"), {"match": "y"})
    assert [path for path, _ in findings.problems] == ["text.body"]
    _, findings = settled(text("{name}"), {"name": ""})
    assert findings.problems


def test_in_an_address_what_is_filled_in_is_escaped() -> None:
    link = {"link": "https://example.com/{1}?q={match}"}
    assert fill(link, {"1": "../x", "match": "a b&c=é"}) == {
        "link": "https://example.com/..%2Fx?q=a%20b%26c%3D%C3%A9"
    }


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_a_customer_is_called_or_writes_the_answer_can_be_sent(name: str, match: str) -> None:
    filled, findings = settled(BUTTONS, {"name": name, "match": match})
    assert not findings.problems
    assert json.loads(json.dumps(filled))["interactive"]["action"]["buttons"][0]["reply"]["id"] == "b1"
    assert said("Hi {name|x} {match|y}", name=name, match=match).startswith("Hi ")
