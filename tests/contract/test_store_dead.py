"""Dead letters and the history of a row's attempts, on every store."""

from __future__ import annotations

import msgspec
import pytest

from store.base import Store
from store.records import ALL_DEAD, NOTES_FIRST, NOTES_LAST, Change, DeadFilter, History, Lease, NewRow, Place
from store.states import State
from tests.support.store_values import add_task, bring, lane_lease, new_row, read_all, view

# -- history -------------------------------------------------------------------------------------------


async def attempt(store: Store, lease: Lease, note: bytes, to: State = State.QUEUED) -> bool:
    """One attempt at ``task-0``, and what is noted of it."""
    row = (await view(store, "task-0")).row
    assert await store.mark_sending(lease, [row]) == {"task-0"}
    (moved,) = await store.apply([Change("task-0", to, 2, due=2, note=note)])
    return moved


async def test_a_row_without_notes_has_no_history(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.SENT})
    assert await store.find_history("task-0") == History((), 0)
    assert await store.find_history("task-1") == await store.find_history("nothing") == History((), 0)


async def test_notes_are_kept_in_the_order_in_which_the_row_moved(store: Store) -> None:
    await add_task(store, "task", 2)
    lease = await lane_lease(store)
    for n in range(3):
        await attempt(store, lease, f'{{"n":{n}}}'.encode())
    assert await store.find_history("task-0") == History((b'{"n":0}', b'{"n":1}', b'{"n":2}'), 0)
    assert await store.find_history("task-1") == History((), 0)


async def test_a_move_that_a_guard_stops_leaves_no_note(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.SENDING})
    again = Change("task-0", State.QUEUED, 2, due=2, attempt=1, note=b'"kept"')
    assert await store.apply([again, again]) == [True, False]
    assert await store.apply([Change("task-0", State.FAILED, 2, attempt=7, note=b'"no"')]) == [False]
    assert await store.find_history("task-0") == History((b'"kept"',), 0)


@pytest.mark.parametrize("count", range(NOTES_FIRST + NOTES_LAST - 1, NOTES_FIRST + NOTES_LAST + 4))
async def test_the_first_and_the_last_notes_are_kept_and_the_others_counted(store: Store, count: int) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    notes = [str(n).encode() for n in range(count)]
    for note in notes:
        assert await attempt(store, lease, note)
    left_out = max(0, count - NOTES_FIRST - NOTES_LAST)
    kept = (*notes[:NOTES_FIRST], *notes[NOTES_FIRST + left_out :])
    assert await store.find_history("task-0") == History(kept, left_out)


async def test_notes_of_one_row_in_one_call_are_all_kept(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.SENDING})
    moved = await store.apply(
        [
            Change("task-0", State.SENT, 2, note=b"1"),
            Change("task-0", State.FAILED, 3, note=b"2"),
            Change("task-0", State.QUEUED, 4, due=4, attempt=1, fresh=True, note=b"3"),
        ]
    )
    assert moved == [True] * 3
    assert await store.find_history("task-0") == History((b"1", b"2", b"3"), 0)


