"""How often one contact may be answered."""

from __future__ import annotations

from whatsapp.loop_guard import LoopGuard


def test_so_many_a_minute_and_no_more_for_each_contact() -> None:
    guard = LoopGuard(2)
    assert [guard.allows("ann", str(n), n) for n in range(3)] == [True, True, False]
    assert guard.allows("bob", "0", 2)
    assert not guard.allows("ann", "3", 59_999)
    assert guard.allows("ann", "3", 60_000)
    assert not guard.allows("ann", "4", 60_000)


def test_what_was_counted_is_counted_once() -> None:
    guard = LoopGuard(1)
    assert all(guard.allows("ann", "same", now) for now in range(5))
    assert not guard.allows("ann", "other", 5)


def test_contacts_of_long_ago_are_forgotten() -> None:
    guard = LoopGuard(1)
    for n in range(20_003):
        guard.allows(f"c{n}", "1", n * 10)
    assert len(guard._given) < 20_000
