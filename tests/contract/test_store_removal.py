"""Removal by age: what goes, in which portions, and what stays whole."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from store import mongo_removal, sqlite_removal
from store.base import Store
from store.records import Change, Cursor, LogBounds, NewRow, NewTask, Place, TaskPlace
from store.states import State
from store.threads import Said, ThreadNews
from tests.contract.conftest import MakeStore
from tests.support.store_values import (
    LANE,
    add_task,
    bring,
    lane_lease,
    new_event,
    new_row,
    new_task,
    view,
)
from whatsapp.outcome import requeued

FOREVER = 1 << 52
START = TaskPlace(0, "")


async def fill(store: Store, *sizes: int) -> list[int]:
    """Append events, so many together each time; their offsets."""
    offsets = []
    for turn, size in enumerate(sizes):
        added = await store.append_events([new_event(f"{turn}-{n}") for n in range(size)])
        offsets += [event.offset for event in added]
    return offsets


async def remove_all(store: Store, upto: int, before: int = FOREVER, limit: int = 100) -> int:
    total = 0
    while removed := await store.remove_events(upto, before, limit):
        total += removed
    return total


# -- events ------------------------------------------------------------------------------------------------


async def test_the_oldest_events_go_and_the_others_keep_their_places(store: Store) -> None:
    offsets = await fill(store, 1, 1, 1, 1)
    before = await store.events_after(0, 10)
    assert await remove_all(store, offsets[1]) == 2
    assert await store.events_after(0, 10) == before[2:]
    assert await store.log_bounds() == LogBounds(offsets[1], offsets[3])
    (fresh,) = await store.append_events([new_event("fresh")])
    assert fresh.prev == offsets[3]


async def test_the_newest_event_stays_however_old(store: Store) -> None:
    assert await remove_all(store, FOREVER) == 0
    offsets = await fill(store, 1, 1, 1)
    await remove_all(store, FOREVER)
    assert [event.offset for event in await store.events_after(0, 10)] == offsets[2:]
    (fresh,) = await store.append_events([new_event("fresh")])
    assert fresh.offset > offsets[2]


async def test_nothing_goes_past_the_place_that_is_given(store: Store) -> None:
    offsets = await fill(store, 3, 3, 3)
    # In the middle of a batch, which may have to stay whole.
    assert await remove_all(store, offsets[4]) in (3, 5)
    assert offsets[5:] == [event.offset for event in await store.events_after(offsets[4], 10)]


async def test_young_events_stay(make_store: MakeStore, io_loop: IOLoop) -> None:
    store = make_store()
    await store.open()
    young = int(time.time() * 1000) - 60_000
    old_and_young = [new_event("old"), new_event("young")]
    await store.append_events([old_and_young[0]])
    assert await store.remove_events(FOREVER, 1, 100) == 0
    await store.append_events([old_and_young[1], new_event("newest")])
    if store.atomic:
        # Goes by when each was learnt of; the other store by when its batch was kept.
        assert await remove_all(store, FOREVER, young) == 2
    else:
        assert await remove_all(store, FOREVER, young) == 0
    await store.close()


async def test_a_removed_event_is_new_when_it_is_told_again(store: Store) -> None:
    offsets = await fill(store, 1, 1)
    await remove_all(store, offsets[0])
    assert await store.append_events([new_event("1-0")]) == []
    assert len(await store.append_events([new_event("0-0")])) == 1


async def test_a_portion_is_no_larger_than_asked_for(store: Store) -> None:
    await fill(store, *[1] * 12)
    assert await store.remove_events(FOREVER, FOREVER, 5) == 5
    assert await store.remove_events(FOREVER, FOREVER, 5) == 5
    assert await store.remove_events(FOREVER, FOREVER, 5) == 1


@pytest.mark.parametrize("kind", ["sqlite", "mongo"])
def test_a_reader_past_what_was_removed_misses_nothing(
    kind: str, request: pytest.FixtureRequest, io_loop: IOLoop
) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8),
        cursors=st.lists(st.integers(0, 40), min_size=1, max_size=4),
        limit=st.integers(1, 9),
    )
    def holds(sizes: list[int], cursors: list[int], limit: int) -> None:
        io_loop.run_sync(lambda: one_history(make, sizes, cursors, limit))

    make = request.getfixturevalue("make_fresh")[kind]
    holds()


async def one_history(make: MakeStore, sizes: list[int], cursors: list[int], limit: int) -> None:
    store = make()
    await store.open()
    try:
        offsets = await fill(store, *sizes)
        events = await store.events_after(0, 100)
        places = [0, *offsets]
        readers = {f"r{n}": places[min(place, len(offsets))] for n, place in enumerate(cursors)}
        for name, offset in readers.items():
            await store.save_cursor(Cursor(name, offset))
        saved = await store.list_cursors()
        assert {cursor.name: cursor.offset for cursor in saved} == readers
        await remove_all(store, min(cursor.offset for cursor in saved), limit=limit)
        bounds = await store.log_bounds()
        assert bounds.head == offsets[-1]
        for offset in readers.values():
            assert bounds.floor <= offset
            left = await store.events_after(offset, 100)
            assert left == [event for event in events if event.offset > offset]
        kept = await store.events_after(bounds.floor, 100)
        assert kept == [event for event in events if event.offset > bounds.floor]
        assert len(kept) >= 1
        past = await store.count_past([bounds.floor, offsets[-1]])
        assert past == {bounds.floor: len(kept), offsets[-1]: 0}
    finally:
        await store.close()


# -- tasks -------------------------------------------------------------------------------------------------


async def retire_all(store: Store, before: int, limit: int = 2) -> None:
    place: TaskPlace | None = START
    while place is not None:
        place = await store.retire_tasks(before, place, limit)


async def remove_retired(store: Store, limit: int = 2) -> int:
    total = 0
    while removed := await store.remove_retired(limit):
        total += removed
    return total


async def ended(store: Store, task_id: str, *states: State) -> list[str]:
    """A task whose rows, made at 1000, came to these states at 1."""
    ids = await add_task(store, task_id, [new_row(n) for n in range(len(states))])
    lease = await lane_lease(store)
    await bring(store, lease, dict(zip(ids, states, strict=True)))
    return ids


async def test_tasks_with_many_rows_are_looked_at_one_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite_removal, mongo_removal):
        monkeypatch.setattr(module, "_LOOKED_AT", 3)
    ids = [id for task in "abcd" for id in await ended(store, task, State.READ, State.READ)]
    place = await store.retire_tasks(FOREVER, START, 10)
    assert place is not None and place.id == "b"
    assert [task.id for task in await store.list_tasks(10)] == ["d", "c"]
    await retire_all(store, FOREVER, limit=10)
    await remove_retired(store)
    assert await store.find_rows(ids) == {}


async def test_a_task_goes_with_its_rows_once_all_of_them_are_old(store: Store) -> None:
    ids = await ended(store, "a", State.READ, State.FAILED, State.CANCELLED, State.SENT, State.EXPIRED)
    await store.apply([Change(ids[0], State.PLAYED, 2000, wamid="w1", note=b"{}")])
    await retire_all(store, 2000)
    assert await store.find_task("a") is not None
    await retire_all(store, 2001)
    assert await store.find_task("a") is None
    assert await store.list_tasks(10) == []
    assert await remove_retired(store) == 6
    assert await store.find_rows(ids) == {}
    assert await store.find_by_wamid(["w1"]) == {}
    assert await store.dead_letters(10) == []
    assert await store.remove_retired(10) == 0
    # Its id may be used again.
    assert await store.create_task(new_task("a"), [new_row()])


@pytest.mark.parametrize("state", [State.QUEUED, State.SENDING, State.UNKNOWN])
async def test_a_task_with_an_open_row_stays_whole(store: Store, state: State) -> None:
    ids = await ended(store, "a", State.READ, state)
    await ended(store, "b", State.READ)
    await retire_all(store, FOREVER)
    assert await remove_retired(store) == 2
    assert set(await store.find_rows(ids)) == set(ids)
    task = await store.find_task("a")
    assert task is not None
    assert task.counts == {State.READ: 1, state: 1}


async def test_a_task_that_is_not_old_or_not_ready_stays(store: Store) -> None:
    await ended(store, "a", State.READ)
    task = NewTask("b", "text", "api", 1, 1000)
    assert await store.create_task(task, [new_row()], ready=False)
    await retire_all(store, 1000)
    assert await store.find_task("a") is not None
    await retire_all(store, FOREVER)
    await remove_retired(store)
    assert await store.find_task("a") is None
    await store.mark_ready("b")
    assert await store.find_task("b") is not None


async def test_a_row_that_is_queued_again_while_its_task_goes_is_sent(store: Store) -> None:
    """A person sends a dead letter anew at the very moment at which it would be removed."""
    ids = await ended(store, "a", State.FAILED, State.READ, State.READ)
    await retire_all(store, FOREVER)
    row = (await view(store, ids[0])).row
    assert await store.apply([requeued(row, 5000)]) == [True]
    assert await remove_retired(store) == 3
    assert set(await store.find_rows(ids)) == {ids[0]}
    task = await store.find_task("a")
    assert task is not None
    assert (task.counts, task.task.total, task.completed_at) == ({State.QUEUED: 1}, 1, 0)
    due = await store.read_ahead(LANE, row.priority, Place(0, 0), FOREVER, 10)
    assert [one.id for one in due] == [ids[0]]
    lease = await lane_lease(store)
    await bring(store, lease, {ids[0]: State.FAILED})
    assert await store.finished_tasks(["a"]) == {"a"}


async def test_a_removal_that_broke_off_goes_on_in_the_next_process(
    make_store: MakeStore, io_loop: IOLoop
) -> None:
    store = make_store()
    await store.open()
    ids = await ended(store, "a", *[State.READ] * 5)
    await retire_all(store, FOREVER)
    assert await store.remove_retired(2) == 2
    assert len(await store.find_rows(ids)) == 3
    await store.close()
    store = make_store()
    await store.open()
    assert await store.find_task("a") is None
    assert await remove_retired(store) == 4
    assert await store.find_rows(ids) == {}
    await store.close()


async def test_what_is_retired_holds_up_no_lane(store: Store) -> None:
    await ended(store, "a", State.READ)
    waiting = await add_task(store, "b", [NewRow(0, LANE, "c", 1, 1000, b"{}")])
    await retire_all(store, FOREVER)
    assert (await store.depth(LANE))[State.QUEUED] == 1
    due = await store.read_ahead(LANE, 1, Place(0, 0), FOREVER, 10)
    assert [row.id for row in due] == waiting


# -- conversations and claims ------------------------------------------------------------------------------


async def note(store: Store, *said: Said) -> None:
    lease = await store.acquire_lease("consumer:conversations", "me", 60_000)
    assert lease is not None
    await store.note_threads(ThreadNews(said), Cursor("conversations", 1), lease)


async def test_old_messages_of_conversations_go_and_threads_with_their_last(store: Store) -> None:
    await note(
        store,
        Said(1, "ann", LANE, 10, "in", body=b"1"),
        Said(2, "bob", LANE, 20, "in", body=b"2"),
        Said(3, "ann", LANE, 30, "out", "row"),
        Said(4, "ann", "200", 40, "in", body=b"4"),
    )
    assert await store.remove_said(30, 1) == 1
    assert await store.remove_said(30, 10) == 1
    assert await store.remove_said(30, 10) == 0
    assert [one.offset for one in await store.said_of("ann", 10)] == [3, 4]
    assert await store.threads_of("bob") == []
    assert {one.phone_number_id for one in await store.threads_of("ann")} == {LANE, "200"}
    assert await store.remove_said(FOREVER, 10) == 2
    assert await store.threads_of("ann") == []
    assert await store.list_threads([LANE, "200"], 10) == []


async def test_old_claims_go(store: Store) -> None:
    assert await store.claim_once("a", "one", 1000, 50)
    assert await store.claim_once("b", "one", 2000, 50)
    assert await store.remove_claims(2000, 10) == 1
    assert await store.remove_claims(2000, 10) == 0
    assert await store.claim_once("a", "two", 1001, 50)
    assert not await store.claim_once("b", "two", 2001, 50)
