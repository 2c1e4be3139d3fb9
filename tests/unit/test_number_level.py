"""What Graph and webhooks say of a number's level, and the rate that follows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Event
from whatsapp.number_level import Level, Rates, is_shared_with_app, read_level, tells_level
from whatsapp.outcome import Answer

USUAL = Rates(80.0, 1000.0)


@pytest.mark.parametrize(
    ("rates", "level", "rate"),
    [
        (USUAL, Level(), 80.0),
        (USUAL, Level("STANDARD"), 80.0),
        (USUAL, Level("NOT_APPLICABLE"), 80.0),
        (USUAL, Level("HIGH"), 1000.0),
        (USUAL, Level("a level to come"), 80.0),
        (USUAL, Level("STANDARD", coexistence=True), 20.0),
        (USUAL, Level("HIGH", coexistence=True), 20.0),
        (Rates(5.0, 1000.0), Level("HIGH"), 5.0),
        (Rates(5.0, 1000.0), Level(coexistence=True), 5.0),
        (Rates(200.0, 200.0), Level("HIGH"), 200.0),
        (Rates(80.0, 300.0), Level("HIGH"), 300.0),
        (Rates(100_000.0, 1000.0), Level("HIGH"), 100_000.0),
    ],
)
def test_the_rate_of_a_level(rates: Rates, level: Level, rate: float) -> None:
    assert rates.of(level) == rate


BEFORE = Level("HIGH", coexistence=True)


@pytest.mark.parametrize(
    ("status", "body", "level"),
    [
        (200, {"throughput": {"level": "STANDARD"}, "is_on_biz_app": False, "id": "1"}, Level("STANDARD")),
        (200, {"throughput": {"level": "HIGH"}, "is_on_biz_app": True}, Level("HIGH", coexistence=True)),
        (200, {"throughput": {"level": "STANDARD"}}, Level("STANDARD", coexistence=True)),
        (200, {"is_on_biz_app": False}, Level("HIGH")),
        (200, {"id": "1"}, BEFORE),
        (200, {"throughput": None}, BEFORE),
        (200, {"throughput": {}}, Level("", coexistence=True)),
        (200, {"throughput": "HIGH"}, None),
        (200, [], None),
        (401, {"throughput": {"level": "STANDARD"}}, None),
    ],
)
def test_what_graph_says(status: int, body: object, level: Level | None) -> None:
    assert read_level(Answer(status, msgspec.json.encode(body), {}), BEFORE) == level


@given(st.binary())
def test_no_answer_is_too_odd(body: bytes) -> None:
    assert read_level(Answer(200, body, {}), BEFORE) in (None, BEFORE)


def event(type: str, field: object) -> Event:
    body = msgspec.json.encode({"data": {"field": field}})
    return Event(1, 0, "k", type, 0, body)


@pytest.mark.parametrize(
    ("type", "field", "tells", "shared"),
    [
        ("account.update", "phone_number_quality_update", True, False),
        ("account.update", "account_update", False, False),
        ("webhook.other", "phone_number_quality_update", False, False),
        ("message.echo", "smb_message_echoes", False, True),
        ("message.echo", "message_echoes", False, False),
        ("message.received", "smb_message_echoes", False, False),
        ("message.echo", 7, False, False),
    ],
)
def test_what_an_event_tells(type: str, field: object, tells: bool, shared: bool) -> None:
    told = event(type, field)
    assert (tells_level(told), is_shared_with_app(told)) == (tells, shared)
