"""Cancelling and retrying on every store, with the tracker that tells how tasks end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import msgspec
import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.records import Change, NewRow
from store.states import State
from tests.support.rows import TASK
from tests.support.store_values import LANE, add_task, bring, new_row, new_task, view
from tests.support.tracking import Tracking
from whatsapp import task_control
from whatsapp.errors import GraphError, classify
from whatsapp.outcome import refused
from whatsapp.retry import RetryPolicy
from whatsapp.task_control import Cancelled, Retried, TaskControl

S = State
_FOR_GOOD = GraphError(code=100, http_status=400, from_graph=True, title="Invalid parameter")


class Rig(Tracking):
    """A store with a task, and the tracker that reads its log when the test says so."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.control = TaskControl(store, now_ms=self._now_ms)

    async def fail(self, *row_ids: str) -> None:
        """Send these rows, and have Meta refuse them for good, as the lane tells it."""
        await bring(self.store, self.lane, dict.fromkeys(row_ids, S.SENDING))
        rows = await self.store.find_rows(row_ids)
        for row_id in row_ids:
            row = rows[row_id].row
            change = refused(row, 0, _FOR_GOOD, classify(_FOR_GOOD), RetryPolicy(), lambda: 0.5, self.now)
            assert change.to is S.FAILED
            assert await self.store.apply([change]) == [True]

    async def track(self) -> list[dict[str, Any]]:
        """Handle what is new; ``data`` of every ``task.completed`` so far."""
        await self.carry()
        return await self.data_of("task.completed")

    async def told(self, type: str) -> list[str]:
        """Rows that events of this type are about."""
        found = await self.store.events_after(0, 10_000)
        return [event.message_id for event in found if event.type == type]


@pytest.fixture
def rig(io_loop: IOLoop, store: Store) -> Iterator[Rig]:
    rig = Rig(store)
    io_loop.run_sync(rig.start)
    # Several portions, of no more rows than a slow server takes in time.
    with mock.patch.object(task_control, "PORTION", 25):
        yield rig


def rows(count: int) -> list[NewRow]:
    return [new_row(n) for n in range(count)]


async def test_what_is_queued_is_cancelled_and_told_and_ends_the_task(rig: Rig) -> None:
    ids = await add_task(rig.store, TASK, rows(56))
    await add_task(rig.store, "other", rows(1))
    await bring(rig.store, rig.lane, {ids[0]: S.SENT, ids[1]: S.FAILED, ids[2]: S.SENDING})
    assert await rig.control.cancel(TASK) == Cancelled(53, 3)
    assert await rig.told("message.cancelled") == ids[3:]
    assert await rig.track() == []
    await rig.store.apply([Change(ids[2], S.SENT, 1)])
    assert await rig.control.cancel(TASK) == Cancelled(53, 3)
    assert len(await rig.told("message.cancelled")) == 53
    assert (await view(rig.store, "other-0")).row.state is S.QUEUED


async def test_a_task_that_is_cancelled_whole_is_complete(rig: Rig) -> None:
    await add_task(rig.store, TASK, rows(3))
    await rig.control.cancel(TASK)
    assert await rig.track() == [{"task_id": TASK, "counts": {"cancelled": 3}}]
    found = await rig.store.find_task(TASK)
    assert found is not None and found.completed_at


async def test_there_is_nothing_to_do_to_an_unknown_task(rig: Rig) -> None:
    await rig.store.create_task(new_task("unready"), rows(1), ready=False)
    for task_id in ("unknown", "unready"):
        assert await rig.control.cancel(task_id) is None
        assert await rig.control.retry(task_id, None) is None


async def test_what_failed_is_queued_anew_and_lanes_hear_of_it(rig: Rig) -> None:
    ids = await add_task(rig.store, TASK, rows(60))
    await bring(rig.store, rig.lane, {**dict.fromkeys(ids[:55], S.FAILED), ids[56]: S.SENT})
    before = rig.now
    assert await rig.control.retry(TASK, None) == Retried(55, 0)
    assert await rig.told("message.retrying") == ids[:55]
    found = await rig.store.events_after(0, 10_000)
    (event,) = [event for event in found if event.type == "task.retried"]
    assert event.phone_number_id == LANE and event.offset == found[-1].offset
    assert msgspec.json.decode(event.body)["data"] == {"task_id": TASK, "count": 55}
    seen = await view(rig.store, ids[0])
    assert (seen.row.state, seen.row.failures, seen.row.due) == (S.QUEUED, 0, event.at)
    assert event.at > before
    assert await rig.control.retry(TASK, None) == Retried(0, 0)


async def test_a_task_completes_as_often_as_it_is_retried(rig: Rig) -> None:
    ids = await add_task(rig.store, TASK, rows(2))
    await rig.fail(*ids)
    for turn in (1, 2, 3):
        completed = await rig.track()
        assert completed == [{"task_id": TASK, "counts": {"failed": 2}}] * turn
        assert await rig.track() == completed
        assert await rig.control.retry(TASK, None) == Retried(2, 0)
        assert len(await rig.track()) == turn
        found = await rig.store.find_task(TASK)
        assert found is not None and found.completed_at == 0
        await rig.fail(ids[0])
        assert len(await rig.track()) == turn
        await rig.fail(ids[1])


async def test_a_row_that_a_person_retries_each_time_is_told_each_time(rig: Rig) -> None:
    (row_id,) = await add_task(rig.store, TASK, rows(1))
    for _ in range(3):
        await rig.fail(row_id)
        assert await rig.control.retry(TASK, [row_id]) == Retried(1, 0)
    assert await rig.told("message.retrying") == [row_id] * 3
    assert await rig.control.cancel(TASK) == Cancelled(1, 0)
    assert len(await rig.track()) == 1


async def test_only_what_was_asked_for_and_has_failed_is_retried(rig: Rig) -> None:
    ids = await add_task(rig.store, TASK, rows(3))
    await bring(rig.store, rig.lane, {ids[0]: S.FAILED, ids[1]: S.FAILED, ids[2]: S.SENT})
    wanted = [ids[1], ids[2], ids[1], f"{TASK}-7"]
    assert await rig.control.retry(TASK, wanted) == Retried(1, 2)
    assert await rig.told("message.retrying") == [ids[1]]
    assert (await view(rig.store, ids[0])).row.state is S.FAILED
