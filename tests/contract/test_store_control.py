"""What callers see of tasks and do to them, on every store: lists, rows of one state, rows queued afresh."""

from __future__ import annotations

import msgspec
import pytest

from store.base import Store
from store.records import Change, NewTask, TaskPlace
from store.states import State
from tests.support.store_values import (
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

# -- lists ---------------------------------------------------------------------------------------------


async def listed(store: Store, limit: int = 100, before: TaskPlace | None = None) -> list[str]:
    return [task.id for task in await store.list_tasks(limit, before)]


async def test_tasks_are_listed_from_the_newest_on(store: Store) -> None:
    for task_id, created_at in (("b", 20), ("a", 30), ("c", 10), ("e", 20), ("d", 20)):
        assert await store.create_task(new_task(task_id, created_at=created_at), [new_row()])
    assert await listed(store) == ["a", "e", "d", "b", "c"]
    assert await listed(store, 2) == ["a", "e"]
    assert await listed(store, 2, TaskPlace(20, "e")) == ["d", "b"]
    assert await listed(store, 2, TaskPlace(20, "b")) == ["c"]
    assert await listed(store, 2, TaskPlace(10, "c")) == []


async def test_tasks_are_listed_as_they_were_stored(store: Store) -> None:
    task = NewTask("task", "template", "autoreply:hours", 2, 1000, skipped=3)
    await store.create_task(task, [new_row(0), new_row(1)])
    assert await store.list_tasks(10) == [task]
    found = await store.find_task("task")
    assert found is not None and found.task == task


async def test_a_task_that_is_not_ready_is_not_listed(store: Store) -> None:
    task = msgspec.structs.replace(new_task(), skipped=7)
    await store.create_task(task, [new_row()], ready=False)
    assert await listed(store) == []
    await store.mark_ready("task")
    assert await store.list_tasks(10) == [task]


async def test_lists_are_filtered_by_kind_and_source(store: Store) -> None:
    for n, (kind, source) in enumerate((("text", "api"), ("text", "autoreply:x"), ("template", "api"))):
        await store.create_task(NewTask(f"{n}", kind, source, 1, n), [new_row()])
    assert [task.id for task in await store.list_tasks(9, kind="text")] == ["1", "0"]
    assert [task.id for task in await store.list_tasks(9, source="api")] == ["2", "0"]
    assert [task.id for task in await store.list_tasks(9, kind="text", source="api")] == ["0"]
    assert [task.id for task in await store.list_tasks(1, kind="text")] == ["1"]
    assert [task.id for task in await store.list_tasks(9, TaskPlace(1, "1"), kind="text")] == ["0"]
    assert await store.list_tasks(9, kind="tex") == []


async def test_lists_are_filtered_by_completion(store: Store) -> None:
    for task_id in ("a", "b"):
        await add_task(store, task_id)
        await store.apply([Change(f"{task_id}-0", State.CANCELLED, 1)])
    await store.complete_tasks(["a"], 5000)
    assert [task.id for task in await store.list_tasks(9, complete=True)] == ["a"]
    assert [task.id for task in await store.list_tasks(9, complete=False)] == ["b"]


async def test_rows_of_one_state_are_paged_by_n(store: Store) -> None:
    ids = await add_task(store, "task", 7)
    await add_task(store, "other", 2)
    failed = [ids[n] for n in (1, 3, 4, 6)]
    await bring(store, await lane_lease(store), dict.fromkeys(failed, State.FAILED))
    first = await store.task_rows("task", -1, 3, State.FAILED)
    assert [found.row.id for found in first] == failed[:3]
    rest = await store.task_rows("task", 4, 3, State.FAILED)
    assert [found.row.id for found in rest] == failed[3:]
    assert [found.row.id for found in await store.task_rows("task", 2, 9, State.QUEUED)] == [ids[5]]
    assert await store.task_rows("task", -1, 9, State.READ) == []


# -- queued afresh -------------------------------------------------------------------------------------


async def test_a_row_queued_afresh_begins_anew(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    await bring(store, lease, {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.QUEUED, 2, due=2, burn=True, doubt=True)])
    await bring(store, lease, {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.FAILED, 3, burn=True, error=b'{"code":1}')])
    before = await view(store, "task-0")
    assert (before.row.failures, before.ended_at, before.row.retried) == (2, 3, 0)

    again = Change("task-0", State.QUEUED, 4, only_from=(State.FAILED,), due=4, fresh=True)
    assert await store.apply([again]) == [True]
    seen = await view(store, "task-0")
    assert (seen.row.state, seen.row.due, seen.row.attempt) == (State.QUEUED, 4, 2)
    assert (seen.row.failures, seen.ended_at, seen.row.retried) == (0, 0, 1)
    assert (seen.error, seen.row.doubt) == (b'{"code":1}', True)
    assert await read_all(store, now=4) == [seen.row]
    assert await store.apply([again]) == [False]
    assert await view(store, "task-0") == seen


