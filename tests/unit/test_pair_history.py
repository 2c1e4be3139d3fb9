"""Whom a number has written to lately, by the log."""

from __future__ import annotations

import asyncio
from typing import cast
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.base import Store
from store.records import NewEvent
from tests.support.memory_log import MemoryLogStore
from whatsapp.clock import Clock
from whatsapp.pacing import PairPacer
from whatsapp.pair_history import PairHistory

LANE = "100"
NOW_MS = 1_000_000
SPAN_S = 60.0
TYPES = ["message.sent", "message.unknown", "message.doubled", "message.received", "message.retrying"]
REACHED = TYPES[:3]


def event(
    n: int, type: str, ago_s: float, *, contact: str = "ana", lane: str = LANE, key: str = ""
) -> NewEvent:
    return NewEvent(
        key=key or f"row:{n}",
        type=type,
        at=NOW_MS - int(1000 * ago_s),
        body=b"{}",
        phone_number_id=lane,
        contact=contact,
    )


def due_after(events: list[NewEvent], *, removed: int = 0, page: int = 10, most: int = 10_000) -> PairPacer:
    """What a pacer that allows nothing on credit knows then, at the monotonic time 0."""
    store = MemoryLogStore(stride=3)
    store.store(events)
    store.remove_through(removed)
    pairs = PairPacer(burst=1, interval_s=6.0)
    clock = Clock(lambda: NOW_MS, lambda: 0.0)
    history = PairHistory(LANE, pairs, store=cast(Store, store), clock=clock, span_s=SPAN_S)
    with mock.patch("whatsapp.pair_history._PAGE", page), mock.patch("whatsapp.pair_history._MOST", most):
        asyncio.run(history.read(lambda: False))
    return pairs


def test_an_empty_log_says_nothing() -> None:
    assert len(due_after([])) == 0


@pytest.mark.parametrize("type", TYPES)
def test_what_may_have_reached_meta_counts(type: str) -> None:
    pairs = due_after([event(1, type, 2.0)])
    assert pairs.ready_at("ana", 0.0) == (4.0 if type in REACHED else 0.0)


def test_what_another_number_sent_does_not_count() -> None:
    assert due_after([event(1, "message.sent", 2.0, lane="200")]).ready_at("ana", 0.0) == 0.0


def test_a_status_of_metas_is_no_attempt() -> None:
    assert due_after([event(1, "message.sent", 2.0, key="st:1")]).ready_at("ana", 0.0) == 0.0


def test_a_clock_that_was_ahead_counts_as_now() -> None:
    assert due_after([event(1, "message.sent", -30.0)]).ready_at("ana", 0.0) == 6.0


def test_what_retention_removed_is_not_asked_for() -> None:
    events = [event(n, "message.sent", 3.0 - n / 100) for n in range(100)]
    assert due_after(events, removed=3 * 99).ready_at("ana", 0.0) == pytest.approx(6.0 - 2.01, abs=0.01)


def test_where_there_are_too_many_the_newest_count() -> None:
    """Of sixty seconds those of the last 3.75 or so, which are more than enough."""
    events = [event(n, "message.sent", 50.0 - n / 2) for n in range(100)]
    assert due_after(events, most=5).ready_at("ana", 0.0) == pytest.approx(8 * 6.0 - 4.0, abs=0.01)


def test_a_lane_that_stops_leaves_off() -> None:
    store = MemoryLogStore()
    store.store([event(1, "message.sent", 2.0)])
    pairs = PairPacer()
    clock = Clock(lambda: NOW_MS, lambda: 0.0)
    history = PairHistory(LANE, pairs, store=cast(Store, store), clock=clock, span_s=SPAN_S)
    asyncio.run(history.read(lambda: True))
    assert len(pairs) == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(TYPES), st.floats(0.0, 200.0), st.sampled_from(["ana", "ben"])), max_size=80
    ),
    st.integers(1, 7),
)
def test_it_is_what_all_attempts_of_the_span_make(told: list[tuple[str, float, str]], page: int) -> None:
    told.sort(key=lambda one: -one[1])
    read = due_after([event(n, type, ago, contact=who) for n, (type, ago, who) in enumerate(told)], page=page)
    expected = PairPacer(burst=1, interval_s=6.0)
    for who in ("ana", "ben"):
        agos = [int(1000 * ago) / 1000 for type, ago, to in told if type in REACHED and to == who]
        expected.rebuild(who, [-ago for ago in agos if ago <= SPAN_S])
        assert read.ready_at(who, 0.0) == pytest.approx(expected.ready_at(who, 0.0))
