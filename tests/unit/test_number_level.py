"""What Graph and webhooks say of a number's level, and the rate that follows."""

from __future__ import annotations

import asyncio
from typing import cast
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Event
from tests.support.waiting import GUARD_S
from whatsapp.error_table import policy_of
from whatsapp.graph import Graph
from whatsapp.number_level import Level, LevelReader, Rates, is_shared_with_app, read_level, tells_level
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


class Refusing:
    """A Graph that lets nobody look at a number; ``asked`` is set when it was asked twice more."""

    def __init__(self, code: int, http_status: int) -> None:
        self._answer = Answer(http_status, msgspec.json.encode({"error": {"code": code}}), {})
        self._left = 3
        self.asked = asyncio.Event()

    async def number_level(self, phone_number_id: str) -> Answer:
        self._left -= 1
        if not self._left:
            self.asked.set()
        return self._answer


async def refused_with(code: int, http_status: int) -> list[str]:
    """What is told of a number that was asked for some times."""
    told: list[str] = []
    graph = Refusing(code, http_status)
    reader = LevelReader("100", USUAL, graph=cast(Graph, graph), take=lambda rate: None, refused=told.append)
    with mock.patch("whatsapp.number_level._AGAIN_S", 0.001):
        task = asyncio.create_task(reader.run())
        async with asyncio.timeout(GUARD_S):
            await graph.asked.wait()
        task.cancel()
    return told


@pytest.mark.parametrize(("code", "http_status"), [(190, 401), (0, 401), (102, 401), (104, 400)])
async def test_a_token_that_is_refused_is_told_each_time(code: int, http_status: int) -> None:
    policy = policy_of(code)
    assert policy is not None and set(await refused_with(code, http_status)) == {policy.operator}


@pytest.mark.parametrize(("code", "http_status"), [(200, 403), (10, 403), (100, 400), (2, 500)])
async def test_a_number_that_cannot_be_looked_at_may_send_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture, code: int, http_status: int
) -> None:
    assert await refused_with(code, http_status) == []
    assert caplog.text.count("number 100 cannot be looked at: ") == 1
