"""Looking into dead letters and sending them anew, on every store, as lanes and the tracker leave them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.records import ALL_DEAD, DeadFilter
from store.states import State
from tests.support.store_values import LANE, add_task, bring, view
from tests.support.tracking import Tracking
from whatsapp.dead_letters import DeadLetters
from whatsapp.errors import GraphError, classify
from whatsapp.outcome import refused
from whatsapp.retry import RetryPolicy

# Such as lanes give: what the log says of them is carried to them.
TASKS = [f"0a1b2c3d-0000-4000-8000-00000000000{n}" for n in range(3)]


class Rig(Tracking):
    """A store with three tasks of two messages, a lane that is refused, and a tracker."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.dead = DeadLetters(store, now_ms=self._now_ms)

    async def start(self) -> None:
        await super().start()
        self.ids = [row_id for task in TASKS for row_id in await add_task(self.store, task, 2)]

    async def fail(self, *row_ids: str, code: int = 131026) -> None:
        """Send these, and have Meta refuse them for good."""
        error = GraphError(code=code, http_status=400, from_graph=True, title="no", fbtrace_id="A1b")
        await bring(self.store, self.lane, dict.fromkeys(row_ids, State.SENDING))
        for row_id in row_ids:
            row = (await view(self.store, row_id)).row
            change = refused(row, 0, error, classify(error), RetryPolicy(), lambda: 0.5, self._now_ms())
            assert await self.store.apply([change]) == [True]
        await self.carry()

    async def listed(self) -> list[str]:
        return [found.row.id for found in await self.dead.page(99, None, ALL_DEAD)]


@pytest.fixture
def rig(io_loop: IOLoop, store: Store) -> Iterator[Rig]:
    rig = Rig(store)
    io_loop.run_sync(rig.start)
    yield rig


async def test_what_failed_is_told_once_and_listed(rig: Rig) -> None:
    await rig.fail(*rig.ids[:3])
    await rig.carry()
    assert [told["message_id"] for told in await rig.data_of("message.dead")] == rig.ids[:3]
    assert await rig.listed() == rig.ids[2::-1]


async def test_one_is_looked_into(rig: Rig) -> None:
    assert await rig.dead.find(f"{TASKS[0]}-7") is None
    await rig.fail(rig.ids[0])
    found = await rig.dead.find(rig.ids[0])
    assert found is not None
    assert found["advice"] == classify(GraphError(code=131026, from_graph=True)).operator
    (attempt,) = found["attempts"]
    assert (attempt["outcome"], attempt["error"]["fbtrace_id"], found["attempts_left_out"]) == (
        "failed",
        "A1b",
        0,
    )


async def test_those_that_are_named_are_sent_anew_whatever_their_task(rig: Rig) -> None:
    await rig.fail(rig.ids[0], rig.ids[3], rig.ids[5])
    done = await rig.dead.retry([rig.ids[0], rig.ids[1], rig.ids[5], "nothing"])
    assert done == (2, {"not_failed": 1, "not_found": 1}, False)
    assert await rig.listed() == [rig.ids[3]]
    told = await rig.data_of("task.retried")
    assert sorted(told, key=str) == [{"task_id": task, "count": 1} for task in (TASKS[0], TASKS[2])]
    await rig.carry()
    assert {(await view(rig.store, row_id)).row.retried for row_id in (rig.ids[0], rig.ids[5])} == {1}


async def test_those_that_a_filter_fits_are_sent_anew_up_to_a_limit(rig: Rig) -> None:
    await rig.fail(*rig.ids[:4])
    await rig.fail(rig.ids[4], code=131047)
    only = DeadFilter(lane=LANE, error_name="undeliverable")
    assert await rig.dead.retry_all(only, 3) == (3, {}, True)
    assert await rig.listed() == [rig.ids[4], rig.ids[0]]
    assert await rig.dead.retry_all(only, 3) == (1, {}, False)
    assert await rig.dead.retry_all(only, 3) == (0, {}, False)
    assert await rig.listed() == [rig.ids[4]]


async def test_what_fails_again_is_told_again_and_remembers_all(rig: Rig) -> None:
    await rig.fail(rig.ids[0])
    assert (await rig.dead.retry([rig.ids[0]])).retried == 1
    await rig.fail(rig.ids[0])
    told = await rig.data_of("message.dead")
    assert [(one["attempts"], one["retried"]) for one in told] == [(1, 0), (2, 1)]
    found = await rig.dead.find(rig.ids[0])
    assert found is not None
    outcomes = [(one["attempt"], one["outcome"]) for one in found["attempts"]]
    assert outcomes == [(1, "failed"), (1, "retried"), (2, "failed")]


async def test_a_retry_that_the_tracker_of_another_process_has_carried_out_first_counts(rig: Rig) -> None:
    await rig.fail(rig.ids[0])
    apply = rig.store.apply

    async def followed(*args: object, **kwargs: object) -> list[bool]:
        # On a store that writes the log first, the move may be made from its event before we come to it.
        moved = await apply(*args, **kwargs)  # type: ignore[arg-type]
        return moved if rig.store.atomic else [False] * len(moved)

    rig.store.apply = followed  # type: ignore[method-assign]
    assert await rig.dead.retry([rig.ids[0]]) == (1, {}, False)
