"""What was read with a page and not asked for yet is given once, soon, and to few."""

from __future__ import annotations

from store.mongo_ahead import Ahead
from store.records import Event


def events(*offsets: int) -> list[Event]:
    return [Event(offset, offset - 1, f"{offset}", "a", 0, b"{}") for offset in offsets]


def test_what_follows_an_offset_is_given_once() -> None:
    ahead = Ahead()
    ahead.keep(5, events(6, 7), 1.0)
    ahead.keep(9, [], 1.0)
    assert ahead.take(4, 1.5) == ()
    assert ahead.take(5, 1.5) == events(6, 7)
    assert ahead.take(5, 1.5) == ahead.take(9, 1.5) == ()


def test_what_is_not_fetched_soon_is_forgotten() -> None:
    ahead = Ahead()
    ahead.keep(5, events(6), 1.0)
    assert ahead.take(5, 3.0) == ()


def test_the_oldest_makes_room() -> None:
    ahead = Ahead()
    for offset in range(6):
        ahead.keep(offset, events(offset + 1), 1.0)
    assert [offset for offset in range(6) if ahead.take(offset, 1.0)] == [2, 3, 4, 5]
