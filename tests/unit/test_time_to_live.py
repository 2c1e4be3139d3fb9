"""How long a message lives, and how long word of it is waited for."""

from __future__ import annotations

import json

import pytest

from whatsapp.template_holds import Template as Name
from whatsapp.templates import read_template
from whatsapp.time_to_live import USUAL_MS, life_of, lives_of, margin_ms, may_expire

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


def template(category: str, **fields: object) -> object:
    return {"name": "code", "language": "es", "category": category, **fields}


@pytest.mark.parametrize(
    ("told", "life"),
    [
        (template("AUTHENTICATION"), 10 * MINUTE_MS),
        (template("authentication", message_send_ttl_seconds=60), MINUTE_MS),
        (template("AUTHENTICATION", message_send_ttl_seconds=-1), USUAL_MS),
        (template("UTILITY"), USUAL_MS),
        (template("UTILITY", message_send_ttl_seconds=3600), 60 * MINUTE_MS),
        (template("MARKETING", message_send_ttl_seconds="soon"), USUAL_MS),
        (template("MARKETING", message_send_ttl_seconds=2_592_000), USUAL_MS),
    ],
)
def test_a_template_lives_as_it_says_or_as_is_usual_for_its_category(told: object, life: int) -> None:
    found = read_template(told)
    assert found is not None
    payload = {"type": "template", "template": {"name": "code", "language": {"code": "es"}}}
    assert life_of(json.dumps(payload).encode(), lives_of([found])) == life
    other = {"type": "template", "template": {"name": "code", "language": {"code": "en"}}}
    assert life_of(json.dumps(other).encode(), lives_of([found])) == USUAL_MS


@pytest.mark.parametrize(
    ("payload", "life"),
    [
        (b'{"type":"text"}', USUAL_MS),
        (b'{"type":"reaction"}', None),
        (b'{"type":"pin"}', None),
        (b'{"to":"+1"}', USUAL_MS),
        (b"no JSON", USUAL_MS),
    ],
)
def test_other_messages_live_for_thirty_days_unless_nothing_is_ever_told_of_them(
    payload: bytes, life: int | None
) -> None:
    assert life_of(payload, {}) == life_of(payload, {Name("code", "es"): 1}) == life


@pytest.mark.parametrize(
    ("life", "margin"),
    [(30_000, 10 * MINUTE_MS), (60 * MINUTE_MS, 60 * MINUTE_MS), (USUAL_MS, DAY_MS)],
)
def test_word_is_waited_for_as_long_again_and_at_most_a_day(life: int, margin: int) -> None:
    assert margin_ms(life) == margin


def test_silence_says_nothing_in_the_day_after_a_gap() -> None:
    assert not may_expire(None, 5 * DAY_MS)
    assert not may_expire(4 * DAY_MS + 1, 5 * DAY_MS)
    assert may_expire(4 * DAY_MS, 5 * DAY_MS)
