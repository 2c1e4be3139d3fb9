"""Tasks on every store: how they are stored, shown, counted, ended and swept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from store.base import Store
from store.records import Change, NewRow
from store.states import State
from tests.support.store_values import (
    LANE,
    START,
    Listener,
    add_task,
    bring,
    lane_lease,
    new_event,
    new_row,
    new_task,
    read_all,
    view,
)

MakeStore = Callable[[], Store]


# -- storing -------------------------------------------------------------------------------------------


async def test_a_stored_task_has_its_rows_as_they_were_given(store: Store) -> None:
    row = NewRow(0, LANE, "contact", 2, 1234, b'{"to":"1"}', expires_at=9_000, callback_data="mine")
    assert await store.create_task(new_task("task", created_at=77), [row]) is True
    found = (await view(store, "task-0")).row
    assert (found.id, found.task_id, found.lane, found.contact) == ("task-0", "task", LANE, "contact")
    assert (found.priority, found.due, found.payload) == (2, 1234, b'{"to":"1"}')
    assert (found.expires_at, found.callback_data, found.created_at) == (9_000, "mine", 77)
    assert (found.state, found.attempt, found.failures, found.doubt) == (State.QUEUED, 0, 0, False)


async def test_a_new_row_has_no_fate_yet(store: Store) -> None:
    await add_task(store)
    found = await view(store, "task-0")
    assert (found.wamids, found.error) == ((), b"")
    assert (found.sent_at, found.delivered_at, found.read_at, found.ended_at) == (0, 0, 0, 0)


async def test_a_known_task_is_not_stored_again(store: Store) -> None:
    listener = Listener(store)
    await store.create_task(new_task(total=1), [new_row(0)])
    again = await store.create_task(new_task(total=2), [new_row(0), new_row(1)], [new_event("again")])
    assert again is False
    assert [found.row.id for found in await store.task_rows("task", -1, 10)] == ["task-0"]
    assert listener.events == await store.events_after(0, 10) == []
    task = await store.find_task("task")
    assert task is not None and task.task.total == 1


async def test_of_calls_for_one_task_under_way_at_once_one_stores_it(store: Store) -> None:
    answers = await asyncio.gather(
        *(store.create_task(new_task(), [new_row()], [new_event("created")]) for _ in range(8))
    )
    assert answers.count(True) == 1
    assert len(await read_all(store)) == 1
    assert [event.key for event in await store.events_after(0, 10)] == ["created"]


async def test_many_tasks_stored_at_once_are_all_there(store: Store) -> None:
    answers = await asyncio.gather(*(store.create_task(new_task(f"{n}"), [new_row()]) for n in range(40)))
    assert all(answers)
    assert {row.id for row in await read_all(store)} == {f"{n}-0" for n in range(40)}


async def test_the_events_of_a_new_task_are_in_the_log_when_it_is_stored(store: Store) -> None:
    listener = Listener(store)
    await store.create_task(new_task(), [new_row()], [new_event("a"), new_event("b")])
    assert listener.keys == ["a", "b"]
    assert await store.events_after(0, 10) == listener.events


async def test_rows_are_numbered_in_the_order_of_acceptance(store: Store) -> None:
    await add_task(store, "b", 3)
    await add_task(store, "a", 2)
    rows = await store.find_rows(["b-0", "b-1", "b-2", "a-0", "a-1"])
    numbers = [rows[row_id].row.seq for row_id in ("b-0", "b-1", "b-2", "a-0", "a-1")]
    assert numbers == sorted(set(numbers)) and numbers[0] > 0


async def test_a_row_to_be_sent_at_once_is_due_when_the_store_takes_it(store: Store) -> None:
    for n in range(5):
        await add_task(store, f"{n}", [new_row(due=0)])
    found = await store.find_rows([f"{n}-0" for n in range(5)])
    dues = [found[f"{n}-0"].row.due for n in range(5)]
    assert dues[0] > 0 and dues == sorted(dues)
    assert [row.id for row in await read_all(store, now=dues[-1])] == [f"{n}-0" for n in range(5)]


async def test_a_task_without_rows_can_be_stored(store: Store) -> None:
    assert await store.create_task(new_task(total=0), [])
    assert await store.finished_tasks(["task"]) == {"task"}


# -- in parts ------------------------------------------------------------------------------------------


async def test_a_task_that_is_not_ready_is_hidden(store: Store) -> None:
    assert await store.create_task(new_task(), [new_row(contact="c")], ready=False)
    assert await read_all(store) == []
    assert await store.read_contact(LANE, 1, "c", START, 10_000, 10) == []
    assert await store.rows_in_state(LANE, State.QUEUED, 0, 10) == []
    assert await store.find_task("task") is None
    assert await store.finished_tasks(["task"]) == set()


async def test_a_task_that_is_not_ready_is_known(store: Store) -> None:
    await store.create_task(new_task(), [new_row()], ready=False)
    assert not await store.create_task(new_task(), [new_row()], ready=False)
    assert not await store.create_task(new_task(), [new_row()])
    assert await read_all(store) == []


async def test_rows_added_to_a_task_show_when_it_is_ready(store: Store) -> None:
    await store.create_task(new_task(total=4), [new_row(0)], ready=False)
    await store.add_rows("task", [new_row(1), new_row(2)])
    await store.add_rows("task", [new_row(3)])
    assert await read_all(store) == []
    await store.mark_ready("task")
    assert [row.id for row in await read_all(store)] == [f"task-{n}" for n in range(4)]
    task = await store.find_task("task")
    assert task is not None and task.counts[State.QUEUED] == 4


async def test_added_rows_are_created_with_their_task(store: Store) -> None:
    await store.create_task(new_task(created_at=77), [], ready=False)
    await store.add_rows("task", [new_row(0)])
    assert (await view(store, "task-0")).row.created_at == 77


async def test_a_row_that_is_there_already_is_left_as_it_is(store: Store) -> None:
    await store.create_task(new_task(total=2), [new_row(0, payload=b'"old"')], ready=False)
    before = await view(store, "task-0")
    await store.add_rows("task", [new_row(0, payload=b'"new"'), new_row(1, payload=b'"new"')])
    await store.add_rows("task", [new_row(0, payload=b'"new"'), new_row(1, payload=b'"newer"')])
    assert await view(store, "task-0") == before
    assert (await view(store, "task-1")).row.payload == b'"new"'
    assert len(await store.task_rows("task", -1, 10)) == 2


async def test_a_ready_task_takes_no_more_rows(store: Store) -> None:
    await add_task(store)
    await store.add_rows("task", [new_row(1)])
    assert [found.row.id for found in await store.task_rows("task", -1, 10)] == ["task-0"]


async def test_making_a_task_ready_appends_events(store: Store) -> None:
    listener = Listener(store)
    await store.create_task(new_task(), [new_row()], ready=False)
    await store.mark_ready("task", [new_event("created")])
    assert listener.keys == ["created"]


async def test_a_task_can_be_made_ready_twice(store: Store) -> None:
    await store.create_task(new_task(), [new_row()], ready=False)
    await store.mark_ready("task", [new_event("created")])
    await store.mark_ready("task", [new_event("created")])
    assert len(await read_all(store)) == 1
    assert len(await store.events_after(0, 10)) == 1


# -- sweeping ------------------------------------------------------------------------------------------


async def test_sweeping_removes_old_tasks_that_never_became_ready(store: Store) -> None:
    for task_id, created_at in (("old", 100), ("older", 99), ("edge", 200), ("young", 300)):
        await store.create_task(new_task(task_id, created_at=created_at), [new_row()], ready=False)
    assert await store.sweep_unready(200) == 2
    rows = await store.find_rows(["old-0", "older-0", "edge-0", "young-0"])
    assert rows.keys() == {"edge-0", "young-0"}
    assert await store.sweep_unready(200) == 0


async def test_sweeping_leaves_ready_tasks(store: Store) -> None:
    await store.create_task(new_task("at-once", created_at=100), [new_row()])
    await store.create_task(new_task("later", created_at=100), [new_row()], ready=False)
    await store.mark_ready("later")
    assert await store.sweep_unready(1000) == 0
    assert {row.id for row in await read_all(store)} == {"at-once-0", "later-0"}


async def test_sweeping_takes_tasks_of_any_size(store: Store) -> None:
    await store.create_task(new_task(created_at=100), [new_row(n) for n in range(1100)], ready=False)
    await store.create_task(new_task("empty", created_at=100), (), ready=False)
    assert await store.sweep_unready(200) == 2
    assert await store.task_rows("task", -1, 10) == []


async def test_a_swept_task_can_be_stored_anew(store: Store) -> None:
    await store.create_task(new_task(created_at=100, total=2), [new_row(0), new_row(1)], ready=False)
    await store.sweep_unready(1000)
    assert await store.create_task(new_task(created_at=100), [new_row(0)])
    assert [row.id for row in await read_all(store)] == ["task-0"]


# -- reading -------------------------------------------------------------------------------------------


async def test_an_unknown_task_is_none_and_has_no_rows(store: Store) -> None:
    assert await store.find_task("task") is None
    assert await store.task_rows("task", -1, 10) == []


async def test_rows_of_a_task_are_paged_by_n(store: Store) -> None:
    await add_task(store, "task", [new_row(n) for n in (3, 0, 2, 1, 4)])
    await add_task(store, "other", 2)
    pages, after = [], -1
    while page := await store.task_rows("task", after, 2):
        pages.append([found.row.id for found in page])
        after = int(page[-1].row.id.rpartition("-")[2])
    assert pages == [["task-0", "task-1"], ["task-2", "task-3"], ["task-4"]]


async def test_a_task_is_found_with_the_counts_of_its_rows(store: Store) -> None:
    ids = await add_task(store, "task", 10)
    await add_task(store, "other", 2)
    states = dict(zip(ids, State, strict=True))
    await bring(store, await lane_lease(store), states)
    task = await store.find_task("task")
    assert task is not None
    assert task.task == new_task(total=10)
    assert {state: task.counts.get(state, 0) for state in State} == dict.fromkeys(State, 1)
    assert (task.completed_at, task.retrying, task.errors) == (0, 0, ())


async def test_rows_queued_after_an_attempt_count_as_retrying(store: Store) -> None:
    ids = await add_task(store, "task", 4)
    await bring(store, await lane_lease(store), dict.fromkeys(ids[:3], State.SENDING))
    await store.apply([Change(row_id, State.QUEUED, 1, due=2) for row_id in ids[:2]])
    task = await store.find_task("task")
    assert task is not None
    assert (task.counts[State.QUEUED], task.counts[State.SENDING], task.retrying) == (3, 1, 2)


async def test_rows_that_meta_took_count_as_taken_whatever_became_of_them(store: Store) -> None:
    ids = await add_task(store, "task", 5)
    states = (State.SENT, State.READ, State.FAILED, State.SENT, State.QUEUED)
    await bring(store, await lane_lease(store), dict(zip(ids, states, strict=True)))
    await store.apply([Change(ids[3], State.FAILED, 1)])
    task = await store.find_task("task")
    assert task is not None
    assert (task.taken, task.counts[State.FAILED]) == (3, 2)


async def test_the_first_errors_of_a_task_are_found_by_n(store: Store) -> None:
    ids = await add_task(store, "task", 26)
    await bring(store, await lane_lease(store), dict.fromkeys(ids, State.SENDING))
    failed = [row_id for row_id in ids if row_id != "task-3"]
    await store.apply([Change(row_id, State.FAILED, 1, error=row_id.encode()) for row_id in reversed(failed)])
    task = await store.find_task("task")
    assert task is not None
    assert task.errors == tuple(row_id.encode() for row_id in failed[:20])


# -- the end -------------------------------------------------------------------------------------------

OVER = sorted(set(State) - {State.QUEUED, State.SENDING, State.UNKNOWN})


@pytest.mark.parametrize("total", [2, 100])
@pytest.mark.parametrize("open_state", [State.QUEUED, State.SENDING, State.UNKNOWN])
async def test_a_task_with_an_open_row_is_not_finished(store: Store, open_state: State, total: int) -> None:
    ids = await add_task(store, "task", total)
    states = {**dict.fromkeys(ids, State.CANCELLED), ids[-1]: open_state}
    await bring(store, await lane_lease(store), states)
    assert await store.finished_tasks(["task"]) == set()


@pytest.mark.parametrize("total", [len(OVER), 100])
async def test_a_task_without_open_rows_is_finished(store: Store, total: int) -> None:
    ids = await add_task(store, "task", total)
    states = {row_id: OVER[n % len(OVER)] for n, row_id in enumerate(ids)}
    await add_task(store, "open", 1)
    await bring(store, await lane_lease(store), states)
    assert await store.finished_tasks(["task", "open", "unknown"]) == {"task"}
    assert await store.finished_tasks(["open"]) == set()
    assert await store.finished_tasks([]) == set()


async def test_a_task_that_lacks_rows_is_not_finished(store: Store) -> None:
    await store.create_task(new_task(total=2), [new_row(0)], ready=False)
    await store.mark_ready("task")
    await store.apply([Change("task-0", State.CANCELLED, 1)])
    assert await store.finished_tasks(["task"]) == set()


async def test_a_complete_task_is_not_finished_again(store: Store) -> None:
    for task_id in ("a", "b"):
        await add_task(store, task_id)
        await store.apply([Change(f"{task_id}-0", State.CANCELLED, 1)])
    await store.complete_tasks(["a"], 5000)
    assert await store.finished_tasks(["a", "b"]) == {"b"}
    task = await store.find_task("a")
    assert task is not None and task.completed_at == 5000


async def test_a_task_stays_complete_from_the_first_time_on(store: Store) -> None:
    await add_task(store)
    await store.apply([Change("task-0", State.CANCELLED, 1)])
    await store.complete_tasks(["task"], 5000)
    await store.complete_tasks(["task", "unknown"], 6000)
    task = await store.find_task("task")
    assert task is not None and task.completed_at == 5000


async def test_a_task_with_a_row_queued_again_is_not_complete_any_more(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.FAILED})
    await store.complete_tasks(["task"], 5000)
    assert await store.apply([Change("task-0", State.QUEUED, 6000, due=6000)]) == [True]
    task = await store.find_task("task")
    assert task is not None and task.completed_at == 0
    await store.apply([Change("task-0", State.CANCELLED, 7000)])
    assert await store.finished_tasks(["task"]) == {"task"}


async def test_a_task_survives_a_new_opening(store: Store, make_store: MakeStore) -> None:
    ids = await add_task(store, "task", 3)
    await bring(store, await lane_lease(store), {ids[0]: State.READ, ids[1]: State.UNKNOWN})
    await store.create_task(new_task("unready"), [new_row()], ready=False)
    before = await store.find_task("task"), await store.task_rows("task", -1, 10)
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert (await again.find_task("task"), await again.task_rows("task", -1, 10)) == before
        assert [row.id for row in await read_all(again)] == [ids[2]]
        assert await again.find_task("unready") is None
        assert not await again.create_task(new_task("task"), [])
        await add_task(again, "later")
        assert (await view(again, "later-0")).row.seq > max(found.row.seq for found in before[1])
    finally:
        await again.close()
