"""When contacts were last heard from, and since when no webhook was missed, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from store.base import Store
from store.records import Window, intake_at

MakeStore = Callable[[], Store]
NUMBER, OTHER = "100", "200"
GAP_MS = 60_000
NOW = 1_700_000_000_000


# -- when a contact was last heard from --------------------------------------------------------------------


async def test_who_was_never_heard_from_is_not_known(store: Store) -> None:
    assert await store.find_inbound(NUMBER, ["ann"]) == {}
    assert await store.find_inbound(NUMBER, []) == {}


async def test_a_time_is_kept_per_number_and_contact(store: Store) -> None:
    await store.note_inbound([Window(NUMBER, "ann", 5), Window(NUMBER, "bob", 6), Window(OTHER, "ann", 7)])
    assert await store.find_inbound(NUMBER, ["ann", "bob", "eve"]) == {"ann": 5, "bob": 6}
    assert await store.find_inbound(OTHER, ["ann", "bob"]) == {"ann": 7}


async def test_the_latest_time_stays_in_whatever_order_they_come(store: Store) -> None:
    await store.note_inbound([Window(NUMBER, "ann", 5)])
    await store.note_inbound([Window(NUMBER, "ann", 9), Window(NUMBER, "ann", 7)])
    await store.note_inbound([Window(NUMBER, "ann", 8)])
    await store.note_inbound([])
    assert await store.find_inbound(NUMBER, ["ann"]) == {"ann": 9}


async def test_the_latest_time_stays_of_calls_under_way_at_once(store: Store) -> None:
    await asyncio.gather(
        *(store.note_inbound([Window(NUMBER, "ann", at), Window(NUMBER, str(at), 1)]) for at in range(1, 20))
    )
    assert await store.find_inbound(NUMBER, ["ann", "7", "19"]) == {"ann": 19, "7": 1, "19": 1}


async def test_a_time_that_may_not_be_the_first_counts_only_for_who_is_known(store: Store) -> None:
    await store.note_inbound([Window(NUMBER, "ann", 5)])
    await store.note_inbound([Window(NUMBER, who, 9, first=False) for who in ("ann", "bob")])
    await store.note_inbound([Window(NUMBER, "ann", 7, first=False)])
    assert await store.find_inbound(NUMBER, ["ann", "bob"]) == {"ann": 9}
    await store.note_inbound([Window(NUMBER, "eve", 3), Window(NUMBER, "eve", 4, first=False)])
    assert await store.find_inbound(NUMBER, ["eve"]) == {"eve": 4}


async def test_many_contacts_are_noted_at_once(store: Store) -> None:
    names = [f"c{n}" for n in range(150)]
    await store.note_inbound([Window(NUMBER, name, n) for n, name in enumerate(names)])
    assert await store.find_inbound(NUMBER, names) == {name: n for n, name in enumerate(names)}


async def test_who_was_not_heard_from_for_long_is_forgotten(store: Store) -> None:
    await store.note_inbound([Window(NUMBER, f"c{n}", n) for n in range(620)])
    assert await store.sweep_inbound(510) == 510
    assert await store.sweep_inbound(510) == 0
    assert await store.find_inbound(NUMBER, ["c0", "c509", "c510", "c619"]) == {"c510": 510, "c619": 619}


async def test_times_survive_the_process(make_store: MakeStore) -> None:
    first = make_store()
    await first.open()
    await first.note_inbound([Window(NUMBER, "ann", 5)])
    await first.note_intake(NOW, GAP_MS)
    await first.close()
    second = make_store()
    await second.open()
    assert await second.find_inbound(NUMBER, ["ann"]) == {"ann": 5}
    assert await second.note_intake(NOW + 10, GAP_MS) == NOW
    await second.close()


# -- since when no webhook was missed ----------------------------------------------------------------------


async def test_intake_begins_with_the_first_note(store: Store) -> None:
    assert await store.note_intake(NOW, GAP_MS) == NOW
    assert await store.note_intake(NOW + GAP_MS, GAP_MS) == NOW
    assert await store.note_intake(NOW + 2 * GAP_MS, GAP_MS) == NOW


async def test_a_gap_ends_with_the_note_after_it(store: Store) -> None:
    await store.note_intake(NOW, GAP_MS)
    after = NOW + GAP_MS + 1
    assert await store.note_intake(after, GAP_MS) == after
    assert await store.note_intake(after + 5, GAP_MS) == after


async def test_what_is_told_to_be_broken_is_a_gap_that_ends_now(store: Store) -> None:
    await store.note_intake(NOW, GAP_MS)
    assert await store.note_intake(NOW + 5, GAP_MS, broken=True) == NOW + 5
    assert await store.note_intake(NOW + 6, GAP_MS) == NOW + 5


async def test_a_note_that_comes_late_takes_nothing_back(store: Store) -> None:
    """Of two processes whose clocks differ a little, or whose writes overtook each other."""
    await store.note_intake(NOW, GAP_MS)
    await store.note_intake(NOW + 50_000, GAP_MS, broken=True)
    assert await store.note_intake(NOW + 40_000, GAP_MS, broken=True) == NOW + 50_000
    assert await store.note_intake(NOW + 50_000 + GAP_MS, GAP_MS) == NOW + 50_000


async def test_a_clock_that_was_put_back_makes_a_gap(store: Store) -> None:
    await store.note_intake(NOW, GAP_MS)
    await store.note_intake(NOW + 1, GAP_MS)
    back = NOW - 10 * GAP_MS
    assert await store.note_intake(back, GAP_MS) == back
    # From here on gaps are seen by the clock as it is now.
    assert await store.note_intake(back + GAP_MS + 1, GAP_MS) == back + GAP_MS + 1


async def test_processes_that_note_at_once_keep_one_record(make_store: MakeStore, store: Store) -> None:
    others = [store] if store.atomic else [store, make_store(), make_store()]
    for other in others[1:]:
        await other.open()
    await store.note_intake(NOW, GAP_MS)
    sinces = await asyncio.gather(*(other.note_intake(NOW + n, GAP_MS) for n, other in enumerate(others)))
    assert set(sinces) == {NOW}
    for other in others[1:]:
        await other.close()


@pytest.mark.parametrize(
    ("found", "now", "broken", "after"),
    [
        (None, 100, False, (100, 100)),
        (None, 100, True, (100, 100)),
        ((10, 90), 100, False, (10, 100)),
        ((10, 90), 100, True, (100, 100)),
        ((10, 40), 100, False, (100, 100)),
        ((10, 50), 100, False, (10, 100)),
        ((95, 110), 100, False, (95, 110)),
        ((105, 110), 100, True, (105, 110)),
        ((10, 151), 100, False, (100, 100)),
    ],
)
def test_the_record_after_a_note(
    found: tuple[int, int] | None, now: int, broken: bool, after: tuple[int, int]
) -> None:
    assert intake_at(found, now, 50, broken) == after
