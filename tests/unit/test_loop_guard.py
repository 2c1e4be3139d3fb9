"""How often one contact may be answered."""

from __future__ import annotations

from whatsapp.loop_guard import LoopGuard


def give(guard: LoopGuard, contact: str, token: str, now: int) -> bool:
    """Give one, where there is room."""
    room = guard.has_room(contact, token, now)
    if room:
        guard.count(contact, token, now)
    return room


def test_so_many_a_minute_and_no_more_for_each_contact() -> None:
    guard = LoopGuard(2)
    assert [give(guard, "ann", str(n), n) for n in range(3)] == [True, True, False]
    assert give(guard, "bob", "0", 2)
    assert not give(guard, "ann", "3", 59_999)
    assert give(guard, "ann", "3", 60_000)
    assert not give(guard, "ann", "4", 60_000)


def test_what_was_counted_is_counted_once() -> None:
    guard = LoopGuard(1)
    assert all(give(guard, "ann", "same", now) for now in range(5))
    assert not give(guard, "ann", "other", 5)


def test_contacts_of_long_ago_are_forgotten() -> None:
    guard = LoopGuard(1)
    for n in range(20_003):
        give(guard, f"c{n}", "1", n * 10)
    assert len(guard._given) < 20_000
