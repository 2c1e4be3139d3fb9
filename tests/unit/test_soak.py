"""How the soak keeps count and what its page says of it; the soak itself is no test."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.soak.flat import _judged
from tests.soak.kills import GOAL, _trial, done, part
from tests.soak.limits import _mixed, _tens
from tests.soak.report import _within, page, with_counts
from tests.soak.rounds import reason
from tests.soak.state import ROOT, State

ROUND = {
    "kills": 30,
    "webhooks": 2_000,
    "repeated": 40,
    "sends": 500,
    "messages": 900,
    "count": {"rows": 950, "doubles": 3, "unknowns": 120, "told": 3},
    "events": 9_000,
    "connections": 12,
    "broken": 10,
}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "build" / "soak.json")


def test_it_goes_on_where_it_was_broken_off(state: State) -> None:
    assert (state.begin("kills"), state.begin("kills"), state.begin("limits")) == (1, 2, 1)
    again = State(state.path)
    assert again.begin("kills") == 3  # also what was begun and not finished is not begun again


def test_only_rounds_that_held_count(state: State) -> None:
    state.add(part("sqlite"), "sqlite 1", ROUND)
    state.fail(
        part("sqlite"), "sqlite 2", "Traceback ...\nAssertionError: acknowledged and not in the log: 1"
    )
    state.add(part("sqlite"), "sqlite 3", ROUND)
    assert (done(state, "sqlite"), done(state, "mongo")) == (60, 0)
    assert [found["seed"] for found in state.rounds(part("sqlite"))] == ["sqlite 1", "sqlite 3"]


def test_a_round_makes_no_more_kills_than_are_left() -> None:
    assert (_trial("sqlite", "sqlite 1", 7).kills, _trial("sqlite", "sqlite 1", GOAL).kills) == (7, 30)
    moments = {_trial("sqlite", f"sqlite {n}", GOAL).moments for n in range(20)}
    assert len(moments) == 20


def test_the_page_tells_the_sums_and_what_did_not_hold(state: State) -> None:
    state.add(part("sqlite"), "sqlite 1", ROUND)
    state.add(part("sqlite"), "sqlite 2", ROUND)
    why = (
        "Traceback\n    | AssertionError: acknowledged and not in the log: 1, such as ['wamid.7']\n    +---\n"
    )
    state.fail(part("mongo"), "mongo 1", reason(why))
    text = page(state)
    assert "| sqlite | 60 of 1,000 | 2 | 4,000 | 1,000 (1,800) | 0 | 240 | 6 (6) |" in text
    assert "| mongo | 0 of 1,000 | 0 | 0 | 0 (0) |  |" in text
    assert "- 1x AssertionError: acknowledged and not in the log: 1, such as ['wamid.7']\n" in text
    assert text.count("Not run yet.") == 4


def test_the_pages_are_what_the_soak_has_counted() -> None:
    state, reliability = State(ROOT / "docs" / "soak.json"), ROOT / "docs" / "reliability.md"
    assert page(state) == (ROOT / "docs" / "soak.md").read_text("utf-8"), "python -m tests.soak report"
    text = reliability.read_text("utf-8")
    assert with_counts(text, state) == text, "python -m tests.soak report"


def test_no_refusal_counts_for_nothing_where_it_was_too_slow_to_be_refused() -> None:
    found = {"refused_rate": 0, "refused_pair": 0, "per_s": 74.0, "inbound": 650, "seconds": 130}
    assert _within(found) == "yes"
    assert _within(found | {"refused_pair": 1}) == "no"
    assert _within(found | {"per_s": 20.0}) == "not at that rate"


def test_of_memory_the_time_is_left_out_in_which_it_fills_up() -> None:
    filling = [(float(minute), 50.0 + 2 * minute) for minute in range(5)]
    flat = [(float(minute), 60.0) for minute in range(5, 20)]
    judged = _judged(filling + flat)
    assert judged == {
        "mb_at_start": 50.0,
        "mb_then": 60.0,
        "mb_at_end": 60.0,
        "mb_most": 60.0,
        "mb_per_hour": 0.0,
    }
    growing = _judged([(float(minute), 50.0 + minute) for minute in range(20)])
    assert growing["mb_per_hour"] == 60.0


def test_rates_are_told_by_tens_of_seconds() -> None:
    samples = [{"at": float(at), "accepted": 40.0 * min(at, 30)} for at in range(61)]
    assert _tens(samples, 10.0, 59.0) == [40.0, 40.0, 0.0, 0.0]


def test_recipients_are_mixed() -> None:
    people = _mixed(10_000, random.Random(1))
    assert len(people) == 10_000
    assert people[:600].count(people[0]) == 60
    assert len(set(people)) == 10 + 300 + 10_000 - 600 - 1_500