async def test_refusals_that_do_not_count_are_counted_apart_until_it_is_queued_afresh(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    for spared, burn in ((True, False), (True, False), (False, True), (False, False), (True, True)):
        await bring(store, lease, {"task-0": State.SENDING})
        await store.apply([Change("task-0", State.QUEUED, 2, due=2, spared=spared, burn=burn)])
    row = (await view(store, "task-0")).row
    # One that counts is none of these.
    assert (row.attempt, row.spared, row.failures) == (5, 2, 2)
    assert await read_all(store, now=2) == [row]
    await bring(store, lease, {"task-0": State.FAILED})
    assert (await view(store, "task-0")).row.spared == 2
    await store.apply([Change("task-0", State.QUEUED, 4, due=4, fresh=True)])
    assert (await view(store, "task-0")).row.spared == 0


async def test_a_task_tells_how_often_its_rows_were_queued_afresh(store: Store) -> None:
    ids = await add_task(store, "task", 3)
    lease = await lane_lease(store)
    for turn in range(3):
        await bring(store, lease, dict.fromkeys(ids[turn:], State.FAILED))
        await store.apply([Change(row_id, State.QUEUED, 2, due=2, fresh=True) for row_id in ids[turn:]])
        await store.apply([Change(ids[turn], State.CANCELLED, 3)])
    found = await store.find_task("task")
    assert found is not None
    assert (found.retried, found.counts) == (6, {State.CANCELLED: 3})
    rows = await store.find_rows(ids)
    assert [rows[row_id].row.retried for row_id in ids] == [1, 2, 3]


async def test_an_event_of_a_row_queued_afresh_is_told_once(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.FAILED})
    listener = Listener(store)
    change = Change("task-0", State.QUEUED, 4, due=4, fresh=True, event=new_event("again"))
    assert await store.apply([change]) == [True]
    assert await store.apply([msgspec.structs.replace(change, only_from=(State.FAILED,))]) == [False]
    assert listener.keys == ["again"]


async def test_a_task_whose_row_is_queued_afresh_can_complete_again(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.FAILED})
    await store.complete_tasks(["task"], 5000)
    await store.apply([Change("task-0", State.QUEUED, 6000, due=6000, fresh=True)])
    assert await store.finished_tasks(["task"]) == set()
    await store.apply([Change("task-0", State.CANCELLED, 7000)])
    assert await store.finished_tasks(["task"]) == {"task"}
    await store.complete_tasks(["task"], 8000)
    found = await store.find_task("task")
    assert found is not None and found.completed_at == 8000


@pytest.mark.parametrize("total", [1, 100])
async def test_a_task_with_an_open_row_is_not_marked_complete(store: Store, total: int) -> None:
    # It was finished when it was looked at, and a person has retried a row of it since.
    ids = await add_task(store, "task", total)
    await add_task(store, "done")
    await store.apply([Change(row_id, State.CANCELLED, 1) for row_id in [*ids[1:], "done-0"]])
    await store.complete_tasks(["task", "done"], 5000)
    found, done = await store.find_task("task"), await store.find_task("done")
    assert found is not None and done is not None
    assert (found.completed_at, done.completed_at) == (0, 5000)
    await store.apply([Change(ids[0], State.CANCELLED, 1)])
    assert await store.finished_tasks(["task"]) == {"task"}
