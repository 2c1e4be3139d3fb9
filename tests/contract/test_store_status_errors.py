"""What Meta takes and then fails by a status, on every store: sent again as the error table says, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.records import Change, Row
from store.states import State
from tests.support.rows import TASK
from tests.support.tracked import ANSWER, NOW, ROW, Tracked, status
from whatsapp.errors import GraphError, classify
from whatsapp.outcome import refused, taken, undone
from whatsapp.outcome_events import holds_of, tells_undone
from whatsapp.retry import RetryPolicy

AGAIN, LIMIT, PARK, FINAL = 131016, 131048, 131042, 131026
"""A code of each kind: it may pass; all of a broadcast waits; all of the number waits; it is over."""


def failed(code: int, **fields: Any) -> dict[str, Any]:
    return status("failed", errors=[{"code": code, "title": "as asked"}], **fields)


class Rig(Tracked):
    async def fail(self, code: int, attempt: int = 1) -> None:
        """Meta took the attempt under way, and fails it."""
        wamid = f"wamid.{attempt}"
        await self.answer(wamid)
        await self.hear(failed(code, attempt=attempt, wamid=wamid))
        await self.track()

    async def row(self) -> Row:
        return (await self.view()).row

    async def again(self) -> list[dict[str, Any]]:
        """``data`` of every event that says that it is sent again after such a failure."""
        told = [event for event in await self.told("message.retrying") if tells_undone(event)]
        return [json.loads(event.body)["data"] for event in told]


@pytest.fixture
def rig(io_loop: IOLoop, store: Store) -> Iterator[Rig]:
    rig = Rig(store)
    io_loop.run_sync(rig.start)
    yield rig


@pytest.mark.parametrize("together", [True, False])
async def test_what_may_pass_is_queued_again_once_whatever_comes_late_or_twice(
    rig: Rig, together: bool
) -> None:
    await rig.answer()
    if not together:
        await rig.track()
    await rig.hear(status("sent"))
    await rig.hear(failed(AGAIN))
    batch = await rig.track()
    row = await rig.row()
    assert (row.state, row.attempt, row.failures, row.retried) == (State.QUEUED, 1, 1, 1)
    assert row.due > NOW
    # The cursor was not saved, and all of it comes again: while it waits, is under way, and was taken.
    await rig.handle(batch)
    assert await rig.row() == row
    await rig.send()
    await rig.handle(batch)
    assert (await rig.row()).state is State.SENDING
    await rig.answer("wamid.B")
    await rig.handle(batch)
    found = await rig.view()
    assert (found.row.state, found.row.failures) == (State.SENT, 1)
    assert found.wamids == ("wamid.A", "wamid.B")
    assert len(await rig.again()) == 1
    assert len(await rig.told("message.sent")) == 2
    assert await rig.told("message.doubled") == []


async def test_it_is_told_with_the_error_and_the_advice(rig: Rig) -> None:
    await rig.fail(AGAIN)
    (data,) = await rig.again()
    assert data["error"]["code"] == AGAIN
    assert data["error"]["name"] == "service_unavailable"
    assert "tried again" in data["error"]["advice"]
    assert (data["attempt"], data["wamid"], data["retry_in_ms"]) == (1, "wamid.1", 500)
    assert json.loads((await rig.view()).error) == data["error"]


async def test_the_task_is_not_complete_while_it_waits_and_ends_anew(rig: Rig) -> None:
    await rig.answer()
    await rig.track()
    await rig.hear(status("sent"))
    await rig.track()
    assert len(await rig.told("task.completed")) == 1
    await rig.hear(failed(AGAIN))
    await rig.track()
    task = await rig.store.find_task(TASK)
    assert task is not None and (task.completed_at, task.retrying) == (0, 1)
    await rig.send()
    await rig.answer("wamid.B")
    await rig.hear(status("delivered", "wamid.B", attempt=2))
    await rig.track()
    assert len(await rig.told("task.completed")) == 2


async def test_a_failure_that_overtakes_the_answer_stands_when_the_answer_comes(rig: Rig) -> None:
    late = await rig.row()
    await rig.hear(failed(AGAIN))
    await rig.track()
    assert (await rig.row()).state is State.QUEUED
    change, event = taken(late, "wamid.A", ANSWER, NOW)
    assert await rig.store.apply([change], [event]) == [False]
    await rig.hear(status("sent"))
    await rig.track()
    assert (await rig.row()).state is State.QUEUED
    # What follows is told as sent on its own.
    await rig.send()
    await rig.hear(status("sent", "wamid.B", attempt=2))
    await rig.track()
    assert len(await rig.told("message.sent")) == 2


async def test_word_of_a_failed_attempt_is_not_told_as_that_of_the_next(rig: Rig) -> None:
    await rig.hear(failed(AGAIN))
    await rig.track()
    await rig.hear(status("sent"))
    await rig.track()
    assert await rig.told("message.sent") == []
    await rig.send()
    await rig.hear(status("sent", "wamid.B", attempt=2))
    await rig.track()
    (told,) = await rig.told("message.sent")
    assert json.loads(told.body)["data"]["wamid"] == "wamid.B"


async def test_what_arrived_after_all_is_not_sent_again(rig: Rig) -> None:
    await rig.fail(AGAIN)
    await rig.hear(status("delivered", "wamid.1"))
    await rig.track()
    assert (await rig.row()).state is State.DELIVERED


async def test_a_refusal_that_comes_by_call_and_by_status_is_settled_once(rig: Rig) -> None:
    error = GraphError(code=AGAIN, http_status=503, from_graph=True)
    change = refused(await rig.row(), 0, error, classify(error), RetryPolicy(), lambda: 0.5, NOW)
    assert await rig.store.apply([change]) == [True]
    await rig.hear(failed(AGAIN))
    await rig.track()
    row = await rig.row()
    assert (row.state, row.failures, row.retried) == (State.QUEUED, 1, 0)
    assert await rig.again() == []


async def test_a_crash_between_the_event_and_the_row_is_made_good_by_the_repetition(rig: Rig) -> None:
    await rig.answer()
    # As a store that is not atomic leaves it: what it is told is in the log, and the row has not moved.
    failure = Change(ROW, State.FAILED, NOW, attempt=1, wamid="wamid.A", error=b"{}")
    verdict = classify(GraphError(code=AGAIN, from_graph=True, by_webhook=True))
    change = undone(await rig.view(), failure, verdict, RetryPolicy(), lambda: 0.1, NOW)
    assert change is not None and change.event is not None
    await rig.store.append_events([change.event])
    await rig.hear(failed(AGAIN))
    batch = await rig.track()
    row = await rig.row()
    assert (row.state, row.failures, row.retried) == (State.QUEUED, 1, 1)
    await rig.handle(batch)
    assert await rig.row() == row
    assert len(await rig.again()) == 1


async def test_a_failure_of_an_earlier_attempt_queues_nothing(rig: Rig) -> None:
    await rig.fail(AGAIN)
    await rig.send()
    await rig.answer("wamid.2")
    await rig.hear(failed(LIMIT, wamid="wamid.late"))
    await rig.track()
    assert (await rig.row()).state is State.SENT
    assert len(await rig.again()) == 1


async def test_without_our_reference_it_is_about_what_metas_id_names(rig: Rig) -> None:
    await rig.answer()
    await rig.hear(failed(AGAIN, attempt=0))
    batch = await rig.track()
    assert (await rig.row()).state is State.QUEUED
    await rig.send()
    await rig.answer("wamid.B")
    await rig.handle(batch)
    assert (await rig.row()).state is State.SENT
    assert len(await rig.again()) == 1


@pytest.mark.parametrize(("code", "last"), [(AGAIN, 8), (LIMIT, 5)])
async def test_the_attempts_are_bounded(rig: Rig, code: int, last: int) -> None:
    for attempt in range(1, last):
        await rig.fail(code, attempt)
        assert (await rig.row()).state is State.QUEUED, attempt
        await rig.send()
    await rig.fail(code, last)
    assert (await rig.row()).state is State.FAILED
    assert len(await rig.again()) == last - 1


async def test_to_a_group_nothing_is_sent_again_for_the_word_of_one_participant(store: Store) -> None:
    rig = Rig(store, contact="group:Y2FwaV9ncm91cA")
    await rig.start()
    await rig.fail(AGAIN)
    assert (await rig.row()).state is State.FAILED
    assert await rig.again() == []


async def test_what_is_over_has_failed_and_says_what_to_do(rig: Rig) -> None:
    await rig.fail(FINAL)
    found = await rig.view()
    assert found.row.state is State.FAILED
    assert json.loads(found.error)["name"] == "undeliverable"
    assert json.loads(found.error)["advice"]
    assert await rig.again() == []


async def test_what_parks_the_number_burns_nothing_the_first_time_and_then_counts(rig: Rig) -> None:
    await rig.fail(PARK)
    row = await rig.row()
    assert (row.state, row.failures, row.due) == (State.QUEUED, 0, NOW)
    await rig.send()
    await rig.fail(PARK, 2)
    assert (await rig.row()).failures == 1
    told = [event for event in await rig.told("message.retrying") if tells_undone(event)]
    assert [holds_of(event) is not None for event in told] == [True, False]


@pytest.mark.parametrize(
    ("code", "holds"),
    [
        (LIMIT, "broadcast"),
        (131056, "pair"),
        (130429, "lane"),
        (131057, "number"),
        (80007, "account"),
        (4, "app"),
    ],
)
async def test_a_limit_tells_what_else_it_holds_up(rig: Rig, code: int, holds: str) -> None:
    await rig.fail(code)
    (data,) = await rig.again()
    assert data["holds"] == holds
    (event,) = [event for event in await rig.told("message.retrying") if tells_undone(event)]
    verdict = holds_of(event)
    assert verdict is not None
    assert (verdict.code, verdict.scope) == (code, holds)


async def test_limits_count_in_the_end(rig: Rig) -> None:
    for attempt in range(1, 22):
        await rig.fail(131056, attempt)
        await rig.send()
    assert (await rig.row()).failures == 1