async def test_a_row_tells_when_it_was_last_claimed(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    (queued,) = await read_all(store)
    assert queued.claimed_at == 0
    await store.mark_sending(lease, [queued], 1234)
    assert (await view(store, "task-0")).row.claimed_at == 1234
    await store.apply([Change("task-0", State.QUEUED, 2, due=2)])
    (queued,) = await read_all(store)
    assert queued.claimed_at == 1234
    await store.mark_sending(lease, [queued], 5678)
    assert (await view(store, "task-0")).row.claimed_at == 5678


# -- dead letters --------------------------------------------------------------------------------------


async def fail(store: Store, lease: Lease, row_id: str, at: int, name: str = "broken", code: int = 0) -> None:
    await bring(store, lease, {row_id: State.SENDING})
    error = msgspec.json.encode({"name": name, "code": code or None})
    change = Change(row_id, State.FAILED, at, error=error, error_name=name, error_code=code)
    assert await store.apply([change]) == [True]


async def dead(
    store: Store, limit: int = 100, before: Place | None = None, only: DeadFilter = ALL_DEAD
) -> list[str]:
    return [found.row.id for found in await store.dead_letters(limit, before, only)]


async def test_dead_letters_are_the_rows_that_failed_from_the_last_on(store: Store) -> None:
    await add_task(store, "task", 7)
    lease = await lane_lease(store)
    for n, at in ((3, 20), (1, 30), (5, 10), (0, 20), (2, 20)):
        await fail(store, lease, f"task-{n}", at)
    await bring(store, lease, {"task-6": State.SENT})
    # Rows are taken in the order of acceptance: of one moment the one accepted last comes first.
    assert await dead(store) == ["task-1", "task-3", "task-2", "task-0", "task-5"]
    assert await dead(store, 2) == ["task-1", "task-3"]
    first = await store.dead_letters(2)
    place = Place(first[-1].ended_at, first[-1].row.seq)
    assert await dead(store, 2, place) == ["task-2", "task-0"]
    assert await dead(store, 9, Place(10, (await view(store, "task-5")).row.seq)) == []
    assert first[0] == await view(store, "task-1")


async def test_a_row_that_is_retried_or_arrives_after_all_is_no_dead_letter(store: Store) -> None:
    await add_task(store, "task", 3)
    lease = await lane_lease(store)
    for n in range(3):
        await fail(store, lease, f"task-{n}", 20)
    await store.apply([Change("task-0", State.QUEUED, 30, due=30, attempt=1, fresh=True)])
    await store.apply([Change("task-1", State.DELIVERED, 30)])
    assert await dead(store) == ["task-2"]
    assert await store.count_dead(0, 99) == (1, {"broken": 1})
    await fail(store, lease, "task-0", 40)
    assert await dead(store) == ["task-0", "task-2"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (DeadFilter(), ["b-1", "b-0", "a-1", "a-0"]),
        (DeadFilter(lane="100"), ["b-1", "a-1", "a-0"]),
        (DeadFilter(task_id="b"), ["b-1", "b-0"]),
        (DeadFilter(contact="ana"), ["b-0", "a-0"]),
        (DeadFilter(error_name="closed"), ["b-1", "a-0"]),
        (DeadFilter(error_code=131026), ["b-0", "a-1"]),
        (DeadFilter(since=20), ["b-1", "b-0", "a-1"]),
        (DeadFilter(until=30), ["a-1", "a-0"]),
        (DeadFilter(since=20, until=40), ["b-0", "a-1"]),
        (DeadFilter(lane="100", contact="ana", error_name="closed"), ["a-0"]),
        (DeadFilter(lane="100", error_code=131026, since=30), []),
        (DeadFilter(task_id="c"), []),
    ],
)
async def test_dead_letters_are_filtered(store: Store, only: DeadFilter, expected: list[str]) -> None:
    await add_task(store, "a", [new_row(0, contact="ana"), new_row(1, contact="bo")])
    await add_task(store, "b", [new_row(0, contact="ana", lane="200"), new_row(1, contact="bo")])
    lease, other = await lane_lease(store), await lane_lease(store, name="lane:200")
    await fail(store, lease, "a-0", 10, "closed", 131047)
    await fail(store, lease, "a-1", 20, "nobody", 131026)
    await fail(store, other, "b-0", 30, "nobody", 131026)
    await fail(store, lease, "b-1", 40, "closed", 131047)
    assert await dead(store, only=only) == expected
    pages, before = [], None
    while found := await store.dead_letters(1, before, only):
        pages.append(found[0].row.id)
        before = Place(found[0].ended_at, found[0].row.seq)
    assert pages == expected


async def test_dead_letters_are_counted_by_name_since_a_time(store: Store) -> None:
    assert await store.count_dead(0, 99) == (0, {})
    await add_task(store, "task", 5)
    lease = await lane_lease(store)
    for n, (at, name) in enumerate(((10, "a"), (20, "a"), (20, "b"), (30, "a"))):
        await fail(store, lease, f"task-{n}", at, name)
    assert await store.count_dead(0, 99) == (4, {"a": 3, "b": 1})
    assert await store.count_dead(20, 99) == (4, {"a": 2, "b": 1})
    assert await store.count_dead(31, 99) == (4, {})


async def test_no_more_dead_letters_are_counted_than_asked_for_and_those_are_the_last(store: Store) -> None:
    await add_task(store, "task", 5)
    lease = await lane_lease(store)
    for n, (at, name) in enumerate(((10, "a"), (20, "a"), (21, "b"), (30, "a"))):
        await fail(store, lease, f"task-{n}", at, name)
    assert await store.count_dead(0, 1) == (1, {"a": 1})
    assert await store.count_dead(0, 3) == (3, {"a": 2, "b": 1})
    assert await store.count_dead(25, 3) == (3, {"a": 1})


async def test_an_error_without_a_name_is_counted_under_none(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.FAILED})
    assert await store.count_dead(0, 99) == (1, {"": 1})


async def test_a_later_error_takes_the_place_of_the_former_with_its_name(store: Store) -> None:
    rows: list[NewRow] = [new_row()]
    await add_task(store, "task", rows)
    lease = await lane_lease(store)
    await fail(store, lease, "task-0", 10, "closed", 131047)
    await store.apply([Change("task-0", State.QUEUED, 20, due=20, attempt=1, fresh=True)])
    await fail(store, lease, "task-0", 30, "nobody", 0)
    assert await dead(store, only=DeadFilter(error_name="closed")) == []
    assert await dead(store, only=DeadFilter(error_code=131047)) == []
    assert await dead(store, only=DeadFilter(error_name="nobody")) == ["task-0"]
